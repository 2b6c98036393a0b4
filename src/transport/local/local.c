// SPDX-License-Identifier: Apache-2.0
/*
 * The loop's side of the local transport and its thread.
 *
 * The loop hands operations over under one lock and rings; the thread takes all of them, refills
 * the consumers' windows in the same transaction, commits, and hands everything back through one
 * uv_async. A consumer is looked at when its wake file was touched, when its window has room and
 * its last take found all it asked for, when a delayed message or a lease falls due, and at a slow
 * poll.
 */
#include "transport/local/local.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/config.h"
#include "core/envelope.h"
#include "transport/local/thread.h"

#include <sys/stat.h>

enum { POLL_MS = 2000 };

static struct local *local_of(struct asya_transport *t)
{
	return (struct local *)t;
}

/* Under the lock. */
static void ring_thread(struct local *l)
{
	if (!l->pending)
		pthread_cond_signal(&l->work);
	l->pending = true;
}

static void poke(struct local_consumer *c)
{
	struct local *l = c->local;

	pthread_mutex_lock(&l->lock);
	c->poked = true;
	if ((c->window || !c->live) && !c->stopped)
		ring_thread(l);
	pthread_mutex_unlock(&l->lock);
}

static void on_watch(uv_fs_event_t *w, const char *name, int events, int status);

/* Watches the file of this name that is there now. Without a watch (limits of inotify) the slow
 * poll still finds everything. */
static void watch(struct local_consumer *c)
{
	struct stat st;

	if (!c->wake || c->stopped)
		return;
	if (stat(c->wake, &st) && (local_wake_touch(c->wake) || stat(c->wake, &st)))
		return;
	if (st.st_ino == c->wake_ino)
		return;
	uv_fs_event_stop(&c->watch);
	c->wake_ino = uv_fs_event_start(&c->watch, on_watch, c->wake, 0) ? 0 : st.st_ino;
}

static void on_watch(uv_fs_event_t *w, const char *name, int events, int status)
{
	struct local_consumer *c = asya_container_of(w, struct local_consumer, watch);

	(void)name;
	(void)status;
	if (events & UV_RENAME) { /* deleted; a new one may have the same number */
		c->wake_ino = 0;
		watch(c);
	}
	poke(c);
}

static void on_due(uv_timer_t *t)
{
	poke(asya_container_of(t, struct local_consumer, due));
}

static void settle(struct asya_transport *t, struct asya_settle *op)
{
	struct local *l = local_of(t);

	pthread_mutex_lock(&l->lock);
	asya_list_add_tail(&l->settles, &op->link);
	ring_thread(l);
	pthread_mutex_unlock(&l->lock);
}

/* Where it failed, the poll tries again. */
static void given_back(struct asya_settle *op, enum asya_settled outcome,
		       const struct asya_error *err)
{
	struct local_delivery *d = local_delivery_of(op->delivery);

	(void)err;
	if (outcome == ASYA_SETTLE_FAILED)
		asya_list_add_tail(&d->consumer->local->unreturned, &d->link);
}

static void give_back(struct local *l, struct local_delivery *d)
{
	d->giving_back = (struct asya_settle){
		.delivery = &d->base, .verdict = ASYA_RELEASE, .done = given_back};
	settle(&l->base, &d->giving_back);
}

static void on_poll(uv_timer_t *t)
{
	struct local *l = asya_container_of(t, struct local, poll);
	struct asya_link again, *i;

	asya_list_init(&again);
	asya_list_splice(&again, &l->unreturned);
	while ((i = asya_list_pop(&again)))
		give_back(l, asya_container_of(i, struct local_delivery, link));
	for (i = l->consumers.next; i != &l->consumers; i = i->next) {
		struct local_consumer *c = asya_container_of(i, struct local_consumer, link);

		watch(c);
		poke(c);
	}
}

static void finish_settle(struct asya_settle *op, const struct asya_error *err)
{
	struct asya_delivery *d = op->delivery;
	enum asya_settled result = op->result;

	op->done(op, result, err);
	if (d && result != ASYA_SETTLE_FAILED)
		local_delivery_free(local_delivery_of(d));
}

static void finish_settles(struct asya_link *settles, const struct asya_error *err)
{
	struct asya_link *i;

	while ((i = asya_list_pop(settles)))
		finish_settle(asya_container_of(i, struct asya_settle, link), err);
}

