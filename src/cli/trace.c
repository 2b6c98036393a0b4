// SPDX-License-Identifier: Apache-2.0
/*
 * asya trace: every hop of an envelope and of all that came of it, as a tree of messages.
 *
 * A message waited from when the hop before it was settled until somebody took it. What comes
 * before a child's first hop is the hop of its parent that fanned out: the latest one that was
 * settled before, or, where several were, the one behind which the parent went to the same actor.
 */
#include "cli/commands.h"
#include "cli/hops.h"
#include "cli/look.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>

enum { CLIMB_MAX = 64, DEPTH_MAX = 40, CHILDREN_SHOWN = 10, BAR = 30, DETAIL_SHOWN = 60 };

/* One message: its hops stand side by side. */
struct node {
	struct hop *hops;
	size_t n;
	struct node *parent, *children, *last_child, *next;
	size_t n_children;
};

struct tracing {
	struct cli *cli;
	struct client client;
	struct hops hops;
	struct node *nodes;
	size_t n_nodes;
	int64_t begin_us, end_us;
	bool pretty, all;

	uint64_t under_way, failed;
	int64_t waited_us, took_us;
};

/* ---- reading ---- */

/* The id above which nothing is known: the root that it was sent with, or the last parent. */
static int climb(struct tracing *t, struct asya_str *id, struct asya_error *err)
{
	for (size_t i = 0; i < CLIMB_MAX; i++) {
		struct hops h = {.arena = t->cli->arena};
		struct asya_str up;

		if (hops_read(&h, &t->client, *id, false, ASYA_STR_NONE, err))
			return -1;
		if (!h.n)
			return 0;
		up = h.items[0].root.n ? h.items[0].root : h.items[h.n - 1].parent;
		if (!up.n || asya_str_eq(up, *id))
			return 0;
		*id = up;
	}
	return 0;
}

static int by_message(const void *a, const void *b)
{
	const struct hop *x = a, *y = b;
	size_t n = x->id.n < y->id.n ? x->id.n : y->id.n;
	int order = memcmp(x->id.p, y->id.p, n);

	if (order || x->id.n != y->id.n)
		return order ? order : x->id.n < y->id.n ? -1 : 1;
	return x->settled_us != y->settled_us
		       ? (x->settled_us < y->settled_us ? -1 : 1)
		       : (x->received_us > y->received_us) - (x->received_us < y->received_us);
}

static struct node *find(const struct tracing *t, struct asya_str id)
{
	size_t low = 0, high = t->n_nodes;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		struct asya_str at = t->nodes[middle].hops->id;
		int order = memcmp(at.p, id.p, at.n < id.n ? at.n : id.n);

