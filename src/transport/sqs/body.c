// SPDX-License-Identifier: Apache-2.0
#include "transport/sqs/body.h"

#include "base/mem.h"
#include "base/sha256.h"
#include "core/envelope.h"
#include "core/json_scan.h"
#include "core/json_value.h"
#include "core/route.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

enum { HASH_DIGITS = 16, DEPTH = 10000, GROUP_MAX = 128 };

struct asya_str sqs_queue_name(struct asya_arena *arena, const char *space, struct asya_str actor,
			       bool dead, bool fifo)
{
	const char *end = dead ? fifo ? "-dlq.fifo" : "-dlq" : fifo ? ".fifo" : "";
	struct asya_str name = asya_arena_printf(arena, "asya-%s%s%.*s", space, *space ? "_" : "",
						 ASYA_STR_ARG(actor));
	char hex[ASYA_SHA256_HEX];

	if (name.n + strlen(end) <= SQS_NAME_MAX)
		return asya_arena_printf(arena, "%.*s%s", ASYA_STR_ARG(name), end);
	/* no label has an underscore: a hashed name is the name of nothing else */
	asya_sha256_hex(hex, name);
	name.n = SQS_NAME_MAX - strlen(end) - 1 - HASH_DIGITS;
	return asya_arena_printf(arena, "%.*s_%.*s%s", ASYA_STR_ARG(name), HASH_DIGITS, hex, end);
}

/* ---- bodies ---- */

static const char *find_noncharacter(const char *p, const char *end)
{
	while ((p = memchr(p, 0xef, (size_t)(end - p)))) {
		if (end - p >= 3 && (unsigned char)p[1] == 0xbf && (unsigned char)p[2] >= 0xbe)
			return p;
		p++;
	}
	return NULL;
}

/* A high bit in each of eight bytes below 0x20; a byte above such a one may have one, too. */
static uint64_t controls(uint64_t v)
{
	return (v - 0x2020202020202020) & ~v & 0x8080808080808080;
}

static uint64_t load(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static bool has_controls(struct asya_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c;

		while (s.n - i > 8 && !controls(load(s.p + i)))
			i += 8;
		c = (unsigned char)s.p[i];
		if (c < 0x20 && c != '\t' && c != '\n' && c != '\r')
			return true;
	}
	return false;
}

