// SPDX-License-Identifier: Apache-2.0
/* What is read of the local transport's tables for people: depths, queues, the history. */
#include "transport/local/store.h"

#include "base/mem.h"

#include <sqlite3.h>

static const char depth_sql[] =
	"SELECT count(*) FILTER (WHERE visible_us<=?2),"
	" count(*) FILTER (WHERE visible_us>?2 AND owner>0),"
	" count(*) FILTER (WHERE visible_us>?2 AND owner<=0) FROM slots WHERE queue=?1";

/* NULL with *err filled. The caller finalizes it. */
static sqlite3_stmt *prepared(struct local_store *s, const char *text, struct asya_error *err)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(s->db, text, -1, &st, NULL) != SQLITE_OK)
		local_store_failed(s, "reading", err);
	return st;
}

static void bind_str(sqlite3_stmt *st, int at, struct asya_str s)
{
	sqlite3_bind_text64(st, at, s.p, s.n, SQLITE_STATIC, SQLITE_UTF8);
}

static struct asya_str column_str(sqlite3_stmt *st, int at)
{
	return (struct asya_str){(const char *)sqlite3_column_text(st, at),
				 (size_t)sqlite3_column_bytes(st, at)};
}

int local_store_depth(struct local_store *s, struct asya_str actor, int64_t now_us,
		      struct asya_depth *ret, struct asya_error *err)
{
	sqlite3_stmt *st = prepared(s, depth_sql, err);

	*ret = (struct asya_depth){0};
	for (int dead = 0; dead < 2 && st; dead++) {
		int64_t id, *slot = dead ? &ret->dead : &ret->ready;
		int found = local_store_queue_id(s, actor, dead, &id, err);

		if (found < 0) {
			sqlite3_finalize(st);
			return -1;
		}
		if (!found)
			continue;
		sqlite3_bind_int64(st, 1, id);
		sqlite3_bind_int64(st, 2, now_us);
		if (sqlite3_step(st) != SQLITE_ROW) {
			local_store_failed(s, "counting messages", err);
			sqlite3_finalize(st);
			return -1;
		}
		*slot = sqlite3_column_int64(st, 0);
		*(dead ? &ret->dead : &ret->leased) += sqlite3_column_int64(st, 1);
		*(dead ? &ret->dead : &ret->delayed) += sqlite3_column_int64(st, 2);
		sqlite3_reset(st);
	}
	sqlite3_finalize(st);
	return st ? 0 : -1;
}

int local_store_live(struct local_store *s, struct asya_str root, int64_t *ret,
		     struct asya_error *err)
{
	sqlite3_stmt *st;
	int code;

	st = prepared(s, "SELECT n FROM live WHERE root=?1 AND space=?2", err);
	if (!st)
		return -1;
	bind_str(st, 1, root);
	bind_str(st, 2, asya_str_c(s->space));
	code = sqlite3_step(st);
	*ret = code == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
	sqlite3_finalize(st);
	return code == SQLITE_ROW || code == SQLITE_DONE ? 0
							 : local_store_failed(s, "reading", err);
}

int local_store_history(struct local_store *s, struct asya_str id, bool below, asya_hop_fn *fn,
			void *user, struct asya_error *err)
{
	static const char columns[] = "SELECT id,parent,root,outcome,detail,received_us,settled_us,"
				      "attempt,actor FROM hops WHERE ";
	static const char descend[] =
		"n IN (WITH RECURSIVE down(id) AS (SELECT ?1 UNION SELECT hops.id FROM down"
		" JOIN hops ON hops.parent=down.id)"
		" SELECT hops.n FROM down JOIN hops ON hops.parent=down.id"
		" UNION SELECT n FROM hops WHERE root=?1)";
	_cleanup_(asya_freep) char *text =
		asya_asprintf("%s%s AND space=?2 ORDER BY n", columns, below ? descend : "id=?1");
	sqlite3_stmt *st;
	int code;

	st = prepared(s, text, err);
	if (!st)
		return -1;
	bind_str(st, 1, id);
	bind_str(st, 2, asya_str_c(s->space));
	while ((code = sqlite3_step(st)) == SQLITE_ROW) {
		struct asya_hop_row row = {
			.actor = column_str(st, 8),
			.hop = {.id = column_str(st, 0),
				.parent_id = column_str(st, 1),
				.root = column_str(st, 2),
				.outcome = column_str(st, 3),
				.detail = column_str(st, 4),
				.received_us = sqlite3_column_int64(st, 5),
				.settled_us = sqlite3_column_int64(st, 6),
				.attempt = (unsigned)sqlite3_column_int64(st, 7)}};

		fn(user, &row);
	}
	sqlite3_finalize(st);
	return code == SQLITE_DONE ? 0 : local_store_failed(s, "reading the history", err);
}

static int each_queue(struct local_store *s, int64_t now_us, asya_queue_fn *fn, void *user,
		      struct asya_error *err)
{
	sqlite3_stmt *st;
	int code = SQLITE_DONE, result = 0;

	st = prepared(s,
		      "SELECT actor, max(done), max(failed) FROM queues WHERE space=?1"
		      " GROUP BY actor ORDER BY actor",
		      err);
	if (!st)
		return -1;
	bind_str(st, 1, asya_str_c(s->space));
	while (!result && (code = sqlite3_step(st)) == SQLITE_ROW) {
		struct asya_depth depth;

		result = local_store_depth(s, column_str(st, 0), now_us, &depth, err);
		if (!result)
			fn(user, column_str(st, 0), &depth, sqlite3_column_int64(st, 1),
			   sqlite3_column_int64(st, 2));
	}
	sqlite3_finalize(st);
	if (result)
		return -1;
	return code == SQLITE_DONE ? 0 : local_store_failed(s, "listing queues", err);
}

/* In one read transaction, so that a message on its way from one queue to the next is seen in
 * exactly one of them. */
int local_store_queues(struct local_store *s, int64_t now_us, asya_queue_fn *fn, void *user,
		       struct asya_error *err)
{
	int code;

	if (sqlite3_exec(s->db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
		return local_store_failed(s, "listing queues", err);
	code = each_queue(s, now_us, fn, user, err);
	(void)sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL);
	return code;
}
