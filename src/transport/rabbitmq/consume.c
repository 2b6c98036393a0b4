// SPDX-License-Identifier: Apache-2.0
/*
 * The thread that takes and acks. Each consumer has a channel of its own on one connection:
 *
 *	closed ─► open, queues declared ─► consuming with a prefetch
 *	   ▲              │      ▲                │
 *	   │              │      └── basic.cancel, another window
 *	   └──────────────┴─ channel or connection gone: what it delivered is lost to us
 *
 * The broker holds to the prefetch of a consumer's start, so another window takes another consumer.
 * What comes beyond the window meanwhile waits here.
 */
#include "transport/rabbitmq/thread.h"

#include "base/failpoint.h"
#include "base/mem.h"

enum {
	FRAMES_MAX = 2048, /* before acks get their turn */
	AGAIN_FIRST_MS = 50,
	AGAIN_MAX_MS = 4000,
	REWINDOW_MS = 300,
};
/* More than any broker takes. */
#define BODY_MAX (1ULL << 30)

/* ---- states ---- */

static void report(struct rabbit_consumer *c, bool live, const struct asya_error *err)
{
	struct rabbit *r = c->rabbit;

	pthread_mutex_lock(&r->lock);
	c->known = true;
	c->live = live;
	if (!live)
		c->error = *err;
	uv_async_send(&r->ring);
	pthread_mutex_unlock(&r->lock);
}

static void again_later(struct rabbit_consumer *c)
{
	int64_t ms = AGAIN_MAX_MS;

	if (c->failures < 6)
		ms = AGAIN_FIRST_MS << c->failures;
	c->failures++;
	c->retry_ms = asya_clock_mono_ms() + ms;
}

/* The channel is gone, and with it everything it delivered. */
static void lose(struct rabbit_consumer *c)
{
	struct asya_link *i;

	atomic_fetch_add_explicit(&c->life, 1, memory_order_release);
	asya_list_init(&c->waiting); /* all of these are among the held */
	asya_list_init(&c->acking);
	while ((i = asya_list_pop(&c->held))) {
		struct rabbit_delivery *d = asya_container_of(i, struct rabbit_delivery, held);

		if (d->handed)
			asya_list_add_tail(&c->lost, &d->held); /* the user will settle it */
		else
			free(d);
	}
	free(c->partial);
	c->partial = NULL;
	c->expect = RABBIT_NOTHING;
	c->open = c->declared = false;
	c->prefetch = c->out = c->handed = 0;
}

static void disconnect(struct rabbit *r, const struct asya_error *err)
{
	struct asya_link *i;

	rabbit_conn_close(&r->consume_conn, false);
	for (i = r->own.next; i != &r->own; i = i->next) {
		struct rabbit_consumer *c = asya_container_of(i, struct rabbit_consumer, own);

		report(c, false, err);
		lose(c);
		c->retry_ms = 0;
	}
}

/* ---- queues ---- */

static int declare_queue(struct rabbit *r, const char *name, struct asya_error *err)
{
	amqp_table_entry_t type = {.key = amqp_cstring_bytes("x-queue-type"),
				   .value = {.kind = AMQP_FIELD_KIND_UTF8,
					     .value.bytes = amqp_cstring_bytes("quorum")}};
	amqp_table_t arguments = {r->config.queue_type == ASYA_RABBITMQ_QUORUM, &type};
	int code = rabbit_conn_queue(&r->consume_conn, name, &arguments, err);

	/* One that dead-letters by itself, as the public original makes them, is as good. */
	if (code == AMQP_PRECONDITION_FAILED &&
	    strstr(err->text, "inequivalent arg 'x-dead-letter-"))
		return rabbit_conn_look(&r->consume_conn, name, NULL, err);
	return code;
}

/* May not be allowed to us where somebody else makes the queues. */
static int bind_queue(struct rabbit *r, const char *queue, struct asya_str actor, bool dead,
		      struct asya_error *err)
{
	_cleanup_(asya_freep) char *key = rabbit_key(&r->config, actor, dead);
	int code = rabbit_conn_bind(&r->consume_conn, queue, r->config.exchange, key, err);

