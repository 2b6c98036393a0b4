// SPDX-License-Identifier: Apache-2.0
/*
 * Objects as files below a directory, for end actors. An object is there whole or not at all, and
 * when a put is done it survives a loss of power: the file and every directory on the way to it are
 * synced.
 *
 * Puts that come while others are being written are written together, so that they share the syncs
 * of directories. The work is done in libuv's thread pool, one batch at a time. Many processes may
 * share a root. Not for file systems where rename is not atomic.
 */
#pragma once
#include "base/arena.h"
#include "base/error.h"
#include "base/list.h"
#include "base/str.h"

#include <uv.h>

/* Puts in a batch; temporary files older than this are of processes that died. */
enum { ASYA_FILE_BATCH = 64, ASYA_FILE_TEMPORARY_S = 3600 };

struct asya_file_store;

/* One put; the caller's memory, unmoved from asya_file_store_put until `done`. */
struct asya_file_put {
	struct asya_str key;  /* below the root; borrowed */
	struct asya_str body; /* borrowed */
	/* 0: it is durable. -1 with err: nothing is there under the key, or what is there is whole
	 * but may not survive a loss of power; ASYA_RETRY, or ASYA_REJECT for a key that cannot be
	 * one (empty, with a NUL byte, a component `.` or `..`, or a slash at the end). */
	void (*done)(struct asya_file_put *put, int status, const struct asya_error *err);
	void *user;

	/* the store's */
	struct asya_link link;
	const char *failed_step; /* what could not be done; NULL: all was done */
	int errnum;              /* 0 with a failed step: the key cannot be one */
};

/* Opens the directory `root`, which is made if only its last component is missing, and removes what
 * processes that died have left behind. Blocks. -1 ASYA_FATAL names the root. */
int asya_file_store_open(struct asya_file_store **ret, uv_loop_t *loop, const char *root,
			 struct asya_error *err);

/* Begins a put. An object of the same key is replaced. `done` runs once, from the loop, never
 * inside; it may put again, and may close the store. */
void asya_file_store_put(struct asya_file_store *store, struct asya_file_put *put);

/* Ends the store: puts that are being written are finished, those that wait are done with an error,
 * ASYA_RETRY. Then `closed` runs once, from the loop, with the store freed; it may be NULL. */
void asya_file_store_close(struct asya_file_store *take_store, void (*closed)(void *user),
			   void *user);

struct asya_file_found {
	int64_t time_us;      /* UTC since 1970, from the key */
	struct asya_str path; /* the root included, a NUL behind it; on the arena */
	struct asya_str body; /* on the arena */
};

/* The newest object of `id` among the keys `{prefix}{time}/{actor}/{id}.json` (core/object_key.h),
 * for tools: it blocks, and reads all names of one directory. 1 if there is none. -1: ASYA_REJECT
 * if it is larger than `max_bytes`, else ASYA_RETRY. */
int asya_file_find(struct asya_file_found *ret, struct asya_arena *arena, const char *root,
		   struct asya_str prefix, struct asya_str id, size_t max_bytes,
		   struct asya_error *err);
