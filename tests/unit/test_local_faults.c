// SPDX-License-Identifier: Apache-2.0
/* The local transport while the disk is full or fails, files vanish, the clock is set, and it is
 * closed in the middle of work. */
#include "lib/loop.h"
#include "lib/power_vfs.h"
#include "lib/transport.h"

#include "base/clock.h"
#include "base/mem.h"
#include "transport/local/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* ---- standing in for the system ---- */

static atomic_llong clock_offset_s;
static atomic_bool no_inotify;

int clock_gettime(clockid_t id, struct timespec *t)
{
	int code = (int)syscall(SYS_clock_gettime, id, t);

	if (id == CLOCK_REALTIME)
		t->tv_sec += clock_offset_s;
	return code;
}

int inotify_init1(int flags)
{
	if (no_inotify) {
		errno = EMFILE;
		return -1;
	}
	return (int)syscall(SYS_inotify_init1, flags);
}

/* ---- */

struct fixture {
	uv_loop_t loop;
	char *top, *dir;
	struct asya_local_config config;
};

static struct asya_transport *open_one(struct fixture *f)
{
	struct asya_transport *t = NULL;
	struct asya_error err;

	if (asya_local_open(&t, &f->loop, &f->config, &err))
		fail_msg("%s", err.text);
	return t;
}

static struct asya_transport *open_faulty(struct fixture *f)
{
	f->config.vfs = power_vfs_start();
	return open_one(f);
}

static void expect_retry(struct fixture *f, const struct test_result *r, const char *what)
{
	assert_int_equal(r->outcome, ASYA_SETTLE_FAILED);
	assert_int_equal(r->err.advice, ASYA_RETRY);
	if (!strstr(r->err.text, f->dir) || !strstr(r->err.text, "queue.db") ||
	    !strstr(r->err.text, what))
		fail_msg("'%s' should name '%s/queue.db' and say '%s'", r->err.text, f->dir, what);
}

static char *big_body(size_t n)
{
	char *body = asya_malloc(n + 1);

	memset(body, 'b', n);
	body[n] = '\0';
	return body;
}

/* ---- a full and a failing disk ---- */

static void full_disk_fails_settlements_until_there_is_room_and_loses_nothing(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_faulty(f);
	_cleanup_(asya_freep) char *big = big_body(20000);
	struct asya_post p = {.actor = ASYA_STR("y"), .body = asya_str_c(big)};
	struct test_result r;
	struct test_taker k;

	test_post(&f->loop, t, "x", "m", 0);
	test_take(&k, t, "x", false, 3);
	test_take_wait(&f->loop, &k, 1);
	assert_true(k.live);
	power_vfs_room(0);
	for (int i = 0; i < 3; i++) {
		r = test_settle(
			&f->loop, t,
			(struct asya_settle){.delivery = k.got[0], .posts = &p, .n_posts = 1});
		expect_retry(f, &r, "full");
	}
	test_run_for(&f->loop, 50);
	assert_false(k.live);
	assert_int_equal(k.downs, 1);
	test_expect_depth(&f->loop, t, "x", 0, 1, 0, 0);
	test_expect_depth(&f->loop, t, "y", 0, 0, 0, 0);
	power_vfs_room(-1);
	r = test_settle(&f->loop, t,
			(struct asya_settle){.delivery = k.got[0], .posts = &p, .n_posts = 1});
	assert_int_equal(r.outcome, ASYA_SETTLED);
	test_run_for(&f->loop, 50);
	assert_true(k.live);
	assert_int_equal(k.n, 1);
	test_expect_depth(&f->loop, t, "x", 0, 0, 0, 0);
	test_expect_depth(&f->loop, t, "y", 1, 0, 0, 0);
	test_transport_close(&f->loop, t);
}