	return code == AMQP_ACCESS_REFUSED && !r->config.auto_create ? 0 : code;
}

static int declare(struct rabbit_consumer *c, struct asya_error *err)
{
	struct rabbit *r = c->rabbit;
	struct asya_str actor = asya_str_c(c->actor);
	struct rabbit_conn *conn = &r->consume_conn;
	int code = 0;

	if (r->config.auto_create) {
		code = rabbit_conn_exchange(conn, r->config.exchange, "topic", err);
		if (!code)
			code = declare_queue(r, c->queue, err);
		if (!code)
			code = declare_queue(r, c->dead_queue, err);
	} else {
		code = rabbit_conn_look(conn, c->dead ? c->dead_queue : c->queue, NULL, err);
	}
	if (!code)
		code = bind_queue(r, c->queue, actor, false, err);
	if (!code && r->config.auto_create)
		code = bind_queue(r, c->dead_queue, actor, true, err);
	return code;
}

/* ---- the broker's consumer ---- */

static const char *queue_of(const struct rabbit_consumer *c)
{
	return c->dead ? c->dead_queue : c->queue;
}

static int take_from(struct rabbit_consumer *c, unsigned prefetch, struct asya_error *err)
{
	struct rabbit_conn *conn = &c->rabbit->consume_conn;
	int code;

	amqp_basic_qos(conn->amqp, c->channel, 0, (uint16_t)prefetch, false);
	code = rabbit_conn_reply(conn, c->channel, amqp_get_rpc_reply(conn->amqp), err);
	if (code)
		return code;
	snprintf(c->tag, sizeof(c->tag), "%u", ++c->tags);
	amqp_basic_consume(conn->amqp, c->channel, amqp_cstring_bytes(queue_of(c)),
			   amqp_cstring_bytes(c->tag), false, false, false, amqp_empty_table);
	code = rabbit_conn_reply(conn, c->channel, amqp_get_rpc_reply(conn->amqp), err);
	if (code)
		return code;
	c->prefetch = prefetch;
	c->changed_ms = asya_clock_mono_ms();
	return 0;
}

static int nack(struct rabbit_consumer *c, struct rabbit_delivery *d, struct asya_error *err)
{
	struct rabbit_conn *conn = &c->rabbit->consume_conn;
	int status = amqp_basic_nack(conn->amqp, c->channel, d->tag, false, true);

	asya_list_remove(&d->held);
	c->out--;
	c->handed -= d->handed;
	return rabbit_conn_check(conn, status, err);
}

static int return_waiting(struct rabbit_consumer *c, struct asya_error *err)
{
	struct asya_link *i;

	while ((i = asya_list_pop(&c->waiting))) {
		struct rabbit_delivery *d = asya_container_of(i, struct rabbit_delivery, link);
		int code = nack(c, d, err);

		free(d);
		if (code)
			return code;
	}
	return 0;
}

static int leave(struct rabbit_consumer *c, struct asya_error *err)
{
	struct rabbit_conn *conn = &c->rabbit->consume_conn;

	c->prefetch = 0;
	amqp_basic_cancel(conn->amqp, c->channel, amqp_cstring_bytes(c->tag));
	return rabbit_conn_reply(conn, c->channel, amqp_get_rpc_reply(conn->amqp), err);
}

/* Whether a window is so far from the prefetch that a new consumer is worth its round trips. */
static bool far(const struct rabbit_consumer *c, unsigned window)
{
	unsigned d = window > c->prefetch ? window - c->prefetch : c->prefetch - window;

	return d > c->prefetch / 4 && asya_clock_mono_ms() - c->changed_ms >= REWINDOW_MS;
}

/* Brings what the broker has of this consumer nearer to what is wanted: 0, a reply code if the
 * channel is gone, -1 if the connection is. */
