// SPDX-License-Identifier: Apache-2.0
#include "lib/transport.h"

#include "lib/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

void test_set_flag(void *flag)
{
	*(bool *)flag = true;
}

static void on_deliver(struct asya_consumer *c, struct asya_delivery *d)
{
	struct test_taker *t = c->user;

	assert_true(t->n < TEST_TAKER_MAX);
	t->got[t->n++] = d;
}

static void on_state(struct asya_consumer *c, bool live, const struct asya_error *err)
{
	struct test_taker *t = c->user;

	assert_true(live ? !err : err && err->text[0]);
	t->live = live;
	t->ups += live;
	t->downs += !live;
	if (err)
		t->err = *err;
}

void test_take(struct test_taker *t, struct asya_transport *tr, const char *actor, bool dead,
	       unsigned window)
{
	*t = (struct test_taker){.c = {.actor = asya_str_c(actor),
				       .dead = dead,
				       .deliver = on_deliver,
				       .state = on_state,
				       .user = t}};
	asya_transport_consume(tr, &t->c);
	asya_transport_window(tr, &t->c, window);
}

void test_take_wait(uv_loop_t *loop, struct test_taker *t, unsigned n)
{
	test_run_until_count(loop, &t->n, n, "deliveries", TEST_WAIT_S);
}

void test_on_settled(struct asya_settle *op, enum asya_settled outcome,
		     const struct asya_error *err)
{
	struct test_result *r = op->user;

	assert_false(r->done);
	r->done = true;
	r->outcome = outcome;
	assert_int_equal(outcome == ASYA_SETTLE_FAILED, err != NULL);
	if (err)
		r->err = *err;
}

struct test_result test_settle(uv_loop_t *loop, struct asya_transport *t, struct asya_settle op)
{
	struct test_result r = {0};

	op.done = test_on_settled;
	op.user = &r;
	asya_transport_settle(t, &op);
	assert_false(r.done); /* never inside the call */
	test_run_until(loop, &r.done, "a settlement", TEST_WAIT_S);
	return r;
}

enum asya_settled test_end(uv_loop_t *loop, struct asya_transport *t, struct asya_delivery *d,
			   enum asya_verdict verdict, int64_t delay_ms)
{
	return test_settle(loop, t,
			   (struct asya_settle){
				   .delivery = d, .verdict = verdict, .delay_ms = delay_ms})
		.outcome;
}

void test_post(uv_loop_t *loop, struct asya_transport *t, const char *actor, const char *body,
	       int64_t delay_ms)
{
	struct asya_post p = {
		.actor = asya_str_c(actor), .body = asya_str_c(body), .delay_ms = delay_ms};
	struct test_result r =
		test_settle(loop, t, (struct asya_settle){.posts = &p, .n_posts = 1});

	if (r.outcome != ASYA_SETTLED)
		fail_msg("posting to '%s': %s", actor, r.err.text);
}

static void on_stat(struct asya_stat *op, const struct asya_error *err)
{
	if (err)
		fail_msg("depth of '%.*s': %s", ASYA_STR_ARG(op->actor), err->text);
	*(bool *)op->user = true;
}

struct asya_depth test_depth(uv_loop_t *loop, struct asya_transport *t, const char *actor)
{
	bool done = false;
	struct asya_stat op = {.actor = asya_str_c(actor), .done = on_stat, .user = &done};

	asya_transport_stat(t, &op);
	assert_false(done);
	test_run_until(loop, &done, "a depth", TEST_WAIT_S);
	return op.depth;
}

void test_expect_depth(uv_loop_t *loop, struct asya_transport *t, const char *actor, int ready,
		       int leased, int delayed, int dead)
{
	struct asya_depth d = test_depth(loop, t, actor);

	if (d.ready != ready || d.leased != leased || d.delayed != delayed || d.dead != dead)
		fail_msg("'%s' has %d ready, %d leased, %d delayed, %d dead; expected %d %d %d %d",
			 actor, (int)d.ready, (int)d.leased, (int)d.delayed, (int)d.dead, ready,
			 leased, delayed, dead);
}

void test_expect_body(const struct asya_delivery *d, const char *body)
{
	assert_int_equal(d->body.n, strlen(body));
	assert_memory_equal(d->body.p, body, d->body.n);
}

void test_transport_close(uv_loop_t *loop, struct asya_transport *t)
{
	bool closed = false;

	asya_transport_close(t, test_set_flag, &closed);
	test_run_until(loop, &closed, "the transport to close", TEST_WAIT_S);
}