static void consumer_comes_up_again_by_itself_when_there_is_room(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_faulty(f);
	struct asya_post p = {.actor = ASYA_STR("y"), .body = ASYA_STR("m")};
	struct test_taker k;
	struct test_result r;

	test_take(&k, t, "x", false, 0);
	test_run_until_count(&f->loop, &k.ups, 1, "the consumer to come up", TEST_WAIT_S);
	power_vfs_room(0);
	r = test_settle(&f->loop, t, (struct asya_settle){.posts = &p, .n_posts = 1});
	expect_retry(f, &r, "full");
	test_run_until_count(&f->loop, &k.downs, 1, "the consumer to go down", TEST_WAIT_S);
	power_vfs_room(-1);
	test_run_until_count(&f->loop, &k.ups, 2, "the consumer to come up", TEST_WAIT_S);
	test_transport_close(&f->loop, t);
}

static void settlement_that_fits_does_not_fail_for_one_that_does_not(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_faulty(f);
	_cleanup_(asya_freep) char *big = big_body(4 << 20);
	struct asya_post p = {.actor = ASYA_STR("y"), .body = asya_str_c(big)};
	struct test_result r[3] = {0};
	struct asya_settle op[3];
	struct test_taker k;

	test_post(&f->loop, t, "x", "1", 0);
	test_post(&f->loop, t, "x", "2", 0);
	test_take(&k, t, "x", false, 2);
	test_take_wait(&f->loop, &k, 2);
	power_vfs_room(1 << 20);
	op[0] = (struct asya_settle){.delivery = k.got[0]};
	op[1] = (struct asya_settle){.posts = &p, .n_posts = 1};
	op[2] = (struct asya_settle){.delivery = k.got[1]};
	for (int i = 0; i < 3; i++) {
		op[i].done = test_on_settled;
		op[i].user = &r[i];
		asya_transport_settle(t, &op[i]);
	}
	for (int i = 0; i < 3; i++)
		test_run_until(&f->loop, &r[i].done, "a settlement", TEST_WAIT_S);
	assert_int_equal(r[0].outcome, ASYA_SETTLED);
	expect_retry(f, &r[1], "full");
	assert_int_equal(r[2].outcome, ASYA_SETTLED);
	power_vfs_room(-1);
	test_expect_depth(&f->loop, t, "x", 0, 0, 0, 0);
	test_transport_close(&f->loop, t);
}

/* From each write and sync of a settlement on everything fails; then it is asked for again. */
static void settlement_that_failed_at_any_point_is_whole_when_it_is_done_again(void **state)
{
	static const int codes[] = {SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC, SQLITE_FULL};
	struct fixture *f = *state;
	struct asya_transport *t = open_faulty(f);
	const struct asya_post p[] = {{.actor = ASYA_STR("y"), .body = ASYA_STR("1")},
				      {.actor = ASYA_STR("z"), .body = ASYA_STR("2")}};
	unsigned done = 0, failures = 0;
	struct test_taker k;

	test_take(&k, t, "x", false, 1);
	for (unsigned nth = 1; nth <= 12; nth++) {
		for (size_t c = 0; c < ASYA_ARRAY_SIZE(codes); c++) {
			struct asya_settle op = {.posts = p, .n_posts = 2};
			struct test_result r;

			test_post(&f->loop, t, "x", "m", 0);
			test_take_wait(&f->loop, &k, done + 1);
			op.delivery = k.got[done];
			power_vfs_fail(nth, codes[c], true);
			r = test_settle(&f->loop, t, op);
			power_vfs_fail(0, 0, false);
			if (r.outcome == ASYA_SETTLE_FAILED) {
				assert_int_equal(r.err.advice, ASYA_RETRY);
				failures++;
				r = test_settle(&f->loop, t, op);
			}
			assert_int_equal(r.outcome, ASYA_SETTLED);
			done++;
			test_expect_depth(&f->loop, t, "x", 0, 0, 0, 0);
			test_expect_depth(&f->loop, t, "y", (int)done, 0, 0, 0);
			test_expect_depth(&f->loop, t, "z", (int)done, 0, 0, 0);
		}
	}
	assert_true(failures >= 6);
	test_transport_close(&f->loop, t);
}

