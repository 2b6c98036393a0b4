// SPDX-License-Identifier: Apache-2.0
/* From top to bottom: buffers, a strict JSON scanner, envelopes, requests and their replies. */
#include "asya_message.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_KEPT = 4 << 20 }; /* buffers that grew beyond this are given back */

#define VIEW(literal) ((struct asya_view){literal, sizeof(literal) - 1})

/* ---- buffers. Sizes are checked against the limits before; out of memory ends the worker. */

static void out_reserve(struct asya_out *b, size_t more)
{
	size_t room = b->room ? b->room : 1024;

	if (b->room - b->n >= more)
		return;
	while (room - b->n < more)
		room *= 2;
	b->p = realloc(b->p, room);
	if (!b->p)
		abort();
	b->room = room;
}

void asya_out_add(struct asya_out *b, const void *p, size_t n)
{
	out_reserve(b, n);
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void out_view(struct asya_out *b, struct asya_view v)
{
	asya_out_add(b, v.p, v.n);
}

/* Empties the buffer; one that a large message blew up is given back. */
static void out_reset(struct asya_out *b)
{
	b->n = 0;
	if (b->room <= ROOM_KEPT)
		return;
	free(b->p);
	*b = (struct asya_out){0};
}

static struct asya_view view_c(const char *text)
{
	return (struct asya_view){text, strlen(text)};
}

static bool view_is(struct asya_view v, const char *text)
{
	return v.n == strlen(text) && memcmp(v.p, text, v.n) == 0;
}

/* How many bytes the UTF-8 character at `p` has; 0 if there is none (RFC 3629: nothing overlong, no
 * surrogates, nothing above U+10FFFF). */
static size_t utf8_length(const char *text, size_t n)
{
	const unsigned char *p = (const unsigned char *)text;
	unsigned char low = 0x80, high = 0xBF;
	size_t length = p[0] < 0x80 ? 1 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;

	if (length == 1)
		return 1;
	if (p[0] < 0xC2 || p[0] > 0xF4 || n < length)
		return 0;
	if (p[0] == 0xE0)
		low = 0xA0;
	else if (p[0] == 0xED)
		high = 0x9F;
	else if (p[0] == 0xF0)
		low = 0x90;
	else if (p[0] == 0xF4)
		high = 0x8F;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if ((p[i] & 0xC0) != 0x80)
			return 0;
	return length;
}

void asya_message_quote(struct asya_out *b, struct asya_view v)
{
	char escape[8];

	asya_out_add(b, "\"", 1);
	for (size_t i = 0; i < v.n;) {
		unsigned char c = (unsigned char)v.p[i];
		size_t n = utf8_length(v.p + i, v.n - i);

		if (c == '"' || c == '\\')
			asya_out_add(b, escape, (size_t)snprintf(escape, sizeof escape, "\\%c", c));
		else if (c < 0x20)
			asya_out_add(b, escape,
				     (size_t)snprintf(escape, sizeof escape, "\\u%04x", c));
		else if (n == 0)
			out_view(b, VIEW("\\ufffd"));
		else
			asya_out_add(b, v.p + i, n);
		i += n ? n : 1;
	}
	asya_out_add(b, "\"", 1);
}

/* ---- JSON: checks a text strictly and finds the extents of top-level members; makes no values. */

struct scan {
	const char *start, *p, *end;
	const char *why; /* what is wrong at `p`, after a -1 */
	unsigned depth;
};

static int scan_value(struct scan *s);

static int scan_bad(struct scan *s, const char *why)
{
	s->why = why;
	return -1;
}

static void scan_space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
		s->p++;
}

static bool scan_at(const struct scan *s, char c)
{
	return s->p < s->end && *s->p == c;
}

static int scan_hex(struct scan *s, unsigned *ret)
{
	*ret = 0;
	for (int i = 0; i < 4; i++, s->p++) {
		unsigned char c = s->p < s->end ? (unsigned char)*s->p : 0;

		if (c >= '0' && c <= '9')
			*ret = *ret * 16 + c - '0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			*ret = *ret * 16 + (c | 0x20u) - 'a' + 10;
		else
			return scan_bad(s, "a \\u escape without four hex digits");
	}
	return 0;
}

