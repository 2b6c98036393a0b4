// SPDX-License-Identifier: Apache-2.0
#include "sidecar/runtime.h"

#include "core/runtime_frame.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"
#include "core/window.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

/* BROKEN_MS: for an answer to a request that could not be written to its end. AHEAD_BYTES: sent and
 * not answered on a connection, if more than one; sockets hold about so much. STALE_MS: nothing is
 * sent behind a request that has been at work for so long, however quick others were. */
enum { PROBE_MS = 100, WATCH_MS = 2000, BROKEN_MS = 1000, STALE_MS = 5 };
enum { WORKERS_MAX = 1024, READ_BYTES = 65536, AHEAD_BYTES = 131072, FRAME_HEAD_MAX = 5 };

/* One connection a slot: closed, connecting, idle, busy, or late (protocol 1, after a timeout). */
enum phase { CLOSED, CONNECTING, IDLE, BUSY, LATE };

struct connection {
	struct runtime *rt;
	struct link *link; /* what is open; NULL: nothing */
	enum phase phase;
	struct asya_link calls; /* not answered; the first is at work */
	unsigned n;             /* of them */
	unsigned fresh;         /* the last so many are to be written yet */
	size_t bytes;           /* of all of them */
	unsigned protocol;      /* of the requests */
	bool unsent;            /* nothing of the first request could be written */
	bool broken;            /* a write has failed; what was answered before can still be read */
	int64_t since_ns;       /* when the first became it */
	uint64_t since_ms;      /* the same in the loop's time, once it was sent */
	uint64_t fires_ms;      /* the timer, which runs on where a request is answered */
	uv_timer_t timer;
	struct asya_link dirty; /* in the runtime's list if there is something fresh */
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
	unsigned protocol, workers, ahead;
	double service_us;
	unsigned depth; /* calls a connection */
	struct asya_link dirty;
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
		asya_list_init(&c->calls);
		asya_list_init(&c->dirty);
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
	rt->ahead = rt->protocol == 2 ? number_of(text, "ahead", 1) : 1;
	rt->depth = asya_ahead_decide(rt->service_us, rt->ahead);
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
	c->n = c->fresh = 0;
	c->bytes = 0;
	asya_list_remove(&c->dirty);
	asya_frames_fini(&c->frames);
	uv_timer_stop(&c->timer);
	if (!l)
		return;
	l->owner = NULL;
	uv_close((uv_handle_t *)&l->pipe, on_link_closed);
}

static struct call *first_call(const struct connection *c)
{
	return asya_list_empty(&c->calls) ? NULL
					  : asya_container_of(c->calls.next, struct call, link);
}

/* The last ones first, so that each can be put before what waits. */
static void give_back(struct asya_link *calls)
{
	while (!asya_list_empty(calls)) {
		struct call *call = asya_container_of(calls->prev, struct call, link);

		asya_list_remove(&call->link);
		call->done(call, CALL_GIVEN_BACK);
	}
}

/* The connection is of no use any more. What was at work on it is lost; what was to come after it
 * comes back. */
static void lose(struct connection *c, enum call_result result, const char *what)
{
	struct call *first = first_call(c);
	bool late = c->phase == LATE;
	struct asya_link others;

	if (first)
		asya_list_remove(&first->link);
	asya_list_init(&others);
	asya_list_splice(&others, &c->calls);
	hang_up(c);
	give_back(&others);
	if (first) {
		if (!first->why)
			first->why = what;
		first->took_ns = asya_clock_mono_ns() - c->since_ns;
		first->done(first, result);
	}
	if (late || c->rt->refused)
		tell(c->rt);
}

static void explain(struct connection *c, const char *why)
{
	struct call *first = first_call(c);

	if (first)
		first->why = asya_arena_cstr(first->arena, asya_str_c(why));
}

/* A call must not end inside the function that begins it: its timer does it. */
static void lose_later(struct connection *c)
{
	uv_read_stop((uv_stream_t *)&c->link->pipe);
	c->unsent = true;
	uv_timer_start(&c->timer, on_timeout, 0, 0);
}

