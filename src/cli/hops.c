// SPDX-License-Identifier: Apache-2.0
#include "cli/hops.h"

#include "base/mem.h"

struct reading {
	struct hops *h;
	struct asya_str except;
};

static struct hop *room_for_one(struct hops *h)
{
	if (h->n == h->room) {
		size_t room = h->room ? h->room * 2 : 64;
		struct hop *more = asya_arena_array(h->arena, struct hop, room);

		if (h->n)
			memcpy(more, h->items, h->n * sizeof(*more));
		h->items = more;
		h->room = room;
	}
	return &h->items[h->n++];
}

static struct asya_str kept(struct hops *h, struct asya_str s)
{
	s.n = s.n > HOP_DETAIL_MAX ? HOP_DETAIL_MAX : s.n;
	return asya_arena_str(h->arena, s);
}

static void add(void *user, const struct asya_hop_row *row)
{
	struct reading *r = user;
	struct hops *h = r->h;

	if (r->except.p && asya_str_eq(row->hop.id, r->except))
		return;
	if (h->n >= HOPS_MAX) {
		h->more++;
		return;
	}
	*room_for_one(h) = (struct hop){.id = kept(h, row->hop.id),
					.parent = kept(h, row->hop.parent_id),
					.root = kept(h, row->hop.root),
					.actor = kept(h, row->actor),
					.outcome = kept(h, row->hop.outcome),
					.detail = kept(h, row->hop.detail),
					.received_us = row->hop.received_us,
					.settled_us = row->hop.settled_us,
					.attempt = row->hop.attempt};
}

int hops_read(struct hops *h, struct client *c, struct asya_str id, bool below,
	      struct asya_str except, struct asya_error *err)
{
	struct reading r = {h, except};

	if (!c->transport->ops->history)
		return 0;
	return c->transport->ops->history(c->transport, id, below, add, &r, err);
}

enum hop_state hop_state(const struct hop *h)
{
	if (asya_str_eq_c(h->outcome, "dead"))
		return HOP_DEAD;
	if (!asya_str_eq_c(h->outcome, "final"))
		return HOP_UNDER_WAY;
	return asya_str_eq_c(h->actor, "error-end") || asya_str_starts(h->detail, "error-asya/")
		       ? HOP_FAILED
		       : HOP_KEPT;
}
