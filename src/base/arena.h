// SPDX-License-Identifier: Apache-2.0
/* An arena: memory that is freed together. One per message; what lives longer is copied out. Not
 * for sharing between threads. */
#pragma once
#include "base/str.h"

#include <stddef.h>

struct asya_arena;
struct asya_buf;

struct asya_arena *asya_arena_new(void);
/* NULL is fine. Returns NULL. */
struct asya_arena *asya_arena_free(struct asya_arena *arena);
void asya_arena_freep(struct asya_arena **arena);

/* Never NULL; aligned for any type. Lives until the arena is freed. */
void *asya_arena_alloc(struct asya_arena *arena, size_t n);
void *asya_arena_zalloc(struct asya_arena *arena, size_t n);
/* Copies, with a NUL behind (not counted in n). A view without a value stays one. */
struct asya_str asya_arena_str(struct asya_arena *arena, struct asya_str s);
char *asya_arena_cstr(struct asya_arena *arena, struct asya_str s);
struct asya_str asya_arena_printf(struct asya_arena *arena, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* The bytes of a buffer, which is empty afterwards. No NUL behind. */
struct asya_str asya_arena_buf(struct asya_arena *arena, struct asya_buf *take_b);
/* Bytes taken from the system by this arena, for memory accounting. */
size_t asya_arena_size(const struct asya_arena *arena);

#define asya_arena_new0(arena, type) ((type *)asya_arena_zalloc(arena, sizeof(type)))
#define asya_arena_array(arena, type, count)                                                       \
	((type *)asya_arena_zalloc(arena, sizeof(type) * (count)))
