// SPDX-License-Identifier: Apache-2.0
/* The contract of the transport port (src/transport/transport.h), run on every backend. */
#include "lib/loop.h"
#include "lib/transport.h"
#include "sqs.h"

#include "base/clock.h"
#include "base/mem.h"
#include "transport/local/local.h"
#include "transport/mem/mem.h"
#include "transport/rabbitmq/rabbitmq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 600, CHILD_WINDOW = 20 };

/* Where the port lets backends differ, a test asks here. */
struct backend {
	const char *name;
	const struct asya_transport_ops *ops;
	bool processes; /* more than one process can use it */
	bool quorum;
	/* The URL of the service; the tests are left out where the variable is not set. */
	const char *variable;
	bool unordered; /* messages may come in another order */
	bool fifo;      /* what is delayed counts as leased */
	unsigned lease_ms;
};

static const struct backend backends[] = {
	{"mem", &asya_mem_ops, false, .lease_ms = 150},
	{"local", &asya_local_ops, true, .lease_ms = 150},
	{"rabbitmq, classic queues", &asya_rabbitmq_ops, true, .lease_ms = 150},
	{"rabbitmq, quorum queues", &asya_rabbitmq_ops, true, .quorum = true, .lease_ms = 150},
	{"sqs", &asya_sqs_ops, .variable = "ASYA_TEST_SQS_ENDPOINT", .unordered = true,
	 .lease_ms = 2000},
	{"sqs_fifo", &asya_sqs_ops, .variable = "ASYA_TEST_SQS_ENDPOINT", .unordered = true,
	 .fifo = true, .lease_ms = 2000},
};

struct fixture {
	const struct backend *backend;
	uv_loop_t loop;
	struct asya_mem_hub *hub;
	char *dir;   /* local */
	char *space; /* of a broker: the namespace of this test */
};

static bool is_rabbit(const struct fixture *f)
{
	return f->backend->ops == &asya_rabbitmq_ops;
}

/* How often a message was taken: brokers may not be able to tell. */
static void expect_receives(const struct fixture *f, const struct asya_delivery *d, unsigned n)
{
	assert_true(d->receives == n || (is_rabbit(f) && d->receives == 0));
}

static const char *broker_url(void)
{
	return getenv("ASYA_TEST_RABBITMQ_URL");
}

static struct asya_transport *open_rabbit(uv_loop_t *loop, const char *space, bool quorum,
					  int64_t heartbeat_ms)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct asya_rabbitmq_config config = {.user = "guest",
					      .password = "guest",
					      .vhost = "/",
					      .ca_file = "",
					      .cert_file = "",
					      .key_file = "",
					      .exchange = "asya-contract",
					      .space = space,
					      .queue_type = quorum ? ASYA_RABBITMQ_QUORUM
								   : ASYA_RABBITMQ_CLASSIC,
					      .auto_create = true,
					      .heartbeat_ms = heartbeat_ms};
	struct asya_transport *t = NULL;
	struct asya_error err;

	if (asya_rabbitmq_url_parse(&config, asya_str_c(broker_url()), arena, &err) ||
	    asya_rabbitmq_open(&t, loop, &config, &err))
		fail_msg("%s", err.text);
	return t;
}

static struct asya_transport *open_at(struct fixture *f, uv_loop_t *loop, int64_t visibility_ms)
{
	struct asya_local_config config = ASYA_LOCAL_CONFIG_DEFAULT;
	struct asya_transport *t = NULL;
	struct asya_error err;

	if (f->hub) {
		asya_mem_open(&t, f->hub);
		return t;
	}
	if (is_rabbit(f))
		return open_rabbit(loop, f->space, f->backend->quorum, 10000);
	if (f->space)
		return test_sqs_open(loop, getenv(f->backend->variable), f->space, f->backend->fifo,
				     visibility_ms);
	config.dir = f->dir;
	config.visibility_ms = visibility_ms;
	if (asya_local_open(&t, loop, &config, &err))
		fail_msg("%s", err.text);
	return t;
}

static struct asya_transport *open_one(struct fixture *f)
{
	return open_at(f, &f->loop, 30000);
}

