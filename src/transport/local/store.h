// SPDX-License-Identifier: Apache-2.0
/*
 * The tables of the local transport and the statements on them. Blocking; one thread at a time.
 * Every failure's advice says what it means: ASYA_FATAL for a corrupt or foreign database,
 * ASYA_RETRY for the rest (disk full, I/O, locks).
 */
#pragma once
#include "base/arena.h"
#include "transport/local/local.h"

struct sqlite3;
struct sqlite3_stmt;

enum { LOCAL_STATEMENTS = 32 };

struct local_queue {
	struct asya_str name; /* of the queue, without -dlq for dead letters */
	bool dead;
	int64_t id;
	char *wake; /* path of its wake file; NULL: none, the slow poll finds what comes */
	bool touched;
	int64_t done, failed; /* since the last commit */
};

struct local_store {
	struct sqlite3 *db;
	struct sqlite3_stmt *statements[LOCAL_STATEMENTS];
	char *dir;
	char *space;
	int64_t history;
	int lock;       /* DIR/write.lock */
	int owner_lock; /* DIR/owners/<owner>, -1 for readers */
	int64_t owner;  /* 0 for readers */
	struct local_queue *queues;
	size_t n_queues;
};

/* A message as it was taken; the key of its slot is the fence. */
struct local_taken {
	int64_t queue, seq, lease_us, before_us, queued_us;
	unsigned receives;
	char *body; /* malloc'd */
	size_t n;
};

int local_store_open(struct local_store *s, const struct asya_local_config *config,
		     struct asya_error *err);
/* Registers this process, whose leases are then freed when it dies, and cleans up once. */
int local_store_own(struct local_store *s, int64_t now_us, struct asya_error *err);
void local_store_close(struct local_store *s);
/* Fills *err from the database's last failure. Returns -1. */
int local_store_failed(const struct local_store *s, const char *what, struct asya_error *err);
/* 1 and *ret, or 0: there is no such queue; -1. */
int local_store_queue_id(struct local_store *s, struct asya_str actor, bool dead, int64_t *ret,
			 struct asya_error *err);

/* The queue of an actor. Made if missing; *ret stays valid until the next call. Inside a
 * transaction, or before one. */
int local_store_queue(struct local_store *s, struct asya_str actor, bool dead,
		      struct local_queue **ret, struct asya_error *err);
/* The path of the queue's wake file, malloc'd. NULL for a name that is no DNS label. */
char *local_wake_path(const struct local_store *s, struct asya_str actor, bool dead);
/* Wakes who watches the file; makes it if it is missing. 0, or -1 with errno. */
int local_wake_touch(const char *path);

/* Waits for the writers' lock; closing the store, a commit and a rollback let it go. */
int local_store_lock(struct local_store *s, struct asya_error *err);
void local_store_forget_queues(struct local_store *s);
/* -1 ASYA_FATAL if the database's file is no longer the one at its path: what is written would go
 * nowhere. */
int local_store_here(struct local_store *s, struct asya_error *err);
int local_store_begin(struct local_store *s, struct asya_error *err);
/* Durable on return; wakes whom it concerns. On failure everything is rolled back. */
int local_store_commit(struct local_store *s, struct asya_error *err);
/* Its two steps, for who has something to do before the writers' lock is let go. */
int local_store_run_commit(struct local_store *s, struct asya_error *err);
void local_store_committed(struct local_store *s);
void local_store_rollback(struct local_store *s);

int local_store_post(struct local_store *s, const struct asya_post *post, int64_t now_us,
		     struct asya_error *err);
/* Whether there is something to take; a read. */
int local_store_ready(struct local_store *s, int64_t queue, int64_t now_us, bool *ret,
		      struct asya_error *err);
/* Takes up to `max`; -1, or how many. */
int local_store_take(struct local_store *s, int64_t queue, unsigned max, int64_t now_us,
		     int64_t lease_us, struct local_taken *ret, struct asya_error *err);
/* 1: done; 0: the lease was lost; -1. */
int local_store_ack(struct local_store *s, const struct local_taken *t, struct asya_error *err);
int local_store_extend(struct local_store *s, const struct local_taken *t, int64_t until_us,
		       struct asya_error *err);
/* Back to its place, or, with a delay, behind what can be taken by then. */
int local_store_release(struct local_store *s, const struct local_taken *t, int64_t now_us,
			int64_t delay_ms, struct asya_error *err);
int local_store_hop(struct local_store *s, const struct asya_hop *hop, struct asya_str actor,
		    struct asya_error *err);
/* When the next message that cannot be taken yet can be, 0 if there is none. */
int local_store_next(struct local_store *s, int64_t queue, int64_t now_us, int64_t *ret_us,
		     struct asya_error *err);
/* Frees the leases of processes that are gone, and drops hops over the limit. In a transaction of
 * its own. */
int local_store_clean(struct local_store *s, int64_t now_us, struct asya_error *err);
/* Writes something small: SQLite writes nothing where a row stays as it was, so it is when this
 * process came that moves by a microsecond. Inside a transaction. */
int local_store_probe(struct local_store *s, struct asya_error *err);
/* After the wall clock was set back: what nobody has leased is to be taken when it could be before,
 * or after the delay it was given, counted from now. In a transaction of its own. */
int local_store_unhide(struct local_store *s, int64_t now_us, struct asya_error *err);
int local_store_depth(struct local_store *s, struct asya_str actor, int64_t now_us,
		      struct asya_depth *ret, struct asya_error *err);

int local_store_history(struct local_store *s, struct asya_str id, bool below, asya_hop_fn *fn,
			void *user, struct asya_error *err);
int local_store_queues(struct local_store *s, int64_t now_us, asya_queue_fn *fn, void *user,
		       struct asya_error *err);
int local_store_live(struct local_store *s, struct asya_str root, int64_t *ret,
		     struct asya_error *err);
