// SPDX-License-Identifier: Apache-2.0
/* One AMQP connection, used by one thread. Errors name the broker and what it said, never the
 * password. */
#pragma once
#include "transport/rabbitmq/rabbitmq.h"

#if ASYA_RABBITMQ_C_012
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#endif

#include <pthread.h>

enum { RABBIT_ADMIN_CHANNEL = 1, RABBIT_FIRST_CHANNEL = 2 };

struct rabbit_conn {
	const struct asya_rabbitmq_config *config;
	const char *what; /* what it is for, as shown in the broker's list of connections */
	amqp_connection_state_t amqp; /* NULL: there is none */
	bool admin_open;
	size_t next_host;
	const struct asya_rabbitmq_host *host;
	int64_t retry_ms;     /* when to connect again; monotonic */
	unsigned failures;    /* connects in a row that failed */
	pthread_mutex_t lock; /* over fd, so that another thread can cut it */
	int fd;
};

void rabbit_conn_init(struct rabbit_conn *c, const struct asya_rabbitmq_config *config,
		      const char *what);
void rabbit_conn_fini(struct rabbit_conn *c);
/* Tries every host once. On failure retry_ms is set. */
int rabbit_conn_open(struct rabbit_conn *c, struct asya_error *err);
/* Politely: tells the broker. A new attempt is allowed after a moment. */
void rabbit_conn_close(struct rabbit_conn *c, bool politely);
/* From any thread: shuts the socket down; the owner finds it broken. */
void rabbit_conn_cut(struct rabbit_conn *c);

/* The next frame. 1: one; 0: none has come; -1: the connection is broken or the broker ended it. */
int rabbit_conn_frame(struct rabbit_conn *c, amqp_frame_t *ret, struct asya_error *err);
/* For the status of a library's call that sends: 0, or -1 with err. */
int rabbit_conn_check(struct rabbit_conn *c, int status, struct asya_error *err);
/* For the reply of a library's call that waits for an answer: 0; the reply code (from 300 on) with
 * which the broker closed the channel, err its text; -1: the connection is broken. */
int rabbit_conn_reply(struct rabbit_conn *c, amqp_channel_t channel, amqp_rpc_reply_t reply,
		      struct asya_error *err);
/* Answers the broker's channel.close; returns its code, err its text. */
int rabbit_conn_channel_closed(struct rabbit_conn *c, amqp_channel_t channel,
			       const amqp_channel_close_t *close, struct asya_error *err);

int rabbit_conn_channel(struct rabbit_conn *c, amqp_channel_t channel, struct asya_error *err);

/* These use the admin channel; results as rabbit_conn_reply's. `type`: x-queue-type, NULL: none.
 * `count` may be NULL. */
int rabbit_conn_exchange(struct rabbit_conn *c, const char *name, const char *type,
			 struct asya_error *err);
int rabbit_conn_queue(struct rabbit_conn *c, const char *name, const amqp_table_t *arguments,
		      struct asya_error *err);
int rabbit_conn_look(struct rabbit_conn *c, const char *queue, int64_t *count,
		     struct asya_error *err);
int rabbit_conn_bind(struct rabbit_conn *c, const char *queue, const char *exchange,
		     const char *key, struct asya_error *err);

static inline amqp_bytes_t rabbit_bytes(struct asya_str s)
{
	return (amqp_bytes_t){.len = s.n, .bytes = (void *)(s.p ? s.p : "")};
}

static inline struct asya_str rabbit_str(amqp_bytes_t b)
{
	return (struct asya_str){b.bytes ? (const char *)b.bytes : "", b.len};
}
