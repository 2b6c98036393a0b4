// SPDX-License-Identifier: Apache-2.0
/* asya queues: what waits where, once or every second. */
#include "cli/commands.h"
#include "cli/look.h"

#include "base/clock.h"
#include "base/mem.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { WATCH_MS = 1000, STEP_MS = 50, ACTOR_WIDTH = 20 };

struct queue {
	struct asya_str actor;
	struct asya_depth depth;
	int64_t done, failed;
	double rate; /* of those that were settled, a second; below 0: not known yet */
};

/* One look at all queues. */
struct view {
	struct asya_arena *arena;
	struct queue *items;
	size_t n, room;
	int64_t at_ms;
};

struct watch {
	uv_signal_t signals[2];
	bool stop;
	size_t lines; /* that stand on the terminal */
};

static void add(void *user, struct asya_str actor, const struct asya_depth *depth, int64_t done,
		int64_t failed)
{
	struct view *v = user;

	if (v->n == v->room) {
		size_t room = v->room ? v->room * 2 : 32;
		struct queue *more = asya_arena_array(v->arena, struct queue, room);

		if (v->n)
			memcpy(more, v->items, v->n * sizeof(*more));
		v->items = more;
		v->room = room;
	}
	v->items[v->n++] =
		(struct queue){asya_arena_str(v->arena, actor), *depth, done, failed, -1};
}

static int look(struct view *v, struct client *c)
{
	struct asya_error err;

	*v = (struct view){.arena = asya_arena_new(), .at_ms = asya_clock_mono_ms()};
	if (c->transport->ops->queues(c->transport, add, v, &err) == 0)
		return CLI_OK;
	v->arena = asya_arena_free(v->arena);
	return cli_fail(CLI_TROUBLE, "%s", err.text);
}

static const struct queue *same(const struct view *v, struct asya_str actor)
{
	for (size_t i = 0; i < v->n; i++)
		if (asya_str_eq(v->items[i].actor, actor))
			return &v->items[i];
	return NULL;
}

static void find_rates(struct view *v, const struct view *before)
{
	double seconds = (double)(v->at_ms - before->at_ms) / 1000;

	for (size_t i = 0; i < v->n && seconds > 0; i++) {
		struct queue *q = &v->items[i];
		const struct queue *old = same(before, q->actor);

		if (old)
			q->rate = (double)(q->done + q->failed - old->done - old->failed) / seconds;
	}
}

static struct queue total_of(const struct view *v)
{
	struct queue t = {.actor = ASYA_STR("total"), .rate = -1};

	for (size_t i = 0; i < v->n; i++) {
		const struct queue *q = &v->items[i];

		t.depth.ready += q->depth.ready;
		t.depth.leased += q->depth.leased;
		t.depth.delayed += q->depth.delayed;
		t.depth.dead += q->depth.dead;
		t.done += q->done;
		t.failed += q->failed;
		if (q->rate >= 0)
			t.rate = (t.rate < 0 ? 0 : t.rate) + q->rate;
	}
	return t;
}

static void write_numbers(struct asya_buf *b, const struct queue *q)
{
	asya_buf_printf(b,
			"\"ready\":%lld,\"leased\":%lld,\"delayed\":%lld,\"dead\":%lld,\"done\":"
			"%lld,\"failed\":%lld",
			(long long)q->depth.ready, (long long)q->depth.leased,
			(long long)q->depth.delayed, (long long)q->depth.dead, (long long)q->done,
			(long long)q->failed);
	if (q->rate >= 0)
		asya_buf_printf(b, ",\"rate\":%.1f", q->rate);
}

static void write_json(struct asya_buf *b, const struct queue *q)
{
	asya_buf_c(b, "{\"actor\":");
	asya_buf_json(b, q->actor);
	asya_buf_char(b, ',');
	write_numbers(b, q);
	asya_buf_char(b, '}');
}

static void write_row(struct asya_buf *b, const struct queue *q, int width, bool pretty)
{
	const char *colour = !pretty          ? ""
			     : q->depth.dead  ? LOOK_RED
			     : q->depth.ready ? LOOK_YELLOW
					      : "";

	asya_buf_printf(b, "%s%-*.*s%s %9lld %9lld %9lld %9lld %11lld %9lld", colour, width,
			ASYA_STR_ARG(q->actor), *colour ? LOOK_PLAIN : "",
			(long long)q->depth.ready, (long long)q->depth.leased,
			(long long)q->depth.delayed, (long long)q->depth.dead, (long long)q->done,
			(long long)q->failed);
	if (q->rate >= 0)
		asya_buf_printf(b, " %9.1f", q->rate);
	asya_buf_c(b, pretty ? "\033[K\n" : "\n");
}

/* Returns how many lines it has. */
static size_t write_table(struct asya_buf *b, const struct view *v, bool rates, bool pretty)
{
	struct queue total = total_of(v);
	int width = ACTOR_WIDTH;

	for (size_t i = 0; i < v->n; i++)
		width = (int)v->items[i].actor.n > width ? (int)v->items[i].actor.n : width;
	asya_buf_printf(b, "%s%-*s %9s %9s %9s %9s %11s %9s%s%s\n", pretty ? LOOK_BOLD : "", width,
			"ACTOR", "READY", "LEASED", "DELAYED", "DEAD", "DONE", "FAILED",
			rates ? "  PER SEC." : "", pretty ? LOOK_PLAIN "\033[K" : "");
	for (size_t i = 0; i < v->n; i++)
		write_row(b, &v->items[i], width, pretty);
	if (v->n > 1)
		write_row(b, &total, width, pretty);
	return v->n + 1 + (v->n > 1);
}

