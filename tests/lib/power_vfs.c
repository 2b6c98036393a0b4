// SPDX-License-Identifier: Apache-2.0
#include "lib/power_vfs.h"

#include "base/mem.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

enum { NAMES_MAX = 64, SECTOR = 512 };

/* One change since the last sync: a write, or, without bytes, a truncation to `at`. */
struct change {
	struct change *next;
	size_t at, n;
	char *p;
};

struct bytes {
	char *p;
	size_t n, room;
};

/* What a name can stand for. Kept until the end: a cut may bring it back. */
struct node {
	struct node *older;
	struct bytes live, synced;
	struct change *first, **last;
};

struct name {
	char *path;
	struct node *live, *synced; /* NULL: there is none */
};

struct file {
	sqlite3_file base;
	struct node *node;  /* NULL: not watched (temporary files) */
	bool sync_dir;      /* with the next sync */
	sqlite3_file *real; /* behind this struct */
};

static struct {
	pthread_mutex_t lock;
	sqlite3_vfs vfs;
	sqlite3_vfs *real;
	sqlite3_io_methods methods;
	struct name names[NAMES_MAX];
	size_t n_names;
	struct node *nodes;
	void (*watch)(void *user, bool sync);
	void *watch_user;
	bool ignore_synchronous;
	int64_t room; /* negative: no limit */
	unsigned calls, fail_at;
	int fail_code;
	bool fail_stay;
} power = {.lock = PTHREAD_MUTEX_INITIALIZER, .room = -1};

static void bytes_resize(struct bytes *b, size_t n)
{
	if (n > b->room) {
		b->room = n * 2;
		b->p = asya_realloc(b->p, b->room);
	}
	if (n > b->n)
		memset(b->p + b->n, 0, n - b->n);
	b->n = n;
}

static void bytes_put(struct bytes *b, size_t at, const char *p, size_t n)
{
	if (at + n > b->n)
		bytes_resize(b, at + n);
	memcpy(b->p + at, p, n);
}

static void apply(struct bytes *b, const struct change *c)
{
	if (c->p)
		bytes_put(b, c->at, c->p, c->n);
	else
		bytes_resize(b, c->at);
}

static void node_change(struct node *node, size_t at, const void *p, size_t n)
{
	struct change *c = asya_new0(struct change);

	*c = (struct change){.at = at, .n = n, .p = p ? asya_malloc(n) : NULL};
	if (p)
		memcpy(c->p, p, n);
	apply(&node->live, c);
	*node->last = c;
	node->last = &c->next;
}

static void node_sync(struct node *node)
{
	while (node->first) {
		struct change *c = node->first;

		apply(&node->synced, c);
		node->first = c->next;
		free(c->p);
		free(c);
	}
	node->last = &node->first;
}

static struct node *node_new(void)
{
	struct node *node = asya_new0(struct node);

	node->last = &node->first;
	node->older = power.nodes;
	power.nodes = node;
	return node;
}

static struct name *name_find(const char *path)
{
	for (size_t i = 0; i < power.n_names; i++)
		if (strcmp(power.names[i].path, path) == 0)
			return &power.names[i];
	if (power.n_names == NAMES_MAX)
		abort();
	power.names[power.n_names].path = asya_strdup(path);
	return &power.names[power.n_names++];
}

static void sync_names(void)
{
	for (size_t i = 0; i < power.n_names; i++)
		power.names[i].synced = power.names[i].live;
}

/* A file that was there before is on the disk as it is. */
static void node_load(struct node *node, const char *path)
{
	FILE *in = fopen(path, "rb");
	char block[4096];
	size_t n;

	if (!in)
		return;
	while ((n = fread(block, 1, sizeof(block), in)) > 0)
		node_change(node, node->live.n, block, n);
	fclose(in);
	node_sync(node);
}

/* ---- trouble ---- */

