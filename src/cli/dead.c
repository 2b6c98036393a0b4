// SPDX-License-Identifier: Apache-2.0
/* asya dead: what is among dead letters, and why; redriving them is redrive.c's. */
#include "cli/commands.h"
#include "cli/dead.h"
#include "cli/hops.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/suggest.h"

#include <stdio.h>
#include <unistd.h>

enum {
	ACTORS_MAX = 4096,
	GROUPS_MAX = 200,
	CAUSE_MAX = 300,
	LIST_LIMIT = 10000,
	SHOW_LIMIT = 5,
	LIMIT_MAX = 1000000000,
};

struct actors {
	struct asya_arena *arena;
	struct asya_str *names; /* those that have dead letters */
	size_t n;
};

static void add_actor(void *user, struct asya_str actor, const struct asya_depth *depth,
		      int64_t done, int64_t failed)
{
	struct actors *a = user;

	(void)done;
	(void)failed;
	if (depth->dead > 0 && a->n < ACTORS_MAX)
		a->names[a->n++] = asya_arena_str(a->arena, actor);
}

/* The one that is named, or all that have dead letters. */
static int find_actors(struct actors *ret, struct client *c, const char *name)
{
	struct asya_error err;

	*ret = (struct actors){c->cli->arena,
			       asya_arena_array(c->cli->arena, struct asya_str, ACTORS_MAX), 0};
	if (name) {
		ret->names[ret->n++] = asya_str_c(name);
		return look_actor(c, name);
	}
	if (!c->transport->ops->queues)
		return cli_fail(CLI_USAGE,
				"the transport %s cannot list its queues: name the actor",
				c->transport->ops->name);
	if (c->transport->ops->queues(c->transport, add_actor, ret, &err))
		return cli_fail(CLI_TROUBLE, "%s", err.text);
	return CLI_OK;
}

/* Whether all were looked at; says so if not. An error is CLI_TROUBLE. */
static int say_end(const struct letters *l, uint64_t limit)
{
	int actor_n = (int)l->consumer.actor.n;

	if (*l->error.text)
		return cli_fail(CLI_TROUBLE, "dead letters of %.*s: %s", actor_n,
				l->consumer.actor.p, l->error.text);
	if (l->full)
		cli_fail(0,
			 "%.*s: only the first %llu of %llu were looked at, more than %zu MiB "
			 "cannot be held at a time",
			 actor_n, l->consumer.actor.p, (unsigned long long)l->seen,
			 (unsigned long long)l->total, LETTERS_HELD_BYTES >> 20);
	else if (l->seen < l->total && !l->interrupted)
		cli_fail(0, "%.*s: %llu of %llu were looked at%s", actor_n, l->consumer.actor.p,
			 (unsigned long long)l->seen, (unsigned long long)l->total,
			 l->seen >= limit ? ", as --limit says"
					  : "; somebody else works on the others");
	return CLI_OK;
}

/* ---- list ---- */

struct group {
	struct asya_str cause, example, type, code, message;
	uint64_t n;
	int64_t oldest_us, newest_us;
};

struct groups {
	struct asya_arena *arena;
	struct asya_str actor;
	struct group items[GROUPS_MAX];
	size_t n;
};

static struct asya_str cut(struct asya_arena *arena, struct asya_str s)
{
	s.n = s.n > CAUSE_MAX ? CAUSE_MAX : s.n;
	return asya_arena_str(arena, s);
}

/* When the table is full, the last one takes the rest. */
static struct group *group_of(struct groups *g, const struct letter *l)
{
	struct asya_str cause = cut(g->arena, l->cause);
	struct group *new;

	for (size_t i = 0; i < g->n; i++)
		if (asya_str_eq(g->items[i].cause, cause))
			return &g->items[i];
	if (g->n == GROUPS_MAX) {
		g->items[GROUPS_MAX - 1].cause = ASYA_STR("other causes");
		return &g->items[GROUPS_MAX - 1];
	}
	new = &g->items[g->n++];
	*new = (struct group){.cause = cause,
			      .example = asya_arena_str(g->arena, l->id),
			      .type = cut(g->arena, l->failure.type),
			      .code = cut(g->arena, l->failure.code),
			      .message = cut(g->arena, l->failure.message)};
	return new;
}

static void add_letter(struct groups *groups, const struct asya_delivery *d)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct letter l;
	struct group *g;

	letter_read(&l, arena, d->body);
	g = group_of(groups, &l);
	g->n++;
	if (!d->queued_us)
		return;
	if (!g->oldest_us || d->queued_us < g->oldest_us)
		g->oldest_us = d->queued_us;
	if (d->queued_us > g->newest_us)
		g->newest_us = d->queued_us;
}

