// SPDX-License-Identifier: Apache-2.0
/*
 * Tables: a message's body stands in `messages`, once and for all; what changes while it waits, is
 * leased, extended or given back is its small row in `slots`, whose key is also the order in which
 * messages are taken: slots(queue, visible_us, seq). A lease moves the row to the time it ends, so
 * an expired lease needs nobody's help to be taken again, and the key that a consumer remembers is
 * its fence: once somebody else has taken the message, that row is gone.
 */
#include "transport/local/store.h"

#include "base/failpoint.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { APPLICATION_ID = 0x41737961, VERSION = 1, BUSY_MS = 30000 };

static const char schema[] =
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
	"CREATE TABLE hops(n INTEGER PRIMARY KEY, id TEXT NOT NULL, parent TEXT, root TEXT,"
	" actor TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT, received_us INTEGER NOT NULL,"
	" settled_us INTEGER NOT NULL, attempt INTEGER NOT NULL);"
	"CREATE INDEX hops_root ON hops(root) WHERE root IS NOT NULL;"
	"CREATE TABLE live(root TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;"
	"PRAGMA application_id=1098086753;"
	"PRAGMA user_version=1;";

enum statement {
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
	OWNERS,
	OWNER_FREE,
	OWNER_DROP,
};

static const char *const sql[] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[QUEUE_FIND] = "SELECT id FROM queues WHERE space=?1 AND actor=?2 AND dead=?3",
	[QUEUE_MAKE] = "INSERT INTO queues(space,actor,dead) VALUES(?1,?2,?3)",
	[QUEUE_COUNT] = "UPDATE queues SET done=done+?2, failed=failed+?3 WHERE id=?1",
	[MESSAGE_ADD] = "INSERT INTO messages(queued_us,body) VALUES(?1,?2)",
	[SLOT_ADD] = "INSERT INTO slots(queue,visible_us,seq,owner,receives) VALUES(?1,?2,?3,0,0)",
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
		    "hops(id,parent,root,actor,outcome,detail,received_us,settled_us,attempt)"
		    " VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)",
	[HOP_PRUNE] = "DELETE FROM hops WHERE n <= (SELECT max(n) FROM hops) - ?1",
	[LIVE_ADD] = "INSERT INTO live(root,n) VALUES(?1,?2)"
		     " ON CONFLICT(root) DO UPDATE SET n=n+excluded.n",
	[LIVE_DROP] = "DELETE FROM live WHERE root=?1 AND n<=0",
	[NEXT] = "SELECT visible_us FROM slots WHERE queue=?1 AND visible_us>?2"
		 " ORDER BY visible_us LIMIT 1",
	[OWNERS] = "SELECT id FROM owners WHERE id<>?1",
	[OWNER_FREE] = "UPDATE slots SET owner=0, visible_us=?1 WHERE queue=?2 AND visible_us>?1 "
		       "AND owner=?3",
	[OWNER_DROP] = "DELETE FROM owners WHERE id=?1",
};
_Static_assert(ASYA_ARRAY_SIZE(sql) <= LOCAL_STATEMENTS, "room for the statements");

int local_store_failed(const struct local_store *s, const char *what, struct asya_error *err)
{
	int code = sqlite3_errcode(s->db) & 0xff;
	bool broken = code == SQLITE_CORRUPT || code == SQLITE_NOTADB;

	return asya_error_set(
		err, broken ? ASYA_FATAL : ASYA_RETRY, "%s in '%s/queue.db': %s%s", what, s->dir,
		sqlite3_errmsg(s->db),
		broken ? "; nothing was overwritten: move the directory away, or restore it" : "");
}

/* A statement ready to be bound; NULL with *err filled. */
static sqlite3_stmt *prepared(struct local_store *s, enum statement which, struct asya_error *err)
{
	if (!s->statements[which] &&
	    sqlite3_prepare_v3(s->db, sql[which], -1, SQLITE_PREPARE_PERSISTENT,
			       &s->statements[which], NULL) != SQLITE_OK) {
		local_store_failed(s, "preparing a statement", err);
		return NULL;
	}
	return s->statements[which];
}

static void bind_str(sqlite3_stmt *st, int at, struct asya_str s)
{
	if (s.p)
		sqlite3_bind_text64(st, at, s.p, s.n, SQLITE_STATIC, SQLITE_UTF8);
	else
		sqlite3_bind_null(st, at);
}