/* Whether none of the eight bytes has to be escaped in a JSON string. */
static bool plain(uint64_t v)
{
	const uint64_t ones = 0x0101010101010101;
	uint64_t quote = v ^ ones * '"', slash = v ^ ones * '\\';

	return !(controls(v) ||
		 (((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & 0x8080808080808080);
}

/* UTF-8 without controls but tab, line feed and carriage return. */
static void write_string(struct asya_buf *out, struct asya_str s)
{
	size_t start = 0, i = 0;

	asya_buf_reserve(out, s.n + s.n / 8 + 2);
	asya_buf_char(out, '"');
	while (i < s.n) {
		char c = s.p[i];

		if (s.n - i >= 8 && plain(load(s.p + i))) {
			i += 8;
			continue;
		}
		if (c == '"' || c == '\\' || (unsigned char)c < 0x20) {
			const char two[] = {'\\', c == '\n'   ? 'n'
						  : c == '\r' ? 'r'
						  : c == '\t' ? 't'
							      : c};

			asya_buf_add(out, s.p + start, i - start);
			asya_buf_add(out, two, 2);
			start = i + 1;
		}
		i++;
	}
	asya_buf_add(out, s.p + start, s.n - start);
	asya_buf_char(out, '"');
}

enum sqs_form sqs_body_form(struct asya_str body, size_t *ret_bytes)
{
	const char *p = body.p, *end = body.p + body.n;
	struct asya_error ignored;

	*ret_bytes = body.n;
	if (!body.n) {
		*ret_bytes = 1;
		return SQS_EMPTY;
	}
	if (asya_utf8_valid(body.p, body.n) && !has_controls(body)) {
		if (!find_noncharacter(p, end))
			return SQS_PLAIN;
		if (asya_json_check(body, DEPTH, &ignored) == 0) {
			for (; (p = find_noncharacter(p, end)); p += 3)
				*ret_bytes += 3;
			return SQS_ESCAPED;
		}
	}
	*ret_bytes = (body.n + 2) / 3 * 4;
	return SQS_BASE64;
}

static void write_escaped(struct asya_buf *out, struct asya_str body)
{
	const char *p = body.p, *end = body.p + body.n, *at;
	struct asya_buf b = {0};

	for (; (at = find_noncharacter(p, end)); p = at + 3) {
		asya_buf_add(&b, p, (size_t)(at - p));
		asya_buf_c(&b, (unsigned char)at[2] == 0xbe ? "\\ufffe" : "\\uffff");
	}
	asya_buf_add(&b, p, (size_t)(end - p));
	write_string(out, asya_buf_view(&b));
	asya_buf_fini(&b);
}

void sqs_body_write(struct asya_buf *out, struct asya_str body, enum sqs_form form)
{
	switch (form) {
	case SQS_PLAIN:
		write_string(out, body);
		break;
	case SQS_ESCAPED:
		write_escaped(out, body);
		break;
	case SQS_BASE64:
		asya_buf_char(out, '"');
		asya_buf_base64(out, body);
		asya_buf_char(out, '"');
		break;
	case SQS_EMPTY:
		asya_buf_c(out, "\"-\"");
		break;
	}
}

const char *sqs_form_name(enum sqs_form form)
{
	return form == SQS_BASE64 ? "base64" : form == SQS_EMPTY ? "empty" : NULL;
}

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static char *base64_read(struct asya_str text, size_t *ret_n)
{
	char *out = asya_malloc(text.n / 4 * 3 + 3);
	unsigned bits = 0;
	int have = 0;
	size_t n = 0;

	while (text.n && text.p[text.n - 1] == '=')
		text.n--;
	for (size_t i = 0; i < text.n; i++) {
		int v = base64_value(text.p[i]);

		if (v < 0) {
			free(out);
			return NULL;
		}
		bits = bits << 6 | (unsigned)v;
		have += 6;
		if (have >= 8)
			out[n++] = (char)(bits >> (have -= 8));
	}
	*ret_n = n;
	return out;
}

char *sqs_body_read(struct asya_str text, struct asya_str encoding, size_t *ret_n)
{
	if (asya_str_eq_c(encoding, "base64"))
		return base64_read(text, ret_n);
	if (asya_str_eq_c(encoding, "empty"))
		text.n = 0;
	else if (encoding.n)
		return NULL;
	*ret_n = text.n;
	return asya_strndup(text.p, text.n);
}

/* ---- FIFO ---- */

struct tenant {
	struct asya_arena *arena;
	struct asya_str found;
};

static int find_tenant(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	struct tenant *t = user;

	(void)err;
	if (asya_str_eq_c(m->key, "tenant") && asya_json_is_string(m->value))
		(void)asya_json_string(&t->found, t->arena, m->value);
	return 0;
}

/* SQS takes letters, digits and punctuation of ASCII, 128 at most. */
static void write_group(char group[GROUP_MAX + 1], struct asya_str s)
{
	bool good = s.n && s.n <= GROUP_MAX;

	for (size_t i = 0; good && i < s.n; i++)
		good = isgraph((unsigned char)s.p[i]) && (unsigned char)s.p[i] < 128;
	if (good)
		snprintf(group, GROUP_MAX + 1, "%.*s", ASYA_STR_ARG(s));
	else
		asya_sha256_hex(group, s);
}

void sqs_group_write(char group[GROUP_MAX + 1], char dedup[65], struct asya_str body, bool dead,
		     uint64_t salt)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct asya_limits limits = ASYA_LIMITS_DEFAULT;
	struct tenant tenant = {.arena = arena};
	struct asya_attempt attempt;
	struct asya_envelope env;
	struct asya_error ignored;

	limits.depth = DEPTH;
	if (asya_envelope_parse(&env, arena, body, &limits, &ignored)) {
		struct asya_str text = asya_arena_printf(arena, "%016" PRIx64, salt);

		asya_sha256_hex(dedup, text);
		write_group(group, text);
		return;
	}
	asya_attempt_read(&attempt, arena, &env);
	if (env.headers.p)
		(void)asya_json_members(env.headers, DEPTH, find_tenant, &tenant, &ignored);
	write_group(group, tenant.found.n ? tenant.found : env.id);
	asya_sha256_hex(dedup,
			asya_arena_printf(arena, "%.*s\n%zu\n%u\n%u\n%d", ASYA_STR_ARG(env.id),
					  env.route.current, attempt.n, attempt.redrives, dead));
}
