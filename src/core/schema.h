// SPDX-License-Identifier: Apache-2.0
/*
 * Checks a tree against a schema: the part of OpenAPI v3 that Kubernetes calls structural, as
 * deploy/schema/asyncactor.yaml uses it. Pure.
 *
 * Understood: type (all but number), properties, required, additionalProperties, items, enum,
 * minimum, maximum, minLength, maxLength (characters), minItems, maxItems, maxProperties, pattern,
 * format (duration, date-time, int32, int64), default, x-kubernetes-int-or-string,
 * x-kubernetes-preserve-unknown-fields, x-kubernetes-list-type: map with its keys. Rules in CEL
 * (x-kubernetes-validations) are not run: core/asyncactor.h does the same by hand.
 *
 * A pattern is a POSIX extended regular expression, searched for in the value. Kubernetes reads it
 * as RE2, so schemas keep to what both read alike: no \d or \w, no (?:...), no lazy quantifiers, no
 * backslash in brackets, only ASCII. Patterns are run on at most ASYA_PATTERN_MAX bytes.
 *
 * As in Kubernetes a null stands for an absent member, and a document's `metadata` is no part of
 * its schema. Other than there, unknown members are errors.
 */
#pragma once
#include "core/finding.h"

enum { ASYA_PATTERN_MAX = 4096 };

/* The schema of AsyncActor (all of deploy/schema/asyncactor.yaml: group, version, names, schema) as
 * it was at build time, on `arena`. Ends the process if that is no YAML. */
const struct asya_tree *asya_schema_asyncactor(struct asya_arena *arena);

/* Adds what is wrong with `node` to `f`. `path` is where it stands in its document. `schema` is
 * what stands under `schema:` in the file, or a part of it. */
void asya_schema_check(struct asya_findings *f, const struct asya_tree *schema,
		       const struct asya_tree *node, struct asya_str path);

/* A copy of `node` on `arena` with the schema's defaults where members are absent or null. */
struct asya_tree *asya_schema_default(struct asya_arena *arena, const struct asya_tree *schema,
				      const struct asya_tree *node);

/* Says that the member `child` is unknown, at its key, and which of the `n` names was meant. Used
 * where there is no schema. */
void asya_schema_unknown(struct asya_findings *f, enum asya_severity severity,
			 const struct asya_tree *child, struct asya_str path,
			 const struct asya_str *known, size_t n);