static void finish_failures(struct asya_link *failures)
{
	struct asya_link *i;

	while ((i = asya_list_pop(failures))) {
		struct local_failure *f = asya_container_of(i, struct local_failure, link);

		finish_settles(&f->settles, &f->error);
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

/* Tells the consumer its state and hands its deliveries over. */
static void serve_consumer(struct local *l, struct local_consumer *c)
{
	struct asya_link ready, *i;
	struct asya_error err;
	int64_t due_us;
	bool report, live;

	asya_list_init(&ready);
	pthread_mutex_lock(&l->lock);
	asya_list_splice(&ready, &c->ready);
	report = c->report;
	c->report = false;
	live = c->live;
	err = c->error;
	due_us = c->due_us;
	pthread_mutex_unlock(&l->lock);
	if (due_us) {
		int64_t ms = (due_us - asya_clock_wall_us() + 999) / 1000;

		uv_timer_start(&c->due, on_due, (uint64_t)(ms > 1 ? ms : 1), 0);
	}
	if (report && c->user && c->user->state)
		c->user->state(c->user, live, live ? NULL : &err);
	while ((i = asya_list_pop(&ready))) {
		struct local_delivery *d = asya_container_of(i, struct local_delivery, link);

		if (c->user)
			c->user->deliver(c->user, &d->base);
		else
			give_back(l, d);
	}
}

static void on_closed(uv_handle_t *h)
{
	struct local *l = h->data;
	struct asya_link *i;

	if (--l->closing)
		return;
	while ((i = asya_list_pop(&l->consumers))) {
		struct local_consumer *c = asya_container_of(i, struct local_consumer, link);

		free((char *)c->actor.p);
		free(c->wake);
		free(c);
	}
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->work);
	l->closed(l->closed_user);
	free(l);
}

static void close_handle(struct local *l, uv_handle_t *h)
{
	h->data = l;
	l->closing++;
	uv_close(h, on_closed);
}

/* What was asked for after the thread's last look. */
static void refuse_late(struct local *l)
{
	struct asya_error err;
	struct asya_link *i;

	asya_error_set(&err, ASYA_FATAL, "the transport on '%s' is closed", l->store.dir);
	while ((i = asya_list_pop(&l->settles))) {
		struct asya_settle *op = asya_container_of(i, struct asya_settle, link);

		op->result = ASYA_SETTLE_FAILED;
		finish_settle(op, &err);
	}
	while ((i = asya_list_pop(&l->stats))) {
		struct asya_stat *op = asya_container_of(i, struct asya_stat, link);

		op->done(op, &err);
	}
}

static void end(struct local *l)
{
	struct asya_link *i;

	pthread_join(l->thread, NULL);
	refuse_late(l);
	while ((i = asya_list_pop(&l->held)))
		local_delivery_free(asya_container_of(i, struct local_delivery, held));
	local_store_close(&l->store);
	for (i = l->consumers.next; i != &l->consumers; i = i->next) {
		struct local_consumer *c = asya_container_of(i, struct local_consumer, link);

		close_handle(l, (uv_handle_t *)&c->watch);
		close_handle(l, (uv_handle_t *)&c->due);
	}
	close_handle(l, (uv_handle_t *)&l->poll);
	close_handle(l, (uv_handle_t *)&l->ring);
}

static void on_ring(uv_async_t *a)
{
	struct local *l = asya_container_of(a, struct local, ring);
	struct asya_link settles, failures, stats, *i;
	struct asya_error stats_error;
	bool ended;

	asya_list_init(&settles);
	asya_list_init(&failures);
	asya_list_init(&stats);
	pthread_mutex_lock(&l->lock);
	asya_list_splice(&settles, &l->settles_out);
	asya_list_splice(&failures, &l->failures);
	asya_list_splice(&stats, &l->stats_out);
	stats_error = l->stats_error;
	ended = l->ended;
	pthread_mutex_unlock(&l->lock);
	finish_settles(&settles, NULL);
	finish_failures(&failures);
	finish_stats(&stats, &stats_error);
	/* Once closing, deliveries on their way are given back with the others. */
	for (i = l->consumers.next; i != &l->consumers && !l->closed; i = i->next)
		serve_consumer(l, asya_container_of(i, struct local_consumer, link));
	if (ended)
		end(l);
}

static void consume(struct asya_transport *t, struct asya_consumer *user)
{
	struct local *l = local_of(t);
	struct local_consumer *c = asya_new0(struct local_consumer);

	*c = (struct local_consumer){
		.local = l,
		.user = user,
		.actor = {asya_strndup(user->actor.p, user->actor.n), user->actor.n},
		.dead = user->dead,
		.wake = local_wake_path(&l->store, user->actor, user->dead),
		.poked = true,
		.more = true};
	asya_list_init(&c->ready);
	user->backend = c;
	uv_timer_init(l->loop, &c->due);
	uv_fs_event_init(l->loop, &c->watch);
	watch(c);
	pthread_mutex_lock(&l->lock);
	asya_list_add_tail(&l->consumers, &c->link);
	ring_thread(l);
	pthread_mutex_unlock(&l->lock);
}

static void window(struct asya_transport *t, struct asya_consumer *user, unsigned n)
{
	struct local *l = local_of(t);
	struct local_consumer *c = user->backend;

	pthread_mutex_lock(&l->lock);
	if (n > c->window)
		ring_thread(l);
	c->window = n;
	pthread_mutex_unlock(&l->lock);
}

static void stop(struct asya_transport *t, struct asya_consumer *user)
{
	struct local *l = local_of(t);
	struct local_consumer *c = user->backend;

	c->user = NULL;
	uv_fs_event_stop(&c->watch);
	pthread_mutex_lock(&l->lock);
	c->stopped = true;
	pthread_mutex_unlock(&l->lock);
}

static void stat_queue(struct asya_transport *t, struct asya_stat *op)
{
	struct local *l = local_of(t);

	pthread_mutex_lock(&l->lock);
	asya_list_add_tail(&l->stats, &op->link);
	ring_thread(l);
	pthread_mutex_unlock(&l->lock);
}

static void close_transport(struct asya_transport *t, void (*done)(void *user), void *user)
{
	struct local *l = local_of(t);

	l->closed = done;
	l->closed_user = user;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_signal(&l->work);
	pthread_mutex_unlock(&l->lock);
}

static void init_lock(struct local *l)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->work, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&l->lock, NULL);
}

