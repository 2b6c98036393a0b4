// SPDX-License-Identifier: Apache-2.0
/* The loop's side of the RabbitMQ transport: hands work to the two threads and takes back what they
 * have done. */
#include "transport/rabbitmq/thread.h"

#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* How long the end waits for a broker that does not answer. */
enum { PATIENCE_MS = 5000, SENDS_WAKE = 16 };

static struct rabbit *rabbit_of(struct asya_transport *t)
{
	return (struct rabbit *)t;
}

void rabbit_wake(struct rabbit_worker *w)
{
	uint64_t one = 1;

	if (w->pending)
		return;
	w->pending = true;
	if (write(w->wake, &one, sizeof(one)) != sizeof(one))
		abort(); /* an eventfd takes this */
}

void rabbit_wait(struct rabbit *r, struct rabbit_worker *w, const struct rabbit_conn *c,
		 int64_t timeout_ms)
{
	struct pollfd fds[2] = {{.fd = w->wake, .events = POLLIN},
				{.fd = c->amqp ? c->fd : -1, .events = POLLIN}};
	uint64_t count;

	poll(fds, 2, (int)(timeout_ms < 0 ? 0 : timeout_ms));
	if (!fds[0].revents)
		return;
	pthread_mutex_lock(&r->lock);
	if (w->pending && read(w->wake, &count, sizeof(count)) != sizeof(count))
		abort();
	w->pending = false;
	pthread_mutex_unlock(&r->lock);
}

void rabbit_finish(struct rabbit *r, struct asya_settle *op, enum asya_settled result)
{
	op->result = result;
	asya_list_add_tail(&r->settles_out, &op->link);
	uv_async_send(&r->ring);
}

void rabbit_fail(struct rabbit *r, struct asya_settle *op, const struct asya_error *err)
{
	struct rabbit_failure *f = asya_new0(struct rabbit_failure);

	f->op = op;
	f->error = *err;
	op->result = ASYA_SETTLE_FAILED;
	asya_list_add_tail(&r->failures, &f->link);
	uv_async_send(&r->ring);
}

static bool publishes(const struct asya_settle *op)
{
	return op->n_posts || (op->delivery && op->verdict == ASYA_RELEASE && op->delay_ms > 0);
}

/* A publisher with confirms to come wakes by itself: several posts then cost one wake. */
static void hand_to_publisher(struct rabbit *r, struct asya_settle *op)
{
	asya_list_add_tail(&r->sends, &op->link);
	if (++r->n_sends >= SENDS_WAKE || !r->publisher_busy)
		rabbit_wake(&r->publishing);
}

static void settle(struct asya_transport *t, struct asya_settle *op)
{
	struct rabbit *r = rabbit_of(t);

	pthread_mutex_lock(&r->lock);
	if (publishes(op)) {
		hand_to_publisher(r, op);
	} else {
		asya_list_add_tail(&r->verdicts, &op->link);
		rabbit_wake(&r->consuming);
	}
	pthread_mutex_unlock(&r->lock);
}

static void given_back(struct asya_settle *op, enum asya_settled outcome,
		       const struct asya_error *err)
{
	(void)op;
	(void)outcome; /* settled, or its channel is gone: either way it is in its queue */
	(void)err;
}

static void give_back(struct rabbit *r, struct rabbit_delivery *d)
{
	d->giving_back = (struct asya_settle){
		.delivery = &d->base, .verdict = ASYA_RELEASE, .done = given_back};
	settle(&r->base, &d->giving_back);
}

static void finish_settles(struct asya_link *settles)
{
	struct asya_link *i;

	while ((i = asya_list_pop(settles))) {
		struct asya_settle *op = asya_container_of(i, struct asya_settle, link);
		struct asya_delivery *d = op->delivery;

		op->done(op, op->result, NULL);
		if (d)
			free(rabbit_delivery_of(d));
	}
}

static void finish_failures(struct asya_link *failures)
{
	struct asya_link *i;

	while ((i = asya_list_pop(failures))) {
		struct rabbit_failure *f = asya_container_of(i, struct rabbit_failure, link);

		f->op->done(f->op, ASYA_SETTLE_FAILED, &f->error);
		free(f);
	}
}

static void finish_stats(struct asya_link *stats, const struct asya_error *err)
{
	struct asya_link *i;

	while ((i = asya_list_pop(stats))) {
		struct asya_stat *op = asya_container_of(i, struct asya_stat, link);

		op->done(op, op->failed ? err : NULL);
	}
}

