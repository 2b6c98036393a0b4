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

static struct asya_str second_child(struct fixture *f, const char *id)
{
	const struct asya_item items[] = {{.payload = ASYA_STR("1")}, {.payload = ASYA_STR("2")}};
	_cleanup_(asya_freep) char *text = asya_asprintf(
		"{\"id\":\"%s\",\"route\":{\"actors\":[\"x\"],\"current\":0},\"payload\":1}", id);

	parse(f, asya_arena_cstr(f->arena, asya_str_c(text)));
	assert_int_equal(decide(f, items, 2), 0);
	return f->plan.sends[1].id;
}

static void a_child_id_that_would_be_too_long_ends_in_a_hash_of_the_whole_id(void **state)
{
	struct fixture *f = *state;
	char fits[255], a[257], b[257];
	struct asya_str child;

	memset(fits, 'x', 254);
	memset(a, 'x', 256);
	memset(b, 'x', 256);
	fits[254] = a[256] = b[256] = '\0';
	child = second_child(f, fits);
	assert_int_equal(child.n, ASYA_ID_MAX);
	assert_memory_equal(child.p, fits, 254);
	child = second_child(f, a);
	assert_int_equal(child.n, ASYA_ID_MAX);
	assert_string_equal(child.p + 256 - 35, "~85e62acd750c4eb56b7b6a1d66dca5bf-1");
	assert_true(asya_str_eq(second_child(f, a), child));
	b[255] = 'y';
	assert_false(asya_str_eq(second_child(f, b), child));
	memcpy(a + 220, "\xC3\xA9", 2);
	child = second_child(f, a);
	assert_true(asya_utf8_valid(child.p, child.n));
	assert_int_equal(child.n, ASYA_ID_MAX - 1);
}