/* At a backslash. */
static int scan_escape(struct scan *s)
{
	unsigned high, low;
	char c = 0;

	if (++s->p < s->end)
		c = *s->p++;
	if (c != 'u')
		return c && strchr("\"\\/bfnrt", c) ? 0 : scan_bad(s, "an unknown escape");
	if (scan_hex(s, &high))
		return -1;
	if (high < 0xD800 || high > 0xDFFF)
		return 0;
	if (high > 0xDBFF || s->end - s->p < 2 || s->p[0] != '\\' || s->p[1] != 'u')
		return scan_bad(s, "an unpaired surrogate escape");
	s->p += 2;
	if (scan_hex(s, &low))
		return -1;
	return low >= 0xDC00 && low <= 0xDFFF ? 0 : scan_bad(s, "an unpaired surrogate escape");
}

/* Over printable ASCII other than quote and backslash, eight bytes at a time. */
static void scan_plain(struct scan *s)
{
	const uint64_t each = UINT64_C(0x0101010101010101), top = each * 0x80;
	uint64_t w, quote, slash;

	for (; s->end - s->p >= 8; s->p += 8) {
		memcpy(&w, s->p, 8);
		quote = w ^ each * '"';
		slash = w ^ each * '\\';
		if ((w | (w - each * 0x20) | (quote - each) | (slash - each)) & top)
			return;
	}
}

/* At the opening quote; *ret is what stands between the quotes. */
static int scan_string(struct scan *s, struct asya_view *ret)
{
	const char *from = ++s->p;

	for (;;) {
		size_t n;

		scan_plain(s);
		if (s->p == s->end)
			return scan_bad(s, "a string without its end");
		if (*s->p == '"')
			break;
		if (*s->p == '\\') {
			if (scan_escape(s))
				return -1;
			continue;
		}
		if ((unsigned char)*s->p < 0x20)
			return scan_bad(s, "a control character in a string");
		n = utf8_length(s->p, (size_t)(s->end - s->p));
		if (n == 0)
			return scan_bad(s, "bytes that are not UTF-8");
		s->p += n;
	}
	*ret = (struct asya_view){from, (size_t)(s->p - from)};
	s->p++;
	return 0;
}

static int scan_digits(struct scan *s)
{
	const char *from = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return s->p > from ? 0 : scan_bad(s, "a number without a digit");
}

static int scan_number(struct scan *s)
{
	if (scan_at(s, '-'))
		s->p++;
	if (scan_at(s, '0'))
		s->p++;
	else if (scan_digits(s))
		return -1;
	if (scan_at(s, '.')) {
		s->p++;
		if (scan_digits(s))
			return -1;
	}
	if (!scan_at(s, 'e') && !scan_at(s, 'E'))
		return 0;
	s->p++;
	if (scan_at(s, '+') || scan_at(s, '-'))
		s->p++;
	return scan_digits(s);
}

static int scan_word(struct scan *s, struct asya_view word)
{
	if ((size_t)(s->end - s->p) < word.n || memcmp(s->p, word.p, word.n) != 0)
		return scan_bad(s, "an unexpected character");
	s->p += word.n;
	return 0;
}

/* Behind the opening bracket. */
static int scan_array(struct scan *s)
{
	scan_space(s);
	if (scan_at(s, ']')) {
		s->p++;
		return 0;
	}
	for (;;) {
		if (scan_value(s))
			return -1;
		scan_space(s);
		if (scan_at(s, ']'))
			break;
		if (!scan_at(s, ','))
			return scan_bad(s, "neither , nor ]");
		s->p++;
		scan_space(s);
	}
	s->p++;
	return 0;
}

/* Inside an object: 1: the next member; 0: the object has ended; -1: not JSON. */
static int scan_member(struct scan *s, bool *first, struct asya_view *key, struct asya_view *value)
{
	scan_space(s);
	if (scan_at(s, '}')) {
		s->p++;
		return 0;
	}
	if (!*first) {
		if (!scan_at(s, ','))
			return scan_bad(s, "neither , nor }");
		s->p++;
		scan_space(s);
	}
	*first = false;
	if (!scan_at(s, '"'))
		return scan_bad(s, "no member's name");
	if (scan_string(s, key))
		return -1;
	scan_space(s);
	if (!scan_at(s, ':'))
		return scan_bad(s, "no : after a member's name");
	s->p++;
	scan_space(s);
	value->p = s->p;
	if (scan_value(s))
		return -1;
	value->n = (size_t)(s->p - value->p);
	return 1;
}

