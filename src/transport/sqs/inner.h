// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of the SQS transport share.
 *
 *	call.c      one request, repeated with back-off where the service asks for it
 *	queue.c     finding and making queues; depths
 *	batch.c     sends, deletes and changes of visibility, ten a request
 *	receive.c   long polls, deliveries, the heartbeat of their leases
 *	settle.c    posts, then the verdict
 *	sqs.c       opening and closing
 */
#pragma once
#include "io/aws_client.h"
#include "transport/sqs/body.h"
#include "transport/sqs/sqs.h"

#include <yyjson.h>

enum {
	SQS_BATCH = 10,
	SQS_BATCH_BYTES = 262144, /* what a batch may hold where messages are not larger */
	SQS_BODY_MAX = 1 << 20,
	SQS_OVERHEAD = 256, /* our attributes of a message, as SQS counts them */
	SQS_VISIBILITY_MAX_S = 43200,
	SQS_DELAY_MAX_S = 900,
	SQS_RECEIVES_MAX = 8, /* long polls of one consumer side by side */
	SQS_SENDS_MAX = 8,    /* batches of one queue and kind under way */
	SQS_TRIES = 6,
};

struct sqs;
struct sqs_queue;
struct sqs_consumer;

/* Why a request, or an entry of a batch, was refused. */
struct sqs_fault {
	char code[80];
	bool passing; /* throttled, overloaded, unreachable: again later */
	struct asya_error err;
};

struct sqs_call {
	struct asya_aws_request aws;
	struct sqs *sqs;
	struct asya_link link; /* in `later` */
	char target[64];
	struct asya_http_header headers[2];
	struct asya_buf body;
	unsigned tries; /* left */
	unsigned failures;
	int64_t again_ms;
	/* Once, from the loop. `root`: the answer, or NULL with `fault`. The call is freed after.
	 */
	void (*done)(struct sqs_call *call, yyjson_val *root, const struct sqs_fault *fault);
	void *user;
};

/* Whoever needs a queue's URL. */
struct sqs_wait {
	struct asya_link link;
	bool create;
	void (*done)(struct sqs_wait *w, const struct asya_error *err);
	void *user;
};

enum sqs_state { SQS_UNKNOWN, SQS_FINDING, SQS_READY };

enum sqs_kind { SQS_SEND, SQS_DELETE, SQS_CHANGE, SQS_KINDS };

struct sqs_lane {
	struct asya_link items; /* to go out */
	unsigned n, under_way;
};

struct sqs_queue {
	struct asya_link link;
	struct sqs *sqs;
	struct asya_str actor, name;
	bool dead;
	enum sqs_state state;
	bool missing; /* the last look found none */
	char *url, *arn;
	size_t max_bytes; /* largest message */
	struct asya_link waits;
	struct sqs_wait dead_letters; /* before it is made */
	struct sqs_wait for_items;
	bool waiting_for_items;
	struct sqs_lane lanes[SQS_KINDS];
};

struct sqs_delivery {
	struct asya_delivery base;
	struct asya_link held;
	struct sqs_consumer *consumer;
	struct sqs_queue *queue;
	char *body, *receipt;
	int64_t received_ms, lease_ms; /* monotonic; the lease's end */
	struct sqs_item *beat;         /* under way */
	struct sqs_settling *after_beat;
	bool lost, settling;
};

/* One entry of a batch. */
struct sqs_item {
	struct asya_link link;
	struct sqs_queue *queue;
	enum sqs_kind kind;
	unsigned failures;
	int64_t again_ms;
	const struct asya_post *post; /* SEND */
	enum sqs_form form;
	size_t bytes;
	uint64_t salt;
	char *receipt; /* DELETE, CHANGE */
	int64_t visibility_s, sent_ms;
	/* NULL: as asked. Once, from the loop; the item is freed after. */
	void (*done)(struct sqs_item *i, const struct sqs_fault *fault);
	void *user;
};

struct sqs_settling {
	struct asya_link link; /* in `finished` */
	struct sqs *sqs;
	struct asya_settle *op;
	unsigned pending;
	enum asya_settled outcome;
	struct asya_error err;
};

/* Lives until the transport is closed. */
struct sqs_consumer {
	struct asya_link link;
	struct sqs *sqs;
	struct asya_consumer *user; /* NULL: stopped */
	struct sqs_queue *queue;
	unsigned window, out, reserved;
	unsigned polls, allowed;
	unsigned failures;
	int64_t again_ms;
	struct sqs_wait wait, wait_dead;
	bool waiting, told, live;
};

struct sqs {
	struct asya_transport base;
	uv_loop_t *loop;
	struct asya_aws_client *client;
	char *space;
	int64_t visibility_s, wait_s;
	bool auto_create, fifo, fair;
	asya_aws_variable_fn *get;
	void *get_user;

	struct asya_link queues, consumers, held;
	struct asya_link finished; /* of struct sqs_settling */
	struct asya_link later;    /* of struct sqs_call */
	struct asya_link parked;   /* of struct sqs_item: to be tried again */
	uv_timer_t tick;           /* at once */
	uv_timer_t again;          /* what waits for its time */
	uv_timer_t beat;
	uv_prepare_t turn;
	int64_t turn_ms; /* when the loop last began to wait, monotonic */
	unsigned n_calls, n_items, n_settles, n_stats;
	uint64_t salt;
	bool closing, releasing, ending;
	unsigned handles;
	void (*closed)(void *user);
	void *closed_user;
};

/* call.c */
struct sqs_call *sqs_call_new(struct sqs *s, const char *action);
/* `tries`: how often in all, where the fault passes. */
void sqs_call_send(struct sqs_call *call, int64_t timeout_ms, unsigned tries);
void sqs_calls_due(struct sqs *s, int64_t now);
/* Milliseconds to wait after so many failures in a row, jittered. */
int64_t sqs_backoff_ms(unsigned failures);
void sqs_fault_set(struct sqs_fault *f, const char *code, struct asya_str message,
		   const char *action, unsigned status);
bool sqs_fault_is(const struct sqs_fault *f, const char *part);
struct asya_str sqs_member(yyjson_val *object, const char *name);

/* queue.c */
struct sqs_queue *sqs_queue_at(struct sqs *s, struct asya_str actor, bool dead);
void sqs_queue_want(struct sqs_queue *q, struct sqs_wait *w);
/* The service does not know it (any more). */
void sqs_queue_lost(struct sqs_queue *q);
void sqs_queue_free(struct sqs_queue *q);
void sqs_stat(struct sqs *s, struct asya_stat *op);

/* batch.c */
struct sqs_item *sqs_item_new(struct sqs_queue *q, enum sqs_kind kind,
			      void (*done)(struct sqs_item *i, const struct sqs_fault *fault),
			      void *user);
void sqs_item_queue(struct sqs_item *i);
void sqs_items_due(struct sqs *s, int64_t now);
/* What the tick does: partial batches go out where nothing is under way. */
void sqs_flush(struct sqs *s);

/* receive.c */
void sqs_pump(struct sqs_consumer *c);
void sqs_beat(struct sqs *s);
void sqs_delivery_free(struct sqs_delivery *d);
void sqs_consumers_due(struct sqs *s, int64_t now);

/* settle.c */
void sqs_settle(struct sqs *s, struct asya_settle *op);
void sqs_settle_verdict(struct sqs_settling *g);
void sqs_finish_settles(struct sqs *s);

/* sqs.c */
void sqs_ring(struct sqs *s);

static inline struct sqs_delivery *sqs_delivery_of(struct asya_delivery *d)
{
	return asya_container_of(d, struct sqs_delivery, base);
}
