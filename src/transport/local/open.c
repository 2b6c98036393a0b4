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

enum { BUSY_MS = 30000, OWNERS_ONCE = 64 };

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
	return LOCAL_RUN(s, OWNER_FREE, "freeing leases", err, now_us, id) ||
			       LOCAL_RUN(s, OWNER_DROP, "dropping an owner", err, id)
		       ? -1
		       : 0;
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

/* Frees some of what is to be freed; *ret_n: how many owners that was. */
static int clean_some(struct local_store *s, int64_t now_us, bool prune, size_t *ret_n,
		      struct asya_error *err)
{
	int64_t gone[OWNERS_ONCE];
	int code = 0;

	if (owners_gone(s, gone, ASYA_ARRAY_SIZE(gone), ret_n, err))
		return -1;
	if (!*ret_n && !prune)
		return 0;
	if (local_store_begin(s, err))
		return -1;
	for (size_t i = 0; i < *ret_n && !code; i++)
		code = free_owner(s, gone[i], now_us, err);
	if (!code && prune)
		code = LOCAL_RUN(s, HOP_PRUNE, "dropping old hops", err, s->history);
	for (size_t i = 0; i < s->n_queues; i++)
		s->queues[i].touched |= *ret_n > 0;
	if (code) {
		local_store_rollback(s);
		return -1;
	}
	if (local_store_commit(s, err))
		return -1;
	for (size_t i = 0; i < *ret_n; i++) {
		_cleanup_(asya_freep) char *path = owner_path(s, gone[i]);

		unlink(path);
	}
	return 0;
}

int local_store_clean(struct local_store *s, int64_t now_us, struct asya_error *err)
{
	bool prune = s->history && hops_over(s);
	size_t n;

	do {
		if (clean_some(s, now_us, prune, &n, err))
			return -1;
		prune = false;
	} while (n == OWNERS_ONCE);
	return 0;
}

/* While the writers' lock is held, nobody else can get this number. */
static int lock_owner(struct local_store *s, struct asya_error *err)
{
	_cleanup_(asya_freep) char *path = owner_path(s, s->owner);

	s->owner_lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (s->owner_lock < 0 || flock(s->owner_lock, LOCK_EX | LOCK_NB))
		return asya_error_errno(err, ASYA_FATAL, errno, "locking '%s'", path);
	return 0;
}

/* The number may become another process's if it was never committed, so its file goes first. */
static void disown(struct local_store *s)
{
	_cleanup_(asya_freep) char *path = owner_path(s, s->owner);

	if (s->owner_lock >= 0) {
		unlink(path);
		close(s->owner_lock);
	}
	s->owner_lock = -1;
	s->owner = 0;
}

static int become_owner(struct local_store *s, int64_t now_us, struct asya_error *err)
{
	if (local_store_begin(s, err))
		return -1;
	if (LOCAL_RUN(s, OWNER_ADD, "registering this process", err, now_us)) {
		local_store_rollback(s);
		return -1;
	}
	s->owner = sqlite3_last_insert_rowid(s->db);
	if (lock_owner(s, err) || local_store_run_commit(s, err)) {
		disown(s);
		local_store_rollback(s);
		return -1;
	}
	local_store_committed(s);
	return 0;
}

/* ---- opening ---- */

static bool is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* A power cut must not take a new directory away from under what was committed in it. */
static void sync_parent(const char *path)
{
	_cleanup_(asya_freep) char *parent = asya_strdup(path);
	char *slash = strrchr(parent, '/');
	int fd;

	if (slash)
		slash[slash == parent] = '\0';
	fd = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)fsync(fd);
	close(fd);
}

static int make_dir(const char *path, struct asya_error *err)
{
	int code = mkdir(path, 0777), errnum = errno;

	if (code && !is_dir(path))
		return asya_error_errno(err, ASYA_FATAL, errnum == EEXIST ? ENOTDIR : errnum,
					"making the directory '%s'", path);
	if (!code)
		sync_parent(path);
	return 0;
}

/* The directory and those above it, whose trouble shows at the last. */
static int make_path(char *dir, struct asya_error *err)
{
	struct asya_error ignored;

	for (char *slash = strchr(dir + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)make_dir(dir, &ignored);
		*slash = '/';
	}
	return make_dir(dir, err);
}

static int make_dirs(struct local_store *s, struct asya_error *err)
{
	static const char *const below[] = {"owners", "wake"};
	_cleanup_(asya_freep) char *lock = asya_asprintf("%s/write.lock", s->dir);

	if (!*s->dir)
		return asya_error_set(
			err, ASYA_FATAL,
			"the directory of the local transport is '', it must be a path");
	if (make_path(s->dir, err))
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

static int run_text(struct local_store *s, const char *text, const char *what,
		    struct asya_error *err)
{
	return sqlite3_exec(s->db, text, NULL, NULL, NULL) == SQLITE_OK
		       ? 0
		       : local_store_failed(s, what, err);
}

/* Whether it is ours (1) or empty (0); refuses any other. Only reads. */
static int recognise(struct local_store *s, struct asya_error *err)
{
	int64_t id = 0, version = 0, tables = 0;

	if (pragma_int(s, "PRAGMA application_id", &id, err) ||
	    pragma_int(s, "PRAGMA user_version", &version, err) ||
	    pragma_int(s, "SELECT count(*) FROM sqlite_schema", &tables, err))
		return -1;
	if (id == LOCAL_APPLICATION_ID && version != LOCAL_VERSION)
		return asya_error_set(err, ASYA_FATAL,
				      "'%s/queue.db' is of another version of Asya (%lld, this one "
				      "reads %d); choose another directory",
				      s->dir, (long long)version, LOCAL_VERSION);
	if (id != LOCAL_APPLICATION_ID && (id || tables))
		return asya_error_set(err, ASYA_FATAL,
				      "'%s/queue.db' is a database of some other program; choose "
				      "another directory",
				      s->dir);
	if (sqlite3_db_readonly(s->db, "main"))
		return asya_error_set(err, ASYA_FATAL,
				      "'%s/queue.db' can only be read; make it writable", s->dir);
	return id == LOCAL_APPLICATION_ID;
}

/* What was looked at and refused keeps its bytes: until then nothing is checkpointed either. */
static int keep_log(struct local_store *s, int keep)
{
	return sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep, NULL);
}

/* Makes the tables in an empty database. The writers' lock is held. */
static int adopt(struct local_store *s, const struct asya_local_config *config,
		 struct asya_error *err)
{
	int ours;

	keep_log(s, 1);
	ours = recognise(s, err);
	if (ours < 0)
		return -1;
	keep_log(s, 0);
	/* The size of pages is that of a new database only. Distributions build SQLite so that it
	 * wipes what is deleted: queues need not pay for that. */
	if (run_text(s, "PRAGMA page_size=8192; PRAGMA secure_delete=OFF", "opening", err) ||
	    run_text(s, "PRAGMA journal_mode=WAL", "opening", err) ||
	    run_text(s, config->normal ? "PRAGMA synchronous=NORMAL" : "PRAGMA synchronous=FULL",
		     "opening", err))
		return -1;
	return ours ? 0 : run_text(s, local_schema, "making the tables", err);
}

static int set_up(struct local_store *s, const struct asya_local_config *config,
		  struct asya_error *err)
{
	int code;

	sqlite3_busy_timeout(s->db, BUSY_MS);
	if (local_store_lock(s, err))
		return -1;
	code = adopt(s, config, err);
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
	return become_owner(s, now_us, err) || local_store_clean(s, now_us, err) ||
			       local_store_unhide(s, now_us, err)
		       ? -1
		       : 0;
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
