// SPDX-License-Identifier: Apache-2.0
/*
 * Signed requests to one AWS service, or to what speaks like it: an HTTP client of its own, the
 * keys, and the signature of each request. It repeats nothing; keys that the service calls expired
 * or unknown are fetched anew for the next request.
 */
#pragma once
#include "io/aws_credentials.h"

struct asya_aws_client;

struct asya_aws_client_config {
	const char *service;  /* as in the signature: "sqs" */
	const char *region;   /* "us-east-1" */
	const char *endpoint; /* "https://host[:port][/path]"; a slash at its end is left out */
	const char *ca_file;  /* as in io/http_client.h; or NULL */
	unsigned connections;
	struct asya_aws_keys keys; /* to be used in place of the chain's; no access key: none */
	asya_aws_variable_fn *get;
	void *get_user;
};

/* One request. The caller's memory, unmoved and unchanged until `done`, and so is all it points at.
 */
struct asya_aws_request {
	const char *method;
	struct asya_str path;  /* percent-encoded, from its slash on */
	struct asya_str query; /* percent-encoded; or no value */
	const struct asya_http_header *headers;
	size_t n_headers;
	struct asya_str body;
	unsigned flags; /* enum asya_sigv4_flags */
	int64_t timeout_ms;
	size_t max_bytes;
	/* As in io/http_client.h. */
	void (*done)(struct asya_aws_request *r, struct asya_http_answer *answer,
		     const struct asya_error *err);
	void *user;

	/* the client's */
	struct asya_aws_client *client;
	struct asya_arena *arena;
	struct asya_aws_want want;
	struct asya_http_request http;
};

/* -1 ASYA_FATAL: the endpoint is no URL. */
int asya_aws_client_open(struct asya_aws_client **ret, uv_loop_t *loop,
			 const struct asya_aws_client_config *config, struct asya_error *err);
/* Requests under way are done with an error; then `done` runs, from the loop. */
void asya_aws_client_close(struct asya_aws_client *take_client, void (*done)(void *user),
			   void *user);
void asya_aws_send(struct asya_aws_client *client, struct asya_aws_request *r);
