// SPDX-License-Identifier: Apache-2.0
/* One tick of the hub's loop handler runs what was asked for since the last one, then hands out
 * what is visible. */
#include "transport/mem/mem.h"

#include "base/clock.h"
#include "base/mem.h"

struct message {
	struct asya_delivery base;
	struct asya_link link; /* in its queue, waiting or leased; in `delivering` no longer */
	struct queue *queue;
	struct consumer *consumer; /* who holds it, NULL: nobody */
	bool orphan;               /* its lease was lost: a copy waits in the queue */
	int64_t visible_us;
	char *body;
};

struct queue {
	struct asya_link link;
	char *actor;
	bool dead;
	int64_t done, failed;
	struct asya_link waiting, leased;
};

struct consumer {
	struct asya_link link;
	struct asya_consumer *user;
	struct mem *mem;
	struct queue *queue;
	unsigned window, out;
	bool told;
};

struct mem {
	struct asya_transport base;
	struct asya_mem_hub *hub;
	struct asya_link link;
	struct asya_link consumers;
	struct asya_link settles, stats;
	bool own_hub, closing;
	void (*closed)(void *user);
	void *closed_user;
};

struct asya_mem_hub {
	uv_loop_t *loop;
	uv_async_t tick;
	uv_timer_t due;
	struct asya_link transports, queues;
	int closing;
	void (*closed)(void *user);
	void *closed_user;
};

static struct mem *mem_of(struct asya_transport *t)
{
	return (struct mem *)t;
}

static struct message *message_of(struct asya_delivery *d)
{
	return asya_container_of(d, struct message, base);
}

static struct queue *queue_find(struct asya_mem_hub *hub, struct asya_str actor, bool dead)
{
	struct queue *q;

	for (struct asya_link *i = hub->queues.next; i != &hub->queues; i = i->next) {
		q = asya_container_of(i, struct queue, link);
		if (q->dead == dead && asya_str_eq_c(actor, q->actor))
			return q;
	}
	q = asya_new0(struct queue);
	q->actor = asya_strndup(actor.p, actor.n);
	q->dead = dead;
	asya_list_init(&q->waiting);
	asya_list_init(&q->leased);
	asya_list_add_tail(&hub->queues, &q->link);
	return q;
}

/* Into its place by time; those of the same time stay in their order. */
static void enqueue(struct queue *q, struct message *m)
{
	struct asya_link *at = q->waiting.prev;

	while (at != &q->waiting &&
	       asya_container_of(at, struct message, link)->visible_us > m->visible_us)
		at = at->prev;
	m->queue = q;
	m->consumer = NULL;
	asya_list_add_tail(at->next, &m->link);
}

static struct message *message_new(struct asya_str body, int64_t queued_us, int64_t visible_us)
{
	struct message *m = asya_new0(struct message);

	m->body = asya_strndup(body.p, body.n);
	m->base.body = (struct asya_str){m->body, body.n};
	m->base.queued_us = queued_us;
	m->visible_us = visible_us;
	asya_list_init(&m->link);
	return m;
}

static void message_free(struct message *m)
{
	asya_list_remove(&m->link);
	free(m->body);
	free(m);
}

static void unlease(struct message *m)
{
	m->consumer->out--;
	asya_list_remove(&m->link);
}

static void post_all(struct mem *mem, const struct asya_settle *op)
{
	int64_t now = asya_clock_wall_us();

	for (size_t i = 0; i < op->n_posts; i++) {
		const struct asya_post *p = &op->posts[i];

		enqueue(queue_find(mem->hub, p->actor, p->dead),
			message_new(p->body, p->queued_us ? p->queued_us : now,
				    now + p->delay_ms * 1000));
	}
}

static enum asya_settled settle_one(struct mem *mem, struct asya_settle *op)
{
	struct message *m = op->delivery ? message_of(op->delivery) : NULL;

	if (m && m->orphan)
		return ASYA_STALE;
	post_all(mem, op);
	if (m)
		unlease(m);
	if (m && op->verdict == ASYA_RELEASE) {
		struct message *again = message_new(
			m->base.body, m->base.queued_us,
			op->delay_ms ? asya_clock_wall_us() + op->delay_ms * 1000 : m->visible_us);

		again->base.receives = m->base.receives;
		enqueue(m->queue, again);
	}
	return ASYA_SETTLED;
}

