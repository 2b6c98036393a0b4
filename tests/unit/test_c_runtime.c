// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "asya_message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENVELOPE                                                                                   \
	"{ \"id\" : \"a\\u00e9\", \"route\": {\"actors\":[\"x\",\"y\"], \"current\" : 9 ,"         \
	"\"metadata\":{\"current\":5}}, \"payload\" : {\"n\": 9007199254740993, "                  \
	"\"z\":\"\\u0000\"}"                                                                       \
	", \"headers\":{\"t\":1},\"more\":[\"}\"] }"
#define PAYLOAD "{\"n\": 9007199254740993, \"z\":\"\\u0000\"}"

/* Texts are copied to the end of a block of their own, so that one byte too far is seen. */
static int check(const char *text, size_t n)
{
	struct asya_json_fault fault = {0};
	char *copy = malloc(n ? n : 1);
	int code;

	memcpy(copy, text, n);
	code = asya_message_check((struct asya_view){copy, n}, 0, &fault);
	if (code) {
		assert_non_null(fault.why);
		assert_true(fault.at <= n);
	}
	free(copy);
	return code;
}

static void json_is_taken_and_everything_else_refused(void **state)
{
	static const char *const good[] = {"null",
					   " true ",
					   "false",
					   "0",
					   "-0.5e+10",
					   "123456789012345678901234567890",
					   "\"\"",
					   "\"\\ud83d\\ude00\"",
					   "\"\\u0000\\n\\\\\\\"\"",
					   "[]",
					   "[ ]",
					   "{ }",
					   "[1,[2,{}],\"x\"]",
					   "{\"a\":1,\"a\":[{}]}",
					   "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
					   "\"0123456789abcde\"",
					   "{\"a\" : [ ] , \"b\" : { } }"};
	static const char *const bad[] = {"",
					  " ",
					  "nul",
					  "truex",
					  "01",
					  "-",
					  "1.",
					  ".5",
					  "1e",
					  "+1",
					  "\"",
					  "\"\\",
					  "\"\\x\"",
					  "\"\\u12\"",
					  "\"\\u123g\"",
					  "\"\n\"",
					  "\"\\ud800\"",
					  "\"\\udc00\"",
					  "\"\\ud800\\u0041\"",
					  "[",
					  "[1,]",
					  "[,1]",
					  "[1 2]",
					  "{",
					  "{\"a\"}",
					  "{\"a\":}",
					  "{\"a\":1,}",
					  "{,}",
					  "{a:1}",
					  "{\"a\":1 \"b\":2}",
					  "1 2",
					  "]",
					  "\"\x80\"",
					  "\"\xc0\xaf\"",
					  "\"\xed\xa0\x80\"",
					  "\"\xf4\x90\x80\x80\"",
					  "\"\xe2\x82\"",
					  "'a'",
					  "NaN",
					  "{\"a\":1}}",
					  "[1}",
					  "\"01234567\x1f\"",
					  "\"\xff\""};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (check(good[i], strlen(good[i])))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (check(bad[i], strlen(bad[i])) == 0)
			fail_msg("taken: %s", bad[i]);
	assert_int_equal(check("\"\0\"", 3), -1);
}

static void every_shortened_text_is_refused(void **state)
{
	(void)state;
	assert_int_equal(check(ENVELOPE, sizeof ENVELOPE - 1), 0);
	for (size_t n = 0; n < sizeof ENVELOPE - 1; n++)
		assert_int_equal(check(ENVELOPE, n), -1);
}

static void nesting_is_taken_up_to_the_limit_and_refused_one_deeper(void **state)
{
	static char text[2 * ASYA_DEPTH_MAX + 2];
	const size_t n = ASYA_DEPTH_MAX;

	(void)state;
	memset(text, '[', n);
	memset(text + n, ']', n);
	assert_int_equal(check(text, 2 * n), 0);
	memset(text, '[', n + 1);
	memset(text + n + 1, ']', n + 1);
	assert_int_equal(check(text, 2 * n + 2), -1);
}

static void begin(struct asya_request *r, int version, const char *text)
{
	asya_message_begin(r, version);
	asya_message_parse(r, (struct asya_view){text, strlen(text)});
}

static void assert_out(const struct asya_request *r, const char *bytes, size_t n)
{
	assert_int_equal(r->out.n, n);
	assert_memory_equal(r->out.p, bytes, n);
}

/* A reply of protocol 1: its length and its text. */
static void assert_array(const struct asya_request *r, const char *text)
{
	const unsigned char *p = (const unsigned char *)r->out.p;

	assert_true(r->out.n >= 4);
	assert_int_equal((size_t)p[2] << 8 | p[3], r->out.n - 4);
	assert_int_equal(p[0] + p[1], 0);
	assert_int_equal(r->out.n - 4, strlen(text));
	assert_memory_equal(p + 4, text, r->out.n - 4);
}

