// SPDX-License-Identifier: Apache-2.0
/*
 * The thread that publishes, with confirms pipelined:
 *
 *	queue ─► sending ─► every post confirmed ─► the consuming thread acks, or the loop is told
 *	                └─► one was returned, refused or cut off ─► failed, the delivery stays
 *
 * Each post has a number, the broker's confirms name numbers. A returned post comes back before its
 * confirm does, with the number in its message id. Where the broker takes nothing at present
 * (connection.blocked), settlements wait here.
 */
#include "transport/rabbitmq/thread.h"

#include "base/failpoint.h"
#include "base/mem.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/random.h>
#include <sys/socket.h>

enum {
	OPEN_MAX_POSTS = 512,
	ID_TEXT = 48,
	ARENA_MAX = 65536,
	ACKS_WAKE = 32,
	BUSY_MS = 2,
	PUBLISH_CHANNEL = RABBIT_FIRST_CHANNEL
};

/* One settlement's posts. */
struct send {
	struct asya_link link; /* in the queue, or sending */
	struct asya_settle *op;
	size_t next; /* the post to be published next */
	size_t open; /* published, not confirmed */
	bool failed;
	struct asya_error error;
};

/* One published post. */
struct slot {
	struct send *send; /* NULL: confirmed */
	size_t post;
	bool returned;
};

struct publisher {
	struct rabbit *rabbit;
	struct rabbit_conn *conn;
	struct asya_arena *arena; /* of one publish */
	struct asya_link queue, sending;
	struct slot slots[OPEN_MAX_POSTS];
	uint64_t first, next; /* numbers: the oldest open one, the next one */
	uint64_t nonce;       /* of this connection's message ids */
	unsigned acks;        /* handed over since the consuming thread was last woken */
	unsigned acks_before; /* the same at the last look: more are slow to come */
	bool blocked;
	uint32_t delays; /* steps whose queues have been made */

	/* a returned message that is coming in */
	char back_key[256], back_exchange[256];
	uint64_t back_left;
	bool back_expected;
};

/* ---- results ---- */

static void report(struct publisher *p, bool live, const struct asya_error *err)
{
	struct rabbit *r = p->rabbit;

	pthread_mutex_lock(&r->lock);
	r->publisher_known = true;
	r->publisher_live = live;
	if (!live)
		r->publisher_error = *err;
	uv_async_send(&r->ring);
	pthread_mutex_unlock(&r->lock);
}

static void finish(struct publisher *p, struct send *s, bool stale)
{
	struct rabbit *r = p->rabbit;
	struct asya_settle *op = s->op;

	asya_list_remove(&s->link);
	if (!s->failed && !stale)
		asya_failpoint("rabbitmq.confirmed");
	pthread_mutex_lock(&r->lock);
	if (s->failed) {
		rabbit_fail(r, op, &s->error);
	} else if (op->delivery) { /* what is stale, the other side finds out */
		asya_list_add_tail(&r->acks, &op->link);
		p->acks++;
	} else {
		rabbit_finish(r, op, ASYA_SETTLED);
	}
	pthread_mutex_unlock(&r->lock);
	free(s);
}

static size_t n_posts(const struct asya_settle *op)
{
	return op->n_posts ? op->n_posts : 1; /* none: the delivery itself, delayed */
}

static void finish_if_over(struct publisher *p, struct send *s)
{
	if (!s->open && (s->failed || s->next == n_posts(s->op)))
		finish(p, s, false);
}

static void fail(struct send *s, const struct asya_error *err)
{
	if (!s->failed)
		s->error = *err;
	s->failed = true;
}

static void fail_all(struct publisher *p, const struct asya_error *err)
{
	struct asya_link *i;

	asya_list_splice(&p->sending, &p->queue);
	while ((i = asya_list_pop(&p->sending))) {
		struct send *s = asya_container_of(i, struct send, link);

		fail(s, err);
		finish(p, s, false);
	}
	p->first = p->next;
}

