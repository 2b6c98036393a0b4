// SPDX-License-Identifier: Apache-2.0
/*
 * The RabbitMQ transport (AMQP 0-9-1, RabbitMQ 3.10 and later, by librabbitmq).
 *
 *	exchange EXCHANGE (topic, durable)
 *	    └─ key ACTOR ──► queue asya-ACTOR            with a namespace: NAMESPACE_ACTOR
 *	    └─ key ACTOR-dlq ─► queue asya-ACTOR-dlq     its dead letters
 *	exchange EXCHANGE.delay.MS (fanout) ──► queue EXCHANGE.delay.MS ──► EXCHANGE, by the same
 *key
 *
 * Two connections, each with a thread of its own: one takes and acks, the other publishes, so that
 * a broker that takes no messages at present (connection.blocked) still gets acks. Not
 * transactional: posts are confirmed by the broker (persistent, mandatory; a returned or refused
 * one fails the settlement with ASYA_RETRY), then the message is acked. What is repeated after a
 * crash is what was confirmed and not acked.
 *
 * A delayed post lies in a quorum queue until its own time to live ends, whatever type the actors'
 * queues have: such a queue dead-letters at least once, so a target that is gone in the meantime
 * keeps the message where it is. One queue for each doubling of the delay: the queue expires from
 * its head only, so a message may be late by up to the delay itself, and is never early.
 *
 * A lease is the channel that delivered: when it is gone (the connection broke, the broker's
 * consumer_timeout, the broker restarted), settling answers ASYA_STALE, and nothing is posted if
 * that was known in time. Consumers come back by themselves; their `state` says what is wrong.
 */
#pragma once
#include "transport/transport.h"

enum asya_rabbitmq_queue_type { ASYA_RABBITMQ_CLASSIC, ASYA_RABBITMQ_QUORUM };

struct asya_rabbitmq_host {
	const char *name;
	int port;
};

/* All texts end with NUL; the transport keeps copies. */
struct asya_rabbitmq_config {
	const struct asya_rabbitmq_host *hosts; /* tried in turn */
	size_t n_hosts;
	const char *user, *password, *vhost;
	bool tls;
	bool verify;                                /* the broker's certificate and its name */
	const char *ca_file, *cert_file, *key_file; /* "": none */
	const char *exchange;
	const char *space; /* namespace, or "" */
	enum asya_rabbitmq_queue_type queue_type;
	bool auto_create; /* else queues and exchange must be there */
	int64_t heartbeat_ms;
	int64_t prefetch_max; /* 0: the window alone decides */
};

enum { ASYA_RABBITMQ_N_SETTINGS = 17 };
extern const struct asya_setting asya_rabbitmq_settings[ASYA_RABBITMQ_N_SETTINGS];
extern const struct asya_transport_ops asya_rabbitmq_ops;

/* Reads the settings. What *ret points to lives on the arena. */
int asya_rabbitmq_config_load(struct asya_rabbitmq_config *ret, asya_config_get_fn *get, void *user,
			      struct asya_arena *arena, struct asya_error *err);
/* Takes `amqp[s]://[user[:password]@]host[:port][,host[:port]...][/vhost]` apart into what it
 * names; the rest of *ret is left as it is. Errors do not show the text: it may hold a password. */
int asya_rabbitmq_url_parse(struct asya_rabbitmq_config *ret, struct asya_str url,
			    struct asya_arena *arena, struct asya_error *err);

int asya_rabbitmq_open(struct asya_transport **ret, uv_loop_t *loop,
		       const struct asya_rabbitmq_config *config, struct asya_error *err);
/* For tests: the network cuts the connection that consumes, as if it were gone. */
void asya_rabbitmq_cut(struct asya_transport *t);
