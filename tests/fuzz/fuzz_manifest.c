// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a manifest. What the checks let pass must come apart; what is written as JSON must
 * be JSON, read back to the same; every finding must have text that can be shown. */
#include "base/mem.h"
#include "core/asyncactor.h"
#include "core/schema.h"
#include "core/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_json(struct asya_arena *arena, const struct asya_tree *tree)
{
	struct asya_buf first = {0}, second = {0};
	struct asya_tree *again;
	struct asya_error err;

	asya_tree_json_write(&first, tree);
	if (first.n <= ASYA_TREE_TEXT_MAX) {
		if (asya_tree_json_parse(&again, arena, asya_buf_view(&first), &err))
			abort();
		asya_tree_json_write(&second, again);
		if (!asya_str_eq(asya_buf_view(&first), asya_buf_view(&second)) ||
		    again->nodes != tree->nodes || again->height != tree->height)
			abort();
	}
	asya_buf_fini(&first);
	asya_buf_fini(&second);
}

static void check_report(struct asya_str text, const struct asya_findings *f)
{
	for (int as_json = 0; as_json < 2; as_json++) {
		struct asya_buf out = {0};

		asya_manifest_report_write(&out, "f", text, f, as_json);
		if (!asya_utf8_valid(out.p ? out.p : "", out.n))
			abort();
		asya_buf_fini(&out);
	}
}

static void check_actor(struct asya_arena *arena, const struct asya_tree *schema,
			const struct asya_tree *tree, struct asya_str text)
{
	struct asya_asyncactor actor;
	struct asya_resiliency resiliency;
	struct asya_findings f;
	struct asya_error err;

	asya_findings_init(&f, arena);
	asya_asyncactor_check(&f, schema, tree);
	check_report(text, &f);
	if (f.errors)
		return;
	if (asya_asyncactor_parse(&actor, arena, schema, tree, &err))
		abort();
	if (actor.resiliency_json.p &&
	    asya_resiliency_parse_json(&resiliency, arena, actor.resiliency_json, &err))
		abort();
	asya_asyncactor_check(&f, schema, actor.tree);
	if (f.errors)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct asya_tree *schema;
	static struct asya_arena *forever;
	struct asya_str text = {(const char *)data, n};
	struct asya_arena *arena = asya_arena_new();
	struct asya_tree **docs;
	struct asya_findings f;
	struct asya_manifest m;
	struct asya_error err;
	size_t n_docs;

	if (!schema) {
		forever = asya_arena_new();
		schema = asya_schema_asyncactor(forever);
	}
	if (asya_yaml_parse(&docs, &n_docs, arena, text, NULL, &err) == 0) {
		for (size_t i = 0; i < n_docs; i++) {
			check_json(arena, docs[i]);
			check_actor(arena, schema, docs[i], text);
		}
	} else if (!asya_utf8_valid(err.text, strlen(err.text))) {
		abort();
	}
	/* It reads the schema each time, which is most of the time. */
	if (n % 16 == 0) {
		asya_findings_init(&f, arena);
		asya_manifest_parse(&m, arena, text, &f);
		check_report(text, &f);
	}
	asya_arena_free(arena);
	return 0;
}
