// SPDX-License-Identifier: Apache-2.0
#include "cli/letters.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "core/json_scan.h"

#include <signal.h>

enum {
	TICK_MS = 20,
	CONNECT_MS = 10000, /* to reach the queue */
	IDLE_MS = 800,      /* without a message, when more were said to be there */
	STEP_MAX = 64,
	STEP_FIRST = 8,
	DEPTH = 1000,
};
static const size_t step_bytes = (size_t)16 << 20;
static const size_t message_max = (size_t)1 << 30;

/* ---- how many there are ---- */

struct counting {
	struct asya_stat stat;
	bool done, failed;
	struct asya_error *err;
};

static void on_counted(struct asya_stat *op, const struct asya_error *err)
{
	struct counting *c = asya_container_of(op, struct counting, stat);

	c->done = true;
	c->failed = err != NULL;
	if (err)
		*c->err = *err;
}

static int count(struct letters *l)
{
	struct counting c = {.stat = {.actor = l->consumer.actor, .done = on_counted},
			     .err = &l->error};

	asya_transport_stat(l->client->transport, &c.stat);
	while (!c.done)
		uv_run(&l->client->loop, UV_RUN_ONCE);
	l->total = c.stat.depth.dead > 0 ? (uint64_t)c.stat.depth.dead : 0;
	return c.failed ? cli_fail(CLI_TROUBLE, "%s", l->error.text) : CLI_OK;
}

/* ---- taking ---- */

static void push(struct letters *l, struct asya_delivery *d)
{
	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : STEP_MAX;
		struct asya_delivery **more = asya_calloc(room, sizeof(*more));

		for (size_t i = 0; i < l->n; i++)
			more[i] = l->queue[(l->first + i) % l->room];
		free(l->queue);
		l->queue = more;
		l->first = 0;
		l->room = room;
	}
	l->queue[(l->first + l->n++) % l->room] = d;
}

static void on_deliver(struct asya_consumer *c, struct asya_delivery *d)
{
	struct letters *l = c->user;

	l->outstanding++;
	l->bytes += d->body.n;
	l->seen_bytes += d->body.n;
	push(l, d);
}

static void on_state(struct asya_consumer *c, bool live, const struct asya_error *err)
{
	struct letters *l = c->user;

	l->live = live;
	l->error = err ? *err : ASYA_ERROR_NONE;
}

static void on_signal(uv_signal_t *s, int number)
{
	struct letters *l = s->data;

	(void)number;
	l->interrupted = true;
}

static void on_tick(uv_timer_t *t)
{
	(void)t;
}

int letters_open(struct letters *l, struct client *client, struct asya_str actor)
{
	const int numbers[] = {SIGINT, SIGTERM};
	int code;

	*l = (struct letters){.client = client,
			      .consumer = {.actor = actor,
					   .dead = true,
					   .deliver = on_deliver,
					   .state = on_state,
					   .user = l}};
	code = count(l);
	if (code)
		return code;
	uv_timer_init(&client->loop, &l->tick);
	uv_timer_start(&l->tick, on_tick, TICK_MS, TICK_MS);
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(numbers); i++) {
		uv_signal_init(&client->loop, &l->signals[i]);
		l->signals[i].data = l;
		uv_signal_start(&l->signals[i], on_signal, numbers[i]);
	}
	if (l->total)
		asya_transport_consume(client->transport, &l->consumer);
	return CLI_OK;
}

/* How many to ask for beyond what is held: few where they are large. */
static size_t step(const struct letters *l)
{
	size_t each = l->seen ? (size_t)(l->seen_bytes / l->seen) + 1 : 0;
	size_t n = each ? step_bytes / each : STEP_FIRST;
	uint64_t left = l->total - l->seen;

	n = n < 1 ? 1 : n > STEP_MAX ? STEP_MAX : n;
	return left < n ? (size_t)left : n;
}

struct asya_delivery *letters_next(struct letters *l)
{
	int64_t begin = asya_clock_mono_ms();
	struct asya_delivery *d;

	if (l->seen >= l->total || l->interrupted)
		return NULL;
	l->full = !l->n && l->bytes >= LETTERS_HELD_BYTES;
	if (l->full)
		return NULL;
	if (!l->n)
		asya_transport_window(l->client->transport, &l->consumer,
				      (unsigned)(l->outstanding + step(l)));
	while (!l->n && !l->interrupted &&
	       asya_clock_mono_ms() - begin < (l->live ? IDLE_MS : CONNECT_MS) &&
	       l->error.advice != ASYA_FATAL)
		uv_run(&l->client->loop, UV_RUN_ONCE);
	if (!l->n) {
		if (!l->live && !*l->error.text && !l->interrupted)
			asya_error_set(&l->error, ASYA_RETRY, "the queue could not be reached");
		return NULL;
	}
	d = l->queue[l->first];
	l->first = (l->first + 1) % l->room;
	l->n--;
	l->seen++;
	return d;
}