static void print_once(const struct view *v, bool json)
{
	struct asya_buf b = {0};

	for (size_t i = 0; i < v->n && json; i++) {
		write_json(&b, &v->items[i]);
		asya_buf_char(&b, '\n');
	}
	if (!json)
		write_table(&b, v, false, look_pretty());
	look_print(&b);
	asya_buf_fini(&b);
}

/* ---- watching ---- */

static void write_json_line(struct asya_buf *b, const struct view *v)
{
	char now[ASYA_TIME_TEXT];

	asya_buf_printf(b, "{\"time\":\"%s\",\"queues\":[",
			asya_time_write(now, asya_clock_wall_us()));
	for (size_t i = 0; i < v->n; i++) {
		if (i)
			asya_buf_char(b, ',');
		write_json(b, &v->items[i]);
	}
	asya_buf_c(b, "]}\n");
}

static void write_line(struct asya_buf *b, const struct view *v)
{
	struct queue t = total_of(v);
	char now[ASYA_TIME_TEXT];

	asya_buf_printf(b,
			"%.19sZ  %zu actors  ready %lld  leased %lld  delayed %lld  dead %lld  "
			"done %lld  failed %lld",
			asya_time_write(now, asya_clock_wall_us()), v->n, (long long)t.depth.ready,
			(long long)t.depth.leased, (long long)t.depth.delayed,
			(long long)t.depth.dead, (long long)t.done, (long long)t.failed);
	if (t.rate >= 0)
		asya_buf_printf(b, "  %.1f/s", t.rate);
	asya_buf_char(b, '\n');
}

static void draw(struct watch *w, const struct view *v, bool json)
{
	struct asya_buf b = {0};

	if (json) {
		write_json_line(&b, v);
	} else if (!isatty(STDOUT_FILENO)) {
		write_line(&b, v);
	} else {
		if (w->lines)
			asya_buf_printf(&b, "\033[%zuA", w->lines);
		w->lines = write_table(&b, v, true, true);
		asya_buf_c(&b, "\033[J");
	}
	look_print(&b);
	fflush(stdout);
	asya_buf_fini(&b);
}

static void on_signal(uv_signal_t *s, int number)
{
	struct watch *w = s->data;

	(void)number;
	w->stop = true;
}

static void catch_signals(struct watch *w, struct client *c)
{
	const int numbers[] = {SIGINT, SIGTERM};

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(numbers); i++) {
		uv_signal_init(&c->loop, &w->signals[i]);
		w->signals[i].data = w;
		uv_signal_start(&w->signals[i], on_signal, numbers[i]);
	}
}

static int watch(struct client *c, bool json)
{
	struct view before = {0}, v;
	struct watch w = {0};
	int code = CLI_OK;

	catch_signals(&w, c);
	while (!w.stop && !look_broken()) {
		code = look(&v, c);
		if (code)
			break;
		if (before.arena)
			find_rates(&v, &before);
		draw(&w, &v, json);
		asya_arena_free(before.arena);
		before = v;
		for (int64_t until = v.at_ms + WATCH_MS; !w.stop && asya_clock_mono_ms() < until;)
			client_sleep(c, STEP_MS);
	}
	asya_arena_free(before.arena);
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(w.signals); i++)
		uv_close((uv_handle_t *)&w.signals[i], NULL);
	uv_run(&c->loop, UV_RUN_NOWAIT);
	return code;
}

static int run(struct cli *cli)
{
	bool json = cli_has(cli, "json");
	struct client c;
	struct view v;
	int code = look_open(&c, cli);

	if (code)
		return code;
	if (!c.transport->ops->queues)
		code = cli_fail(CLI_USAGE, "the transport %s cannot list its queues",
				c.transport->ops->name);
	else if (cli_has(cli, "watch"))
		code = watch(&c, json);
	else if (!(code = look(&v, &c))) {
		print_once(&v, json);
		asya_arena_free(v.arena);
	}
	client_close(&c);
	return code;
}

static const struct cli_option options[] = {
	{"watch", 'w', NULL, "Look every second, until Ctrl-C; with how many a second are settled.",
	 NULL},
};

const struct cli_command command_queues = {
	.name = "queues",
	.arguments = "",
	.summary = "show every actor's queue: what waits, is worked on, has failed",
	.text = "A line for each queue: messages that can be taken (ready), that somebody works on "
		"(leased), that\n"
		"wait for their time (delayed), that are dead letters (dead); and how many the "
		"actor has settled\n"
		"well (done) or sent to error-end (failed). Where the output is no terminal, "
		"--watch prints the\n"
		"sums, a line a second.\n\n"
		"  asya queues\n"
		"  asya queues --watch\n"
		"  asya queues --json | jq 'select(.dead > 0).actor'",
	.options = options,
	.n_options = ASYA_ARRAY_SIZE(options),
	.run = run,
};