/* Runs a bound statement that yields no rows. */
static int finish(struct local_store *s, sqlite3_stmt *st, const char *what, struct asya_error *err)
{
	int code = sqlite3_step(st), result = 0;

	if (code != SQLITE_DONE && code != SQLITE_ROW)
		result = local_store_failed(s, what, err);
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return result;
}

/* The same with up to six integers. */
static int run(struct local_store *s, enum statement which, const char *what,
	       struct asya_error *err, size_t n, const int64_t *values)
{
	sqlite3_stmt *st = prepared(s, which, err);

	if (!st)
		return -1;
	for (size_t i = 0; i < n; i++)
		sqlite3_bind_int64(st, (int)i + 1, values[i]);
	return finish(s, st, what, err);
}

#define RUN(s, which, what, err, ...)                                                              \
	run(s, which, what, err, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t),               \
	    (const int64_t[]){__VA_ARGS__})

static int lock_writers(struct local_store *s, struct asya_error *err)
{
	while (flock(s->lock, LOCK_EX))
		if (errno != EINTR)
			return asya_error_errno(err, ASYA_RETRY, errno, "locking '%s/write.lock'",
						s->dir);
	return 0;
}

static void forget_queues(struct local_store *s)
{
	for (size_t i = 0; i < s->n_queues; i++) {
		if (s->queues[i].wake >= 0)
			close(s->queues[i].wake);
		free((char *)s->queues[i].name.p);
	}
	s->n_queues = 0;
}

int local_store_begin(struct local_store *s, struct asya_error *err)
{
	if (lock_writers(s, err))
		return -1;
	if (run(s, BEGIN, "beginning a transaction", err, 0, NULL)) {
		flock(s->lock, LOCK_UN);
		return -1;
	}
	return 0;
}

void local_store_rollback(struct local_store *s)
{
	struct asya_error ignored;

	if (!sqlite3_get_autocommit(s->db))
		(void)run(s, ROLLBACK, "rolling back", &ignored, 0, NULL);
	flock(s->lock, LOCK_UN);
	forget_queues(s);
}

static int count_outcomes(struct local_store *s, struct asya_error *err)
{
	for (size_t i = 0; i < s->n_queues; i++) {
		struct local_queue *q = &s->queues[i];

		if ((q->done || q->failed) &&
		    RUN(s, QUEUE_COUNT, "counting", err, q->id, q->done, q->failed))
			return -1;
		q->done = q->failed = 0;
	}
	return 0;
}

static void wake_all(struct local_store *s)
{
	for (size_t i = 0; i < s->n_queues; i++) {
		if (s->queues[i].touched && s->queues[i].wake >= 0)
			(void)futimens(s->queues[i].wake, NULL);
		s->queues[i].touched = false;
	}
}

int local_store_commit(struct local_store *s, struct asya_error *err)
{
	asya_failpoint("local.commit");
	if (count_outcomes(s, err) || run(s, COMMIT, "committing", err, 0, NULL)) {
		local_store_rollback(s);
		return -1;
	}
	asya_failpoint("local.committed");
	flock(s->lock, LOCK_UN);
	wake_all(s);
	return 0;
}

char *local_store_wake_path(const char *dir, const char *space, struct asya_str actor, bool dead,
			    struct asya_error *err)
{
	char *path = asya_asprintf("%s/wake/%s%s%.*s%s", dir, space, *space ? "_" : "",
				   ASYA_STR_ARG(actor), dead ? "-dlq" : "");
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	if (fd < 0) {
		asya_error_errno(err, ASYA_RETRY, errno, "making '%s'", path);
		free(path);
		return NULL;
	}
	close(fd);
	return path;
}

int local_store_queue_id(struct local_store *s, struct asya_str actor, bool dead, int64_t *ret,
			 struct asya_error *err)
{
	sqlite3_stmt *st = prepared(s, QUEUE_FIND, err);
	int code;

	if (!st)
		return -1;
	bind_str(st, 1, asya_str_c(s->space));
	bind_str(st, 2, actor);
	sqlite3_bind_int(st, 3, dead);
	code = sqlite3_step(st);
	if (code == SQLITE_ROW)
		*ret = sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	if (code == SQLITE_ROW)
		return 1;
	return code == SQLITE_DONE ? 0 : local_store_failed(s, "looking up a queue", err);
}