		if (!order && at.n == id.n)
			return &t->nodes[middle];
		if (order < 0 || (!order && at.n < id.n))
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static void make_nodes(struct tracing *t)
{
	struct hop *hops = t->hops.items;

	qsort(hops, t->hops.n, sizeof(*hops), by_message);
	t->nodes = asya_arena_array(t->cli->arena, struct node, t->hops.n);
	for (size_t i = 0; i < t->hops.n; i++) {
		if (!i || !asya_str_eq(hops[i].id, hops[i - 1].id))
			t->nodes[t->n_nodes++].hops = &hops[i];
		t->nodes[t->n_nodes - 1].n++;
	}
}

static void add_child(struct node *parent, struct node *child)
{
	child->parent = parent;
	if (parent->last_child)
		parent->last_child->next = child;
	else
		parent->children = child;
	parent->last_child = child;
	parent->n_children++;
}

/* In the order in which they were made, as far as the first hops tell. */
static int by_time(const void *a, const void *b)
{
	const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;

	if (x->hops->received_us != y->hops->received_us)
		return x->hops->received_us < y->hops->received_us ? -1 : 1;
	return by_message(x->hops, y->hops);
}

static void make_tree(struct tracing *t)
{
	struct node **order = asya_arena_array(t->cli->arena, struct node *, t->n_nodes);

	for (size_t i = 0; i < t->n_nodes; i++)
		order[i] = &t->nodes[i];
	qsort(order, t->n_nodes, sizeof(struct node *), by_time);
	for (size_t i = 0; i < t->n_nodes; i++) {
		struct asya_str up = order[i]->hops[order[i]->n - 1].parent;
		struct node *parent = up.n ? find(t, up) : NULL;

		if (parent && parent != order[i])
			add_child(parent, order[i]);
	}
}

/* ---- times ---- */

static bool goes_to(const struct node *n, size_t i, struct asya_str actor)
{
	return i + 1 < n->n && asya_str_eq(n->hops[i + 1].actor, actor);
}

/* When the child was put into its first queue; 0: not known. */
static int64_t made_us(const struct node *child)
{
	const struct node *p = child->parent;
	int64_t at = 0, fits = 0;

	for (size_t i = 0; p && i < p->n && p->hops[i].settled_us <= child->hops->received_us;
	     i++) {
		at = p->hops[i].settled_us;
		if (!fits && goes_to(p, i, child->hops->actor))
			fits = at;
	}
	return fits ? fits : at;
}

static int64_t waited_us(const struct node *n, size_t i)
{
	int64_t since = i ? n->hops[i - 1].settled_us : made_us(n);
	int64_t us = n->hops[i].received_us - since;

	if (!since || !n->hops[i].actor.n)
		return -1;
	return us > 0 ? us : 0;
}

static int64_t took_us(const struct hop *h)
{
	int64_t us = h->settled_us - h->received_us;

	if (!h->actor.n)
		return -1;
	return us > 0 ? us : 0;
}

static enum hop_state state_of(const struct node *n)
{
	return hop_state(&n->hops[n->n - 1]);
}

static void sum_up(struct tracing *t)
{
	t->begin_us = INT64_MAX;
	for (size_t k = 0; k < t->n_nodes; k++) {
		const struct node *n = &t->nodes[k];
		enum hop_state state = state_of(n);

		t->under_way += state == HOP_UNDER_WAY;
		t->failed += state == HOP_FAILED || state == HOP_DEAD;
		for (size_t i = 0; i < n->n; i++) {
			int64_t waited = waited_us(n, i), took = took_us(&n->hops[i]);

			t->waited_us += waited > 0 ? waited : 0;
			t->took_us += took > 0 ? took : 0;
			if (n->hops[i].received_us < t->begin_us)
				t->begin_us = n->hops[i].received_us;
			if (n->hops[i].settled_us > t->end_us)
				t->end_us = n->hops[i].settled_us;
		}
	}
}

/* ---- JSON ---- */

static void write_json(struct asya_buf *b, const struct node *n, size_t i)
{
	const struct hop *h = &n->hops[i];
	int64_t waited = waited_us(n, i), took = took_us(h);

	asya_buf_c(b, "{\"id\":");
	asya_buf_json(b, h->id);
	look_json_str(b, "parent_id", h->parent);
	look_json_str(b, "root", h->root);
	if (h->actor.n)
		look_json_str(b, "actor", h->actor);
	look_json_str(b, "outcome", h->outcome);
	look_json_str(b, "detail", h->detail);
	asya_buf_printf(b, ",\"attempt\":%u", h->attempt);
	look_json_time(b, "received", h->received_us);
	look_json_time(b, "settled", h->settled_us);
	if (waited >= 0)
		asya_buf_printf(b, ",\"waited_ms\":%.3f", (double)waited / 1000);
	if (took >= 0)
		asya_buf_printf(b, ",\"took_ms\":%.3f", (double)took / 1000);
	asya_buf_c(b, "}\n");
}

static void print_json(const struct tracing *t)
{
	struct asya_buf b = {0};

	for (size_t k = 0; k < t->n_nodes && !look_broken(); k++)
		for (size_t i = 0; i < t->nodes[k].n; i++) {
			write_json(&b, &t->nodes[k], i);
			look_print(&b);
		}
	asya_buf_fini(&b);
}

/* ---- the tree ---- */

static const char *colour(const struct tracing *t, const char *which)
{
	return t->pretty ? which : "";
}

static const char *outcome_colour(const struct hop *h)
{
	if (asya_str_eq_c(h->outcome, "failed") || hop_state(h) == HOP_FAILED ||
	    hop_state(h) == HOP_DEAD)
		return LOOK_RED;
	if (asya_str_eq_c(h->outcome, "retried") || asya_str_eq_c(h->outcome, "redriven"))
		return LOOK_YELLOW;
	return hop_state(h) == HOP_KEPT ? LOOK_GREEN : "";
}

/* Where a time stands in the bar. */
static int column(const struct tracing *t, int64_t us)
{
	int64_t whole = t->end_us - t->begin_us;
	int64_t at = whole > 0 ? (us - t->begin_us) * BAR / whole : 0;

	return at < 0 ? 0 : at > BAR ? BAR : (int)at;
}

/* `   ....####       `: waited, and taken. */
static void write_bar(const struct tracing *t, struct asya_buf *b, const struct node *n, size_t i)
{
	const struct hop *h = &n->hops[i];
	int64_t waited = waited_us(n, i);
	int taken = column(t, h->received_us), end = column(t, h->settled_us);
	int from = waited > 0 ? column(t, h->received_us - waited) : taken;

	if (end == taken)
		end = taken < BAR ? taken + 1 : (taken--, BAR);
	from = from > taken ? taken : from;
	asya_buf_printf(b, "  |%*s%s%.*s%s%.*s%s%*s|", from, "", LOOK_DIM, taken - from,
			"..............................", outcome_colour(h), end - taken,
			"##############################", LOOK_PLAIN, BAR - end, "");
}

static void write_hop(const struct tracing *t, struct asya_buf *b, const struct node *n, size_t i,
		      unsigned depth)
{
	const struct hop *h = &n->hops[i];
	struct asya_arena *arena = asya_arena_new();
	const char *actor = h->actor.n ? look_shown(arena, h->actor, 63) : "(sender)";
	char waited[LOOK_TIME], took[LOOK_TIME];

	asya_buf_printf(b, "%*s%-*s %9s %9s %3u  %s%-8s%s", (int)depth * 2 + 2, "",
			30 - (int)depth * 2 > 10 ? 30 - (int)depth * 2 : 10, actor,
			look_duration(waited, waited_us(n, i)), look_duration(took, took_us(h)),
			h->attempt, colour(t, outcome_colour(h)), look_shown(arena, h->outcome, 20),
			colour(t, LOOK_PLAIN));
	if (t->pretty)
		write_bar(t, b, n, i);
	if (h->detail.n)
		asya_buf_printf(b, "  %s",
				look_shown(arena, h->detail,
					   hop_state(h) == HOP_KEPT ? 300 : DETAIL_SHOWN));
	asya_buf_char(b, '\n');
	asya_arena_free(arena);
}

static void write_head(const struct tracing *t, struct asya_buf *b, const struct node *n,
		       unsigned depth)
{
	static const char *const words[] = {[HOP_UNDER_WAY] = "under way",
					    [HOP_KEPT] = "ended well",
					    [HOP_FAILED] = "failed",
					    [HOP_DEAD] = "is a dead letter"};
	static const char *const colours[] = {[HOP_UNDER_WAY] = LOOK_YELLOW,
					      [HOP_KEPT] = LOOK_GREEN,
					      [HOP_FAILED] = LOOK_RED,
					      [HOP_DEAD] = LOOK_RED};
	struct asya_arena *arena = asya_arena_new();
	int64_t from = n->hops->received_us, to = n->hops[n->n - 1].settled_us;
	char text[ASYA_TIME_TEXT], whole[LOOK_TIME];

	asya_buf_printf(b, "%*s%s%s%s  %s%s%s  %.23sZ  %s\n", (int)depth * 2, "",
			colour(t, LOOK_BOLD), look_shown(arena, n->hops->id, 256),
			colour(t, LOOK_PLAIN), colour(t, colours[state_of(n)]), words[state_of(n)],
			colour(t, LOOK_PLAIN), asya_time_write(text, from),
			look_duration(whole, to > from ? to - from : 0));
	asya_arena_free(arena);
}

static void write_rest(struct asya_buf *b, const struct node *first, unsigned depth)
{
	uint64_t counts[4] = {0}, n = 0;

	for (; first; first = first->next, n++)
		counts[state_of(first)]++;
	asya_buf_printf(
		b,
		"%*s... and %llu more: %llu ended well, %llu failed, %llu dead letters, "
		"%llu under way (--below shows each)\n",
		(int)depth * 2, "", (unsigned long long)n, (unsigned long long)counts[HOP_KEPT],
		(unsigned long long)counts[HOP_FAILED], (unsigned long long)counts[HOP_DEAD],
		(unsigned long long)counts[HOP_UNDER_WAY]);
}

static void print_node(const struct tracing *t, const struct node *n, unsigned depth)
{
	const struct node *child = n->children;
	struct asya_buf b = {0};

	write_head(t, &b, n, depth);
	for (size_t i = 0; i < n->n; i++)
		write_hop(t, &b, n, i, depth);
	look_print(&b);
	for (size_t i = 0; child && !look_broken(); child = child->next, i++) {
		if (depth + 1 >= DEPTH_MAX || (!t->all && i >= CHILDREN_SHOWN)) {
			write_rest(&b, child, depth + 1);
			look_print(&b);
			break;
		}
		print_node(t, child, depth + 1);
	}
	asya_buf_fini(&b);
}

static void print_totals(const struct tracing *t)
{
	char waited[LOOK_TIME], took[LOOK_TIME], whole[LOOK_TIME];

	printf("%zu message%s, %zu hops; waited %s, worked %s together; %s from first to last",
	       t->n_nodes, t->n_nodes == 1 ? "" : "s", t->hops.n,
	       look_duration(waited, t->waited_us), look_duration(took, t->took_us),
	       look_duration(whole, t->end_us - t->begin_us));
	if (t->failed)
		printf("; %llu failed", (unsigned long long)t->failed);
	if (t->under_way)
		printf("; %llu under way", (unsigned long long)t->under_way);
	putchar('\n');
}

static void print_tree(const struct tracing *t)
{
	printf("%s  %-30s %9s %9s %3s  %s%s\n", colour(t, LOOK_DIM), "ACTOR", "WAITED", "TOOK",
	       "TRY", "OUTCOME", colour(t, LOOK_PLAIN));
	for (size_t i = 0; i < t->n_nodes; i++)
		if (!t->nodes[i].parent)
			print_node(t, &t->nodes[i], 0);
	print_totals(t);
}

/* ---- */

static int read_all(struct tracing *t, struct asya_str id)
{
	struct asya_str top = id;
	struct asya_error err;

	if ((t->all && climb(t, &top, &err)) ||
	    hops_read(&t->hops, &t->client, top, false, ASYA_STR_NONE, &err) ||
	    hops_read(&t->hops, &t->client, top, true, top, &err))
		return cli_fail(CLI_TROUBLE, "%s", err.text);
	if (!t->hops.n)
		return cli_fail(CLI_NOT_FOUND,
				"the history has no hop of '%.*s': no actor has had it yet, or it "
				"was too long ago (ASYA_LOCAL_HISTORY)",
				ASYA_STR_ARG(id));
	if (t->hops.more)
		cli_fail(0, "only the first %d of %zu hops are shown", HOPS_MAX,
			 HOPS_MAX + t->hops.more);
	return CLI_OK;
}

static int run(struct cli *cli)
{
	struct tracing t = {.cli = cli,
			    .hops = {.arena = cli->arena},
			    .pretty = look_pretty(),
			    .all = cli_has(cli, "below")};
	int code = look_open(&t.client, cli);

	if (code)
		return code;
	code = read_all(&t, asya_str_c(cli->args[0]));
	client_close(&t.client);
	if (code)
		return code;
	make_nodes(&t);
	make_tree(&t);
	sum_up(&t);
	if (cli_has(cli, "json"))
		print_json(&t);
	else
		print_tree(&t);
	return CLI_OK;
}

static const struct cli_option options[] = {
	{"below", 'b', NULL,
	 "All that was sent with the same root, from the first message on, every child.", NULL},
};

const struct cli_command command_trace = {
	.name = "trace",
	.arguments = "ID",
	.summary = "show where an envelope and its children have been, and how long",
	.text = "Shows every hop of the envelope and, below it, those of its children by fan-out: "
		"at which actor,\n"
		"how long it waited in the queue, how long the actor took, which attempt it was, "
		"what came of it,\n"
		"and the error or the place of the result. Ten children of a message are shown, "
		"with --below each.\n\n"
		"  asya trace 5f1c2a52-...\n"
		"  asya trace 5f1c2a52-...-3 --below\n"
		"  asya trace 5f1c2a52-... --json | jq 'select(.took_ms > 1000)'",
	.options = options,
	.n_options = ASYA_ARRAY_SIZE(options),
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