/* ---- publishing ---- */

struct target {
	struct asya_str actor;
	bool dead;
	int64_t delay_ms;
	amqp_bytes_t exchange, key, body;
};

/* The actor's queue by name, for texts. */
static struct asya_str queue_name(struct publisher *p, const struct target *t)
{
	_cleanup_(asya_freep) char *name = rabbit_queue(&p->rabbit->config, t->actor, t->dead);

	return asya_arena_str(p->arena, asya_str_c(name));
}

static struct target target_of(struct publisher *p, const struct asya_settle *op, size_t i)
{
	const struct asya_rabbitmq_config *config = &p->rabbit->config;
	_cleanup_(asya_freep) char *key = NULL;
	struct target t;

	if (op->n_posts) {
		const struct asya_post *post = &op->posts[i];

		t = (struct target){post->actor, post->dead, post->delay_ms};
		t.body = rabbit_bytes(post->body);
	} else {
		const struct rabbit_delivery *d = rabbit_delivery_of(op->delivery);

		t = (struct target){asya_str_c(d->consumer->actor), d->consumer->dead,
				    op->delay_ms};
		t.body = rabbit_bytes(d->base.body);
	}
	if (t.dead && t.delay_ms <= 0) { /* by the default exchange, whatever is bound */
		t.exchange = amqp_empty_bytes;
		t.key = rabbit_bytes(queue_name(p, &t));
		return t;
	}
	key = rabbit_key(config, t.actor, t.dead);
	t.exchange = amqp_cstring_bytes(config->exchange);
	t.key = rabbit_bytes(asya_arena_str(p->arena, asya_str_c(key)));
	return t;
}

/* Many small writes become few packets. */
static void cork(struct publisher *p, int on)
{
	setsockopt(p->conn->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
}

/* A quorum queue that moves what has expired on to the exchange, at least once: where it goes
 * nowhere, it stays. */
static int make_delay(struct publisher *p, unsigned step, const char *name, struct asya_error *err)
{
	amqp_table_entry_t entries[] = {
		{.key = amqp_cstring_bytes("x-queue-type"),
		 .value = {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("quorum")}}},
		{.key = amqp_cstring_bytes("x-dead-letter-exchange"),
		 .value = {AMQP_FIELD_KIND_UTF8,
			   {.bytes = amqp_cstring_bytes(p->rabbit->config.exchange)}}},
		{.key = amqp_cstring_bytes("x-dead-letter-strategy"),
		 .value = {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("at-least-once")}}},
		{.key = amqp_cstring_bytes("x-overflow"),
		 .value = {AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes("reject-publish")}}},
		{.key = amqp_cstring_bytes("x-message-ttl"),
		 .value = {AMQP_FIELD_KIND_I64, {.i64 = rabbit_delay_ms(step)}}},
	};
	amqp_table_t arguments = {ASYA_ARRAY_SIZE(entries), entries};
	int code;

	if (p->delays & (1U << step))
		return 0;
	code = rabbit_conn_exchange(p->conn, name, "fanout", err);
	if (!code)
		code = rabbit_conn_queue(p->conn, name, &arguments, err);
	if (!code)
		code = rabbit_conn_bind(p->conn, name, name, "", err);
	if (!code)
		p->delays |= 1U << step;
	return code;
}

/* Turns the target into the queue that holds it back. 0; over 0: failed; -1: no connection. */
static int delay(struct publisher *p, struct target *t, char expiration[24], struct asya_error *err)
{
	unsigned step = rabbit_delay_step(t->delay_ms);
	_cleanup_(asya_freep) char *name = rabbit_delay_name(&p->rabbit->config, step);
	struct asya_str queue = queue_name(p, t);
	int code;

	cork(p, 0); /* these wait for answers */
	code = rabbit_conn_look(p->conn, queue.p, NULL, err);
	if (!code)
		code = make_delay(p, step, name, err);
	cork(p, 1);
	if (code) {
		asya_error_wrap(err, "a delayed message for queue '%s'", queue.p);
		return code;
	}
	t->exchange = rabbit_bytes(asya_arena_str(p->arena, asya_str_c(name)));
	snprintf(expiration, 24, "%" PRId64, t->delay_ms);
	return 0;
}

