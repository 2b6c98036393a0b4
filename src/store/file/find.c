// SPDX-License-Identifier: Apache-2.0
#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/object_key.h"
#include "store/file/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct search {
	struct asya_file_found *found;
	struct asya_arena *arena;
	struct asya_str stem; /* what stands before the time in names of directories */
	const char *name;     /* of the file */
	size_t max_bytes;
	struct asya_error *err;
};

static int missing(const char *path, struct asya_error *err)
{
	if (errno == ENOENT || errno == ENOTDIR)
		return 1;
	return asya_error_errno(err, ASYA_RETRY, errno, "cannot read '%.400s'", path);
}

static int read_whole(int fd, const struct search *s, const char *path)
{
	struct stat st;
	size_t have = 0;
	char *body;

	if (fstat(fd, &st))
		return missing(path, s->err);
	if ((uint64_t)st.st_size > s->max_bytes)
		return asya_error_set(s->err, ASYA_REJECT,
				      "'%.400s' has %lld bytes, at most %zu are read", path,
				      (long long)st.st_size, s->max_bytes);
	body = asya_arena_alloc(s->arena, (size_t)st.st_size + 1);
	while (have < (size_t)st.st_size) {
		ssize_t n = read(fd, body + have, (size_t)st.st_size - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return missing(path, s->err);
		if (!n)
			break;
		have += (size_t)n;
	}
	body[have] = '\0';
	s->found->body = (struct asya_str){body, have};
	return 0;
}

static int read_file(const struct search *s, struct asya_str path)
{
	int fd = open(path.p, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int status;

	if (fd < 0)
		return missing(path.p, s->err);
	status = read_whole(fd, s, path.p);
	close(fd);
	if (!status)
		s->found->path = path;
	return status;
}

/* Looks into each actor's directory of one time. */
static int search_time(const struct search *s, const char *directory, int64_t time_us)
{
	char text[ASYA_TIME_TEXT];
	_cleanup_(asya_freep) char *path = asya_asprintf("%s/%.*s%s", directory, (int)s->stem.n,
							 s->stem.p, asya_time_write(text, time_us));
	DIR *dir = opendir(path);
	struct dirent *entry;
	int status = 1;

	if (!dir)
		return missing(path, s->err);
	while (status == 1 && (entry = readdir(dir))) {
		_cleanup_(asya_freep) char *file =
			asya_asprintf("%s/%s/%s", path, entry->d_name, s->name);

		if (entry->d_name[0] != '.' && access(file, F_OK) == 0)
			status = read_file(s, asya_arena_str(s->arena, asya_str_c(file)));
	}
	closedir(dir);
	if (!status)
		s->found->time_us = time_us;
	return status;
}

static bool time_of(int64_t *ret, struct asya_str stem, const char *name)
{
	struct asya_str rest = asya_str_c(name);
	char text[ASYA_TIME_TEXT];

	if (rest.n < stem.n || memcmp(rest.p, stem.p, stem.n) != 0)
		return false;
	rest.p += stem.n;
	rest.n -= stem.n;
	return asya_time_parse(ret, rest) == 0 && asya_str_eq_c(rest, asya_time_write(text, *ret));
}

static int newest_first(const void *a, const void *b)
{
	int64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (y > x) - (y < x);
}

/* The times that have a directory, as int64_t in `times`. */
static int list_times(struct asya_buf *times, const struct search *s, const char *directory)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	int64_t time_us;

	if (!dir)
		return missing(directory, s->err);
	while ((entry = readdir(dir)))
		if (time_of(&time_us, s->stem, entry->d_name))
			asya_buf_add(times, &time_us, sizeof(time_us));
	closedir(dir);
	return 0;
}

static int search_directory(const struct search *s, const char *directory)
{
	struct asya_buf times = {0};
	int status = list_times(&times, s, directory);
	size_t n = times.n / sizeof(int64_t);

	if (!status)
		status = 1;
	if (n)
		qsort(times.p, n, sizeof(int64_t), newest_first);
	for (size_t i = 0; status == 1 && i < n; i++) {
		int64_t time_us;

		memcpy(&time_us, times.p + i * sizeof(time_us), sizeof(time_us));
		status = search_time(s, directory, time_us);
	}
	asya_buf_fini(&times);
	return status;
}

int asya_file_find(struct asya_file_found *ret, struct asya_arena *arena, const char *root,
		   struct asya_str prefix, struct asya_str id, size_t max_bytes,
		   struct asya_error *err)
{
	const char *slash = prefix.n ? memrchr(prefix.p, '/', prefix.n) : NULL;
	size_t n = slash ? (size_t)(slash - prefix.p) : 0;
	_cleanup_(asya_freep) char *directory =
		asya_asprintf("%s/%.*s", root, (int)n, n ? prefix.p : "");
	struct asya_str stem = slash ? (struct asya_str){slash + 1, prefix.n - n - 1} : prefix;
	struct asya_file_found found = {0};
	const struct search s = {
		&found,    arena,
		stem,      asya_object_name(arena, id, ".json", ASYA_OBJECT_NAME_MAX).p,
		max_bytes, err};
	int status = search_directory(&s, directory);

	if (!status)
		*ret = found;
	return status;
}
