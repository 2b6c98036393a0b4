// SPDX-License-Identifier: Apache-2.0
/* Single values out of a text that core/json_scan.h has checked. */
#pragma once
#include "base/arena.h"
#include "base/str.h"

#include <stdbool.h>

static inline bool asya_json_is_string(struct asya_str raw)
{
	return raw.n && raw.p[0] == '"';
}

/* Decodes a raw JSON string, quotes included, onto the arena, with a NUL behind. 0, or -1 if it is
 * none. */
int asya_json_string(struct asya_str *ret, struct asya_arena *arena, struct asya_str raw);
