// SPDX-License-Identifier: Apache-2.0
/* What a plain scalar is. The table and the numbers are those of YAML 1.1 as Go's yaml.v2 has them,
 * which Kubernetes uses: no base 60, no dates. */
#include "core/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

static const struct {
	const char *text;
	enum asya_tree_type type;
	bool boolean;
} words[] = {
	{"", ASYA_TREE_NULL, false},       {"~", ASYA_TREE_NULL, false},
	{"null", ASYA_TREE_NULL, false},   {"Null", ASYA_TREE_NULL, false},
	{"NULL", ASYA_TREE_NULL, false},   {"y", ASYA_TREE_BOOL, true},
	{"Y", ASYA_TREE_BOOL, true},       {"yes", ASYA_TREE_BOOL, true},
	{"Yes", ASYA_TREE_BOOL, true},     {"YES", ASYA_TREE_BOOL, true},
	{"true", ASYA_TREE_BOOL, true},    {"True", ASYA_TREE_BOOL, true},
	{"TRUE", ASYA_TREE_BOOL, true},    {"on", ASYA_TREE_BOOL, true},
	{"On", ASYA_TREE_BOOL, true},      {"ON", ASYA_TREE_BOOL, true},
	{"n", ASYA_TREE_BOOL, false},      {"N", ASYA_TREE_BOOL, false},
	{"no", ASYA_TREE_BOOL, false},     {"No", ASYA_TREE_BOOL, false},
	{"NO", ASYA_TREE_BOOL, false},     {"false", ASYA_TREE_BOOL, false},
	{"False", ASYA_TREE_BOOL, false},  {"FALSE", ASYA_TREE_BOOL, false},
	{"off", ASYA_TREE_BOOL, false},    {"Off", ASYA_TREE_BOOL, false},
	{"OFF", ASYA_TREE_BOOL, false},    {".nan", ASYA_TREE_NUMBER, false},
	{".NaN", ASYA_TREE_NUMBER, false}, {".NAN", ASYA_TREE_NUMBER, false},
};

/* Longer ones are no numbers that anybody meant. */
enum { DIGITS_MAX = 400 };

static bool is_infinity(struct asya_str s)
{
	if (s.n && (s.p[0] == '+' || s.p[0] == '-'))
		s = (struct asya_str){s.p + 1, s.n - 1};
	return asya_str_eq_c(s, ".inf") || asya_str_eq_c(s, ".Inf") || asya_str_eq_c(s, ".INF");
}

static int not_json(struct asya_arena *arena, struct asya_str plain, struct asya_error *err)
{
	return asya_error_set(err, ASYA_REJECT,
			      "%s is a number that JSON has no way to write; put it in quotes "
			      "if a string is meant",
			      asya_tree_shown(arena, plain));
}

static size_t digits_at(const char *s)
{
	return strspn(s, "0123456789");
}

/* Whether s is [-+] digits [. digits] [e [-+] digits], with digits before or after the point. */
static bool is_decimal(const char *s)
{
	size_t whole, part = 0;

	s += *s == '-' || *s == '+';
	whole = digits_at(s);
	s += whole;
	if (*s == '.') {
		part = digits_at(s + 1);
		s += 1 + part;
	}
	if (!whole && !part)
		return false;
	if (*s == 'e' || *s == 'E') {
		s += 1 + (s[1] == '-' || s[1] == '+');
		if (!digits_at(s))
			return false;
		s += digits_at(s);
	}
	return *s == 0;
}

/* As JSON has it: no plus, no zeros in front, digits on both sides of the point. */
static struct asya_str json_number(struct asya_arena *arena, const char *s)
{
	const char *sign = *s == '-' ? "-" : "", *rest;
	size_t whole;

	s += *s == '-' || *s == '+';
	whole = digits_at(s);
	while (whole > 1 && *s == '0') {
		s++;
		whole--;
	}
	rest = s + whole;
	if (whole == 1 && *s == '0' && !*rest)
		sign = "";
	if (*rest == '.' && !digits_at(rest + 1))
		rest++;
	return asya_arena_printf(arena, "%s%.*s%s", sign, whole ? (int)whole : 1, whole ? s : "0",
				 rest);
}

/* 0x, 0o, 0b or a leading 0, whose digits are all of that base and that fits 64 bits. */
static bool based(const char *s, unsigned long long *ret, bool *ret_negative)
{
	static const struct {
		char letters[3];
		int base;
		const char *digits;
	} rows[] = {{"xX", 16, "0123456789abcdefABCDEF"}, {"oO", 8, "01234567"}, {"bB", 2, "01"}};
	const char *digits = "01234567";
	int base = 8;

	*ret_negative = *s == '-';
	s += *s == '-' || *s == '+';
	if (*s++ != '0')
		return false;
	for (size_t i = 0; *s && i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (!strchr(rows[i].letters, *s))
			continue;
		base = rows[i].base;
		digits = rows[i].digits;
		s++;
		break;
	}
	if (!*s || s[strspn(s, digits)])
		return false;
	errno = 0;
	*ret = strtoull(s, NULL, base);
	return !errno && !(*ret_negative && *ret > (1ull << 63));
}

/* Without underscores. Behind a point one must stand between digits, as in Go. */
static bool strip(char *out, struct asya_str plain)
{
	bool point = plain.p[0] == '.';
	size_t n = 0;

	if (plain.n > DIGITS_MAX)
		return false;
	for (size_t i = 0; i < plain.n; i++) {
		if (plain.p[i] != '_')
			out[n++] = plain.p[i];
		else if (point && (!isdigit((unsigned char)plain.p[i - 1]) || i + 1 == plain.n ||
				   !isdigit((unsigned char)plain.p[i + 1])))
			return false;
	}
	out[n] = 0;
	return strlen(out) == n;
}

static void resolve_number(struct asya_tree *node, struct asya_arena *arena, struct asya_str plain)
{
	char digits[DIGITS_MAX + 1];
	unsigned long long value;
	bool negative;

	if (!strip(digits, plain))
		return;
	if (based(digits, &value, &negative)) {
		node->type = ASYA_TREE_NUMBER;
		node->text =
			asya_arena_printf(arena, "%s%llu", negative && value ? "-" : "", value);
	} else if (is_decimal(digits) && isfinite(strtod(digits, NULL))) {
		node->type = ASYA_TREE_NUMBER;
		node->text = json_number(arena, digits);
	}
}

int asya_yaml_resolve(struct asya_tree *node, struct asya_arena *arena, struct asya_str plain,
		      struct asya_error *err)
{
	node->raw = plain;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!asya_str_eq_c(plain, words[i].text))
			continue;
		if (words[i].type == ASYA_TREE_NUMBER)
			return not_json(arena, plain, err);
		node->type = words[i].type;
		node->boolean = words[i].boolean;
		return 0;
	}
	if (is_infinity(plain))
		return not_json(arena, plain, err);
	node->type = ASYA_TREE_STRING;
	node->text = plain;
	if (strchr("+-.0123456789", plain.p[0]))
		resolve_number(node, arena, plain);
	return 0;
}
