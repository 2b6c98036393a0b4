// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "core/envelope.h"

static const struct asya_limits limits = ASYA_LIMITS_DEFAULT;

/* Parses and writes back; returns the written text (the caller frees) or NULL with the error's text
 * in *err. */
static char *round_trip(struct asya_str text, const struct asya_limits *l, struct asya_error *err)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct asya_envelope env;
	struct asya_buf out = {0};

	if (asya_envelope_parse(&env, arena, text, l, err))
		return NULL;
	asya_envelope_write(&out, &env);
	asya_buf_char(&out, '\0');
	return out.p;
}

static void expect_same(const char *text, const char *expected)
{
	struct asya_error err = ASYA_ERROR_NONE;
	_cleanup_(asya_freep) char *out = round_trip(asya_str_c(text), &limits, &err);

	assert_string_equal(err.text, "");
	assert_string_equal(out, expected);
}

static void payload_keeps_every_digit_nul_and_the_order_of_its_keys(void **state)
{
	const char *text = "{\"id\":\"a\",\"route\":{\"actors\":[\"x\"],\"current\":0},\"payload\":"
			   "{\"z\":9007199254740993, "
			   "\"a\":0.10,\"n\":123456789012345678901234,\"s\":\"\\u0000\",\"z\":1}}";

	(void)state;
	expect_same(text, text);
}

static void headers_parent_deadline_metadata_and_unknown_members_survive(void **state)
{
	(void)state;
	expect_same("{\"payload\":null,\"x-new\":[1, "
		    "2],\"id\":\"\\u00e9\\/"
		    "1\",\"deadline\":\"2026-11-24T10:00:00Z\",\"parent_id\":\"p\","
		    "\"headers\":{\"traceparent\":\"00-1\", \"tenant\":\"a\"},"
		    "\"route\":{\"metadata\":{\"k\":1.0},\"current\":2,\"actors\":[\"x\",\"y\"]},"
		    "\"y\\n\":{}}",
		    "{\"id\":\"\xC3\xA9/"
		    "1\",\"parent_id\":\"p\",\"route\":{\"actors\":[\"x\",\"y\"],\"current\":2,"
		    "\"metadata\":{\"k\":1.0}},"
		    "\"headers\":{\"traceparent\":\"00-1\", "
		    "\"tenant\":\"a\"},\"deadline\":\"2026-11-24T10:00:00Z\",\"payload\":null,"
		    "\"x-new\":[1, 2],\"y\\n\":{}}");
}

#define ROUTE "\"route\":{\"actors\":[\"x\"],\"current\":0}"

static void bad_envelopes_are_refused_with_a_text_that_names_the_member(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{"hello", "not JSON"},
		{"[]", "not an object"},
		{"{" ROUTE ",\"payload\":1}", "'id' is missing"},
		{"{\"id\":\"\"," ROUTE ",\"payload\":1}", "'id' has 0 bytes"},
		{"{\"id\":7," ROUTE ",\"payload\":1}", "'id' must be a string, it is 7"},
		{"{\"id\":\"a\"," ROUTE "}", "'payload' is missing"},
		{"{\"id\":\"a\",\"id\":\"b\"," ROUTE ",\"payload\":1}", "'id' stands twice"},
		{"{\"id\":\"a\"," ROUTE ",\"payload\":1,\"q\":1,\"q\":2}", "'q' stands twice"},
		{"{\"id\":\"a\",\"payload\":1}", "'route' is missing"},
		{"{\"id\":\"a\",\"route\":[],\"payload\":1}", "'route' must be an object"},
		{"{\"id\":\"a\",\"route\":{\"current\":0},\"payload\":1}",
		 "'route.actors' is missing"},
		{"{\"id\":\"a\",\"route\":{\"actors\":[\"x\",3]},\"payload\":1}",
		 "'route.actors[1]' must be a string"},
		{"{\"id\":\"a\",\"route\":{\"actors\":[\"X_y\"]},\"payload\":1}", "is 'X_y'"},
		{"{\"id\":\"a\",\"route\":{\"actors\":[\"x-dlq\"]},\"payload\":1}", "'-dlq'"},
		{"{\"id\":\"a\",\"route\":{\"actors\":[\"x\"],\"current\":2},\"payload\":1}",
		 "the route has 1 actors"},
		{"{\"id\":\"a\",\"route\":{\"actors\":[\"x\"],\"current\":-1},\"payload\":1}",
		 "'route.current' is -1"},
		{"{\"id\":\"a\",\"route\":{\"actors\":[\"x\"],\"current\":1.0},\"payload\":1}",
		 "'route.current' is 1.0"},
		{"{\"id\":\"a\",\"route\":{\"actors\":[\"x\"],\"current\":99999999999999999999999},"
		 "\"payload\":1}",
		 "'route.current'"},
		{"{\"id\":\"a\"," ROUTE ",\"payload\":1,\"headers\":[]}",
		 "'headers' must be an object"},
		{"{\"id\":\"a\"," ROUTE ",\"payload\":1,\"deadline\":\"soon\"}",
		 "'deadline' is 'soon'"},
		{"{\"id\":\"a\"," ROUTE ",\"payload\":1,\"payload_ref\":{}}", "only one may be"},
		{"{\"id\":\"a\"," ROUTE ",\"payload\":\"\\ud800\"}", "unpaired surrogate"},
	};

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		struct asya_error err = ASYA_ERROR_NONE;
		_cleanup_(asya_freep) char *out =
			round_trip(asya_str_c(rows[i].text), &limits, &err);

		if (out || !strstr(err.text, rows[i].says))
			fail_msg("%s: says '%s', expected '%s'", rows[i].text, err.text,
				 rows[i].says);
		assert_int_equal(err.advice, ASYA_REJECT);
	}
}

