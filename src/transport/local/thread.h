// SPDX-License-Identifier: Apache-2.0
/* What the loop's side (local.c) and the thread (thread.c) of the local transport share. */
#pragma once
#include "transport/local/store.h"

#include <pthread.h>

struct local_delivery {
	struct asya_delivery base;
	struct asya_link held; /* the thread's: leased and not settled */
	struct asya_link link; /* on its way to the loop */
	struct local_consumer *consumer;
	struct local_taken taken;
	int64_t moved_us;               /* the lease that the heartbeat under way gives it */
	struct asya_settle giving_back; /* the transport's own, when the consumer has stopped */
};

/* Lives until the transport is closed: deliveries may still be on their way when it is stopped. */
struct local_consumer {
	struct asya_link link;
	struct local *local;
	struct asya_consumer *user; /* NULL: stopped */
	struct asya_str actor;
	bool dead;
	char *wake;        /* the file watched, or NULL */
	uint64_t wake_ino; /* which of that name; 0: none is watched */
	uv_fs_event_t watch;
	uv_timer_t due;

	/* under the lock */
	unsigned window;
	bool poked;
	bool stopped;
	/* the thread's */
	unsigned out;
	bool more;       /* the last look left something, or none was had */
	int64_t next_us; /* when to look again, 0: no message waits for its time */
	/* thread to loop, under the lock */
	struct asya_link ready; /* deliveries */
	int64_t due_us;
	bool report, live;
	struct asya_error error;
};

/* Settlements that failed together. */
struct local_failure {
	struct asya_link link;
	struct asya_link settles;
	struct asya_error error;
};

struct local {
	struct asya_transport base;
	uv_loop_t *loop;
	int64_t visibility_ms;
	struct asya_link consumers;  /* under the lock */
	struct asya_link unreturned; /* deliveries that no consumer wants, and giving back failed */
	uv_async_t ring;
	uv_timer_t poll;
	unsigned closing;
	void (*closed)(void *user);
	void *closed_user;

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work;
	bool stop, ended;
	bool pending;                            /* there is something for the thread to do */
	struct asya_link settles, stats;         /* in */
	struct asya_link settles_out, stats_out; /* out */
	struct asya_link failures;               /* out, of struct local_failure */
	struct asya_error stats_error;           /* the last one */

	/* the thread's */
	struct local_store store;
	struct asya_link held;
	int64_t beat_ms, clean_ms;
	int64_t paced_ns; /* when the last batch began */
	bool loaded;      /* after it */
	int64_t clock_us; /* wall clock minus monotonic clock, as last seen */
	bool doubt;       /* something failed, and nothing has been written since */
};

static inline struct local_delivery *local_delivery_of(struct asya_delivery *d)
{
	return asya_container_of(d, struct local_delivery, base);
}

void local_delivery_free(struct local_delivery *d);
/* Runs until `stop`, then gives back what is held and rings a last time. */
void *local_thread_main(void *local);
