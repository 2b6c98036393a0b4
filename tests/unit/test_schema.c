// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>

#include "base/mem.h"
#include "core/schema.h"
#include "core/yaml.h"

#define _arena_ _cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new()

static struct asya_tree *parse(struct asya_arena *arena, const char *text)
{
	struct asya_tree **docs;
	struct asya_error err;
	size_t n;

	if (asya_yaml_parse(&docs, &n, arena, asya_str_c(text), NULL, &err) || n != 1)
		fail_msg("%s: %s", text, err.text);
	return docs[0];
}

static void check(struct asya_findings *f, struct asya_arena *arena, const char *schema,
		  const char *text)
{
	asya_findings_init(f, arena);
	asya_schema_check(f, parse(arena, schema), parse(arena, text), ASYA_STR("x"));
}

struct row {
	const char *schema, *good, *bad, *want; /* want: path and text of the only finding in bad */
};

static void assert_rows(const struct row *rows, size_t n)
{
	_arena_;

	for (size_t i = 0; i < n; i++) {
		struct asya_findings f;
		char is[1200];

		check(&f, arena, rows[i].schema, rows[i].good);
		if (f.n)
			fail_msg("%s\n%s: %s", rows[i].schema, rows[i].good, f.items[0].text.p);
		check(&f, arena, rows[i].schema, rows[i].bad);
		if (f.n != 1)
			fail_msg("%s\n%s: %zu findings", rows[i].schema, rows[i].bad, f.n);
		snprintf(is, sizeof(is), "%s: %s", f.items[0].path.p, f.items[0].text.p);
		assert_string_equal(is, rows[i].want);
		assert_int_equal(f.items[0].severity, ASYA_SEVERITY_ERROR);
		assert_true(f.items[0].place.line > 0);
	}
}

static void types_are_checked(void **state)
{
	static const struct row rows[] = {
		{"type: string", "a", "5",
		 "x: must be a string, is the number 5; put it in quotes"},
		{"type: string", "\"yes\"", "yes",
		 "x: must be a string, is the boolean true (which is how YAML reads yes); put it "
		 "in "
		 "quotes"},
		{"type: string", "''", "[]", "x: must be a string, is a list"},
		{"type: integer", "5", "\"5\"", "x: must be a whole number, is the string \"5\""},
		{"type: integer", "5.0", "5.5",
		 "x: must be a whole number (of at most 64 bits), is the number 5.5"},
		{"type: integer", "9223372036854775807", "9223372036854775808",
		 "x: must be a whole number (of at most 64 bits), is the number "
		 "9223372036854775808"},
		{"{type: integer, format: int32}", "2147483647", "2147483648",
		 "x: must fit 32 bits, is 2147483648"},
		{"{type: integer, format: int32}", "-2147483648", "-2147483649",
		 "x: must fit 32 bits, is -2147483649"},
		{"type: boolean", "off", "\"false\"",
		 "x: must be true or false, is the string \"false\""},
		{"type: array", "[]", "{}", "x: must be a list, is a map"},
		{"type: object", "{}", "a", "x: must be a map, is the string \"a\""},
		{"type: object", "{}", "[]", "x: must be a map, is a list"},
	};

	(void)state;
	assert_rows(rows, ASYA_ARRAY_SIZE(rows));
}

static void numbers_and_lengths_have_limits(void **state)
{
	static const struct row rows[] = {
		{"{type: integer, minimum: 3}", "3", "2", "x: must be at least 3, is 2"},
		{"{type: integer, maximum: 3}", "3", "4", "x: must be at most 3, is 4"},
		{"{type: string, minLength: 1}", "a", "''",
		 "x: must have at least 1 character, has 0"},
		{"{type: string, minLength: 2}", "\xC3\xA4\xC3\xA4", "\xC3\xA4",
		 "x: must have at least 2 characters, has 1"},
		{"{type: string, maxLength: 2}", "\xC3\xA4\xC3\xA4", "abc",
		 "x: must have at most 2 characters, has 3"},
		{"{type: array, minItems: 1, items: {type: string}}", "[a]", "[]",
		 "x: must have at least 1 item, has 0"},
		{"{type: array, maxItems: 2, items: {type: string}}", "[a, b]", "[a, b, c]",
		 "x: must have at most 2 items, has 3"},
		{"{type: object, maxProperties: 1, additionalProperties: {type: string}}", "{a: b}",
		 "{a: b, c: d}", "x: must have at most 1 members, has 2"},
	};

	(void)state;
	assert_rows(rows, ASYA_ARRAY_SIZE(rows));
}