/* Before something is changed: 0, or the code to fail with. */
static int trouble(bool sync, int64_t grows)
{
	void (*watch)(void *user, bool sync);
	void *user;
	int code = 0;

	pthread_mutex_lock(&power.lock);
	watch = power.watch;
	user = power.watch_user;
	power.calls++;
	if (power.fail_at && power.calls >= power.fail_at &&
	    (power.calls == power.fail_at || power.fail_stay))
		code = power.fail_code;
	else if (grows > 0 && power.room >= 0 && grows > power.room)
		code = SQLITE_FULL;
	else if (grows > 0 && power.room >= 0)
		power.room -= grows;
	pthread_mutex_unlock(&power.lock);
	if (watch)
		watch(user, sync);
	return code;
}

/* ---- one file ---- */

static struct file *file_of(sqlite3_file *base)
{
	return (struct file *)base;
}

static sqlite3_file *real_of(sqlite3_file *base)
{
	return file_of(base)->real;
}

static int file_close(sqlite3_file *base)
{
	return real_of(base)->pMethods->xClose(real_of(base));
}

static int file_read(sqlite3_file *base, void *p, int n, sqlite3_int64 at)
{
	return real_of(base)->pMethods->xRead(real_of(base), p, n, at);
}

static int64_t growth(struct file *f, sqlite3_int64 end)
{
	int64_t grows;

	if (!f->node)
		return 0;
	pthread_mutex_lock(&power.lock);
	grows = end - (int64_t)f->node->live.n;
	pthread_mutex_unlock(&power.lock);
	return grows;
}

static int file_write(sqlite3_file *base, const void *p, int n, sqlite3_int64 at)
{
	struct file *f = file_of(base);
	int code = f->node ? trouble(false, growth(f, at + n)) : 0;

	if (code == 0)
		code = f->real->pMethods->xWrite(f->real, p, n, at);
	if (code == SQLITE_OK && f->node) {
		pthread_mutex_lock(&power.lock);
		node_change(f->node, (size_t)at, p, (size_t)n);
		pthread_mutex_unlock(&power.lock);
	}
	return code;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
	struct file *f = file_of(base);
	int code = f->node ? trouble(false, 0) : 0;

	if (code == 0)
		code = f->real->pMethods->xTruncate(f->real, size);
	if (code == SQLITE_OK && f->node) {
		pthread_mutex_lock(&power.lock);
		node_change(f->node, (size_t)size, NULL, 0);
		pthread_mutex_unlock(&power.lock);
	}
	return code;
}

static int file_sync(sqlite3_file *base, int flags)
{
	struct file *f = file_of(base);
	int code = f->node ? trouble(true, 0) : 0;

	(void)flags;
	if (code || !f->node)
		return code;
	pthread_mutex_lock(&power.lock);
	node_sync(f->node);
	if (f->sync_dir)
		sync_names();
	f->sync_dir = false;
	pthread_mutex_unlock(&power.lock);
	return SQLITE_OK;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *ret)
{
	return real_of(base)->pMethods->xFileSize(real_of(base), ret);
}

static int file_lock(sqlite3_file *base, int level)
{
	return real_of(base)->pMethods->xLock(real_of(base), level);
}

static int file_unlock(sqlite3_file *base, int level)
{
	return real_of(base)->pMethods->xUnlock(real_of(base), level);
}

static int file_reserved(sqlite3_file *base, int *ret)
{
	return real_of(base)->pMethods->xCheckReservedLock(real_of(base), ret);
}

static int file_control(sqlite3_file *base, int op, void *arg)
{
	if (op == SQLITE_FCNTL_PRAGMA && power.ignore_synchronous &&
	    strcmp(((char **)arg)[1], "synchronous") == 0)
		return SQLITE_OK;
	return real_of(base)->pMethods->xFileControl(real_of(base), op, arg);
}

static int file_sector(sqlite3_file *base)
{
	return real_of(base)->pMethods->xSectorSize(real_of(base));
}

static int file_device(sqlite3_file *base)
{
	return real_of(base)->pMethods->xDeviceCharacteristics(real_of(base));
}

