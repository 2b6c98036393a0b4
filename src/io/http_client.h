// SPDX-License-Identifier: Apache-2.0
/*
 * HTTP(S) requests from a libuv loop: libcurl's multi interface, HTTP/1.1, connections kept alive
 * and shared. Certificates and names are verified. Redirects are answers like others; nothing is
 * sent twice by this client, save that libcurl repeats a request whose kept connection turned out
 * to be closed before any byte of an answer. Proxies of the environment are used only if asked for.
 *
 * A library of its own: libcurl costs a program 4 MiB of memory.
 */
#pragma once
#include "base/buf.h"
#include "base/error.h"
#include "base/list.h"
#include "io/http_header.h"

#include <uv.h>

struct asya_http_client;

/* 0, false and NULL: the default in brackets. Texts are copied. */
struct asya_http_client_config {
	unsigned connections;        /* at most, side by side [64]; further requests wait */
	const char *ca_file;         /* PEM of those who may sign servers' certificates [the
				      * system's] */
	const char *cert_file;       /* PEM, our own certificate [none] */
	const char *key_file;        /* PEM, its key */
	bool proxy_from_environment; /* obey https_proxy, http_proxy and no_proxy [no] */
};

struct asya_http_answer {
	unsigned status;
	struct asya_buf body;    /* who wants to keep it takes it and leaves zeroes */
	struct asya_buf headers; /* the lines, as they came */
};

struct asya_http_request;

/* One request. The caller's memory, unmoved and unchanged until `done`, and so is all it points at.
 */
struct asya_http_request {
	const char *method; /* "GET" */
	const char *url;    /* http or https, sent as it stands */
	const struct asya_http_header *headers;
	size_t n_headers;
	struct asya_str body;       /* no value: none */
	int64_t timeout_ms;         /* of the whole, once it has a connection's place [30 s] */
	int64_t connect_timeout_ms; /* [5 s] */
	size_t max_bytes;           /* largest body of an answer [1 MiB] */
	/* Once, from the loop, never inside of asya_http_send or asya_http_cancel. Either an
	 * answer, whatever its status, or why there is none: ASYA_REJECT for what no server can
	 * mend (a bad URL, an answer that is too large), ASYA_RETRY for troubles of network and
	 * TLS, no advice if it was cancelled. It may free the request, send it again, and close the
	 * client. */
	void (*done)(struct asya_http_request *r, struct asya_http_answer *answer,
		     const struct asya_error *err);
	void *user;

	/* the client's */
	struct asya_link link;
	void *transfer;
};

int asya_http_client_open(struct asya_http_client **ret, uv_loop_t *loop,
			  const struct asya_http_client_config *config, struct asya_error *err);
/* Cancels what is under way, then frees the client and calls `done` from the loop; it may be NULL.
 */
void asya_http_client_close(struct asya_http_client *take_client, void (*done)(void *user),
			    void *user);

void asya_http_send(struct asya_http_client *client, struct asya_http_request *r);
/* Of a request that is not done. */
void asya_http_cancel(struct asya_http_client *client, struct asya_http_request *r);

/* The value of a header of the answer, without white space around it; no value if it is not there.
 * Names in any case. */
struct asya_str asya_http_answer_header(const struct asya_http_answer *a, const char *name);