static int keep_up(struct rabbit_consumer *c, unsigned window, bool stopped, struct asya_error *err)
{
	int code = 0;

	if (!c->open) {
		code = rabbit_conn_channel(&c->rabbit->consume_conn, c->channel, err);
		if (code)
			return code;
		c->open = true;
	}
	if (!c->declared) {
		code = declare(c, err);
		if (code)
			return code;
		c->declared = true;
		report(c, true, NULL);
	}
	if (stopped)
		window = 0;
	if (c->prefetch && (!window || far(c, window)))
		code = leave(c, err);
	if (!code && !window)
		code = return_waiting(c, err);
	if (!code && !c->prefetch && window > c->out)
		code = take_from(c, window, err);
	if (!code && window)
		c->failures = 0;
	return code;
}

/* The admin channel's failures leave the consumer's own channel, and its deliveries, alone. */
static int mind(struct rabbit_consumer *c, unsigned window, bool stopped, struct asya_error *err)
{
	int code;

	if (asya_clock_mono_ms() < c->retry_ms || (stopped && !c->open))
		return 0;
	code = keep_up(c, window, stopped, err);
	if (code <= 0)
		return code;
	if (!c->open || c->declared)
		lose(c);
	again_later(c);
	asya_error_wrap(err, "consuming from queue '%s'", queue_of(c));
	report(c, false, err);
	return 0;
}

static int mind_all(struct rabbit *r, struct asya_error *err)
{
	int code = 0;

	for (struct asya_link *i = r->own.next; i != &r->own && !code; i = i->next) {
		struct rabbit_consumer *c = asya_container_of(i, struct rabbit_consumer, own);
		bool stopped;
		unsigned window;

		pthread_mutex_lock(&r->lock);
		stopped = c->stopped || r->stop;
		window = c->window;
		pthread_mutex_unlock(&r->lock);
		code = mind(c, window, stopped, err);
	}
	return code;
}

static void hand_out(struct rabbit *r)
{
	bool any = false;

	pthread_mutex_lock(&r->lock);
	for (struct asya_link *i = r->own.next; i != &r->own; i = i->next) {
		struct rabbit_consumer *c = asya_container_of(i, struct rabbit_consumer, own);
		struct asya_link *l;

		while (!c->stopped && c->handed < c->window && (l = asya_list_pop(&c->waiting))) {
			struct rabbit_delivery *d =
				asya_container_of(l, struct rabbit_delivery, link);

			d->handed = true;
			c->handed++;
			asya_list_add_tail(&c->ready, &d->link);
			any = true;
		}
	}
	if (any)
		uv_async_send(&r->ring);
	pthread_mutex_unlock(&r->lock);
}

/* ---- frames ---- */

static struct rabbit_consumer *consumer_at(struct rabbit *r, amqp_channel_t channel)
{
	for (struct asya_link *i = r->own.next; i != &r->own; i = i->next) {
		struct rabbit_consumer *c = asya_container_of(i, struct rabbit_consumer, own);

		if (c->channel == channel)
			return c;
	}
	return NULL;
}

static int64_t number(const amqp_field_value_t *v)
{
	switch (v->kind) {
	case AMQP_FIELD_KIND_I64:
	case AMQP_FIELD_KIND_TIMESTAMP:
		return v->value.i64;
	case AMQP_FIELD_KIND_I32:
		return v->value.i32;
	case AMQP_FIELD_KIND_I16:
		return v->value.i16;
	case AMQP_FIELD_KIND_I8:
		return v->value.i8;
	default:
		return 0;
	}
}