static int file_shm_map(sqlite3_file *base, int page, int size, int extend, void volatile **ret)
{
	return real_of(base)->pMethods->xShmMap(real_of(base), page, size, extend, ret);
}

static int file_shm_lock(sqlite3_file *base, int at, int n, int flags)
{
	return real_of(base)->pMethods->xShmLock(real_of(base), at, n, flags);
}

static void file_shm_barrier(sqlite3_file *base)
{
	real_of(base)->pMethods->xShmBarrier(real_of(base));
}

static int file_shm_unmap(sqlite3_file *base, int and_delete)
{
	return real_of(base)->pMethods->xShmUnmap(real_of(base), and_delete);
}

/* ---- the file system ---- */

static void node_attach(struct file *f, const char *path, int flags, bool was_there)
{
	struct name *name;

	pthread_mutex_lock(&power.lock);
	name = name_find(path);
	if (!name->live) {
		name->live = node_new();
		if (was_there) {
			node_load(name->live, path);
			name->synced = name->live;
		} else {
			f->sync_dir = !(flags & SQLITE_OPEN_MAIN_DB);
		}
	}
	f->node = name->live;
	pthread_mutex_unlock(&power.lock);
}

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *ret)
{
	struct file *f = file_of(base);
	int there = 0, code;

	(void)vfs;
	*f = (struct file){.real = (sqlite3_file *)(f + 1)};
	if (path)
		power.real->xAccess(power.real, path, SQLITE_ACCESS_EXISTS, &there);
	code = power.real->xOpen(power.real, path, f->real, flags, ret);
	if (!f->real->pMethods)
		return code;
	f->base.pMethods = &power.methods;
	if (code == SQLITE_OK && path && !(flags & SQLITE_OPEN_DELETEONCLOSE))
		node_attach(f, path, flags, there);
	return code;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync_dir)
{
	int code = power.real->xDelete(power.real, path, 0);

	(void)vfs;
	if (code != SQLITE_OK)
		return code;
	pthread_mutex_lock(&power.lock);
	name_find(path)->live = NULL;
	if (sync_dir)
		sync_names();
	pthread_mutex_unlock(&power.lock);
	return code;
}

static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *ret)
{
	(void)vfs;
	return power.real->xAccess(power.real, path, flags, ret);
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *path, int n, char *ret)
{
	(void)vfs;
	return power.real->xFullPathname(power.real, path, n, ret);
}

static void methods_set(void)
{
	power.methods = (sqlite3_io_methods){.iVersion = 2,
					     .xClose = file_close,
					     .xRead = file_read,
					     .xWrite = file_write,
					     .xTruncate = file_truncate,
					     .xSync = file_sync,
					     .xFileSize = file_size,
					     .xLock = file_lock,
					     .xUnlock = file_unlock,
					     .xCheckReservedLock = file_reserved,
					     .xFileControl = file_control,
					     .xSectorSize = file_sector,
					     .xDeviceCharacteristics = file_device,
					     .xShmMap = file_shm_map,
					     .xShmLock = file_shm_lock,
					     .xShmBarrier = file_shm_barrier,
					     .xShmUnmap = file_shm_unmap};
}

static void forget(void)
{
	for (size_t i = 0; i < power.n_names; i++)
		free(power.names[i].path);
	memset(power.names, 0, sizeof(power.names));
	power.n_names = 0;
	while (power.nodes) {
		struct node *node = power.nodes;

		node_sync(node);
		free(node->live.p);
		free(node->synced.p);
		power.nodes = node->older;
		free(node);
	}
}

