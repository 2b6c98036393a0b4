// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "core/object_key.h"

#include <ctype.h>
#include <stdlib.h>

static const int64_t t = 1763978400123456; /* 2025-11-24T10:00:00.123456Z */

static struct asya_str id_name(struct asya_arena *arena, struct asya_str id)
{
	return asya_object_name(arena, id, ".json", ASYA_OBJECT_NAME_MAX);
}

static void key_is_prefix_time_last_actor_and_id(void **state)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();

	(void)state;
	assert_string_equal(asya_object_key(arena, ASYA_STR("happy-asya/"), t, ASYA_STR("post"),
					    ASYA_STR("abc-123"), 200)
				    .p,
			    "happy-asya/2025-11-24T10:00:00.123456Z/post/abc-123.json");
	assert_string_equal(
		asya_object_key(arena, ASYA_STR(""), 0, ASYA_STR(""), ASYA_STR("x"), 200).p,
		"1970-01-01T00:00:00.000000Z/unknown/x.json");
}

static void ids_that_mean_something_to_a_file_system_are_harmless(void **state)
{
	static const struct {
		struct asya_str id;
		const char *name;
	} rows[] = {{ASYA_STR("../../x"), "%2E.%2F..%2Fx.json"},
		    {ASYA_STR("."), "%2E.json"},
		    {ASYA_STR(".."), "%2E..json"},
		    {ASYA_STR("a\0b"), "a%00b.json"},
		    {ASYA_STR("a b%"), "a%20b%25.json"},
		    {ASYA_STR("\xC3\xA9\xFF"), "%C3%A9%FF.json"},
		    {ASYA_STR("A-Z_a~z.9"), "A-Z_a~z.9.json"},
		    {ASYA_STR("a=b\\:*?\n"), "a%3Db%5C%3A%2A%3F%0A.json"}};
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++)
		assert_string_equal(id_name(arena, rows[i].id).p, rows[i].name);
	assert_string_equal(
		asya_object_key(arena, ASYA_STR("p/"), t, ASYA_STR(".."), ASYA_STR(".."), 200).p,
		"p/2025-11-24T10:00:00.123456Z/%2E./%2E..json");
}

static void names_at_the_limit_are_whole_and_longer_ones_end_in_a_hash(void **state)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct asya_str at, above;
	char id[197];

	(void)state;
	memset(id, 'x', sizeof(id));
	at = id_name(arena, (struct asya_str){id, 195});
	assert_int_equal(at.n, 200);
	assert_null(strchr(at.p, '='));
	above = id_name(arena, (struct asya_str){id, 196});
	assert_int_equal(above.n, 200);
	assert_int_equal(strcspn(above.p, "="), 130);
	/* sha256 of 196 times x */
	assert_string_equal(
		above.p + 131,
		"e1e8d8b142d1103921b4da9776c5a5d9965a2d3ece9e18767bd61f123f25849a.json");
	id[195] = 'y';
	assert_string_not_equal(id_name(arena, (struct asya_str){id, 196}).p, above.p);
	/* a text that looks like a shortened name has another one */
	assert_string_not_equal(
		id_name(arena, (struct asya_str){above.p, above.n - strlen(".json")}).p, above.p);
}

static void shortening_never_cuts_an_encoded_byte(void **state)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct asya_str key;
	char id[256];

	(void)state;
	memset(id, '/', sizeof(id));
	for (size_t lead = 0; lead < 3; lead++) {
		memset(id, 'x', lead);
		key = id_name(arena, (struct asya_str){id, sizeof(id)});
		assert_in_range(key.n, 198, 200);
		assert_memory_equal(key.p + strcspn(key.p, "=") - 3, "%2F", 3);
	}
}

/* What every name must be: one component, printable, bounded, and readable back. */
static void check_name(struct asya_str id, struct asya_str key)
{
	size_t read = 0, end = key.n - strlen(".json");

	assert_in_range(key.n, 5, ASYA_OBJECT_NAME_MAX);
	assert_int_equal(strlen(key.p), key.n);
	assert_true(asya_str_ends(key, ".json"));
	assert_int_not_equal(key.p[0] == '.' && id.n, 1);
	for (size_t i = 0; i < end && key.p[i] != '='; i++) {
		unsigned char c = (unsigned char)key.p[i];

		if (c == '%') {
			char digits[] = {key.p[i + 1], key.p[i + 2], '\0'};

			assert_true(isxdigit((unsigned char)digits[0]) &&
				    isxdigit((unsigned char)digits[1]));
			c = (unsigned char)strtoul(digits, NULL, 16);
			i += 2;
		} else {
			assert_true(isalnum(c) || strchr("-_.~", c));
		}
		assert_int_equal((unsigned char)id.p[read++], c);
	}
	assert_true(read == id.n || key.p[end - 65] == '=');
}

static void any_bytes_make_a_name_that_reads_back(void **state)
{
	unsigned seed = 7;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
		size_t n = (size_t)rand_r(&seed) % 257;
		int kind = rand_r(&seed) % 3;
		char id[256];

		for (size_t i = 0; i < n; i++) {
			int r = rand_r(&seed) / 16;

			if (kind == 0)
				id[i] = (char)r;
			else
				id[i] = kind == 1 ? "./%=\\~-_"[r % 8] : "abcdefgh"[r % 8];
		}
		check_name((struct asya_str){id, n}, id_name(arena, (struct asya_str){id, n}));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(key_is_prefix_time_last_actor_and_id),
		cmocka_unit_test(ids_that_mean_something_to_a_file_system_are_harmless),
		cmocka_unit_test(names_at_the_limit_are_whole_and_longer_ones_end_in_a_hash),
		cmocka_unit_test(shortening_never_cuts_an_encoded_byte),
		cmocka_unit_test(any_bytes_make_a_name_that_reads_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
