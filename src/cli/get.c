// SPDX-License-Identifier: Apache-2.0
/* asya get: the envelope that an end actor has kept. */
#include "cli/commands.h"
#include "cli/hops.h"
#include "cli/look.h"

#include "base/clock.h"
#include "base/mem.h"
#include "store/file/file.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

static const size_t kept_max = (size_t)1 << 30;

struct kept {
	struct asya_str path;
	struct asya_str body;
	struct asya_envelope env;
	bool failed; /* at error-end */
};

struct getting {
	struct cli *cli;
	struct client client;
	uint64_t printed, failed, missing;
};

static const struct {
	const char *prefix;
	bool failed;
} places[] = {{"happy-asya/", false}, {"error-asya/", true}};

/* The newest below both prefixes. 1: none. */
static int find(struct kept *ret, struct getting *g, struct asya_arena *arena, struct asya_str id,
		struct asya_error *err)
{
	const char *root = asya_arena_printf(arena, "%s/results", cli_dir(g->cli)).p;
	struct asya_file_found best = {0};

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(places); i++) {
		struct asya_file_found found;
		int status = asya_file_find(&found, arena, root, asya_str_c(places[i].prefix), id,
					    kept_max, err);

		if (status < 0)
			return -1;
		if (status || (best.path.p && best.time_us > found.time_us))
			continue;
		best = found;
		ret->failed = places[i].failed;
	}
	ret->path = best.path;
	ret->body = best.body;
	return best.path.p ? 0 : 1;
}

/* Where the final hop says. 1: it does not say, or nothing is there any more. */
static int read_kept(struct kept *ret, struct getting *g, struct asya_arena *arena,
		     const struct hop *last, struct asya_error *err)
{
	struct stat st;

	if (!last->detail.n)
		return 1;
	ret->path = asya_arena_printf(arena, "%s/results/%.*s", cli_dir(g->cli),
				      ASYA_STR_ARG(last->detail));
	ret->failed = hop_state(last) == HOP_FAILED;
	if (stat(ret->path.p, &st) && (errno == ENOENT || errno == ENOTDIR))
		return 1;
	return cli_read_file(&ret->body, arena, ret->path.p, kept_max, err);
}

static void print_json(const struct kept *k, const struct hop *last)
{
	struct asya_buf b = {0};

	asya_buf_c(&b, "{\"id\":");
	asya_buf_json(&b, k->env.id);
	asya_buf_printf(&b, ",\"failed\":%s", k->failed ? "true" : "false");
	if (last) {
		look_json_str(&b, "actor", last->actor);
		look_json_time(&b, "ended", last->settled_us);
	}
	look_json_str(&b, "file", k->path);
	asya_buf_c(&b, ",\"envelope\":");
	look_json_line(&b, k->body);
	asya_buf_c(&b, "}\n");
	look_print(&b);
	asya_buf_fini(&b);
}

static void print_raw(struct asya_str raw, bool line)
{
	struct asya_buf b = {0};

	if (line)
		look_json_line(&b, raw);
	else
		asya_buf_str(&b, raw);
	if (!b.n || b.p[b.n - 1] != '\n')
		asya_buf_char(&b, '\n');
	look_print(&b);
	asya_buf_fini(&b);
}

/* `ID ended at error-end: ValueError: no such file (processing_error)` */
static void say_failure(struct asya_arena *arena, const struct kept *k)
{
	struct look_failure f;

	if (!look_failure_read(&f, arena, k->env.payload)) {
		cli_fail(0, "%s ended at error-end", look_shown(arena, k->env.id, ASYA_ID_MAX));
		return;
	}
	cli_fail(0, "%s ended at error-end: %s%s%s (%s)", look_shown(arena, k->env.id, ASYA_ID_MAX),
		 look_shown(arena, f.type, 100), f.type.n && f.message.n ? ": " : "",
		 look_shown(arena, f.message, 500), look_shown(arena, f.code, 100));
}

/* CLI_OK, or CLI_TROUBLE with a message. */
static int print_kept(struct getting *g, struct asya_arena *arena, struct kept *k,
		      const struct hop *last, bool line)
{
	struct asya_limits limits = {kept_max, 10000, 1000000, 1000000, kept_max};
	struct asya_error err;

	if (asya_envelope_parse(&k->env, arena, k->body, &limits, &err))
		return cli_fail(CLI_TROUBLE, "'%s' is no envelope: %s", k->path.p, err.text);
	if (cli_has(g->cli, "payload"))
		print_raw(k->env.payload.p ? k->env.payload : k->env.payload_ref, line);
	else if (cli_has(g->cli, "json"))
		print_json(k, last);
	else
		print_raw(k->body, line);
	g->printed++;
	g->failed += k->failed;
	if (k->failed)
		say_failure(arena, k);
	return CLI_OK;
}

/* ---- one ---- */