/* A classic queue tells only that it was not the first time. */
static void read_properties(struct rabbit_delivery *d, const amqp_basic_properties_t *p, bool again)
{
	bool counted = false, moved = false;

	d->base.receives = 1;
	if (p->_flags & AMQP_BASIC_TIMESTAMP_FLAG)
		d->base.queued_us = (int64_t)p->timestamp * 1000000;
	for (int i = 0; p->_flags & AMQP_BASIC_HEADERS_FLAG && i < p->headers.num_entries; i++) {
		const amqp_table_entry_t *e = &p->headers.entries[i];
		struct asya_str key = rabbit_str(e->key);

		if (asya_str_eq_c(key, RABBIT_HEADER_QUEUED)) {
			d->base.queued_us = number(&e->value);
		} else if (asya_str_eq_c(key, "x-delivery-count")) {
			d->base.receives = (unsigned)number(&e->value) + 1;
			counted = d->base.receives > 1;
		} else if (asya_str_eq_c(key, "x-death")) {
			moved = true;
		}
	}
	if ((again && !counted) || (moved && !counted))
		d->base.receives = 0;
}

static void complete(struct rabbit_consumer *c)
{
	struct rabbit_delivery *d = c->partial;

	c->partial = NULL;
	c->expect = RABBIT_NOTHING;
	c->out++;
	asya_list_add_tail(&c->held, &d->held);
	asya_list_add_tail(&c->waiting, &d->link);
	asya_failpoint("rabbitmq.take");
}

static int on_properties(struct rabbit_consumer *c, const amqp_frame_t *f, struct asya_error *err)
{
	amqp_bytes_t raw = f->payload.properties.raw;
	size_t n = (size_t)f->payload.properties.body_size;
	struct rabbit_delivery *d;
	char *body;

	if (f->payload.properties.body_size > BODY_MAX)
		return asya_error_set(err, ASYA_RETRY, "a message of %llu bytes",
				      (unsigned long long)f->payload.properties.body_size);
	d = asya_malloc(sizeof(*d) + n + raw.len + 1);
	*d = (struct rabbit_delivery){.consumer = c,
				      .life = atomic_load(&c->life),
				      .tag = c->partial_tag,
				      .n_properties = raw.len};
	body = (char *)(d + 1);
	memcpy(body + n, raw.bytes, raw.len);
	d->base.body = (struct asya_str){body, n};
	asya_list_init(&d->held);
	asya_list_init(&d->link);
	read_properties(d, f->payload.properties.decoded, c->partial_again);
	c->partial = d;
	c->partial_n = 0;
	c->expect = RABBIT_BODY;
	if (!n)
		complete(c);
	return 0;
}

static int on_body(struct rabbit_consumer *c, amqp_bytes_t part, struct asya_error *err)
{
	struct rabbit_delivery *d = c->partial;

	if (part.len > d->base.body.n - c->partial_n)
		return asya_error_set(err, ASYA_RETRY, "a message longer than it said");
	memcpy((char *)d->base.body.p + c->partial_n, part.bytes, part.len);
	c->partial_n += part.len;
	if (c->partial_n == d->base.body.n)
		complete(c);
	return 0;
}

static void on_deliver(struct rabbit_consumer *c, const amqp_basic_deliver_t *m)
{
	c->expect = RABBIT_PROPERTIES;
	c->partial_tag = m->delivery_tag;
	c->partial_again = m->redelivered;
}

/* Its queue was deleted, or moves to another node. */
static void on_cancel(struct rabbit_consumer *c)
{
	struct asya_error err;

	asya_error_set(&err, ASYA_RETRY,
		       "queue '%s': the broker ended the consumer; the queue was deleted, or its "
		       "node is gone",
		       queue_of(c));
	c->prefetch = 0;
	c->declared = false;
	again_later(c);
	report(c, false, &err);
}

static void on_channel_close(struct rabbit_consumer *c, const amqp_channel_close_t *m)
{
	struct asya_error err;

	rabbit_conn_channel_closed(&c->rabbit->consume_conn, c->channel, m, &err);
	asya_error_wrap(&err, "consuming from queue '%s'", queue_of(c));
	lose(c);
	again_later(c);
	report(c, false, &err);
}

