// SPDX-License-Identifier: Apache-2.0
/*
 * The transport port: queues of messages, one per actor, each with a queue for its dead letters.
 *
 * What every backend promises:
 * - At least once. A message leaves its queue only by a settled ACK; whoever took it and died, or
 *   gave it back, makes it available again.
 * - The order of a settlement is its guarantee: all posts are durable at their queues before the
 *   consumed message is acked. A `transactional` backend does both in one step, so that a crash
 *   leaves either everything or nothing.
 * - A delivery is leased: the backend extends the lease for as long as the process lives and the
 *   delivery is not settled, however long that takes. Where a lease was lost all the same, settling
 *   answers ASYA_STALE, and a transactional backend has posted nothing then.
 * - Settling with an error leaves the delivery leased: the caller settles it again, or releases it.
 *
 * Everything runs on one libuv loop; no function blocks it. `done` and `deliver` are called from
 * the loop, never from inside the call that asked for them, and `done` exactly once.
 */
#pragma once
#include "base/error.h"
#include "base/list.h"
#include "base/str.h"
#include "core/config.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct asya_transport;

/* One message taken from a queue. The backend owns it; it is gone when settling it is done, save
 * with an error. */
struct asya_delivery {
	struct asya_str body;
	int64_t queued_us; /* when it was put into this queue, UTC; 0 where the backend cannot tell
			    */
	unsigned receives; /* how often it was taken, this time included; 0: cannot tell */
	void *user;        /* the consumer's */
};

/* What is put into a queue. The bytes are the caller's until `done`. */
struct asya_post {
	struct asya_str actor;
	bool dead; /* into the dead letters of that actor */
	struct asya_str body;
	int64_t delay_ms;  /* not to be taken before */
	int64_t queued_us; /* kept as the time it was queued (retries); 0: now */
};

enum asya_verdict {
	ASYA_ACK,     /* done with it */
	ASYA_RELEASE, /* back to its queue, after `delay_ms`; counts as no failure */
};

/* What happened to one message at one actor, for traces. Backends that keep a history store it
 * together with the settlement; the others ignore it. */
struct asya_hop {
	struct asya_str id, parent_id;
	struct asya_str
		root; /* the envelope it descends from, if somebody waits for that; or none */
	struct asya_str
		outcome; /* routed, done, ended, failed, retried, dead, final, sent, redriven */
	struct asya_str detail;          /* where the result is, or what went wrong; or none */
	int64_t received_us, settled_us; /* UTC */
	unsigned attempt;                /* from 1 */
	/* How many messages below `root` are under way more (or, negative, fewer) by this. */
	int live;
};

enum asya_settled {
	ASYA_SETTLED,       /* as asked, durable */
	ASYA_STALE,         /* the lease was lost: the message is somebody else's now */
	ASYA_SETTLE_FAILED, /* see *err; the delivery is still ours */
};

/* Posts, then a verdict. The caller owns it and keeps it until `done`. */
struct asya_settle {
	struct asya_delivery *delivery; /* NULL: nothing but posts */
	enum asya_verdict verdict;
	int64_t delay_ms;
	const struct asya_post *posts;
	size_t n_posts;
	const struct asya_hop *hop; /* may be NULL */
	void (*done)(struct asya_settle *op, enum asya_settled outcome,
		     const struct asya_error *err);
	void *user;
	struct asya_link link;    /* the backend's */
	enum asya_settled result; /* the backend's */
};

/* Takes messages of one actor's queue. The caller owns it and keeps it until it is stopped. */
struct asya_consumer {
	struct asya_str actor;
	bool dead; /* take the dead letters instead */
	void (*deliver)(struct asya_consumer *c, struct asya_delivery *d);
	/* The queue can(not) be reached. May be NULL. With ASYA_FATAL the process should end. */
	void (*state)(struct asya_consumer *c, bool live, const struct asya_error *err);
	void *user;
	void *backend;
};

