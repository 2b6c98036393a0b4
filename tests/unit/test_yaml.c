// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "core/yaml.h"

#define _arena_ _cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new()

/* All documents as JSON, one behind the other with a space between. */
static void assert_yaml(const char *text, const char *want)
{
	_arena_;
	struct asya_tree **docs;
	struct asya_buf out = {0};
	struct asya_error err;
	size_t n;

	if (asya_yaml_parse(&docs, &n, arena, asya_str_c(text), NULL, &err))
		fail_msg("%s: %s", text, err.text);
	for (size_t i = 0; i < n; i++) {
		if (i)
			asya_buf_char(&out, ' ');
		asya_tree_json_write(&out, docs[i]);
	}
	asya_buf_char(&out, 0);
	assert_string_equal(out.p, want);
	asya_buf_fini(&out);
}

static void assert_refused(const char *text, const char *want)
{
	_arena_;
	struct asya_tree **docs = NULL;
	struct asya_error err = ASYA_ERROR_NONE;
	size_t n;

	if (asya_yaml_parse(&docs, &n, arena, asya_str_c(text), NULL, &err) != -1)
		fail_msg("accepted: %s", text);
	assert_int_equal(err.advice, ASYA_REJECT);
	if (strncmp(err.text, want, strlen(want)) != 0)
		fail_msg("%s\nis:   %s\nwant: %s", text, err.text, want);
}

static void plain_scalars_are_typed_as_kubernetes_does(void **state)
{
	static const struct {
		const char *yaml, *json;
	} rows[] = {
		{"~", "null"},
		{"null", "null"},
		{"NULL", "null"},
		{"nUll", "\"nUll\""},
		{"true", "true"},
		{"True", "true"},
		{"tRUE", "\"tRUE\""},
		{"yes", "true"},
		{"No", "false"},
		{"on", "true"},
		{"OFF", "false"},
		{"y", "true"},
		{"n", "false"},
		{"\"yes\"", "\"yes\""},
		{"'no'", "\"no\""},
		{"0", "0"},
		{"-0", "0"},
		{"+12", "12"},
		{"-12", "-12"},
		{"1_000", "1000"},
		{"0x1F", "31"},
		{"-0x1f", "-31"},
		{"0o17", "15"},
		{"017", "15"},
		{"08", "8"},
		{"0b101", "5"},
		{"0xZZ", "\"0xZZ\""},
		{"0x", "\"0x\""},
		{"0x0x1", "\"0x0x1\""},
		{"18446744073709551615", "18446744073709551615"},
		{"99999999999999999999999", "99999999999999999999999"},
		{"0xFFFFFFFFFFFFFFFF", "18446744073709551615"},
		{"1.5", "1.5"},
		{".5", "0.5"},
		{"-.5", "-0.5"},
		{"1.", "1"},
		{"1.e3", "1e3"},
		{"00.50", "0.50"},
		{"1e3", "1e3"},
		{"1E+3", "1E+3"},
		{"1e", "\"1e\""},
		{"1e999", "\"1e999\""},
		{".", "\".\""},
		{"1:30", "\"1:30\""},
		{"1.2.3", "\"1.2.3\""},
		{"2026-11-24", "\"2026-11-24\""},
		{"500m", "\"500m\""},
		{"0.1.2", "\"0.1.2\""},
		{"+", "\"+\""},
		{"1_", "1"},
		{".5_0", "0.50"},
		{".5_", "\".5_\""},
		{"._5", "\"._5\""},
		{"0x1FFFFFFFFFFFFFFFF", "\"0x1FFFFFFFFFFFFFFFF\""},
		{"-0x8000000000000001", "\"-0x8000000000000001\""},
		{"-0x8000000000000000", "-9223372036854775808"},
		{"!!str 12", "\"12\""},
		{"! 12", "\"12\""},
		{"!!int \"12\"", "12"},
		{"!!bool yes", "true"},
		{"!!null ~", "null"},
		{"!!float 1", "1"},
	};

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++)
		assert_yaml(rows[i].yaml, rows[i].json);
}