static int start_thread(struct local *l, struct asya_error *err)
{
	pthread_attr_t attr;
	int code;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 512 * 1024);
	code = pthread_create(&l->thread, &attr, local_thread_main, l);
	pthread_attr_destroy(&attr);
	return code ? asya_error_errno(err, ASYA_FATAL, code, "starting a thread") : 0;
}

/* One whose thread never ran. */
static void discard(struct local *l)
{
	local_store_close(&l->store);
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->work);
	free(l);
}

static void on_discarded(uv_handle_t *h)
{
	discard(asya_container_of((uv_async_t *)h, struct local, ring));
}

int asya_local_open(struct asya_transport **ret, uv_loop_t *loop,
		    const struct asya_local_config *config, struct asya_error *err)
{
	struct local *l = asya_new0(struct local);
	int64_t now = asya_clock_mono_ms();
	int code;

	*l = (struct local){.base = {&asya_local_ops},
			    .loop = loop,
			    .visibility_ms = config->visibility_ms,
			    .beat_ms = now + config->visibility_ms / 3,
			    .clean_ms = now,
			    .clock_us = asya_clock_wall_us() - now * 1000};
	asya_list_init(&l->consumers);
	asya_list_init(&l->settles);
	asya_list_init(&l->stats);
	asya_list_init(&l->settles_out);
	asya_list_init(&l->stats_out);
	asya_list_init(&l->failures);
	asya_list_init(&l->unreturned);
	asya_list_init(&l->held);
	if (local_store_open(&l->store, config, err) ||
	    local_store_own(&l->store, asya_clock_wall_us(), err)) {
		local_store_close(&l->store);
		free(l);
		return -1;
	}
	init_lock(l);
	code = uv_async_init(loop, &l->ring, on_ring);
	if (code) {
		asya_error_errno(err, ASYA_FATAL, -code, "watching for the thread of '%s'",
				 config->dir);
		discard(l);
		return -1;
	}
	if (start_thread(l, err)) {
		uv_close((uv_handle_t *)&l->ring, on_discarded);
		return -1;
	}
	uv_timer_init(loop, &l->poll);
	uv_timer_start(&l->poll, on_poll, POLL_MS, POLL_MS);
	*ret = &l->base;
	return 0;
}

