// SPDX-License-Identifier: Apache-2.0
#include "transport/sqs/body.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define LONG "a23456789-b23456789-c23456789-d23456789-e23456789-f23456789-abc"

static void queues_are_named_after_actors(void **state)
{
	_cleanup_(asya_arena_freep) struct asya_arena *a = asya_arena_new();
	struct asya_str x = ASYA_STR("x");

	(void)state;
	assert_string_equal(sqs_queue_name(a, "", x, false, false).p, "asya-x");
	assert_string_equal(sqs_queue_name(a, "", x, true, false).p, "asya-x-dlq");
	assert_string_equal(sqs_queue_name(a, "ns", x, true, true).p, "asya-ns_x-dlq.fifo");
	assert_string_equal(sqs_queue_name(a, "", ASYA_STR(LONG), true, true).p,
			    "asya-" LONG "-dlq.fifo");
}

static void long_names_fit_and_stay_apart(void **state)
{
	_cleanup_(asya_arena_freep) struct asya_arena *a = asya_arena_new();
	struct asya_str one = sqs_queue_name(a, "name-space-1", ASYA_STR(LONG), false, false);
	struct asya_str two = sqs_queue_name(a, "name-space-2", ASYA_STR(LONG), false, false);
	struct asya_str dead = sqs_queue_name(a, "name-space-1", ASYA_STR(LONG), true, true);

	(void)state;
	assert_int_equal(one.n, SQS_NAME_MAX); /* 81 as they are */
	assert_false(asya_str_eq(one, two));
	assert_int_equal(dead.n, SQS_NAME_MAX);
	assert_true(asya_str_ends(dead, "-dlq.fifo"));
	assert_int_equal(sqs_queue_name(a, "name-space", ASYA_STR(LONG), false, false).n, 79);
}

static void round_trip(struct asya_str body, enum sqs_form form, const char *text)
{
	_cleanup_(asya_freep) char *back = NULL;
	struct asya_buf b = {0};
	const char *name;
	size_t bytes, n;

	assert_int_equal(sqs_body_form(body, &bytes), form);
	sqs_body_write(&b, body, form);
	asya_buf_char(&b, '\0');
	assert_string_equal(b.p, text);
	name = sqs_form_name(form);
	if (name) { /* these are what is between the quotes */
		back = sqs_body_read((struct asya_str){b.p + 1, b.n - 3}, asya_str_c(name), &n);
		assert_int_equal(n, body.n);
		assert_memory_equal(back, body.p, n);
		assert_int_equal(bytes, b.n - 3);
	}
	asya_buf_fini(&b);
}

static void bodies_are_written_so_that_the_service_takes_them(void **state)
{
	(void)state;
	round_trip(ASYA_STR("{\"a\":\"\\u0000\xc3\xa9\"}\n"), SQS_PLAIN,
		   "\"{\\\"a\\\":\\\"\\\\u0000\xc3\xa9\\\"}\\n\"");
	round_trip(ASYA_STR("[\"\xef\xbf\xbe-\xef\xbf\xbf\",\"\xef\xbf\xbd\"]"), SQS_ESCAPED,
		   "\"[\\\"\\\\ufffe-\\\\uffff\\\",\\\"\xef\xbf\xbd\\\"]\"");
	round_trip(ASYA_STR("no JSON \xef\xbf\xbe"), SQS_BASE64, "\"bm8gSlNPTiDvv74=\"");
	round_trip(ASYA_STR("a\0b"), SQS_BASE64, "\"YQBi\"");
	round_trip(ASYA_STR("\xff"), SQS_BASE64, "\"/w==\"");
	round_trip(ASYA_STR(""), SQS_EMPTY, "\"-\"");
}

/* At every place of a word of eight bytes, so that no place is looked over. */
static void every_byte_is_looked_at(void **state)
{
	static const char odd[] = {'"', '\\', '\n', '\r', '\t', '\0', '\x1f', '\x7f', ' '};
	size_t bytes;

	(void)state;
	for (size_t at = 0; at < 20; at++) {
		for (size_t k = 0; k < sizeof(odd); k++) {
			struct asya_buf own = {0}, other = {0};
			char text[] = "01234567890123456789";
			struct asya_str s = {text, 20};
			enum sqs_form form;

			text[at] = odd[k];
			form = sqs_body_form(s, &bytes);
			assert_int_equal(form, odd[k] == '\0' || odd[k] == '\x1f' ? SQS_BASE64
										  : SQS_PLAIN);
			if (form == SQS_PLAIN) {
				sqs_body_write(&own, s, form);
				asya_buf_json(&other, s);
				assert_true(
					asya_str_eq(asya_buf_view(&own), asya_buf_view(&other)));
			}
			asya_buf_fini(&own);
			asya_buf_fini(&other);
		}
	}
}

static void size_of_escapes_is_counted(void **state)
{
	struct asya_str body = ASYA_STR("\"\xef\xbf\xbe\xef\xbf\xbf\"");
	size_t bytes;

	(void)state;
	assert_int_equal(sqs_body_form(body, &bytes), SQS_ESCAPED);
	assert_int_equal(bytes, strlen("\"\\ufffe\\uffff\""));
}

static void unknown_encodings_are_not_guessed(void **state)
{
	size_t n;

	(void)state;
	assert_null(sqs_body_read(ASYA_STR("x"), ASYA_STR("gzip"), &n));
	assert_null(sqs_body_read(ASYA_STR("?"), ASYA_STR("base64"), &n));
}

static void expect_keys(const char *one, const char *two, bool same_group, bool same_message)
{
	char group[2][129], dedup[2][65];

	sqs_group_write(group[0], dedup[0], asya_str_c(one), false, 1);
	sqs_group_write(group[1], dedup[1], asya_str_c(two), false, 2);
	assert_int_equal(strcmp(group[0], group[1]) == 0, same_group);
	assert_int_equal(strcmp(dedup[0], dedup[1]) == 0, same_message);
}

#define ENVELOPE(id, current, headers)                                                             \
	"{\"id\":\"" id "\",\"route\":{\"actors\":[\"a\",\"b\",\"a\"],\"current\":" current        \
	"},\"headers\":{" headers "},\"payload\":1}"

static void repeats_of_a_delivery_are_the_same_message_and_nothing_else_is(void **state)
{
	const char *first = ENVELOPE("x", "0", "\"tenant\":\"t\"");

	(void)state;
	expect_keys(first, first, true, true);
	expect_keys(first, ENVELOPE("x", "2", "\"tenant\":\"t\""), true, false);
	expect_keys(first, ENVELOPE("x", "0", "\"tenant\":\"t\",\"asya-attempt\":\"2\""), true,
		    false);
	expect_keys(first, ENVELOPE("x", "0", "\"tenant\":\"t\",\"asya-redrive\":\"1\""), true,
		    false);
	expect_keys(first, ENVELOPE("y", "0", "\"tenant\":\"t\""), true, false);
	expect_keys(first, ENVELOPE("x", "0", "\"tenant\":\"u\""), false, true);
	expect_keys(ENVELOPE("x", "0", ""), ENVELOPE("y", "0", ""), false, false);
	expect_keys("no envelope", "no envelope", false, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queues_are_named_after_actors),
		cmocka_unit_test(long_names_fit_and_stay_apart),
		cmocka_unit_test(bodies_are_written_so_that_the_service_takes_them),
		cmocka_unit_test(every_byte_is_looked_at),
		cmocka_unit_test(size_of_escapes_is_counted),
		cmocka_unit_test(unknown_encodings_are_not_guessed),
		cmocka_unit_test(repeats_of_a_delivery_are_the_same_message_and_nothing_else_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
