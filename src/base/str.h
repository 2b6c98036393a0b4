// SPDX-License-Identifier: Apache-2.0
/* Bytes as views with a length. A view borrows; who owns the bytes is said where the view is handed
 * over. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* `p` may be NULL only when there is no value at all; an empty value has a pointer and n == 0. Not
 * NUL-terminated. */
struct asya_str {
	const char *p;
	size_t n;
};

#define ASYA_STR(literal) ((struct asya_str){(literal), sizeof(literal) - 1})
#define ASYA_STR_NONE ((struct asya_str){NULL, 0})
/* For printf: `"%.*s", ASYA_STR_ARG(s)`; what is longer than 4 KiB is cut, messages stay readable.
 */
#define ASYA_STR_ARG(s) (int)((s).n > 4096 ? 4096 : (s).n), (s).p ? (s).p : ""

static inline struct asya_str asya_str_c(const char *s)
{
	return (struct asya_str){s, s ? strlen(s) : 0};
}

static inline bool asya_str_eq(struct asya_str a, struct asya_str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool asya_str_eq_c(struct asya_str a, const char *b)
{
	return asya_str_eq(a, asya_str_c(b));
}

static inline bool asya_str_starts(struct asya_str s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.n >= n && memcmp(s.p, prefix, n) == 0;
}

static inline bool asya_str_ends(struct asya_str s, const char *suffix)
{
	size_t n = strlen(suffix);

	return s.n >= n && memcmp(s.p + s.n - n, suffix, n) == 0;
}

/* Whether the bytes are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms, at most
 * U+10FFFF). */
bool asya_utf8_valid(const char *p, size_t n);

/* FNV-1a, 64 bit: for tables and seeds, never for anything an attacker may choose to collide. */
uint64_t asya_hash64(const void *p, size_t n);
