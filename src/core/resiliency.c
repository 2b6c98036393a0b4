// SPDX-License-Identifier: Apache-2.0
#include "core/resiliency.h"

#include "base/mem.h"
#include "core/envelope.h"

enum { NO_LIMIT_MS = 0, FIRST_DELAY_MS = 1000, LONGEST_INTERVAL_MS = 300000 };

static int read_backoff(enum asya_backoff *ret, struct asya_arena *arena,
			const struct asya_tree *map, struct asya_error *err)
{
	static const char *const names[] = {[ASYA_BACKOFF_CONSTANT] = "constant",
					    [ASYA_BACKOFF_LINEAR] = "linear",
					    [ASYA_BACKOFF_EXPONENTIAL] = "exponential"};
	struct asya_str name = ASYA_STR("exponential");

	if (asya_tree_read_str(&name, map, "backoff", err))
		return -1;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(names); i++) {
		if (asya_str_eq_c(name, names[i])) {
			*ret = (enum asya_backoff)i;
			return 0;
		}
	}
	return asya_error_set(err, ASYA_REJECT,
			      "backoff must be constant, linear or exponential, is \"%s\"",
			      asya_tree_shown(arena, name));
}

static int read_exhausted(struct asya_retry_policy *p, struct asya_arena *arena,
			  const struct asya_tree *map, struct asya_error *err)
{
	if (asya_tree_read_strs(&p->exhausted_actors, &p->n_exhausted_actors, arena, map,
				"onExhausted", err))
		return -1;
	if (p->n_exhausted_actors > ASYA_EXHAUSTED_ACTORS_MAX)
		return asya_error_set(err, ASYA_REJECT, "onExhausted has %zu actors, at most %d",
				      p->n_exhausted_actors, ASYA_EXHAUSTED_ACTORS_MAX);
	for (size_t i = 0; i < p->n_exhausted_actors; i++)
		if (!asya_actor_name_valid(p->exhausted_actors[i]))
			return asya_error_set(err, ASYA_REJECT,
					      "onExhausted[%zu]: \"%s\" is no actor's name: "
					      "letters a-z, digits and -, at most %d, not ending "
					      "in -dlq",
					      i, asya_tree_shown(arena, p->exhausted_actors[i]),
					      ASYA_ACTOR_MAX);
	p->on_exhausted = p->n_exhausted_actors ? ASYA_EXHAUSTED_ROUTE : ASYA_EXHAUSTED_ERROR_END;
	return 0;
}

static int read_policy(struct asya_retry_policy *p, struct asya_arena *arena,
		       const struct asya_tree *map, struct asya_error *err)
{
	static const struct asya_str known[] = {ASYA_STR("maxAttempts"),  ASYA_STR("backoff"),
						ASYA_STR("initialDelay"), ASYA_STR("maxInterval"),
						ASYA_STR("maxDuration"),  ASYA_STR("jitter"),
						ASYA_STR("onExhausted")};
	int64_t attempts = 1;

	*p = (struct asya_retry_policy){.name = map->key,
					.initial_delay_ms = FIRST_DELAY_MS,
					.max_interval_ms = LONGEST_INTERVAL_MS,
					.max_duration_ms = NO_LIMIT_MS,
					.jitter = true};
	if (map->type != ASYA_TREE_MAP && map->type != ASYA_TREE_NULL)
		return asya_error_set(err, ASYA_REJECT, "must be an object");
	if (asya_tree_read_only(map, known, ASYA_ARRAY_SIZE(known), err) ||
	    asya_tree_read_i64(&attempts, map, "maxAttempts", 0, ASYA_ATTEMPTS_MAX, err) ||
	    read_backoff(&p->backoff, arena, map, err) ||
	    asya_tree_read_duration_ms(&p->initial_delay_ms, map, "initialDelay", err) ||
	    asya_tree_read_duration_ms(&p->max_interval_ms, map, "maxInterval", err) ||
	    asya_tree_read_duration_ms(&p->max_duration_ms, map, "maxDuration", err) ||
	    asya_tree_read_bool(&p->jitter, map, "jitter", err) ||
	    read_exhausted(p, arena, map, err))
		return -1;
	p->max_attempts = (unsigned)attempts;
	if (!attempts && !p->max_duration_ms)
		return asya_error_set(err, ASYA_REJECT,
				      "maxAttempts 0 is without a limit and needs a maxDuration");
	return 0;
}

