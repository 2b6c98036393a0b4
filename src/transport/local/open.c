// SPDX-License-Identifier: Apache-2.0
/* Opening and closing the database, and the processes that use it (its owners). */
#include "transport/local/store.h"

#include "base/mem.h"
#include "transport/local/sql.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUSY_MS = 30000 };

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
		code = LOCAL_RUN(s, OWNER_FREE, "freeing leases", err, now_us,
				 sqlite3_column_int64(all, 0), id);
	sqlite3_finalize(all);
	return code || LOCAL_RUN(s, OWNER_DROP, "dropping an owner", err, id) ? -1 : 0;
}

static int owners_gone(struct local_store *s, int64_t *ret, size_t room, size_t *ret_n,
		       struct asya_error *err)
{
	sqlite3_stmt *st = local_sql(s, OWNERS, err);
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
		code = LOCAL_RUN(s, HOP_PRUNE, "dropping old hops", err, s->history);
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
	if (id == LOCAL_APPLICATION_ID && version == LOCAL_VERSION)
		return 0;
	if (id == LOCAL_APPLICATION_ID || tables)
		return asya_error_set(
			err, ASYA_FATAL, "'%s/queue.db' is %s; choose another directory", s->dir,
			id == LOCAL_APPLICATION_ID ? "of another version of Asya"
						   : "a database of some other program");
	if (sqlite3_exec(s->db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(s->db, local_schema, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
		return local_store_failed(s, "making the tables", err);
	return 0;
}

static int set_up(struct local_store *s, const struct asya_local_config *config,
		  struct asya_error *err)
{
	int code;

	sqlite3_busy_timeout(s->db, BUSY_MS);
	if (local_store_lock(s, err))
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

	local_store_forget_queues(s);
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
