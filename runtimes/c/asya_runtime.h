// SPDX-License-Identifier: Apache-2.0
/*
 * asya_runtime - makes a C program an Asya actor
 *
 * SYNOPSIS
 *	#include "asya_runtime.h"
 *
 *	static void handle(struct asya_request *r, void *user)
 *	{
 *		asya_emit(r, asya_payload(r), asya_payload_len(r));
 *	}
 *
 *	int main(void)
 *	{
 *		return asya_serve(handle, NULL);
 *	}
 *
 *	cc -O2 actor.c asya_runtime.c -pthread -o actor
 *
 * DESCRIPTION
 *	Two files, to be copied or linked: they need libc and pthreads, and Linux. The program
 *listens on $ASYA_SOCKET_DIR/asya-runtime.sock, says so in runtime-ready beside it, and calls the
 *handler once a message (docs/runtime-protocol.md, versions 1 and 2).
 *
 *	The handler gets JSON bytes and gives JSON bytes; which JSON library stands between is its
 *own choice. What it emits is checked strictly (RFC 8259, UTF-8, at most 1024 deep): text that is
 *not JSON makes an error reply, never a broken frame.
 *
 *	The handler runs in worker processes, always, also when there is only one: a handler that
 *	crashes, or that the sidecar cancels, is ended together with all processes it started, costs
 *its own message and no other, and the listening socket stays open meanwhile in the parent, which
 *	starts the next worker. A second crash soon after the first waits 100 ms, and each further
 *one twice as long, up to 5 s.
 *
 *	Memory that the program fills before asya_serve (a model, say) is shared by all workers
 *until they write to it. What does not outlive a fork (threads, database connections, GPU contexts)
 *	belongs in `start`.
 *
 * ENVIRONMENT
 *	ASYA_SOCKET_DIR         directory of the socket, default /var/run/asya
 *	ASYA_SOCKET_CHMOD       its mode in octal, default 0o666; empty: as umask has it
 *	ASYA_WORKERS            worker processes, 1 to 1024, default 1: messages handled side by
 *side ASYA_MAX_MESSAGE_BYTES  default 67108864; a frame may have 65536 more ASYA_GRACE_PERIOD a Go
 *duration (`30s`, `1m30s`, `500ms`), default 30s: after SIGTERM or SIGINT the program goes on
 *serving until its connections are closed and none has come for a second, but no longer than this
 *	ASYA_LOG_LEVEL          DEBUG, INFO (default), WARNING or ERROR; one JSON object a line,
 *stderr
 *
 *	A value that cannot be is an error at start that names the variable.
 */
#ifndef ASYA_RUNTIME_H
#define ASYA_RUNTIME_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One message in a handler's hands. All that is read from it are views that end with the handler's
 * return; they are not NUL-terminated unless it says so. Not to be shared between threads. */
struct asya_request;

/* Handles one message: emits any number of items, or fails, and returns. Emitting nothing ends the
 * message's way: it goes to happy-end as it came. */
typedef void asya_handle_fn(struct asya_request *req, void *user);

/* Runs in each new worker before its first message. Not 0: the worker is of no use. The program
 * ends with exit status 1 when that happens before it was ready, else the worker is tried again. */
typedef int asya_start_fn(void *user);

struct asya_actor {
	asya_handle_fn *handle;
	asya_start_fn *start; /* may be NULL */
	void *user;           /* handed to both */
};

/* Serves until SIGTERM or SIGINT. To be called from the main thread, before any other was started;
 * until it returns, all children of the process are its to wait for. Returns the exit status for
 * main: 0 after an orderly end, 1 if it could not start, with the reason on stderr. */
int asya_serve(asya_handle_fn *handle, void *user);
int asya_serve_actor(const struct asya_actor *actor);

/* The payload, any JSON value, byte for byte as it was sent. */
const char *asya_payload(const struct asya_request *req);
size_t asya_payload_len(const struct asya_request *req);

/* The whole envelope, a JSON object. */
const char *asya_envelope(const struct asya_request *req);
size_t asya_envelope_len(const struct asya_request *req);

/* What stands between the quotes of the envelope's id, NUL-terminated, at most 1023 bytes of it; ""
 * if it has none. */
const char *asya_id(struct asya_request *req);

/* The JSON value of a member of the envelope, "headers", "route" or any other; its length goes to
 * *n. NULL if there is no such member. */
const char *asya_member(const struct asya_request *req, const char *key, size_t *n);

/* An outgoing message. All three are JSON texts; NULL is none. */
struct asya_item {
	const char *payload;
	size_t payload_len;
	const char *route; /* an object; NULL: the envelope's, one actor further */
	size_t route_len;
	const char *headers; /* an object; NULL: the envelope's */
	size_t headers_len;
};

/* Sends `n` bytes of JSON on to the next actor. The bytes are copied. 0, or -1 if they are no JSON
 * or too large; then the request has failed with an error of type InvalidJSON or MessageTooLarge,
 * what was emitted before counts for nothing, and more is refused. */
int asya_emit(struct asya_request *req, const char *json, size_t n);

/* The same with a route and headers of one's own: whoever sets `route` advances its `current`, and
 * changes nothing before it. */
int asya_emit_item(struct asya_request *req, const struct asya_item *item);

/* The request has failed: what was emitted counts for nothing. `type` names the error for retry
 * policies ("ValueError", "mylib.Busy"), at most 127 bytes; the text is cut at 2047. The first
 * failure of a request is the one that counts. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
void asya_fail(struct asya_request *req, const char *type, const char *format, ...);

#ifdef __cplusplus
}
#endif
#endif