/* A consumer lives while both of its connections do: what it takes must be sent on. */
static void tell(struct rabbit_consumer *c, bool live, const struct asya_error *err)
{
	if (c->told && live == c->told_live && (live || strcmp(err->text, c->told_error.text) == 0))
		return;
	c->told = true;
	c->told_live = live;
	c->told_error = *err;
	if (c->user && c->user->state)
		c->user->state(c->user, live, live ? NULL : &c->told_error);
}

static void serve_consumer(struct rabbit *r, struct rabbit_consumer *c)
{
	struct asya_link ready, *i;
	struct asya_error err;
	bool known, live;

	asya_list_init(&ready);
	pthread_mutex_lock(&r->lock);
	asya_list_splice(&ready, &c->ready);
	known = (c->known && !c->live) || (r->publisher_known && !r->publisher_live) ||
		(c->known && r->publisher_known);
	live = c->live && r->publisher_live;
	err = c->known && !c->live ? c->error : r->publisher_error;
	pthread_mutex_unlock(&r->lock);
	if (known)
		tell(c, live, &err);
	while ((i = asya_list_pop(&ready))) {
		struct rabbit_delivery *d = asya_container_of(i, struct rabbit_delivery, link);

		if (c->user)
			c->user->deliver(c->user, &d->base);
		else
			give_back(r, d);
	}
}

static void free_deliveries(struct asya_link *held)
{
	struct asya_link *i;

	while ((i = asya_list_pop(held)))
		free(asya_container_of(i, struct rabbit_delivery, held));
}

static void free_consumer(struct rabbit_consumer *c)
{
	free_deliveries(&c->held);
	free_deliveries(&c->lost);
	free(c->partial);
	free(c->actor);
	free(c->queue);
	free(c->dead_queue);
	free(c);
}

static void rabbit_free(struct rabbit *r)
{
	struct asya_link *i;

	while ((i = asya_list_pop(&r->consumers)))
		free_consumer(asya_container_of(i, struct rabbit_consumer, link));
	if (r->consuming.wake >= 0)
		close(r->consuming.wake);
	if (r->publishing.wake >= 0)
		close(r->publishing.wake);
	rabbit_conn_fini(&r->consume_conn);
	rabbit_conn_fini(&r->publish_conn);
	pthread_mutex_destroy(&r->lock);
	asya_arena_free(r->arena);
	free(r);
}

static void on_closed(uv_handle_t *h)
{
	struct rabbit *r = h->data;

	if (--r->closing)
		return;
	if (r->closed)
		r->closed(r->closed_user);
	rabbit_free(r);
}

static void close_handle(struct rabbit *r, uv_handle_t *h)
{
	h->data = r;
	r->closing++;
	uv_close(h, on_closed);
}

/* What was asked for after the threads' last look. */
static void refuse_late(struct rabbit *r)
{
	struct asya_error err;
	struct asya_link late, *i;

	asya_error_set(&err, ASYA_FATAL, "the transport is closed");
	asya_list_init(&late);
	asya_list_splice(&late, &r->sends);
	asya_list_splice(&late, &r->verdicts);
	asya_list_splice(&late, &r->acks);
	while ((i = asya_list_pop(&late))) {
		struct asya_settle *op = asya_container_of(i, struct asya_settle, link);

		op->done(op, ASYA_SETTLE_FAILED, &err);
	}
	while ((i = asya_list_pop(&r->stats))) {
		struct asya_stat *op = asya_container_of(i, struct asya_stat, link);

		op->done(op, &err);
	}
}

static void end(struct rabbit *r)
{
	pthread_join(r->publishing.thread, NULL);
	pthread_join(r->consuming.thread, NULL);
	refuse_late(r);
	close_handle(r, (uv_handle_t *)&r->patience);
	close_handle(r, (uv_handle_t *)&r->ring);
}

static void on_ring(uv_async_t *a)
{
	struct rabbit *r = asya_container_of(a, struct rabbit, ring);
	struct asya_link settles, failures, stats, *i;
	struct asya_error stats_error;
	bool ended;

	asya_list_init(&settles);
	asya_list_init(&failures);
	asya_list_init(&stats);
	pthread_mutex_lock(&r->lock);
	asya_list_splice(&settles, &r->settles_out);
	asya_list_splice(&failures, &r->failures);
	asya_list_splice(&stats, &r->stats_out);
	stats_error = r->stats_error;
	ended = r->consuming.ended && r->publishing.ended;
	pthread_mutex_unlock(&r->lock);
	finish_settles(&settles);
	finish_failures(&failures);
	finish_stats(&stats, &stats_error);
	/* Once closing, deliveries on their way go back with the channel. */
	for (i = r->consumers.next; i != &r->consumers && !r->closed; i = i->next)
		serve_consumer(r, asya_container_of(i, struct rabbit_consumer, link));
	if (ended)
		end(r);
}

