// SPDX-License-Identifier: Apache-2.0
/* The local transport's thread: takes what the loop has handed over, runs all of it in one
 * transaction, refills the windows in the same one, and hands the results back. Where that fails,
 * each settlement gets a transaction of its own, so that none fails for its neighbours. */
#include "transport/local/thread.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"

enum { CLEAN_MS = 5000, AGAIN_MS = 1000, CLOCK_STEP_US = 100000, TAKE_MAX = 256 };

/* Under load commits begin no sooner than this after each other: what a commit costs is shared by
 * the messages that came meanwhile. Load: many times as many deliveries are out as one commit has
 * settled, so that nobody waits for the answer to go on. */
enum { PACE_US = 2000, PACE_OUT = 4 };

struct batch {
	struct asya_link settles;
	struct asya_link taken; /* deliveries of this transaction */
	bool open;              /* a transaction is */
	int64_t now_us;
};

void local_delivery_free(struct local_delivery *d)
{
	asya_list_remove(&d->link);
	asya_list_remove(&d->held);
	free(d->taken.body);
	free(d);
}

static void batch_init(struct batch *b)
{
	*b = (struct batch){.now_us = asya_clock_wall_us()};
	asya_list_init(&b->settles);
	asya_list_init(&b->taken);
}

/* Waiting for the writers' lock may have taken long: leases count from when it was had. */
static int transact(struct local *l, struct batch *b, struct asya_error *err)
{
	if (b->open)
		return 0;
	if (local_store_begin(&l->store, err))
		return -1;
	b->open = true;
	b->now_us = asya_clock_wall_us();
	return 0;
}

static int verdict(struct local *l, struct asya_settle *op, int64_t now_us, struct asya_error *err)
{
	struct local_delivery *d = local_delivery_of(op->delivery);

	if (op->verdict == ASYA_ACK)
		return local_store_ack(&l->store, &d->taken, err);
	return local_store_release(&l->store, &d->taken, now_us, op->delay_ms, err);
}

static int record(struct local *l, struct asya_settle *op, struct asya_error *err)
{
	struct asya_str actor = ASYA_STR_NONE;
	struct local_queue *q;

	if (!op->hop)
		return 0;
	if (op->delivery) {
		struct local_consumer *c = local_delivery_of(op->delivery)->consumer;

		actor = c->actor;
		if (local_store_queue(&l->store, actor, false, &q, err))
			return -1;
		if (asya_str_eq_c(op->hop->outcome, "failed") ||
		    asya_str_eq_c(op->hop->outcome, "dead"))
			q->failed++;
		else if (!asya_str_eq_c(op->hop->outcome, "retried") &&
			 !asya_str_eq_c(op->hop->outcome, "redriven"))
			q->done++;
	}
	return local_store_hop(&l->store, op->hop, actor, err);
}

/* Only for tests: makes the ack durable before the posts, as a program would that acks first. */
static int ack_alone(struct local *l, struct batch *b, struct asya_error *err)
{
	b->open = false;
	if (local_store_commit(&l->store, err))
		return -1;
	asya_failpoint("local.swapped");
	return transact(l, b, err);
}

/* The verdict first: it tells whether the message is still ours to act on. One transaction, so the
 * order is nobody's to see. */
static int settle_one(struct local *l, struct batch *b, struct asya_settle *op,
		      struct asya_error *err)
{
	int kept = 1;

	if (transact(l, b, err))
		return -1;
	if (op->delivery)
		kept = verdict(l, op, b->now_us, err);
	if (kept < 0)
		return -1;
	op->result = kept ? ASYA_SETTLED : ASYA_STALE;
	asya_failpoint("local.acked");
	if (op->n_posts && asya_failpoint_on("local.ack_first") && ack_alone(l, b, err))
		return -1;
	for (size_t i = 0; kept && i < op->n_posts; i++)
		if (local_store_post(&l->store, &op->posts[i], b->now_us, err))
			return -1;
	asya_failpoint("local.posted");
	return kept ? record(l, op, err) : 0;
}

static int settle_all(struct local *l, struct batch *b, struct asya_error *err)
{
	for (struct asya_link *i = b->settles.next; i != &b->settles; i = i->next)
		if (settle_one(l, b, asya_container_of(i, struct asya_settle, link), err))
			return -1;
	return 0;
}