static int on_frame(struct rabbit *r, const amqp_frame_t *f, struct asya_error *err)
{
	struct rabbit_consumer *c = consumer_at(r, f->channel);

	if (!c || !c->open)
		return 0;
	if (f->frame_type == AMQP_FRAME_HEADER && c->expect == RABBIT_PROPERTIES)
		return on_properties(c, f, err);
	if (f->frame_type == AMQP_FRAME_BODY && c->expect == RABBIT_BODY)
		return on_body(c, f->payload.body_fragment, err);
	if (f->frame_type != AMQP_FRAME_METHOD)
		return asya_error_set(err, ASYA_RETRY, "a frame that was not expected");
	if (f->payload.method.id == AMQP_BASIC_DELIVER_METHOD)
		on_deliver(c, f->payload.method.decoded);
	else if (f->payload.method.id == AMQP_BASIC_CANCEL_METHOD)
		on_cancel(c);
	else if (f->payload.method.id == AMQP_CHANNEL_CLOSE_METHOD)
		on_channel_close(c, f->payload.method.decoded);
	return 0;
}

/* 1: there may be more. */
static int read_frames(struct rabbit *r, struct asya_error *err)
{
	amqp_frame_t f;

	for (int i = 0; i < FRAMES_MAX; i++) {
		int code = rabbit_conn_frame(&r->consume_conn, &f, err);

		if (code <= 0)
			return code;
		if (on_frame(r, &f, err))
			return -1;
		amqp_maybe_release_buffers_on_channel(r->consume_conn.amqp, f.channel);
	}
	return 1;
}

/* ---- settling ---- */

static void finish(struct rabbit *r, struct asya_settle *op, enum asya_settled result)
{
	pthread_mutex_lock(&r->lock);
	rabbit_finish(r, op, result);
	pthread_mutex_unlock(&r->lock);
}

/* What belongs to an earlier channel cannot be settled any more; it is, or will be, delivered
 * again. */
static bool drop_stale(struct rabbit *r, struct asya_settle *op)
{
	if (!rabbit_stale(op))
		return false;
	asya_list_remove(&rabbit_delivery_of(op->delivery)->held);
	finish(r, op, ASYA_STALE);
	return true;
}

/* Acks what is done: in one frame as far as nothing is open before it, else one by one. */
static int ack_all(struct rabbit_consumer *c, struct asya_error *err)
{
	struct rabbit_conn *conn = &c->rabbit->consume_conn;
	struct asya_link *i;
	uint64_t last = 0;
	unsigned n = 0;
	int code = 0;

	if (asya_list_empty(&c->acking))
		return 0;
	for (; !asya_list_empty(&c->held); n++) {
		struct rabbit_delivery *d =
			asya_container_of(c->held.next, struct rabbit_delivery, held);

		if (!d->acked)
			break;
		last = d->tag;
		asya_list_remove(&d->held);
		asya_list_remove(&d->link);
	}
	if (n)
		code = rabbit_conn_check(conn, amqp_basic_ack(conn->amqp, c->channel, last, n > 1),
					 err);
	while (!code && (i = asya_list_pop(&c->acking))) {
		struct rabbit_delivery *d = asya_container_of(i, struct rabbit_delivery, link);

		asya_list_remove(&d->held);
		code = rabbit_conn_check(conn, amqp_basic_ack(conn->amqp, c->channel, d->tag, 0),
					 err);
	}
	asya_failpoint("rabbitmq.acked");
	return code;
}

static void note_ack(struct rabbit_delivery *d)
{
	struct rabbit_consumer *c = d->consumer;

	d->acked = true;
	c->out--;
	c->handed--;
	asya_list_add_tail(&c->acking, &d->link);
}

/* A release without a delay, and acks; `acks` ones have their posts confirmed. */
static int settle_all(struct rabbit *r, struct asya_link *verdicts, struct asya_link *acks,
		      struct asya_link *done, struct asya_error *err)
{
	struct asya_link *i;
	int code = 0;

