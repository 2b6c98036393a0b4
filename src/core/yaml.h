// SPDX-License-Identifier: Apache-2.0
/*
 * YAML to trees, read as Kubernetes reads it (sigs.k8s.io/yaml: the rules of YAML 1.1), by libyaml.
 *
 * Plain scalars are typed thus; quoted ones and block scalars are strings.
 *   null:     ~, null, Null, NULL and nothing at all
 *   boolean:  y, yes, true, on, n, no, false, off, each also Capitalised and in CAPITALS
 *   number:   decimal, 0x1F, 0o17, 017 (octal), 0b101, 1_000, 1.5, .5, 1e3; signs are fine
 *   string:   everything else, dates and 1:30 included
 * Accepted: several documents, anchors, aliases (within ASYA_TREE_NODES_MAX and _DEPTH_MAX, counted
 * as expanded), merge keys (`<<: *a`, `<<: [*a, *b]`; a map's own keys win, and `<<` stands before
 * them where both have a key, because readers disagree on the other order), the tags !!str, !!int,
 * !!float, !!bool, !!null, !!map and !!seq.
 *
 * Refused, each with its place: repeated keys, keys that are no strings (write "8080": and "on":),
 * other tags, .inf and .nan (JSON has none), bytes that are not UTF-8, more than the limits of
 * core/tree.h or below.
 */
#pragma once
#include "core/tree.h"

enum { ASYA_YAML_DOCUMENTS_MAX = 100, ASYA_YAML_ANCHORS_MAX = 1000 /* of one document */ };

/* The documents of `text`; an empty one is a null. JSON that YAML cannot read (pairs of surrogate
 * escapes) is read as JSON, without places. Trees and the array live on `arena`.
 *
 * ASYA_REJECT says what is wrong. With `place` not NULL the place goes there; with NULL the text
 * begins with it ("line 3, column 5: "). */
int asya_yaml_parse(struct asya_tree ***ret, size_t *ret_n, struct asya_arena *arena,
		    struct asya_str text, struct asya_place *place, struct asya_error *err);

/* Makes of a plain scalar what it is (type, boolean, text; raw is `plain`): the table above.
 * -1: it is a number that JSON cannot hold; err says so. */
int asya_yaml_resolve(struct asya_tree *node, struct asya_arena *arena, struct asya_str plain,
		      struct asya_error *err);
