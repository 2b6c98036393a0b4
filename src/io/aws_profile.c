// SPDX-License-Identifier: Apache-2.0
#include "io/aws_profile.h"

#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static struct asya_str trim(const char *p, size_t n)
{
	for (; n && isspace((unsigned char)*p); n--)
		p++;
	for (; n && isspace((unsigned char)p[n - 1]); n--)
		;
	return (struct asya_str){p, n};
}

int asya_aws_file_read(struct asya_str *ret, struct asya_arena *arena, const char *path,
		       struct asya_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text;
	ssize_t got;
	size_t n = 0;

	if (fd < 0 && errno == ENOENT)
		return 1;
	if (fd < 0)
		return asya_error_errno(err, ASYA_RETRY, errno, "cannot read '%s'", path);
	text = asya_arena_alloc(arena, ASYA_AWS_FILE_MAX);
	while ((got = read(fd, text + n, ASYA_AWS_FILE_MAX - n)) > 0)
		n += (size_t)got;
	if (got < 0)
		asya_error_errno(err, ASYA_RETRY, errno, "cannot read '%s'", path);
	close(fd);
	*ret = trim(text, n);
	return got < 0 ? -1 : 0;
}

static bool section_is(struct asya_str title, const char *profile, bool prefixed)
{
	if (asya_str_eq_c(title, profile))
		return !prefixed || strcmp(profile, "default") == 0;
	if (!prefixed || !asya_str_starts(title, "profile"))
		return false;
	title = trim(title.p + strlen("profile"), title.n - strlen("profile"));
	return asya_str_eq_c(title, profile);
}

struct asya_str asya_aws_profile_get(struct asya_str text, const char *profile, bool prefixed,
				     const char *name)
{
	bool inside = false;

	for (size_t at = 0, n; at < text.n; at += n + 1) {
		const char *eol = memchr(text.p + at, '\n', text.n - at), *equals;
		struct asya_str line;

		n = eol ? (size_t)(eol - text.p) - at : text.n - at;
		line = trim(text.p + at, n);
		if (!line.n || line.p[0] == '#' || line.p[0] == ';')
			continue;
		if (line.p[0] == '[' && line.p[line.n - 1] == ']') {
			inside = section_is(trim(line.p + 1, line.n - 2), profile, prefixed);
			continue;
		}
		equals = inside ? memchr(line.p, '=', line.n) : NULL;
		if (equals && asya_str_eq_c(trim(line.p, (size_t)(equals - line.p)), name))
			return trim(equals + 1, line.n - (size_t)(equals - line.p) - 1);
	}
	return ASYA_STR_NONE;
}
