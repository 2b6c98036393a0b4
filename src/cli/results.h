// SPDX-License-Identifier: Apache-2.0
/* What has become of envelopes: from the hop records below a root, and the files of end actors. */
#pragma once
#include "cli/cli.h"

/* One ended message. */
struct result {
	struct asya_str id, outcome, detail, actor;
	int64_t settled_us;
};

struct results {
	struct asya_arena *arena;
	struct result *items;
	size_t n, room;
	size_t failed; /* of them: at error-end, or among dead letters */
};

/* All that have ended below the root. -1 with *err. */
int results_read(struct results *ret, struct client *c, struct asya_str root,
		 struct asya_error *err);
/* Prints one, its payload read from the directory of results. */
void results_print(struct client *c, const struct result *r, bool json);
