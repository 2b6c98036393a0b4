// SPDX-License-Identifier: Apache-2.0
#include "cli/hops.h"

#include "base/mem.h"
#include "core/json_scan.h"
#include "core/json_value.h"
#include "core/route.h"
#include "store/file/file.h"

#include <unistd.h>

enum { TRACE_DEPTH = 16, KEPT_MAX = 1 << 30 };

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

/* ---- hops that a message has carried with it ---- */

static int64_t number(struct asya_str raw)
{
	int64_t value = 0;

	for (size_t i = 0; i < raw.n && i < 18 && raw.p[i] >= '0' && raw.p[i] <= '9'; i++)
		value = value * 10 + (raw.p[i] - '0');
	return value;
}

struct carried {
	struct hops *h;
	struct asya_str id, parent;
	struct hop hop; /* that is being read */
};

static int carried_member(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	struct carried *c = user;

	(void)err;
	if (asya_str_eq_c(m->key, "actor"))
		(void)asya_json_string(&c->hop.actor, c->h->arena, m->value);
	else if (asya_str_eq_c(m->key, "received_us"))
		c->hop.received_us = number(m->value);
	else if (asya_str_eq_c(m->key, "settled_us"))
		c->hop.settled_us = number(m->value);
	else if (asya_str_eq_c(m->key, "attempt"))
		c->hop.attempt = (unsigned)number(m->value);
	return 0;
}

static int carried_hop(void *user, size_t i, struct asya_str raw, struct asya_error *err)
{
	struct carried *c = user;

	c->hop = (struct hop){
		.id = c->id, .parent = c->parent, .outcome = ASYA_STR("routed"), .attempt = 1};
	if (i >= ASYA_TRACE_HOPS_MAX ||
	    asya_json_members(raw, TRACE_DEPTH, carried_member, c, err) || !c->hop.actor.p)
		return 0; /* somebody else's; the rest may be well */
	*room_for_one(c->h) = c->hop;
	return 0;
}

/* Of the newest envelope of that id that an end actor has kept here. */
static int carried_read(struct hops *h, struct client *c, struct asya_str id, const char *prefix,
			struct asya_error *err)
{
	struct asya_limits limits = {KEPT_MAX, 10000, 1000000, 1000000, KEPT_MAX};
	const char *root = asya_arena_printf(h->arena, "%s/results", cli_dir(c->cli)).p;
	struct asya_file_found found;
	struct asya_envelope env;
	struct carried carried = {.h = h};
	struct asya_str trace;
	int code = asya_file_find(&found, h->arena, root, asya_str_c(prefix), id, KEPT_MAX, err);

	if (code)
		return code < 0 && access(root, F_OK) ? 0 : code < 0 ? -1 : 0;
	if (asya_envelope_parse(&env, h->arena, found.body, &limits, err))
		return -1;
	carried.id = env.id;
	carried.parent = env.parent_id;
	trace = asya_headers_get(env.headers, ASYA_HEADER_TRACE);
	if (trace.p)
		(void)asya_json_items(trace, TRACE_DEPTH, carried_hop, &carried, err);
	*room_for_one(h) = (struct hop){
		.id = env.id,
		.parent = env.parent_id,
		.actor = prefix[0] == 'e' ? ASYA_STR("error-end") : ASYA_STR("happy-end"),
		.outcome = ASYA_STR("final"),
		.detail = {found.path.p + strlen(root) + 1, found.path.n - strlen(root) - 1},
		.received_us = found.time_us,
		.settled_us = found.time_us,
		.attempt = 1};
	return 0;
}

static int carried_all(struct hops *h, struct client *c, struct asya_str id, struct asya_error *err)
{
	return carried_read(h, c, id, "happy-asya/", err) ||
			       carried_read(h, c, id, "error-asya/", err)
		       ? -1
		       : 0;
}

int hops_read(struct hops *h, struct client *c, struct asya_str id, bool below,
	      struct asya_str except, struct asya_error *err)
{
	struct reading r = {h, except};

	if (!c->transport->ops->history)
		return below ? 0 : carried_all(h, c, id, err);
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
