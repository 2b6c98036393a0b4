// SPDX-License-Identifier: Apache-2.0
/* A buffer that grows; also writes JSON strings. Zero-initialised is empty. The owner calls
 * asya_buf_fini. */
#pragma once
#include "base/str.h"

#include <stdint.h>

struct asya_buf {
	char *p;
	size_t n;
	size_t room;
};

void asya_buf_fini(struct asya_buf *b);
void asya_buf_reserve(struct asya_buf *b, size_t more);
void asya_buf_add(struct asya_buf *b, const void *p, size_t n);
void asya_buf_str(struct asya_buf *b, struct asya_str s);
void asya_buf_c(struct asya_buf *b, const char *s);
void asya_buf_char(struct asya_buf *b, char c);
void asya_buf_printf(struct asya_buf *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void asya_buf_i64(struct asya_buf *b, int64_t v);
/* The view as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD, so the output
 * is always valid. */
void asya_buf_json(struct asya_buf *b, struct asya_str s);
/* Base64 (RFC 4648, with padding). */
void asya_buf_base64(struct asya_buf *b, struct asya_str s);
/* Drops the first n bytes. */
void asya_buf_shift(struct asya_buf *b, size_t n);

static inline struct asya_str asya_buf_view(const struct asya_buf *b)
{
	return (struct asya_str){b->p ? b->p : "", b->n};
}
