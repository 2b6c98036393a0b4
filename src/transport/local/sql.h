// SPDX-License-Identifier: Apache-2.0
/* The statements on the local transport's tables; each is prepared once and kept. */
#pragma once
#include "transport/local/store.h"

#include <sqlite3.h>

enum { LOCAL_APPLICATION_ID = 0x41737961, LOCAL_VERSION = 1 };

enum local_statement {
	BEGIN,
	COMMIT,
	ROLLBACK,
	QUEUE_FIND,
	QUEUE_MAKE,
	QUEUE_COUNT,
	MESSAGE_ADD,
	SLOT_ADD,
	READY,
	TAKE,
	SLOT_LEASE,
	SLOT_MOVE,
	SLOT_DROP,
	MESSAGE_DROP,
	HOP_ADD,
	HOP_PRUNE,
	LIVE_ADD,
	LIVE_DROP,
	NEXT,
	OWNER_ADD,
	OWNER_TOUCH,
	OWNERS,
	HIDDEN,
	UNHIDE,
	OWNER_FREE,
	OWNER_DROP,
};

extern const char local_schema[];

/* The statement, ready to be bound; NULL with *err filled. */
sqlite3_stmt *local_sql(struct local_store *s, enum local_statement which, struct asya_error *err);
/* A view without a value becomes NULL. Borrowed until the statement is done. */
void local_sql_bind_str(sqlite3_stmt *st, int at, struct asya_str s);
/* Runs a bound statement that yields no rows. `what` is for the error's text. */
int local_sql_finish(struct local_store *s, sqlite3_stmt *st, const char *what,
		     struct asya_error *err);
/* The same with nothing but integers. */
int local_sql_run(struct local_store *s, enum local_statement which, const char *what,
		  struct asya_error *err, size_t n, const int64_t *values);

#define LOCAL_RUN(s, which, what, err, ...)                                                        \
	local_sql_run(s, which, what, err, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t),     \
		      (const int64_t[]){__VA_ARGS__})
