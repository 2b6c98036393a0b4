// SPDX-License-Identifier: Apache-2.0
/* libmicrohttpd watches its sockets in an epoll set of its own; libuv watches that set, and keeps
 * the timer that it asks for. */
#include "io/http_server.h"

#include "base/mem.h"
#include "io/listen.h"

#include <microhttpd.h>
#include <unistd.h>

struct asya_http_server {
	struct MHD_Daemon *daemon;
	const struct asya_http_route *routes;
	size_t n_routes;
	void *user;
	unsigned port;
	unsigned max_connections;
	uv_poll_t poll;
	uv_timer_t timer;
	unsigned open_handles;
	bool closing;
	void (*done)(void *user);
	void *done_user;
};

static enum MHD_Result queue(struct MHD_Connection *connection, struct asya_http_response *r,
			     const char *allow)
{
	struct asya_buf body = r->body;
	struct MHD_Response *response = MHD_create_response_from_buffer(
		body.n, body.n ? body.p : "",
		body.n ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	enum MHD_Result result;

	if (!response || !body.n)
		free(body.p);
	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, r->content_type);
	if (allow)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
	result = MHD_queue_response(connection, r->status, response);
	MHD_destroy_response(response);
	return result;
}

static bool answers(const struct asya_http_route *route, const char *method)
{
	return strcmp(route->method, method) == 0 ||
	       (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

/* The methods of the path in `allow`, empty if nothing is there. */
static const struct asya_http_route *find(const struct asya_http_server *server, const char *method,
					  const char *path, struct asya_buf *allow)
{
	for (size_t i = 0; i < server->n_routes; i++) {
		const struct asya_http_route *route = &server->routes[i];

		if (strcmp(route->path, path) != 0)
			continue;
		if (answers(route, method))
			return route;
		asya_buf_printf(allow, "%s%s%s", allow->n ? ", " : "", route->method,
				strcmp(route->method, "GET") == 0 ? ", HEAD" : "");
	}
	return NULL;
}

static enum MHD_Result answer(struct asya_http_server *server, struct MHD_Connection *connection,
			      const char *method, const char *path)
{
	struct asya_http_response r = {200, "text/plain; charset=utf-8", {0}};
	struct asya_buf allow = {0};
	const struct asya_http_route *route = find(server, method, path, &allow);
	enum MHD_Result result;

	if (route) {
		route->handler(server->user, &r);
	} else if (allow.n) {
		r.status = 405;
		asya_buf_printf(&r.body, "only %.*s here\n", (int)allow.n, allow.p);
		asya_buf_char(&allow, '\0');
	} else {
		r.status = 404;
		asya_buf_c(&r.body, "not found; here are:");
		for (size_t i = 0; i < server->n_routes; i++)
			asya_buf_printf(&r.body, " %s", server->routes[i].path);
		asya_buf_char(&r.body, '\n');
	}
	result = queue(connection, &r, route ? NULL : allow.p);
	asya_buf_fini(&allow);
	return result;
}

/* Called once after the headers, for each piece of a body, and at the end. `state` counts the
 * body's bytes, from 1. */
static enum MHD_Result request(void *user, struct MHD_Connection *connection, const char *path,
			       const char *method, const char *version, const char *body,
			       size_t *body_n, void **state)
{
	uintptr_t read = (uintptr_t)*state;

	(void)version;
	(void)body;
	if (!read) {
		*state = (void *)1;
		return MHD_YES;
	}
	if (!*body_n)
		return answer(user, connection, method, path);
	if (*body_n > ASYA_HTTP_BODY_BYTES + 1 - read)
		return MHD_NO;
	*state = (void *)(read + *body_n);
	*body_n = 0;
	return MHD_YES;
}

static void run(struct asya_http_server *server);

static void on_timer(uv_timer_t *timer)
{
	run(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	run(poll->data);
}

static void set_timer(struct asya_http_server *server)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (MHD_get_timeout(server->daemon, &ms) == MHD_YES)
		uv_timer_start(&server->timer, on_timer, ms, 0);
	else
		uv_timer_stop(&server->timer);
}

static bool full(const struct asya_http_server *server)
{
	return MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)
		       ->num_connections >= server->max_connections;
}

/* A handler may close the server. When the first of a full house has left, libmicrohttpd watches
 * its listening socket again only with the next run; nothing else would bring that one about. */
static void run(struct asya_http_server *server)
{
	bool was_full;

	if (server->closing)
		return;
	do {
		was_full = full(server);
		MHD_run(server->daemon);
	} while (!server->closing && was_full && !full(server));
	if (!server->closing)
		set_timer(server);
}

static int start(struct asya_http_server *server, int fd, const struct asya_http_limits *limits)
{
	unsigned idle_s = limits && limits->idle_s ? limits->idle_s : 10;
	size_t bytes = limits && limits->request_bytes ? limits->request_bytes : 8192;

	server->max_connections = limits && limits->connections ? limits->connections : 64;
	server->daemon = MHD_start_daemon(
		MHD_USE_EPOLL, 0, NULL, NULL, request, server, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_CONNECTION_LIMIT, server->max_connections, MHD_OPTION_CONNECTION_TIMEOUT,
		idle_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, bytes, MHD_OPTION_END);
	return server->daemon ? 0 : -1;
}

static int watch(struct asya_http_server *server, uv_loop_t *loop)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	int status = uv_poll_init(loop, &server->poll, info->epoll_fd);

	if (status)
		return status;
	uv_timer_init(loop, &server->timer);
	server->open_handles = 2;
	server->poll.data = server->timer.data = server;
	set_timer(server);
	/* it refuses only what another handle watches already */
	if (uv_poll_start(&server->poll, UV_READABLE, on_poll))
		abort();
	return 0;
}

int asya_http_server_open(struct asya_http_server **ret, uv_loop_t *loop, const char *address,
			  const struct asya_http_route *routes, size_t n,
			  const struct asya_http_limits *limits, void *user, struct asya_error *err)
{
	_cleanup_(asya_freep) struct asya_http_server *server = asya_new0(struct asya_http_server);
	int fd, status;

	if (asya_tcp_listen(&fd, &server->port, address, err))
		return -1;
	server->routes = routes;
	server->n_routes = n;
	server->user = user;
	/* a daemon that started owns the socket; whether one that failed closed it, is not said */
	if (start(server, fd, limits))
		return asya_error_set(err, ASYA_FATAL, "cannot start the server on '%s'", address);
	status = watch(server, loop);
	if (status) {
		MHD_stop_daemon(server->daemon);
		return asya_error_set(err, ASYA_FATAL, "cannot watch the server on '%s': %s",
				      address, uv_strerror(status));
	}
	*ret = take_ptr(server);
	return 0;
}

unsigned asya_http_server_port(const struct asya_http_server *server)
{
	return server->port;
}

static void on_closed(uv_handle_t *handle)
{
	struct asya_http_server *server = handle->data;
	void (*done)(void *user) = server->done;
	void *user = server->done_user;

	if (--server->open_handles)
		return;
	MHD_stop_daemon(server->daemon);
	free(server);
	if (done)
		done(user);
}

void asya_http_server_close(struct asya_http_server *server, void (*done)(void *user), void *user)
{
	server->closing = true;
	server->done = done;
	server->done_user = user;
	uv_close((uv_handle_t *)&server->poll, on_closed);
	uv_close((uv_handle_t *)&server->timer, on_closed);
}
