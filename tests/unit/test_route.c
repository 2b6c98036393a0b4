// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "core/route.h"

static const struct asya_limits limits = ASYA_LIMITS_DEFAULT;

struct fixture {
	struct asya_arena *arena;
	struct asya_actor actor;
	struct asya_envelope env;
	struct asya_plan plan;
	struct asya_error err;
};

static int setup(void **state)
{
	struct fixture *f = asya_new0(struct fixture);

	f->arena = asya_arena_new();
	f->actor = (struct asya_actor){ASYA_STR("x"), ASYA_STR("happy-end"), ASYA_STR("error-end"),
				       false};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	asya_arena_free(f->arena);
	free(f);
	return 0;
}

static void parse(struct fixture *f, const char *text)
{
	assert_int_equal(asya_envelope_parse(&f->env, f->arena, asya_str_c(text), &limits, &f->err),
			 0);
}

static int decide(struct fixture *f, const struct asya_item *items, size_t n)
{
	return asya_route_decide(&f->plan, f->arena, &f->actor, &f->env, items, n, &limits,
				 &f->err);
}

static void expect_send(const struct fixture *f, size_t i, const char *actor, const char *body)
{
	assert_true(i < f->plan.n);
	assert_string_equal(f->plan.sends[i].actor.p, actor);
	assert_string_equal(f->plan.sends[i].body.p, body);
}

#define AT0                                                                                        \
	"{\"id\":\"a\",\"route\":{\"actors\":[\"x\",\"y\"],\"current\":0},\"headers\":{\"t\":"     \
	"\"1\"},\"payload\":[1.0]}"

static void one_value_goes_to_the_next_actor_with_its_headers(void **state)
{
	struct fixture *f = *state;

	parse(f, AT0);
	assert_int_equal(decide(f, &(struct asya_item){.payload = ASYA_STR("2.50")}, 1), 0);
	assert_int_equal(f->plan.outcome, ASYA_OUTCOME_ROUTED);
	assert_int_equal(f->plan.n, 1);
	expect_send(f, 0, "y",
		    "{\"id\":\"a\",\"route\":{\"actors\":[\"x\",\"y\"],\"current\":1},\"headers\":{"
		    "\"t\":\"1\"},\"payload\":2.50}");
}

static void after_the_last_actor_it_goes_to_happy_end(void **state)
{
	struct fixture *f = *state;

	parse(f, "{\"id\":\"a\",\"route\":{\"actors\":[\"x\"],\"current\":0},\"payload\":1}");
	assert_int_equal(decide(f, &(struct asya_item){.payload = ASYA_STR("2")}, 1), 0);
	assert_int_equal(f->plan.outcome, ASYA_OUTCOME_DONE);
	expect_send(f, 0, "happy-end",
		    "{\"id\":\"a\",\"route\":{\"actors\":[\"x\"],\"current\":1},\"payload\":2}");
}

static void no_value_sends_the_envelope_unchanged_to_happy_end(void **state)
{
	struct fixture *f = *state;

	parse(f, AT0);
	assert_int_equal(decide(f, NULL, 0), 0);
	assert_int_equal(f->plan.outcome, ASYA_OUTCOME_ENDED);
	expect_send(f, 0, "happy-end", AT0);
}

static void fan_out_keeps_the_first_id_and_makes_the_others_from_it(void **state)
{
	const struct asya_item items[] = {{.payload = ASYA_STR("1")}, {.payload = ASYA_STR("2")}};
	struct fixture *f = *state;

	parse(f, AT0);
	assert_int_equal(decide(f, items, 2), 0);
	expect_send(f, 0, "y",
		    "{\"id\":\"a\",\"route\":{\"actors\":[\"x\",\"y\"],\"current\":1},"
		    "\"headers\":{\"t\":\"1\",\"asya-fanout\":\"a\"},\"payload\":1}");
	expect_send(f, 1, "y",
		    "{\"id\":\"a-1\",\"parent_id\":\"a\",\"route\":{\"actors\":[\"x\",\"y\"],"
		    "\"current\":1},"
		    "\"headers\":{\"t\":\"1\"},\"payload\":2}");
}

static void handler_that_replaces_headers_cannot_lose_the_mark_of_a_fan_out(void **state)
{
	const struct asya_item item = {.payload = ASYA_STR("1"), .headers = ASYA_STR("{\"n\":1}")};
	struct fixture *f = *state;

	parse(f, "{\"id\":\"a\",\"route\":{\"actors\":[\"x\"],\"current\":0},"
		 "\"headers\":{\"asya-fanout\":\"a\"},\"payload\":1}");
	assert_int_equal(decide(f, &item, 1), 0);
	expect_send(f, 0, "happy-end",
		    "{\"id\":\"a\",\"route\":{\"actors\":[\"x\"],\"current\":1},"
		    "\"headers\":{\"n\":1,\"asya-fanout\":\"a\"},\"payload\":1}");
}

/* Runs a fan-out of three at each of four actors from one envelope and checks that no id is made
 * twice at the end. */