static void keep(struct batch *b, struct local_consumer *c, struct local_taken *t, int n)
{
	for (int i = 0; i < n; i++) {
		struct local_delivery *d = asya_new0(struct local_delivery);

		d->taken = t[i];
		d->consumer = c;
		d->base.body = (struct asya_str){t[i].body, t[i].n};
		d->base.queued_us = t[i].queued_us;
		d->base.receives = t[i].receives;
		asya_list_init(&d->held);
		asya_list_init(&d->link);
		asya_list_add_tail(&b->taken, &d->link);
	}
}

static unsigned settled_of(const struct batch *b, const struct local_consumer *c)
{
	unsigned n = 0;

	for (const struct asya_link *i = b->settles.next; i != &b->settles; i = i->next) {
		struct asya_settle *op = asya_container_of(i, struct asya_settle, link);

		n += op->delivery && local_delivery_of(op->delivery)->consumer == c;
	}
	return n;
}

/* Takes what the window has room for. */
static int refill(struct local *l, struct batch *b, struct local_consumer *c, unsigned window,
		  bool poked, struct asya_error *err)
{
	unsigned out = c->out - settled_of(b, c), want = window > out ? window - out : 0;
	struct local_taken taken[TAKE_MAX];
	struct local_queue *q;
	bool ready;
	int n;

	c->more = c->more || poked;
	if (!want || !c->more)
		return 0;
	if (want > TAKE_MAX)
		want = TAKE_MAX;
	if (local_store_queue(&l->store, c->actor, c->dead, &q, err))
		return -1;
	if (local_store_ready(&l->store, q->id, b->now_us, &ready, err))
		return -1;
	c->more = ready;
	if (!ready)
		return local_store_next(&l->store, q->id, b->now_us, &c->next_us, err);
	if (transact(l, b, err) || local_store_queue(&l->store, c->actor, c->dead, &q, err))
		return -1;
	asya_failpoint("local.take");
	n = local_store_take(&l->store, q->id, want, b->now_us, b->now_us + l->visibility_ms * 1000,
			     taken, err);
	if (n < 0)
		return -1;
	c->more = (unsigned)n == want;
	keep(b, c, taken, n);
	return c->more ? 0 : local_store_next(&l->store, q->id, b->now_us, &c->next_us, err);
}

static int refill_all(struct local *l, struct batch *b, struct asya_error *err)
{
	int code = 0;

	pthread_mutex_lock(&l->lock);
	for (struct asya_link *i = l->consumers.next; i != &l->consumers && !code; i = i->next) {
		struct local_consumer *c = asya_container_of(i, struct local_consumer, link);
		unsigned window = c->stopped ? 0 : c->window;
		bool poked = c->poked;

		c->poked = c->poked && !window;
		pthread_mutex_unlock(&l->lock);
		code = refill(l, b, c, window, poked, err);
		pthread_mutex_lock(&l->lock);
	}
	pthread_mutex_unlock(&l->lock);
	return code;
}

/* Everything in one transaction; on failure nothing of it has happened. */
static int attempt(struct local *l, struct batch *b, bool fill, struct asya_error *err)
{
	struct asya_link *i;

	if (settle_all(l, b, err) == 0 && (!fill || refill_all(l, b, err) == 0) &&
	    (!b->open || local_store_commit(&l->store, err) == 0))
		return 0;
	local_store_rollback(&l->store);
	while ((i = asya_list_pop(&b->taken)))
		local_delivery_free(asya_container_of(i, struct local_delivery, link));
	return -1;
}

/* After a commit: settled deliveries are nobody's any more. Returns how many there were. */
static unsigned publish_settles(struct local *l, struct batch *b)
{
	unsigned n = 0;

	for (struct asya_link *i = b->settles.next; i != &b->settles; i = i->next) {
		struct asya_settle *op = asya_container_of(i, struct asya_settle, link);

		if (op->delivery) {
			local_delivery_of(op->delivery)->consumer->out--;
			asya_list_remove(&local_delivery_of(op->delivery)->held);
			n++;
		}
	}
	pthread_mutex_lock(&l->lock);
	asya_list_splice(&l->settles_out, &b->settles);
	pthread_mutex_unlock(&l->lock);
	return n;
}