static void each_limit_passes_at_the_limit_and_refuses_one_more(void **state)
{
	const char *text = "{\"id\":\"a\",\"route\":{\"actors\":[\"x\",\"y\"]},\"payload\":[[1]],"
			   "\"headers\":{\"a\":\"1\",\"b\":\"2\"}}";
	const struct asya_limits exact = {strlen(text), 3, 2, 2,
					  strlen("{\"a\":\"1\",\"b\":\"2\"}")};

	(void)state;
	for (int which = -1; which < 5; which++) {
		struct asya_limits l = exact;
		struct asya_error err = ASYA_ERROR_NONE;
		_cleanup_(asya_freep) char *out = NULL;

		l.message_bytes -= which == 0;
		l.depth -= which == 1;
		l.route_actors -= which == 2;
		l.headers -= which == 3;
		l.header_bytes -= which == 4;
		out = round_trip(asya_str_c(text), &l, &err);
		assert_int_equal(out == NULL, which >= 0);
	}
}

static void id_of_256_bytes_passes_and_257_is_refused(void **state)
{
	(void)state;
	for (int n = 256; n <= 257; n++) {
		_cleanup_(asya_freep) char *text =
			asya_asprintf("{\"id\":\"%0*d\"," ROUTE ",\"payload\":1}", n, 0);
		struct asya_error err = ASYA_ERROR_NONE;
		_cleanup_(asya_freep) char *out = round_trip(asya_str_c(text), &limits, &err);

		assert_int_equal(out != NULL, n == 256);
	}
}

static void current_may_be_absent_and_may_stand_at_the_end(void **state)
{
	(void)state;
	expect_same("{\"id\":\"a\",\"route\":{\"actors\":[\"x\"]},\"payload\":1}",
		    "{\"id\":\"a\"," ROUTE ",\"payload\":1}");
	expect_same("{\"id\":\"a\",\"route\":{\"actors\":[],\"current\":0},\"payload\":1,\"parent_"
		    "id\":null,\"headers\":null}",
		    "{\"id\":\"a\",\"route\":{\"actors\":[],\"current\":0},\"payload\":1}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(payload_keeps_every_digit_nul_and_the_order_of_its_keys),
		cmocka_unit_test(headers_parent_deadline_metadata_and_unknown_members_survive),
		cmocka_unit_test(bad_envelopes_are_refused_with_a_text_that_names_the_member),
		cmocka_unit_test(each_limit_passes_at_the_limit_and_refuses_one_more),
		cmocka_unit_test(id_of_256_bytes_passes_and_257_is_refused),
		cmocka_unit_test(current_may_be_absent_and_may_stand_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