static void count_leased(void *user, struct asya_str actor, const struct asya_depth *d,
			 int64_t done, int64_t failed)
{
	(void)actor;
	(void)done;
	(void)failed;
	*(int64_t *)user += d->leased;
}

static void delivery_of_a_stopped_consumer_is_given_back_once_that_can_be_written(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t, *other;
	struct test_taker k, l;
	struct asya_error err;
	int64_t leased = 0;

	f->config.visibility_ms = 3600000;
	t = open_faulty(f);
	other = open_one(f);
	test_post(&f->loop, other, "x", "m", 0);
	test_take(&k, t, "x", false, 1);
	while (!leased) /* the loop does not run meanwhile, so it cannot be delivered */
		assert_int_equal(t->ops->queues(t, count_leased, &leased, &err), 0);
	asya_transport_stop(t, &k.c);
	power_vfs_fail(1, SQLITE_IOERR_WRITE, true);
	test_run_for(&f->loop, 200);
	power_vfs_fail(0, 0, false);
	test_take(&l, other, "x", false, 1);
	test_take_wait(&f->loop, &l, 1);
	assert_int_equal(k.n, 0);
	test_expect_body(l.got[0], "m");
	test_transport_close(&f->loop, t);
	test_transport_close(&f->loop, other);
}

/* ---- files that vanish, and what cannot be had ---- */

static void remove_all(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	assert_non_null(d);
	while ((e = readdir(d))) {
		_cleanup_(asya_freep) char *path = asya_asprintf("%s/%s", dir, e->d_name);

		if (e->d_name[0] != '.')
			assert_int_equal(unlink(path), 0);
	}
	closedir(d);
}

static void deleted_wake_files_are_made_again(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f), *other = open_one(f);
	_cleanup_(asya_freep) char *wake = asya_asprintf("%s/wake", f->dir);
	_cleanup_(asya_freep) char *file = asya_asprintf("%s/wake/x", f->dir);
	struct test_taker k;

	test_take(&k, t, "x", false, 10);
	for (unsigned i = 0; i < 4; i++) {
		test_post(&f->loop, other, "x", "m", 0);
		test_take_wait(&f->loop, &k, i + 1);
		remove_all(wake);
		for (int n = 0; n < 1000 && access(file, F_OK); n++)
			test_run_for(&f->loop, 5);
		assert_int_equal(access(file, F_OK), 0);
	}
	test_transport_close(&f->loop, t);
	test_transport_close(&f->loop, other);
}

static void messages_flow_without_a_place_for_wake_files(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f), *other = open_one(f);
	_cleanup_(asya_freep) char *wake = asya_asprintf("%s/wake", f->dir);
	struct test_taker k;

	assert_int_equal(rmdir(wake), 0);
	test_take(&k, t, "x", false, 10);
	test_run_until_count(&f->loop, &k.ups, 1, "the consumer to come up", TEST_WAIT_S);
	test_post(&f->loop, other, "x", "m", 0);
	test_take_wait(&f->loop, &k, 1);
	test_transport_close(&f->loop, t);
	test_transport_close(&f->loop, other);
}

static void messages_flow_without_inotify(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t, *other;
	struct test_taker k;

	no_inotify = true;
	t = open_one(f);
	other = open_one(f);
	test_take(&k, t, "x", false, 10);
	test_run_until_count(&f->loop, &k.ups, 1, "the consumer to come up", TEST_WAIT_S);
	test_post(&f->loop, other, "x", "m", 0);
	test_take_wait(&f->loop, &k, 1);
	no_inotify = false;
	test_transport_close(&f->loop, t);
	test_transport_close(&f->loop, other);
}

