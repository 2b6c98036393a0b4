// SPDX-License-Identifier: Apache-2.0
#include "cli/cli.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

static const char *setting(void *user, const char *name)
{
	const struct cli *cli = user;

	return strcmp(name, "ASYA_LOCAL_DIR") == 0 ? cli_dir(cli) : getenv(name);
}

static int no_transport(const char *name)
{
	const struct asya_transport_ops *ops;
	struct asya_buf b = {0};

	for (size_t i = 0; (ops = asya_transport_at(i)); i++)
		asya_buf_printf(&b, "%s%s", i ? ", " : "", ops->name);
	cli_fail(CLI_USAGE, "there is no transport '%s'; there are: %.*s", name, (int)b.n, b.p);
	asya_buf_fini(&b);
	return CLI_USAGE;
}

int client_open(struct client *c, const struct cli *cli)
{
	const char *name = cli_get(cli, "transport");
	const struct asya_transport_ops *ops;
	struct asya_error err;

	if (!name)
		name = getenv("ASYA_TRANSPORT");
	if (!name || !*name)
		name = "local";
	ops = asya_transport_find(asya_str_c(name));
	if (!ops)
		return no_transport(name);
	c->cli = cli;
	uv_loop_init(&c->loop);
	if (ops->open(&c->transport, &c->loop, setting, (void *)cli, &err) == 0)
		return CLI_OK;
	uv_loop_close(&c->loop);
	return cli_fail(CLI_TROUBLE, "%s", err.text);
}

static void nothing(void *user)
{
	(void)user;
}

void client_close(struct client *c)
{
	asya_transport_close(c->transport, nothing, NULL);
	uv_run(&c->loop, UV_RUN_DEFAULT);
	uv_loop_close(&c->loop);
}

struct waiter {
	bool done;
	enum asya_settled outcome;
	struct asya_error *err;
};

static void on_settled(struct asya_settle *op, enum asya_settled outcome,
		       const struct asya_error *err)
{
	struct waiter *w = op->user;

	w->done = true;
	w->outcome = outcome;
	if (err)
		*w->err = *err;
}

enum asya_settled client_settle(struct client *c, struct asya_settle *op, struct asya_error *err)
{
	struct waiter w = {.err = err};

	op->done = on_settled;
	op->user = &w;
	asya_transport_settle(c->transport, op);
	while (!w.done)
		uv_run(&c->loop, UV_RUN_ONCE);
	return w.outcome;
}

static void on_slept(uv_timer_t *t)
{
	*(bool *)t->data = true;
}

void client_sleep(struct client *c, unsigned ms)
{
	bool slept = false;
	uv_timer_t t;

	uv_timer_init(&c->loop, &t);
	t.data = &slept;
	uv_timer_start(&t, on_slept, ms, 0);
	while (!slept)
		uv_run(&c->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&t, NULL);
	uv_run(&c->loop, UV_RUN_NOWAIT);
}

struct asya_str cli_new_id(struct asya_arena *arena)
{
	unsigned char b[16];

	if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
		abort();
	b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	return asya_arena_printf(
		arena, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
		b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
		b[14], b[15]);
}

int cli_read_file(struct asya_str *ret, struct asya_arena *arena, const char *path, size_t max,
		  struct asya_error *err)
{
	bool standard = strcmp(path, "-") == 0;
	int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	struct asya_buf b = {0};
	ssize_t n = 0;

	if (fd < 0)
		return asya_error_errno(err, ASYA_REJECT, errno, "opening '%s'", path);
	do {
		asya_buf_reserve(&b, 65536);
		n = read(fd, b.p + b.n, 65536);
		b.n += n > 0 ? (size_t)n : 0;
	} while (n > 0 && b.n <= max);
	if (!standard)
		close(fd);
	if (n < 0)
		asya_error_errno(err, ASYA_REJECT, errno, "reading '%s'", path);
	else if (b.n > max)
		n = asya_error_set(err, ASYA_REJECT, "'%s' has more than %zu bytes", path, max);
	else
		*ret = asya_arena_str(arena, asya_buf_view(&b));
	asya_buf_fini(&b);
	return n < 0 ? -1 : 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	(void)remove(path);
	return 0;
}

void cli_remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

enum { PROGRESS_MS = 100, BAR = 30 };

void progress_show(struct progress *p, const char *what, uint64_t done, uint64_t total)
{
	int64_t now = asya_clock_mono_ms();
	int filled = total ? (int)(done * BAR / total) : 0;

	if (now < p->next_ms || !isatty(STDERR_FILENO))
		return;
	p->next_ms = now + PROGRESS_MS;
	p->shown = true;
	fprintf(stderr, "\r%s [%.*s%.*s] %llu/%llu\033[K", what, filled,
		"##############################", BAR - filled, "..............................",
		(unsigned long long)done, (unsigned long long)total);
}

void progress_clear(struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}