/* ---- the contract ---- */

static void posted_message_is_delivered_whole_and_gone_after_its_ack(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	static const char odd[] = "a\0b\xff\n";
	struct asya_post p = {.actor = ASYA_STR("x"), .body = {odd, sizeof(odd)}};
	int64_t before = asya_clock_wall_us();
	struct test_taker k;

	test_take(&k, t, "x", false, 4);
	assert_int_equal(
		test_settle(&f->loop, t, (struct asya_settle){.posts = &p, .n_posts = 1}).outcome,
		ASYA_SETTLED);
	test_take_wait(&f->loop, &k, 1);
	assert_true(k.live);
	assert_int_equal(k.got[0]->body.n, sizeof(odd));
	assert_memory_equal(k.got[0]->body.p, odd, sizeof(odd));
	expect_receives(f, k.got[0], 1);
	assert_true(k.got[0]->queued_us >= before - 1000); /* some tell milliseconds */
	assert_true(k.got[0]->queued_us <= asya_clock_wall_us());
	test_expect_depth(&f->loop, t, "x", 0, 1, 0, 0);
	assert_int_equal(test_end(&f->loop, t, k.got[0], ASYA_ACK, 0), ASYA_SETTLED);
	test_expect_depth(&f->loop, t, "x", 0, 0, 0, 0);
	test_transport_close(&f->loop, t);
}

static void empty_body_arrives_empty(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct asya_post p[] = {{.actor = ASYA_STR("x"), .body = ASYA_STR("")},
				{.actor = ASYA_STR("x")}};
	struct test_taker k;

	assert_int_equal(
		test_settle(&f->loop, t, (struct asya_settle){.posts = p, .n_posts = 2}).outcome,
		ASYA_SETTLED);
	test_take(&k, t, "x", false, 2);
	test_take_wait(&f->loop, &k, 2);
	for (int i = 0; i < 2; i++) {
		assert_non_null(k.got[i]->body.p);
		assert_int_equal(k.got[i]->body.n, 0);
	}
	test_transport_close(&f->loop, t);
}

static void messages_come_in_the_order_they_were_posted(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	char bodies[50][8];
	struct asya_post p[50];
	struct test_taker k;

	for (int i = 0; i < 50; i++) {
		snprintf(bodies[i], sizeof(bodies[i]), "%d", i);
		p[i] = (struct asya_post){.actor = ASYA_STR("x"), .body = asya_str_c(bodies[i])};
	}
	assert_int_equal(
		test_settle(&f->loop, t, (struct asya_settle){.posts = p, .n_posts = 50}).outcome,
		ASYA_SETTLED);
	test_take(&k, t, "x", false, 50);
	test_take_wait(&f->loop, &k, 50);
	for (int i = 0; i < 50 && !f->backend->unordered; i++)
		test_expect_body(k.got[i], bodies[i]);
	test_transport_close(&f->loop, t);
}

static void window_bounds_what_is_unsettled_and_zero_takes_nothing(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct test_taker k;

	for (int i = 0; i < 6; i++)
		test_post(&f->loop, t, "x", "m", 0);
	test_take(&k, t, "x", false, 0);
	test_run_for(&f->loop, 50);
	assert_int_equal(k.n, 0);
	asya_transport_window(t, &k.c, 2);
	test_take_wait(&f->loop, &k, 2);
	test_run_for(&f->loop, 50);
	assert_int_equal(k.n, 2);
	test_end(&f->loop, t, k.got[0], ASYA_ACK, 0);
	test_take_wait(&f->loop, &k, 3);
	asya_transport_window(t, &k.c, 1);
	test_end(&f->loop, t, k.got[1], ASYA_ACK, 0);
	test_run_for(&f->loop, 50);
	assert_int_equal(k.n, 3);
	test_end(&f->loop, t, k.got[2], ASYA_ACK, 0);
	test_take_wait(&f->loop, &k, 4);
	asya_transport_window(t, &k.c, 10);
	test_take_wait(&f->loop, &k, 6);
	test_transport_close(&f->loop, t);
}

