// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

static void arena_gives_aligned_zeroed_memory_of_any_size(void **state)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();

	(void)state;
	for (size_t n = 1; n < 20000; n = n * 3 + 1) {
		char *p = asya_arena_zalloc(arena, n);

		assert_int_equal((uintptr_t)p % 16, 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xAB, n);
	}
}

static void arena_takes_over_buffers_small_and_large(void **state)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct asya_str kept[6];

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct asya_buf b = {0};

		for (size_t n = 0; n < i * 700; n++)
			asya_buf_char(&b, (char)('a' + i));
		kept[i] = asya_arena_buf(arena, &b);
		assert_null(b.p);
		assert_int_equal(b.n + b.room, 0);
		memset(asya_arena_alloc(arena, 100), 'x', 100);
	}
	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(kept[i].n, i * 700);
		for (size_t n = 0; n < kept[i].n; n++)
			assert_int_equal(kept[i].p[n], 'a' + i);
	}
	assert_true(asya_arena_size(arena) > 9000);
}

static void buf_reserve_gives_what_was_asked_for_and_grows_by_doubling(void **state)
{
	struct asya_buf b = {0};
	unsigned moves = 0;

	(void)state;
	asya_buf_reserve(&b, 70000);
	assert_int_equal(b.room, 70000);
	asya_buf_reserve(&b, 70000);
	assert_int_equal(b.room, 70000);
	for (size_t i = 0; i < 1000000; i++) {
		size_t room = b.room;

		asya_buf_char(&b, 'x');
		moves += b.room != room;
	}
	assert_true(moves < 8);
	asya_buf_fini(&b);
}

static void error_wrap_keeps_advice_and_puts_the_context_first(void **state)
{
	struct asya_error err;

	(void)state;
	assert_int_equal(asya_error_set(&err, ASYA_REJECT, "value %d", 7), -1);
	assert_int_equal(asya_error_wrap(&err, "reading '%s'", "x"), -1);
	assert_string_equal(err.text, "reading 'x': value 7");
	assert_int_equal(err.advice, ASYA_REJECT);
}

static void buf_json_escapes_controls_and_replaces_what_is_not_utf8(void **state)
{
	struct asya_buf b = {0};

	(void)state;
	asya_buf_json(&b, ASYA_STR("a\"\\\n\x01\xC3\xA9\xFFz\xED\xA0\x80"));
	asya_buf_char(&b, '\0');
	assert_string_equal(
		b.p,
		"\"a\\\"\\\\\\n\\u0001\xC3\xA9\xEF\xBF\xBDz\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
	asya_buf_fini(&b);
}

static void utf8_refuses_surrogates_overlong_forms_and_what_is_cut(void **state)
{
	(void)state;
	assert_true(asya_utf8_valid("plain ascii over eight bytes", 28));
	assert_true(asya_utf8_valid("\xF0\x9F\x98\x80", 4));
	assert_false(asya_utf8_valid("\xF0\x9F\x98", 3));
	assert_false(asya_utf8_valid("\xC0\x80", 2));
	assert_false(asya_utf8_valid("\xED\xA0\x80", 3));
	assert_false(asya_utf8_valid("\xF4\x90\x80\x80", 4));
}

static void durations_read_and_write_as_go_does(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
		const char *back;
	} rows[] = {{"5m", 300000000000, "5m0s"},
		    {"1h2m3s", 3723000000000, "1h2m3s"},
		    {"250ms", 250000000, "250ms"},
		    {"1.5s", 1500000000, "1.5s"},
		    {"0", 0, "0s"},
		    {"100us", 100000, "100\xC2\xB5s"},
		    {"1h", 3600000000000, "1h0m0s"},
		    {".5s", 500000000, "500ms"}};
	static const char *const bad[] = {"",  "5",   "5x",    "-1s",
					  "s", "1s2", "1..5s", "99999999999h"};
	char out[ASYA_TIME_TEXT];
	int64_t ns;

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		assert_int_equal(asya_duration_parse(&ns, asya_str_c(rows[i].text)), 0);
		assert_int_equal(ns, rows[i].ns);
		assert_string_equal(asya_duration_write(out, ns), rows[i].back);
	}
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(bad); i++)
		assert_int_equal(asya_duration_parse(&ns, asya_str_c(bad[i])), -1);
}

static void times_read_rfc3339_with_fractions_and_zones(void **state)
{
	static const char *const bad[] = {"",
					  "2026-02-29T00:00:00Z",
					  "2026-11-24",
					  "2026-11-24T10:00:00",
					  "2026-11-24T24:00:00Z",
					  "2026-11-24T10:00:00Zx",
					  "2026-00-10T00:00:00Z"};
	char out[ASYA_TIME_TEXT];
	int64_t us;

	(void)state;
	assert_int_equal(asya_time_parse(&us, ASYA_STR("2026-11-24T10:00:00.25+01:00")), 0);
	assert_string_equal(asya_time_write(out, us), "2026-11-24T09:00:00.250000Z");
	assert_int_equal(asya_time_parse(&us, ASYA_STR("2024-02-29T00:00:00Z")), 0);
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(bad); i++)
		assert_int_equal(asya_time_parse(&us, asya_str_c(bad[i])), -1);
}

static void a_duration_of_endless_digits_is_none(void **state)
{
	char text[801];
	int64_t ns = 7;

	(void)state;
	memset(text, '1', sizeof(text));
	text[400] = '.';
	text[800] = 's';
	assert_int_equal(asya_duration_parse(&ns, (struct asya_str){text, sizeof(text)}), -1);
	assert_int_equal(ns, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arena_gives_aligned_zeroed_memory_of_any_size),
		cmocka_unit_test(arena_takes_over_buffers_small_and_large),
		cmocka_unit_test(buf_reserve_gives_what_was_asked_for_and_grows_by_doubling),
		cmocka_unit_test(error_wrap_keeps_advice_and_puts_the_context_first),
		cmocka_unit_test(buf_json_escapes_controls_and_replaces_what_is_not_utf8),
		cmocka_unit_test(utf8_refuses_surrogates_overlong_forms_and_what_is_cut),
		cmocka_unit_test(durations_read_and_write_as_go_does),
		cmocka_unit_test(a_duration_of_endless_digits_is_none),
		cmocka_unit_test(times_read_rfc3339_with_fractions_and_zones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