static void structures_become_trees(void **state)
{
	(void)state;
	assert_yaml("a: 1\nb:\n- x\n- {c: d}\n- []\n", "{\"a\":1,\"b\":[\"x\",{\"c\":\"d\"},[]]}");
	assert_yaml("a:\nb: |\n  two\n  lines\nc: >-\n  one\n  line\n",
		    "{\"a\":null,\"b\":\"two\\nlines\\n\",\"c\":\"one line\"}");
	assert_yaml("{\"a\": \"b\\u00e4\", \"c\": [1, 2.50, true, null]}",
		    "{\"a\":\"b\xC3\xA4\",\"c\":[1,2.50,true,null]}");
	assert_yaml("a: 1\n---\n---\nb: 2\n...\n", "{\"a\":1} null {\"b\":2}");
	assert_yaml("", "");
	assert_yaml("# nothing\n", "");
	assert_yaml("\"8080\": a\n\"on\": b\n", "{\"8080\":\"a\",\"on\":\"b\"}");
}

static void json_that_yaml_cannot_read_is_read_as_json(void **state)
{
	(void)state;
	assert_yaml(" {\"a\": \"\\ud83d\\ude00\"}\n", "{\"a\":\"\xF0\x9F\x98\x80\"}");
	assert_refused("a: \"\\ud83d\\ude00\"\n", "line 1, column 7: ");
}

static void aliases_stand_for_their_anchors(void **state)
{
	(void)state;
	assert_yaml("a: &x {b: [1]}\nc: *x\nd: *x\n",
		    "{\"a\":{\"b\":[1]},\"c\":{\"b\":[1]},\"d\":{\"b\":[1]}}");
	assert_yaml("- &x 1\n- *x\n- &x 2\n- *x\n", "[1,1,2,2]");
	assert_refused("a: *x\n", "line 1, column 4: the alias *x has no anchor before it");
	assert_refused("a: &x [*x]\n", "line 1, column 8: the alias *x has no anchor before it");
	assert_refused("a: &x 1\n---\nb: *x\n", "line 3, column 4: the alias *x has no anchor");
}

static void merge_keys_add_what_the_map_does_not_have(void **state)
{
	(void)state;
	assert_yaml("- &a {x: 1, w: 2}\n- {<<: *a, w: 3}\n",
		    "[{\"x\":1,\"w\":2},{\"w\":3,\"x\":1}]");
	assert_yaml("- &a {x: 1}\n- &b {x: 2, z: 3}\n- {<<: [*a, *b]}\n",
		    "[{\"x\":1},{\"x\":2,\"z\":3},{\"x\":1,\"z\":3}]");
	assert_yaml("\"<<\": 1\n", "{\"<<\":1}");
	assert_refused("- &a {x: 1}\n- {x: 2, <<: *a}\n",
		       "line 2, column 10: write << before \"x\" (line 2)");
	assert_refused("<<: 5\n", "line 1, column 1: the merge key << takes a map");
	assert_refused("<<: [5]\n", "line 1, column 1: the merge key << takes a map");
}