static void posts_and_ack_of_one_settlement_happen_together(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	const struct asya_post p[] = {
		{.actor = ASYA_STR("y"), .body = ASYA_STR("1")},
		{.actor = ASYA_STR("z"), .body = ASYA_STR("2")},
		{.actor = ASYA_STR("x"), .dead = true, .body = ASYA_STR("3")}};
	struct test_taker k, dead;

	test_post(&f->loop, t, "x", "m", 0);
	test_take(&k, t, "x", false, 1);
	test_take_wait(&f->loop, &k, 1);
	assert_int_equal(
		test_settle(&f->loop, t,
			    (struct asya_settle){.delivery = k.got[0], .posts = p, .n_posts = 3})
			.outcome,
		ASYA_SETTLED);
	test_expect_depth(&f->loop, t, "x", 0, 0, 0, 1);
	test_expect_depth(&f->loop, t, "y", 1, 0, 0, 0);
	test_expect_depth(&f->loop, t, "z", 1, 0, 0, 0);
	test_take(&dead, t, "x", true, 1);
	test_take_wait(&f->loop, &dead, 1);
	test_expect_body(dead.got[0], "3");
	test_transport_close(&f->loop, t);
}

static void released_message_comes_back_with_its_count(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct test_taker k;

	test_post(&f->loop, t, "x", "m", 0);
	test_take(&k, t, "x", false, 1);
	test_take_wait(&f->loop, &k, 1);
	assert_int_equal(test_end(&f->loop, t, k.got[0], ASYA_RELEASE, 0), ASYA_SETTLED);
	test_take_wait(&f->loop, &k, 2);
	test_expect_body(k.got[1], "m");
	expect_receives(f, k.got[1], 2);
	test_transport_close(&f->loop, t);
}

static void delayed_posts_and_releases_are_not_taken_before_their_time(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	int64_t before = asya_clock_wall_us();
	struct test_taker k;

	test_take(&k, t, "x", false, 4);
	test_post(&f->loop, t, "x", "late", 150);
	test_post(&f->loop, t, "x", "soon", 0);
	test_take_wait(&f->loop, &k, 1);
	test_expect_body(k.got[0], "soon");
	if (f->backend->fifo)
		test_expect_depth(&f->loop, t, "x", 0, 2, 0, 0);
	else
		test_expect_depth(&f->loop, t, "x", 0, 1, is_rabbit(f) ? 0 : 1, 0);
	test_take_wait(&f->loop, &k, 2);
	assert_true(asya_clock_wall_us() - before >= 150000);
	test_expect_body(k.got[1], "late");
	before = asya_clock_wall_us();
	test_end(&f->loop, t, k.got[1], ASYA_RELEASE, 120);
	test_take_wait(&f->loop, &k, 3);
	assert_true(asya_clock_wall_us() - before >= 120000);
	test_transport_close(&f->loop, t);
}

static void queue_time_is_kept_when_the_post_says_so(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct asya_post p = {.actor = ASYA_STR("x"), .body = ASYA_STR("m"), .queued_us = 12345};
	struct test_taker k;

	test_settle(&f->loop, t, (struct asya_settle){.posts = &p, .n_posts = 1});
	test_take(&k, t, "x", false, 1);
	test_take_wait(&f->loop, &k, 1);
	assert_int_equal(k.got[0]->queued_us, 12345);
	test_transport_close(&f->loop, t);
}

static void closing_gives_back_what_is_not_settled(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f), *other = open_one(f);
	struct test_taker k, l;

	test_post(&f->loop, t, "x", "1", 0);
	test_post(&f->loop, t, "x", "2", 0);
	test_take(&k, t, "x", false, 2);
	test_take_wait(&f->loop, &k, 2);
	test_transport_close(&f->loop, t);
	test_take(&l, other, "x", false, 2);
	test_take_wait(&f->loop, &l, 2);
	if (!f->backend->unordered)
		test_expect_body(l.got[0], "1");
	expect_receives(f, l.got[0], 2);
	test_transport_close(&f->loop, other);
}

