// SPDX-License-Identifier: Apache-2.0
/*
 * The runtime behind its unix socket (docs/runtime-protocol.md): whether it is ready, and requests
 * to it, several side by side.
 *
 * Protocol 2 keeps one connection for each of the runtime's workers and uses it again. Protocol 1
 * has one connection per request and one request at a time; a request that got no answer in time
 * keeps its connection, and nothing more is sent until the runtime answers late or hangs up.
 */
#pragma once
#include "core/runtime_reply.h"
#include "base/list.h"

#include <uv.h>

enum call_result {
	CALL_ANSWERED,    /* `reply` is whole */
	CALL_TIMEOUT,     /* no answer in time; the handler was told to stop */
	CALL_LOST,        /* the runtime hung up in the middle: `why` */
	CALL_INVALID,     /* what it sent is no answer: `why` */
	CALL_NOT_STARTED, /* the runtime could not be reached: no handler has seen it */
};

struct connection;

/* One request. The caller owns it until `done`, which runs once, from the loop. */
struct call {
	struct asya_arena *arena; /* where the reply goes */
	struct asya_str request;  /* the envelope's bytes */
	int64_t timeout_ms;
	void (*done)(struct call *call, enum call_result result);
	struct asya_reply reply;
	const char *why;               /* it failed; lives as long as the arena */
	struct connection *connection; /* the runtime's */
};

struct runtime_config {
	const char *dir; /* of the socket and the readiness file */
	size_t frame_bytes;
	struct asya_reply_limits limits;
	/* Ready with so many workers, or (0) not ready; told whenever that changes. */
	void (*changed)(void *user, unsigned workers);
	void *user;
};

struct runtime;

int runtime_open(struct runtime **ret, uv_loop_t *loop, const struct runtime_config *config,
		 struct asya_error *err);
/* Whether another call may be made now. */
bool runtime_has_room(const struct runtime *rt);
void runtime_invoke(struct runtime *rt, struct call *call);
/* Ends the call without `done`; the handler is told to stop by closing its connection. */
void runtime_cancel(struct call *call);
/* A protocol 1 runtime that has not come back after a timeout. */
bool runtime_stuck(const struct runtime *rt);
unsigned runtime_protocol(const struct runtime *rt);
/* No call is under way. */
void runtime_close(struct runtime *rt, void (*done)(void *user), void *user);
