// SPDX-License-Identifier: Apache-2.0
/* asya send: puts envelopes into the queue of the first actor of their route, and waits for what
 * becomes of them if asked to. */
#include "cli/commands.h"
#include "cli/results.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/json_scan.h"
#include "core/route.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { BATCH = 200, LIVE_MS = 40, DEPTH = 512 };

static const size_t payload_max = (size_t)1 << 30;

struct sending {
	struct cli *cli;
	struct client client;
	struct asya_route route;
	struct asya_str headers; /* raw object */
	struct asya_str deadline;
	struct asya_str payload; /* of the one message */
	struct asya_str root;    /* no value: nobody waits */
	struct progress progress;
	uint64_t sent, total;

	/* the batch */
	struct asya_arena *arena;
	struct asya_post posts[BATCH];
	struct asya_str ids[BATCH];
	size_t n;
};

static int read_route(struct sending *s, const char *text)
{
	size_t n = 1;

	for (const char *p = text; *p; p++)
		n += *p == ',';
	s->route.actors = asya_arena_array(s->cli->arena, struct asya_str, n);
	for (const char *p = text;; p++) {
		struct asya_str name = {p, strcspn(p, ",")};

		if (!asya_actor_name_valid(name))
			return cli_fail(CLI_USAGE,
					"--route has '%.*s': an actor's name is a DNS label (a-z, "
					"0-9, '-') that does "
					"not end in '-dlq'",
					ASYA_STR_ARG(name));
		s->route.actors[s->route.n++] = name;
		p += name.n;
		if (!*p)
			return 0;
	}
}

static int read_deadline(struct sending *s)
{
	const char *text = cli_get(s->cli, "deadline");
	char room[ASYA_TIME_TEXT];
	int64_t ns, us;

	if (!text)
		return 0;
	if (asya_duration_parse(&ns, asya_str_c(text)) == 0)
		us = asya_clock_wall_us() + ns / 1000;
	else if (asya_time_parse(&us, asya_str_c(text)))
		return cli_fail(
			CLI_USAGE,
			"--deadline is '%s', it must be a duration such as 10m, or a time such as "
			"2026-11-24T10:00:00Z",
			text);
	s->deadline = asya_arena_printf(s->cli->arena, "\"%s\"", asya_time_write(room, us));
	return 0;
}

static int read_headers(struct sending *s)
{
	const char *text = cli_get(s->cli, "headers");
	struct asya_buf b = {0};
	struct asya_error err;

	s->headers = text ? asya_str_c(text) : ASYA_STR_NONE;
	if (text && (*text != '{' || asya_json_check(s->headers, DEPTH, &err)))
		return cli_fail(CLI_USAGE,
				"--headers must be a JSON object such as '{\"tenant\":\"a\"}'");
	if (!s->root.p)
		return 0;
	asya_headers_set(&b, s->headers, ASYA_HEADER_ROOT, s->root);
	s->headers = asya_arena_str(s->cli->arena, asya_buf_view(&b));
	asya_buf_fini(&b);
	return 0;
}

static int flush(struct sending *s)
{
	struct asya_hop hop = {.id = s->root.p ? s->root : ASYA_STR("?"),
			       .root = s->root,
			       .outcome = ASYA_STR("sent"),
			       .received_us = asya_clock_wall_us(),
			       .settled_us = asya_clock_wall_us(),
			       .attempt = 1,
			       .live = (int)s->n};
	struct asya_settle op = {
		.posts = s->posts, .n_posts = s->n, .hop = s->root.p ? &hop : NULL};
	struct asya_error err;

	if (!s->n)
		return 0;
	if (client_settle(&s->client, &op, &err) != ASYA_SETTLED)
		return cli_fail(CLI_TROUBLE, "sending: %s", err.text);
	for (size_t i = 0; i < s->n && !s->root.p; i++)
		printf(cli_has(s->cli, "json") ? "{\"id\":\"%.*s\"}\n" : "%.*s\n",
		       ASYA_STR_ARG(s->ids[i]));
	s->sent += s->n;
	s->n = 0;
	s->arena = asya_arena_free(s->arena);
	progress_show(&s->progress, "sending", s->sent, s->total ? s->total : s->sent);
	return 0;
}