static amqp_basic_properties_t properties_new(struct publisher *p, const struct asya_post *post,
					      amqp_table_entry_t *header)
{
	amqp_basic_properties_t out = {
		._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
			  AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG,
		.content_type = amqp_cstring_bytes("application/json"),
		.delivery_mode = AMQP_DELIVERY_PERSISTENT,
		.headers = {1, header}};
	struct asya_str id =
		asya_arena_printf(p->arena, "%016" PRIx64 ".%" PRIu64, p->nonce, p->next);

	*header = (amqp_table_entry_t){
		.key = amqp_cstring_bytes(RABBIT_HEADER_QUEUED),
		.value = {AMQP_FIELD_KIND_I64,
			  {.i64 = post->queued_us ? post->queued_us : asya_clock_wall_us()}}};
	out.message_id = rabbit_bytes(id);
	return out;
}

/* A delivery that goes back later takes its own properties along. */
static int properties_kept(amqp_basic_properties_t *ret, amqp_pool_t *pool,
			   const struct rabbit_delivery *d, struct asya_error *err)
{
	amqp_bytes_t raw = {d->n_properties, (char *)d->base.body.p + d->base.body.n};
	void *decoded = NULL;
	int status = amqp_decode_properties(AMQP_BASIC_CLASS, pool, raw, &decoded);

	if (status < 0)
		return asya_error_set(err, ASYA_RETRY, "a message's properties: %s",
				      amqp_error_string2(status));
	*ret = *(amqp_basic_properties_t *)decoded;
	ret->_flags |= AMQP_BASIC_DELIVERY_MODE_FLAG;
	ret->delivery_mode = AMQP_DELIVERY_PERSISTENT;
	return 0;
}

static void note_published(struct publisher *p, struct send *s)
{
	p->slots[p->next++ % OPEN_MAX_POSTS] = (struct slot){.send = s, .post = s->next};
	s->open++;
	s->next++;
}

/* -1: the connection is gone. */
static int publish(struct publisher *p, struct send *s, struct asya_error *err)
{
	struct target t = target_of(p, s->op, s->next);
	amqp_basic_properties_t properties;
	amqp_table_entry_t header;
	char expiration[24];
	amqp_pool_t pool;
	int code = 0;

	if (t.key.len > 255) {
		asya_error_set(err, ASYA_REJECT, "the name of actor '%.*s' is too long",
			       ASYA_STR_ARG(t.actor));
		fail(s, err);
		return 0;
	}
	init_amqp_pool(&pool, 4096);
	if (t.delay_ms > 0)
		code = delay(p, &t, expiration, err);
	if (!code && s->op->n_posts)
		properties = properties_new(p, &s->op->posts[s->next], &header);
	else if (!code)
		code = properties_kept(&properties, &pool, rabbit_delivery_of(s->op->delivery), err)
			       ? 300
			       : 0;
	if (!code && t.delay_ms > 0) {
		properties._flags |= AMQP_BASIC_EXPIRATION_FLAG;
		properties.expiration = amqp_cstring_bytes(expiration);
	}
	if (!code)
		code = rabbit_conn_check(p->conn,
					 amqp_basic_publish(p->conn->amqp, PUBLISH_CHANNEL,
							    t.exchange, t.key, true, false,
							    &properties, t.body),
					 err);
	if (!code)
		note_published(p, s);
	else if (code > 0)
		fail(s, err);
	empty_amqp_pool(&pool);
	return code < 0 ? -1 : 0;
}

static void forget(struct publisher *p)
{
	if (asya_arena_size(p->arena) < ARENA_MAX)
		return;
	asya_arena_free(p->arena);
	p->arena = asya_arena_new();
}