static void what_is_refused_has_its_place(void **state)
{
	static const struct {
		const char *yaml, *want;
	} rows[] = {
		{"a: 1\nb: 2\na: 3\n",
		 "line 3, column 1: the key \"a\" is there twice, first on line 1"},
		{"8080: x\n", "line 1, column 1: the key 8080 is no string; write \"8080\":"},
		{"a:\n  on: x\n", "line 2, column 3: the key on is no string; write \"on\":"},
		{"~: x\n", "line 1, column 1: the key ~ is no string"},
		{"? [a]\n: b\n", "line 1, column 3: a key must be a string"},
		{"- &a b\n- {*a : c}\n", "line 2, column 4: a key must be a string, not an alias"},
		{"a: .inf\n", "line 1, column 4: .inf is a number that JSON has no way to write"},
		{"a: -.Inf\n", "line 1, column 4: -.Inf is a number"},
		{"a: .NaN\n", "line 1, column 4: .NaN is a number"},
		{"a: !x b\n", "line 1, column 4: the tag !x is not known here"},
		{"a: !!binary aGk=\n", "line 1, column 4: the tag tag:yaml.org,2002:binary is not"},
		{"a: !!int b\n", "line 1, column 4: b is no !!int"},
		{"a: !!set {b}\n", "line 1, column 4: the tag"},
		{"a: !!map [b]\n", "line 1, column 4: the tag"},
		{"a:\n\tb: c\n", "line 2, column 1: a tab cannot indent YAML; use spaces"},
		{"a: [1\n", "line 2, column 1: "},
		{"a: 'b\n", "line 2, column 1: "},
		{"a: b: c\n", "line 1, column 5: mapping values are not allowed in this context"},
		{"\xff", "line 1, column 1: not UTF-8"},
	};

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++)
		assert_refused(rows[i].yaml, rows[i].want);
}

static void places_count_from_one_in_characters(void **state)
{
	_arena_;
	struct asya_tree **docs;
	const struct asya_tree *node;
	struct asya_place place = {0, 0};
	struct asya_error err;
	size_t n;

	(void)state;
	assert_int_equal(asya_yaml_parse(&docs, &n, arena,
					 ASYA_STR("a: {\xC3\xA4: x, b: y}\n---\nc:\n  - d\n"),
					 &place, &err),
			 0);
	node = asya_tree_get(docs[0], "a", "b", NULL);
	assert_int_equal(node->place.line, 1);
	assert_int_equal(node->place.column, 14);
	assert_int_equal(node->key_place.column, 11);
	node = asya_tree_at(asya_tree_get(docs[1], "c", NULL), 0);
	assert_int_equal(node->place.line, 4);
	assert_int_equal(node->place.column, 5);
	assert_int_equal(asya_yaml_parse(&docs, &n, arena, ASYA_STR("a: 1\na: 2\n"), &place, &err),
			 -1);
	assert_int_equal(place.line, 2);
	assert_int_equal(place.column, 1);
	assert_string_equal(err.text, "the key \"a\" is there twice, first on line 1");
}

static int read_yaml(const struct asya_buf *b, struct asya_error *err)
{
	_arena_;
	struct asya_tree **docs;
	size_t n;

	return asya_yaml_parse(&docs, &n, arena, asya_buf_view(b), NULL, err);
}

static void repeat(struct asya_buf *b, const char *s, int n)
{
	while (n-- > 0)
		asya_buf_c(b, s);
}

static void write_deep(struct asya_buf *b, int n)
{
	repeat(b, "[", n);
	repeat(b, "]", n);
}

static void write_deep_by_alias(struct asya_buf *b, int n)
{
	/* The list outside is one, the anchor 50. */
	asya_buf_c(b, "- &a ");
	write_deep(b, 50);
	asya_buf_c(b, "\n- ");
	repeat(b, "[", n - 51);
	asya_buf_c(b, "*a");
	repeat(b, "]", n - 51);
}

static void write_many(struct asya_buf *b, int n)
{
	asya_buf_c(b, "[0");
	repeat(b, ",0", n - 2);
	asya_buf_c(b, "]");
}

/* 1 + 999 + n aliases of 1 + ... : the whole list, its anchored list of 98, aliases of 99 each. */
static void write_many_by_alias(struct asya_buf *b, int n)
{
	int aliases = (n - 100) / 99, rest = (n - 100) % 99;

	asya_buf_c(b, "[&a [0");
	repeat(b, ",0", 97);
	asya_buf_c(b, "]");
	repeat(b, ",*a", aliases);
	repeat(b, ",0", rest);
	asya_buf_c(b, "]");
}