static int queue_make(struct local_store *s, struct asya_str actor, bool dead, int64_t *ret,
		      struct asya_error *err)
{
	bool alone = sqlite3_get_autocommit(s->db);
	sqlite3_stmt *st;

	if (alone && local_store_begin(s, err))
		return -1;
	st = prepared(s, QUEUE_MAKE, err);
	if (st) {
		bind_str(st, 1, asya_str_c(s->space));
		bind_str(st, 2, actor);
		sqlite3_bind_int(st, 3, dead);
	}
	/* Another process may have made it between our look and our lock. */
	if (st)
		(void)finish(s, st, "making a queue", err);
	if (!st || local_store_queue_id(s, actor, dead, ret, err) != 1) {
		if (alone)
			local_store_rollback(s);
		return -1;
	}
	return alone ? local_store_commit(s, err) : 0;
}

int local_store_queue(struct local_store *s, struct asya_str actor, bool dead,
		      struct local_queue **ret, struct asya_error *err)
{
	_cleanup_(asya_freep) char *path = NULL;
	int64_t id;
	int found;

	for (size_t i = 0; i < s->n_queues; i++) {
		*ret = &s->queues[i];
		if ((*ret)->dead == dead && asya_str_eq((*ret)->name, actor))
			return 0;
	}
	found = local_store_queue_id(s, actor, dead, &id, err);
	if (found < 0 || (!found && queue_make(s, actor, dead, &id, err)))
		return -1;
	path = local_store_wake_path(s->dir, s->space, actor, dead, err);
	if (!path)
		return -1;
	s->queues = asya_realloc(s->queues, (s->n_queues + 1) * sizeof(*s->queues));
	*ret = &s->queues[s->n_queues++];
	**ret = (struct local_queue){.name = {asya_strndup(actor.p, actor.n), actor.n},
				     .dead = dead,
				     .id = id,
				     .wake = open(path, O_WRONLY | O_CLOEXEC)};
	return 0;
}

int local_store_post(struct local_store *s, const struct asya_post *post, int64_t now_us,
		     struct asya_error *err)
{
	struct local_queue *q;
	sqlite3_stmt *st;

	if (local_store_queue(s, post->actor, post->dead, &q, err))
		return -1;
	st = prepared(s, MESSAGE_ADD, err);
	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, post->queued_us ? post->queued_us : now_us);
	sqlite3_bind_blob64(st, 2, post->body.p, post->body.n, SQLITE_STATIC);
	if (finish(s, st, "adding a message", err) ||
	    RUN(s, SLOT_ADD, "adding a message", err, q->id, now_us + post->delay_ms * 1000,
		sqlite3_last_insert_rowid(s->db)))
		return -1;
	q->touched = true;
	return 0;
}

/* One row with one integer: 1 and *ret, or 0, or -1. */
static int one_row(struct local_store *s, enum statement which, int64_t a, int64_t b, int64_t *ret,
		   struct asya_error *err)
{
	sqlite3_stmt *st = prepared(s, which, err);
	int code;

	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, a);
	sqlite3_bind_int64(st, 2, b);
	code = sqlite3_step(st);
	if (code == SQLITE_ROW)
		*ret = sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	if (code == SQLITE_ROW)
		return 1;
	return code == SQLITE_DONE ? 0 : local_store_failed(s, "reading", err);
}

int local_store_ready(struct local_store *s, int64_t queue, int64_t now_us, bool *ret,
		      struct asya_error *err)
{
	int64_t ignored;
	int found = one_row(s, READY, queue, now_us, &ignored, err);

	*ret = found == 1;
	return found < 0 ? -1 : 0;
}

int local_store_next(struct local_store *s, int64_t queue, int64_t now_us, int64_t *ret_us,
		     struct asya_error *err)
{
	*ret_us = 0;
	return one_row(s, NEXT, queue, now_us, ret_us, err) < 0 ? -1 : 0;
}

static void taken_read(struct local_taken *ret, sqlite3_stmt *st, int64_t queue, int64_t lease_us)
{
	ret->queue = queue;
	ret->lease_us = lease_us;
	ret->before_us = sqlite3_column_int64(st, 0);
	ret->seq = sqlite3_column_int64(st, 1);
	ret->receives = (unsigned)sqlite3_column_int64(st, 2) + 1;
	ret->queued_us = sqlite3_column_int64(st, 3);
	ret->n = (size_t)sqlite3_column_bytes(st, 4);
	ret->body = asya_strndup(sqlite3_column_blob(st, 4), ret->n);
}

