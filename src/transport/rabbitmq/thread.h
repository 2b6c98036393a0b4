// SPDX-License-Identifier: Apache-2.0
/* What the loop's side (rabbitmq.c) and the two threads (consume.c, publish.c) share. */
#pragma once
#include "transport/rabbitmq/conn.h"

#include "base/arena.h"
#include "base/clock.h"

#include <stdatomic.h>

#define RABBIT_HEADER_QUEUED "x-asya-queued-us"

struct rabbit_delivery {
	struct asya_delivery base;
	struct asya_link held; /* the consuming thread's: not settled */
	struct asya_link
		link; /* on its way to the loop, or waiting for the window, or to be acked */
	struct rabbit_consumer *consumer;
	uint64_t life; /* of the channel that delivered it */
	uint64_t tag;
	bool acked, handed;
	size_t n_properties; /* their encoding, behind the body */
	struct asya_settle giving_back;
};

/* Lives until the transport is closed: deliveries may still be on their way when it is stopped. */
struct rabbit_consumer {
	struct asya_link link; /* the loop's */
	struct asya_link own;  /* the consuming thread's, once it has seen it */
	struct rabbit *rabbit;
	struct asya_consumer *user; /* the loop's; NULL: stopped */
	char *actor, *queue, *dead_queue;
	bool dead;
	/* the loop's: what the user was told */
	bool told, told_live;
	struct asya_error told_error;

	/* under the lock */
	unsigned window;
	bool stopped;
	struct asya_link ready; /* deliveries for the loop */
	bool known, live;
	struct asya_error error;

	/* Counts the channels it has had: written by the consuming thread alone. */
	_Atomic uint64_t life;

	/* the consuming thread's */
	amqp_channel_t channel;
	bool open;         /* the channel is */
	bool declared;     /* its queues have been made or seen */
	unsigned prefetch; /* of the broker's consumer; 0: there is none */
	char tag[32];
	unsigned tags;
	int64_t changed_ms; /* when the prefetch was last set */
	int64_t retry_ms;
	unsigned failures;
	unsigned out, handed;     /* not settled; of these with the user */
	struct asya_link held;    /* of this channel's life, in the order of their tags */
	struct asya_link lost;    /* of earlier ones */
	struct asya_link waiting; /* for the window */
	struct asya_link acking;
	struct rabbit_delivery *partial; /* its body is still coming */
	size_t partial_n;
	enum { RABBIT_NOTHING, RABBIT_PROPERTIES, RABBIT_BODY } expect;
	uint64_t partial_tag;
	bool partial_again;
};

/* A settlement that failed, on its way back. */
struct rabbit_failure {
	struct asya_link link;
	struct asya_settle *op;
	struct asya_error error;
};

/* One of the two threads, as seen by the others. Under the lock but for `fd`. */
struct rabbit_worker {
	pthread_t thread;
	int wake;     /* an eventfd */
	bool pending; /* it was written since the last look */
	bool started, ended;
};

struct rabbit {
	struct asya_transport base;
	uv_loop_t *loop;
	struct asya_arena *arena;
	struct asya_rabbitmq_config config;
	uv_async_t ring;
	uv_timer_t patience; /* for the end */
	unsigned closing;
	void (*closed)(void *user);
	void *closed_user;

	pthread_mutex_t lock;
	bool stop, hurry;
	struct rabbit_worker consuming, publishing;
	struct asya_link consumers; /* the loop's */
	struct asya_link joining;   /* new ones: loop to consumer */
	unsigned n_consumers;       /* the loop's */
	struct asya_link sends;     /* settlements with posts: loop to publisher */
	unsigned n_sends;
	bool publisher_busy;          /* its confirms will wake it soon, and if not, its timer */
	struct asya_link verdicts;    /* without posts: loop to consumer */
	struct asya_link acks;        /* posts are confirmed: publisher to consumer */
	struct asya_link stats;       /* loop to consumer */
	struct asya_link settles_out; /* to the loop */
	struct asya_link stats_out;
	struct asya_link failures; /* to the loop, of struct rabbit_failure */
	struct asya_error stats_error;
	char missing[256]; /* a queue that a post did not find; "": none */
	bool publisher_known, publisher_live;
	struct asya_error publisher_error;

	struct asya_link own; /* the consuming thread's consumers */
	struct rabbit_conn consume_conn, publish_conn;
};

static inline struct rabbit_delivery *rabbit_delivery_of(struct asya_delivery *d)
{
	return asya_container_of(d, struct rabbit_delivery, base);
}

static inline bool rabbit_stale(struct asya_settle *op)
{
	struct rabbit_delivery *d = rabbit_delivery_of(op->delivery);

	return d->life != atomic_load_explicit(&d->consumer->life, memory_order_acquire);
}

/* Under the lock. */
void rabbit_wake(struct rabbit_worker *w);
/* Waits for its socket or for a wake; the flag is reset, and what was handed over may be taken. */
void rabbit_wait(struct rabbit *r, struct rabbit_worker *w, const struct rabbit_conn *c,
		 int64_t timeout_ms);

void *rabbit_consume_main(void *rabbit);
void *rabbit_publish_main(void *rabbit);

/* To the loop; under the lock. */
void rabbit_finish(struct rabbit *r, struct asya_settle *op, enum asya_settled result);
void rabbit_fail(struct rabbit *r, struct asya_settle *op, const struct asya_error *err);

/* From the publisher: if it is one of ours, it is to be made again. */
void rabbit_missing(struct rabbit *r, const char *queue);

/* names.c. `key`: what a post to the actor is routed by; NULL-terminated, on the heap. */
char *rabbit_key(const struct asya_rabbitmq_config *c, struct asya_str actor, bool dead);
char *rabbit_queue(const struct asya_rabbitmq_config *c, struct asya_str actor, bool dead);
/* The step that holds a delay: its queue's name on the heap, and its time to live. */
enum { RABBIT_DELAY_STEPS = 24 };
unsigned rabbit_delay_step(int64_t delay_ms);
int64_t rabbit_delay_ms(unsigned step);
char *rabbit_delay_name(const struct asya_rabbitmq_config *c, unsigned step);