/* Behind the opening brace. */
static int scan_object(struct scan *s)
{
	struct asya_view key, value;
	bool first = true;
	int more;

	while ((more = scan_member(s, &first, &key, &value)) == 1)
		continue;
	return more;
}

static int scan_nested(struct scan *s)
{
	bool array = *s->p == '[';
	int code;

	if (s->depth == ASYA_DEPTH_MAX)
		return scan_bad(s, "arrays and objects too deep in each other");
	s->depth++;
	s->p++;
	code = array ? scan_array(s) : scan_object(s);
	s->depth--;
	return code;
}

/* At a value's first byte. */
static int scan_value(struct scan *s)
{
	struct asya_view text;

	if (s->p == s->end)
		return scan_bad(s, "its end, too early");
	switch (*s->p) {
	case '{':
	case '[':
		return scan_nested(s);
	case '"':
		return scan_string(s, &text);
	case 't':
		return scan_word(s, VIEW("true"));
	case 'f':
		return scan_word(s, VIEW("false"));
	case 'n':
		return scan_word(s, VIEW("null"));
	default:
		return *s->p == '-' || (*s->p >= '0' && *s->p <= '9')
			       ? scan_number(s)
			       : scan_bad(s, "an unexpected character");
	}
}

/* Makes `s` ready to read `text`, up to its first value. */
static void scan_begin(struct scan *s, struct asya_view text)
{
	*s = (struct scan){.start = text.p, .p = text.p, .end = text.p + text.n};
	scan_space(s);
}

/* The same for an object, whose members scan_member then yields. */
static int scan_open(struct scan *s, struct asya_view text)
{
	scan_begin(s, text);
	if (!scan_at(s, '{'))
		return scan_bad(s, "no object");
	s->p++;
	s->depth = 1;
	return 0;
}

static int scan_end(struct scan *s)
{
	scan_space(s);
	return s->p == s->end ? 0 : scan_bad(s, "something behind the value");
}

static int scan_whole(struct scan *s, struct asya_view text, char type)
{
	scan_begin(s, text);
	if (type && !scan_at(s, type))
		return scan_bad(s, "no object");
	return scan_value(s) || scan_end(s) ? -1 : 0;
}

int asya_message_check(struct asya_view text, char type, struct asya_json_fault *fault)
{
	struct scan s;

	if (scan_whole(&s, text, type) == 0)
		return 0;
	*fault = (struct asya_json_fault){s.why, (size_t)(s.p - s.start)};
	return -1;
}

/* ---- envelopes */

static struct asya_view *parts_slot(struct asya_parts *e, struct asya_view key)
{
	if (view_is(key, "payload"))
		return &e->payload;
	if (view_is(key, "route"))
		return &e->route;
	if (view_is(key, "headers"))
		return &e->headers;
	return view_is(key, "id") ? &e->id : NULL;
}

/* 0, or -1 with what is wrong in s->why. */
static int parts_parse(struct asya_parts *ret, struct asya_view text, struct scan *s)
{
	struct asya_view key, value;
	bool first = true;
	int more;

	*ret = (struct asya_parts){.text = text};
	if (scan_open(s, text))
		return -1;
	while ((more = scan_member(s, &first, &key, &value)) == 1) {
		struct asya_view *slot = parts_slot(ret, key);

		if (slot && slot->p)
			return scan_bad(s, "a repeated member");
		if (slot)
			*slot = value;
	}
	if (more < 0 || scan_end(s))
		return -1;
	if (!ret->payload.p)
		return scan_bad(s, "an envelope without payload");
	if (ret->headers.p && view_is(ret->headers, "null"))
		ret->headers = (struct asya_view){0};
	return 0;
}

/* Appends `route` with its `current` one further, and nothing else changed. */
static int route_advance(struct asya_out *out, struct asya_view route, struct scan *s)
{
	struct asya_view key, value, current = {0};
	unsigned long n = 0;
	bool first = true;
	char text[24];
	int more;

	if (!route.p || scan_open(s, route))
		return scan_bad(s, "an envelope without route");
	while ((more = scan_member(s, &first, &key, &value)) == 1)
		if (view_is(key, "current"))
			current = value;
	if (more < 0)
		return -1;
	if (current.n == 0 || current.n > 9)
		return scan_bad(s, "a route without a current that counts actors");
	for (size_t i = 0; i < current.n; i++) {
		if (current.p[i] < '0' || current.p[i] > '9')
			return scan_bad(s, "a route without a current that counts actors");
		n = n * 10 + (unsigned long)(current.p[i] - '0');
	}
	asya_out_add(out, route.p, (size_t)(current.p - route.p));
	asya_out_add(out, text, (size_t)snprintf(text, sizeof text, "%lu", n + 1));
	current.p += current.n;
	asya_out_add(out, current.p, (size_t)(route.p + route.n - current.p));
	return 0;
}