static void write_group(struct asya_buf *b, struct asya_str actor, const struct group *g)
{
	asya_buf_c(b, "{\"actor\":");
	asya_buf_json(b, actor);
	look_json_str(b, "cause", g->cause);
	look_json_str(b, "type", g->type);
	look_json_str(b, "code", g->code);
	asya_buf_printf(b, ",\"count\":%llu", (unsigned long long)g->n);
	look_json_time(b, "oldest", g->oldest_us);
	look_json_time(b, "newest", g->newest_us);
	look_json_str(b, "example", g->example);
	asya_buf_c(b, "}\n");
}

static const char *age(char out[LOOK_TIME], int64_t us)
{
	return us ? look_duration(out, asya_clock_wall_us() - us) : "-";
}

static void print_groups(const struct groups *g, bool json)
{
	char oldest[LOOK_TIME], newest[LOOK_TIME];
	struct asya_buf b = {0};

	for (size_t i = 0; i < g->n; i++) {
		const struct group *of = &g->items[i];

		if (json)
			write_group(&b, g->actor, of);
		else
			asya_buf_printf(&b, "%-20.*s %8llu %10s %10s  %-40s  %s\n",
					ASYA_STR_ARG(g->actor), (unsigned long long)of->n,
					age(oldest, of->oldest_us), age(newest, of->newest_us),
					look_shown(g->arena, of->cause, 100),
					look_shown(g->arena, of->example, ASYA_ID_MAX));
	}
	look_print(&b);
	asya_buf_fini(&b);
}

static int list_actor(struct client *c, struct asya_str actor, uint64_t limit, uint64_t *found)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct groups *groups = asya_arena_new0(arena, struct groups);
	struct asya_delivery *d;
	struct letters l;
	int code = letters_open(&l, c, actor);

	if (code)
		return code;
	groups->arena = arena;
	groups->actor = actor;
	while (l.seen < limit && (d = letters_next(&l))) {
		add_letter(groups, d);
		letters_hold(&l, d);
	}
	letters_close(&l);
	if (l.interrupted)
		return CLI_FAILED;
	if (groups->n && !*found && !cli_has(c->cli, "json"))
		printf("%-20s %8s %10s %10s  %-40s  %s\n", "ACTOR", "COUNT", "OLDEST", "NEWEST",
		       "CAUSE", "EXAMPLE");
	*found += l.seen;
	print_groups(groups, cli_has(c->cli, "json"));
	return say_end(&l, limit);
}

static int list(struct client *c, const struct dead_words *w)
{
	uint64_t found = 0, limit = w->limit ? (uint64_t)w->limit : LIST_LIMIT;
	struct actors actors;
	int code = find_actors(&actors, c, w->actor);

	for (size_t i = 0; i < actors.n && !code && !look_broken(); i++)
		code = list_actor(c, actors.names[i], limit, &found);
	if (!code && !found && !cli_has(c->cli, "json"))
		printf(w->actor ? "%s has no dead letters\n" : "there are no dead letters\n",
		       w->actor);
	return code;
}

/* ---- show ---- */

struct reason {
	struct asya_arena *arena;
	struct asya_str actor, detail;
};

static void find_reason(void *user, const struct asya_hop_row *row)
{
	struct reason *r = user;

	if (asya_str_eq_c(row->hop.outcome, "dead") && asya_str_eq(row->actor, r->actor))
		r->detail = asya_arena_str(r->arena, row->hop.detail);
}

/* Of a message that does not say itself why it is here, the history may. */
static struct asya_str why(struct client *c, struct asya_arena *arena, struct asya_str actor,
			   const struct letter *l)
{
	struct reason r = {arena, actor, ASYA_STR_NONE};
	struct asya_error ignored;

	if (!l->is_envelope || l->failure.code.p || !c->transport->ops->history)
		return l->cause;
	(void)c->transport->ops->history(c->transport, l->id, false, find_reason, &r, &ignored);
	return r.detail.n ? r.detail : l->cause;
}

static void write_body(struct asya_buf *b, struct asya_str body, bool is_envelope)
{
	if (is_envelope) {
		asya_buf_c(b, ",\"envelope\":");
		look_json_line(b, body);
	} else if (asya_utf8_valid(body.p, body.n)) {
		look_json_str(b, "text", body);
	} else {
		asya_buf_c(b, ",\"base64\":\"");
		asya_buf_base64(b, body);
		asya_buf_char(b, '"');
	}
}