static void deleted_lock_of_the_writers_mixes_nothing_up(void **state)
{
	enum { TOTAL = 200 };
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f), *other;
	_cleanup_(asya_freep) char *lock = asya_asprintf("%s/write.lock", f->dir);
	struct test_result r[TOTAL] = {0};
	struct asya_settle op[TOTAL];
	struct asya_post p = {.actor = ASYA_STR("x"), .body = ASYA_STR("m")};
	struct test_taker k, l;

	assert_int_equal(unlink(lock), 0);
	other = open_one(f); /* has another file of that name */
	test_take(&k, t, "x", false, 20);
	test_take(&l, other, "x", false, 20);
	for (int i = 0; i < TOTAL; i++) {
		op[i] = (struct asya_settle){
			.posts = &p, .n_posts = 1, .done = test_on_settled, .user = &r[i]};
		asya_transport_settle(i % 2 ? t : other, &op[i]);
		if (i % 10 == 0)
			test_run_for(&f->loop, 1);
	}
	for (int i = 0; i < TOTAL; i++) {
		test_run_until(&f->loop, &r[i].done, "a settlement", TEST_WAIT_S);
		if (r[i].outcome != ASYA_SETTLED)
			fail_msg("%s", r[i].err.text);
	}
	asya_transport_window(t, &k.c, TOTAL);
	while (k.n + l.n < TOTAL)
		test_run_for(&f->loop, 5);
	test_run_for(&f->loop, 50);
	assert_int_equal(k.n + l.n, TOTAL);
	test_expect_depth(&f->loop, t, "x", 0, TOTAL, 0, 0);
	test_transport_close(&f->loop, t);
	test_transport_close(&f->loop, other);
}

