// SPDX-License-Identifier: Apache-2.0
/*
 * asya dead redrive: dead letters go to the actor's queue again.
 *
 * Each is one settlement, the post and the ack of the dead letter, so that whenever this process
 * ends a message is in one of the two queues. Up to WINDOW of them are under way at a time.
 */
#include "cli/dead.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/route.h"

#include <stdio.h>

enum { WINDOW = 64 };

struct redriving {
	struct client *client;
	const struct dead_words *words;
	struct asya_str actor, to;
	struct letters letters;
	size_t under_way;
	uint64_t begun, done, stale, other;
	struct asya_error error;
	struct progress progress;
	int64_t begin_ms;
};

/* One message on its way. */
struct message {
	struct redriving *r;
	struct asya_arena *arena;
	struct asya_settle settle;
	struct asya_post post;
	struct asya_hop hop;
	size_t bytes;
};

static void on_settled(struct asya_settle *op, enum asya_settled outcome,
		       const struct asya_error *err)
{
	struct message *m = op->user;
	struct redriving *r = m->r;

	r->under_way--;
	r->done += outcome == ASYA_SETTLED;
	r->stale += outcome == ASYA_STALE;
	if (outcome == ASYA_SETTLE_FAILED) {
		r->error = *err;
		letters_hold(&r->letters, op->delivery);
	} else {
		letters_settled(&r->letters, m->bytes);
	}
	asya_arena_free(m->arena);
}

static void fill_hop(struct message *m, const struct letter *l)
{
	struct asya_attempt attempt = {.n = 1};

	if (l->is_envelope)
		asya_attempt_read(&attempt, m->arena, &l->env);
	m->hop = (struct asya_hop){.id = l->id,
				   .parent_id = l->env.parent_id,
				   .root = attempt.root,
				   .outcome = ASYA_STR("redriven"),
				   .detail = m->r->to,
				   .received_us = asya_clock_wall_us(),
				   .settled_us = asya_clock_wall_us(),
				   .attempt = attempt.n,
				   .live = 1};
}

static void send_again(struct redriving *r, struct asya_arena *take_arena, struct asya_delivery *d,
		       const struct letter *l)
{
	struct message *m = asya_arena_new0(take_arena, struct message);

	m->r = r;
	m->arena = take_arena;
	m->bytes = d->body.n;
	m->post.actor = r->to;
	m->post.body = l->is_envelope ? asya_route_redrive(m->arena, d->body, &l->env) : d->body;
	fill_hop(m, l);
	m->settle = (struct asya_settle){.delivery = d,
					 .verdict = ASYA_ACK,
					 .posts = &m->post,
					 .n_posts = 1,
					 .hop = &m->hop,
					 .done = on_settled,
					 .user = m};
	r->under_way++;
	r->begun++;
	asya_transport_settle(r->client->transport, &m->settle);
}

static bool is_wanted(const struct redriving *r, const struct letter *l)
{
	const struct dead_words *w = r->words;

	return (!w->id || asya_str_eq_c(l->id, w->id)) &&
	       (!w->type || letter_is_type(l, asya_str_c(w->type)));
}

static void take(struct redriving *r, struct asya_delivery *d)
{
	struct asya_arena *arena = asya_arena_new();
	struct letter l;

	letter_read(&l, arena, d->body);
	if (is_wanted(r, &l)) {
		send_again(r, arena, d, &l);
		return;
	}
	r->other++;
	letters_hold(&r->letters, d);
	asya_arena_free(arena);
}

/* Until the window has room, and the next one may go. */
static void wait_for_turn(struct redriving *r)
{
	while (r->under_way >= WINDOW)
		uv_run(&r->client->loop, UV_RUN_ONCE);
	if (r->words->rate > 0)
		letters_wait(&r->letters,
			     r->begin_ms + (int64_t)((double)r->begun * 1000 / r->words->rate));
}

static uint64_t goal(const struct redriving *r)
{
	uint64_t limit = r->words->limit ? (uint64_t)r->words->limit : UINT64_MAX;

	return limit < r->letters.total ? limit : r->letters.total;
}

static void redrive_all(struct redriving *r)
{
	struct asya_delivery *d;

	r->begin_ms = asya_clock_mono_ms();
	while (r->begun < goal(r) && !*r->error.text) {
		wait_for_turn(r);
		d = letters_next(&r->letters);
		if (!d)
			break;
		take(r, d);
		progress_show(&r->progress, "redriving", r->done, goal(r));
	}
	while (r->under_way)
		uv_run(&r->client->loop, UV_RUN_ONCE);
	progress_clear(&r->progress);
}

static void print_summary(const struct redriving *r)
{
	const struct letters *l = &r->letters;
	uint64_t left = l->total > r->done ? l->total - r->done : 0;

	if (cli_has(r->client->cli, "json")) {
		struct asya_buf b = {0};

		asya_buf_c(&b, "{\"actor\":");
		asya_buf_json(&b, r->actor);
		look_json_str(&b, "to", r->to);
		asya_buf_printf(
			&b, ",\"redriven\":%llu,\"other\":%llu,\"left\":%llu,\"interrupted\":%s}\n",
			(unsigned long long)r->done, (unsigned long long)r->other,
			(unsigned long long)left, l->interrupted ? "true" : "false");
		look_print(&b);
		asya_buf_fini(&b);
		return;
	}
	if (!l->total) {
		printf("%.*s has no dead letters\n", ASYA_STR_ARG(r->actor));
		return;
	}
	printf("redrove %llu of the %llu dead letters of %.*s", (unsigned long long)r->done,
	       (unsigned long long)l->total, ASYA_STR_ARG(r->actor));
	if (!asya_str_eq(r->to, r->actor))
		printf(" to %.*s", ASYA_STR_ARG(r->to));
	if (r->other)
		printf("; %llu are others than those asked for", (unsigned long long)r->other);
	if (r->stale)
		printf("; %llu were taken by somebody else", (unsigned long long)r->stale);
	printf(l->interrupted ? "; interrupted, the rest stays\n" : "\n");
}

static int end(const struct redriving *r)
{
	const struct letters *l = &r->letters;
	const struct asya_error *err = *r->error.text ? &r->error : &l->error;

	print_summary(r);
	if (*err->text)
		return cli_fail(CLI_TROUBLE, "redriving dead letters of %.*s: %s",
				ASYA_STR_ARG(r->actor), err->text);
	if (l->interrupted)
		return CLI_FAILED;
	if (l->full)
		return cli_fail(CLI_FAILED,
				"the first %llu are others and more than %zu MiB cannot be held "
				"at a time: what is behind them was not looked at",
				(unsigned long long)r->other, LETTERS_HELD_BYTES >> 20);
	if (r->words->id && !r->begun)
		return cli_fail(CLI_NOT_FOUND, "'%s' is not among the dead letters of %.*s",
				r->words->id, ASYA_STR_ARG(r->actor));
	return CLI_OK;
}

int dead_redrive(struct client *c, const struct dead_words *w)
{
	struct redriving r = {.client = c,
			      .words = w,
			      .actor = asya_str_c(w->actor),
			      .to = asya_str_c(w->to ? w->to : w->actor)};
	int code = look_actor(c, w->actor);

	if (!code && w->to)
		code = look_actor(c, w->to);
	if (code || (code = letters_open(&r.letters, c, r.actor)))
		return code;
	redrive_all(&r);
	letters_close(&r.letters);
	return end(&r);
}