static void a_child_of_an_id_with_a_nul_byte_keeps_the_whole_id(void **state)
{
	struct asya_str child = second_child(*state, "a\\u0000b");

	assert_int_equal(child.n, 5);
	assert_memory_equal(child.p, "a\0b-1", 5);
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

static void our_own_headers_outlive_a_handler_that_replaces_them(void **state)
{
	struct asya_item item = {.payload = ASYA_STR("1"),
				 .headers = ASYA_STR("{\"u\":2,\"asya-root\":\"forged\"}")};
	struct fixture *f = *state;

	parse(f, "{\"id\":\"a\",\"route\":{\"actors\":[\"x\",\"y\"],\"current\":0},"
		 "\"headers\":{\"t\":\"1\",\"asya-root\":\"r\",\"asya-attempt\":\"2\"},\"payload\":"
		 "0}");
	assert_int_equal(decide(f, &item, 1), 0);
	expect_send(f, 0, "y",
		    "{\"id\":\"a\",\"route\":{\"actors\":[\"x\",\"y\"],\"current\":1},\"headers\":{"
		    "\"u\":2,"
		    "\"asya-root\":\"r\"},\"payload\":1}");
}

static void attempts_count_within_a_hop_and_end_with_it(void **state)
{
	struct asya_item item = {.payload = ASYA_STR("1")};
	struct asya_attempt attempt;
	struct fixture *f = *state;

	parse(f, AT0);
	asya_attempt_read(&attempt, f->arena, &f->env);
	assert_int_equal(attempt.n, 1);
	asya_route_retry(&f->plan, f->arena, &f->actor, &f->env, 2, 1700000000000000);
	assert_int_equal(f->plan.outcome, ASYA_OUTCOME_RETRIED);
	expect_send(f, 0, "x",
		    "{\"id\":\"a\",\"route\":{\"actors\":[\"x\",\"y\"],\"current\":0},\"headers\":{"
		    "\"t\":\"1\","
		    "\"asya-attempt\":\"2\",\"asya-attempt-since\":\"1700000000000000\"},"
		    "\"payload\":[1.0]}");
	parse(f, f->plan.sends[0].body.p);
	asya_attempt_read(&attempt, f->arena, &f->env);
	assert_int_equal(attempt.n, 2);
	assert_int_equal(attempt.since_us, 1700000000000000);
	assert_null(attempt.root.p);
	assert_int_equal(decide(f, &item, 1), 0);
	expect_send(f, 0, "y",
		    "{\"id\":\"a\",\"route\":{\"actors\":[\"x\",\"y\"],\"current\":1},\"headers\":{"
		    "\"t\":\"1\"},"
		    "\"payload\":1}");
}

static void reparse(struct fixture *f, size_t i)
{
	if (asya_envelope_parse(&f->env, f->arena, f->plan.sends[i].body, &limits, &f->err))
		fail_msg("%s", f->err.text);
}

static void hop_is_carried_to_its_limit_where_queues_keep_no_history(void **state)
{
	const struct asya_failure failure = {.code = ASYA_STR("processing_error")};
	struct asya_item items[] = {{.payload = ASYA_STR("1"), .headers = ASYA_STR("{\"u\":2}")},
				    {.payload = ASYA_STR("2")}};
	struct fixture *f = *state;
	struct asya_str hops;

	f->actor.hop = ASYA_STR("{\"actor\":\"x\"}");
	parse(f, "{\"id\":\"a\",\"route\":{\"actors\":[\"x\",\"y\"],\"current\":0},\"payload\":0}");
	assert_int_equal(decide(f, items, 1), 0);
	expect_send(f, 0, "y",
		    "{\"id\":\"a\",\"route\":{\"actors\":[\"x\",\"y\"],\"current\":1},\"headers\":{"
		    "\"u\":2,"
		    "\"asya-trace\":[{\"actor\":\"x\"}]},\"payload\":1}");
	reparse(f, 0);
	f->actor.name = ASYA_STR("y");
	f->actor.hop = ASYA_STR("{\"actor\":\"y\"}");
	assert_int_equal(decide(f, items, 2), 0);
	for (size_t i = 0; i < 2; i++) {
		reparse(f, i);
		hops = asya_headers_get(f->env.headers, ASYA_HEADER_TRACE);
		assert_true(asya_str_eq_c(hops, "[{\"actor\":\"x\"},{\"actor\":\"y\"}]"));
	}
	for (int i = 2; i < ASYA_TRACE_HOPS_MAX + 3; i++) {
		size_t before = asya_headers_get(f->env.headers, ASYA_HEADER_TRACE).n;

		if (i % 2)
			asya_route_retry(&f->plan, f->arena, &f->actor, &f->env, 2, 1);
		else
			asya_route_fail(&f->plan, f->arena, &f->actor, &f->env, &failure);
		reparse(f, 0);
		hops = asya_headers_get(f->env.headers, ASYA_HEADER_TRACE);
		assert_int_equal(hops.n > before, i < ASYA_TRACE_HOPS_MAX);
	}
	assert_true(asya_str_starts(hops, "[{\"actor\":\"x\"},"));
}

static void attempt_headers_that_are_no_numbers_count_as_none(void **state)
{
	static const char *const odd[] = {
		"7", "\"\"", "\"x\"", "\"-1\"", "\"99999999999999999999\"", "null", "{}"};
	struct asya_attempt attempt;
	struct fixture *f = *state;

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(odd); i++) {
		_cleanup_(asya_freep) char *text =
			asya_asprintf("{\"id\":\"a\",\"route\":{\"actors\":[\"x\"]},\"headers\":{"
				      "\"asya-attempt\":%s},\"payload\":1}",
				      odd[i]);

		parse(f, text);
		asya_attempt_read(&attempt, f->arena, &f->env);
		assert_int_equal(attempt.n, 1);
	}
}