/* After a commit: deliveries are held and on their way, and the queues can be reached. */
static void publish(struct local *l, struct batch *b)
{
	unsigned settled = publish_settles(l, b), out = 0;
	struct asya_link *i;

	l->doubt = false;
	pthread_mutex_lock(&l->lock);
	while ((i = asya_list_pop(&b->taken))) {
		struct local_delivery *d = asya_container_of(i, struct local_delivery, link);

		d->consumer->out++;
		asya_list_add_tail(&l->held, &d->held);
		asya_list_add_tail(&d->consumer->ready, &d->link);
	}
	for (i = l->consumers.next; i != &l->consumers; i = i->next) {
		struct local_consumer *c = asya_container_of(i, struct local_consumer, link);

		out += c->out;
		l->pending = l->pending || (c->more && !c->stopped && c->window > c->out);
		c->due_us = c->more ? 0 : c->next_us;
		c->report = c->report || !c->live;
		c->live = true;
	}
	l->loaded = settled && out >= PACE_OUT * settled;
	pthread_mutex_unlock(&l->lock);
}

static void refuse(struct local *l, struct asya_link *settles, const struct asya_error *err)
{
	struct local_failure *f;

	if (asya_list_empty(settles))
		return;
	f = asya_new0(struct local_failure);
	f->error = *err;
	asya_list_init(&f->settles);
	for (struct asya_link *i = settles->next; i != settles; i = i->next)
		asya_container_of(i, struct asya_settle, link)->result = ASYA_SETTLE_FAILED;
	asya_list_splice(&f->settles, settles);
	pthread_mutex_lock(&l->lock);
	asya_list_add_tail(&l->failures, &f->link);
	pthread_mutex_unlock(&l->lock);
}

static void report_down(struct local *l, const struct asya_error *err)
{
	l->doubt = true;
	pthread_mutex_lock(&l->lock);
	for (struct asya_link *i = l->consumers.next; i != &l->consumers; i = i->next) {
		struct local_consumer *c = asya_container_of(i, struct local_consumer, link);

		c->report = c->report || c->live || err->advice == ASYA_FATAL;
		c->live = false;
		c->more = true;
		c->error = *err;
	}
	pthread_mutex_unlock(&l->lock);
}

/* While in doubt, a batch counts as good only if something could be written. */
static void fill(struct local *l)
{
	struct asya_error err;
	struct batch b;

	batch_init(&b);
	if (l->doubt && (transact(l, &b, &err) || local_store_probe(&l->store, &err))) {
		local_store_rollback(&l->store);
		report_down(l, &err);
	} else if (attempt(l, &b, true, &err)) {
		report_down(l, &err);
	} else {
		publish(l, &b);
	}
}

static void settle_each(struct local *l, struct asya_link *settles)
{
	struct asya_link *i;

	while ((i = asya_list_pop(settles))) {
		struct asya_error err;
		struct batch one;

		batch_init(&one);
		asya_list_add_tail(&one.settles, i);
		if (attempt(l, &one, false, &err))
			refuse(l, &one.settles, &err);
		else
			publish_settles(l, &one);
	}
}

/* Settlements and windows together, if that can be done. */
static void work(struct local *l, struct asya_link *settles)
{
	struct asya_error err;
	struct batch b;

	batch_init(&b);
	asya_list_splice(&b.settles, settles);
	if (local_store_here(&l->store, &err)) {
		refuse(l, &b.settles, &err);
		report_down(l, &err);
	} else if (asya_list_empty(&b.settles)) {
		fill(l);
	} else if (attempt(l, &b, true, &err) == 0) {
		publish(l, &b);
	} else if (err.advice == ASYA_FATAL || !b.open) {
		refuse(l, &b.settles, &err);
		report_down(l, &err);
	} else {
		l->doubt = true;
		settle_each(l, &b.settles);
		fill(l);
	}
}

static void answer_stats(struct local *l, struct asya_link *stats)
{
	int64_t now_us = asya_clock_wall_us();
	struct asya_error err = ASYA_ERROR_NONE;

	for (struct asya_link *i = stats->next; i != stats; i = i->next) {
		struct asya_stat *op = asya_container_of(i, struct asya_stat, link);

		op->failed = local_store_depth(&l->store, op->actor, now_us, &op->depth, &err) != 0;
	}
	pthread_mutex_lock(&l->lock);
	asya_list_splice(&l->stats_out, stats);
	if (err.text[0])
		l->stats_error = err;
	pthread_mutex_unlock(&l->lock);
}