static void consume(struct asya_transport *t, struct asya_consumer *user)
{
	struct rabbit *r = rabbit_of(t);
	struct rabbit_consumer *c = asya_new0(struct rabbit_consumer);

	c->rabbit = r;
	c->user = user;
	c->actor = asya_strndup(user->actor.p, user->actor.n);
	c->dead = user->dead;
	c->queue = rabbit_queue(&r->config, user->actor, false);
	c->dead_queue = rabbit_queue(&r->config, user->actor, true);
	atomic_init(&c->life, 1);
	asya_list_init(&c->ready);
	asya_list_init(&c->held);
	asya_list_init(&c->lost);
	asya_list_init(&c->waiting);
	asya_list_init(&c->acking);
	user->backend = c;
	c->channel = (amqp_channel_t)(RABBIT_FIRST_CHANNEL + r->n_consumers++);
	asya_list_add_tail(&r->consumers, &c->link);
	pthread_mutex_lock(&r->lock);
	asya_list_add_tail(&r->joining, &c->own);
	rabbit_wake(&r->consuming);
	pthread_mutex_unlock(&r->lock);
}

static void window(struct asya_transport *t, struct asya_consumer *user, unsigned n)
{
	struct rabbit *r = rabbit_of(t);
	struct rabbit_consumer *c = user->backend;

	if (r->config.prefetch_max && n > (unsigned)r->config.prefetch_max)
		n = (unsigned)r->config.prefetch_max;
	pthread_mutex_lock(&r->lock);
	c->window = n < UINT16_MAX ? n : UINT16_MAX;
	rabbit_wake(&r->consuming);
	pthread_mutex_unlock(&r->lock);
}

static void stop(struct asya_transport *t, struct asya_consumer *user)
{
	struct rabbit *r = rabbit_of(t);
	struct rabbit_consumer *c = user->backend;

	c->user = NULL;
	pthread_mutex_lock(&r->lock);
	c->stopped = true;
	rabbit_wake(&r->consuming);
	pthread_mutex_unlock(&r->lock);
	uv_async_send(&r->ring); /* what is on its way goes back */
}

static void stat_queue(struct asya_transport *t, struct asya_stat *op)
{
	struct rabbit *r = rabbit_of(t);

	pthread_mutex_lock(&r->lock);
	asya_list_add_tail(&r->stats, &op->link);
	rabbit_wake(&r->consuming);
	pthread_mutex_unlock(&r->lock);
}

static void on_impatient(uv_timer_t *timer)
{
	struct rabbit *r = asya_container_of(timer, struct rabbit, patience);

	pthread_mutex_lock(&r->lock);
	r->hurry = true;
	rabbit_wake(&r->publishing);
	rabbit_wake(&r->consuming);
	pthread_mutex_unlock(&r->lock);
	rabbit_conn_cut(&r->publish_conn);
	rabbit_conn_cut(&r->consume_conn);
}

static void close_transport(struct asya_transport *t, void (*done)(void *user), void *user)
{
	struct rabbit *r = rabbit_of(t);

	r->closed = done;
	r->closed_user = user;
	uv_timer_start(&r->patience, on_impatient, PATIENCE_MS, 1000);
	pthread_mutex_lock(&r->lock);
	r->stop = true;
	rabbit_wake(&r->publishing);
	rabbit_wake(&r->consuming);
	pthread_mutex_unlock(&r->lock);
}

void asya_rabbitmq_cut(struct asya_transport *t)
{
	rabbit_conn_cut(&rabbit_of(t)->consume_conn);
}

static const char *copy(struct asya_arena *arena, const char *s)
{
	return asya_arena_cstr(arena, asya_str_c(s));
}

