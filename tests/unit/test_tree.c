// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "core/suggest.h"
#include "core/tree.h"

#define _arena_ _cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new()

static const struct asya_tree *parse(struct asya_arena *arena, const char *json)
{
	struct asya_tree *tree;
	struct asya_error err;

	if (asya_tree_json_parse(&tree, arena, asya_str_c(json), &err))
		fail_msg("%s: %s", json, err.text);
	return tree;
}

static void json_goes_through_unchanged(void **state)
{
	static const char *const rows[] = {
		"null",
		"true",
		"9007199254740993",
		"0.10",
		"1e400",
		"\"a\\u0000\\\"b\"",
		"[]",
		"{}",
		"[1,[2,{\"a\":[]}],\"x\"]",
		"{\"b\":1,\"a\":{\"z\":null,\"y\":false}}",
	};
	_arena_;

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		struct asya_buf out = {0};

		asya_tree_json_write(&out, asya_tree_copy(arena, parse(arena, rows[i])));
		asya_buf_char(&out, 0);
		assert_string_equal(out.p, rows[i]);
		asya_buf_fini(&out);
	}
}

static void json_that_is_none_is_refused(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {{"", "no JSON"},
		    {"{\"a\":1,}", "no JSON at byte "},
		    {"[1] 2", "no JSON"},
		    {"NaN", "no JSON"},
		    {"{\"a\":1,\"b\":2,\"a\":3}", "the key \"a\" is there twice"}};
	_arena_;

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		struct asya_error err = ASYA_ERROR_NONE;
		struct asya_tree *tree = NULL;

		assert_int_equal(asya_tree_json_parse(&tree, arena, asya_str_c(rows[i].text), &err),
				 -1);
		assert_null(tree);
		assert_int_equal(err.advice, ASYA_REJECT);
		assert_non_null(strstr(err.text, rows[i].want));
	}
}

/* `n` times `open`, then `close`. */
static struct asya_str repeated(struct asya_buf *b, const char *begin, const char *item, size_t n,
				const char *end)
{
	asya_buf_c(b, begin);
	for (size_t i = 0; i < n; i++)
		asya_buf_c(b, item);
	asya_buf_c(b, end);
	return asya_buf_view(b);
}

static int read_json(struct asya_str text, struct asya_error *err)
{
	_arena_;
	struct asya_tree *tree;

	return asya_tree_json_parse(&tree, arena, text, err);
}

static void json_is_read_up_to_each_limit(void **state)
{
	struct asya_error err;

	(void)state;
	for (int more = 0; more < 2; more++) {
		struct asya_buf deep = {0}, many = {0}, wide = {0}, large = {0};

		repeated(&deep, "", "[", (size_t)ASYA_TREE_DEPTH_MAX + more, "");
		repeated(&deep, "", "]", (size_t)ASYA_TREE_DEPTH_MAX + more, "");
		assert_int_equal(read_json(asya_buf_view(&deep), &err), -more);
		assert_true(!more || strstr(err.text, "nested too deep, at most 100"));

		repeated(&many, "[0", ",0", (size_t)ASYA_TREE_NODES_MAX - 2 + more, "]");
		assert_int_equal(read_json(asya_buf_view(&many), &err), -more);
		assert_true(!more || strstr(err.text, "too many values, at most 100000"));

		asya_buf_c(&wide, "{\"a\":0");
		for (int i = 1; i < ASYA_TREE_MEMBERS_MAX + more; i++)
			asya_buf_printf(&wide, ",\"%d\":0", i);
		asya_buf_c(&wide, "}");
		assert_int_equal(read_json(asya_buf_view(&wide), &err), -more);
		assert_true(!more || strstr(err.text, "too many members in one object"));

		repeated(&large, "\"", "x", (size_t)ASYA_TREE_TEXT_MAX - 2 + more, "\"");
		assert_int_equal(read_json(asya_buf_view(&large), &err), -more);
		assert_true(!more || strstr(err.text, "1048577 bytes of JSON, at most 1048576"));
		asya_buf_fini(&deep);
		asya_buf_fini(&many);
		asya_buf_fini(&wide);
		asya_buf_fini(&large);
	}
}