/* ---- requests and their replies */

const char *asya_payload(const struct asya_request *req)
{
	return req->in.payload.p;
}

size_t asya_payload_len(const struct asya_request *req)
{
	return req->in.payload.n;
}

const char *asya_envelope(const struct asya_request *req)
{
	return req->in.text.p;
}

size_t asya_envelope_len(const struct asya_request *req)
{
	return req->in.text.n;
}

const char *asya_id(struct asya_request *req)
{
	struct asya_view id = req->in.id;
	size_t n = id.n < 2 || id.p[0] != '"' ? 0 : id.n - 2;

	n = n < sizeof req->id ? n : sizeof req->id - 1;
	if (n)
		memcpy(req->id, id.p + 1, n);
	req->id[n] = '\0';
	return req->id;
}

const char *asya_member(const struct asya_request *req, const char *key, size_t *n)
{
	struct asya_view name, value;
	bool first = true;
	struct scan s;

	if (scan_open(&s, req->in.text))
		return NULL;
	while (scan_member(&s, &first, &name, &value) == 1) {
		if (!view_is(name, key))
			continue;
		*n = value.n;
		return value.p;
	}
	return NULL;
}

__attribute__((format(printf, 4, 0))) static void
fail_va(struct asya_request *r, const char *code, const char *type, const char *format, va_list ap)
{
	if (r->failed)
		return;
	r->failed = true;
	r->code = code;
	snprintf(r->type, sizeof r->type, "%s", type ? type : "Error");
	vsnprintf(r->message, sizeof r->message, format, ap);
}

__attribute__((format(printf, 3, 4))) static int fail(struct asya_request *r, const char *type,
						      const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fail_va(r, "processing_error", type, format, ap);
	va_end(ap);
	return -1;
}

void asya_fail(struct asya_request *req, const char *type, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fail_va(req, "processing_error", type, format, ap);
	va_end(ap);
}

static void put_length(char *p, size_t n)
{
	for (int i = 0; i < ASYA_FRAME_HEAD; i++)
		p[i] = (char)(n >> (24 - 8 * i));
}

/* Begins a frame (`type` 0: of protocol 1); frame_end fills its length in. Returns where it begins.
 */
static size_t frame_begin(struct asya_out *out, char type)
{
	size_t at = out->n;

	out_reserve(out, ASYA_FRAME_HEAD + 1);
	out->n += ASYA_FRAME_HEAD;
	asya_out_add(out, &type, type ? 1 : 0);
	return at;
}

static void frame_end(struct asya_out *out, size_t at)
{
	put_length(out->p + at, out->n - at - ASYA_FRAME_HEAD);
}

void asya_message_begin(struct asya_request *r, int version)
{
	out_reset(&r->out);
	out_reset(&r->route);
	r->in = (struct asya_parts){0};
	r->version = version;
	r->items = 0;
	r->failed = false;
	if (version == 1)
		frame_begin(&r->out, 0);
}

void asya_message_refuse(struct asya_request *r, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fail_va(r, "msg_parsing_error", "ValueError", format, ap);
	va_end(ap);
}

int asya_message_parse(struct asya_request *r, struct asya_view text)
{
	struct scan s;

	if (parts_parse(&r->in, text, &s) == 0 &&
	    (r->version != 1 || route_advance(&r->route, r->in.route, &s) == 0))
		return 0;
	asya_message_refuse(r, "not an envelope: %s at byte %zu", s.why, (size_t)(s.p - s.start));
	return -1;
}

void asya_message_fini(struct asya_request *r)
{
	free(r->out.p);
	free(r->route.p);
	r->out = r->route = (struct asya_out){0};
}

static int check_text(struct asya_request *r, const char *what, struct asya_view text, char type)
{
	struct asya_json_fault fault;

	if (!text.p || asya_message_check(text, type, &fault) == 0)
		return 0;
	return fail(r, "InvalidJSON", "the %s emitted is not JSON: %s at byte %zu", what, fault.why,
		    fault.at);
}