static void thousand_queues_need_no_open_files(void **state)
{
	enum { QUEUES = 1000 };
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct rlimit before, few;
	char name[16];
	struct test_taker k;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){64, before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (int n = 0; n < QUEUES; n += 100) {
		char names[100][16];
		struct asya_post p[100];

		for (int i = 0; i < 100; i++) {
			snprintf(names[i], sizeof(names[i]), "q%d", n + i);
			p[i] = (struct asya_post){.actor = asya_str_c(names[i]),
						  .body = ASYA_STR("m")};
		}
		assert_int_equal(
			test_settle(&f->loop, t, (struct asya_settle){.posts = p, .n_posts = 100})
				.outcome,
			ASYA_SETTLED);
	}
	snprintf(name, sizeof(name), "q%d", QUEUES - 1);
	test_take(&k, t, name, false, 1);
	test_take_wait(&f->loop, &k, 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	test_transport_close(&f->loop, t);
}

static void leases_of_a_hundred_dead_processes_are_freed_at_once(void **state)
{
	enum { OWNERS = 100 };
	struct fixture *f = *state;
	struct asya_transport *t;
	struct test_taker k;
	struct asya_error err;

	f->config.visibility_ms = 3600000;
	t = open_one(f);
	for (int i = 0; i < OWNERS; i++)
		test_post(&f->loop, t, "x", "m", 0);
	test_transport_close(&f->loop, t);
	for (int i = 0; i < OWNERS; i++) {
		struct local_store s;
		struct local_queue *q;
		struct local_taken taken;
		int64_t now_us = asya_clock_wall_us();

		assert_int_equal(local_store_open(&s, &f->config, &err), 0);
		assert_int_equal(local_store_own(&s, now_us, &err), 0);
		assert_int_equal(local_store_queue(&s, ASYA_STR("x"), false, &q, &err), 0);
		assert_int_equal(local_store_begin(&s, &err), 0);
		assert_int_equal(
			local_store_take(&s, q->id, 1, now_us, now_us + 3600000000, &taken, &err),
			1);
		assert_int_equal(local_store_commit(&s, &err), 0);
		free(taken.body);
		/* What the kernel does for a process that dies; the row of the owner stays. A file
		 * of that name keeps this one from being freed by the next of these openings. */
		close(s.owner_lock);
		s.owner_lock = -1;
		{
			_cleanup_(asya_freep) char *held =
				asya_asprintf("%s/owners/%lld", f->dir, (long long)s.owner);

			assert_int_equal(unlink(held), 0);
			assert_int_equal(mkdir(held, 0777), 0);
			s.owner = 0;
		}
		local_store_close(&s);
	}
	{
		_cleanup_(asya_freep) char *command = asya_asprintf("rmdir '%s'/owners/*", f->dir);

		assert_int_equal(system(command), 0);
	}
	t = open_one(f);
	test_expect_depth(&f->loop, t, "x", OWNERS, 0, 0, 0);
	test_take(&k, t, "x", false, OWNERS);
	test_take_wait(&f->loop, &k, OWNERS);
	test_transport_close(&f->loop, t);
}

/* ---- the clock ---- */

static void clock_set_back_hides_no_message(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct test_taker k;

	test_post(&f->loop, t, "x", "now", 0);
	test_post(&f->loop, t, "x", "delayed", 1500);
	clock_offset_s -= 86400;
	test_take(&k, t, "x", false, 5);
	test_take_wait(&f->loop, &k, 2);
	test_expect_body(k.got[0], "now");
	test_expect_body(k.got[1], "delayed");
	assert_int_equal(test_end(&f->loop, t, k.got[0], ASYA_ACK, 0), ASYA_SETTLED);
	assert_int_equal(test_end(&f->loop, t, k.got[1], ASYA_RELEASE, 0), ASYA_SETTLED);
	test_take_wait(&f->loop, &k, 3);
	test_transport_close(&f->loop, t);
}

static void clock_set_back_while_nothing_ran_hides_no_message(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct test_taker k;

	test_post(&f->loop, t, "x", "now", 0);
	test_transport_close(&f->loop, t);
	clock_offset_s -= 86400;
	t = open_one(f);
	test_take(&k, t, "x", false, 5);
	test_take_wait(&f->loop, &k, 1);
	test_transport_close(&f->loop, t);
}

static void clock_set_forward_takes_no_message_from_its_own_process(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct test_taker k;

	test_post(&f->loop, t, "x", "m", 0);
	test_take(&k, t, "x", false, 5);
	test_take_wait(&f->loop, &k, 1);
	clock_offset_s += 86400;
	test_post(&f->loop, t, "x", "another", 0);
	test_take_wait(&f->loop, &k, 2);
	test_expect_body(k.got[1], "another");
	assert_int_equal(test_end(&f->loop, t, k.got[0], ASYA_ACK, 0), ASYA_SETTLED);
	assert_int_equal(test_end(&f->loop, t, k.got[1], ASYA_ACK, 0), ASYA_SETTLED);
	test_expect_depth(&f->loop, t, "x", 0, 0, 0, 0);
	test_transport_close(&f->loop, t);
}

/* ---- sizes ---- */

static void bodies_of_nothing_and_of_64_mib_come_out_as_they_went_in(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	size_t n = 64 << 20;
	_cleanup_(asya_freep) char *big = big_body(n);
	struct asya_post p[] = {{.actor = ASYA_STR("x")},
				{.actor = ASYA_STR("x"), .body = ASYA_STR("")},
				{.actor = ASYA_STR("x"), .body = {big, n}}};
	struct test_taker k;

	big[n / 2] = '\0';
	assert_int_equal(
		test_settle(&f->loop, t, (struct asya_settle){.posts = p, .n_posts = 3}).outcome,
		ASYA_SETTLED);
	test_take(&k, t, "x", false, 3);
	test_take_wait(&f->loop, &k, 3);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(k.got[i]->body.n, 0);
		assert_non_null(k.got[i]->body.p);
	}
	assert_int_equal(k.got[2]->body.n, n);
	assert_memory_equal(k.got[2]->body.p, big, n);
	for (int i = 0; i < 3; i++)
		assert_int_equal(test_end(&f->loop, t, k.got[i], ASYA_ACK, 0), ASYA_SETTLED);
	test_transport_close(&f->loop, t);
}

/* ---- closing ---- */

struct chain {
	struct asya_settle op;
	struct asya_transport *t;
	bool *closed;
	unsigned answers, fatal;
};

static void on_chain(struct asya_settle *op, enum asya_settled outcome,
		     const struct asya_error *err)
{
	struct chain *c = op->user;

	assert_false(*c->closed);
	c->answers++;
	if (outcome == ASYA_SETTLE_FAILED) {
		assert_int_equal(err->advice, ASYA_FATAL);
		c->fatal++;
		return;
	}
	asya_transport_settle(c->t, &c->op);
}