/* Queues one payload; `payload` is copied. */
static int add(struct sending *s, struct asya_str id, struct asya_str payload)
{
	struct asya_envelope env = {.id = id,
				    .route = s->route,
				    .headers = s->headers,
				    .deadline = s->deadline,
				    .payload = payload};
	struct asya_buf b = {0};

	if (!s->arena)
		s->arena = asya_arena_new();
	if (!id.p)
		env.id = cli_new_id(s->arena);
	asya_envelope_write(&b, &env);
	s->ids[s->n] = env.id;
	s->posts[s->n++] = (struct asya_post){.actor = s->route.actors[0],
					      .body = asya_arena_str(s->arena, asya_buf_view(&b))};
	asya_buf_fini(&b);
	return s->n == BATCH ? flush(s) : 0;
}

static struct asya_str trimmed(struct asya_str s)
{
	while (s.n && strchr(" \t\r\n", s.p[0]))
		s.p++, s.n--;
	while (s.n && strchr(" \t\r\n", s.p[s.n - 1]))
		s.n--;
	return s;
}

static int add_lines(struct sending *s, const char *path)
{
	bool standard = strcmp(path, "-") == 0;
	FILE *f = standard ? stdin : fopen(path, "re");
	_cleanup_(asya_freep) char *line = NULL;
	size_t room = 0, number = 0;
	struct asya_error err;
	ssize_t n;
	int code = 0;

	if (!f)
		return cli_fail(CLI_USAGE, "opening '%s': %s", path, strerror(errno));
	while (!code && (n = getline(&line, &room, f)) >= 0) {
		struct asya_str payload = trimmed((struct asya_str){line, (size_t)n});

		number++;
		if (!payload.n)
			continue;
		code = asya_json_check(payload, DEPTH, &err)
			       ? cli_fail(CLI_USAGE, "%s:%zu: %s", path, number, err.text)
			       : add(s, ASYA_STR_NONE, payload);
	}
	if (!standard)
		fclose(f);
	return code;
}

/* All lines are looked at before the first is sent, so that a bad one sends nothing. */
static int check_lines(struct sending *s, const char *path)
{
	FILE *f = strcmp(path, "-") == 0 ? NULL : fopen(path, "re");
	_cleanup_(asya_freep) char *line = NULL;
	size_t room = 0, number = 0;
	struct asya_error err;
	ssize_t n;
	int code = 0;

	if (strcmp(path, "-") == 0)
		return 0;
	if (!f)
		return cli_fail(CLI_USAGE, "opening '%s': %s", path, strerror(errno));
	while (!code && (n = getline(&line, &room, f)) >= 0) {
		struct asya_str payload = trimmed((struct asya_str){line, (size_t)n});

		number++;
		s->total += payload.n > 0;
		if (payload.n && asya_json_check(payload, DEPTH, &err))
			code = cli_fail(CLI_USAGE, "%s:%zu: %s", path, number, err.text);
	}
	fclose(f);
	return code;
}

static int read_payload(struct sending *s)
{
	const char *text = cli_get(s->cli, "payload");
	struct asya_str payload = ASYA_STR("null");
	struct asya_error err;

	if (text && (*text == '@' || strcmp(text, "-") == 0)) {
		if (cli_read_file(&payload, s->cli->arena, text + (*text == '@'), payload_max,
				  &err))
			return cli_fail(CLI_USAGE, "--payload: %s", err.text);
	} else if (text) {
		payload = asya_str_c(text);
	}
	payload = trimmed(payload);
	if (asya_json_check(payload, DEPTH, &err))
		return cli_fail(CLI_USAGE,
				"--payload: %s (a text needs its quotes: --payload '\"text\"')",
				err.text);
	s->payload = payload;
	s->total = 1;
	return 0;
}

static int add_payload(struct sending *s)
{
	const char *id = cli_get(s->cli, "id");

	return add(s, s->root.p ? s->root : id ? asya_str_c(id) : ASYA_STR_NONE, s->payload);
}

/* ---- waiting ---- */

static int print_all(struct sending *s)
{
	struct results results;
	struct asya_error err;

	if (results_read(&results, &s->client, s->root, &err))
		return cli_fail(CLI_TROUBLE, "%s", err.text);
	for (size_t i = 0; i < results.n; i++)
		results_print(&s->client, &results.items[i], cli_has(s->cli, "json"));
	return results.failed ? CLI_FAILED : CLI_OK;
}

static int print_first(struct sending *s, bool *ret_found)
{
	struct results results;
	struct asya_error err;

	if (results_read(&results, &s->client, s->root, &err))
		return cli_fail(CLI_TROUBLE, "%s", err.text);
	*ret_found = results.n > 0;
	if (results.n)
		results_print(&s->client, &results.items[0], cli_has(s->cli, "json"));
	return results.failed ? CLI_FAILED : CLI_OK;
}