/* The time of the first call begins. The timer runs on from one to the next, and looks when it
 * fires: setting it for each would cost more than that. */
static void begin_time(struct connection *c)
{
	uint64_t end_ms;

	c->since_ms = uv_now(c->rt->loop);
	end_ms = c->since_ms + (uint64_t)first_call(c)->timeout_ms;
	if (uv_is_active((uv_handle_t *)&c->timer) && c->fires_ms <= end_ms)
		return;
	c->fires_ms = end_ms;
	uv_timer_start(&c->timer, on_timeout, end_ms - c->since_ms, 0);
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

/* The first call's answer is whole. */
static void answered(struct connection *c)
{
	struct call *call = first_call(c);
	int64_t now = asya_clock_mono_ns();

	asya_list_remove(&call->link);
	call->took_ns = now - c->since_ns;
	c->since_ns = now;
	c->bytes -= call->request.n;
	if (--c->n) {
		begin_time(c);
		if (!first_call(c)->written)
			lose_later(c);
	} else if (c->protocol == 2 && !c->broken && at_rest(c)) {
		c->phase = IDLE;
	} else {
		hang_up(c);
	}
	asya_failpoint("invoke.answered");
	call->done(call, CALL_ANSWERED);
}

/* A whole frame. 1: go on reading. */
static int on_frame(struct connection *c, struct asya_str frame)
{
	const struct asya_reply_limits *limits = &c->rt->config.limits;
	struct call *call = first_call(c);
	struct asya_error err;
	int code;

	if (!call && c->phase != LATE && optional(frame))
		return 1;
	if (!call) { /* it was given up, or the runtime speaks without being asked */
		lose(c, CALL_LOST, "");
		return 0;
	}
	code = c->protocol == 2 ? asya_reply_add(&call->reply, call->arena, frame, limits, &err)
				: asya_reply_add_v1(&call->reply, call->arena, frame, limits, &err);
	if (code == 0)
		return 1;
	if (code < 0) {
		explain(c, err.text);
		lose(c, CALL_INVALID, "");
		return 0;
	}
	answered(c);
	return 1;
}

static void drain_frames(struct connection *c)
{
	struct link *l = c->link;
	struct asya_error err;
	struct asya_str frame;
	int code;

	while ((code = asya_frames_next(&c->frames, &frame, &err)) == 1)
		if (!on_frame(c, frame) || c->link != l || c->unsent)
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

/* The rest of requests that did not go out at once. It belongs to its pipe, and is a copy: a
 * request may be over, and its message gone, before the runtime has read all of it. */
struct rest {
	uv_write_t write;
	struct link *link;
	char bytes[];
};

/* Who hangs up early may have answered first. */
static void break_off(struct connection *c)
{
	c->broken = true;
	c->fires_ms = uv_now(c->rt->loop) + BROKEN_MS;
	uv_timer_start(&c->timer, on_timeout, BROKEN_MS, 0);
}

static void on_written(uv_write_t *w, int status)
{
	struct rest *rest = asya_container_of(w, struct rest, write);
	struct connection *c = rest->link->owner;

	free(rest);
	if (!status || !c || c->phase != BUSY)
		return;
	break_off(c);
}

static int write_rest(struct link *l, const uv_buf_t *bufs, unsigned n_bufs, size_t written)
{
	struct rest *rest;
	size_t n = 0;
	uv_buf_t buf;

	for (unsigned i = 0; i < n_bufs; i++)
		n += bufs[i].len;
	rest = asya_malloc(sizeof(*rest) + n - written);
	*rest = (struct rest){.link = l};
	buf = uv_buf_init(rest->bytes, 0);
	for (unsigned i = 0; i < n_bufs; i++) {
		size_t skip = written < bufs[i].len ? written : bufs[i].len;

		memcpy(rest->bytes + buf.len, bufs[i].base + skip, bufs[i].len - skip);
		buf.len += bufs[i].len - skip;
		written -= skip;
	}
	if (uv_write(&rest->write, (uv_stream_t *)&l->pipe, &buf, 1, on_written) == 0)
		return 0;
	free(rest);
	return -1;
}

/* The fresh requests and what stands before each. Returns the bytes of all. */
static size_t gather(struct connection *c, uv_buf_t *bufs)
{
	struct asya_buf *heads = &c->link->head;
	struct asya_link *i = c->calls.prev;
	size_t head_n, n = 0;

	heads->n = 0;
	asya_buf_reserve(heads, (size_t)FRAME_HEAD_MAX * c->fresh);
	for (unsigned k = 1; k < c->fresh; k++)
		i = i->prev;
	for (; i != &c->calls; i = i->next) {
		struct call *call = asya_container_of(i, struct call, link);

		asya_failpoint("invoke.before");
		head_n = heads->n;
		asya_frame_head(heads, c->protocol == 2 ? 'R' : 0, call->request.n);
		head_n = heads->n - head_n;
		*bufs++ = uv_buf_init(heads->p + heads->n - head_n, (unsigned)head_n);
		*bufs++ = uv_buf_init((char *)call->request.p, (unsigned)call->request.n);
		n += head_n + call->request.n;
		call->written = true;
	}
	return n;
}

/* Nothing of the fresh requests has gone. */
static void unwrite(struct connection *c)
{
	struct asya_link *i = c->calls.prev;

	for (unsigned k = 0; k < c->fresh; k++, i = i->prev)
		asya_container_of(i, struct call, link)->written = false;
	if (c->fresh == c->n)
		lose_later(c);
	else
		break_off(c);
}

static void send_fresh(struct connection *c)
{
	uv_buf_t bufs[2 * ASYA_AHEAD_MAX];
	size_t all = gather(c, bufs);
	int n = uv_try_write((uv_stream_t *)&c->link->pipe, bufs, 2 * c->fresh);

	asya_list_remove(&c->dirty);
	if (c->fresh == c->n)
		begin_time(c);
	if (n == UV_EAGAIN)
		n = 0;
	if (n < 0 || ((size_t)n < all && write_rest(c->link, bufs, 2 * c->fresh, (size_t)n)))
		unwrite(c);
	c->fresh = 0;
}

void runtime_flush(struct runtime *rt)
{
	while (!asya_list_empty(&rt->dirty))
		send_fresh(asya_container_of(rt->dirty.next, struct connection, dirty));
}

/* What was called on a connection that is open is to be written. */
static void queue_call(struct connection *c)
{
	if (c->phase != BUSY)
		c->protocol = c->rt->protocol;
	c->phase = BUSY;
	c->fresh++;
	if (asya_list_empty(&c->dirty))
		asya_list_add_tail(&c->rt->dirty, &c->dirty);
}

static void on_connected(uv_connect_t *req, int status)
{
	struct link *l = asya_container_of(req, struct link, connect);
	struct connection *c = l->owner;
	struct call *call;

	if (!c)
		return;
	if (status == 0)
		status = uv_read_start((uv_stream_t *)&l->pipe, on_alloc, on_read);
	if (status == 0) {
		c->phase = IDLE;
		c->rt->refused = false;
		if (c->n) {
			queue_call(c);
			send_fresh(c);
		}
		tell(c->rt);
		return;
	}
	call = first_call(c);
	if (!call) { /* it was only tried */
		hang_up(c);
		return;
	}
	refuse(c->rt);
	call->why = asya_arena_printf(call->arena, "connecting to '%s': %s", c->rt->socket_path,
				      uv_strerror(status))
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
	struct call *call;
	uint64_t end_ms;

	if (c->unsent) {
		refuse(c->rt);
		lose(c, CALL_NOT_STARTED, "the runtime hung up before it had the request");
		return;
	}
	if (c->broken) {
		lose(c, CALL_LOST, "the runtime hung up before it had the whole request");
		return;
	}
	call = first_call(c);
	if (!call)
		return;
	end_ms = c->since_ms + (uint64_t)call->timeout_ms;
	if (end_ms > uv_now(c->rt->loop)) {
		c->fires_ms = end_ms;
		uv_timer_start(t, on_timeout, end_ms - uv_now(c->rt->loop), 0);
		return;
	}
	if (c->protocol == 2) {
		lose(c, CALL_TIMEOUT, "no answer in time");
		return;
	}
	asya_list_remove(&call->link);
	c->n = 0;
	c->bytes = 0;
	c->phase = LATE;
	call->took_ns = asya_clock_mono_ns() - c->since_ns;
	call->done(call, CALL_TIMEOUT);
	tell(c->rt);
}

/* More is sent once half of it is answered, so that it goes in one piece. */
static bool takes_ahead(const struct connection *c, size_t bytes)
{
	unsigned depth = c->rt->depth;

	return c->phase == BUSY && c->protocol == 2 && !c->broken && !c->unsent && c->n < depth &&
	       (c->n <= depth / 2 || c->fresh) && c->bytes + bytes <= AHEAD_BYTES &&
	       uv_now(c->rt->loop) - c->since_ms < STALE_MS;
}

/* A connection that has nothing to do, else one to open, else the one with the fewest calls. */
static struct connection *free_slot(const struct runtime *rt, size_t bytes)
{
	struct connection *closed = NULL, *least = NULL;

	for (unsigned i = 0; i < rt->workers && rt->told; i++) {
		struct connection *c = rt->slots[i];

		if (c->phase == IDLE)
			return c;
		if (c->phase == CLOSED && !closed && !rt->refused)
			closed = c;
		if (takes_ahead(c, bytes) && (!least || c->n < least->n))
			least = c;
	}
	return closed ? closed : least;
}

int runtime_room(const struct runtime *rt, size_t bytes)
{
	const struct connection *c = free_slot(rt, bytes);

	return c ? (int)c->n : -1;
}

void runtime_expect(struct runtime *rt, double service_us)
{
	rt->service_us = service_us;
	rt->depth = asya_ahead_decide(service_us, rt->ahead);
}

int64_t runtime_busy_ns(const struct runtime *rt)
{
	int64_t latest_ns = 0;

	for (unsigned i = 0; i < rt->workers; i++) {
		const struct connection *c = rt->slots[i];

		if (!c->n)
			return 0;
		if (c->since_ns > latest_ns)
			latest_ns = c->since_ns;
	}
	return latest_ns ? asya_clock_mono_ns() - latest_ns : 0;
}

void runtime_invoke(struct runtime *rt, struct call *call)
{
	struct connection *c = free_slot(rt, call->request.n);

	call->why = NULL;
	call->written = false;
	call->reply = (struct asya_reply){0};
	asya_list_add_tail(&c->calls, &call->link);
	c->bytes += call->request.n;
	if (c->n++ == 0) {
		c->since_ns = asya_clock_mono_ns();
		c->since_ms = uv_now(rt->loop);
	}
	if (c->phase == CLOSED)
		open_link(c);
	else
		queue_call(c);
}

void runtime_cancel(struct runtime *rt)
{
	for (unsigned i = 0; i < rt->n_slots; i++) {
		struct connection *c = rt->slots[i];

		if (!c->n)
			continue;
		while (asya_list_pop(&c->calls))
			;
		hang_up(c);
	}
}

/* ---- */

int runtime_open(struct runtime **ret, uv_loop_t *loop, const struct runtime_config *config,
		 struct asya_error *err)
{
	struct runtime *rt = asya_new0(struct runtime);

	*rt = (struct runtime){.config = *config,
			       .loop = loop,
			       .protocol = 1,
			       .ahead = 1,
			       .depth = 1,
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
	asya_list_init(&rt->dirty);
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
