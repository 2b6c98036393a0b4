// SPDX-License-Identifier: Apache-2.0
#include "sidecar/runtime.h"

#include "core/runtime_frame.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

/* BROKEN_MS: for an answer to a request that could not be written to its end. */
enum { PROBE_MS = 100, WATCH_MS = 2000, BROKEN_MS = 1000, WORKERS_MAX = 1024, READ_BYTES = 65536 };

/* One connection a slot: closed, connecting, idle, busy, or late (protocol 1, after a timeout). */
enum phase { CLOSED, CONNECTING, IDLE, BUSY, LATE };

struct connection {
	struct runtime *rt;
	struct link *link; /* what is open; NULL: nothing */
	enum phase phase;
	struct call *call;
	unsigned protocol; /* of the request */
	bool unsent;       /* nothing of the request could be written */
	bool broken;       /* not all of it could */
	uv_timer_t timer;
	struct asya_frames frames;
};

/* An open pipe: a thing of its own, because closing it takes until later. */
struct link {
	uv_pipe_t pipe;
	uv_connect_t connect;
	struct connection *owner; /* NULL: being closed */
	struct runtime *rt;
	struct asya_buf head;
};

struct runtime {
	struct runtime_config config;
	uv_loop_t *loop;
	char *socket_path, *ready_path, *dir;
	unsigned protocol, workers;
	unsigned told; /* workers that `changed` was last called with */
	bool refused;  /* the socket did not take a connection since the last probe */
	struct connection **slots;
	unsigned n_slots;
	uv_timer_t probe;
	uv_fs_event_t watch;
	unsigned open_handles;
	bool closing;
	void (*closed)(void *user);
	void *closed_user;
	char read_buffer[READ_BYTES];
};

static void gone(struct runtime *rt)
{
	if (--rt->open_handles || !rt->closing)
		return;
	for (unsigned i = 0; i < rt->n_slots; i++)
		free(rt->slots[i]);
	free(rt->slots);
	free(rt->socket_path);
	free(rt->ready_path);
	free(rt->dir);
	rt->closed(rt->closed_user);
	free(rt);
}

/* ---- readiness ---- */

bool runtime_stuck(const struct runtime *rt)
{
	for (unsigned i = 0; i < rt->n_slots; i++)
		if (rt->slots[i]->phase == LATE)
			return true;
	return false;
}

unsigned runtime_protocol(const struct runtime *rt)
{
	return rt->protocol;
}

static void on_timeout(uv_timer_t *t);
static void open_link(struct connection *c);

static void add_slots(struct runtime *rt, unsigned n)
{
	if (n <= rt->n_slots)
		return;
	rt->slots = asya_realloc(rt->slots, n * sizeof(*rt->slots));
	while (rt->n_slots < n) {
		struct connection *c = asya_new0(struct connection);

		c->rt = rt;
		c->frames.max = rt->config.frame_bytes;
		uv_timer_init(rt->loop, &c->timer);
		rt->open_handles++;
		rt->slots[rt->n_slots++] = c;
	}
}

static unsigned connected(const struct runtime *rt)
{
	unsigned n = 0;

	for (unsigned i = 0; i < rt->workers; i++)
		n += rt->slots[i]->phase == IDLE || rt->slots[i]->phase == BUSY;
	return n;
}

/* Where the socket takes no more connections, those that there are go on. */
static void tell(struct runtime *rt)
{
	unsigned n = runtime_stuck(rt) ? 0 : rt->refused ? connected(rt) : rt->workers;

	if (n == rt->told || rt->closing)
		return;
	rt->told = n;
	rt->config.changed(rt->config.user, n);
}

/* Reads a line `name N`. */
static unsigned number_of(const char *text, const char *name, unsigned fallback)
{
	size_t n = strlen(name);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, n) == 0 && line[n] == ' ')
			return (unsigned)strtoul(line + n + 1, NULL, 10);
	}
	return fallback;
}

