// SPDX-License-Identifier: Apache-2.0
#include "core/json_scan.h"

#include <endian.h>
#include <stdbool.h>

struct scan {
	const char *start;
	const char *p;
	const char *end;
	unsigned depth; /* how much deeper it may still go */
	struct asya_error *err;
};

static int value(struct scan *s);

static int bad(struct scan *s, const char *what)
{
	return asya_error_set(s->err, ASYA_REJECT, "not JSON: %s at byte %zu", what,
			      (size_t)(s->p - s->start));
}

static void space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
		s->p++;
}

static bool at(const struct scan *s, char c)
{
	return s->p < s->end && *s->p == c;
}

static int hex4(struct scan *s, unsigned *ret)
{
	unsigned v = 0;

	if (s->end - s->p < 4)
		return bad(s, "a \\u escape without four hex digits");
	for (int i = 0; i < 4; i++, s->p++) {
		char c = *s->p;

		if (c >= '0' && c <= '9')
			v = v * 16 + (unsigned)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			v = v * 16 + (unsigned)((c | 0x20) - 'a') + 10;
		else
			return bad(s, "a \\u escape without four hex digits");
	}
	*ret = v;
	return 0;
}

static int unicode_escape(struct scan *s)
{
	unsigned high, low;

	if (hex4(s, &high))
		return -1;
	if (high < 0xD800 || high > 0xDFFF)
		return 0;
	if (high > 0xDBFF || s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u')
		return bad(s, "an unpaired surrogate escape");
	s->p += 2;
	if (hex4(s, &low))
		return -1;
	return low >= 0xDC00 && low <= 0xDFFF ? 0 : bad(s, "an unpaired surrogate escape");
}

static int escape(struct scan *s)
{
	char c;

	s->p++;
	if (s->p == s->end)
		return bad(s, "a string without its closing quote");
	c = *s->p;
	if (c == 'u') {
		s->p++;
		return unicode_escape(s);
	}
	if (!c || !strchr("\"\\/bfnrt", c))
		return bad(s, "an unknown escape");
	s->p++;
	return 0;
}

/* Moves to the next byte that needs a look: a quote, a backslash, a control character, or one that
 * is not ASCII. Eight at a time: a borrow only reaches bytes above such a one, so the lowest mark
 * is always right. */
static void plain(struct scan *s)
{
	const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
	uint64_t w, quote, slash, marks;

	while (s->end - s->p >= 8) {
		memcpy(&w, s->p, 8);
		w = le64toh(w);
		quote = w ^ (ones * '"');
		slash = w ^ (ones * '\\');
		marks = (w | (w - ones * 0x20) | (quote - ones) | (slash - ones)) & tops;
		if (marks) {
			s->p += __builtin_ctzll(marks) / 8;
			return;
		}
		s->p += 8;
	}
	while (s->p < s->end && (unsigned char)*s->p >= 0x20 && (unsigned char)*s->p < 0x80 &&
	       *s->p != '"' && *s->p != '\\')
		s->p++;
}

/* Bytes of 0x80 and above up to the next ASCII byte. */
static int multibyte(struct scan *s)
{
	const char *from = s->p;

	while (s->p < s->end && (unsigned char)*s->p >= 0x80)
		s->p++;
	if (asya_utf8_valid(from, (size_t)(s->p - from)))
		return 0;
	s->p = from;
	return bad(s, "bytes that are not UTF-8");
}

/* At the opening quote; *ret is what stands between the quotes. */
static int string(struct scan *s, struct asya_str *ret)
{
	const char *from = ++s->p;

	for (;;) {
		plain(s);
		if (s->p == s->end)
			return bad(s, "a string without its closing quote");
		if (*s->p == '"')
			break;
		if ((unsigned char)*s->p < 0x20)
			return bad(s, "a control character in a string");
		if (*s->p == '\\' ? escape(s) : multibyte(s))
			return -1;
	}
	*ret = (struct asya_str){from, (size_t)(s->p - from)};
	s->p++;
	return 0;
}

static int digits(struct scan *s)
{
	const char *from = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return s->p == from ? bad(s, "a number without a digit") : 0;
}

static int number(struct scan *s)
{
	if (at(s, '-'))
		s->p++;
	if (at(s, '0'))
		s->p++;
	else if (digits(s))
		return -1;
	if (at(s, '.')) {
		s->p++;
		if (digits(s))
			return -1;
	}
	if (at(s, 'e') || at(s, 'E')) {
		s->p++;
		if (at(s, '+') || at(s, '-'))
			s->p++;
		return digits(s);
	}
	return 0;
}

static int word(struct scan *s, const char *text)
{
	size_t n = strlen(text);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, text, n) != 0)
		return bad(s, "an unexpected character");
	s->p += n;
	return 0;
}

