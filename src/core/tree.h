// SPDX-License-Identifier: Apache-2.0
/*
 * A tree of JSON-like values that remembers where each came from: what manifests are read into
 * (core/yaml.h for YAML, here for JSON), checked as and taken from.
 *
 * Nodes live on the arena they were made with. Trees from a reader are not to be changed: an alias
 * shares its children with its anchor. Numbers keep their digits.
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>

/* Limits of every reader; each is the largest value that passes. Aliases count as what they stand
 * for, and a value that stands alone has depth 1. */
enum {
	ASYA_TREE_TEXT_MAX = 1 << 20,
	ASYA_TREE_NODES_MAX = 100000,
	ASYA_TREE_DEPTH_MAX = 100,
	ASYA_TREE_MEMBERS_MAX = 1024, /* of one map */
};

enum asya_tree_type {
	ASYA_TREE_NULL,
	ASYA_TREE_BOOL,
	ASYA_TREE_NUMBER,
	ASYA_TREE_STRING,
	ASYA_TREE_LIST,
	ASYA_TREE_MAP,
};

/* Counted from 1, columns in characters; 0: not known (a tree from JSON). */
struct asya_place {
	unsigned line, column;
};

struct asya_tree {
	enum asya_tree_type type;
	bool boolean;
	struct asya_str text; /* of a string: its value; of a number: as JSON writes it */
	struct asya_str raw;  /* of a scalar: as it was written, without quotes */
	struct asya_place place;

	struct asya_str key; /* where the node is a member of a map; else no value */
	struct asya_place key_place;
	struct asya_tree *next; /* the next item or member of the same list or map */

	struct asya_tree *first, *last; /* items or members in their order */
	size_t n;
	size_t nodes;    /* this one and all below */
	unsigned height; /* of a scalar or an empty collection: 1 */
};

struct asya_tree *asya_tree_new(struct asya_arena *arena, enum asya_tree_type type,
				struct asya_place place);
/* Appends `node` to a list or, with its key set, to a map. Whether the key is there already is the
 * caller's to know. */
void asya_tree_append(struct asya_tree *parent, struct asya_tree *node);
/* A copy that shares nothing but bytes of text; key and next are not copied. */
struct asya_tree *asya_tree_copy(struct asya_arena *arena, const struct asya_tree *node);

/* The member under the keys that follow, one map deeper each, ended by NULL; NULL if there is none.
 * `node` may be NULL. */
const struct asya_tree *asya_tree_get(const struct asya_tree *node, ...) __attribute__((sentinel));
const struct asya_tree *asya_tree_member(const struct asya_tree *map, struct asya_str key);
/* The item at `index`, or NULL. */
const struct asya_tree *asya_tree_at(const struct asya_tree *list, size_t index);

#define asya_tree_each(child, parent)                                                              \
	for (const struct asya_tree *child = (parent) ? (parent)->first : NULL; child;             \
	     child = child->next)

/* Whether the node is a number without a fraction that fits; 1.0 and 1e3 are such numbers. */
bool asya_tree_i64(const struct asya_tree *node, int64_t *ret);
/* Appends what the node is, for messages: `the string "5"`, `the number 5`, `a list`. Long values
 * are cut and bytes that a terminal would act on are escaped. */
void asya_tree_describe(struct asya_buf *out, const struct asya_tree *node);
/* Text from outside for messages, on `arena`: its first 60 bytes, whole characters, escaped as in
 * JSON but without quotes. */
const char *asya_tree_shown(struct asya_arena *arena, struct asya_str text);

/*
 * Typed readers of the member `key` of `map` (NULL: as if empty). If it is absent or null, 0 and
 * *ret stays as it was, so that defaults are set before. Of the wrong type or size: -1 ASYA_REJECT,
 * with the place, the key, what it is and what would be right.
 */
int asya_tree_read_str(struct asya_str *ret, const struct asya_tree *map, const char *key,
		       struct asya_error *err);
int asya_tree_read_bool(bool *ret, const struct asya_tree *map, const char *key,
			struct asya_error *err);
int asya_tree_read_i64(int64_t *ret, const struct asya_tree *map, const char *key, int64_t min,
		       int64_t max, struct asya_error *err);
/* A Go duration, rounded up to whole milliseconds. */
int asya_tree_read_duration_ms(int64_t *ret, const struct asya_tree *map, const char *key,
			       struct asya_error *err);
/* A list of strings; the array lives on `arena`. */
int asya_tree_read_strs(const struct asya_str **ret, size_t *ret_n, struct asya_arena *arena,
			const struct asya_tree *map, const char *key, struct asya_error *err);
/* The member as a collection of that type; *ret is NULL if it is absent or null. */
int asya_tree_read_node(const struct asya_tree **ret, const struct asya_tree *map, const char *key,
			enum asya_tree_type type, struct asya_error *err);
/* -1 if `map` has a member that is not among the `n` names in `known`; names the nearest one. */
int asya_tree_read_only(const struct asya_tree *map, const struct asya_str *known, size_t n,
			struct asya_error *err);

/* Reads one JSON value with the limits above. Repeated keys are refused. ASYA_REJECT says at which
 * byte. Places are not known. Does not need libyaml. */
int asya_tree_json_parse(struct asya_tree **ret, struct asya_arena *arena, struct asya_str text,
			 struct asya_error *err);
/* Appends the node as JSON, without white space. */
void asya_tree_json_write(struct asya_buf *out, const struct asya_tree *node);