static void put_item(struct asya_out *out, struct asya_view payload, struct asya_view route,
		     struct asya_view headers)
{
	out_reserve(out, payload.n + route.n + headers.n + 64);
	out_view(out, VIEW("{\"payload\":"));
	out_view(out, payload);
	if (route.p) {
		out_view(out, VIEW(",\"route\":"));
		out_view(out, route);
	}
	if (headers.p) {
		out_view(out, VIEW(",\"headers\":"));
		out_view(out, headers);
	}
	out_view(out, VIEW("}"));
}

static int check_item(struct asya_request *r, const struct asya_item *item)
{
	/* The request's own payload was checked when it came. */
	bool own = item->payload == r->in.payload.p && item->payload_len == r->in.payload.n;
	struct asya_view payload = {item->payload, item->payload_len};

	if (!payload.p)
		payload = VIEW("");
	if (r->failed || (!own && check_text(r, "payload", payload, 0)) ||
	    check_text(r, "route", (struct asya_view){item->route, item->route_len}, '{') ||
	    check_text(r, "headers", (struct asya_view){item->headers, item->headers_len}, '{'))
		return -1;
	return 0;
}

/* Whether the frame stays within the limit; in protocol 1 it holds all items. */
static int check_room(struct asya_request *r, struct asya_view payload, struct asya_view route,
		      struct asya_view headers)
{
	size_t names = strlen("I{\"payload\":}") + (route.p ? strlen(",\"route\":") : 0) +
		       (headers.p ? strlen(",\"headers\":") : 0);
	size_t used = names + (r->version == 1 ? r->out.n - ASYA_FRAME_HEAD + strlen("]") : 0);

	if (used <= r->limit && payload.n <= r->limit && route.n <= r->limit &&
	    headers.n <= r->limit && payload.n + route.n + headers.n <= r->limit - used)
		return 0;
	return fail(r, "MessageTooLarge",
		    "an item of %zu bytes emitted after %zu others: a frame has at most %zu",
		    payload.n, r->items, r->limit);
}

int asya_emit_item(struct asya_request *r, const struct asya_item *item)
{
	struct asya_view payload = {item->payload, item->payload_len};
	struct asya_view route = {item->route, item->route_len};
	struct asya_view headers = {item->headers, item->headers_len};
	size_t at = 0;

	if (check_item(r, item))
		return -1;
	if (r->version == 1 && !route.p)
		route = (struct asya_view){r->route.p, r->route.n};
	if (r->version == 1 && !headers.p)
		headers = r->in.headers;
	if (check_room(r, payload, route, headers))
		return -1;
	if (r->version == 1)
		asya_out_add(&r->out, r->items ? "," : "[", 1);
	else
		at = frame_begin(&r->out, 'I');
	put_item(&r->out, payload, route, headers);
	frame_end(&r->out, at);
	r->items++;
	if (r->version == 2 && r->out.n >= ASYA_FLUSH_AT && r->flush)
		r->flush(r);
	return 0;
}

int asya_emit(struct asya_request *req, const char *json, size_t n)
{
	return asya_emit_item(req, &(struct asya_item){.payload = json, .payload_len = n});
}

static void put_error(struct asya_request *r)
{
	struct asya_out *out = &r->out;

	out_view(out, VIEW("{\"error\":"));
	asya_message_quote(out, view_c(r->code));
	out_view(out, VIEW(",\"details\":{\"message\":"));
	asya_message_quote(out, view_c(r->message));
	out_view(out, VIEW(",\"type\":"));
	asya_message_quote(out, view_c(r->type));
	if (r->version == 2) {
		out_view(out, VIEW(",\"mro\":["));
		asya_message_quote(out, view_c(r->type));
		out_view(out, VIEW("]"));
	}
	out_view(out, VIEW(",\"traceback\":\"\"}}"));
}

void asya_message_end(struct asya_request *r)
{
	struct asya_out *out = &r->out;
	size_t at = 0;

	if (r->failed || r->version == 2) {
		out->n = r->failed ? 0 : out->n;
		at = frame_begin(out, r->version == 1 ? 0 : r->failed ? 'X' : 'E');
	}
	if (r->version == 1 && (r->failed || r->items == 0))
		out_view(out, VIEW("["));
	if (r->failed)
		put_error(r);
	else if (r->version == 2)
		out_view(out, VIEW("{}"));
	if (r->version == 1)
		out_view(out, VIEW("]"));
	frame_end(out, at);
}