static void stopped_consumer_gets_nothing_more_and_may_still_settle(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct test_taker k, l;

	test_post(&f->loop, t, "x", "1", 0);
	test_take(&k, t, "x", false, 5);
	test_take_wait(&f->loop, &k, 1);
	asya_transport_stop(t, &k.c);
	test_post(&f->loop, t, "x", "2", 0);
	test_run_for(&f->loop, 60);
	assert_int_equal(k.n, 1);
	assert_int_equal(test_end(&f->loop, t, k.got[0], ASYA_ACK, 0), ASYA_SETTLED);
	test_take(&l, t, "x", false, 5);
	test_take_wait(&f->loop, &l, 1);
	test_expect_body(l.got[0], "2");
	test_transport_close(&f->loop, t);
}

static void several_consumers_share_a_queue_and_none_gets_the_others_message(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t[3];
	struct test_taker k[3];
	bool seen[90] = {false};
	unsigned total = 0;

	for (int i = 0; i < 3; i++) {
		t[i] = open_one(f);
		test_take(&k[i], t[i], "x", false, 7);
	}
	for (int i = 0; i < 90; i++) {
		char body[8];

		snprintf(body, sizeof(body), "%d", i);
		test_post(&f->loop, t[i % 3], "x", body, 0);
	}
	while (total < 90) {
		test_run_for(&f->loop, 5);
		for (int i = 0; i < 3; i++)
			while (k[i].n) {
				struct asya_delivery *d = k[i].got[--k[i].n];
				int which = atoi(d->body.p);

				assert_false(seen[which]);
				seen[which] = true;
				total++;
				assert_int_equal(test_end(&f->loop, t[i], d, ASYA_ACK, 0),
						 ASYA_SETTLED);
			}
	}
	test_expect_depth(&f->loop, t[0], "x", 0, 0, 0, 0);
	for (int i = 0; i < 3; i++)
		test_transport_close(&f->loop, t[i]);
}

static void many_settlements_at_once_are_each_answered_once(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	_cleanup_(asya_freep) struct asya_settle *ops = asya_calloc(MANY, sizeof(*ops));
	_cleanup_(asya_freep) struct test_result *results = asya_calloc(MANY, sizeof(*results));
	struct asya_post p = {.actor = ASYA_STR("x"), .body = ASYA_STR("m")};
	struct test_taker k;

	for (int i = 0; i < MANY; i++) {
		ops[i] = (struct asya_settle){
			.posts = &p, .n_posts = 1, .done = test_on_settled, .user = &results[i]};
		asya_transport_settle(t, &ops[i]);
	}
	for (int i = 0; i < MANY; i++)
		test_run_until(&f->loop, &results[i].done, "a settlement", TEST_WAIT_S);
	test_take(&k, t, "x", false, MANY);
	test_take_wait(&f->loop, &k, MANY);
	test_transport_close(&f->loop, t);
}

static void settling_after_the_lease_was_lost_is_stale_and_posts_nothing(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f), *other = open_one(f);
	struct asya_post p = {.actor = ASYA_STR("y"), .body = ASYA_STR("late result")};
	struct test_taker k, l;

	if (!f->hub && !is_rabbit(f)) { /* local: a test with a process that is stopped shows it */
		test_transport_close(&f->loop, t);
		test_transport_close(&f->loop, other);
		return;
	}
	test_post(&f->loop, t, "x", "m", 0);
	test_take(&k, t, "x", false, 1);
	test_take_wait(&f->loop, &k, 1);
	asya_transport_window(t, &k.c, 0);
	if (f->hub)
		asya_mem_expire(t);
	else
		asya_rabbitmq_cut(t);
	test_take(&l, other, "x", false, 1);
	test_take_wait(&f->loop, &l, 1);
	assert_int_equal(
		test_settle(&f->loop, t,
			    (struct asya_settle){.delivery = k.got[0], .posts = &p, .n_posts = 1})
			.outcome,
		ASYA_STALE);
	test_expect_depth(&f->loop, t, "y", 0, 0, 0, 0);
	assert_int_equal(test_end(&f->loop, other, l.got[0], ASYA_ACK, 0), ASYA_SETTLED);
	test_transport_close(&f->loop, t);
	test_transport_close(&f->loop, other);
}