int local_store_take(struct local_store *s, int64_t queue, unsigned max, int64_t now_us,
		     int64_t lease_us, struct local_taken *ret, struct asya_error *err)
{
	sqlite3_stmt *st = prepared(s, TAKE, err);
	int n = 0, code;

	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, queue);
	sqlite3_bind_int64(st, 2, now_us);
	sqlite3_bind_int64(st, 3, max);
	while ((code = sqlite3_step(st)) == SQLITE_ROW)
		taken_read(&ret[n++], st, queue, lease_us);
	if (code != SQLITE_DONE)
		local_store_failed(s, "taking messages", err);
	sqlite3_reset(st);
	for (int i = 0; i < n && code == SQLITE_DONE; i++)
		if (RUN(s, SLOT_LEASE, "leasing a message", err, queue, ret[i].before_us,
			ret[i].seq, lease_us, s->owner))
			code = SQLITE_ERROR;
	if (code == SQLITE_DONE)
		return n;
	for (int i = 0; i < n; i++)
		free(ret[i].body);
	return -1;
}

int local_store_ack(struct local_store *s, const struct local_taken *t, struct asya_error *err)
{
	if (RUN(s, SLOT_DROP, "acking a message", err, t->queue, t->lease_us, t->seq, s->owner))
		return -1;
	if (!sqlite3_changes(s->db))
		return 0;
	return RUN(s, MESSAGE_DROP, "acking a message", err, t->seq) ? -1 : 1;
}

int local_store_lease(struct local_store *s, const struct local_taken *t, int64_t until_us,
		      bool keep, struct asya_error *err)
{
	if (RUN(s, SLOT_MOVE, "moving a lease", err, t->queue, t->lease_us, t->seq, until_us,
		keep ? s->owner : 0, s->owner))
		return -1;
	for (size_t i = 0; !keep && i < s->n_queues; i++)
		s->queues[i].touched |= s->queues[i].id == t->queue;
	return sqlite3_changes(s->db) ? 1 : 0;
}

static int count_live(struct local_store *s, const struct asya_hop *hop, struct asya_error *err)
{
	sqlite3_stmt *add = prepared(s, LIVE_ADD, err), *drop = prepared(s, LIVE_DROP, err);

	if (!add || !drop)
		return -1;
	bind_str(add, 1, hop->root);
	sqlite3_bind_int64(add, 2, hop->live);
	if (finish(s, add, "counting messages below a root", err))
		return -1;
	if (hop->live > 0)
		return 0;
	bind_str(drop, 1, hop->root);
	return finish(s, drop, "counting messages below a root", err);
}

int local_store_hop(struct local_store *s, const struct asya_hop *hop, struct asya_str actor,
		    struct asya_error *err)
{
	sqlite3_stmt *st;

	if (hop->root.p && hop->live && count_live(s, hop, err))
		return -1;
	if (!s->history)
		return 0;
	st = prepared(s, HOP_ADD, err);
	if (!st)
		return -1;
	bind_str(st, 1, hop->id);
	bind_str(st, 2, hop->parent_id);
	bind_str(st, 3, hop->root);
	bind_str(st, 4, actor.p ? actor : ASYA_STR(""));
	bind_str(st, 5, hop->outcome);
	bind_str(st, 6, hop->detail);
	sqlite3_bind_int64(st, 7, hop->received_us);
	sqlite3_bind_int64(st, 8, hop->settled_us);
	sqlite3_bind_int64(st, 9, hop->attempt);
	return finish(s, st, "recording a hop", err);
}

/* ---- owners ---- */

static char *owner_path(const struct local_store *s, int64_t id)
{
	return asya_asprintf("%s/owners/%lld", s->dir, (long long)id);
}

/* Whether the process that held this owner's lock is gone. */
static bool owner_gone(const struct local_store *s, int64_t id)
{
	_cleanup_(asya_freep) char *path = owner_path(s, id);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	bool gone;

	if (fd < 0)
		return errno == ENOENT;
	gone = flock(fd, LOCK_EX | LOCK_NB) == 0;
	close(fd);
	return gone;
}