static int say_state(struct getting *g, const char *id, const struct hop *last)
{
	char ago[LOOK_TIME];
	const char *actor, *outcome;

	if (!last)
		return cli_fail(CLI_NOT_FOUND,
				"nothing is known of '%s': no end actor has kept it, and no actor "
				"has had it yet",
				id);
	actor = look_shown(g->cli->arena, last->actor, 64);
	outcome = look_shown(g->cli->arena, last->outcome, 64);
	look_duration(ago, asya_clock_wall_us() - last->settled_us);
	switch (hop_state(last)) {
	case HOP_DEAD:
		return cli_fail(CLI_NOT_FOUND,
				"'%s' is among the dead letters of %s (%s); `asya dead show '%s'` "
				"shows it",
				id, actor, look_shown(g->cli->arena, last->detail, 100), id);
	case HOP_KEPT:
	case HOP_FAILED:
		return cli_fail(CLI_NOT_FOUND,
				"'%s' ended at %s %s ago, but what it kept ('%s') is not in "
				"'%s/results'",
				id, actor, ago, look_shown(g->cli->arena, last->detail, 1000),
				cli_dir(g->cli));
	default:
		break;
	}
	if (!last->actor.n)
		return cli_fail(CLI_NOT_FOUND,
				"'%s' is under way: it was sent %s ago, and no actor is done with "
				"it yet",
				id, ago);
	return cli_fail(CLI_NOT_FOUND,
			"'%s' is under way: last it was at %s (%s, %s ago); `asya trace '%s'` "
			"tells more",
			id, actor, outcome, ago, id);
}

static int get_one(struct getting *g, const char *id)
{
	struct hops hops = {.arena = g->cli->arena};
	const struct hop *last;
	struct kept k = {0};
	struct asya_error err;
	int status, code;

	if (hops_read(&hops, &g->client, asya_str_c(id), false, ASYA_STR_NONE, &err))
		return cli_fail(CLI_TROUBLE, "%s", err.text);
	last = hops.n ? &hops.items[hops.n - 1] : NULL;
	if (last && hop_state(last) == HOP_UNDER_WAY)
		return say_state(g, id, last);
	status = last ? read_kept(&k, g, hops.arena, last, &err) : 1;
	if (status == 1)
		status = find(&k, g, hops.arena, asya_str_c(id), &err);
	if (status < 0)
		return cli_fail(CLI_TROUBLE, "%s", err.text);
	if (status)
		return say_state(g, id, last);
	code = print_kept(g, hops.arena, &k, last, false);
	return code ? code : g->failed ? CLI_FAILED : CLI_OK;
}

/* ---- all below it ---- */

static int get_each(struct getting *g, const struct hops *hops)
{
	int code = CLI_OK;

	for (size_t i = 0; i < hops->n && !code && !look_broken(); i++) {
		_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
		enum hop_state state = hop_state(&hops->items[i]);
		struct kept k = {0};
		struct asya_error err;
		int status;

		if (state != HOP_KEPT && state != HOP_FAILED) {
			g->failed += state == HOP_DEAD;
			continue;
		}
		status = read_kept(&k, g, arena, &hops->items[i], &err);
		if (status < 0)
			return cli_fail(CLI_TROUBLE, "%s", err.text);
		g->missing += status == 1;
		if (!status)
			code = print_kept(g, arena, &k, &hops->items[i], true);
	}
	return code;
}

static int get_all(struct getting *g, const char *id)
{
	struct hops hops = {.arena = g->cli->arena};
	struct asya_str name = asya_str_c(id);
	struct asya_error err;
	int64_t live = 0;
	int code;

	if (!g->client.transport->ops->history)
		return cli_fail(CLI_USAGE, "--all: the transport %s keeps no history",
				g->client.transport->ops->name);
	if (hops_read(&hops, &g->client, name, false, ASYA_STR_NONE, &err) ||
	    hops_read(&hops, &g->client, name, true, name, &err) ||
	    (g->client.transport->ops->live &&
	     g->client.transport->ops->live(g->client.transport, name, &live, &err)))
		return cli_fail(CLI_TROUBLE, "%s", err.text);
	if (!hops.n)
		return say_state(g, id, NULL);
	code = get_each(g, &hops);
	if (code)
		return code;
	if (hops.more)
		cli_fail(0, "only the first %d records of its history were looked at", HOPS_MAX);
	if (live > 0)
		cli_fail(0, "%lld messages below it are still under way", (long long)live);
	if (g->missing)
		cli_fail(0, "%llu that have ended are not in '%s/results'",
			 (unsigned long long)g->missing, cli_dir(g->cli));
	if (!g->printed)
		return say_state(g, id, &hops.items[hops.n - 1]);
	return g->failed ? CLI_FAILED : CLI_OK;
}

static int run(struct cli *cli)
{
	struct getting g = {.cli = cli};
	int code = look_open(&g.client, cli);

	if (code)
		return code;
	code = cli_has(cli, "all") ? get_all(&g, cli->args[0]) : get_one(&g, cli->args[0]);
	client_close(&g.client);
	return code;
}

static const struct cli_option options[] = {
	{"payload", 'p', NULL, "Only the payload.", NULL},
	{"all", 'a', NULL, "Every kept envelope of the id and of all that came of it, one a line.",
	 NULL},
};

const struct cli_command command_get = {
	.name = "get",
	.arguments = "ID",
	.summary = "print the envelope that an end actor has kept",
	.text = "Prints the envelope with that id as happy-end or error-end has kept it. Exits 1 "
		"if "
		"it ended at\n"
		"error-end (the error is on standard error), 3 if it is under way or unknown.\n\n"
		"  asya get 5f1c2a52-...\n"
		"  asya get 5f1c2a52-... --payload | jq .answer\n"
		"  asya get 5f1c2a52-... --all --payload > results.jsonl",
	.options = options,
	.n_options = ASYA_ARRAY_SIZE(options),
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