static const char *const synchronous[] = {"FULL", "NORMAL", NULL};

struct settings {
	struct asya_str dir, space;
	int synchronous;
	int64_t visibility_ms, history;
};

static const struct asya_setting rows[] = {
	{"ASYA_LOCAL_DIR", ASYA_SETTING(STRING, struct settings, dir), .fallback = ".asya",
	 .help = "Directory of the local transport; made if missing."},
	{"ASYA_NAMESPACE", ASYA_SETTING(STRING, struct settings, space),
	 .help = "Keeps queues of the same actor name in several namespaces apart."},
	{"ASYA_LOCAL_SYNCHRONOUS", ASYA_SETTING(CHOICE, struct settings, synchronous),
	 .choices = synchronous, .fallback = "FULL",
	 .help = "FULL: a commit is on the disk before anybody is told. NORMAL: faster; a power "
		 "cut "
		 "may lose the last commits, the crash of a process never does."},
	{"ASYA_LOCAL_VISIBILITY_TIMEOUT", ASYA_SETTING(DURATION, struct settings, visibility_ms),
	 .fallback = "30s", .min = 100, .max = 43200000,
	 .help = "Lease of a message that was taken. It is extended at a third of this for as long "
		 "as the process lives, so handlers may take longer."},
	{"ASYA_LOCAL_HISTORY", ASYA_SETTING(INT, struct settings, history), .fallback = "1000000",
	 .max = 1000000000, .help = "How many hop records are kept for asya trace; 0 writes none."},
};

static int open_transport(struct asya_transport **ret, uv_loop_t *loop, asya_config_get_fn *get,
			  void *user, struct asya_error *err)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct settings s;

	if (asya_config_load(&s, rows, ASYA_ARRAY_SIZE(rows), get, user, arena, err))
		return -1;
	if (s.space.n && !asya_actor_name_valid(s.space))
		return asya_error_set(err, ASYA_FATAL,
				      "ASYA_NAMESPACE is '%.*s', it must be a DNS label",
				      ASYA_STR_ARG(s.space));
	return asya_local_open(ret, loop,
			       &(struct asya_local_config){.dir = s.dir.p,
							   .space = s.space.p ? s.space.p : "",
							   .normal = s.synchronous == 1,
							   .visibility_ms = s.visibility_ms,
							   .history = s.history},
			       err);
}

/* Command lines block on a connection of their own, so that the thread's is left alone. */
static int reader(struct local_store *s, struct asya_transport *t, struct asya_error *err)
{
	struct local *l = local_of(t);

	return local_store_open(
		s, &(struct asya_local_config){.dir = l->store.dir, .space = l->store.space}, err);
}

static int history(struct asya_transport *t, struct asya_str id, bool below, asya_hop_fn *fn,
		   void *user, struct asya_error *err)
{
	struct local_store s;
	int code = reader(&s, t, err) || local_store_history(&s, id, below, fn, user, err) ? -1 : 0;

	local_store_close(&s);
	return code;
}

static int queues(struct asya_transport *t, asya_queue_fn *fn, void *user, struct asya_error *err)
{
	struct local_store s;
	int code = reader(&s, t, err) || local_store_queues(&s, asya_clock_wall_us(), fn, user, err)
			   ? -1
			   : 0;

	local_store_close(&s);
	return code;
}

static int live(struct asya_transport *t, struct asya_str root, int64_t *ret,
		struct asya_error *err)
{
	struct local_store s;
	int code = reader(&s, t, err) || local_store_live(&s, root, ret, err) ? -1 : 0;

	local_store_close(&s);
	return code;
}

const struct asya_transport_ops asya_local_ops = {
	.name = "local",
	.transactional = true,
	.settings = rows,
	.n_settings = ASYA_ARRAY_SIZE(rows),
	.open = open_transport,
	.close = close_transport,
	.consume = consume,
	.window = window,
	.stop = stop,
	.settle = settle,
	.stat = stat_queue,
	.history = history,
	.queues = queues,
	.live = live,
};