void letters_wait(struct letters *l, int64_t until_ms)
{
	while (!l->interrupted && asya_clock_mono_ms() < until_ms)
		uv_run(&l->client->loop, UV_RUN_ONCE);
}

void letters_settled(struct letters *l, size_t bytes)
{
	l->outstanding--;
	l->bytes -= bytes;
}

void letters_hold(struct letters *l, struct asya_delivery *d)
{
	if (l->n_held == l->held_room) {
		l->held_room = l->held_room ? l->held_room * 2 : STEP_MAX;
		l->held = asya_realloc(l->held, l->held_room * sizeof(struct asya_delivery *));
	}
	l->held[l->n_held++] = d;
}

static void on_released(struct asya_settle *op, enum asya_settled outcome,
			const struct asya_error *err)
{
	size_t *left = op->user;

	/* What could not be released now is when the transport is closed. */
	(void)outcome;
	(void)err;
	--*left;
}

/* The last one first: a queue that puts what it gets back at its head has the old order then. */
static void release_all(struct letters *l)
{
	size_t n = l->n_held, left = n;
	struct asya_settle *ops = asya_calloc(n + 1, sizeof(*ops));

	for (size_t i = 0; i < n; i++) {
		ops[i] = (struct asya_settle){.delivery = l->held[n - 1 - i],
					      .verdict = ASYA_RELEASE,
					      .done = on_released,
					      .user = &left};
		asya_transport_settle(l->client->transport, &ops[i]);
	}
	while (left)
		uv_run(&l->client->loop, UV_RUN_ONCE);
	free(ops);
}

void letters_close(struct letters *l)
{
	if (l->total)
		asya_transport_stop(l->client->transport, &l->consumer);
	while (l->n) {
		letters_hold(l, l->queue[l->first]);
		l->first = (l->first + 1) % l->room;
		l->n--;
	}
	release_all(l);
	free(l->held);
	free(l->queue);
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(l->signals); i++)
		uv_close((uv_handle_t *)&l->signals[i], NULL);
	uv_close((uv_handle_t *)&l->tick, NULL);
	uv_run(&l->client->loop, UV_RUN_NOWAIT);
}

/* ---- what they are ---- */

static bool is_object(struct asya_str body)
{
	struct asya_error ignored;
	size_t i = 0;

	while (i < body.n && memchr(" \t\r\n", body.p[i], 4))
		i++;
	return i < body.n && body.p[i] == '{' && asya_json_check(body, DEPTH, &ignored) == 0;
}

static struct asya_str cause_of(struct letter *l, struct asya_arena *arena, struct asya_str body,
				const struct asya_error *why)
{
	const struct look_failure *f = &l->failure;

	if (!l->is_envelope)
		return is_object(body) ? asya_arena_str(arena, asya_str_c(why->text))
				       : ASYA_STR("not an envelope");
	if (!f->code.p)
		return ASYA_STR("not recorded");
	return f->type.p ? asya_arena_printf(arena, "%.*s (%.*s)", ASYA_STR_ARG(f->type),
					     ASYA_STR_ARG(f->code))
			 : f->code;
}

void letter_read(struct letter *ret, struct asya_arena *arena, struct asya_str body)
{
	struct asya_limits limits = ASYA_LIMITS_DEFAULT;
	struct asya_error err = ASYA_ERROR_NONE;
	char hex[ASYA_SHA256_HEX];

	limits.message_bytes = message_max;
	*ret = (struct letter){0};
	ret->is_envelope = asya_envelope_parse(&ret->env, arena, body, &limits, &err) == 0;
	ret->id = ret->env.id;
	if (!ret->id.p)
		ret->id = asya_arena_str(arena, asya_str_c(asya_sha256_hex(hex, body)));
	if (ret->is_envelope)
		(void)look_failure_read(&ret->failure, arena, ret->env.payload);
	ret->cause = cause_of(ret, arena, body, &err);
}

static bool is_short_name(struct asya_str type, struct asya_str name)
{
	return type.n > name.n && type.p[type.n - name.n - 1] == '.' &&
	       memcmp(type.p + type.n - name.n, name.p, name.n) == 0;
}

bool letter_is_type(const struct letter *l, struct asya_str type)
{
	const struct look_failure *f = &l->failure;

	return asya_str_eq(l->cause, type) || (f->code.p && asya_str_eq(f->code, type)) ||
	       (f->type.p && (asya_str_eq(f->type, type) || is_short_name(f->type, type)));
}
