// SPDX-License-Identifier: Apache-2.0
/*
 * Tables: a message's body stands in `messages`, once and for all; what changes while it waits, is
 * leased, extended or given back is its small row in `slots`, whose key is also the order in which
 * messages are taken: slots(queue, visible_us, seq). A lease moves the row to the time it ends, so
 * an expired lease needs nobody's help to be taken again, and the key that a consumer remembers is
 * its fence: once somebody else has taken the message, that row is gone.
 *
 * slots.owner: > 0, leased by that process; 0, to be taken; < 0, to be taken after that many
 * milliseconds (negative). visible_us is of the wall clock. When that is set back, messages that
 * nobody has leased would wait until it has caught up: owner tells what they may wait at most, and
 * UNHIDE brings them there. It may run any number of times, in any process.
 */
#include "transport/local/sql.h"

#include "base/mem.h"

#include <sqlite3.h>

const char local_schema[] =
	"BEGIN;"
	"CREATE TABLE queues(id INTEGER PRIMARY KEY, space TEXT NOT NULL, actor TEXT NOT NULL,"
	" dead INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT "
	"0,"
	" UNIQUE(space, actor, dead));"
	"CREATE TABLE messages(seq INTEGER PRIMARY KEY, queued_us INTEGER NOT NULL, body BLOB NOT "
	"NULL);"
	"CREATE TABLE slots(queue INTEGER NOT NULL, visible_us INTEGER NOT NULL, seq INTEGER NOT "
	"NULL,"
	" owner INTEGER NOT NULL, receives INTEGER NOT NULL,"
	" PRIMARY KEY(queue, visible_us, seq)) WITHOUT ROWID;"
	"CREATE TABLE owners(id INTEGER PRIMARY KEY AUTOINCREMENT, since_us INTEGER NOT NULL);"
	"CREATE TABLE hops(n INTEGER PRIMARY KEY, space TEXT NOT NULL, id TEXT NOT NULL, parent "
	"TEXT, root TEXT,"
	" actor TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT, received_us INTEGER NOT NULL,"
	" settled_us INTEGER NOT NULL, attempt INTEGER NOT NULL);"
	"CREATE INDEX hops_root ON hops(root) WHERE root IS NOT NULL;"
	"CREATE INDEX hops_parent ON hops(parent) WHERE parent IS NOT NULL;"
	"CREATE TABLE live(space TEXT NOT NULL, root TEXT NOT NULL, n INTEGER NOT NULL,"
	" PRIMARY KEY(space, root)) WITHOUT ROWID;"
	"PRAGMA application_id=1098086753;"
	"PRAGMA user_version=1;"
	"COMMIT;";

#define HIDDEN_SLOTS                                                                               \
	"queue IN (SELECT id FROM queues) AND visible_us>?1 AND owner<=0"                          \
	" AND visible_us>?1-owner*1000"

