// SPDX-License-Identifier: Apache-2.0
/*
 * AWS Signature Version 4 of a request in its headers (AWS General Reference, "Signing AWS API
 * requests"; for S3 "Authenticating Requests: Using the Authorization Header"). Pure.
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "io/http_header.h"

#include <stdint.h>

struct asya_aws_keys {
	struct asya_str access, secret;
	struct asya_str token; /* of temporary keys; or no value */
};

/* How S3 differs from all other services. */
enum asya_sigv4_flags {
	ASYA_SIGV4_PATH_AS_IS = 1 << 0,  /* the path is encoded once and not normalised */
	ASYA_SIGV4_HASH_HEADER = 1 << 1, /* the body's hash is sent, too */
	ASYA_SIGV4_UNSIGNED = 1 << 2,    /* the body is not signed; with the header only */
	ASYA_SIGV4_S3 = ASYA_SIGV4_PATH_AS_IS | ASYA_SIGV4_HASH_HEADER,
};

struct asya_sigv4 {
	struct asya_aws_keys keys;
	struct asya_str region, service;
	int64_t time_us; /* UTC since 1970 */
	unsigned flags;
	struct asya_str method;
	struct asya_str host;  /* with the port, if it is in the URL and not the scheme's own */
	struct asya_str path;  /* as it stands in the URL, from its slash on */
	struct asya_str query; /* the same, without its question mark */
	const struct asya_http_header *headers; /* signed, too; any order and case */
	size_t n_headers;
	struct asya_str body;
};

enum { ASYA_SIGV4_HEADERS = 4 };

/* The headers to add to the request, Authorization among them. Returns their number; texts on
 * `arena`. */
size_t asya_sigv4_sign(struct asya_http_header ret[ASYA_SIGV4_HEADERS], struct asya_arena *arena,
		       const struct asya_sigv4 *s);

/* Appends `s` percent-encoded as AWS wants it: all but letters, digits, `-`, `.`, `_` and `~`.
 * `keep` is a character that stays, too, 0: none. */
void asya_uri_encode(struct asya_buf *out, struct asya_str s, char keep);