const char *power_vfs_start(void)
{
	power.real = sqlite3_vfs_find(NULL);
	if (!power.real)
		abort();
	methods_set();
	power.vfs = *power.real;
	power.vfs.pNext = NULL;
	power.vfs.zName = "power";
	power.vfs.szOsFile = (int)sizeof(struct file) + power.real->szOsFile;
	power.vfs.xOpen = vfs_open;
	power.vfs.xDelete = vfs_delete;
	power.vfs.xAccess = vfs_access;
	power.vfs.xFullPathname = vfs_full_path;
	power.watch = NULL;
	power.ignore_synchronous = false;
	power.room = -1;
	power.fail_at = power.calls = 0;
	forget();
	sqlite3_vfs_register(&power.vfs, 0);
	return power.vfs.zName;
}

void power_vfs_end(void)
{
	sqlite3_vfs_unregister(&power.vfs);
	forget();
}

/* ---- cutting the power ---- */

struct chance {
	unsigned seed;
	unsigned keep; /* per cent */
};

static bool keeps(struct chance *c)
{
	return (unsigned)rand_r(&c->seed) % 100 < c->keep;
}

static void lose_some(struct bytes *b, const struct change *c, struct chance *chance)
{
	size_t at = c->at, end = c->at + c->n;

	if (!c->p) {
		if (keeps(chance))
			apply(b, c);
		return;
	}
	while (at < end) {
		size_t to = (at / SECTOR + 1) * SECTOR, n = (to < end ? to : end) - at;
		size_t torn = (unsigned)rand_r(&chance->seed) % 16 == 0 ? n / 2 : n;

		if (torn && keeps(chance))
			bytes_put(b, at, c->p + (at - c->at), torn);
		at += n;
	}
}

static void node_write(const struct node *node, const char *path, struct chance *chance)
{
	struct bytes left = {0};
	FILE *out = fopen(path, "wb");

	if (!out)
		abort();
	if (node->synced.n)
		bytes_put(&left, 0, node->synced.p, node->synced.n);
	for (const struct change *c = node->first; c && chance; c = c->next)
		lose_some(&left, c, chance);
	if (left.n && fwrite(left.p, 1, left.n, out) != left.n)
		abort();
	fclose(out);
	free(left.p);
}

void power_vfs_cut(const char *dir_from, const char *dir_to, unsigned seed)
{
	static const unsigned keep[] = {50, 10, 90};
	struct chance chance = {.seed = seed, .keep = keep[seed % 3]};
	size_t n = strlen(dir_from);

	pthread_mutex_lock(&power.lock);
	for (size_t i = 0; i < power.n_names; i++) {
		const struct name *name = &power.names[i];
		bool live = seed && name->live != name->synced && keeps(&chance);
		const struct node *node = live ? name->live : name->synced;
		_cleanup_(asya_freep) char *to = NULL;

		if (strncmp(name->path, dir_from, n) != 0 || name->path[n] != '/' || !node)
			continue;
		to = asya_asprintf("%s%s", dir_to, name->path + n);
		node_write(node, to, seed ? &chance : NULL);
	}
	pthread_mutex_unlock(&power.lock);
}

/* ---- what tests ask for ---- */

void power_vfs_watch(void (*fn)(void *user, bool sync), void *user)
{
	pthread_mutex_lock(&power.lock);
	power.watch = fn;
	power.watch_user = user;
	pthread_mutex_unlock(&power.lock);
}

void power_vfs_ignore_synchronous(bool on)
{
	pthread_mutex_lock(&power.lock);
	power.ignore_synchronous = on;
	pthread_mutex_unlock(&power.lock);
}

void power_vfs_room(int64_t bytes)
{
	pthread_mutex_lock(&power.lock);
	power.room = bytes;
	pthread_mutex_unlock(&power.lock);
}

void power_vfs_fail(unsigned nth, int code, bool stay)
{
	pthread_mutex_lock(&power.lock);
	power.fail_at = code ? power.calls + nth : 0;
	power.fail_code = code;
	power.fail_stay = stay;
	pthread_mutex_unlock(&power.lock);
}

unsigned power_vfs_calls(void)
{
	unsigned calls;

	pthread_mutex_lock(&power.lock);
	calls = power.calls;
	pthread_mutex_unlock(&power.lock);
	return calls;
}
