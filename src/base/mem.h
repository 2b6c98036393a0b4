// SPDX-License-Identifier: Apache-2.0
/*
 * Memory: one allocator whose failure ends the process, and cleanup attributes.
 *
 * Running out of memory is not an error that callers handle: an unacked message comes back, so
 * ending is safe. It follows that every size that comes from outside is checked against a limit
 * before it reaches these functions.
 */
#pragma once
#include <stddef.h>
#include <stdlib.h>

void *asya_malloc(size_t n) __attribute__((malloc, returns_nonnull));
void *asya_calloc(size_t count, size_t n) __attribute__((malloc, returns_nonnull));
void *asya_realloc(void *p, size_t n) __attribute__((returns_nonnull));
char *asya_strdup(const char *s) __attribute__((malloc, returns_nonnull));
char *asya_strndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *asya_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

#define asya_new0(type) ((type *)asya_calloc(1, sizeof(type)))

static inline void asya_freep(void *p)
{
	free(*(void **)p);
}

/* `_cleanup_(asya_freep) char *s = ...;` frees s when it leaves scope. */
#define _cleanup_(f) __attribute__((cleanup(f)))

/* Gives a pointer away: yields it and leaves NULL behind. */
#define take_ptr(p)                                                                                \
	({                                                                                         \
		__auto_type taken_ = (p);                                                          \
		(p) = NULL;                                                                        \
		taken_;                                                                            \
	})

#define ASYA_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define asya_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
