// SPDX-License-Identifier: Apache-2.0
/* Hop records in memory, so many at most. */
#pragma once
#include "cli/cli.h"

enum { HOPS_MAX = 100000, HOP_DETAIL_MAX = 1024 };

struct hop {
	struct asya_str id, parent, root, actor, outcome, detail; /* on the arena */
	int64_t received_us, settled_us;
	unsigned attempt;
};

struct hops {
	struct asya_arena *arena;
	struct hop *items; /* oldest first */
	size_t n, room;
	size_t more; /* that there was no room for */
};

/* Adds those of the envelope `id`, or of all below it (transport.h); in the latter case none of
 * `except` (may have no value). Where the transport keeps no history: those that the envelope has
 * carried with it to the end actor, if it was kept here. -1 with *err. */
int hops_read(struct hops *h, struct client *c, struct asya_str id, bool below,
	      struct asya_str except, struct asya_error *err);

/* What has become of the message whose newest hop that is. */
enum hop_state { HOP_UNDER_WAY, HOP_KEPT, HOP_FAILED, HOP_DEAD };
enum hop_state hop_state(const struct hop *h);