static void write_wide(struct asya_buf *b, int n)
{
	for (int i = 0; i < n; i++)
		asya_buf_printf(b, "k%d: 0\n", i);
}

static void write_wide_by_merge(struct asya_buf *b, int n)
{
	asya_buf_c(b, "a: &a\n");
	for (int i = 0; i < 600; i++)
		asya_buf_printf(b, "  k%d: 0\n", i);
	asya_buf_c(b, "b:\n  <<: *a\n");
	for (int i = 600; i < n; i++)
		asya_buf_printf(b, "  k%d: 0\n", i);
}

static void write_documents(struct asya_buf *b, int n)
{
	repeat(b, "---\na: 1\n", n);
}

static void write_anchors(struct asya_buf *b, int n)
{
	for (int i = 0; i < n; i++)
		asya_buf_printf(b, "- &a%d b\n", i);
}

static void write_large(struct asya_buf *b, int n)
{
	repeat(b, "#", n);
}

static void each_limit_lets_its_value_pass_and_no_more(void **state)
{
	static const struct {
		void (*write)(struct asya_buf *b, int n);
		int limit;
		const char *want;
	} rows[] = {
		{write_deep, ASYA_TREE_DEPTH_MAX, "nested deeper than 100"},
		{write_deep_by_alias, ASYA_TREE_DEPTH_MAX, "nested deeper than 100"},
		{write_many, ASYA_TREE_NODES_MAX, "more than 100000 values"},
		{write_many_by_alias, ASYA_TREE_NODES_MAX, "more than 100000 values"},
		{write_wide, ASYA_TREE_MEMBERS_MAX, "more than 1024 members in one map"},
		{write_wide_by_merge, ASYA_TREE_MEMBERS_MAX, "more than 1024 members in one map"},
		{write_documents, ASYA_YAML_DOCUMENTS_MAX, "more than 100 documents"},
		{write_anchors, ASYA_YAML_ANCHORS_MAX, "more than 1000 anchors in one document"},
		{write_large, ASYA_TREE_TEXT_MAX, "1048577 bytes, at most 1048576"},
	};

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		for (int more = 0; more < 2; more++) {
			struct asya_buf b = {0};
			struct asya_error err = ASYA_ERROR_NONE;

			rows[i].write(&b, rows[i].limit + more);
			if (read_yaml(&b, &err) != -more ||
			    (more && !strstr(err.text, rows[i].want)))
				fail_msg("row %zu, limit + %d: %s", i, more, err.text);
			asya_buf_fini(&b);
		}
	}
}

static void a_bomb_of_aliases_does_not_go_off(void **state)
{
	struct asya_buf b = {0};
	struct asya_error err;

	(void)state;
	asya_buf_c(&b, "- &a0 [x,x,x,x,x,x,x,x,x,x]\n");
	for (int i = 1; i < 30; i++) {
		asya_buf_printf(&b, "- &a%d [", i);
		for (int j = 0; j < 10; j++)
			asya_buf_printf(&b, "%s*a%d", j ? "," : "", i - 1);
		asya_buf_c(&b, "]\n");
	}
	assert_int_equal(read_yaml(&b, &err), -1);
	assert_non_null(strstr(err.text, "counting each alias as what it stands for"));
	asya_buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_scalars_are_typed_as_kubernetes_does),
		cmocka_unit_test(structures_become_trees),
		cmocka_unit_test(json_that_yaml_cannot_read_is_read_as_json),
		cmocka_unit_test(aliases_stand_for_their_anchors),
		cmocka_unit_test(merge_keys_add_what_the_map_does_not_have),
		cmocka_unit_test(what_is_refused_has_its_place),
		cmocka_unit_test(places_count_from_one_in_characters),
		cmocka_unit_test(each_limit_lets_its_value_pass_and_no_more),
		cmocka_unit_test(a_bomb_of_aliases_does_not_go_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