static void lease_outlives_its_visibility_timeout_while_the_process_lives(void **state)
{
	struct fixture *f = *state;
	unsigned ms = f->backend->lease_ms;
	struct asya_transport *t = open_at(f, &f->loop, ms), *other = open_at(f, &f->loop, ms);
	struct test_taker k, l;

	test_post(&f->loop, t, "x", "m", 0);
	test_take(&k, t, "x", false, 1);
	test_take_wait(&f->loop, &k, 1);
	test_take(&l, other, "x", false, 1);
	test_run_for(&f->loop, ms * 5 / 2);
	assert_int_equal(l.n, 0);
	assert_int_equal(test_end(&f->loop, t, k.got[0], ASYA_ACK, 0), ASYA_SETTLED);
	test_transport_close(&f->loop, t);
	test_transport_close(&f->loop, other);
}

/* ---- several processes ---- */

static char *self;

/* Runs this program as `self child BACKEND DIR VISIBILITY_MS WHAT`; it writes a byte once it holds
 * a message. */
static pid_t spawn(struct fixture *f, const char *visibility, const char *what, int *ret_fd)
{
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		execl(self, self, "child", f->backend->name, f->dir ? f->dir : f->space, visibility,
		      what, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	*ret_fd = fds[0];
	return pid;
}

struct child {
	struct asya_consumer c;
	struct asya_transport *t;
	const char *what;
	unsigned acked;
};

static void child_acked(struct asya_settle *op, enum asya_settled outcome,
			const struct asya_error *err)
{
	struct child *k = op->user;

	if (outcome == ASYA_SETTLE_FAILED && err->advice == ASYA_RETRY &&
	    k->t->ops == &asya_rabbitmq_ops) { /* both of its connections were given up */
		asya_transport_settle(k->t, op);
		return;
	}
	if (outcome != ASYA_SETTLED)
		fprintf(stderr, "child: %s\n", err ? err->text : "stale");
	_exit(outcome == ASYA_SETTLED ? 0 : outcome == ASYA_STALE ? 3 : 4);
}

static void child_counted(struct asya_settle *op, enum asya_settled outcome,
			  const struct asya_error *err)
{
	if (outcome != ASYA_SETTLED) {
		fprintf(stderr, "child: %s\n", err ? err->text : "stale");
		_exit(4);
	}
	free(op);
}

static void child_deliver(struct asya_consumer *c, struct asya_delivery *d)
{
	static struct asya_settle op;
	static const struct asya_post late = {.actor = {"y", 1}, .body = {"late", 4}};
	struct child *k = c->user;

	if (strcmp(k->what, "drain") == 0) { /* forwards everything to y */
		struct asya_settle *each = asya_new0(struct asya_settle);
		struct asya_post *p = asya_new0(struct asya_post);

		*p = (struct asya_post){.actor = ASYA_STR("y"), .body = d->body};
		*each = (struct asya_settle){
			.delivery = d, .posts = p, .n_posts = 1, .done = child_counted};
		asya_transport_settle(k->t, each);
		return;
	}
	if (write(STDOUT_FILENO, "t", 1) != 1)
		_exit(5);
	if (strcmp(k->what, "hold") == 0)
		return;
	raise(SIGSTOP); /* stopped for longer than its lease; then it settles */
	op = (struct asya_settle){
		.delivery = d, .posts = &late, .n_posts = 1, .done = child_acked, .user = k};
	asya_transport_settle(k->t, &op);
}

static int child_main(char **argv)
{
	struct asya_local_config config = ASYA_LOCAL_CONFIG_DEFAULT;
	struct child k = {.c = {.actor = ASYA_STR("x"), .deliver = child_deliver, .user = &k},
			  .what = argv[5]};
	const char *backend = argv[2];
	struct asya_error err;
	uv_loop_t loop;

	alarm(60);
	uv_loop_init(&loop);
	config.dir = argv[3];
	config.visibility_ms = atoi(argv[4]);
	if (strncmp(backend, "rabbitmq", 8) == 0) { /* a lease is at most two heartbeats there */
		k.t = open_rabbit(&loop, argv[3], strstr(backend, "quorum"),
				  config.visibility_ms < 1000 ? 1000 : 10000);
	} else if (asya_local_open(&k.t, &loop, &config, &err)) {
		fprintf(stderr, "child: %s\n", err.text);
		return 6;
	}
	asya_transport_consume(k.t, &k.c);
	asya_transport_window(k.t, &k.c, strcmp(k.what, "drain") == 0 ? CHILD_WINDOW : 1);
	uv_run(&loop, UV_RUN_DEFAULT);
	return 7;
}

static void await_byte(int fd)
{
	char c;

	assert_int_equal(read(fd, &c, 1), 1);
	close(fd);
}

static int reap(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void message_of_a_killed_process_comes_back_long_before_its_lease_ends(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct test_taker k;
	pid_t pid;
	int fd;

	test_post(&f->loop, t, "x", "m", 0);
	pid = spawn(f, "3600000", "hold", &fd);
	await_byte(fd);
	kill(pid, SIGKILL);
	reap(pid);
	test_take(&k, t, "x", false, 1);
	test_take_wait(&f->loop, &k, 1);
	expect_receives(f, k.got[0], 2);
	assert_int_equal(test_end(&f->loop, t, k.got[0], ASYA_ACK, 0), ASYA_SETTLED);
	test_transport_close(&f->loop, t);
}

static void message_of_a_stopped_process_comes_back_when_its_lease_ends(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct test_taker k;
	int fd, status;
	pid_t pid;

	test_post(&f->loop, t, "x", "m", 0);
	pid = spawn(f, "300", "stop", &fd);
	await_byte(fd);
	test_take(&k, t, "x", false, 1);
	test_take_wait(&f->loop, &k, 1);
	kill(pid, SIGCONT);
	status = reap(pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 3); /* stale */
	if (f->backend->ops->transactional)
		test_expect_depth(&f->loop, t, "y", 0, 0, 0, 0);
	assert_int_equal(test_end(&f->loop, t, k.got[0], ASYA_ACK, 0), ASYA_SETTLED);
	test_transport_close(&f->loop, t);
}

static int count_seen(bool *seen, size_t n, const struct test_taker *k, unsigned *repeated)
{
	int different = 0;

	memset(seen, 0, n * sizeof(*seen));
	*repeated = 0;
	for (unsigned i = 0; i < k->n; i++) {
		int which = atoi(k->got[i]->body.p);

		*repeated += seen[which];
		different += !seen[which];
		seen[which] = true;
	}
	return different;
}

static void killed_consumers_in_several_processes_lose_and_repeat_nothing(void **state)
{
	enum { TOTAL = 500, CHILDREN = 3, KILLS = 12 };
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	bool seen[TOTAL] = {false};
	pid_t pids[CHILDREN];
	unsigned seed = 7, repeated;
	struct test_taker k;
	int fd;

	for (int i = 0; i < TOTAL; i++) {
		char body[8];

		snprintf(body, sizeof(body), "%d", i);
		test_post(&f->loop, t, "x", body, 0);
	}
	for (int i = 0; i < CHILDREN; i++) {
		pids[i] = spawn(f, "3600000", "drain", &fd);
		close(fd);
	}
	for (int i = 0; i < KILLS; i++) {
		int which = i % CHILDREN;

		test_run_for(&f->loop, 20 + (unsigned)rand_r(&seed) % 60);
		kill(pids[which], SIGKILL);
		reap(pids[which]);
		pids[which] = spawn(f, "3600000", "drain", &fd);
		close(fd);
	}
	test_take(&k, t, "y", false, MANY);
	test_take_wait(&f->loop, &k, TOTAL);
	for (int i = 0; count_seen(seen, TOTAL, &k, &repeated) < TOTAL; i++) {
		assert_true(i < 100); /* something was lost */
		test_run_for(&f->loop, 100);
	}
	test_expect_depth(&f->loop, t, "x", 0, 0, 0, 0);
	if (f->backend->ops->transactional)
		assert_int_equal(repeated, 0);
	else /* what was posted and not acked when its process died */
		assert_true(repeated <= KILLS * CHILD_WINDOW);
	for (int i = 0; i < CHILDREN; i++) {
		kill(pids[i], SIGKILL);
		reap(pids[i]);
	}
	test_transport_close(&f->loop, t);
}

/* ---- */

/* A post makes no queue at a broker: whoever consumes has made it. */
static void make_queues(struct fixture *f)
{
	static const char *const names[] = {"x", "y", "z"};
	struct asya_transport *t = open_one(f);
	struct test_taker k[3];

	for (int i = 0; i < 3; i++) {
		test_take(&k[i], t, names[i], false, 0);
		test_run_until(&f->loop, &k[i].live, "a queue to be made", TEST_WAIT_S);
	}
	test_transport_close(&f->loop, t);
}

static int set_up(void **state)
{
	static unsigned tests;
	struct fixture *f = asya_new0(struct fixture);

	f->backend = *state;
	uv_loop_init(&f->loop);
	if (f->backend->ops == &asya_mem_ops)
		f->hub = asya_mem_hub_new(&f->loop);
	else if (is_rabbit(f))
		f->space = asya_asprintf("t%d-%u", (int)getpid(), ++tests);
	else if (f->backend->variable)
		f->space = asya_asprintf("t%d-%lld", getpid(), (long long)asya_clock_mono_ns());
	else
		f->dir = test_dir_make();
	if (is_rabbit(f))
		make_queues(f);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	const struct backend *backend = f->backend;
	bool closed = false;

	if (f->hub) {
		asya_mem_hub_close(f->hub, test_set_flag, &closed);
		test_run_until(&f->loop, &closed, "the hub to close", TEST_WAIT_S);
	}
	test_loop_close(&f->loop);
	if (f->dir)
		test_dir_remove(f->dir);
	free(f->space);
	free(f);
	*state = (void *)backend;
	return 0;
}

#define T(f, b)                                                                                    \
	{                                                                                          \
#f, f, set_up, tear_down, (void *)(b)                                              \
	}

int main(int argc, char **argv)
{
	int failed = 0;

	(void)argc;
	self = argv[0];
	if (argc == 6 && strcmp(argv[1], "child") == 0)
		return child_main(argv);
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(backends); i++) {
		const struct backend *b = &backends[i];

		if (b->ops == &asya_rabbitmq_ops && !broker_url()) { /* tools/test sets it */
			printf("%s: not run, ASYA_TEST_RABBITMQ_URL is not set\n", b->name);
			continue;
		}
		if (b->variable && !getenv(b->variable)) {
			printf("%s: not run, %s is not set\n", b->name, b->variable);
			continue;
		}
		const struct CMUnitTest everywhere[] = {
			T(posted_message_is_delivered_whole_and_gone_after_its_ack, b),
			T(empty_body_arrives_empty, b),
			T(messages_come_in_the_order_they_were_posted, b),
			T(window_bounds_what_is_unsettled_and_zero_takes_nothing, b),
			T(posts_and_ack_of_one_settlement_happen_together, b),
			T(released_message_comes_back_with_its_count, b),
			T(delayed_posts_and_releases_are_not_taken_before_their_time, b),
			T(queue_time_is_kept_when_the_post_says_so, b),
			T(closing_gives_back_what_is_not_settled, b),
			T(stopped_consumer_gets_nothing_more_and_may_still_settle, b),
			T(several_consumers_share_a_queue_and_none_gets_the_others_message, b),
			T(many_settlements_at_once_are_each_answered_once, b),
			T(settling_after_the_lease_was_lost_is_stale_and_posts_nothing, b),
			T(lease_outlives_its_visibility_timeout_while_the_process_lives, b),
		};
		const struct CMUnitTest with_processes[] = {
			T(message_of_a_killed_process_comes_back_long_before_its_lease_ends, b),
			T(message_of_a_stopped_process_comes_back_when_its_lease_ends, b),
			T(killed_consumers_in_several_processes_lose_and_repeat_nothing, b),
		};

		failed += cmocka_run_group_tests_name(b->name, everywhere, NULL, NULL);
		if (b->processes)
			failed += cmocka_run_group_tests_name(b->name, with_processes, NULL, NULL);
	}
	return failed;
}