static int free_owner(struct local_store *s, int64_t id, int64_t now_us, struct asya_error *err)
{
	sqlite3_stmt *all;
	int code = 0;

	if (sqlite3_prepare_v2(s->db, "SELECT id FROM queues", -1, &all, NULL) != SQLITE_OK)
		return local_store_failed(s, "listing queues", err);
	while (!code && sqlite3_step(all) == SQLITE_ROW)
		code = RUN(s, OWNER_FREE, "freeing leases", err, now_us,
			   sqlite3_column_int64(all, 0), id);
	sqlite3_finalize(all);
	return code || RUN(s, OWNER_DROP, "dropping an owner", err, id) ? -1 : 0;
}

static int owners_gone(struct local_store *s, int64_t *ret, size_t room, size_t *ret_n,
		       struct asya_error *err)
{
	sqlite3_stmt *st = prepared(s, OWNERS, err);
	int code;

	*ret_n = 0;
	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, s->owner);
	while ((code = sqlite3_step(st)) == SQLITE_ROW && *ret_n < room)
		if (owner_gone(s, sqlite3_column_int64(st, 0)))
			ret[(*ret_n)++] = sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	return code == SQLITE_DONE || code == SQLITE_ROW
		       ? 0
		       : local_store_failed(s, "listing owners", err);
}

static bool hops_over(struct local_store *s)
{
	sqlite3_stmt *st;
	bool over = false;

	if (sqlite3_prepare_v2(s->db,
			       "SELECT (SELECT max(n) FROM hops) - (SELECT min(n) FROM hops)", -1,
			       &st, NULL) != SQLITE_OK)
		return false;
	if (sqlite3_step(st) == SQLITE_ROW)
		over = sqlite3_column_int64(st, 0) > s->history + s->history / 8;
	sqlite3_finalize(st);
	return over;
}

int local_store_clean(struct local_store *s, int64_t now_us, struct asya_error *err)
{
	bool prune = s->history && hops_over(s);
	int64_t gone[64];
	int code = 0;
	size_t n;

	if (owners_gone(s, gone, ASYA_ARRAY_SIZE(gone), &n, err))
		return -1;
	if (!n && !prune)
		return 0;
	if (local_store_begin(s, err))
		return -1;
	for (size_t i = 0; i < n && !code; i++)
		code = free_owner(s, gone[i], now_us, err);
	if (!code && prune)
		code = RUN(s, HOP_PRUNE, "dropping old hops", err, s->history);
	for (size_t i = 0; i < s->n_queues; i++)
		s->queues[i].touched |= n > 0;
	if (code) {
		local_store_rollback(s);
		return -1;
	}
	if (local_store_commit(s, err))
		return -1;
	for (size_t i = 0; i < n; i++) {
		_cleanup_(asya_freep) char *path = owner_path(s, gone[i]);

		unlink(path);
	}
	return 0;
}

static int become_owner(struct local_store *s, int64_t now_us, struct asya_error *err)
{
	_cleanup_(asya_freep) char *path = NULL;
	char insert[96];

	if (local_store_begin(s, err))
		return -1;
	snprintf(insert, sizeof(insert), "INSERT INTO owners(since_us) VALUES(%lld)",
		 (long long)now_us);
	if (sqlite3_exec(s->db, insert, NULL, NULL, NULL) != SQLITE_OK) {
		local_store_failed(s, "registering this process", err);
		local_store_rollback(s);
		return -1;
	}
	s->owner = sqlite3_last_insert_rowid(s->db);
	path = owner_path(s, s->owner);
	s->owner_lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (s->owner_lock < 0 || flock(s->owner_lock, LOCK_EX | LOCK_NB)) {
		asya_error_errno(err, ASYA_FATAL, errno, "locking '%s'", path);
		local_store_rollback(s);
		return -1;
	}
	return local_store_commit(s, err);
}

/* ---- opening ---- */

static int make_dir(const char *path, struct asya_error *err)
{
	if (mkdir(path, 0777) && errno != EEXIST)
		return asya_error_errno(err, ASYA_FATAL, errno, "making the directory '%s'", path);
	return 0;
}

