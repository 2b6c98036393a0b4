// SPDX-License-Identifier: Apache-2.0
/*
 * Objects in a bucket of Amazon S3, or of what speaks like it. Part of the module asya-aws.so,
 * which asya_s3_load loads: libcurl costs memory.
 *
 * A put that is done has been confirmed by the service. What is overloaded or cannot be reached is
 * tried again a few times, with back-off.
 */
#pragma once
#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct asya_s3;

/* Texts are copied. */
struct asya_s3_config {
	const char *bucket;
	const char *endpoint; /* URL; NULL or empty: Amazon's of the region */
	const char *region;
	bool virtual_host; /* BUCKET.HOST in place of HOST/BUCKET; Amazon's is asked so by itself */
	struct asya_str access, secret;                   /* none: where the AWS SDKs find them */
	const char *ca_file;                              /* or NULL */
	const char *(*get)(void *user, const char *name); /* variables; borrowed until closed */
	void *get_user;
};

/* One operation; the caller's memory, unmoved from the call until `done`. */
struct asya_s3_op {
	struct asya_str key;  /* any bytes, at most 1024; borrowed */
	struct asya_str body; /* put; borrowed */
	size_t max_bytes;     /* get: the largest object; 0: 1 MiB */
	/* Once, from the loop, never inside. status 0: done; `body` of a get is valid during the
	 * call, who wants to keep it takes it and leaves zeroes. -1 with err: ASYA_RETRY, or
	 * ASYA_REJECT where there is no such object or it is too large. */
	void (*done)(struct asya_s3_op *op, int status, struct asya_buf *body,
		     const struct asya_error *err);
	void *user;
	void *request; /* the store's */
};

struct asya_s3_ops {
	/* -1 ASYA_FATAL: the endpoint or the bucket's name cannot be one. */
	int (*open)(struct asya_s3 **ret, uv_loop_t *loop, const struct asya_s3_config *config,
		    struct asya_error *err);
	void (*put)(struct asya_s3 *s3, struct asya_s3_op *op);
	void (*get)(struct asya_s3 *s3, struct asya_s3_op *op);
	/* What is under way is done with an error; then `closed` runs, from the loop; it may be
	 * NULL. */
	void (*close)(struct asya_s3 *take_s3, void (*closed)(void *user), void *user);
};

/* Of the module. */
extern const struct asya_s3_ops asya_s3_backend_ops;

/* Of the program: the module's, NULL with ASYA_FATAL. `dir` as in io/module.h. */
const struct asya_s3_ops *asya_s3_load(const char *dir, struct asya_error *err);
