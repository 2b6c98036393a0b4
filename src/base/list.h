// SPDX-License-Identifier: Apache-2.0
/* A doubly linked list through the elements themselves. The head is a link too; an empty list
 * points at itself. */
#pragma once
#include "base/mem.h"

#include <stdbool.h>

struct asya_link {
	struct asya_link *prev, *next;
};

static inline void asya_list_init(struct asya_link *head)
{
	head->prev = head->next = head;
}

static inline bool asya_list_empty(const struct asya_link *head)
{
	return head->next == head;
}

static inline void asya_list_add_tail(struct asya_link *head, struct asya_link *l)
{
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

/* Takes it out; it may be taken out again without harm. */
static inline void asya_list_remove(struct asya_link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	asya_list_init(l);
}

static inline struct asya_link *asya_list_pop(struct asya_link *head)
{
	struct asya_link *l = head->next;

	if (l == head)
		return NULL;
	asya_list_remove(l);
	return l;
}

/* Moves all of `from` behind what is in `to`. Whether there was any. */
static inline bool asya_list_splice(struct asya_link *to, struct asya_link *from)
{
	if (asya_list_empty(from))
		return false;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	asya_list_init(from);
	return true;
}