static void show_json(const struct letter *l, struct asya_str actor, struct asya_str cause,
		      const struct asya_delivery *d)
{
	struct asya_buf b = {0};

	asya_buf_c(&b, "{\"actor\":");
	asya_buf_json(&b, actor);
	look_json_str(&b, "id", l->id);
	look_json_str(&b, "cause", cause);
	look_json_str(&b, "message", l->failure.message);
	look_json_time(&b, "queued", d->queued_us);
	write_body(&b, d->body, l->is_envelope);
	asya_buf_c(&b, "}\n");
	look_print(&b);
	asya_buf_fini(&b);
}

/* The message alone on standard output, byte for byte where that is no terminal. */
static void show_text(struct asya_arena *arena, const struct letter *l, struct asya_str actor,
		      struct asya_str cause, const struct asya_delivery *d)
{
	struct asya_buf b = {0};
	char ago[LOOK_TIME];

	fprintf(stderr, "%s%.*s  %s  queued %s ago  %s%s%s\n", isatty(STDERR_FILENO) ? "\n" : "",
		ASYA_STR_ARG(actor), look_shown(arena, l->id, ASYA_ID_MAX), age(ago, d->queued_us),
		look_shown(arena, cause, CAUSE_MAX), l->failure.message.n ? ": " : "",
		look_shown(arena, l->failure.message, CAUSE_MAX));
	if (l->is_envelope || !isatty(STDOUT_FILENO))
		asya_buf_str(&b, d->body);
	else
		asya_buf_c(&b, look_shown(arena, d->body, d->body.n));
	asya_buf_char(&b, '\n');
	look_print(&b);
	fflush(stdout);
	asya_buf_fini(&b);
}

/* Whether it was to be shown. */
static bool show_letter(struct client *c, const struct dead_words *w, struct asya_str actor,
			const struct asya_delivery *d)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct asya_str cause;
	struct letter l;

	letter_read(&l, arena, d->body);
	if ((w->id && !asya_str_eq_c(l.id, w->id)) ||
	    (w->type && !letter_is_type(&l, asya_str_c(w->type))))
		return false;
	cause = why(c, arena, actor, &l);
	if (cli_has(c->cli, "json"))
		show_json(&l, actor, cause, d);
	else
		show_text(arena, &l, actor, cause, d);
	return true;
}

static int show_actor(struct client *c, const struct dead_words *w, struct asya_str actor,
		      uint64_t *shown)
{
	uint64_t limit = w->limit ? (uint64_t)w->limit : w->id ? 1 : SHOW_LIMIT;
	struct asya_delivery *d;
	struct letters l;
	int code = letters_open(&l, c, actor);

	if (code)
		return code;
	while (*shown < limit && !look_broken() && (d = letters_next(&l))) {
		*shown += show_letter(c, w, actor, d);
		letters_hold(&l, d);
	}
	letters_close(&l);
	if (l.interrupted)
		return CLI_FAILED;
	return *shown < limit ? say_end(&l, UINT64_MAX) : CLI_OK;
}

static int show(struct client *c, const struct dead_words *w)
{
	struct actors actors;
	uint64_t shown = 0;
	int code = find_actors(&actors, c, w->actor);

	for (size_t i = 0; i < actors.n && !code; i++)
		code = show_actor(c, w, actors.names[i], &shown);
	if (code || shown)
		return code;
	if (w->id)
		return cli_fail(CLI_NOT_FOUND, "'%s' is not among the dead letters%s%s", w->id,
				w->actor ? " of " : "", w->actor ? w->actor : "");
	return cli_fail(CLI_NOT_FOUND, "%s has no such dead letters", w->actor);
}

/* ---- words ---- */

static int read_rate(const char *text, double *ret)
{
	char *end = NULL;

	*ret = text ? strtod(text, &end) : 0;
	if (!text)
		return CLI_OK;
	if (end == text || (*end && strcmp(end, "/s") != 0) || !(*ret >= 0.001 && *ret <= 1e6))
		return cli_fail(CLI_USAGE,
				"--rate is '%s', it must be so many a second: 20/s, or 0.5/s",
				text);
	return CLI_OK;
}

static int not_for(const struct cli *cli, const char *verb, const char *const *names)
{
	for (; *names; names++)
		if (cli_has(cli, *names))
			return cli_fail(CLI_USAGE, "--%s is not for `dead %s`", *names, verb);
	return CLI_OK;
}

