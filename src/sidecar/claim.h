// SPDX-License-Identifier: Apache-2.0
/*
 * The claim check: a message that is too large for its queue leaves its payload in the bucket, as
 * `{prefix}{sha256 of the payload}`, and travels with `payload_ref: {"url", "size", "sha256"}` in
 * its place. Nothing here deletes an object: copies of a message may still need it. Claims of any
 * other bucket or prefix are refused, so that no message can make a sidecar read what it may not.
 */
#pragma once
#include "base/arena.h"
#include "core/envelope.h"
#include "store/s3/s3.h"

struct claims {
	const struct asya_s3_ops *ops;
	struct asya_s3 *s3;
	struct asya_str bucket, prefix;
	size_t max_bytes; /* of a payload */
};

/* One payload on its way. On a message's arena, unmoved until `done`. */
struct claim {
	struct asya_s3_op op;
	const struct claims *claims;
	struct asya_arena *arena;
	struct asya_envelope env;
	struct asya_str sha256;
	int64_t size;
	/* Once, from the loop. err: NULL, and `body` is the whole envelope with its payload
	 * (redeem) or without (check); or ASYA_RETRY, or ASYA_REJECT where the claim is void. */
	void (*done)(struct claim *c, const struct asya_error *err);
	void *user;
	struct asya_str body;
};

/* Fetches the payload of `env`, which has a payload_ref, and checks its size and hash. -1 with
 * ASYA_REJECT if the claim cannot be one of ours; `done` is not called then. */
int claim_redeem(struct claim *c, const struct asya_envelope *env, struct asya_error *err);
/* Leaves the payload of the envelope `body`, which outlives the claim. -1 if it is no envelope with
 * a payload; `done` is not called then. */
int claim_check(struct claim *c, struct asya_str body, struct asya_error *err);