	while ((i = asya_list_pop(acks))) {
		struct asya_settle *op = asya_container_of(i, struct asya_settle, link);

		if (drop_stale(r, op))
			continue;
		note_ack(rabbit_delivery_of(op->delivery));
		asya_list_add_tail(done, &op->link);
	}
	while ((i = asya_list_pop(verdicts))) {
		struct asya_settle *op = asya_container_of(i, struct asya_settle, link);
		struct rabbit_delivery *d = op->delivery ? rabbit_delivery_of(op->delivery) : NULL;

		if (d && drop_stale(r, op))
			continue;
		if (d && op->verdict == ASYA_ACK)
			note_ack(d);
		else if (d && !code)
			code = nack(d->consumer, d, err);
		else if (d)
			asya_list_remove(&d->held);
		asya_list_add_tail(done, &op->link);
	}
	return code;
}

static int settle_and_ack(struct rabbit *r, struct asya_error *err)
{
	struct asya_link verdicts, acks, done, *i;
	int code;

	asya_list_init(&verdicts);
	asya_list_init(&acks);
	asya_list_init(&done);
	pthread_mutex_lock(&r->lock);
	asya_list_splice(&verdicts, &r->verdicts);
	asya_list_splice(&acks, &r->acks);
	pthread_mutex_unlock(&r->lock);
	if (asya_list_empty(&verdicts) && asya_list_empty(&acks))
		return 0;
	code = settle_all(r, &verdicts, &acks, &done, err);
	for (i = r->own.next; i != &r->own; i = i->next)
		if (!code)
			code = ack_all(asya_container_of(i, struct rabbit_consumer, own), err);
	pthread_mutex_lock(&r->lock);
	while ((i = asya_list_pop(&done))) {
		struct asya_settle *op = asya_container_of(i, struct asya_settle, link);

		if (code && op->delivery) {
			struct rabbit_delivery *d = rabbit_delivery_of(op->delivery);

			asya_list_remove(&d->held);
			asya_list_remove(&d->link);
		}
		rabbit_finish(r, op, code && op->delivery ? ASYA_STALE : ASYA_SETTLED);
	}
	pthread_mutex_unlock(&r->lock);
	return code;
}

/* ---- looking ---- */

static int64_t held_here(struct rabbit *r, struct asya_str actor, bool dead)
{
	int64_t n = 0;

	for (struct asya_link *i = r->own.next; i != &r->own; i = i->next) {
		struct rabbit_consumer *c = asya_container_of(i, struct rabbit_consumer, own);

		n += asya_str_eq_c(actor, c->actor) && c->dead == dead ? c->out : 0;
	}
	return n;
}

static int look(struct rabbit *r, struct asya_stat *op, struct asya_error *err)
{
	_cleanup_(asya_freep) char *queue = rabbit_queue(&r->config, op->actor, false);
	_cleanup_(asya_freep) char *dead = rabbit_queue(&r->config, op->actor, true);
	int code;

	op->depth = (struct asya_depth){0};
	code = rabbit_conn_look(&r->consume_conn, queue, &op->depth.ready, err);
	if (!code)
		code = rabbit_conn_look(&r->consume_conn, dead, &op->depth.dead, err);
	op->depth.leased = held_here(r, op->actor, false);
	op->depth.dead += held_here(r, op->actor, true);
	return code;
}

static int look_all(struct rabbit *r, const struct asya_error *down, struct asya_error *err)
{
	struct asya_link stats, *i;
	struct asya_error failed = ASYA_ERROR_NONE;
	int code = 0;

	asya_list_init(&stats);
	pthread_mutex_lock(&r->lock);
	asya_list_splice(&stats, &r->stats);
	pthread_mutex_unlock(&r->lock);
	while ((i = asya_list_pop(&stats))) {
		struct asya_stat *op = asya_container_of(i, struct asya_stat, link);
		int one = down || code < 0 ? -1 : look(r, op, err);

		op->failed = one != 0;
		code = one < 0 ? one : code;
		if (one)
			failed = down ? *down : *err;
		pthread_mutex_lock(&r->lock);
		if (one)
			r->stats_error = failed;
		asya_list_add_tail(&r->stats_out, &op->link);
		uv_async_send(&r->ring);
		pthread_mutex_unlock(&r->lock);
	}
	return down ? 0 : code;
}

