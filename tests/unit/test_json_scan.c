// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "core/json_scan.h"

#include <stdbool.h>

/* Checks a copy on the heap of exactly its size, so that ASan sees a read behind it. */
static int check(struct asya_str text, unsigned depth)
{
	_cleanup_(asya_freep) char *copy = asya_malloc(text.n);
	struct asya_error err;

	if (text.n)
		memcpy(copy, text.p, text.n);
	return asya_json_check((struct asya_str){copy, text.n}, depth, &err);
}

static void check_accepts_what_the_grammar_allows(void **state)
{
	static const char *const good[] = {"0",
					   "-0",
					   " [1, 2 ,3]\n",
					   "{}",
					   "[]",
					   "null",
					   "9007199254740993",
					   "123456789012345678901234",
					   "0.1e-7",
					   "1E+400",
					   "\"\\u0000\"",
					   "\"\\ud83d\\ude00\"",
					   "\"\xF0\x9F\x98\x80 and more text\"",
					   "{\"a\":1,\"a\":2}",
					   "\"exactly8\"",
					   "\"a\\/b\\\\\"",
					   "\"\x7f\""};

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(good); i++)
		if (check(asya_str_c(good[i]), 8))
			fail_msg("refused: %s", good[i]);
}

static void check_refuses_what_the_grammar_does_not(void **state)
{
	static const char *const bad[] = {"",
					  "01",
					  "1.",
					  ".5",
					  "+1",
					  "-",
					  "1e",
					  "[1,]",
					  "{\"a\":1,}",
					  "{a:1}",
					  "{\"a\"}",
					  "[1 2]",
					  "nul",
					  "True",
					  "NaN",
					  "\"",
					  "\"\\x\"",
					  "\"\\u12g4\"",
					  "\"\\ud800\"",
					  "\"\\udc00\"",
					  "\"\\ud800\\u0041\"",
					  "\"a\nb\"",
					  "\"\xFF\"",
					  "\"\xED\xA0\x80\"",
					  "1 2",
					  "[",
					  "{\"a\":",
					  "\"12345678\x01\"",
					  "[}",
					  "\"\\",
					  "{\"a\":1]"};

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(bad); i++)
		if (!check(asya_str_c(bad[i]), 8))
			fail_msg("accepted: %s", bad[i]);
	assert_int_equal(check((struct asya_str){"\"\0\"", 3}, 8), -1);
}

static void check_refuses_every_text_that_is_cut(void **state)
{
	const char *text =
		"{\"k\":[true,{\"s\":\"a\\u00e9\\ud83d\\ude00\xC3\xA9\"},null,\"12345678\"]}";

	(void)state;
	assert_int_equal(check(asya_str_c(text), 3), 0);
	for (size_t n = 0; n < strlen(text); n++)
		assert_int_equal(check((struct asya_str){text, n}, 3), -1);
}

static void check_holds_the_depth_limit_at_the_limit_and_one_above(void **state)
{
	(void)state;
	assert_int_equal(check(ASYA_STR("[[{\"a\":1}],[[]]]"), 3), 0);
	assert_int_equal(check(ASYA_STR("[[{\"a\":[]}]]"), 3), -1);
	assert_int_equal(check(ASYA_STR("1"), 0), 0);
	assert_int_equal(check(ASYA_STR("[]"), 0), -1);
}

static int collect(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	char *out = user;

	(void)err;
	strncat(out, m->key.p, m->key.n);
	strcat(out, "=");
	strncat(out, m->value.p, m->value.n);
	strcat(out, ";");
	return 0;
}

static void members_yields_the_untouched_bytes_of_each_value_in_order(void **state)
{
	char out[200] = "";
	struct asya_error err;

	(void)state;
	assert_int_equal(asya_json_members(ASYA_STR(" { \"id\" : \"x\" , \"payload\":{\"n\": "
						    "1.0e+2, \"b\":[ ]} ,\"z\":null } "),
					   8, collect, out, &err),
			 0);
	assert_string_equal(out, "id=\"x\";payload={\"n\": 1.0e+2, \"b\":[ ]};z=null;");
}

static int stop(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	(*(int *)user)++;
	return asya_error_set(err, ASYA_REJECT, "member %.*s", ASYA_STR_ARG(m->key));
}

static void members_stops_with_the_callers_error_and_refuses_other_kinds(void **state)
{
	struct asya_error err;
	int calls = 0;

	(void)state;
	assert_int_equal(asya_json_members(ASYA_STR("{\"a\":1,\"b\":2}"), 8, stop, &calls, &err),
			 -1);
	assert_int_equal(calls, 1);
	assert_string_equal(err.text, "member a");
	assert_int_equal(asya_json_members(ASYA_STR("[1]"), 8, stop, &calls, &err), -1);
	assert_string_equal(err.text, "not JSON: not an object at byte 0");
	assert_int_equal(err.advice, ASYA_REJECT);
}

/* A string of 40 letters with one byte of another kind at each place: what stops the scan eight
 * bytes at a time must be found wherever it stands, and whatever stands behind it. */
static void check_sees_every_byte_of_a_string_wherever_it_stands(void **state)
{
	char text[42];

	(void)state;
	for (unsigned byte = 0; byte < 256; byte++) {
		for (size_t i = 1; i < 41; i++) {
			bool good = byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';

			memset(text, byte % 2 ? 'a' : '!', sizeof(text));
			text[0] = text[41] = '"';
			text[i] = (char)byte;
			assert_int_equal(check((struct asya_str){text, 42}, 1) == 0, good);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(check_accepts_what_the_grammar_allows),
		cmocka_unit_test(check_refuses_what_the_grammar_does_not),
		cmocka_unit_test(check_refuses_every_text_that_is_cut),
		cmocka_unit_test(check_holds_the_depth_limit_at_the_limit_and_one_above),
		cmocka_unit_test(check_sees_every_byte_of_a_string_wherever_it_stands),
		cmocka_unit_test(members_yields_the_untouched_bytes_of_each_value_in_order),
		cmocka_unit_test(members_stops_with_the_callers_error_and_refuses_other_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