static void lookups_follow_keys_and_indexes(void **state)
{
	_arena_;
	const struct asya_tree *tree = parse(arena, "{\"a\":{\"b\":[10,20]},\"n\":null}");
	int64_t value;

	(void)state;
	assert_true(asya_tree_i64(asya_tree_at(asya_tree_get(tree, "a", "b", NULL), 1), &value));
	assert_int_equal(value, 20);
	assert_null(asya_tree_at(asya_tree_get(tree, "a", "b", NULL), 2));
	assert_null(asya_tree_at(tree, 0));
	assert_null(asya_tree_get(tree, "a", "c", "d", NULL));
	assert_null(asya_tree_get(tree, "a", "b", "c", NULL));
	assert_null(asya_tree_get(NULL, "a", NULL));
	assert_int_equal(asya_tree_get(tree, "n", NULL)->type, ASYA_TREE_NULL);
	assert_int_equal(tree->nodes, 6);
	assert_int_equal(tree->height, 4);
}

static void whole_numbers_are_whole_however_they_are_written(void **state)
{
	static const struct {
		const char *text;
		bool whole;
		int64_t value;
	} rows[] = {{"0", true, 0},
		    {"-5", true, -5},
		    {"1.0", true, 1},
		    {"1e3", true, 1000},
		    {"1.5", false, 0},
		    {"9223372036854775807", true, INT64_MAX},
		    {"9223372036854775808", false, 0},
		    {"-9223372036854775808", true, INT64_MIN},
		    {"9007199254740992.0", true, 9007199254740992},
		    {"1e300", false, 0},
		    {"\"1\"", false, 0},
		    {"true", false, 0}};
	_arena_;

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		int64_t value = 0;

		assert_int_equal(asya_tree_i64(parse(arena, rows[i].text), &value), rows[i].whole);
		assert_true(!rows[i].whole || value == rows[i].value);
	}
}

static void readers_leave_defaults_and_say_what_is_wrong(void **state)
{
	_arena_;
	const struct asya_tree *t =
		parse(arena, "{\"s\":\"x\",\"b\":true,\"i\":5,\"d\":\"1500us\",\"l\":[\"p\",\"q\"],"
			     "\"m\":[1],\"n\":null}");
	struct asya_str s = ASYA_STR("default");
	const struct asya_str *strs = NULL;
	const struct asya_tree *node = t;
	size_t n = 7;
	bool b = false;
	int64_t i = 3;
	struct asya_error err;

	(void)state;
	assert_int_equal(asya_tree_read_str(&s, t, "absent", &err), 0);
	assert_int_equal(asya_tree_read_str(&s, t, "n", &err), 0);
	assert_true(asya_str_eq_c(s, "default"));
	assert_int_equal(asya_tree_read_str(&s, t, "s", &err), 0);
	assert_true(asya_str_eq_c(s, "x"));
	assert_int_equal(asya_tree_read_str(&s, t, "i", &err), -1);
	assert_string_equal(err.text, "i: must be a string, is the number 5");
	assert_int_equal(asya_tree_read_bool(&b, t, "b", &err), 0);
	assert_true(b);
	assert_int_equal(asya_tree_read_bool(&b, t, "s", &err), -1);
	assert_string_equal(err.text, "s: must be true or false, is the string \"x\"");
	assert_int_equal(asya_tree_read_i64(&i, t, "i", 5, 5, &err), 0);
	assert_int_equal(i, 5);
	assert_int_equal(asya_tree_read_i64(&i, t, "i", 6, 9, &err), -1);
	assert_string_equal(err.text, "i: must be a whole number from 6 to 9, is the number 5");
	assert_int_equal(asya_tree_read_i64(&i, t, "i", 0, 4, &err), -1);
	assert_int_equal(asya_tree_read_duration_ms(&i, t, "d", &err), 0);
	assert_int_equal(i, 2);
	assert_int_equal(asya_tree_read_duration_ms(&i, t, "s", &err), -1);
	assert_int_equal(asya_tree_read_strs(&strs, &n, arena, t, "l", &err), 0);
	assert_int_equal(n, 2);
	assert_true(asya_str_eq_c(strs[1], "q"));
	assert_int_equal(asya_tree_read_strs(&strs, &n, arena, t, "m", &err), -1);
	assert_non_null(strstr(err.text, "m[0]: "));
	assert_int_equal(asya_tree_read_node(&node, t, "l", ASYA_TREE_MAP, &err), -1);
	assert_int_equal(asya_tree_read_node(&node, t, "n", ASYA_TREE_MAP, &err), 0);
	assert_null(node);
}