static void handler_sees_the_envelope_as_it_came(void **state)
{
	struct asya_request r = {.limit = 1000};
	const char *p;
	size_t n;

	(void)state;
	begin(&r, 2, ENVELOPE);
	assert_int_equal(asya_payload_len(&r), sizeof PAYLOAD - 1);
	assert_memory_equal(asya_payload(&r), PAYLOAD, sizeof PAYLOAD - 1);
	assert_int_equal(asya_envelope_len(&r), sizeof ENVELOPE - 1);
	assert_string_equal(asya_id(&r), "a\\u00e9");
	p = asya_member(&r, "more", &n);
	assert_int_equal(n, 5);
	assert_memory_equal(p, "[\"}\"]", 5);
	assert_null(asya_member(&r, "nothing", &n));
	asya_message_fini(&r);
}

static void protocol_2_answers_items_and_an_end(void **state)
{
	struct asya_request r = {.limit = 1000};
	const struct asya_item item = {"1", 1, "{}", 2, "{ }", 3};

	(void)state;
	begin(&r, 2, ENVELOPE);
	assert_int_equal(asya_emit(&r, "[1]", 3), 0);
	assert_int_equal(asya_emit_item(&r, &item), 0);
	asya_message_end(&r);
#define OUT                                                                                        \
	"\0\0\0\20I{\"payload\":[1]}\0\0\0\47I{\"payload\":1,\"route\":{},\"headers\":{ "          \
	"}}\0\0\0\3E{}"
	assert_out(&r, OUT, sizeof OUT - 1);
	begin(&r, 2, ENVELOPE);
	asya_message_end(&r);
	assert_out(&r, "\0\0\0\3E{}", 7);
	asya_message_fini(&r);
}

static void protocol_1_answers_an_array_with_the_route_one_further(void **state)
{
	struct asya_request r = {.limit = 1000};

	(void)state;
	begin(&r, 1, ENVELOPE);
	assert_int_equal(asya_emit(&r, "1", 1), 0);
	assert_int_equal(asya_emit(&r, asya_payload(&r), asya_payload_len(&r)), 0);
	asya_message_end(&r);
#define REST                                                                                       \
	",\"route\":{\"actors\":[\"x\",\"y\"], \"current\" : 10 ,\"metadata\":{\"current\":5}},"   \
	"\"headers\":{\"t\":1}}"
	assert_array(&r, "[{\"payload\":1" REST ",{\"payload\":" PAYLOAD REST "]");
	begin(&r, 1, ENVELOPE);
	asya_message_end(&r);
	assert_array(&r, "[]");
	begin(&r, 1, "{\"payload\":1,\"route\":{\"current\":0},\"headers\":null}");
	asya_emit(&r, "2", 1);
	asya_message_end(&r);
	assert_array(&r, "[{\"payload\":2,\"route\":{\"current\":1}}]");
	asya_message_fini(&r);
}

static void failure_is_the_whole_answer_and_its_text_is_escaped(void **state)
{
	struct asya_request r = {.limit = 1000};

	(void)state;
	begin(&r, 1, ENVELOPE);
	asya_emit(&r, "1", 1);
	asya_fail(&r, "Odd\"", "a\n\x01 %s \xe2\x82", "\xc3\xa9");
	asya_fail(&r, "Second", "counts for nothing");
	assert_int_equal(asya_emit(&r, "1", 1), -1);
	asya_message_end(&r);
	assert_array(&r, "[{\"error\":\"processing_error\",\"details\":{\"message\":"
			 "\"a\\u000a\\u0001 \xc3\xa9 \\ufffd\\ufffd\",\"type\":\"Odd\\\"\","
			 "\"traceback\":\"\"}}]");
	begin(&r, 2, ENVELOPE);
	asya_emit(&r, "1", 1);
	asya_fail(&r, "m.Busy", "no");
	asya_message_end(&r);
#define ERROR                                                                                      \
	"\0\0\0\177X{\"error\":\"processing_error\",\"details\":{\"message\":\"no\",\"type\":"     \
	"\"m.Busy\",\"mro\":[\"m.Busy\"],\"traceback\":\"\"}}"
	assert_int_equal(r.out.n - 4, sizeof ERROR - 5);
	assert_memory_equal(r.out.p + 4, ERROR + 4, sizeof ERROR - 5);
	assert_int_equal((unsigned char)r.out.p[3], r.out.n - 4);
	asya_message_fini(&r);
}

