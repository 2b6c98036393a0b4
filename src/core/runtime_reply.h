// SPDX-License-Identifier: Apache-2.0
/*
 * A runtime's answer to one request (docs/runtime-protocol.md), put together from frames. Pure.
 *
 * Everything it keeps is copied to the arena: a frame's bytes may go once it was added.
 */
#pragma once
#include "core/route.h"

struct asya_reply_limits {
	size_t items; /* of one answer */
	size_t bytes; /* of all its frames together */
	unsigned depth;
};

struct asya_reply {
	struct asya_item *items;
	size_t n;
	bool failed; /* `failure` is the answer; items count for nothing */
	struct asya_failure failure;
	size_t room, bytes;
};

/* The one frame of protocol 1. 1: the answer is whole; -1 ASYA_REJECT: it is none. */
int asya_reply_add_v1(struct asya_reply *reply, struct asya_arena *arena, struct asya_str frame,
		      const struct asya_reply_limits *limits, struct asya_error *err);
/* A frame of protocol 2, its type first. 1: the answer is whole; 0: there is more to come; -1. */
int asya_reply_add(struct asya_reply *reply, struct asya_arena *arena, struct asya_str frame,
		   const struct asya_reply_limits *limits, struct asya_error *err);
