// SPDX-License-Identifier: Apache-2.0
#include "core/runtime_reply.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const struct asya_reply_limits limits = {.items = 3, .bytes = 200, .depth = 8};

struct fixture {
	struct asya_arena *arena;
	struct asya_reply reply;
	struct asya_error err;
};

static int setup(void **state)
{
	struct fixture *f = asya_new0(struct fixture);

	f->arena = asya_arena_new();
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

static int v1(struct fixture *f, const char *frame)
{
	f->reply = (struct asya_reply){0};
	return asya_reply_add_v1(&f->reply, f->arena, asya_str_c(frame), &limits, &f->err);
}

static int v2(struct fixture *f, const char *frame)
{
	return asya_reply_add(&f->reply, f->arena, asya_str_c(frame), &limits, &f->err);
}

#define assert_str(s, text) assert_true(asya_str_eq_c(s, text))

static void v1_answer_is_an_array_of_items(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(v1(f, "[{\"payload\": 1.0, \"route\":{\"actors\":[],\"current\":0}},"
			       "{\"payload\":null,\"headers\":{\"a\":1},\"route\":null}]"),
			 1);
	assert_int_equal(f->reply.n, 2);
	assert_str(f->reply.items[0].payload, "1.0");
	assert_str(f->reply.items[0].route, "{\"actors\":[],\"current\":0}");
	assert_null(f->reply.items[0].headers.p);
	assert_str(f->reply.items[1].payload, "null");
	assert_null(f->reply.items[1].route.p);
	assert_int_equal(v1(f, "[]"), 1);
	assert_int_equal(f->reply.n, 0);
	assert_false(f->reply.failed);
}

static void v1_failure_has_its_details(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(v1(f,
			    "[{\"error\":\"processing_error\",\"details\":{\"message\":\"a\\\"b\","
			    "\"type\":\"KeyError\",\"traceback\":\"T\"}}]"),
			 1);
	assert_true(f->reply.failed);
	assert_str(f->reply.failure.code, "processing_error");
	assert_str(f->reply.failure.message, "a\"b");
	assert_str(f->reply.failure.type, "KeyError");
	assert_str(f->reply.failure.traceback, "T");
	assert_int_equal(v1(f, "[{\"error\":\"connection_error\"}]"), 1);
	assert_str(f->reply.failure.message, "connection_error");
}

static void what_is_no_answer_is_refused_with_a_reason(void **state)
{
	static const struct {
		const char *frame, *says;
	} rows[] = {
		{"{}", "not an array"},
		{"", "empty"},
		{"[1]", "item 0 of the runtime's answer is no object"},
		{"[{}]", "no 'payload'"},
		{"[{\"payload\":1}", "cut off"},
		{"[{\"payload\":1},{\"payload\":1},{\"payload\":1},{\"payload\":1}]",
		 "more than 3 items"},
		{"[[[[[[[[[[1]]]]]]]]]]", "too deep"},
	};
	struct fixture *f = *state;
	char big[202];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(v1(f, rows[i].frame), -1);
		if (!strstr(f->err.text, rows[i].says))
			fail_msg("'%s' does not say '%s'", f->err.text, rows[i].says);
	}
	memset(big, ' ', 201);
	big[0] = '[', big[199] = ']', big[200] = '\0';
	assert_int_equal(v1(f, big), 1);
	big[199] = ' ', big[200] = ']', big[201] = '\0';
	assert_int_equal(v1(f, big), -1);
	assert_non_null(strstr(f->err.text, "more than 200 bytes"));
}

static void v2_answer_is_items_and_an_end(void **state)
{
	struct fixture *f = *state;
	char frame[] = "I{\"payload\":[1]}";

	assert_int_equal(v2(f, frame), 0);
	memset(frame, 'x', sizeof(frame) - 1); /* the reply keeps copies */
	assert_int_equal(v2(f, "z{\"whatever\""), 0);
	assert_int_equal(v2(f, "I{\"payload\":2,\"headers\":{}}"), 0);
	assert_int_equal(v2(f, "E{}"), 1);
	assert_int_equal(f->reply.n, 2);
	assert_str(f->reply.items[0].payload, "[1]");
	assert_str(f->reply.items[1].headers, "{}");
}

static void v2_failure_keeps_its_ancestry_and_forgets_the_items(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(v2(f, "I{\"payload\":1}"), 0);
	assert_int_equal(
		v2(f,
		   "X{\"error\":\"processing_error\",\"details\":{\"message\":\"m\",\"type\":\"T\","
		   "\"mro\":[\"T\",\"Exception\"]}}"),
		1);
	assert_true(f->reply.failed);
	assert_str(f->reply.failure.mro, "[\"T\",\"Exception\"]");
	assert_int_equal(v2(f, "Q{}"), -1);
	assert_non_null(strstr(f->err.text, "0x51"));
	assert_int_equal(v2(f, ""), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(v1_answer_is_an_array_of_items, setup, teardown),
		cmocka_unit_test_setup_teardown(v1_failure_has_its_details, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_no_answer_is_refused_with_a_reason, setup,
						teardown),
		cmocka_unit_test_setup_teardown(v2_answer_is_items_and_an_end, setup, teardown),
		cmocka_unit_test_setup_teardown(v2_failure_keeps_its_ancestry_and_forgets_the_items,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
