// SPDX-License-Identifier: Apache-2.0
/*
 * The local transport: a directory with a SQLite database in WAL mode, for any number of processes
 * on one machine. It is transactional: posts, ack and hop record are one commit, and a commit is
 * on the disk (synchronous=FULL) before anybody is told.
 *
 *	DIR/queue.db      the database; see store.c for its tables
 *	DIR/write.lock    who writes holds a flock on it, so that writers queue up and never spin
 *	DIR/owners/N      held locked by the process N; a free lock gives its leases back at once
 *	DIR/wake/QUEUE    touched after a commit that put something into QUEUE; consumers watch it
 *
 * Wake files and write.lock may vanish: who watches makes the file again, what nobody was woken for
 * is found by a poll every 2 s, and without a common lock SQLite's own still keeps writers apart.
 * A process that is stopped (SIGSTOP, a frozen cgroup) in the middle of a commit holds up the other
 * writers until it goes on or is killed.
 *
 * Leases and delays end by the wall clock. Where it is set back, processes notice within seconds
 * and at start, and nothing waits longer than it was told to; only the lease of a process that is
 * stopped lasts longer. Where it is set forward, leases seem to have ended: each process renews its
 * own before it takes anything, but another that notices first may take a message that is being
 * worked on. Its settlement is then stale, and has posted nothing.
 *
 * Statements run on one thread of the transport's own, in groups: everything that has come in since
 * the last commit shares the next one.
 */
#pragma once
#include "transport/transport.h"

struct asya_local_config {
	const char *dir;       /* made if missing */
	const char *space;     /* namespace, or "" */
	bool normal;           /* synchronous=NORMAL: a power cut may lose the last commits, a crash
				* of a process never does */
	int64_t visibility_ms; /* lease of a delivery; extended at a third of it */
	int64_t history;       /* how many hop records are kept; 0: none are written */
	const char *vfs;       /* SQLite VFS; NULL for the usual one (tests) */
};

#define ASYA_LOCAL_CONFIG_DEFAULT                                                                  \
	((struct asya_local_config){                                                               \
		.dir = ".asya", .space = "", .visibility_ms = 30000, .history = 1000000})

extern const struct asya_transport_ops asya_local_ops;

/* ASYA_FATAL: the directory cannot be used, or the database is none of ours or corrupt (nothing is
 * overwritten then). ASYA_RETRY: it is ours, but cannot be written now (the disk is full). A
 * damaged page is found when it is read: settling then fails, and consumers go down, with
 * ASYA_FATAL. */
int asya_local_open(struct asya_transport **ret, uv_loop_t *loop,
		    const struct asya_local_config *config, struct asya_error *err);
