// SPDX-License-Identifier: Apache-2.0
/*
 * Where an end actor keeps an envelope: `{prefix}{time}/{last actor}/{id}.json`. Pure. Actors and
 * ids come from outside, so they are written such that no file system or object store sees anything
 * special in them, whatever bytes they hold.
 */
#pragma once
#include "base/arena.h"

#include <stdint.h>

enum { ASYA_OBJECT_NAME_MAX = 200, ASYA_OBJECT_NAME_MIN = 128 };

/* `text` as one component of a key, with `suffix` behind it, at most `max` bytes together
 * (ASYA_OBJECT_NAME_MIN or more). All but letters, digits, `-`, `_`, `~` and `.` is
 * percent-encoded, and so is a dot at the beginning. What would be too long is cut and ends in `=`
 * and the SHA-256 of the whole text. Two texts never have the same name. */
struct asya_str asya_object_name(struct asya_arena *arena, struct asya_str text, const char *suffix,
				 size_t max);

/* The whole key; `time_us` is UTC since 1970. The last actor of an empty route is `unknown`. `max`
 * is for each component. Has a NUL behind it. */
struct asya_str asya_object_key(struct asya_arena *arena, struct asya_str prefix, int64_t time_us,
				struct asya_str last_actor, struct asya_str id, size_t max);
