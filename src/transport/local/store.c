// SPDX-License-Identifier: Apache-2.0
/* Transactions, queues, messages and hops. */
#include "transport/local/store.h"

#include "base/failpoint.h"
#include "base/mem.h"
#include "core/envelope.h"
#include "transport/local/sql.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int local_store_lock(struct local_store *s, struct asya_error *err)
{
	while (flock(s->lock, LOCK_EX))
		if (errno != EINTR)
			return asya_error_errno(err, ASYA_RETRY, errno, "locking '%s/write.lock'",
						s->dir);
	return 0;
}

void local_store_forget_queues(struct local_store *s)
{
	for (size_t i = 0; i < s->n_queues; i++) {
		free(s->queues[i].wake);
		free((char *)s->queues[i].name.p);
	}
	s->n_queues = 0;
}

int local_store_here(struct local_store *s, struct asya_error *err)
{
	int moved = 0;

	if (sqlite3_file_control(s->db, NULL, SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved)
		return asya_error_set(err, ASYA_FATAL,
				      "'%s/queue.db' was removed or replaced while it was in use",
				      s->dir);
	return 0;
}

int local_store_begin(struct local_store *s, struct asya_error *err)
{
	if (local_store_lock(s, err))
		return -1;
	if (local_sql_run(s, BEGIN, "beginning a transaction", err, 0, NULL)) {
		flock(s->lock, LOCK_UN);
		return -1;
	}
	return 0;
}

void local_store_rollback(struct local_store *s)
{
	struct asya_error ignored;

	if (!sqlite3_get_autocommit(s->db))
		(void)local_sql_run(s, ROLLBACK, "rolling back", &ignored, 0, NULL);
	flock(s->lock, LOCK_UN);
	local_store_forget_queues(s);
}

static int count_outcomes(struct local_store *s, struct asya_error *err)
{
	for (size_t i = 0; i < s->n_queues; i++) {
		struct local_queue *q = &s->queues[i];

		if ((q->done || q->failed) &&
		    LOCAL_RUN(s, QUEUE_COUNT, "counting", err, q->id, q->done, q->failed))
			return -1;
		q->done = q->failed = 0;
	}
	return 0;
}

static void wake_all(struct local_store *s)
{
	for (size_t i = 0; i < s->n_queues; i++) {
		if (s->queues[i].touched && s->queues[i].wake)
			(void)local_wake_touch(s->queues[i].wake);
		s->queues[i].touched = false;
	}
}

int local_store_run_commit(struct local_store *s, struct asya_error *err)
{
	asya_failpoint("local.commit");
	if (count_outcomes(s, err) || local_sql_run(s, COMMIT, "committing", err, 0, NULL))
		return -1;
	asya_failpoint("local.committed");
	return 0;
}

void local_store_committed(struct local_store *s)
{
	flock(s->lock, LOCK_UN);
	wake_all(s);
}

int local_store_commit(struct local_store *s, struct asya_error *err)
{
	if (local_store_run_commit(s, err)) {
		local_store_rollback(s);
		return -1;
	}
	local_store_committed(s);
	return 0;
}

char *local_wake_path(const struct local_store *s, struct asya_str actor, bool dead)
{
	if (!asya_actor_name_valid(actor))
		return NULL;
	return asya_asprintf("%s/wake/%s%s%.*s%s", s->dir, s->space, *s->space ? "_" : "",
			     ASYA_STR_ARG(actor), dead ? "-dlq" : "");
}

int local_wake_touch(const char *path)
{
	int fd;

	if (utimensat(AT_FDCWD, path, NULL, 0) == 0)
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

int local_store_queue_id(struct local_store *s, struct asya_str actor, bool dead, int64_t *ret,
			 struct asya_error *err)
{
	sqlite3_stmt *st = local_sql(s, QUEUE_FIND, err);
	int code;

	if (!st)
		return -1;
	local_sql_bind_str(st, 1, asya_str_c(s->space));
	local_sql_bind_str(st, 2, actor);
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
	st = local_sql(s, QUEUE_MAKE, err);
	if (st) {
		local_sql_bind_str(st, 1, asya_str_c(s->space));
		local_sql_bind_str(st, 2, actor);
		sqlite3_bind_int(st, 3, dead);
	}
	/* Another process may have made it between our look and our lock. */
	if (st)
		(void)local_sql_finish(s, st, "making a queue", err);
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
	s->queues = asya_realloc(s->queues, (s->n_queues + 1) * sizeof(*s->queues));
	*ret = &s->queues[s->n_queues++];
	**ret = (struct local_queue){.name = {asya_strndup(actor.p, actor.n), actor.n},
				     .dead = dead,
				     .id = id,
				     .wake = local_wake_path(s, actor, dead)};
	return 0;
}

int local_store_post(struct local_store *s, const struct asya_post *post, int64_t now_us,
		     struct asya_error *err)
{
	struct local_queue *q;
	int64_t delay_ms = post->delay_ms > 0 ? post->delay_ms : 0;
	sqlite3_stmt *st;

	if (local_store_queue(s, post->actor, post->dead, &q, err))
		return -1;
	st = local_sql(s, MESSAGE_ADD, err);
	if (!st)
		return -1;
	sqlite3_bind_int64(st, 1, post->queued_us ? post->queued_us : now_us);
	sqlite3_bind_blob64(st, 2, post->body.p ? post->body.p : "", post->body.n, SQLITE_STATIC);
	if (local_sql_finish(s, st, "adding a message", err) ||
	    LOCAL_RUN(s, SLOT_ADD, "adding a message", err, q->id, now_us + delay_ms * 1000,
		      sqlite3_last_insert_rowid(s->db), -delay_ms))
		return -1;
	q->touched = true;
	return 0;
}

/* One row with one integer: 1 and *ret, or 0, or -1. */
static int one_row(struct local_store *s, enum local_statement which, int64_t a, int64_t b,
		   int64_t *ret, struct asya_error *err)
{
	sqlite3_stmt *st = local_sql(s, which, err);
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
	sqlite3_stmt *st = local_sql(s, TAKE, err);
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
		if (LOCAL_RUN(s, SLOT_LEASE, "leasing a message", err, queue, ret[i].before_us,
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
	if (LOCAL_RUN(s, SLOT_DROP, "acking a message", err, t->queue, t->lease_us, t->seq,
		      s->owner))
		return -1;
	if (!sqlite3_changes(s->db))
		return 0;
	return LOCAL_RUN(s, MESSAGE_DROP, "acking a message", err, t->seq) ? -1 : 1;
}

static int move(struct local_store *s, const struct local_taken *t, int64_t to_us, int64_t owner,
		struct asya_error *err)
{
	if (LOCAL_RUN(s, SLOT_MOVE, "moving a lease", err, t->queue, t->lease_us, t->seq, to_us,
		      owner, s->owner))
		return -1;
	return sqlite3_changes(s->db) ? 1 : 0;
}

int local_store_extend(struct local_store *s, const struct local_taken *t, int64_t until_us,
		       struct asya_error *err)
{
	return move(s, t, until_us, s->owner, err);
}

int local_store_release(struct local_store *s, const struct local_taken *t, int64_t now_us,
			int64_t delay_ms, struct asya_error *err)
{
	bool later = delay_ms > 0;
	int64_t place = t->before_us < now_us ? t->before_us : now_us;

	for (size_t i = 0; i < s->n_queues; i++)
		s->queues[i].touched |= s->queues[i].id == t->queue;
	return move(s, t, later ? now_us + delay_ms * 1000 : place, later ? -delay_ms : 0, err);
}

int local_store_probe(struct local_store *s, struct asya_error *err)
{
	return LOCAL_RUN(s, OWNER_TOUCH, "trying to write", err, s->owner);
}

int local_store_unhide(struct local_store *s, int64_t now_us, struct asya_error *err)
{
	int64_t ignored;
	int hidden = one_row(s, HIDDEN, now_us, 1, &ignored, err);

	if (hidden != 1)
		return hidden;
	if (local_store_begin(s, err))
		return -1;
	if (LOCAL_RUN(s, UNHIDE, "after the clock was set back", err, now_us)) {
		local_store_rollback(s);
		return -1;
	}
	return local_store_commit(s, err);
}

static int count_live(struct local_store *s, const struct asya_hop *hop, struct asya_error *err)
{
	sqlite3_stmt *add = local_sql(s, LIVE_ADD, err), *drop = local_sql(s, LIVE_DROP, err);

	if (!add || !drop)
		return -1;
	local_sql_bind_str(add, 1, hop->root);
	sqlite3_bind_int64(add, 2, hop->live);
	local_sql_bind_str(add, 3, asya_str_c(s->space));
	if (local_sql_finish(s, add, "counting messages below a root", err))
		return -1;
	if (hop->live > 0)
		return 0;
	local_sql_bind_str(drop, 1, hop->root);
	local_sql_bind_str(drop, 2, asya_str_c(s->space));
	return local_sql_finish(s, drop, "counting messages below a root", err);
}

int local_store_hop(struct local_store *s, const struct asya_hop *hop, struct asya_str actor,
		    struct asya_error *err)
{
	sqlite3_stmt *st;

	if (hop->root.p && hop->live && count_live(s, hop, err))
		return -1;
	if (!s->history)
		return 0;
	st = local_sql(s, HOP_ADD, err);
	if (!st)
		return -1;
	local_sql_bind_str(st, 1, hop->id);
	local_sql_bind_str(st, 2, hop->parent_id);
	local_sql_bind_str(st, 3, hop->root);
	local_sql_bind_str(st, 4, actor.p ? actor : ASYA_STR(""));
	local_sql_bind_str(st, 5, hop->outcome);
	local_sql_bind_str(st, 6, hop->detail);
	sqlite3_bind_int64(st, 7, hop->received_us);
	sqlite3_bind_int64(st, 8, hop->settled_us);
	sqlite3_bind_int64(st, 9, hop->attempt);
	local_sql_bind_str(st, 10, asya_str_c(s->space));
	return local_sql_finish(s, st, "recording a hop", err);
}