static void run_settles(struct mem *mem)
{
	struct asya_link *i;

	while ((i = asya_list_pop(&mem->settles))) {
		struct asya_settle *op = asya_container_of(i, struct asya_settle, link);
		struct message *m = op->delivery ? message_of(op->delivery) : NULL;

		op->done(op, settle_one(mem, op), NULL);
		if (m)
			message_free(m);
	}
}

static int64_t count(const struct asya_link *list, int64_t now, bool later)
{
	int64_t n = 0;

	for (const struct asya_link *i = list->next; i != list; i = i->next)
		n += (asya_container_of(i, struct message, link)->visible_us > now) == later;
	return n;
}

static void run_stats(struct mem *mem)
{
	int64_t now = asya_clock_wall_us();
	struct asya_link *i;

	while ((i = asya_list_pop(&mem->stats))) {
		struct asya_stat *op = asya_container_of(i, struct asya_stat, link);
		struct queue *q = queue_find(mem->hub, op->actor, false);
		struct queue *dead = queue_find(mem->hub, op->actor, true);

		op->depth.ready = count(&q->waiting, now, false);
		op->depth.delayed = count(&q->waiting, now, true);
		op->depth.leased = count(&q->leased, now, false) + count(&q->leased, now, true);
		op->depth.dead = count(&dead->waiting, now, false) +
				 count(&dead->waiting, now, true) +
				 count(&dead->leased, now, false) + count(&dead->leased, now, true);
		op->done(op, NULL);
	}
}

static void hand_out(struct consumer *c)
{
	if (!c->told && c->user) {
		c->told = true;
		if (c->user->state)
			c->user->state(c->user, true, NULL);
	}
	while (c->user && c->out < c->window && !asya_list_empty(&c->queue->waiting)) {
		struct message *m = asya_container_of(c->queue->waiting.next, struct message, link);

		if (m->visible_us > asya_clock_wall_us())
			return;
		asya_list_remove(&m->link);
		asya_list_add_tail(&c->queue->leased, &m->link);
		m->consumer = c;
		m->base.receives++;
		c->out++;
		c->user->deliver(c->user, &m->base);
	}
}

static void on_due(uv_timer_t *t)
{
	uv_async_send(&asya_container_of(t, struct asya_mem_hub, due)->tick);
}

static void arm(struct asya_mem_hub *hub)
{
	int64_t first = INT64_MAX, now = asya_clock_wall_us();

	for (struct asya_link *i = hub->queues.next; i != &hub->queues; i = i->next) {
		struct queue *q = asya_container_of(i, struct queue, link);

		for (struct asya_link *k = q->waiting.next; k != &q->waiting; k = k->next) {
			int64_t at = asya_container_of(k, struct message, link)->visible_us;

			if (at > now && at < first)
				first = at;
		}
	}
	if (first != INT64_MAX)
		uv_timer_start(&hub->due, on_due, (uint64_t)((first - now + 999) / 1000), 0);
}

void asya_mem_expire(struct asya_transport *t)
{
	struct mem *mem = mem_of(t);

	for (struct asya_link *i = mem->hub->queues.next; i != &mem->hub->queues; i = i->next) {
		struct queue *q = asya_container_of(i, struct queue, link);

		for (struct asya_link *k = q->leased.next, *next; k != &q->leased; k = next) {
			struct message *m = asya_container_of(k, struct message, link), *again;

			next = k->next;
			if (m->consumer->mem != mem)
				continue;
			unlease(m);
			m->orphan = true;
			again = message_new(m->base.body, m->base.queued_us, m->visible_us);
			again->base.receives = m->base.receives;
			enqueue(q, again);
		}
	}
	uv_async_send(&mem->hub->tick);
}

static void end(struct mem *mem)
{
	struct asya_link *i;

	for (i = mem->hub->queues.next; i != &mem->hub->queues; i = i->next) {
		struct queue *q = asya_container_of(i, struct queue, link);

		for (struct asya_link *k = q->leased.next, *next; k != &q->leased; k = next) {
			struct message *m = asya_container_of(k, struct message, link);

			next = k->next;
			if (m->consumer->mem != mem)
				continue;
			unlease(m);
			enqueue(q, m);
		}
	}
	while ((i = asya_list_pop(&mem->consumers)))
		free(asya_container_of(i, struct consumer, link));
	asya_list_remove(&mem->link);
	if (mem->own_hub)
		asya_mem_hub_close(mem->hub, mem->closed, mem->closed_user);
	else
		mem->closed(mem->closed_user);
	free(mem);
}