/* Messages in a queue. */
struct asya_depth {
	int64_t ready;   /* to be taken now */
	int64_t leased;  /* with a consumer */
	int64_t delayed; /* to be taken later; brokers that cannot tell say 0 */
	int64_t dead;    /* among its dead letters */
};

struct asya_stat {
	struct asya_str actor;
	struct asya_depth depth;
	void (*done)(struct asya_stat *op, const struct asya_error *err); /* err: NULL or why not */
	void *user;
	struct asya_link link;
	bool failed; /* the backend's */
};

/* One record of the history, as a trace shows it. Views are valid during the call only. */
struct asya_hop_row {
	struct asya_str actor; /* empty: the sender */
	struct asya_hop hop;
};

typedef void asya_hop_fn(void *user, const struct asya_hop_row *row);
typedef void asya_queue_fn(void *user, struct asya_str actor, const struct asya_depth *depth,
			   int64_t done, int64_t failed);

struct asya_transport_ops {
	const char *name;
	bool transactional; /* posts and ack are one step */
	const struct asya_setting *settings;
	size_t n_settings;

	/* Cheap; a broker that cannot be reached is no error here but a state of the consumer. */
	int (*open)(struct asya_transport **ret, uv_loop_t *loop, asya_config_get_fn *get,
		    void *user, struct asya_error *err);
	/* Gives back what is not settled and frees the transport; then `done`. Operations under way
	 * are finished first. Consumers need not be stopped before. */
	void (*close)(struct asya_transport *t, void (*done)(void *user), void *user);
	/* Starts taking, with a window of 0. Makes the queue and its dead letters where they are
	 * missing. */
	void (*consume)(struct asya_transport *t, struct asya_consumer *c);
	/* At most `n` deliveries unsettled at a time. Lowering takes nothing back. */
	void (*window)(struct asya_transport *t, struct asya_consumer *c, unsigned n);
	/* No delivery after this returns. Deliveries that are out stay valid. */
	void (*stop)(struct asya_transport *t, struct asya_consumer *c);
	void (*settle)(struct asya_transport *t, struct asya_settle *op);
	void (*stat)(struct asya_transport *t, struct asya_stat *op);

	/* For command lines: these block, and are NULL where the backend keeps no such records.
	 * Every hop, oldest first, of the envelope `id`; or, with `below`, of all that descend from
	 * it by their parents, and of all that were sent with it as their root (then it is among
	 * them itself). */
	int (*history)(struct asya_transport *t, struct asya_str id, bool below, asya_hop_fn *fn,
		       void *user, struct asya_error *err);
	/* Every queue, by name. */
	int (*queues)(struct asya_transport *t, asya_queue_fn *fn, void *user,
		      struct asya_error *err);
	/* How many messages below the root are under way; 0: all have ended. */
	int (*live)(struct asya_transport *t, struct asya_str root, int64_t *ret,
		    struct asya_error *err);
};

/* Every backend's struct begins with this. */
struct asya_transport {
	const struct asya_transport_ops *ops;
	size_t max_body; /* largest body that it takes; 0: any. May change while it is open */
};

/* registry.c: NULL if there is no backend of that name. */
const struct asya_transport_ops *asya_transport_find(struct asya_str name);
const struct asya_transport_ops *asya_transport_at(size_t i);

static inline void asya_transport_close(struct asya_transport *t, void (*done)(void *), void *user)
{
	t->ops->close(t, done, user);
}

static inline void asya_transport_consume(struct asya_transport *t, struct asya_consumer *c)
{
	t->ops->consume(t, c);
}

static inline void asya_transport_window(struct asya_transport *t, struct asya_consumer *c,
					 unsigned n)
{
	t->ops->window(t, c, n);
}

static inline void asya_transport_stop(struct asya_transport *t, struct asya_consumer *c)
{
	t->ops->stop(t, c);
}

static inline void asya_transport_settle(struct asya_transport *t, struct asya_settle *op)
{
	t->ops->settle(t, op);
}

static inline void asya_transport_stat(struct asya_transport *t, struct asya_stat *op)
{
	t->ops->stat(t, op);
}
