// SPDX-License-Identifier: Apache-2.0
/* Links the core only: what the sidecar needs of it works without libyaml. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>

#include "base/mem.h"
#include "core/resiliency.h"

#define _arena_ _cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new()

static void everything_is_read(void **state)
{
	_arena_;
	struct asya_resiliency r;
	struct asya_error err;
	const struct asya_retry_policy *p;

	(void)state;
	assert_int_equal(
		asya_resiliency_parse_json(
			&r, arena,
			ASYA_STR(
				"{\"policies\":{\"net\":{\"maxAttempts\":5,\"backoff\":\"linear\","
				"\"initialDelay\":\"500ms\",\"maxInterval\":\"1m\",\"maxDuration\":"
				"\"1h\",\"jitter\":false,\"onExhausted\":[\"repair\",\"tell\"]},"
				"\"default\":{\"maxAttempts\":2}},\"rules\":[{\"errors\":"
				"[\"Timeout\",\"OSError\"],\"policy\":\"net\"}],"
				"\"actorTimeout\":\"90s\"}"),
			&err),
		0);
	assert_int_equal(r.n_policies, 2);
	assert_int_equal(r.actor_timeout_ms, 90000);
	p = asya_retry_find(r.rules, r.n_rules, ASYA_STR("requests.Timeout"), NULL, 0);
	assert_true(asya_str_eq_c(p->name, "net"));
	assert_int_equal(p->max_attempts, 5);
	assert_int_equal(p->backoff, ASYA_BACKOFF_LINEAR);
	assert_int_equal(p->initial_delay_ms, 500);
	assert_int_equal(p->max_interval_ms, 60000);
	assert_int_equal(p->max_duration_ms, 3600000);
	assert_false(p->jitter);
	assert_int_equal(p->on_exhausted, ASYA_EXHAUSTED_ROUTE);
	assert_int_equal(p->n_exhausted_actors, 2);
	assert_true(asya_str_eq_c(p->exhausted_actors[1], "tell"));
}

static void the_policy_default_is_for_what_no_rule_names(void **state)
{
	static const struct {
		const char *json, *want;
	} rows[] = {
		{"{\"policies\":{\"default\":{},\"a\":{}},\"rules\":[{\"errors\":[\"E\"],"
		 "\"policy\":\"a\"}]}",
		 "default"},
		{"{\"policies\":{\"a\":{}},\"rules\":[{\"errors\":[\"E\"],\"policy\":\"a\"}]}",
		 NULL},
		{"{\"policies\":{\"a\":{}}}", NULL},
		{"{\"policies\":{\"default\":null}}", "default"},
		{"{}", NULL},
		{"null", NULL},
	};
	_arena_;

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		const struct asya_retry_policy *p;
		struct asya_resiliency r;
		struct asya_error err;

		assert_int_equal(
			asya_resiliency_parse_json(&r, arena, asya_str_c(rows[i].json), &err), 0);
		p = asya_retry_find(r.rules, r.n_rules, ASYA_STR("F"), NULL, 0);
		assert_int_equal(p != NULL, rows[i].want != NULL);
		assert_true(!p || asya_str_eq_c(p->name, rows[i].want));
	}
}

static void a_policy_without_members_tries_once_and_ends_in_error_end(void **state)
{
	_arena_;
	struct asya_resiliency r;
	struct asya_error err;

	(void)state;
	assert_int_equal(
		asya_resiliency_parse_json(&r, arena, ASYA_STR("{\"policies\":{\"a\":{}}}"), &err),
		0);
	assert_int_equal(r.policies[0].max_attempts, 1);
	assert_int_equal(r.policies[0].backoff, ASYA_BACKOFF_EXPONENTIAL);
	assert_int_equal(r.policies[0].initial_delay_ms, 1000);
	assert_int_equal(r.policies[0].max_interval_ms, 300000);
	assert_int_equal(r.policies[0].max_duration_ms, 0);
	assert_true(r.policies[0].jitter);
	assert_int_equal(r.policies[0].on_exhausted, ASYA_EXHAUSTED_ERROR_END);
	assert_int_equal(r.actor_timeout_ms, 0);
}

static void what_is_wrong_is_named(void **state)
{
	static const struct {
		const char *json, *want;
	} rows[] = {
		{"[]", "resiliency must be an object"},
		{"{", "resiliency: no JSON"},
		{"{\"polices\":{}}",
		 "resiliency: unknown field \"polices\", did you mean policies?"},
		{"{\"policies\":[]}", "policies: must be a map, is a list"},
		{"{\"policies\":{\"a\":5}}", "policies.a: must be an object"},
		{"{\"policies\":{\"a\":{\"attempts\":5}}}", "policies.a: unknown field"},
		{"{\"policies\":{\"a\":{\"maxAttempts\":-1}}}",
		 "maxAttempts: must be a whole number from 0 to 1000, is the number -1"},
		{"{\"policies\":{\"a\":{\"maxAttempts\":1001}}}", "is the number 1001"},
		{"{\"policies\":{\"a\":{\"maxAttempts\":0}}}", "needs a maxDuration"},
		{"{\"policies\":{\"a\":{\"maxAttempts\":0,\"maxDuration\":\"0s\"}}}",
		 "needs a maxDuration"},
		{"{\"policies\":{\"a\":{\"backoff\":\"fast\"}}}",
		 "backoff must be constant, linear or exponential, is \"fast\""},
		{"{\"policies\":{\"a\":{\"initialDelay\":5}}}",
		 "initialDelay: must be a duration like 300ms, 5s or 1h30m, is the number 5"},
		{"{\"policies\":{\"a\":{\"onExhausted\":[\"x-dlq\"]}}}",
		 "onExhausted[0]: \"x-dlq\" is no actor's name"},
		{"{\"policies\":{\"a\":{\"onExhausted\":\"x\"}}}",
		 "onExhausted: must be a list of strings"},
		{"{\"rules\":[{\"errors\":[\"E\"],\"policy\":\"a\"}]}",
		 "rules[0]: policy \"a\" is not among the policies"},
		{"{\"policies\":{\"a\":{}},\"rules\":[{\"errors\":[],\"policy\":\"a\"}]}",
		 "rules[0]: errors: 0 names, must be 1 to 64"},
		{"{\"rules\":[{\"errors\":[\"E\"]}]}", "rules[0]: policy is required"},
		{"{\"rules\":[5]}", "rules[0]: must be an object"},
		{"{\"actorTimeout\":\"soon\"}", "actorTimeout: must be a duration"},
	};
	_arena_;

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		struct asya_resiliency r;
		struct asya_error err;

		if (asya_resiliency_parse_json(&r, arena, asya_str_c(rows[i].json), &err) != -1)
			fail_msg("accepted: %s", rows[i].json);
		assert_int_equal(err.advice, ASYA_REJECT);
		if (!strstr(err.text, rows[i].want))
			fail_msg("%s: %s", rows[i].json, err.text);
	}
}

/* {"policies": {n of them}}, {"rules": [n]}, errors of one rule, actors of one policy. */
static void write_many(struct asya_buf *b, int kind, int n)
{
	static const char *const begin[] = {
		"{\"policies\":{", "{\"policies\":{\"a\":{}},\"rules\":[",
		"{\"policies\":{\"a\":{}},\"rules\":[{\"policy\":\"a\",\"errors\":[",
		"{\"policies\":{\"a\":{\"onExhausted\":["};
	static const char *const item[] = {"\"p%d\":{}", "{\"errors\":[\"E%d\"],\"policy\":\"a\"}",
					   "\"E%d\"", "\"a%d\""};
	static const char *const end[] = {"}}", "]}", "]}]}", "]}}}"};

	asya_buf_c(b, begin[kind]);
	for (int i = 0; i < n; i++) {
		char text[80];
		const char *mark = strstr(item[kind], "%d");

		snprintf(text, sizeof(text), "%.*s%d%s", (int)(mark - item[kind]), item[kind], i,
			 mark + 2);
		asya_buf_printf(b, "%s%s", i ? "," : "", text);
	}
	asya_buf_c(b, end[kind]);
}

static void each_count_has_a_limit(void **state)
{
	static const int limits[] = {ASYA_POLICIES_MAX, ASYA_RULES_MAX, ASYA_RULE_ERRORS_MAX,
				     ASYA_EXHAUSTED_ACTORS_MAX};
	_arena_;

	(void)state;
	for (int kind = 0; kind < 4; kind++) {
		for (int more = 0; more < 2; more++) {
			struct asya_buf b = {0};
			struct asya_resiliency r;
			struct asya_error err;

			write_many(&b, kind, limits[kind] + more);
			assert_int_equal(
				asya_resiliency_parse_json(&r, arena, asya_buf_view(&b), &err),
				-more);
			asya_buf_fini(&b);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_is_read),
		cmocka_unit_test(the_policy_default_is_for_what_no_rule_names),
		cmocka_unit_test(a_policy_without_members_tries_once_and_ends_in_error_end),
		cmocka_unit_test(what_is_wrong_is_named),
		cmocka_unit_test(each_count_has_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