static void message_that_is_no_envelope_goes_to_error_end_with_its_bytes(void **state)
{
	static const struct {
		const char *bytes, *payload_end;
	} rows[] = {
		{"{broken \"", "\"original_payload\":\"{broken \\\"\"}}"},
		{"", "\"original_payload\":\"\"}}"},
		{"\xff", "\"original_payload\":\"/w==\",\"encoding\":\"base64\"}}"},
		{"\xff\xfe", "\"original_payload\":\"//4=\",\"encoding\":\"base64\"}}"},
		{"\xff\xfe"
		 "a",
		 "\"original_payload\":\"//5h\",\"encoding\":\"base64\"}}"},
		{"\xff\xfe"
		 "ab",
		 "\"original_payload\":\"//5hYg==\",\"encoding\":\"base64\"}}"},
	};
	const struct asya_failure failure = {.code = ASYA_STR("msg_parsing_error"),
					     .message = ASYA_STR("no")};
	struct fixture *f = *state;

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		asya_route_poison(&f->plan, f->arena, &f->actor, ASYA_STR("h"),
				  asya_str_c(rows[i].bytes), &failure);
		assert_true(asya_str_eq_c(f->plan.sends[0].actor, "error-end"));
		if (!asya_str_ends(f->plan.sends[0].body, rows[i].payload_end))
			fail_msg("%s", f->plan.sends[0].body.p);
		parse(f, f->plan.sends[0].body.p); /* it is an envelope */
	}
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

static void redrive_changes_the_headers_and_no_other_byte(void **state)
{
	static const struct {
		const char *body, *after;
	} rows[] = {
		{" {\"id\":\"a\", \"headers\" : {\"t\":1} , "
		 "\"route\":{\"actors\":[]},\"payload\":1.0 }",
		 " {\"id\":\"a\", \"headers\" : {\"t\":1,\"asya-redrive\":\"1\"} , "
		 "\"route\":{\"actors\":[]},\"payload\":1.0 }"},
		{"{ \"id\":\"a\",\"route\":{\"actors\":[]},\"payload\":{\"headers\":2}}",
		 "{\"headers\":{\"asya-redrive\":\"1\"}, \"id\":\"a\",\"route\":{\"actors\":[]},"
		 "\"payload\":{\"headers\":2}}"},
		{"{\"id\":\"a\",\"route\":{\"actors\":[]},\"payload\":1,\"headers\":null}",
		 "{\"id\":\"a\",\"route\":{\"actors\":[]},\"payload\":1,\"headers\":{\"asya-"
		 "redrive\":\"1\"}}"},
		{"{\"headers\":{\"asya-redrive\":\"9\",\"asya-attempt\":\"3\",\"asya-attempt-"
		 "since\":"
		 "\"7\",\"asya-root\":\"r\"},\"id\":\"a\",\"route\":{\"actors\":[]},\"payload\":1}",
		 "{\"headers\":{\"asya-root\":\"r\",\"asya-redrive\":\"10\"},\"id\":\"a\","
		 "\"route\":{"
		 "\"actors\":[]},\"payload\":1}"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		struct asya_str out;

		parse(f, rows[i].body);
		out = asya_route_redrive(f->arena, asya_str_c(rows[i].body), &f->env);
		assert_string_equal(out.p, rows[i].after);
		parse(f, out.p);
	}
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
		cmocka_unit_test_setup_teardown(
			a_child_id_that_would_be_too_long_ends_in_a_hash_of_the_whole_id, setup,
			teardown),
		cmocka_unit_test_setup_teardown(a_child_of_an_id_with_a_nul_byte_keeps_the_whole_id,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			envelope_mode_may_change_the_future_of_the_route_only, setup, teardown),
		cmocka_unit_test_setup_teardown(failure_goes_to_error_end_with_the_original_inside,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			our_own_headers_outlive_a_handler_that_replaces_them, setup, teardown),
		cmocka_unit_test_setup_teardown(attempts_count_within_a_hop_and_end_with_it, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			hop_is_carried_to_its_limit_where_queues_keep_no_history, setup, teardown),
		cmocka_unit_test_setup_teardown(attempt_headers_that_are_no_numbers_count_as_none,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			message_that_is_no_envelope_goes_to_error_end_with_its_bytes, setup,
			teardown),
		cmocka_unit_test_setup_teardown(redrive_changes_the_headers_and_no_other_byte,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			wrong_actor_is_a_route_mismatch_but_end_actors_take_any_route, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
