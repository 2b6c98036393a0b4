// SPDX-License-Identifier: Apache-2.0
/*
 * A small HTTP/1.1 server for pages that a program makes about itself: metrics, health, readiness.
 * It lives in a libuv loop, in the loop's thread, without threads of its own. Plain HTTP, no TLS.
 *
 * Unknown paths get 404, other methods 405 with Allow, HEAD what GET would get without its body.
 * A request's query is not looked at; a request's body is read and dropped.
 *
 * Limits: beyond `connections` clients wait in the kernel's queue until another one leaves; a
 * client that is silent for `idle_s` is closed; a request line with headers beyond `request_bytes`
 * gets 414 or 431; one whose body is larger than ASYA_HTTP_BODY_BYTES is closed.
 */
#pragma once
#include "base/buf.h"
#include "base/error.h"

#include <uv.h>

enum { ASYA_HTTP_BODY_BYTES = 65536 };

struct asya_http_response {
	unsigned status;          /* 200 unless the handler says otherwise */
	const char *content_type; /* text/plain in UTF-8 unless the handler says otherwise; borrowed
				   * until the handler has returned */
	struct asya_buf body;     /* empty; the server takes it over */
};

/* Fills the response before it returns; runs in the loop's thread. May close the server. */
typedef void asya_http_handler_fn(void *user, struct asya_http_response *response);

struct asya_http_route {
	const char *method; /* "GET"; it answers HEAD too */
	const char *path;   /* whole: "/metrics" */
	asya_http_handler_fn *handler;
};

/* 0: the default in brackets. */
struct asya_http_limits {
	unsigned connections; /* [64] */
	unsigned idle_s;      /* [10] */
	size_t request_bytes; /* [8192], about: one connection's memory, response headers included
			       */
};

struct asya_http_server;

/* Listens on `address` (io/listen.h) and serves `n` routes with `user` until it is closed. `routes`
 * and `loop` are borrowed until then; `limits` may be NULL. -1 ASYA_FATAL names the address. */
int asya_http_server_open(struct asya_http_server **ret, uv_loop_t *loop, const char *address,
			  const struct asya_http_route *routes, size_t n,
			  const struct asya_http_limits *limits, void *user,
			  struct asya_error *err);

/* The port that it listens on. */
unsigned asya_http_server_port(const struct asya_http_server *server);

/* Stops taking requests. `done` runs once, from the loop, when connections and port are closed and
 * the server is freed; it may be NULL. NULL for `server` is not allowed; call it once. */
void asya_http_server_close(struct asya_http_server *take_server, void (*done)(void *user),
			    void *user);