static void words_patterns_and_formats_are_checked(void **state)
{
	static const struct row rows[] = {
		{"{type: string, enum: [Retain, DeleteIfEmpty]}", "Retain", "Delete",
		 "x: must be one of Retain, DeleteIfEmpty, is the string \"Delete\""},
		{"{type: string, enum: [Retain, DeleteIfEmpty]}", "DeleteIfEmpty", "retain",
		 "x: must be one of Retain, DeleteIfEmpty; did you mean Retain? It is the string "
		 "\"retain\""},
		{"{type: string, pattern: '^[a-z]+$'}", "abc", "aBc",
		 "x: must match ^[a-z]+$, is the string \"aBc\""},
		{"{type: string, pattern: '^[a-z]+$'}", "abc", "\"abc\\n\"",
		 "x: must match ^[a-z]+$, is the string \"abc\\n\""},
		{"{type: string, pattern: '^a+'}", "ab", "\"a\\0b\"",
		 "x: must match ^a+, is the string \"a\\u0000b\""},
		{"{type: string, format: duration}", "1h2m3s", "1 hour",
		 "x: must be a duration like 300ms, 5s or 1h30m, is the string \"1 hour\""},
		{"{type: string, format: duration}", "0s", "''",
		 "x: must be a duration like 300ms, 5s or 1h30m, is the string \"\""},
		{"{type: string, format: duration}", "\"0\"", "5",
		 "x: must be a duration like 300ms, 5s or 1h30m, is the number 5"},
		{"{type: string, format: duration}", "1.5s", "-1s",
		 "x: must be a duration like 300ms, 5s or 1h30m, is the string \"-1s\""},
		{"{type: string, format: date-time}", "2026-11-24T10:00:00Z", "2026-11-24",
		 "x: must be a time like 2026-11-24T10:00:00Z, is the string \"2026-11-24\""},
		{"x-kubernetes-int-or-string: true", "5", "true",
		 "x: must be a whole number or a string, is the boolean true"},
		{"x-kubernetes-int-or-string: true", "5m", "[]",
		 "x: must be a whole number or a string, is a list"},
		{"{x-kubernetes-int-or-string: true, pattern: '^[0-9]+m$'}", "5m", "5x",
		 "x: must match ^[0-9]+m$, is the string \"5x\""},
	};

	(void)state;
	assert_rows(rows, ASYA_ARRAY_SIZE(rows));
}

static void patterns_are_run_up_to_their_limit(void **state)
{
	_arena_;

	(void)state;
	for (int more = 0; more < 2; more++) {
		struct asya_findings f;
		struct asya_buf b = {0};

		for (int i = 0; i < ASYA_PATTERN_MAX + more; i++)
			asya_buf_char(&b, 'a');
		asya_buf_char(&b, 0);
		check(&f, arena, "{type: string, pattern: ^a+$}", b.p);
		assert_int_equal(f.errors, more);
		asya_buf_fini(&b);
	}
}

static void members_are_required_known_or_handed_on(void **state)
{
	static const struct row rows[] = {
		{"{type: object, required: [a], properties: {a: {type: string}}}", "{a: b}", "{}",
		 "x.a: is required"},
		{"{type: object, required: [a], properties: {a: {type: string}}}", "{a: ''}",
		 "{a: null}", "x.a: is required"},
		{"{type: object, properties: {a: {type: string}}}", "{a: null}", "{a: 1}",
		 "x.a: must be a string, is the number 1; put it in quotes"},
		{"{type: object, properties: {policies: {type: string}}}", "{policies: a}",
		 "{polices: a}", "x.polices: unknown field, did you mean policies?"},
		{"{type: object, properties: {policies: {type: string}}}", "{}", "{zzz: a}",
		 "x.zzz: unknown field"},
		{"{type: object, additionalProperties: {type: integer}}", "{zzz: 1}", "{zzz: a}",
		 "x.zzz: must be a whole number, is the string \"a\""},
		{"{type: object, x-kubernetes-preserve-unknown-fields: true, properties: {a: "
		 "{type: string}}}",
		 "{zzz: [1], a: b}", "{zzz: [1], a: 1}",
		 "x.a: must be a string, is the number 1; put it in quotes"},
		{"{type: array, items: {type: object, properties: {m: {type: string}}}}",
		 "[{m: a}]", "[{m: a}, {m: 1}]",
		 "x[1].m: must be a string, is the number 1; put it in quotes"},
		{"{type: array, items: {type: string}}", "[a]", "[a, null]",
		 "x[1]: there is nothing here; take the item out or fill it"},
		{"{type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [t], "
		 "items: {type: object, properties: {t: {type: string}}}}",
		 "[{t: a}, {t: b}, {}]", "[{t: a}, {t: b}, {t: a}]",
		 "x[2]: the same t is in the list before"},
		{"{type: object, additionalProperties: {type: string}}", "{a.b: c}", "{a.b: 1}",
		 "x[\"a.b\"]: must be a string, is the number 1; put it in quotes"},
	};

	(void)state;
	assert_rows(rows, ASYA_ARRAY_SIZE(rows));
}