static void on_tick(uv_async_t *a)
{
	struct asya_mem_hub *hub = asya_container_of(a, struct asya_mem_hub, tick);
	struct asya_link *next;

	for (struct asya_link *i = hub->transports.next; i != &hub->transports; i = next) {
		struct mem *mem = asya_container_of(i, struct mem, link);

		next = i->next;
		run_settles(mem);
		run_stats(mem);
		if (mem->closing)
			end(mem);
	}
	for (struct asya_link *i = hub->transports.next; i != &hub->transports; i = i->next) {
		struct mem *mem = asya_container_of(i, struct mem, link);

		for (struct asya_link *k = mem->consumers.next; k != &mem->consumers; k = k->next)
			hand_out(asya_container_of(k, struct consumer, link));
	}
	if (!hub->closing)
		arm(hub);
}

static void consume(struct asya_transport *t, struct asya_consumer *user)
{
	struct mem *mem = mem_of(t);
	struct consumer *c = asya_new0(struct consumer);

	c->user = user;
	c->mem = mem;
	c->queue = queue_find(mem->hub, user->actor, user->dead);
	user->backend = c;
	asya_list_add_tail(&mem->consumers, &c->link);
	uv_async_send(&mem->hub->tick);
}

static void window(struct asya_transport *t, struct asya_consumer *user, unsigned n)
{
	((struct consumer *)user->backend)->window = n;
	uv_async_send(&mem_of(t)->hub->tick);
}

static void stop(struct asya_transport *t, struct asya_consumer *user)
{
	(void)t;
	((struct consumer *)user->backend)->user = NULL;
}

static void settle(struct asya_transport *t, struct asya_settle *op)
{
	asya_list_add_tail(&mem_of(t)->settles, &op->link);
	uv_async_send(&mem_of(t)->hub->tick);
}

static void stat_queue(struct asya_transport *t, struct asya_stat *op)
{
	asya_list_add_tail(&mem_of(t)->stats, &op->link);
	uv_async_send(&mem_of(t)->hub->tick);
}

static void close_transport(struct asya_transport *t, void (*done)(void *user), void *user)
{
	struct mem *mem = mem_of(t);

	mem->closing = true;
	mem->closed = done;
	mem->closed_user = user;
	uv_async_send(&mem->hub->tick);
}

struct asya_mem_hub *asya_mem_hub_new(uv_loop_t *loop)
{
	struct asya_mem_hub *hub = asya_new0(struct asya_mem_hub);

	hub->loop = loop;
	asya_list_init(&hub->transports);
	asya_list_init(&hub->queues);
	uv_async_init(loop, &hub->tick, on_tick);
	uv_timer_init(loop, &hub->due);
	return hub;
}

static void queue_free(struct queue *q)
{
	struct asya_link *i;

	while ((i = asya_list_pop(&q->waiting)))
		message_free(asya_container_of(i, struct message, link));
	free(q->actor);
	free(q);
}

static void on_closed(uv_handle_t *h)
{
	struct asya_mem_hub *hub = h->data;
	struct asya_link *i;

	if (--hub->closing)
		return;
	while ((i = asya_list_pop(&hub->queues)))
		queue_free(asya_container_of(i, struct queue, link));
	hub->closed(hub->closed_user);
	free(hub);
}

void asya_mem_hub_close(struct asya_mem_hub *hub, void (*done)(void *user), void *user)
{
	hub->closed = done;
	hub->closed_user = user;
	hub->closing = 2;
	hub->tick.data = hub->due.data = hub;
	uv_close((uv_handle_t *)&hub->tick, on_closed);
	uv_close((uv_handle_t *)&hub->due, on_closed);
}

void asya_mem_open(struct asya_transport **ret, struct asya_mem_hub *hub)
{
	struct mem *mem = asya_new0(struct mem);

	mem->base.ops = &asya_mem_ops;
	mem->hub = hub;
	asya_list_init(&mem->consumers);
	asya_list_init(&mem->settles);
	asya_list_init(&mem->stats);
	asya_list_add_tail(&hub->transports, &mem->link);
	*ret = &mem->base;
}

static int open_alone(struct asya_transport **ret, uv_loop_t *loop, asya_config_get_fn *get,
		      void *user, struct asya_error *err)
{
	(void)get;
	(void)user;
	(void)err;
	asya_mem_open(ret, asya_mem_hub_new(loop));
	mem_of(*ret)->own_hub = true;
	return 0;
}

const struct asya_transport_ops asya_mem_ops = {
	.name = "mem",
	.transactional = true,
	.open = open_alone,
	.close = close_transport,
	.consume = consume,
	.window = window,
	.stop = stop,
	.settle = settle,
	.stat = stat_queue,
};