static int publish_all(struct publisher *p, struct asya_error *err)
{
	bool corked = false;
	int code = 0;

	while (!code && !p->blocked && p->next - p->first < OPEN_MAX_POSTS &&
	       !asya_list_empty(&p->queue)) {
		struct send *s = asya_container_of(p->queue.next, struct send, link);

		if (!corked)
			cork(p, 1);
		corked = true;
		if (!s->next && s->op->delivery && rabbit_stale(s->op)) {
			finish(p, s, true);
			continue;
		}
		asya_failpoint("rabbitmq.publish");
		if (!s->failed)
			code = publish(p, s, err);
		forget(p);
		if (s->failed || s->next == n_posts(s->op)) {
			asya_list_remove(&s->link);
			asya_list_add_tail(&p->sending, &s->link);
			if (!code)
				finish_if_over(p, s);
		}
	}
	if (corked)
		cork(p, 0);
	return code;
}

/* ---- what the broker says ---- */

static void settle_slot(struct publisher *p, uint64_t number, bool taken)
{
	struct slot *slot = &p->slots[number % OPEN_MAX_POSTS];
	struct send *s = slot->send;
	struct asya_error err;

	if (!s)
		return;
	slot->send = NULL;
	if (!taken) {
		struct target t = target_of(p, s->op, slot->post);

		asya_error_set(&err, ASYA_RETRY,
			       "queue '%s' did not take a message (basic.nack): it is full and "
			       "rejects, or its node has failed",
			       queue_name(p, &t).p);
		fail(s, &err);
	}
	s->open--;
	finish_if_over(p, s);
}

static void on_confirm(struct publisher *p, uint64_t number, bool multiple, bool taken)
{
	if (number < p->first || number >= p->next)
		return;
	for (uint64_t n = multiple ? p->first : number; n <= number; n++)
		settle_slot(p, n, taken);
	while (p->first < p->next && !p->slots[p->first % OPEN_MAX_POSTS].send)
		p->first++;
}

static void fail_returned(struct publisher *p, struct slot *slot)
{
	struct target t = target_of(p, slot->send->op, slot->post);
	struct asya_str queue = queue_name(p, &t);
	struct asya_error err;

	asya_error_set(&err, ASYA_RETRY,
		       "queue '%s' does not exist, or is not bound by key '%s' to exchange '%s'",
		       queue.p, p->back_key, p->back_exchange);
	fail(slot->send, &err);
	rabbit_missing(p->rabbit, queue.p);
}

/* By the number in its message id; without one of ours, whatever went the same way and is open. */
static void on_returned(struct publisher *p, const amqp_basic_properties_t *properties)
{
	struct asya_str id = rabbit_str(properties->message_id);
	char text[ID_TEXT], *end = text;
	uint64_t number = 0;

	if (properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG && id.n > 17 && id.n < ID_TEXT) {
		snprintf(text, sizeof(text), "%.*s", (int)id.n, id.p);
		if (strtoull(text, &end, 16) == p->nonce && *end == '.')
			number = strtoull(end + 1, NULL, 10);
	}
	if (number >= p->first && number < p->next && p->slots[number % OPEN_MAX_POSTS].send) {
		fail_returned(p, &p->slots[number % OPEN_MAX_POSTS]);
		return;
	}
	for (uint64_t n = p->first; n < p->next; n++) {
		struct slot *slot = &p->slots[n % OPEN_MAX_POSTS];

		if (slot->send && !slot->send->op->n_posts)
			fail_returned(p, slot);
	}
}

static void on_return_method(struct publisher *p, const amqp_basic_return_t *m)
{
	snprintf(p->back_key, sizeof(p->back_key), "%.*s",
		 ASYA_STR_ARG(rabbit_str(m->routing_key)));
	snprintf(p->back_exchange, sizeof(p->back_exchange), "%.*s",
		 ASYA_STR_ARG(rabbit_str(m->exchange)));
	p->back_expected = true;
}