static void repeated_fan_outs_never_make_an_id_again(void **state)
{
	const struct asya_item items[] = {
		{.payload = ASYA_STR("1")}, {.payload = ASYA_STR("2")}, {.payload = ASYA_STR("3")}};
	static struct asya_str bodies[200], next[200], ids[200];
	struct fixture *f = *state;
	size_t n = 1, n_ids = 0;

	f->actor.name = ASYA_STR("x");
	bodies[0] = ASYA_STR("{\"id\":\"r\",\"route\":{\"actors\":[\"x\",\"x\",\"x\",\"x\"],"
			     "\"current\":0},\"payload\":1}");
	for (int hop = 0; hop < 4; hop++) {
		size_t made = 0;

		for (size_t i = 0; i < n; i++) {
			parse(f, bodies[i].p);
			assert_int_equal(decide(f, items, 3), 0);
			for (size_t k = 0; k < 3; k++)
				next[made++] = f->plan.sends[k].body;
			for (size_t k = 0; k < 3 && hop == 3; k++)
				ids[n_ids++] = f->plan.sends[k].id;
		}
		memcpy(bodies, next, sizeof(next));
		n = made;
	}
	assert_int_equal(n_ids, 81);
	for (size_t i = 0; i < n_ids; i++)
		for (size_t k = 0; k < i; k++)
			if (asya_str_eq(ids[i], ids[k]))
				fail_msg("id '%s' stands twice", ids[i].p);
}

static void child_of_an_id_at_the_limit_stays_within_it(void **state)
{
	const struct asya_item items[] = {
		{.payload = ASYA_STR("1")}, {.payload = ASYA_STR("2")}, {.payload = ASYA_STR("3")}};
	struct fixture *f = *state;
	_cleanup_(asya_freep) char *text = asya_asprintf(
		"{\"id\":\"%0256d\",\"route\":{\"actors\":[\"x\"],\"current\":0},\"payload\":1}",
		0);

	parse(f, text);
	assert_int_equal(decide(f, items, 3), 0);
	assert_true(f->plan.sends[1].id.n <= ASYA_ID_MAX);
	assert_false(asya_str_eq(f->plan.sends[1].id, f->plan.sends[2].id));
}

static void envelope_mode_may_change_the_future_of_the_route_only(void **state)
{
	static const struct {
		const char *route, *says;
	} rows[] = {
		{"{\"actors\":[\"x\",\"z\"],\"current\":1}", NULL},
		{"{\"actors\":[\"x\"],\"current\":1}", NULL},
		{"{\"actors\":[\"w\",\"y\"],\"current\":1}", "must stay 'x'"},
		{"{\"actors\":[],\"current\":0}", "must stay 'x'"},
		{"{\"actors\":[\"x\",\"y\"],\"current\":0}", "must be more than 0"},
		{"{\"actors\":7}", "route.actors"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		struct asya_item item = {.payload = ASYA_STR("1"),
					 .route = asya_str_c(rows[i].route)};

		parse(f, AT0);
		assert_int_equal(decide(f, &item, 1), rows[i].says ? -1 : 0);
		if (rows[i].says)
			assert_non_null(strstr(f->err.text, rows[i].says));
	}
}

static void failure_goes_to_error_end_with_the_original_inside(void **state)
{
	const struct asya_failure failure = {ASYA_STR("processing_error"), ASYA_STR("no \"x\""),
					     ASYA_STR("KeyError"), ASYA_STR_NONE};
	struct fixture *f = *state;

	parse(f, AT0);
	asya_route_fail(&f->plan, f->arena, &f->actor, &f->env, &failure);
	expect_send(f, 0, "error-end",
		    "{\"id\":\"a\",\"route\":{\"actors\":[\"x\",\"y\"],\"current\":0},\"headers\":{"
		    "\"t\":\"1\"},\"payload\":"
		    "{\"error\":\"processing_error\",\"details\":{\"message\":\"no "
		    "\\\"x\\\"\",\"type\":\"KeyError\","
		    "\"traceback\":\"\"},\"original_payload\":[1.0]}}");
}

static void wrong_actor_is_a_route_mismatch_but_end_actors_take_any_route(void **state)
{
	struct fixture *f = *state;

	parse(f, AT0);
	assert_int_equal(asya_route_check(&f->actor, &f->env, &f->err), 0);
	f->actor.name = ASYA_STR("z");
	assert_int_equal(asya_route_check(&f->actor, &f->env, &f->err), -1);
	assert_string_equal(
		f->err.text,
		"Route mismatch: message routed to wrong actor (expected: z, actual: x)");
	f->actor.is_end = true;
	assert_int_equal(asya_route_check(&f->actor, &f->env, &f->err), 0);
	assert_int_equal(decide(f, &(struct asya_item){.payload = ASYA_STR("1")}, 1), 0);
	assert_int_equal(f->plan.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_value_goes_to_the_next_actor_with_its_headers,
						setup, teardown),
		cmocka_unit_test_setup_teardown(after_the_last_actor_it_goes_to_happy_end, setup,
						teardown),
		cmocka_unit_test_setup_teardown(no_value_sends_the_envelope_unchanged_to_happy_end,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			fan_out_keeps_the_first_id_and_makes_the_others_from_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
			handler_that_replaces_headers_cannot_lose_the_mark_of_a_fan_out, setup,
			teardown),
		cmocka_unit_test_setup_teardown(repeated_fan_outs_never_make_an_id_again, setup,
						teardown),
		cmocka_unit_test_setup_teardown(child_of_an_id_at_the_limit_stays_within_it, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			envelope_mode_may_change_the_future_of_the_route_only, setup, teardown),
		cmocka_unit_test_setup_teardown(failure_goes_to_error_end_with_the_original_inside,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			wrong_actor_is_a_route_mismatch_but_end_actors_take_any_route, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