static int wait_for_end(struct sending *s)
{
	bool first = cli_has(s->cli, "first"), found = false;
	int64_t timeout_ms = INT64_MAX, begin = asya_clock_mono_ms(), live = 1;
	uint64_t most = s->sent;
	struct asya_error err;
	int code = CLI_OK;

	(void)cli_duration(s->cli, "timeout", &timeout_ms);
	while (live && !found && !code) {
		if (asya_clock_mono_ms() - begin > timeout_ms)
			return cli_fail(CLI_TIMEOUT,
					"%lld messages have not ended after %s; their root is %.*s",
					(long long)live, cli_get(s->cli, "timeout"),
					ASYA_STR_ARG(s->root));
		client_sleep(&s->client, LIVE_MS);
		if (s->client.transport->ops->live(s->client.transport, s->root, &live, &err))
			return cli_fail(CLI_TROUBLE, "%s", err.text);
		most = (uint64_t)live > most ? (uint64_t)live : most;
		progress_show(&s->progress, "waiting", most - (uint64_t)live, most);
		if (first && live)
			code = print_first(s, &found);
	}
	progress_clear(&s->progress);
	if (found || code)
		return code;
	return first ? print_first(s, &found) : print_all(s);
}

static int check_words(struct sending *s)
{
	struct cli *cli = s->cli;
	bool wait = cli_has(cli, "wait") || cli_has(cli, "first");
	const char *route = cli_get(cli, "route"), *id = cli_get(cli, "id");
	int64_t ignored;

	if (!route)
		return cli_fail(CLI_USAGE, "send needs --route, such as --route prep,infer,post");
	if (cli_has(cli, "payload") && cli_has(cli, "lines"))
		return cli_fail(CLI_USAGE, "--payload and --lines do not go together");
	if (id && (cli_has(cli, "lines") || !*id || strlen(id) > ASYA_ID_MAX))
		return cli_fail(CLI_USAGE, "--id is for one message, and has 1 to %d bytes",
				ASYA_ID_MAX);
	if (cli_duration(cli, "timeout", &ignored) < 0)
		return CLI_USAGE;
	if (wait)
		s->root = id ? asya_str_c(id) : cli_new_id(cli->arena);
	return read_route(s, route) || read_deadline(s) || read_headers(s) ? CLI_USAGE : CLI_OK;
}

static int run(struct cli *cli)
{
	struct sending s = {.cli = cli};
	const char *lines = cli_get(cli, "lines");
	int code = check_words(&s);

	if (!code)
		code = lines ? check_lines(&s, lines) : read_payload(&s);
	if (!code)
		code = client_open(&s.client, cli);
	if (code)
		return code;
	if (s.root.p && !s.client.transport->ops->live)
		code = cli_fail(CLI_USAGE, "the transport %s cannot tell when messages have ended",
				s.client.transport->ops->name);
	if (!code)
		code = lines ? add_lines(&s, lines) : add_payload(&s);
	if (!code)
		code = flush(&s);
	progress_clear(&s.progress);
	if (!code && s.root.p)
		code = wait_for_end(&s);
	asya_arena_free(s.arena);
	client_close(&s.client);
	return code;
}

static const struct cli_option options[] = {
	{"route", 'r', "A,B,C", "The actors that the message visits, in this order.", "actor"},
	{"payload", 'p', "JSON", "The payload: JSON, @FILE, or - for standard input [null].",
	 "file"},
	{"lines", 0, "FILE", "A message for each line of JSON in FILE (- for standard input).",
	 "file"},
	{"id", 0, "ID", "The id of the one message [a random one].", NULL},
	{"headers", 0, "JSON", "An object of headers.", NULL},
	{"deadline", 0, "WHEN",
	 "After which it is worth nothing: a duration from now, or an RFC 3339 time.", NULL},
	{"wait", 'w', NULL,
	 "Wait until the message and all that came of it have ended; print the results.", NULL},
	{"first", 0, NULL, "Wait for the first result; print it.", NULL},
	{"timeout", 't', "DURATION", "Wait no longer than this.", NULL},
};

const struct cli_command command_send = {
	.name = "send",
	.arguments = "",
	.summary = "put messages into the queue of the first actor of their route",
	.text = "Sends one message, or one for each line of a file. Prints the ids; with --wait or "
		"--first the\n"
		"results, and exits 1 if one of them ended at error-end or among dead letters.\n\n"
		"  asya send --route prep,infer --payload '{\"text\": \"hello\"}' --wait\n"
		"  asya send --route read,split,embed --lines files.jsonl\n"
		"  echo '{\"n\": 1}' | asya send -r double -p - --first --timeout 10s",
	.options = options,
	.n_options = ASYA_ARRAY_SIZE(options),
	.run = run,
};