/* At `"key"`: over the key, the colon and the value. */
static int member(struct scan *s, struct asya_json_member *ret)
{
	const char *from;

	if (!at(s, '"'))
		return bad(s, "a member without a quoted key");
	if (string(s, &ret->key))
		return -1;
	space(s);
	if (!at(s, ':'))
		return bad(s, "a member without a colon");
	s->p++;
	space(s);
	from = s->p;
	if (value(s))
		return -1;
	ret->value = (struct asya_str){from, (size_t)(s->p - from)};
	return 0;
}

/* After an element: 1 at a comma (moved over), 0 at `close` (moved over). */
static int next(struct scan *s, char close)
{
	space(s);
	if (at(s, ',')) {
		s->p++;
		space(s);
		return 1;
	}
	if (!at(s, close))
		return bad(s,
			   s->p == s->end ? "a text that is cut off" : "an unexpected character");
	s->p++;
	return 0;
}

static int enter(struct scan *s)
{
	if (!s->depth)
		return bad(s, "nested too deep");
	s->depth--;
	s->p++;
	space(s);
	return 0;
}

static int object(struct scan *s, asya_json_member_fn *fn, void *user)
{
	struct asya_json_member m;
	int more = 1;

	if (enter(s))
		return -1;
	if (at(s, '}')) {
		s->p++;
		more = 0;
	}
	while (more) {
		if (member(s, &m) || (fn && fn(user, &m, s->err)))
			return -1;
		more = next(s, '}');
		if (more < 0)
			return -1;
	}
	s->depth++;
	return 0;
}

static int array(struct scan *s, asya_json_item_fn *fn, void *user)
{
	const char *from;
	int more = 1;

	if (enter(s))
		return -1;
	if (at(s, ']')) {
		s->p++;
		more = 0;
	}
	for (size_t i = 0; more; i++) {
		from = s->p;
		if (value(s) ||
		    (fn && fn(user, i, (struct asya_str){from, (size_t)(s->p - from)}, s->err)))
			return -1;
		more = next(s, ']');
		if (more < 0)
			return -1;
	}
	s->depth++;
	return 0;
}

static int value(struct scan *s)
{
	struct asya_str ignored;

	if (s->p == s->end)
		return bad(s, "a text that is cut off");
	switch (*s->p) {
	case '{':
		return object(s, NULL, NULL);
	case '[':
		return array(s, NULL, NULL);
	case '"':
		return string(s, &ignored);
	case 't':
		return word(s, "true");
	case 'f':
		return word(s, "false");
	case 'n':
		return word(s, "null");
	default:
		if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9'))
			return number(s);
		return bad(s, "an unexpected character");
	}
}

static struct scan scan_of(struct asya_str text, unsigned max_depth, struct asya_error *err)
{
	struct scan s = {text.p, text.p, text.p + text.n, max_depth, err};

	space(&s);
	return s;
}

static int ended(struct scan *s)
{
	space(s);
	return s->p == s->end ? 0 : bad(s, "something after the value");
}

int asya_json_check(struct asya_str text, unsigned max_depth, struct asya_error *err)
{
	struct scan s = scan_of(text, max_depth, err);

	return value(&s) ? -1 : ended(&s);
}

int asya_json_members(struct asya_str text, unsigned max_depth, asya_json_member_fn *fn, void *user,
		      struct asya_error *err)
{
	struct scan s = scan_of(text, max_depth, err);

	if (!at(&s, '{'))
		return bad(&s, s.p == s.end ? "an empty text" : "not an object");
	return object(&s, fn, user) ? -1 : ended(&s);
}

int asya_json_items(struct asya_str text, unsigned max_depth, asya_json_item_fn *fn, void *user,
		    struct asya_error *err)
{
	struct scan s = scan_of(text, max_depth, err);

	if (!at(&s, '['))
		return bad(&s, s.p == s.end ? "an empty text" : "not an array");
	return array(&s, fn, user) ? -1 : ended(&s);
}
