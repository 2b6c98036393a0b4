// SPDX-License-Identifier: Apache-2.0
/*
 * The SQS transport: any service that speaks the JSON protocol of Amazon SQS. Part of the module
 * asya-aws.so (see load.c), because libcurl costs memory that other transports must not pay.
 *
 * Not transactional: posts are confirmed by SendMessageBatch before the message is deleted; a crash
 * between the two repeats the message. A settlement whose receipt turns out to be invalid only at
 * the delete is ASYA_STALE, and its posts have been made.
 *
 * Closing takes as long as the long polls that are under way, ASYA_SQS_WAIT_TIME_SECONDS at most;
 * it begins with stopping the consumers, so a draining sidecar does not wait twice.
 *
 * Names: `asya-ACTOR`, with a namespace `asya-NAMESPACE_ACTOR`; `-dlq` for dead letters, `.fifo`
 * for FIFO queues; what would be longer than 80 characters is cut and ends in a hash.
 *
 * Bodies travel as they are, except that what SQS refuses is made acceptable and comes back whole:
 * U+FFFE and U+FFFF in JSON texts become escapes (the same JSON), other bytes travel as base64 with
 * the attribute `asya-encoding`. Other attributes: `asya-queued-us` (when it was first queued),
 * `asya-not-before-us` (a delay longer than SQS has, or on a FIFO queue, which has none per
 * message: who receives it earlier hides it until then).
 */
#pragma once
#include "io/aws_credentials.h"
#include "transport/transport.h"

struct asya_sqs_config {
	const char *endpoint; /* URL; NULL: https://sqs.REGION.amazonaws.com */
	const char *region;
	const char *space;   /* namespace; or "" */
	const char *ca_file; /* NULL: the system's */
	int64_t visibility_s, wait_s;
	bool auto_create; /* queues that are missing */
	bool fifo;
	bool fair; /* standard queues: MessageGroupId by tenant */
	asya_aws_variable_fn *get;
	void *get_user;
};

int asya_sqs_open(struct asya_transport **ret, uv_loop_t *loop,
		  const struct asya_sqs_config *config, struct asya_error *err);

/* Of the program: opens by loading the module. */
extern const struct asya_transport_ops asya_sqs_ops;
/* Of the module. */
extern const struct asya_transport_ops asya_sqs_backend_ops;