static void what_is_asked_for_while_closing_is_answered_before_it_is_closed(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct asya_post p = {.actor = ASYA_STR("x"), .body = ASYA_STR("m")};
	struct chain c[8];
	bool closed = false;
	struct test_taker k;

	test_take(&k, t, "y", false, 5);
	for (int i = 0; i < 8; i++) {
		c[i] = (struct chain){.t = t, .closed = &closed};
		c[i].op = (struct asya_settle){
			.posts = &p, .n_posts = 1, .done = on_chain, .user = &c[i]};
		asya_transport_settle(t, &c[i].op);
	}
	test_run_for(&f->loop, 20);
	asya_transport_close(t, test_set_flag, &closed);
	test_run_until(&f->loop, &closed, "the transport to close", TEST_WAIT_S);
	for (int i = 0; i < 8; i++)
		assert_int_equal(c[i].fatal, 1);
}

static void restart_in_the_middle_of_work_repeats_only_what_was_not_settled(void **state)
{
	enum { TOTAL = 40, ROUNDS = 4 };
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	bool seen[TOTAL] = {false};
	char body[8];

	for (int i = 0; i < TOTAL; i++) {
		snprintf(body, sizeof(body), "%d", i);
		test_post(&f->loop, t, "x", body, 0);
	}
	for (int round = 0; round < ROUNDS; round++) {
		unsigned n = (unsigned)(TOTAL - round * 10);
		struct test_taker k;

		test_take(&k, t, "x", false, TOTAL);
		test_take_wait(&f->loop, &k, n);
		for (unsigned i = 0; i < n; i++)
			assert_false(seen[atoi(k.got[i]->body.p)]);
		for (unsigned i = n - 10; i < n; i++) {
			seen[atoi(k.got[i]->body.p)] = true;
			assert_int_equal(test_end(&f->loop, t, k.got[i], ASYA_ACK, 0),
					 ASYA_SETTLED);
		}
		test_transport_close(&f->loop, t);
		t = open_one(f);
		test_expect_depth(&f->loop, t, "x", (int)n - 10, 0, 0, 0);
	}
	test_transport_close(&f->loop, t);
}

static int set_up(void **state)
{
	struct fixture *f = asya_new0(struct fixture);

	uv_loop_init(&f->loop);
	f->top = test_dir_make();
	f->dir = asya_asprintf("%s/queues", f->top);
	f->config = ASYA_LOCAL_CONFIG_DEFAULT;
	f->config.dir = f->dir;
	clock_offset_s = 0;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	clock_offset_s = 0;
	test_loop_close(&f->loop);
	if (f->config.vfs)
		power_vfs_end();
	test_dir_remove(f->top);
	free(f->dir);
	free(f);
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(full_disk_fails_settlements_until_there_is_room_and_loses_nothing),
		T(consumer_comes_up_again_by_itself_when_there_is_room),
		T(settlement_that_fits_does_not_fail_for_one_that_does_not),
		T(settlement_that_failed_at_any_point_is_whole_when_it_is_done_again),
		T(delivery_of_a_stopped_consumer_is_given_back_once_that_can_be_written),
		T(deleted_wake_files_are_made_again),
		T(messages_flow_without_a_place_for_wake_files),
		T(messages_flow_without_inotify),
		T(deleted_lock_of_the_writers_mixes_nothing_up),
		T(thousand_queues_need_no_open_files),
		T(leases_of_a_hundred_dead_processes_are_freed_at_once),
		T(clock_set_back_hides_no_message),
		T(clock_set_back_while_nothing_ran_hides_no_message),
		T(clock_set_forward_takes_no_message_from_its_own_process),
		T(bodies_of_nothing_and_of_64_mib_come_out_as_they_went_in),
		T(what_is_asked_for_while_closing_is_answered_before_it_is_closed),
		T(restart_in_the_middle_of_work_repeats_only_what_was_not_settled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
