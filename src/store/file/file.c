// SPDX-License-Identifier: Apache-2.0
/*
 *            put                    timer                     thread is done
 *   waiting ------> (timer armed) ---------> batch in thread ----------------> done, next batch
 *
 * A timer of 0 ms begins a batch, so that puts of the same turn of the loop go together.
 */
#include "store/file/file.h"

#include "base/clock.h"
#include "store/file/batch.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

struct asya_file_store {
	uv_timer_t timer;
	uv_work_t work;
	char *root;
	struct asya_file_place place;
	struct asya_link waiting;
	struct asya_file_put *batch[ASYA_FILE_BATCH];
	size_t n;
	bool busy; /* from the beginning of a batch until its last done has returned */
	bool closing;
	void (*closed)(void *user);
	void *closed_user;
};

static void on_timer(uv_timer_t *timer);

static void kick(struct asya_file_store *store)
{
	if (!store->busy && !store->closing && !asya_list_empty(&store->waiting))
		uv_timer_start(&store->timer, on_timer, 0, 0);
}

static void on_closed(uv_handle_t *handle)
{
	struct asya_file_store *store = handle->data;
	void (*closed)(void *user) = store->closed;
	void *user = store->closed_user;
	struct asya_error err;
	struct asya_link *l;

	while ((l = asya_list_pop(&store->waiting))) {
		struct asya_file_put *put = asya_container_of(l, struct asya_file_put, link);

		asya_error_set(&err, ASYA_RETRY, "the file store in '%.200s' was closed",
			       store->root);
		put->done(put, -1, &err);
	}
	close(store->place.root);
	close(store->place.temporary);
	free(store->root);
	free(store);
	if (closed)
		closed(user);
}

static void report(const struct asya_file_store *store, struct asya_file_put *put)
{
	int key_n = (int)(put->key.n > 480 ? 480 : put->key.n);
	const char *key = put->key.p ? put->key.p : "";
	struct asya_error err;

	if (!put->failed_step) {
		put->done(put, 0, NULL);
		return;
	}
	if (put->errnum)
		asya_error_errno(&err, ASYA_RETRY, put->errnum, "cannot %s '%.*s' in '%.200s'",
				 put->failed_step, key_n, key, store->root);
	else
		asya_error_set(&err, ASYA_REJECT,
			       "'%.*s' is no key: right are names between slashes, none empty, "
			       "'.' or '..', without NUL bytes",
			       key_n, key);
	put->done(put, -1, &err);
}

static void run(uv_work_t *work)
{
	struct asya_file_store *store = work->data;

	asya_file_batch_write(&store->place, store->batch, store->n);
}

static void on_done(uv_work_t *work, int status)
{
	struct asya_file_store *store = work->data;

	(void)status;
	for (size_t i = 0; i < store->n; i++)
		report(store, store->batch[i]);
	store->busy = false;
	if (store->closing)
		uv_close((uv_handle_t *)&store->timer, on_closed);
	kick(store);
}

static void on_timer(uv_timer_t *timer)
{
	struct asya_file_store *store = timer->data;
	struct asya_link *l;

	for (store->n = 0; store->n < ASYA_FILE_BATCH; store->n++) {
		l = asya_list_pop(&store->waiting);
		if (!l)
			break;
		store->batch[store->n] = asya_container_of(l, struct asya_file_put, link);
	}
	store->busy = true;
	/* refuses only work without a function */
	if (uv_queue_work(timer->loop, &store->work, run, on_done))
		abort();
}

void asya_file_store_put(struct asya_file_store *store, struct asya_file_put *put)
{
	assert(!store->closing);
	put->failed_step = NULL;
	put->errnum = 0;
	asya_list_add_tail(&store->waiting, &put->link);
	kick(store);
}

void asya_file_store_close(struct asya_file_store *store, void (*closed)(void *user), void *user)
{
	store->closing = true;
	store->closed = closed;
	store->closed_user = user;
	if (!store->busy)
		uv_close((uv_handle_t *)&store->timer, on_closed);
}

/* Temporary files that nobody can still be writing. */
static void clean(int temporary)
{
	int64_t now_s = asya_clock_wall_us() / 1000000;
	int fd = openat(temporary, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (fstatat(temporary, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode) && st.st_mtime < now_s - ASYA_FILE_TEMPORARY_S)
			unlinkat(temporary, entry->d_name, 0);
	closedir(dir);
}

/* Opens the directory `name`, made durably if it is not there. -1 with errno. */
static int open_directory(int at, const char *name)
{
	bool made = mkdirat(at, name, 0777) == 0;
	int fd, parent;

	if (!made && errno != EEXIST)
		return -1;
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || !made)
		return fd;
	parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (parent >= 0) {
		fsync(parent);
		close(parent);
	}
	return fd;
}

/* What other processes, on other machines too, will not name their temporary files. */
static int make_stem(char stem[17])
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -1;
	snprintf(stem, 17, "%016llx", (unsigned long long)random);
	return 0;
}

static int open_place(struct asya_file_place *place, const char *root)
{
	struct asya_file_place p = {0};
	int errnum;

	p.root = open_directory(AT_FDCWD, root);
	if (p.root < 0)
		return -1;
	p.temporary = open_directory(p.root, ASYA_FILE_TEMPORARY);
	if (p.temporary >= 0 && faccessat(p.temporary, ".", W_OK | X_OK, AT_EACCESS) == 0 &&
	    make_stem(p.stem) == 0) {
		*place = p;
		return 0;
	}
	errnum = errno;
	if (p.temporary >= 0)
		close(p.temporary);
	close(p.root);
	errno = errnum;
	return -1;
}

int asya_file_store_open(struct asya_file_store **ret, uv_loop_t *loop, const char *root,
			 struct asya_error *err)
{
	struct asya_file_place place;
	struct asya_file_store *store;

	if (open_place(&place, root))
		return asya_error_errno(err, ASYA_FATAL, errno,
					"cannot keep objects in '%.200s'; it must be a directory "
					"that this process may write to",
					root);
	store = asya_new0(struct asya_file_store);
	store->place = place;
	store->root = asya_strdup(root);
	asya_list_init(&store->waiting);
	uv_timer_init(loop, &store->timer);
	store->timer.data = store->work.data = store;
	clean(place.temporary);
	*ret = store;
	return 0;
}
