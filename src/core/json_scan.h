// SPDX-License-Identifier: Apache-2.0
/*
 * A strict JSON scanner (RFC 8259): checks a whole text and yields the extents of its top-level
 * members, so that a payload travels on as the very bytes that came. It makes no values and
 * allocates nothing.
 *
 * Refused: anything but one value and white space around it, bytes that are not UTF-8, control
 * characters in strings, unpaired surrogate escapes (they name no character, and half the readers
 * along the way would fail on them), and nesting deeper than `max_depth`. Accepted: numbers of any
 * size, "\u0000", repeated keys below the top level.
 */
#pragma once
#include "base/error.h"
#include "base/str.h"

/* One member of an object: `key` is what stands between the quotes, still escaped; `value` is the
 * value's bytes without white space around it. Both borrow from the text. */
struct asya_json_member {
	struct asya_str key;
	struct asya_str value;
};

/* Called for each member in order. 0 to go on, -1 with *err filled to stop. */
typedef int asya_json_member_fn(void *user, const struct asya_json_member *member,
				struct asya_error *err);

/* Checks `text`, one JSON value of any kind, at most `max_depth` arrays and objects deep.
 * ASYA_REJECT with the byte's position if it is none. */
int asya_json_check(struct asya_str text, unsigned max_depth, struct asya_error *err);

/* The same for an object, whose members go to `fn`. ASYA_REJECT if it is no object. */
int asya_json_members(struct asya_str text, unsigned max_depth, asya_json_member_fn *fn, void *user,
		      struct asya_error *err);

/* Called for each element of an array in order. 0 to go on, -1 with *err filled to stop. */
typedef int asya_json_item_fn(void *user, size_t index, struct asya_str value,
			      struct asya_error *err);

/* The same for an array, whose elements go to `fn`. ASYA_REJECT if it is no array. */
int asya_json_items(struct asya_str text, unsigned max_depth, asya_json_item_fn *fn, void *user,
		    struct asya_error *err);