static int on_method(struct publisher *p, const amqp_frame_t *f, struct asya_error *err)
{
	const void *m = f->payload.method.decoded;
	struct asya_error why;

	switch (f->payload.method.id) {
	case AMQP_BASIC_ACK_METHOD: {
		const amqp_basic_ack_t *ack = m;

		on_confirm(p, ack->delivery_tag, ack->multiple, true);
		return 0;
	}
	case AMQP_BASIC_NACK_METHOD: {
		const amqp_basic_nack_t *refused = m;

		on_confirm(p, refused->delivery_tag, refused->multiple, false);
		return 0;
	}
	case AMQP_BASIC_RETURN_METHOD:
		on_return_method(p, m);
		return 0;
	case AMQP_CONNECTION_BLOCKED_METHOD:
		asya_error_set(
			&why, ASYA_RETRY,
			"RabbitMQ at %s:%d takes no messages at present "
			"(connection.blocked): %.*s",
			p->conn->host->name, p->conn->host->port,
			ASYA_STR_ARG(rabbit_str(((const amqp_connection_blocked_t *)m)->reason)));
		p->blocked = true;
		report(p, false, &why);
		return 0;
	case AMQP_CONNECTION_UNBLOCKED_METHOD:
		p->blocked = false;
		report(p, true, NULL);
		return 0;
	case AMQP_CHANNEL_CLOSE_METHOD:
		rabbit_conn_channel_closed(p->conn, f->channel, m, err);
		/* An exchange that is gone, or a right: begin anew. */
		return f->channel == PUBLISH_CHANNEL ? -1 : 0;
	default:
		return 0;
	}
}

static int on_frame(struct publisher *p, const amqp_frame_t *f, struct asya_error *err)
{
	if (f->frame_type == AMQP_FRAME_METHOD)
		return on_method(p, f, err);
	if (f->channel != PUBLISH_CHANNEL)
		return 0;
	if (f->frame_type == AMQP_FRAME_HEADER && p->back_expected) {
		p->back_expected = false;
		p->back_left = f->payload.properties.body_size;
		on_returned(p, f->payload.properties.decoded);
	} else if (f->frame_type == AMQP_FRAME_BODY) {
		p->back_left -= f->payload.body_fragment.len;
	}
	return 0;
}

static int read_frames(struct publisher *p, struct asya_error *err)
{
	amqp_frame_t f;
	int code;

	while ((code = rabbit_conn_frame(p->conn, &f, err)) > 0) {
		if (on_frame(p, &f, err))
			return -1;
		if (f.frame_type != AMQP_FRAME_METHOD || !p->back_expected)
			amqp_maybe_release_buffers_on_channel(p->conn->amqp, f.channel);
	}
	return code;
}

/* ---- the thread ---- */

static void take_in(struct publisher *p)
{
	struct rabbit *r = p->rabbit;
	struct asya_link sends, *i;

	asya_list_init(&sends);
	pthread_mutex_lock(&r->lock);
	asya_list_splice(&sends, &r->sends);
	r->n_sends = 0;
	pthread_mutex_unlock(&r->lock);
	while ((i = asya_list_pop(&sends))) {
		struct send *s = asya_new0(struct send);

		s->op = asya_container_of(i, struct asya_settle, link);
		asya_list_add_tail(&p->queue, &s->link);
	}
}

static void disconnect(struct publisher *p, const struct asya_error *err)
{
	rabbit_conn_close(p->conn, false);
	p->blocked = false;
	report(p, false, err);
	fail_all(p, err);
}

static int set_up(struct publisher *p, struct asya_error *err)
{
	struct rabbit_conn *conn = p->conn;

	if (rabbit_conn_open(conn, err))
		return -1;
	if (rabbit_conn_channel(conn, PUBLISH_CHANNEL, err))
		return -1;
	amqp_confirm_select(conn->amqp, PUBLISH_CHANNEL);
	if (rabbit_conn_reply(conn, PUBLISH_CHANNEL, amqp_get_rpc_reply(conn->amqp), err))
		return -1;
	if (getrandom(&p->nonce, sizeof(p->nonce), 0) != sizeof(p->nonce))
		p->nonce = (uint64_t)asya_clock_mono_ns();
	p->first = p->next = 1;
	p->delays = 0;
	p->back_expected = false;
	memset(p->slots, 0, sizeof(p->slots));
	return 0;
}

