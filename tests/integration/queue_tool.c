// SPDX-License-Identifier: Apache-2.0
/*
 * A hand on the queues of any transport, for tests and measurements; settings come from the
 * environment, ASYA_TRANSPORT included.
 *
 *	queue-tool make ACTOR...         makes their queues
 *	queue-tool post ACTOR [N [MS]]   posts the lines of its input, each N times, delayed
 *	queue-tool depth ACTOR           prints ready, leased, delayed, dead
 *	queue-tool take ACTOR N          takes N messages, prints them a line each, and acks
 *	queue-tool take-dead ACTOR N     the same of the dead letters
 */
#include "base/buf.h"
#include "base/mem.h"
#include "transport/transport.h"

#include <stdio.h>
#include <unistd.h>

enum { WINDOW = 512, PATIENCE_MS = 60000 };

struct tool {
	uv_loop_t loop;
	struct asya_transport *transport;
	struct asya_consumer consumers[16];
	uv_timer_t patience;
	struct asya_buf input;
	const char *actor;
	struct asya_str line;
	unsigned long wanted, begun, ended;
	int64_t delay_ms;
};

struct one {
	struct asya_settle op;
	struct asya_post post;
};

static void die(const char *what)
{
	fprintf(stderr, "queue-tool: %s\n", what);
	_exit(1); /* what is under way does not matter any more */
}

static const char *from_environment(void *user, const char *name)
{
	(void)user;
	return getenv(name);
}

static void on_closed(void *user)
{
	(void)user;
}

static void finish(struct tool *t)
{
	uv_close((uv_handle_t *)&t->patience, NULL);
	asya_transport_close(t->transport, on_closed, NULL);
}

static void count(struct tool *t)
{
	if (++t->ended == t->wanted)
		finish(t);
}

static void on_patience(uv_timer_t *timer)
{
	struct tool *t = asya_container_of(timer, struct tool, patience);
	char text[100];

	snprintf(text, sizeof(text), "%lu of %lu within %d s", t->ended, t->wanted,
		 PATIENCE_MS / 1000);
	die(text);
}

static void on_down(struct asya_consumer *c, bool live, const struct asya_error *err)
{
	(void)c;
	if (!live)
		fprintf(stderr, "queue-tool: %s\n", err->text);
}

/* ---- make ---- */

static void on_made(struct asya_consumer *c, bool live, const struct asya_error *err)
{
	if (!live)
		die(err->text);
	count(c->user);
}

static void on_nothing(struct asya_consumer *c, struct asya_delivery *d)
{
	(void)c;
	(void)d;
}

static void make(struct tool *t, char **actors, unsigned n)
{
	t->wanted = n;
	for (unsigned i = 0; i < n && i < ASYA_ARRAY_SIZE(t->consumers); i++) {
		t->consumers[i] = (struct asya_consumer){.actor = asya_str_c(actors[i]),
							 .deliver = on_nothing,
							 .state = on_made,
							 .user = t};
		asya_transport_consume(t->transport, &t->consumers[i]);
	}
}

/* ---- post ---- */

static void post_next(struct tool *t);

static void on_posted(struct asya_settle *op, enum asya_settled outcome,
		      const struct asya_error *err)
{
	struct tool *t = op->user;

	if (outcome != ASYA_SETTLED)
		die(err ? err->text : "stale");
	free(asya_container_of(op, struct one, op));
	post_next(t);
	count(t);
}

static void post_next(struct tool *t)
{
	struct one *o;
	const char *end;

	if (t->begun == t->wanted)
		return;
	o = asya_new0(struct one);
	end = memchr(t->line.p, '\n', t->line.n);
	o->post = (struct asya_post){.actor = asya_str_c(t->actor),
				     .body = {t->line.p, (size_t)(end - t->line.p)},
				     .delay_ms = t->delay_ms};
	o->op = (struct asya_settle){.posts = &o->post, .n_posts = 1, .done = on_posted, .user = t};
	t->begun++;
	t->line.n -= (size_t)(end + 1 - t->line.p);
	t->line.p = end + 1;
	if (!t->line.n)
		t->line = asya_buf_view(&t->input);
	asya_transport_settle(t->transport, &o->op);
}