/* What the readiness file says. No file, no workers. */
static void read_ready(struct runtime *rt)
{
	char text[512] = "";
	int fd = open(rt->ready_path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (n < 0) {
		rt->workers = 0;
		return;
	}
	text[n] = '\0';
	rt->protocol = number_of(text, "protocol", 1) == 2 ? 2 : 1;
	rt->workers = rt->protocol == 2 ? number_of(text, "workers", 1) : 1;
	if (rt->workers > WORKERS_MAX)
		rt->workers = WORKERS_MAX;
	add_slots(rt, rt->workers);
}

static void look(struct runtime *rt)
{
	read_ready(rt);
	tell(rt);
}

/* Tries a socket that has refused a connection. */
static void try_socket(struct runtime *rt)
{
	for (unsigned i = 0; i < rt->workers; i++)
		if (rt->slots[i]->phase == CLOSED) {
			open_link(rt->slots[i]);
			return;
		}
}

static void on_probe(uv_timer_t *t)
{
	struct runtime *rt = asya_container_of(t, struct runtime, probe);

	look(rt);
	if (rt->refused)
		try_socket(rt);
	uv_timer_set_repeat(t, rt->told && !rt->refused ? WATCH_MS : PROBE_MS);
	uv_timer_again(t);
}

static void on_watch(uv_fs_event_t *w, const char *name, int events, int status)
{
	(void)name;
	(void)events;
	(void)status;
	look(asya_container_of(w, struct runtime, watch));
}

static void refuse(struct runtime *rt)
{
	rt->refused = true;
	uv_timer_set_repeat(&rt->probe, PROBE_MS);
	uv_timer_again(&rt->probe);
	tell(rt);
}

/* ---- connections ---- */

static void on_link_closed(uv_handle_t *h)
{
	struct link *l = asya_container_of((uv_pipe_t *)h, struct link, pipe);
	struct runtime *rt = l->rt;

	asya_buf_fini(&l->head);
	free(l);
	gone(rt);
}

static void hang_up(struct connection *c)
{
	struct link *l = c->link;

	c->link = NULL;
	c->phase = CLOSED;
	c->unsent = c->broken = false;
	asya_frames_fini(&c->frames);
	uv_timer_stop(&c->timer);
	if (!l)
		return;
	l->owner = NULL;
	uv_close((uv_handle_t *)&l->pipe, on_link_closed);
}

static void finish(struct connection *c, enum call_result result)
{
	struct call *call = c->call;

	c->call = NULL;
	call->connection = NULL;
	uv_timer_stop(&c->timer);
	call->done(call, result);
}

static void explain(struct connection *c, const char *why)
{
	if (c->call)
		c->call->why = asya_arena_cstr(c->call->arena, asya_str_c(why));
}

/* The connection is of no use any more; what was under way on it is lost. */
static void lose(struct connection *c, enum call_result result, const char *what)
{
	bool late = c->phase == LATE;

	hang_up(c);
	if (c->call) {
		if (!c->call->why)
			c->call->why = what;
		finish(c, result);
	}
	if (late || c->rt->refused)
		tell(c->rt);
}

static bool optional(struct asya_str frame)
{
	return frame.n && frame.p[0] >= 'a' && frame.p[0] <= 'z';
}

/* Whether nothing follows an answer that could be taken for a part of the next one. */
static bool at_rest(struct connection *c)
{
	struct asya_error ignored;
	struct asya_str frame;

	while (asya_frames_next(&c->frames, &frame, &ignored) == 1)
		if (!optional(frame))
			return false;
	return !asya_frames_partial(&c->frames);
}

/* A whole frame. 1: go on reading. */
static int on_frame(struct connection *c, struct asya_str frame)
{
	const struct asya_reply_limits *limits = &c->rt->config.limits;
	struct asya_error err;
	int code;

	if (c->phase == LATE) {
		lose(c, CALL_LOST, "");
		return 0;
	}
	if (!c->call) {
		if (optional(frame))
			return 1;
		lose(c, CALL_LOST, ""); /* it speaks without being asked */
		return 0;
	}
	code = c->protocol == 2
		       ? asya_reply_add(&c->call->reply, c->call->arena, frame, limits, &err)
		       : asya_reply_add_v1(&c->call->reply, c->call->arena, frame, limits, &err);
	if (code == 0)
		return 1;
	if (code < 0) {
		explain(c, err.text);
		lose(c, CALL_INVALID, "");
		return 0;
	}
	if (c->protocol == 2 && at_rest(c))
		c->phase = IDLE;
	else
		hang_up(c);
	asya_failpoint("invoke.answered");
	finish(c, CALL_ANSWERED);
	return 0;
}

static void drain_frames(struct connection *c)
{
	struct asya_error err;
	struct asya_str frame;
	int code;

	while ((code = asya_frames_next(&c->frames, &frame, &err)) == 1)
		if (!on_frame(c, frame))
			return;
	if (code < 0) {
		explain(c, err.text);
		lose(c, CALL_INVALID, "");
	}
}

static void on_alloc(uv_handle_t *h, size_t wanted, uv_buf_t *buf)
{
	struct link *l = asya_container_of((uv_pipe_t *)h, struct link, pipe);

	(void)wanted;
	*buf = uv_buf_init(l->rt->read_buffer, READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct link *l = asya_container_of((uv_pipe_t *)stream, struct link, pipe);
	struct connection *c = l->owner;

	if (!c || n == 0)
		return;
	if (n < 0) {
		lose(c, CALL_LOST, "the runtime hung up before it had answered");
		return;
	}
	asya_frames_feed(&c->frames, buf->base, (size_t)n);
	drain_frames(c);
}

/* A call must not end inside the function that begins it: its timer does it. */
static void lose_later(struct connection *c)
{
	uv_read_stop((uv_stream_t *)&c->link->pipe);
	c->unsent = true;
	uv_timer_start(&c->timer, on_timeout, 0, 0);
}

/* The rest of a request that did not go out at once. It belongs to its pipe, and is a copy: the
 * request may be over, and its message gone, before the runtime has read all of it. */
struct rest {
	uv_write_t write;
	struct link *link;
	char bytes[];
};

static void on_written(uv_write_t *w, int status)
{
	struct rest *rest = asya_container_of(w, struct rest, write);
	struct connection *c = rest->link->owner;

	free(rest);
	if (!status || !c || c->phase != BUSY)
		return;
	/* Who hangs up early may have answered first. */
	c->broken = true;
	uv_timer_start(&c->timer, on_timeout, BROKEN_MS, 0);
}

static int write_rest(struct link *l, struct asya_str body, size_t written)
{
	size_t head = l->head.n > written ? l->head.n - written : 0;
	size_t skip = written > l->head.n ? written - l->head.n : 0, n = head + body.n - skip;
	struct rest *rest = asya_malloc(sizeof(*rest) + n);
	uv_buf_t buf = uv_buf_init(rest->bytes, (unsigned)n);

	*rest = (struct rest){.link = l};
	memcpy(rest->bytes, l->head.p + l->head.n - head, head);
	memcpy(rest->bytes + head, body.p + skip, body.n - skip);
	if (uv_write(&rest->write, (uv_stream_t *)&l->pipe, &buf, 1, on_written) == 0)
		return 0;
	free(rest);
	return -1;
}

static void send_request(struct connection *c)
{
	struct link *l = c->link;
	struct asya_str body = c->call->request;
	uv_buf_t bufs[2];
	int n;

	c->phase = BUSY;
	c->protocol = c->rt->protocol;
	asya_failpoint("invoke.before");
	l->head.n = 0;
	asya_frame_head(&l->head, c->protocol == 2 ? 'R' : 0, body.n);
	bufs[0] = uv_buf_init(l->head.p, (unsigned)l->head.n);
	bufs[1] = uv_buf_init((char *)body.p, (unsigned)body.n);
	uv_timer_start(&c->timer, on_timeout, (uint64_t)c->call->timeout_ms, 0);
	n = uv_try_write((uv_stream_t *)&l->pipe, bufs, 2);
	if (n == UV_EAGAIN)
		n = 0;
	if (n < 0 || ((size_t)n < l->head.n + body.n && write_rest(l, body, (size_t)n)))
		lose_later(c);
}

static void on_connected(uv_connect_t *req, int status)
{
	struct link *l = asya_container_of(req, struct link, connect);
	struct connection *c = l->owner;

	if (!c)
		return;
	if (status == 0)
		status = uv_read_start((uv_stream_t *)&l->pipe, on_alloc, on_read);
	if (status == 0) {
		c->phase = IDLE;
		c->rt->refused = false;
		if (c->call)
			send_request(c);
		tell(c->rt);
		return;
	}
	if (!c->call) { /* it was only tried */
		hang_up(c);
		return;
	}
	refuse(c->rt);
	c->call->why = asya_arena_printf(c->call->arena, "connecting to '%s': %s",
					 c->rt->socket_path, uv_strerror(status))
			       .p;
	lose(c, CALL_NOT_STARTED, "");
}

static void open_link(struct connection *c)
{
	struct link *l = asya_new0(struct link);

	l->owner = c;
	l->rt = c->rt;
	c->link = l;
	c->phase = CONNECTING;
	uv_pipe_init(c->rt->loop, &l->pipe, 0);
	c->rt->open_handles++;
	uv_pipe_connect(&l->connect, &l->pipe, c->rt->socket_path, on_connected);
}

static void on_timeout(uv_timer_t *t)
{
	struct connection *c = asya_container_of(t, struct connection, timer);

	if (c->unsent) {
		refuse(c->rt);
		lose(c, CALL_NOT_STARTED, "the runtime hung up before it had the request");
		return;
	}
	if (c->broken) {
		lose(c, CALL_LOST, "the runtime hung up before it had the whole request");
		return;
	}
	if (c->protocol == 1) {
		c->phase = LATE;
		finish(c, CALL_TIMEOUT);
		tell(c->rt);
		return;
	}
	lose(c, CALL_TIMEOUT, "no answer in time");
}

static struct connection *free_slot(const struct runtime *rt)
{
	struct connection *closed = NULL;

	for (unsigned i = 0; i < rt->workers && rt->told; i++) {
		struct connection *c = rt->slots[i];

		if (c->phase == IDLE)
			return c;
		if (c->phase == CLOSED && !closed && !rt->refused)
			closed = c;
	}
	return closed;
}

bool runtime_has_room(const struct runtime *rt)
{
	return free_slot(rt) != NULL;
}

void runtime_invoke(struct runtime *rt, struct call *call)
{
	struct connection *c = free_slot(rt);

	call->connection = c;
	call->why = NULL;
	call->reply = (struct asya_reply){0};
	c->call = call;
	if (c->phase == IDLE)
		send_request(c);
	else
		open_link(c);
}

void runtime_cancel(struct call *call)
{
	struct connection *c = call->connection;

	if (!c)
		return;
	call->connection = NULL;
	c->call = NULL;
	hang_up(c);
}

/* ---- */

int runtime_open(struct runtime **ret, uv_loop_t *loop, const struct runtime_config *config,
		 struct asya_error *err)
{
	struct runtime *rt = asya_new0(struct runtime);

	*rt = (struct runtime){.config = *config,
			       .loop = loop,
			       .protocol = 1,
			       .dir = asya_strdup(config->dir),
			       .socket_path = asya_asprintf("%s/asya-runtime.sock", config->dir),
			       .ready_path = asya_asprintf("%s/runtime-ready", config->dir),
			       .open_handles = 2};
	if (strlen(rt->socket_path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
		asya_error_set(err, ASYA_FATAL,
			       "ASYA_SOCKET_DIR is '%s': with '/asya-runtime.sock' it must be "
			       "shorter than %zu bytes",
			       config->dir, sizeof(((struct sockaddr_un *)NULL)->sun_path));
		free(rt->socket_path);
		free(rt->ready_path);
		free(rt->dir);
		free(rt);
		return -1;
	}
	uv_timer_init(loop, &rt->probe);
	uv_fs_event_init(loop, &rt->watch);
	/* Without a watch (no such directory yet, limits of inotify) the probe still sees it. */
	(void)uv_fs_event_start(&rt->watch, on_watch, config->dir, 0);
	uv_timer_start(&rt->probe, on_probe, 0, PROBE_MS);
	*ret = rt;
	return 0;
}

static void on_closed(uv_handle_t *h)
{
	gone(h->data);
}

static void close_handle(struct runtime *rt, uv_handle_t *h)
{
	h->data = rt;
	uv_close(h, on_closed);
}

void runtime_close(struct runtime *rt, void (*done)(void *user), void *user)
{
	rt->closing = true;
	rt->closed = done;
	rt->closed_user = user;
	for (unsigned i = 0; i < rt->n_slots; i++) {
		hang_up(rt->slots[i]);
		close_handle(rt, (uv_handle_t *)&rt->slots[i]->timer);
	}
	close_handle(rt, (uv_handle_t *)&rt->probe);
	close_handle(rt, (uv_handle_t *)&rt->watch);
}