static int make_dirs(struct local_store *s, struct asya_error *err)
{
	static const char *const below[] = {"owners", "wake"};
	_cleanup_(asya_freep) char *lock = asya_asprintf("%s/write.lock", s->dir);

	for (char *slash = strchr(s->dir + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(s->dir, 0777) && errno != EEXIST)
			asya_error_errno(err, ASYA_FATAL, errno, "making the directory '%s'",
					 s->dir);
		*slash = '/';
	}
	if (make_dir(s->dir, err))
		return -1;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(below); i++) {
		_cleanup_(asya_freep) char *path = asya_asprintf("%s/%s", s->dir, below[i]);

		if (make_dir(path, err))
			return -1;
	}
	s->lock = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (s->lock < 0)
		return asya_error_errno(err, ASYA_FATAL, errno, "opening '%s'", lock);
	return 0;
}

static int pragma_int(struct local_store *s, const char *text, int64_t *ret, struct asya_error *err)
{
	sqlite3_stmt *st;
	int code;

	if (sqlite3_prepare_v2(s->db, text, -1, &st, NULL) != SQLITE_OK)
		return local_store_failed(s, "reading", err);
	code = sqlite3_step(st);
	if (code == SQLITE_ROW)
		*ret = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return code == SQLITE_ROW ? 0 : local_store_failed(s, "reading", err);
}

/* Makes the tables in an empty database; refuses one that is not ours. The writers' lock is held.
 */
static int adopt(struct local_store *s, struct asya_error *err)
{
	int64_t id = 0, version = 0, tables = 0;

	if (pragma_int(s, "PRAGMA application_id", &id, err) ||
	    pragma_int(s, "PRAGMA user_version", &version, err) ||
	    pragma_int(s, "SELECT count(*) FROM sqlite_schema", &tables, err))
		return -1;
	if (id == APPLICATION_ID && version == VERSION)
		return 0;
	if (id == APPLICATION_ID || tables)
		return asya_error_set(err, ASYA_FATAL,
				      "'%s/queue.db' is %s; choose another directory", s->dir,
				      id == APPLICATION_ID ? "of another version of Asya"
							   : "a database of some other program");
	if (sqlite3_exec(s->db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(s->db, schema, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
		return local_store_failed(s, "making the tables", err);
	return 0;
}

static int set_up(struct local_store *s, const struct asya_local_config *config,
		  struct asya_error *err)
{
	int code;

	sqlite3_busy_timeout(s->db, BUSY_MS);
	if (lock_writers(s, err))
		return -1;
	if (sqlite3_exec(s->db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(s->db,
			 config->normal ? "PRAGMA synchronous=NORMAL" : "PRAGMA synchronous=FULL",
			 NULL, NULL, NULL) != SQLITE_OK)
		code = local_store_failed(s, "opening", err);
	else
		code = adopt(s, err);
	flock(s->lock, LOCK_UN);
	/* What cannot be opened now will not open by itself. */
	if (code)
		err->advice = ASYA_FATAL;
	return code;
}

int local_store_open(struct local_store *s, const struct asya_local_config *config,
		     struct asya_error *err)
{
	_cleanup_(asya_freep) char *path = asya_asprintf("%s/queue.db", config->dir);

	*s = (struct local_store){.dir = asya_strdup(config->dir),
				  .space = asya_strdup(config->space),
				  .history = config->history,
				  .lock = -1,
				  .owner_lock = -1};
	if (make_dirs(s, err))
		return -1;
	if (sqlite3_open_v2(path, &s->db,
			    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
			    config->vfs) != SQLITE_OK) {
		local_store_failed(s, "opening", err);
		err->advice = ASYA_FATAL;
		return -1;
	}
	return set_up(s, config, err);
}

int local_store_own(struct local_store *s, int64_t now_us, struct asya_error *err)
{
	return become_owner(s, now_us, err) || local_store_clean(s, now_us, err) ? -1 : 0;
}

void local_store_close(struct local_store *s)
{
	_cleanup_(asya_freep) char *path = s->owner ? owner_path(s, s->owner) : NULL;

	forget_queues(s);
	free(s->queues);
	for (size_t i = 0; i < LOCAL_STATEMENTS; i++)
		sqlite3_finalize(s->statements[i]);
	sqlite3_close(s->db);
	if (path)
		unlink(path);
	if (s->owner_lock >= 0)
		close(s->owner_lock);
	if (s->lock >= 0)
		close(s->lock);
	free(s->dir);
	free(s->space);
}