/* Heartbeats: every held lease is moved on at a third of the visibility timeout. */
static int beat(struct local *l, struct asya_error *err)
{
	int64_t until = asya_clock_wall_us() + l->visibility_ms * 1000;
	int code = 0;

	if (local_store_begin(&l->store, err))
		return -1;
	for (struct asya_link *i = l->held.next; i != &l->held && code >= 0; i = i->next) {
		struct local_delivery *d = asya_container_of(i, struct local_delivery, held);

		code = local_store_extend(&l->store, &d->taken, until, err);
		d->moved_us = code == 1 ? until : d->taken.lease_us;
	}
	if (code < 0) {
		local_store_rollback(&l->store);
		return -1;
	}
	if (local_store_commit(&l->store, err))
		return -1;
	for (struct asya_link *i = l->held.next; i != &l->held; i = i->next) {
		struct local_delivery *d = asya_container_of(i, struct local_delivery, held);

		d->taken.lease_us = d->moved_us;
	}
	return 0;
}

/* Leases end by the wall clock. Where it was set, they are made anew at once, and what seems to be
 * of the future is brought back. */
static void watch_clock(struct local *l)
{
	int64_t wall_us = asya_clock_wall_us(), apart_us = wall_us - asya_clock_mono_ms() * 1000;
	int64_t step_us = apart_us - l->clock_us;
	struct asya_error ignored;

	if (step_us > -CLOCK_STEP_US && step_us < CLOCK_STEP_US) {
		l->clock_us = apart_us;
		return;
	}
	l->beat_ms = 0;
	if (step_us < 0 && local_store_unhide(&l->store, wall_us, &ignored))
		return;
	l->clock_us = apart_us;
}

/* What falls due by time. Its failures show in the next batch too, so nothing is said here. */
static void chores(struct local *l)
{
	int64_t now = asya_clock_mono_ms();
	struct asya_error ignored;

	watch_clock(l);
	if (now >= l->beat_ms) {
		int64_t third = l->visibility_ms / 3;
		bool good = asya_list_empty(&l->held) || beat(l, &ignored) == 0;

		l->beat_ms = now + (good || third < AGAIN_MS ? third : AGAIN_MS);
	}
	if (now >= l->clean_ms) {
		(void)local_store_clean(&l->store, asya_clock_wall_us(), &ignored);
		l->clean_ms = now + CLEAN_MS;
	}
}

/* Under the lock: until there is something to do or something falls due. */
static void wait_for_work(struct local *l)
{
	int64_t until = l->beat_ms < l->clean_ms ? l->beat_ms : l->clean_ms;
	struct timespec ts = {until / 1000, until % 1000 * 1000000};

	while (!l->pending && !l->stop && asya_clock_mono_ms() < until)
		pthread_cond_timedwait(&l->work, &l->lock, &ts);
}

static void pace(struct local *l)
{
	int64_t rest = l->paced_ns + PACE_US * 1000 - asya_clock_mono_ns();

	if (l->loaded && rest > 0)
		nanosleep(&(struct timespec){.tv_nsec = rest}, NULL);
	l->loaded = false;
	l->paced_ns = asya_clock_mono_ns();
}

static void give_back_held(struct local *l)
{
	int64_t now_us = asya_clock_wall_us();
	struct asya_error ignored;

	if (asya_list_empty(&l->held) || local_store_begin(&l->store, &ignored))
		return;
	for (struct asya_link *i = l->held.next; i != &l->held; i = i->next) {
		struct local_delivery *d = asya_container_of(i, struct local_delivery, held);

		if (local_store_release(&l->store, &d->taken, now_us, 0, &ignored) < 0) {
			local_store_rollback(&l->store);
			return;
		}
	}
	(void)local_store_commit(&l->store, &ignored);
}

void *local_thread_main(void *arg)
{
	struct local *l = arg;
	bool stop = false;

	while (!stop) {
		struct asya_link settles, stats;
		bool any;

		asya_list_init(&settles);
		asya_list_init(&stats);
		pthread_mutex_lock(&l->lock);
		wait_for_work(l);
		pthread_mutex_unlock(&l->lock);
		pace(l);
		pthread_mutex_lock(&l->lock);
		stop = l->stop;
		any = l->pending;
		l->pending = false;
		asya_list_splice(&settles, &l->settles);
		asya_list_splice(&stats, &l->stats);
		pthread_mutex_unlock(&l->lock);
		/* First, so that a process that was stopped does not take its own messages. */
		chores(l);
		if (!any)
			continue;
		work(l, &settles);
		answer_stats(l, &stats);
		uv_async_send(&l->ring);
	}
	give_back_held(l);
	pthread_mutex_lock(&l->lock);
	l->ended = true;
	pthread_mutex_unlock(&l->lock);
	uv_async_send(&l->ring);
	return NULL;
}
