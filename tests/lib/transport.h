// SPDX-License-Identifier: Apache-2.0
/* Driving a transport in a test, one step after another. Every wait fails the test after a while.
 */
#pragma once
#include "transport/transport.h"

enum { TEST_TAKER_MAX = 2048, TEST_WAIT_S = 30 };

/* A consumer that keeps what it gets. */
struct test_taker {
	struct asya_consumer c;
	struct asya_delivery *got[TEST_TAKER_MAX];
	unsigned n;
	bool live;
	unsigned ups, downs;   /* reports of its state */
	struct asya_error err; /* the last one's */
};

struct test_result {
	bool done;
	enum asya_settled outcome;
	struct asya_error err;
};

void test_set_flag(void *flag);
/* Starts taking. `t` lives until the consumer is stopped or the transport closed. */
void test_take(struct test_taker *t, struct asya_transport *tr, const char *actor, bool dead,
	       unsigned window);
/* Until the taker has had n messages altogether. */
void test_take_wait(uv_loop_t *loop, struct test_taker *t, unsigned n);
/* For an operation with `user` = &result; checks that it is called once and with the error that
 * belongs to it. */
void test_on_settled(struct asya_settle *op, enum asya_settled outcome,
		     const struct asya_error *err);
struct test_result test_settle(uv_loop_t *loop, struct asya_transport *t, struct asya_settle op);
enum asya_settled test_end(uv_loop_t *loop, struct asya_transport *t, struct asya_delivery *d,
			   enum asya_verdict verdict, int64_t delay_ms);
void test_post(uv_loop_t *loop, struct asya_transport *t, const char *actor, const char *body,
	       int64_t delay_ms);
struct asya_depth test_depth(uv_loop_t *loop, struct asya_transport *t, const char *actor);
void test_expect_depth(uv_loop_t *loop, struct asya_transport *t, const char *actor, int ready,
		       int leased, int delayed, int dead);
void test_expect_body(const struct asya_delivery *d, const char *body);
void test_transport_close(uv_loop_t *loop, struct asya_transport *t);