static void unknown_members_are_refused_with_the_nearest_name(void **state)
{
	static const struct asya_str known[] = {ASYA_STR("policies"), ASYA_STR("rules")};
	_arena_;
	struct asya_error err;

	(void)state;
	assert_int_equal(asya_tree_read_only(parse(arena, "{\"rules\":1}"), known, 2, &err), 0);
	assert_int_equal(asya_tree_read_only(parse(arena, "{\"polices\":1}"), known, 2, &err), -1);
	assert_string_equal(err.text, "unknown field \"polices\", did you mean policies?");
	assert_int_equal(asya_tree_read_only(parse(arena, "{\"zz\":1}"), known, 2, &err), -1);
	assert_string_equal(err.text, "unknown field \"zz\"");
}

static void suggestions_are_near_or_none(void **state)
{
	static const struct asya_str words[] = {ASYA_STR("transport"), ASYA_STR("minReplicas"),
						ASYA_STR("maxReplicas"), ASYA_STR("env")};
	static const struct {
		const char *typed;
		int want;
	} rows[] = {{"transprot", 0},   {"tranport", 0},     {"TRANSPORT", 0}, {"minReplica", 1},
		    {"maxreplicas", 2}, {"maxReplicass", 2}, {"ENV", 3},       {"en", -1},
		    {"enw", 3},         {"image", -1},       {"", -1},         {"xyz", -1},
		    {"trxxxport", 0},   {"trxxxxort", -1}};

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++)
		if (asya_suggest(asya_str_c(rows[i].typed), words, 4) != rows[i].want)
			fail_msg("%s", rows[i].typed);
}

static void values_are_shown_short_and_without_control_characters(void **state)
{
	_arena_;
	struct asya_buf out = {0}, json = {0};

	(void)state;
	asya_buf_c(&json, "\"\\u001b[31m");
	for (int i = 0; i < 40; i++)
		asya_buf_c(&json, "\xC3\xA4");
	asya_buf_c(&json, "\"");
	asya_buf_char(&json, 0);
	asya_tree_describe(&out, parse(arena, json.p));
	assert_true(asya_utf8_valid(out.p, out.n));
	asya_buf_char(&out, 0);
	assert_non_null(strstr(out.p, "the string \"\\u001b[31m"));
	assert_non_null(strstr(out.p, "\"..."));
	assert_null(strchr(out.p, 27));
	asya_buf_fini(&out);
	asya_buf_fini(&json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_goes_through_unchanged),
		cmocka_unit_test(json_that_is_none_is_refused),
		cmocka_unit_test(json_is_read_up_to_each_limit),
		cmocka_unit_test(lookups_follow_keys_and_indexes),
		cmocka_unit_test(whole_numbers_are_whole_however_they_are_written),
		cmocka_unit_test(readers_leave_defaults_and_say_what_is_wrong),
		cmocka_unit_test(unknown_members_are_refused_with_the_nearest_name),
		cmocka_unit_test(suggestions_are_near_or_none),
		cmocka_unit_test(values_are_shown_short_and_without_control_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
