// SPDX-License-Identifier: Apache-2.0
/*
 * The runtime behind its unix socket (docs/runtime-protocol.md): whether it is ready, and requests
 * to it, several side by side.
 *
 * Protocol 2 keeps one connection for each of the runtime's workers and uses it again. Where the
 * runtime allows it, a connection of a quick handler has further requests behind the one that is at
 * work; whatever ends the connection costs the first one only, the others come back. Protocol 1 has
 * one connection per request and one request at a time; a request that got no answer in time keeps
 * its connection, and nothing more is sent until the runtime answers late or hangs up.
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
	CALL_GIVEN_BACK,  /* the request before it ended the connection: no handler has seen it */
};

/* One request. The caller owns it until `done`, which runs once, from the loop. A call that is
 * given back has its `done` before the one that is to blame, and the last of several has it first;
 * it must not make another call. */
struct call {
	struct asya_arena *arena; /* where the reply goes */
	struct asya_str request;  /* the envelope's bytes */
	int64_t timeout_ms;
	void (*done)(struct call *call, enum call_result result);
	struct asya_reply reply;
	const char *why;       /* it failed; lives as long as the arena */
	int64_t took_ns;       /* since it was the first on its connection */
	struct asya_link link; /* this and the next are the runtime's */
	bool written;
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
/* Behind how many others a call of so many bytes would wait that is made now; -1: none may be. */
int runtime_room(const struct runtime *rt, size_t bytes);
/* Makes a call, for which there is room. It need not leave before runtime_flush. */
void runtime_invoke(struct runtime *rt, struct call *call);
void runtime_flush(struct runtime *rt);
/* What a request takes, by experience: how many may wait on a connection. */
void runtime_expect(struct runtime *rt, double service_us);
/* For how long every worker has been at work; 0: one is free. */
int64_t runtime_busy_ns(const struct runtime *rt);
/* Ends every call without `done`; the handlers are told to stop by closing their connections. */
void runtime_cancel(struct runtime *rt);
/* A protocol 1 runtime that has not come back after a timeout. */
bool runtime_stuck(const struct runtime *rt);
unsigned runtime_protocol(const struct runtime *rt);
/* No call is under way. */
void runtime_close(struct runtime *rt, void (*done)(void *user), void *user);