static int read_words(struct dead_words *w, const struct cli *cli, const char *verb)
{
	static const char *const redrive_only[] = {"rate", "to", NULL};
	static const char *const list_not[] = {"id", "type", "rate", "to", NULL};
	const char *argument = cli->n_args > 1 ? cli->args[1] : NULL;
	bool showing = strcmp(verb, "show") == 0;
	long long limit = 0;

	*w = (struct dead_words){.id = cli_get(cli, "id"),
				 .type = cli_get(cli, "type"),
				 .to = cli_get(cli, "to"),
				 .actor = cli_get(cli, "actor")};
	if (showing && argument && w->id)
		return cli_fail(CLI_USAGE, "dead show takes one id");
	if (!showing && argument && w->actor)
		return cli_fail(CLI_USAGE, "dead %s takes one actor", verb);
	if (argument)
		*(showing ? &w->id : &w->actor) = argument;
	if (strcmp(verb, "list") == 0 && not_for(cli, verb, list_not))
		return CLI_USAGE;
	if (showing && not_for(cli, verb, redrive_only))
		return CLI_USAGE;
	if (showing && !w->id && !w->actor)
		return cli_fail(CLI_USAGE,
				"dead show needs an ID, or --actor: asya dead show --actor infer");
	if (strcmp(verb, "redrive") == 0 && !w->actor)
		return cli_fail(CLI_USAGE, "dead redrive needs the actor: asya dead redrive infer");
	if (cli_number(cli, "limit", 1, LIMIT_MAX, &limit) < 0)
		return CLI_USAGE;
	w->limit = limit;
	return read_rate(cli_get(cli, "rate"), &w->rate);
}

static const struct {
	const char *name;
	int (*run)(struct client *c, const struct dead_words *w);
} verbs[] = {{"list", list}, {"show", show}, {"redrive", dead_redrive}};

static int unknown_verb(const char *verb)
{
	const struct asya_str names[] = {ASYA_STR("list"), ASYA_STR("show"), ASYA_STR("redrive")};
	int near = asya_suggest(asya_str_c(verb), names, ASYA_ARRAY_SIZE(names));

	return near >= 0 ? cli_fail(CLI_USAGE, "there is no `dead %s`; did you mean %s?", verb,
				    names[near].p)
			 : cli_fail(CLI_USAGE, "there is no `dead %s`; it is list, show or redrive",
				    verb);
}

static int run(struct cli *cli)
{
	struct dead_words w;
	struct client c;
	size_t verb = 0;
	int code;

	while (verb < ASYA_ARRAY_SIZE(verbs) && strcmp(verbs[verb].name, cli->args[0]) != 0)
		verb++;
	if (verb == ASYA_ARRAY_SIZE(verbs))
		return unknown_verb(cli->args[0]);
	code = read_words(&w, cli, verbs[verb].name);
	if (code || (code = look_open(&c, cli)))
		return code;
	code = verbs[verb].run(&c, &w);
	client_close(&c);
	return code;
}

static const struct cli_option options[] = {
	{"actor", 'a', "ACTOR", "Whose dead letters [show: every actor's].", "actor"},
	{"limit", 'n', "N", "At most so many [list: 10000, show: 5, redrive: all].", NULL},
	{"id", 0, "ID", "show, redrive: only the message with this id.", NULL},
	{"type", 0, "TYPE", "show, redrive: only those of this error type, code or cause.", NULL},
	{"rate", 0, "N/s", "redrive: at most so many a second.", NULL},
	{"to", 0, "ACTOR", "redrive: into the queue of this actor; the route stays as it is.",
	 "actor"},
};

const struct cli_command command_dead = {
	.name = "dead",
	.arguments = "list [ACTOR] | show ID | redrive ACTOR",
	.summary = "list, show and redrive dead letters",
	.text = "list groups them by what went wrong; OLDEST and NEWEST are how long they have "
		"waited. show prints\n"
		"whole messages (with --actor instead of an id: its first ones). redrive puts them "
		"into the actor's\n"
		"queue again, to be tried from the first attempt on; each leaves the dead letters "
		"in the same step, so\n"
		"that it may be interrupted at any time. While they are looked at, nobody else can "
		"take them.\n\n"
		"  asya dead list\n"
		"  asya dead show 5f1c2a52-... | jq .payload\n"
		"  asya dead show --actor infer -n 3 --json\n"
		"  asya dead redrive infer --type TimeoutError --rate 20/s",
	.options = options,
	.n_options = ASYA_ARRAY_SIZE(options),
	.min_args = 1,
	.max_args = 2,
	.complete = {"list show redrive", "actor"},
	.run = run,
};
