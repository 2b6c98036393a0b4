// SPDX-License-Identifier: Apache-2.0
#include "cli/look.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/json_scan.h"
#include "core/json_value.h"
#include "core/suggest.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { DEPTH = 1000 };

int look_open(struct client *c, const struct cli *cli)
{
	const char *name = cli_get(cli, "transport");
	_cleanup_(asya_freep) char *path = asya_asprintf("%s/queue.db", cli_dir(cli));

	name = name ? name : getenv("ASYA_TRANSPORT");
	if ((!name || !*name || strcmp(name, "local") == 0) && access(path, F_OK) &&
	    (errno == ENOENT || errno == ENOTDIR))
		return cli_fail(CLI_NOT_FOUND,
				"there are no queues in '%s' (no queue.db): --dir or "
				"ASYA_LOCAL_DIR names their directory",
				cli_dir(cli));
	return client_open(c, cli);
}

/* ---- actors ---- */

enum { NAMES_MAX = 4096, NAMES_SHOWN = 20 };

struct names {
	struct asya_arena *arena;
	struct asya_str *names;
	size_t n;
};

static void add_name(void *user, struct asya_str actor, const struct asya_depth *depth,
		     int64_t done, int64_t failed)
{
	struct names *list = user;

	(void)depth;
	(void)done;
	(void)failed;
	if (list->n < NAMES_MAX)
		list->names[list->n++] = asya_arena_str(list->arena, actor);
}

static int no_such(const struct names *list, const char *actor)
{
	int near = asya_suggest(asya_str_c(actor), list->names, list->n);
	struct asya_buf b = {0};

	for (size_t i = 0; i < list->n && i < NAMES_SHOWN; i++)
		asya_buf_printf(&b, "%s%.*s", i ? ", " : "", ASYA_STR_ARG(list->names[i]));
	if (near >= 0)
		cli_fail(0, "there is no queue '%s'; did you mean %s?", actor, list->names[near].p);
	else
		cli_fail(0, "there is no queue '%s'; there are: %.*s%s", actor,
			 list->n ? (int)b.n : 4, list->n ? b.p : "none",
			 list->n > NAMES_SHOWN ? ", ..." : "");
	asya_buf_fini(&b);
	return CLI_NOT_FOUND;
}

int look_actor(struct client *c, const char *actor)
{
	struct names list = {c->cli->arena,
			     asya_arena_array(c->cli->arena, struct asya_str, NAMES_MAX), 0};
	struct asya_error err;

	if (!c->transport->ops->queues)
		return CLI_OK;
	if (c->transport->ops->queues(c->transport, add_name, &list, &err))
		return cli_fail(CLI_TROUBLE, "%s", err.text);
	for (size_t i = 0; i < list.n; i++)
		if (asya_str_eq_c(list.names[i], actor))
			return CLI_OK;
	return list.n == NAMES_MAX ? CLI_OK : no_such(&list, actor);
}

/* ---- showing ---- */

const char *look_shown(struct asya_arena *arena, struct asya_str text, size_t max)
{
	struct asya_buf b = {0};
	size_t n = text.n > max ? max : text.n;
	const char *out;

	while (n && n < text.n && ((unsigned char)text.p[n] & 0xc0) == 0x80)
		n--;
	asya_buf_json(&b, (struct asya_str){text.p ? text.p : "", n});
	for (size_t i = 1; i < b.n; i++) {
		bool control = (unsigned char)b.p[i - 1] == 0xc2 && (unsigned char)b.p[i] < 0xa0;

		if (control)
			b.p[i - 1] = '?';
		if (control || b.p[i] == 0x7f)
			b.p[i] = '?';
	}
	b.n--; /* the quotes are not wanted */
	if (n < text.n)
		asya_buf_c(&b, "...");
	out = asya_arena_cstr(arena, (struct asya_str){b.p + 1, b.n - 1});
	asya_buf_fini(&b);
	return out;
}

const char *look_duration(char out[LOOK_TIME], int64_t us)
{
	char text[ASYA_TIME_TEXT];

	if (us < 0)
		return strcpy(out, "-");
	if (us < 1000)
		snprintf(out, LOOK_TIME, "%lld us", (long long)us);
	else if (us < 1000000)
		snprintf(out, LOOK_TIME, "%.3g ms", (double)us / 1000);
	else if (us < 60000000)
		snprintf(out, LOOK_TIME, "%.3g s", (double)us / 1000000);
	else
		snprintf(out, LOOK_TIME, "%s",
			 asya_duration_write(text, us / 1000000 * 1000000000));
	return out;
}

void look_json_str(struct asya_buf *b, const char *key, struct asya_str value)
{
	if (!value.p)
		return;
	asya_buf_printf(b, ",\"%s\":", key);
	asya_buf_json(b, value);
}

void look_json_time(struct asya_buf *b, const char *key, int64_t us)
{
	char text[ASYA_TIME_TEXT];

	if (us)
		look_json_str(b, key, asya_str_c(asya_time_write(text, us)));
}

void look_json_line(struct asya_buf *b, struct asya_str raw)
{
	size_t begin = b->n;

	asya_buf_str(b, raw);
	for (size_t i = begin; i < b->n; i++)
		if (b->p[i] == '\n' || b->p[i] == '\r')
			b->p[i] = ' ';
}

void look_print(struct asya_buf *b)
{
	fwrite(b->p ? b->p : "", 1, b->n, stdout);
	b->n = 0;
}

bool look_broken(void)
{
	return ferror(stdout) != 0;
}

bool look_pretty(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && (!no || !*no) && term && strcmp(term, "dumb") != 0;
}

/* ---- error envelopes ---- */

struct members {
	struct asya_str error, details, original, message, type;
};

static int member(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	struct members *all = user;
	const struct {
		const char *name;
		struct asya_str *slot;
	} known[] = {{"error", &all->error},
		     {"details", &all->details},
		     {"original_payload", &all->original},
		     {"original_payload_ref", &all->original},
		     {"message", &all->message},
		     {"type", &all->type}};

	(void)err;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(known); i++)
		if (asya_str_eq_c(m->key, known[i].name))
			*known[i].slot = m->value;
	return 0;
}

static struct asya_str text_of(struct asya_arena *arena, struct asya_str raw)
{
	struct asya_str s = ASYA_STR_NONE;

	return asya_json_is_string(raw) && asya_json_string(&s, arena, raw) == 0 && s.n
		       ? s
		       : ASYA_STR_NONE;
}

bool look_failure_read(struct look_failure *ret, struct asya_arena *arena, struct asya_str payload)
{
	struct members all = {0}, inner = {0};
	struct asya_error ignored;

	if (!payload.n || payload.p[0] != '{' ||
	    asya_json_members(payload, DEPTH, member, &all, &ignored) ||
	    !asya_json_is_string(all.error) || !all.original.p)
		return false;
	if (all.details.n && all.details.p[0] == '{')
		(void)asya_json_members(all.details, DEPTH, member, &inner, &ignored);
	*ret = (struct look_failure){.code = text_of(arena, all.error),
				     .type = text_of(arena, inner.type),
				     .message = text_of(arena, inner.message)};
	return true;
}