static void post(struct tool *t, const char *times)
{
	char part[65536];
	ssize_t n;

	while ((n = read(STDIN_FILENO, part, sizeof(part))) > 0)
		asya_buf_add(&t->input, part, (size_t)n);
	t->line = asya_buf_view(&t->input);
	for (size_t i = 0; i < t->line.n; i++)
		t->wanted += t->line.p[i] == '\n';
	t->wanted *= times ? strtoul(times, NULL, 10) : 1;
	if (!t->wanted)
		die("nothing to post");
	for (int i = 0; i < WINDOW; i++)
		post_next(t);
}

/* ---- depth, take ---- */

static void on_depth(struct asya_stat *op, const struct asya_error *err)
{
	if (err)
		die(err->text);
	printf("%lld %lld %lld %lld\n", (long long)op->depth.ready, (long long)op->depth.leased,
	       (long long)op->depth.delayed, (long long)op->depth.dead);
	count(op->user);
}

static void depth(struct tool *t)
{
	static struct asya_stat op;

	t->wanted = 1;
	op = (struct asya_stat){.actor = asya_str_c(t->actor), .done = on_depth, .user = t};
	asya_transport_stat(t->transport, &op);
}

static void on_acked(struct asya_settle *op, enum asya_settled outcome,
		     const struct asya_error *err)
{
	struct tool *t = op->user;

	if (outcome != ASYA_SETTLED)
		die(err ? err->text : "stale");
	free(asya_container_of(op, struct one, op));
	count(t);
}

static void on_message(struct asya_consumer *c, struct asya_delivery *d)
{
	struct tool *t = c->user;
	struct one *o;

	if (t->begun == t->wanted)
		return;
	if (++t->begun == t->wanted)
		asya_transport_window(t->transport, c, 0);
	printf("%.*s\n", (int)d->body.n, d->body.p);
	o = asya_new0(struct one);
	o->op = (struct asya_settle){.delivery = d, .done = on_acked, .user = t};
	asya_transport_settle(t->transport, &o->op);
}

static void take(struct tool *t, const char *n, bool dead)
{
	struct asya_consumer *c = &t->consumers[0];

	t->wanted = strtoul(n, NULL, 10);
	*c = (struct asya_consumer){.actor = asya_str_c(t->actor),
				    .dead = dead,
				    .deliver = on_message,
				    .state = on_down,
				    .user = t};
	asya_transport_consume(t->transport, c);
	asya_transport_window(t->transport, c, t->wanted < WINDOW ? (unsigned)t->wanted : WINDOW);
}

int main(int argc, char **argv)
{
	const char *name = getenv("ASYA_TRANSPORT");
	const struct asya_transport_ops *ops =
		asya_transport_find(asya_str_c(name ? name : "local"));
	struct asya_error err;
	struct tool t = {0};

	if (argc < 3 || !ops)
		die("usage: make ACTOR... | post ACTOR [N [MS]] | depth ACTOR | take[-dead] ACTOR "
		    "N");
	uv_loop_init(&t.loop);
	uv_timer_init(&t.loop, &t.patience);
	uv_timer_start(&t.patience, on_patience, PATIENCE_MS, 0);
	if (ops->open(&t.transport, &t.loop, from_environment, NULL, &err))
		die(err.text);
	t.actor = argv[2];
	if (strcmp(argv[1], "make") == 0)
		make(&t, argv + 2, (unsigned)argc - 2);
	else if (strcmp(argv[1], "post") == 0)
		t.delay_ms = argc > 4 ? atoi(argv[4]) : 0, post(&t, argc > 3 ? argv[3] : NULL);
	else if (strcmp(argv[1], "depth") == 0)
		depth(&t);
	else if (argc == 4 && strncmp(argv[1], "take", 4) == 0)
		take(&t, argv[3], strcmp(argv[1], "take-dead") == 0);
	else
		die("unknown words");
	uv_run(&t.loop, UV_RUN_DEFAULT);
	uv_loop_close(&t.loop);
	asya_buf_fini(&t.input);
	return 0;
}
