// SPDX-License-Identifier: Apache-2.0
/*
 * spec.resiliency of an actor: retry policies by name and the rules that choose among them. The
 * sidecar gets the object as JSON in ASYA_RESILIENCY:
 *
 *	{"policies": {"net": {"maxAttempts": 5, "backoff": "exponential", "initialDelay": "1s",
 *	                      "maxInterval": "5m", "maxDuration": "1h", "jitter": true,
 *	                      "onExhausted": ["repair"]}},
 *	 "rules": [{"errors": ["TimeoutError"], "policy": "net"}], "actorTimeout": "5m"}
 *
 * Every member may be absent. Defaults of a policy: maxAttempts 1 (it is tried once), backoff
 * exponential, initialDelay 1s, maxInterval 5m, no maxDuration, jitter true, onExhausted empty
 * (error-end). maxAttempts 0 sets no limit and needs a maxDuration. A policy with the name
 * `default` is for every failure that no rule names; without it such a failure is not tried again.
 */
#pragma once
#include "core/retry.h"
#include "core/tree.h"

#define ASYA_RESILIENCY_DEFAULT_POLICY "default"

enum {
	ASYA_POLICIES_MAX = 64,
	ASYA_RULES_MAX = 64,
	ASYA_RULE_ERRORS_MAX = 64,
	ASYA_EXHAUSTED_ACTORS_MAX = 16,
	ASYA_ATTEMPTS_MAX = 1000,
};

struct asya_resiliency {
	struct asya_retry_policy *policies;
	size_t n_policies;
	/* For asya_retry_find: those given, in their order, and behind them the one without errors
	 * for the policy `default`, if there is one. */
	struct asya_retry_rule *rules;
	size_t n_rules;
	int64_t actor_timeout_ms; /* 0: not given */
};

/* Reads a `resiliency` object; NULL or a null is an empty one. Everything lives on `arena` and in
 * the tree's text. ASYA_REJECT names the member; unknown members are refused. */
int asya_resiliency_parse(struct asya_resiliency *ret, struct asya_arena *arena,
			  const struct asya_tree *tree, struct asya_error *err);
/* The same from JSON text (ASYA_RESILIENCY). */
int asya_resiliency_parse_json(struct asya_resiliency *ret, struct asya_arena *arena,
			       struct asya_str text, struct asya_error *err);