/* ---- the thread ---- */

void rabbit_missing(struct rabbit *r, const char *queue)
{
	pthread_mutex_lock(&r->lock);
	snprintf(r->missing, sizeof(r->missing), "%s", queue);
	rabbit_wake(&r->consuming);
	pthread_mutex_unlock(&r->lock);
}

static void adopt(struct rabbit *r)
{
	char missing[sizeof(r->missing)];

	pthread_mutex_lock(&r->lock);
	asya_list_splice(&r->own, &r->joining);
	memcpy(missing, r->missing, sizeof(missing));
	r->missing[0] = '\0';
	pthread_mutex_unlock(&r->lock);
	for (struct asya_link *i = r->own.next; missing[0] && i != &r->own; i = i->next) {
		struct rabbit_consumer *c = asya_container_of(i, struct rabbit_consumer, own);

		if (strcmp(missing, c->queue) == 0 || strcmp(missing, c->dead_queue) == 0)
			c->declared = false;
	}
}

/* 1: there is more to read. */
static int work(struct rabbit *r, struct asya_error *err)
{
	int more;

	if (settle_and_ack(r, err) || look_all(r, NULL, err) || mind_all(r, err))
		return -1;
	more = read_frames(r, err);
	if (more < 0)
		return -1;
	hand_out(r);
	return more;
}

/* Without a connection, what was delivered is lost. Looking waits for one attempt to connect. */
static void idle_work(struct rabbit *r, const struct asya_error *down)
{
	struct asya_error err;

	settle_and_ack(r, &err);
	if (r->consume_conn.failures)
		look_all(r, down, &err);
}

static int64_t until_next(struct rabbit *r)
{
	int64_t now = asya_clock_mono_ms(), ms = r->config.heartbeat_ms / 4;

	if (!r->consume_conn.amqp)
		return r->consume_conn.retry_ms - now;
	for (struct asya_link *i = r->own.next; i != &r->own; i = i->next) {
		struct rabbit_consumer *c = asya_container_of(i, struct rabbit_consumer, own);
		int64_t at = c->open && c->declared ? c->changed_ms + REWINDOW_MS : c->retry_ms;

		if (at > now && at - now < ms)
			ms = at - now;
	}
	return ms;
}

static bool done(struct rabbit *r)
{
	bool yes;

	pthread_mutex_lock(&r->lock);
	yes = r->stop && r->publishing.ended &&
	      (r->hurry || (asya_list_empty(&r->verdicts) && asya_list_empty(&r->acks)));
	pthread_mutex_unlock(&r->lock);
	return yes;
}

static void connect_again(struct rabbit *r, struct asya_error *down)
{
	struct rabbit_conn *conn = &r->consume_conn;

	if (asya_clock_mono_ms() < conn->retry_ms)
		return;
	if (rabbit_conn_open(conn, down))
		disconnect(r, down);
}

void *rabbit_consume_main(void *arg)
{
	struct rabbit *r = arg;
	struct asya_error down = ASYA_ERROR_NONE;
	int more = 0;

	while (!done(r)) {
		adopt(r);
		if (!r->consume_conn.amqp)
			connect_again(r, &down);
		more = r->consume_conn.amqp ? work(r, &down) : 0;
		if (more < 0)
			disconnect(r, &down);
		if (!r->consume_conn.amqp)
			idle_work(r, &down);
		if (!done(r))
			rabbit_wait(r, &r->consuming, &r->consume_conn,
				    more > 0 ? 0 : until_next(r));
	}
	rabbit_conn_close(&r->consume_conn, !r->hurry);
	for (struct asya_link *i = r->own.next; i != &r->own; i = i->next)
		lose(asya_container_of(i, struct rabbit_consumer, own));
	pthread_mutex_lock(&r->lock);
	r->consuming.ended = true;
	uv_async_send(&r->ring);
	pthread_mutex_unlock(&r->lock);
	return NULL;
}