static int read_policies(struct asya_resiliency *r, struct asya_arena *arena,
			 const struct asya_tree *tree, struct asya_error *err)
{
	const struct asya_tree *map;

	if (asya_tree_read_node(&map, tree, "policies", ASYA_TREE_MAP, err))
		return -1;
	if (!map)
		return 0;
	if (map->n > ASYA_POLICIES_MAX)
		return asya_error_set(err, ASYA_REJECT, "policies: %zu of them, at most %d", map->n,
				      ASYA_POLICIES_MAX);
	r->policies = asya_arena_array(arena, struct asya_retry_policy, map->n ? map->n : 1);
	asya_tree_each(policy, map)
	{
		if (read_policy(&r->policies[r->n_policies], arena, policy, err))
			return asya_error_wrap(err, "policies.%s",
					       asya_tree_shown(arena, policy->key));
		r->n_policies++;
	}
	return 0;
}

static const struct asya_retry_policy *policy_of(const struct asya_resiliency *r,
						 struct asya_str name)
{
	for (size_t i = 0; i < r->n_policies; i++)
		if (asya_str_eq(r->policies[i].name, name))
			return &r->policies[i];
	return NULL;
}

static int read_rule(struct asya_retry_rule *rule, const struct asya_resiliency *r,
		     struct asya_arena *arena, const struct asya_tree *map, struct asya_error *err)
{
	static const struct asya_str known[] = {ASYA_STR("errors"), ASYA_STR("policy")};
	struct asya_str name = ASYA_STR_NONE;

	if (map->type != ASYA_TREE_MAP)
		return asya_error_set(err, ASYA_REJECT, "must be an object");
	if (asya_tree_read_only(map, known, ASYA_ARRAY_SIZE(known), err) ||
	    asya_tree_read_strs(&rule->errors, &rule->n_errors, arena, map, "errors", err) ||
	    asya_tree_read_str(&name, map, "policy", err))
		return -1;
	if (!rule->n_errors || rule->n_errors > ASYA_RULE_ERRORS_MAX)
		return asya_error_set(err, ASYA_REJECT, "errors: %zu names, must be 1 to %d",
				      rule->n_errors, ASYA_RULE_ERRORS_MAX);
	rule->policy = policy_of(r, name);
	if (!name.p)
		return asya_error_set(err, ASYA_REJECT, "policy is required");
	if (!rule->policy)
		return asya_error_set(err, ASYA_REJECT, "policy \"%s\" is not among the policies",
				      asya_tree_shown(arena, name));
	return 0;
}

static int read_rules(struct asya_resiliency *r, struct asya_arena *arena,
		      const struct asya_tree *tree, struct asya_error *err)
{
	const struct asya_retry_policy *rest =
		policy_of(r, ASYA_STR(ASYA_RESILIENCY_DEFAULT_POLICY));
	const struct asya_tree *list;

	if (asya_tree_read_node(&list, tree, "rules", ASYA_TREE_LIST, err))
		return -1;
	if (list && list->n > ASYA_RULES_MAX)
		return asya_error_set(err, ASYA_REJECT, "rules: %zu of them, at most %d", list->n,
				      ASYA_RULES_MAX);
	r->rules = asya_arena_array(arena, struct asya_retry_rule, (list ? list->n : 0) + 1);
	asya_tree_each(item, list)
	{
		if (read_rule(&r->rules[r->n_rules], r, arena, item, err))
			return asya_error_wrap(err, "rules[%zu]", r->n_rules);
		r->n_rules++;
	}
	if (rest)
		r->rules[r->n_rules++] = (struct asya_retry_rule){.policy = rest};
	return 0;
}

int asya_resiliency_parse(struct asya_resiliency *ret, struct asya_arena *arena,
			  const struct asya_tree *tree, struct asya_error *err)
{
	static const struct asya_str known[] = {ASYA_STR("policies"), ASYA_STR("rules"),
						ASYA_STR("actorTimeout")};
	struct asya_resiliency r = {0};

	if (tree && tree->type != ASYA_TREE_MAP && tree->type != ASYA_TREE_NULL)
		return asya_error_set(err, ASYA_REJECT, "resiliency must be an object");
	if ((tree && asya_tree_read_only(tree, known, ASYA_ARRAY_SIZE(known), err)) ||
	    read_policies(&r, arena, tree, err) || read_rules(&r, arena, tree, err) ||
	    asya_tree_read_duration_ms(&r.actor_timeout_ms, tree, "actorTimeout", err))
		return asya_error_wrap(err, "resiliency");
	*ret = r;
	return 0;
}

int asya_resiliency_parse_json(struct asya_resiliency *ret, struct asya_arena *arena,
			       struct asya_str text, struct asya_error *err)
{
	struct asya_tree *tree;

	if (asya_tree_json_parse(&tree, arena, text, err))
		return asya_error_wrap(err, "resiliency");
	return asya_resiliency_parse(ret, arena, tree, err);
}
