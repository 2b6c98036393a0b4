// SPDX-License-Identifier: Apache-2.0
#include "base/arena.h"

#include "base/buf.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

/* The first block is smaller: most messages wait with little more than what was read of them. */
enum { FIRST_SIZE = 2048, BLOCK_SIZE = 4096, ALIGNMENT = 16 };

struct block {
	struct block *next;
	size_t size;
	size_t used;
	_Alignas(ALIGNMENT) char data[];
};

/* A buffer that was given to the arena. */
struct taken {
	struct taken *next;
	char *p;
};

struct asya_arena {
	struct block *blocks; /* the newest first; only it is filled further */
	struct taken *taken;
	size_t size;
};

static struct block *block_new(struct asya_arena *arena, size_t size)
{
	struct block *b = asya_malloc(sizeof(*b) + size);

	b->size = size;
	b->used = 0;
	arena->size += sizeof(*b) + size;
	return b;
}

/* The arena itself is the first thing in its first block. */
struct asya_arena *asya_arena_new(void)
{
	struct asya_arena *arena;
	struct block *first;

	first = asya_malloc(FIRST_SIZE);
	first->next = NULL;
	first->size = FIRST_SIZE - sizeof(*first);
	first->used = (sizeof(*arena) + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	arena = (struct asya_arena *)(void *)first->data;
	*arena = (struct asya_arena){.blocks = first, .size = FIRST_SIZE};
	return arena;
}

struct asya_arena *asya_arena_free(struct asya_arena *arena)
{
	struct block *next;

	if (!arena)
		return NULL;
	for (struct taken *t = arena->taken; t; t = t->next)
		free(t->p);
	for (struct block *b = arena->blocks; b; b = next) {
		next = b->next;
		free(b);
	}
	return NULL;
}

void asya_arena_freep(struct asya_arena **arena)
{
	*arena = asya_arena_free(*arena);
}

/* A block of its own for what is large, put behind the newest so that the newest keeps its room. */
static void *alloc_large(struct asya_arena *arena, size_t n)
{
	struct block *b = block_new(arena, n);

	b->used = n;
	b->next = arena->blocks->next;
	arena->blocks->next = b;
	return b->data;
}

void *asya_arena_alloc(struct asya_arena *arena, size_t n)
{
	struct block *b = arena->blocks;
	void *p;

	n = (n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	if (b->size - b->used < n) {
		if (n > BLOCK_SIZE / 4)
			return alloc_large(arena, n);
		b = block_new(arena, BLOCK_SIZE);
		b->next = arena->blocks;
		arena->blocks = b;
	}
	p = b->data + b->used;
	b->used += n;
	return p;
}

void *asya_arena_zalloc(struct asya_arena *arena, size_t n)
{
	return memset(asya_arena_alloc(arena, n), 0, n);
}

struct asya_str asya_arena_str(struct asya_arena *arena, struct asya_str s)
{
	if (!s.p)
		return s;
	return (struct asya_str){asya_arena_cstr(arena, s), s.n};
}

char *asya_arena_cstr(struct asya_arena *arena, struct asya_str s)
{
	char *copy = asya_arena_alloc(arena, s.n + 1);

	if (s.n)
		memcpy(copy, s.p, s.n);
	copy[s.n] = '\0';
	return copy;
}

struct asya_str asya_arena_printf(struct asya_arena *arena, const char *fmt, ...)
{
	va_list args;
	char *text;
	int n;

	va_start(args, fmt);
	n = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (n < 0)
		abort();
	text = asya_arena_alloc(arena, (size_t)n + 1);
	va_start(args, fmt);
	vsnprintf(text, (size_t)n + 1, fmt, args);
	va_end(args);
	return (struct asya_str){text, (size_t)n};
}

struct asya_str asya_arena_buf(struct asya_arena *arena, struct asya_buf *take_b)
{
	struct asya_str s = asya_buf_view(take_b);
	struct taken *t;

	if (s.n < BLOCK_SIZE / 4) {
		s = asya_arena_str(arena, s);
		asya_buf_fini(take_b);
		return s;
	}
	t = asya_arena_alloc(arena, sizeof(*t));
	*t = (struct taken){arena->taken, take_b->p};
	arena->taken = t;
	arena->size += take_b->room;
	*take_b = (struct asya_buf){0};
	return s;
}

size_t asya_arena_size(const struct asya_arena *arena)
{
	return arena->size;
}