static const char *const sql[] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[QUEUE_FIND] = "SELECT id FROM queues WHERE space=?1 AND actor=?2 AND dead=?3",
	[QUEUE_MAKE] = "INSERT INTO queues(space,actor,dead) VALUES(?1,?2,?3)",
	[QUEUE_COUNT] = "UPDATE queues SET done=done+?2, failed=failed+?3 WHERE id=?1",
	[MESSAGE_ADD] = "INSERT INTO messages(queued_us,body) VALUES(?1,?2)",
	[SLOT_ADD] = "INSERT INTO slots(queue,visible_us,seq,owner,receives) VALUES(?1,?2,?3,?4,0)",
	[READY] = "SELECT 1 FROM slots WHERE queue=?1 AND visible_us<=?2 LIMIT 1",
	[TAKE] = "SELECT s.visible_us, s.seq, s.receives, m.queued_us, m.body FROM slots s"
		 " JOIN messages m ON m.seq=s.seq WHERE s.queue=?1 AND s.visible_us<=?2"
		 " ORDER BY s.visible_us, s.seq LIMIT ?3",
	[SLOT_LEASE] = "UPDATE slots SET visible_us=?4, owner=?5, receives=receives+1"
		       " WHERE queue=?1 AND visible_us=?2 AND seq=?3",
	[SLOT_MOVE] = "UPDATE slots SET visible_us=?4, owner=?5"
		      " WHERE queue=?1 AND visible_us=?2 AND seq=?3 AND owner=?6",
	[SLOT_DROP] = "DELETE FROM slots WHERE queue=?1 AND visible_us=?2 AND seq=?3 AND owner=?4",
	[MESSAGE_DROP] = "DELETE FROM messages WHERE seq=?1",
	[HOP_ADD] = "INSERT INTO "
		    "hops(id,parent,root,actor,outcome,detail,received_us,settled_us,attempt,space)"
		    " VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)",
	[HOP_PRUNE] = "DELETE FROM hops WHERE n <= (SELECT max(n) FROM hops) - ?1",
	[LIVE_ADD] = "INSERT INTO live(root,n,space) VALUES(?1,?2,?3)"
		     " ON CONFLICT(space, root) DO UPDATE SET n=n+excluded.n",
	[LIVE_DROP] = "DELETE FROM live WHERE root=?1 AND n<=0 AND space=?2",
	[NEXT] = "SELECT visible_us FROM slots WHERE queue=?1 AND visible_us>?2"
		 " ORDER BY visible_us LIMIT 1",
	[OWNER_ADD] = "INSERT INTO owners(since_us) VALUES(?1)",
	[OWNER_TOUCH] = "UPDATE owners SET since_us=since_us+1 WHERE id=?1",
	[OWNERS] = "SELECT id FROM owners WHERE id<>?1",
	[HIDDEN] = "SELECT 1 FROM slots WHERE " HIDDEN_SLOTS " LIMIT ?2",
	[UNHIDE] = "UPDATE slots SET visible_us=?1-owner*1000 WHERE " HIDDEN_SLOTS,
	[OWNER_FREE] = "UPDATE slots SET owner=0, visible_us=?1"
		       " WHERE queue IN (SELECT id FROM queues) AND visible_us>?1 AND owner=?2",
	[OWNER_DROP] = "DELETE FROM owners WHERE id=?1",
};
_Static_assert(ASYA_ARRAY_SIZE(sql) <= LOCAL_STATEMENTS, "room for the statements");

int local_store_failed(const struct local_store *s, const char *what, struct asya_error *err)
{
	int code = sqlite3_errcode(s->db) & 0xff;
	bool broken = code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
	enum asya_advice advice = broken                  ? ASYA_FATAL
				  : code == SQLITE_TOOBIG ? ASYA_REJECT
							  : ASYA_RETRY;

	return asya_error_set(
		err, advice, "%s in '%s/queue.db': %s%s", what, s->dir, sqlite3_errmsg(s->db),
		broken ? "; nothing was overwritten: move the directory away, or restore it" : "");
}

sqlite3_stmt *local_sql(struct local_store *s, enum local_statement which, struct asya_error *err)
{
	if (!s->statements[which] &&
	    sqlite3_prepare_v3(s->db, sql[which], -1, SQLITE_PREPARE_PERSISTENT,
			       &s->statements[which], NULL) != SQLITE_OK) {
		local_store_failed(s, "preparing a statement", err);
		return NULL;
	}
	return s->statements[which];
}

void local_sql_bind_str(sqlite3_stmt *st, int at, struct asya_str s)
{
	if (s.p)
		sqlite3_bind_text64(st, at, s.p, s.n, SQLITE_STATIC, SQLITE_UTF8);
	else
		sqlite3_bind_null(st, at);
}

int local_sql_finish(struct local_store *s, sqlite3_stmt *st, const char *what,
		     struct asya_error *err)
{
	int code = sqlite3_step(st), result = 0;

	if (code != SQLITE_DONE && code != SQLITE_ROW)
		result = local_store_failed(s, what, err);
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return result;
}

int local_sql_run(struct local_store *s, enum local_statement which, const char *what,
		  struct asya_error *err, size_t n, const int64_t *values)
{
	sqlite3_stmt *st = local_sql(s, which, err);

	if (!st)
		return -1;
	for (size_t i = 0; i < n; i++)
		sqlite3_bind_int64(st, (int)i + 1, values[i]);
	return local_sql_finish(s, st, what, err);
}
