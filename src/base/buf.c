// SPDX-License-Identifier: Apache-2.0
#include "base/buf.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

void asya_buf_fini(struct asya_buf *b)
{
	free(b->p);
	*b = (struct asya_buf){0};
}

void asya_buf_reserve(struct asya_buf *b, size_t more)
{
	size_t room = b->room ? b->room * 2 : 256;

	if (b->room - b->n >= more)
		return;
	/* What is asked for at once is often all that there will be. */
	if (room - b->n < more)
		room = b->n + more;
	b->p = asya_realloc(b->p, room);
	b->room = room;
}

void asya_buf_add(struct asya_buf *b, const void *p, size_t n)
{
	if (!n)
		return;
	asya_buf_reserve(b, n);
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

void asya_buf_str(struct asya_buf *b, struct asya_str s)
{
	asya_buf_add(b, s.p, s.n);
}

void asya_buf_c(struct asya_buf *b, const char *s)
{
	asya_buf_add(b, s, strlen(s));
}

void asya_buf_char(struct asya_buf *b, char c)
{
	asya_buf_add(b, &c, 1);
}

void asya_buf_printf(struct asya_buf *b, const char *fmt, ...)
{
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (n < 0)
		abort();
	asya_buf_reserve(b, (size_t)n + 1);
	va_start(args, fmt);
	vsnprintf(b->p + b->n, (size_t)n + 1, fmt, args);
	va_end(args);
	b->n += (size_t)n;
}

void asya_buf_i64(struct asya_buf *b, int64_t v)
{
	char digits[24];
	int n = snprintf(digits, sizeof(digits), "%lld", (long long)v);

	asya_buf_add(b, digits, (size_t)n);
}

static void escape(struct asya_buf *b, unsigned char c)
{
	static const char shorts[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f',
				      ['\r'] = 'r', ['"'] = '"',  ['\\'] = '\\'};

	if (c < sizeof(shorts) && shorts[c]) {
		asya_buf_char(b, '\\');
		asya_buf_char(b, shorts[c]);
	} else {
		asya_buf_printf(b, "\\u%04x", c);
	}
}

/* Length of the longest valid UTF-8 sequence at p, 0 if the first byte starts none. */
static size_t valid_sequence(const char *p, size_t n)
{
	for (size_t len = 2; len <= 4 && len <= n; len++)
		if (asya_utf8_valid(p, len))
			return len;
	return 0;
}

void asya_buf_json(struct asya_buf *b, struct asya_str s)
{
	size_t start = 0;

	asya_buf_reserve(b, s.n + 2);
	asya_buf_char(b, '"');
	for (size_t i = 0; i < s.n;) {
		unsigned char c = (unsigned char)s.p[i];
		size_t len = c < 0x80 ? 1 : valid_sequence(s.p + i, s.n - i);

		if (len && c >= 0x20 && c != '"' && c != '\\') {
			i += len;
			continue;
		}
		asya_buf_add(b, s.p + start, i - start);
		if (len)
			escape(b, c);
		else
			asya_buf_c(b, "\xEF\xBF\xBD");
		start = ++i;
	}
	asya_buf_add(b, s.p + start, s.n - start);
	asya_buf_char(b, '"');
}

void asya_buf_base64(struct asya_buf *b, struct asya_str s)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < s.n; i += 3) {
		size_t n = s.n - i < 3 ? s.n - i : 3;
		unsigned v = 0;
		char out[4];

		for (size_t k = 0; k < 3; k++)
			v = v << 8 | (k < n ? (unsigned char)s.p[i + k] : 0);
		for (size_t k = 0; k < 4; k++)
			out[k] = k <= n ? digits[v >> (18 - 6 * k) & 63] : '=';
		asya_buf_add(b, out, 4);
	}
}

void asya_buf_shift(struct asya_buf *b, size_t n)
{
	memmove(b->p, b->p + n, b->n - n);
	b->n -= n;
}