static void places_are_those_of_the_value_or_the_key(void **state)
{
	_arena_;
	static const char schema[] = "{type: object, properties: {a: {type: object, required: [q], "
				     "properties: {b: {type: string}}}}}";
	static const struct asya_place places[] = {{2, 3}, {4, 7}, {5, 4}};
	struct asya_findings f;

	(void)state;
	check(&f, arena, schema, "# a comment\n  a:\n  # another\n   b: 1\n   zz: 2\n");
	assert_int_equal(f.n, 3);
	for (size_t i = 0; i < 3; i++)
		assert_memory_equal(&f.items[i].place, &places[i], sizeof(places[i]));
}

static void defaults_fill_what_is_absent_or_null(void **state)
{
	static const struct {
		const char *schema, *text, *want;
	} rows[] = {
		{"{type: object, properties: {a: {type: integer, default: 5}}}", "{}", "{\"a\":5}"},
		{"{type: object, properties: {a: {type: integer, default: 5}}}", "{a: null}",
		 "{\"a\":5}"},
		{"{type: object, properties: {a: {type: integer, default: 5}}}", "{a: 0}",
		 "{\"a\":0}"},
		{"{type: object, properties: {a: {type: object, default: {}, properties: {b: "
		 "{type: string, default: x}}}}}",
		 "{}", "{\"a\":{\"b\":\"x\"}}"},
		{"{type: object, properties: {a: {type: object, properties: {b: {type: string, "
		 "default: x}}}}}",
		 "{}", "{}"},
		{"{type: array, items: {type: object, properties: {b: {type: string, default: "
		 "x}}}}",
		 "[{}, {b: z}]", "[{\"b\":\"x\"},{\"b\":\"z\"}]"},
		{"{type: object, additionalProperties: {type: object, properties: {b: {type: "
		 "string, default: x}}}}",
		 "{p: {}}", "{\"p\":{\"b\":\"x\"}}"},
		{"{type: object, x-kubernetes-preserve-unknown-fields: true}", "{p: {q: null}}",
		 "{\"p\":{\"q\":null}}"},
	};
	_arena_;

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		struct asya_buf out = {0};

		asya_tree_json_write(&out, asya_schema_default(arena, parse(arena, rows[i].schema),
							       parse(arena, rows[i].text)));
		asya_buf_char(&out, 0);
		assert_string_equal(out.p, rows[i].want);
		asya_buf_fini(&out);
	}
}

static void defaults_do_not_change_what_an_alias_shares(void **state)
{
	_arena_;
	const struct asya_tree *schema = parse(
		arena, "{type: object, properties: {a: {type: object, properties: {m: {type: "
		       "integer, default: 1}}}, b: {type: object, properties: {m: {type: integer, "
		       "default: 2}}}}}");
	struct asya_buf out = {0};

	(void)state;
	asya_tree_json_write(&out,
			     asya_schema_default(arena, schema, parse(arena, "{a: &x {}, b: *x}")));
	asya_buf_char(&out, 0);
	assert_string_equal(out.p, "{\"a\":{\"m\":1},\"b\":{\"m\":2}}");
	asya_buf_fini(&out);
}