static void connect_again(struct publisher *p, struct asya_error *err)
{
	if (asya_clock_mono_ms() < p->conn->retry_ms)
		return;
	if (set_up(p, err))
		disconnect(p, err);
	else
		report(p, true, NULL);
}

static bool over(struct publisher *p)
{
	struct rabbit *r = p->rabbit;
	bool idle = asya_list_empty(&p->queue) && asya_list_empty(&p->sending), yes;

	pthread_mutex_lock(&r->lock);
	yes = r->stop &&
	      (r->hurry || p->blocked || !p->conn->amqp || (idle && asya_list_empty(&r->sends)));
	pthread_mutex_unlock(&r->lock);
	return yes;
}

/* Acks go over together, but never so that they wait for more than there is to come. */
static void hand_acks_over(struct publisher *p)
{
	struct rabbit *r = p->rabbit;

	if (p->acks < ACKS_WAKE && p->acks < p->next - p->first && p->acks != p->acks_before) {
		p->acks_before = p->acks;
		return;
	}
	p->acks_before = 0;
	if (!p->acks)
		return;
	p->acks = 0;
	pthread_mutex_lock(&r->lock);
	rabbit_wake(&r->consuming);
	pthread_mutex_unlock(&r->lock);
}

/* How long the thread may sleep if nothing happens. */
static int64_t until_next(struct publisher *p)
{
	struct rabbit *r = p->rabbit;
	bool room = p->next - p->first < OPEN_MAX_POSTS && !p->blocked, more;

	if (!p->conn->amqp)
		return p->conn->retry_ms - asya_clock_mono_ms();
	pthread_mutex_lock(&r->lock);
	r->publisher_busy = p->next > p->first && !p->blocked;
	more = !asya_list_empty(&r->sends) && !r->publishing.pending;
	pthread_mutex_unlock(&r->lock);
	if (more || (room && !asya_list_empty(&p->queue)))
		return 0;
	return p->next > p->first && !p->blocked ? BUSY_MS : r->config.heartbeat_ms / 4;
}

static void step(struct publisher *p, struct asya_error *err)
{
	struct rabbit_conn *conn = p->conn;

	if (!conn->amqp)
		connect_again(p, err);
	take_in(p);
	if (conn->amqp && (read_frames(p, err) || publish_all(p, err) || read_frames(p, err)))
		disconnect(p, err);
	hand_acks_over(p);
}

static void end(struct publisher *p)
{
	struct rabbit *r = p->rabbit;
	struct asya_error err;

	asya_error_set(&err, ASYA_RETRY, "the transport was closed before the broker answered");
	take_in(p);
	fail_all(p, &err);
	rabbit_conn_close(p->conn, !r->hurry && !p->blocked);
	asya_arena_free(p->arena);
	pthread_mutex_lock(&r->lock);
	r->publishing.ended = true;
	rabbit_wake(&r->consuming);
	uv_async_send(&r->ring);
	pthread_mutex_unlock(&r->lock);
	free(p);
}

void *rabbit_publish_main(void *arg)
{
	struct publisher *p = asya_new0(struct publisher);
	struct rabbit *r = arg;
	struct asya_error err = ASYA_ERROR_NONE;

	p->rabbit = r;
	p->conn = &r->publish_conn;
	p->arena = asya_arena_new();
	asya_list_init(&p->queue);
	asya_list_init(&p->sending);
	while (!over(p)) {
		step(p, &err);
		if (!over(p))
			rabbit_wait(r, &r->publishing, p->conn, until_next(p));
	}
	end(p);
	return NULL;
}
