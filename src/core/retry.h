// SPDX-License-Identifier: Apache-2.0
/*
 * Whether a handler's failure is tried again, and after how long. Pure: time and chance come in as
 * arguments.
 *
 * Only failures of the message count as attempts. Trouble of the surroundings (target not up,
 * connection reset while draining) never comes here.
 */
#pragma once
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum asya_backoff { ASYA_BACKOFF_CONSTANT, ASYA_BACKOFF_LINEAR, ASYA_BACKOFF_EXPONENTIAL };

/* Where a message goes that was tried enough. */
enum asya_exhausted {
	ASYA_EXHAUSTED_ERROR_END, /* to error-end, as without a policy */
	ASYA_EXHAUSTED_ROUTE,     /* along `exhausted_actors`, in place of the rest of its route */
};

struct asya_retry_policy {
	struct asya_str name;
	unsigned max_attempts; /* the first try counts; 0: no limit of this kind */
	enum asya_backoff backoff;
	int64_t initial_delay_ms;
	int64_t max_interval_ms; /* 0: no limit */
	int64_t max_duration_ms; /* from the first try to the start of the next one; 0: no limit */
	bool jitter;             /* between half of the delay and the whole */
	enum asya_exhausted on_exhausted;
	const struct asya_str *exhausted_actors; /* at least one with ASYA_EXHAUSTED_ROUTE */
	size_t n_exhausted_actors;
};

/* Failures whose type, or one of its ancestors, is among `errors` follow `policy`. Without errors:
 * every failure. */
struct asya_retry_rule {
	const struct asya_str *errors;
	size_t n_errors;
	const struct asya_retry_policy *policy;
};

/* Whether `pattern` names the type `name`: exactly, or as its last dotted part (`Timeout` for
 * `requests.Timeout`). */
bool asya_error_type_matches(struct asya_str pattern, struct asya_str name);

/* The policy of the first rule that names `type` or one of `mro`; NULL if there is none. */
const struct asya_retry_policy *asya_retry_find(const struct asya_retry_rule *rules, size_t n,
						struct asya_str type, const struct asya_str *mro,
						size_t n_mro);

/* The delay before the next try in *ret_delay_ms and true, or false: tried enough. `attempt` is the
 * one that failed, from 1; `elapsed_ms` is since the first one began; `chance` is from 0 up to, not
 * including, 1. A NULL policy never tries again. */
bool asya_retry_decide(const struct asya_retry_policy *policy, unsigned attempt, int64_t elapsed_ms,
		       double chance, int64_t *ret_delay_ms);