static void emitted_text_that_is_no_json_fails_the_request(void **state)
{
	const struct asya_item items[] = {{"{", 1, NULL, 0, NULL, 0},  {"", 0, NULL, 0, NULL, 0},
					  {NULL, 9, NULL, 0, NULL, 0}, {"1 ]", 3, NULL, 0, NULL, 0},
					  {"1", 1, "[]", 2, NULL, 0},  {"1", 1, "{}", 2, "1", 1}};

	(void)state;
	for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
		struct asya_request r = {.limit = 1000};

		begin(&r, 2, ENVELOPE);
		assert_int_equal(asya_emit_item(&r, &items[i]), -1);
		assert_string_equal(r.type, "InvalidJSON");
		asya_message_end(&r);
		assert_int_equal(r.out.p[4], 'X');
		asya_message_fini(&r);
	}
}

static void item_beyond_the_limit_fails_and_no_frame_is_ever_longer(void **state)
{
	static const size_t around[] = {0, sizeof "[{'payload':,'route':{'current':1}}]" - 1,
					sizeof "I{'payload':}" - 1};
	char text[301];

	(void)state;
	memset(text, '1', sizeof text);
	for (int version = 1; version <= 2; version++)
		for (size_t n = 1; n <= sizeof text; n++) {
			struct asya_request r = {.limit = 300};

			begin(&r, version, "{\"payload\":1,\"route\":{\"current\":0}}");
			assert_int_equal(asya_emit(&r, text, n),
					 n + around[version] <= 300 ? 0 : -1);
			if (r.failed)
				assert_string_equal(r.type, "MessageTooLarge");
			assert_true(r.out.n <= 4 + 300);
			asya_message_end(&r);
			assert_true(version == 2 || r.out.n <= 4 + 300);
			asya_message_fini(&r);
		}
}

static void text_that_is_no_envelope_is_a_parsing_error(void **state)
{
	static const char *const bad[] = {"",
					  "x",
					  "[]",
					  "{}",
					  "{\"payload\":1} 2",
					  "{\"payload\":1,\"payload\":2}",
					  "{\"id\":\"a\"}"};
	static const char *const bad_routes[] = {"{}",
						 "[]",
						 "{\"current\":-1}",
						 "{\"current\":1.5}",
						 "{\"current\":\"1\"}",
						 "{\"current\":1234567890}"};
	struct asya_request r = {.limit = 1000};
	char text[100];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		begin(&r, 2, bad[i]);
		assert_true(r.failed);
		assert_string_equal(r.code, "msg_parsing_error");
	}
	for (size_t i = 0; i < sizeof bad_routes / sizeof *bad_routes; i++) {
		snprintf(text, sizeof text, "{\"payload\":1,\"route\":%s}", bad_routes[i]);
		begin(&r, 1, text);
		assert_true(r.failed);
		begin(&r, 2, text);
		assert_false(r.failed);
	}
	begin(&r, 1, "{\"payload\":1}");
	assert_true(r.failed);
	asya_message_fini(&r);
}

static size_t flushed;

static void count_flushed(struct asya_request *r)
{
	flushed += r->out.n;
	r->out.n = 0;
}

static void many_items_do_not_pile_up(void **state)
{
	struct asya_request r = {.limit = 100000, .flush = count_flushed};
	char item[1000];

	(void)state;
	memset(item, '7', sizeof item);
	begin(&r, 2, ENVELOPE);
	for (int i = 0; i < 2000; i++) {
		assert_int_equal(asya_emit(&r, item, sizeof item), 0);
		assert_true(r.out.n < ASYA_FLUSH_AT);
	}
	asya_message_end(&r);
	assert_int_equal(flushed + r.out.n, 2000 * (sizeof item + 17) + 7);
	asya_message_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_is_taken_and_everything_else_refused),
		cmocka_unit_test(every_shortened_text_is_refused),
		cmocka_unit_test(nesting_is_taken_up_to_the_limit_and_refused_one_deeper),
		cmocka_unit_test(handler_sees_the_envelope_as_it_came),
		cmocka_unit_test(protocol_2_answers_items_and_an_end),
		cmocka_unit_test(protocol_1_answers_an_array_with_the_route_one_further),
		cmocka_unit_test(failure_is_the_whole_answer_and_its_text_is_escaped),
		cmocka_unit_test(emitted_text_that_is_no_json_fails_the_request),
		cmocka_unit_test(item_beyond_the_limit_fails_and_no_frame_is_ever_longer),
		cmocka_unit_test(text_that_is_no_envelope_is_a_parsing_error),
		cmocka_unit_test(many_items_do_not_pile_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
