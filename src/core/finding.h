// SPDX-License-Identifier: Apache-2.0
/* What a check of a manifest found, and how it is shown. */
#pragma once
#include "core/tree.h"

enum { ASYA_FINDINGS_MAX = 200 };

enum asya_severity { ASYA_SEVERITY_ERROR, ASYA_SEVERITY_WARNING };

struct asya_finding {
	enum asya_severity severity;
	struct asya_place place;
	struct asya_str path; /* spec.scaling.minReplicas; empty for a document as a whole */
	struct asya_str text; /* what is wrong, and what would be right */
};

/* Made by asya_findings_init; the texts live on its arena. In the order found, which is that of the
 * document for the most part. */
struct asya_findings {
	struct asya_arena *arena;
	struct asya_finding *items;
	size_t n;                /* at most ASYA_FINDINGS_MAX; those beyond are only counted: */
	size_t errors, warnings; /* all */
};

void asya_findings_init(struct asya_findings *f, struct asya_arena *arena);
void asya_findings_add(struct asya_findings *f, enum asya_severity severity,
		       struct asya_place place, struct asya_str path, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* Paths: `path` with a member (dots only where the key is a plain word: spec.policies["a.b"]) or an
 * item behind it, on `arena`. */
struct asya_str asya_path_member(struct asya_arena *arena, struct asya_str path,
				 struct asya_str key);
struct asya_str asya_path_item(struct asya_arena *arena, struct asya_str path, size_t index);

/*
 * Appends the findings for people:
 *
 *	actor.yaml:5:14: error: spec.transport: must be a string, is the number 5
 *	    5 |   transport: 5
 *	      |              ^
 *
 * or, `as_json`, one object and a newline: {"file", "errors", "warnings", "findings": [{"severity",
 * "line", "column", "path", "message"}]}, where line and column are 0 if not known. `text` is the
 * manifest, for the lines shown; no value: no lines are shown.
 */
void asya_manifest_report_write(struct asya_buf *out, const char *file, struct asya_str text,
				const struct asya_findings *f, bool as_json);