static void copy_config(struct rabbit *r, const struct asya_rabbitmq_config *from)
{
	struct asya_rabbitmq_host *hosts =
		asya_arena_array(r->arena, struct asya_rabbitmq_host, from->n_hosts + 1);
	struct asya_rabbitmq_config *c = &r->config;

	*c = *from;
	for (size_t i = 0; i < from->n_hosts; i++)
		hosts[i] = (struct asya_rabbitmq_host){copy(r->arena, from->hosts[i].name),
						       from->hosts[i].port};
	c->hosts = hosts;
	c->user = copy(r->arena, from->user);
	c->password = copy(r->arena, from->password);
	c->vhost = copy(r->arena, from->vhost);
	c->ca_file = copy(r->arena, from->ca_file);
	c->cert_file = copy(r->arena, from->cert_file);
	c->key_file = copy(r->arena, from->key_file);
	c->exchange = copy(r->arena, from->exchange);
	c->space = copy(r->arena, from->space);
}

static struct rabbit *rabbit_new(uv_loop_t *loop, const struct asya_rabbitmq_config *config)
{
	struct rabbit *r = asya_new0(struct rabbit);

	r->base.ops = &asya_rabbitmq_ops;
	r->loop = loop;
	r->arena = asya_arena_new();
	copy_config(r, config);
	pthread_mutex_init(&r->lock, NULL);
	rabbit_conn_init(&r->consume_conn, &r->config, "asya consume");
	rabbit_conn_init(&r->publish_conn, &r->config, "asya publish");
	asya_list_init(&r->consumers);
	asya_list_init(&r->joining);
	asya_list_init(&r->own);
	asya_list_init(&r->sends);
	asya_list_init(&r->verdicts);
	asya_list_init(&r->acks);
	asya_list_init(&r->stats);
	asya_list_init(&r->settles_out);
	asya_list_init(&r->stats_out);
	asya_list_init(&r->failures);
	r->consuming.wake = eventfd(0, EFD_CLOEXEC);
	r->publishing.wake = eventfd(0, EFD_CLOEXEC);
	return r;
}

static int start_thread(struct rabbit_worker *w, void *(*main)(void *), struct rabbit *r)
{
	pthread_attr_t attr;
	int code;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 512 * 1024);
	code = pthread_create(&w->thread, &attr, main, r);
	pthread_attr_destroy(&attr);
	w->started = code == 0;
	w->ended = code != 0;
	return code;
}

/* The second could not be started: the first must end before anything is freed. */
static void stop_threads(struct rabbit *r)
{
	pthread_mutex_lock(&r->lock);
	r->stop = r->hurry = true;
	rabbit_wake(&r->consuming);
	rabbit_wake(&r->publishing);
	pthread_mutex_unlock(&r->lock);
	if (r->publishing.started)
		pthread_join(r->publishing.thread, NULL);
	if (r->consuming.started)
		pthread_join(r->consuming.thread, NULL);
}

int asya_rabbitmq_open(struct asya_transport **ret, uv_loop_t *loop,
		       const struct asya_rabbitmq_config *config, struct asya_error *err)
{
	struct rabbit *r = rabbit_new(loop, config);
	int code = 0;

	if (r->consuming.wake < 0 || r->publishing.wake < 0)
		code = errno;
	if (!code)
		code = -uv_async_init(loop, &r->ring, on_ring);
	if (code) {
		rabbit_free(r);
		return asya_error_errno(err, ASYA_FATAL, code, "opening the RabbitMQ transport");
	}
	uv_timer_init(loop, &r->patience);
	code = start_thread(&r->publishing, rabbit_publish_main, r);
	if (!code)
		code = start_thread(&r->consuming, rabbit_consume_main, r);
	if (code) {
		stop_threads(r);
		close_handle(r, (uv_handle_t *)&r->patience);
		close_handle(r, (uv_handle_t *)&r->ring);
		return asya_error_errno(err, ASYA_FATAL, code, "starting a thread");
	}
	*ret = &r->base;
	return 0;
}

static int open_transport(struct asya_transport **ret, uv_loop_t *loop, asya_config_get_fn *get,
			  void *user, struct asya_error *err)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct asya_rabbitmq_config config;

	if (asya_rabbitmq_config_load(&config, get, user, arena, err))
		return -1;
	return asya_rabbitmq_open(ret, loop, &config, err);
}

const struct asya_transport_ops asya_rabbitmq_ops = {
	.name = "rabbitmq",
	.settings = asya_rabbitmq_settings,
	.n_settings = ASYA_RABBITMQ_N_SETTINGS,
	.open = open_transport,
	.close = close_transport,
	.consume = consume,
	.window = window,
	.stop = stop,
	.settle = settle,
	.stat = stat_queue,
};