static void findings_beyond_the_cap_are_counted(void **state)
{
	_arena_;
	struct asya_findings f;
	struct asya_buf b = {0}, out = {0};

	(void)state;
	for (int i = 0; i < ASYA_FINDINGS_MAX + 1; i++)
		asya_buf_c(&b, "- 1\n");
	asya_buf_char(&b, 0);
	check(&f, arena, "{type: array, items: {type: string}}", b.p);
	assert_int_equal(f.n, ASYA_FINDINGS_MAX);
	assert_int_equal(f.errors, ASYA_FINDINGS_MAX + 1);
	asya_manifest_report_write(&out, "f", ASYA_STR_NONE, &f, false);
	assert_true(asya_str_ends(asya_buf_view(&out), "\nf: 1 more findings are not shown\n"));
	asya_buf_fini(&b);
	asya_buf_fini(&out);
}

static void report(const char *text, struct asya_place place, bool as_json, const char *want)
{
	_arena_;
	struct asya_findings f;
	struct asya_buf out = {0};

	asya_findings_init(&f, arena);
	asya_findings_add(&f, ASYA_SEVERITY_WARNING, place, ASYA_STR("a.b"), "is \"%d\"", 5);
	asya_manifest_report_write(&out, "f.yaml", asya_str_c(text), &f, as_json);
	asya_buf_char(&out, 0);
	assert_string_equal(out.p, want);
	asya_buf_fini(&out);
}

static void reports_show_the_line_and_point_at_the_column(void **state)
{
	(void)state;
	report("x\na: 5\n", (struct asya_place){2, 4}, false,
	       "f.yaml:2:4: warning: a.b: is \"5\"\n    2 | a: 5\n      |    ^\n");
	report("\xC3\xA4: 5", (struct asya_place){1, 4}, false,
	       "f.yaml:1:4: warning: a.b: is \"5\"\n    1 | \xC3\xA4: 5\n      |    ^\n");
	report("\ta: 5\r\n", (struct asya_place){1, 5}, false,
	       "f.yaml:1:5: warning: a.b: is \"5\"\n    1 | \ta: 5\n      | \t   ^\n");
	report("a: \033[31m", (struct asya_place){1, 4}, false,
	       "f.yaml:1:4: warning: a.b: is \"5\"\n    1 | a: ?[31m\n      |    ^\n");
	report("a", (struct asya_place){7, 1}, false, "f.yaml:7:1: warning: a.b: is \"5\"\n");
	report("a", (struct asya_place){0, 0}, false, "f.yaml: warning: a.b: is \"5\"\n");
	report("a", (struct asya_place){1, 1}, true,
	       "{\"file\":\"f.yaml\",\"errors\":0,\"warnings\":1,\"findings\":[{\"severity\":"
	       "\"warning\",\"line\":1,\"column\":1,\"path\":\"a.b\",\"message\":\"is "
	       "\\\"5\\\"\"}]}\n");
}

static void a_long_line_is_shown_around_the_column(void **state)
{
	_arena_;
	struct asya_findings f;
	struct asya_buf out = {0}, line = {0};
	const char *caret;

	(void)state;
	for (int i = 0; i < 300; i++)
		asya_buf_char(&line, i == 250 ? 'X' : 'o');
	asya_findings_init(&f, arena);
	asya_findings_add(&f, ASYA_SEVERITY_ERROR, (struct asya_place){1, 251}, ASYA_STR(""), "t");
	asya_manifest_report_write(&out, "f", asya_buf_view(&line), &f, false);
	asya_buf_char(&out, 0);
	caret = strchr(out.p, '^');
	assert_non_null(strstr(out.p, "    1 | ...ooo"));
	assert_non_null(caret);
	/* The X stands above the caret. */
	assert_int_equal(strchr(out.p, 'X') - strstr(out.p, "    1 |"),
			 caret - strstr(out.p, "      |"));
	asya_buf_fini(&line);
	asya_buf_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(types_are_checked),
		cmocka_unit_test(numbers_and_lengths_have_limits),
		cmocka_unit_test(words_patterns_and_formats_are_checked),
		cmocka_unit_test(patterns_are_run_up_to_their_limit),
		cmocka_unit_test(members_are_required_known_or_handed_on),
		cmocka_unit_test(places_are_those_of_the_value_or_the_key),
		cmocka_unit_test(defaults_fill_what_is_absent_or_null),
		cmocka_unit_test(defaults_do_not_change_what_an_alias_shares),
		cmocka_unit_test(findings_beyond_the_cap_are_counted),
		cmocka_unit_test(reports_show_the_line_and_point_at_the_column),
		cmocka_unit_test(a_long_line_is_shown_around_the_column),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
