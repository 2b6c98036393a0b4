// SPDX-License-Identifier: Apache-2.0
/* One delivery on its way through the sidecar, and the steps that flow.c and flow_claim.c share. */
#pragma once
#include "sidecar/sidecar.h"

struct message {
	struct asya_link link; /* waiting, invoking, settling or again */
	struct sidecar *s;
	struct asya_arena *arena;
	struct asya_delivery *delivery;
	struct asya_envelope env;
	struct asya_attempt attempt;
	struct asya_plan plan;
	struct call call;
	struct asya_file_put put;
	struct asya_s3_op object;
	struct asya_str
		body; /* what the handler gets: the delivery's, or with its payload fetched */
	struct claim *claims; /* of what is fetched or left */
	struct asya_post *posts;
	size_t n_claims; /* that are not done */
	struct asya_error claim_error;
	struct asya_settle settle;
	struct asya_hop hop;
	struct asya_str outcome;
	int64_t received_ns, received_us, settle_ns;
	int64_t again_at_ms, again_ms;
};

void flow_move_to(struct asya_link *list, struct message *m);
/* Back to its queue; no failure is counted. */
void flow_release(struct message *m, int64_t delay_ms);
/* Acks it once the posts are durable. m->hop is filled. */
void flow_ack_with(struct message *m, const struct asya_post *posts, size_t n);
/* Into this actor's own dead letters, byte for byte. */
void flow_to_dead_letters(struct message *m, struct asya_str why);
/* To error-end, or along the policy's actors. */
void flow_give_up(struct message *m, const struct asya_failure *f,
		  const struct asya_retry_policy *policy);

/* The largest body that the queue takes. */
size_t flow_taken(const struct sidecar *s);
/* Leaves the payloads of m->posts that their queue does not take in the bucket, then acks. */
void flow_leave_payloads(struct message *m);
/* Fetches the payload that stands in m->env.payload_ref; then the message waits like any other. */
void flow_fetch(struct message *m);
