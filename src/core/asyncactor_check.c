// SPDX-License-Identifier: Apache-2.0
/* What is wrong with an AsyncActor: its envelope of apiVersion, kind and metadata, its schema, and
 * the twins of the rules that the schema has in CEL. */
#include "base/clock.h"
#include "base/mem.h"
#include "core/asyncactor.h"
#include "core/envelope.h"
#include "core/pod_check.h"
#include "core/schema.h"
#include "core/suggest.h"

static const struct asya_str metadata_fields[] = {
	ASYA_STR("annotations"),
	ASYA_STR("creationTimestamp"),
	ASYA_STR("deletionGracePeriodSeconds"),
	ASYA_STR("deletionTimestamp"),
	ASYA_STR("finalizers"),
	ASYA_STR("generateName"),
	ASYA_STR("generation"),
	ASYA_STR("labels"),
	ASYA_STR("managedFields"),
	ASYA_STR("name"),
	ASYA_STR("namespace"),
	ASYA_STR("ownerReferences"),
	ASYA_STR("resourceVersion"),
	ASYA_STR("selfLink"),
	ASYA_STR("uid"),
};

#define error(f, place, path, ...)                                                                 \
	asya_findings_add(f, ASYA_SEVERITY_ERROR, place, path, __VA_ARGS__)

static struct asya_place key_place(const struct asya_tree *node)
{
	return node->key.p ? node->key_place : node->place;
}

static bool is_word(const struct asya_tree *node, const char *word)
{
	return node && node->type == ASYA_TREE_STRING && asya_str_eq_c(node->text, word);
}

/* False: it is no AsyncActor, and nothing more can be said of it. */
static bool check_word(struct asya_findings *f, const struct asya_tree *tree, const char *key,
		       const char *known)
{
	const struct asya_tree *node = asya_tree_get(tree, key, NULL);
	struct asya_buf is = {0};

	if (is_word(node, known))
		return true;
	if (node) {
		asya_tree_describe(&is, node);
		error(f, node->place, asya_str_c(key),
		      "known here is AsyncActor of %s, this is %.*s", ASYA_API_VERSION,
		      ASYA_STR_ARG(asya_buf_view(&is)));
		asya_buf_fini(&is);
	} else {
		error(f, tree->place, asya_str_c(key), "is required; known here is %s", known);
	}
	return false;
}

static void check_name(struct asya_findings *f, const struct asya_tree *metadata)
{
	const struct asya_tree *name = asya_tree_get(metadata, "name", NULL);
	struct asya_str path = ASYA_STR("metadata.name");
	struct asya_buf is = {0};

	if (!name || name->type == ASYA_TREE_NULL) {
		error(f, key_place(metadata), path, "is required: the actor's name in routes");
		return;
	}
	asya_tree_describe(&is, name);
	if (name->type != ASYA_TREE_STRING)
		error(f, name->place, path, "must be a string, is %.*s; put it in quotes",
		      ASYA_STR_ARG(asya_buf_view(&is)));
	else if (asya_str_ends(name->text, "-dlq"))
		error(f, name->place, path,
		      "names that end in -dlq are for dead-letter queues, is %.*s",
		      ASYA_STR_ARG(asya_buf_view(&is)));
	else if (!asya_actor_name_valid(name->text))
		error(f, name->place, path,
		      "must be a DNS label (a-z, 0-9 and - between them, at most %d), is %.*s",
		      ASYA_ACTOR_MAX, ASYA_STR_ARG(asya_buf_view(&is)));
	asya_buf_fini(&is);
}

static bool is_label(struct asya_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		bool word = (s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9');

		if (!word && (s.p[i] != '-' || i == 0 || i + 1 == s.n))
			return false;
	}
	return s.n >= 1 && s.n <= 63;
}

static void check_namespace(struct asya_findings *f, const struct asya_tree *metadata)
{
	const struct asya_tree *node = asya_tree_get(metadata, "namespace", NULL);

	if (node && node->type != ASYA_TREE_NULL &&
	    (node->type != ASYA_TREE_STRING || !is_label(node->text)))
		error(f, node->place, ASYA_STR("metadata.namespace"),
		      "must be a DNS label (a-z, 0-9 and - between them, at most 63)");
}

static void check_strings(struct asya_findings *f, const struct asya_tree *metadata,
			  const char *key)
{
	const struct asya_tree *map = asya_tree_get(metadata, key, NULL);
	struct asya_str path = asya_path_member(f->arena, ASYA_STR("metadata"), asya_str_c(key));

	if (!map || map->type == ASYA_TREE_NULL)
		return;
	if (map->type != ASYA_TREE_MAP) {
		error(f, map->place, path, "must be a map of strings");
		return;
	}
	asya_tree_each(child, map)
	{
		if (child->type != ASYA_TREE_STRING)
			error(f, child->place, asya_path_member(f->arena, path, child->key),
			      "must be a string; put it in quotes");
	}
}

static bool is_known(struct asya_str key, const struct asya_str *known, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (asya_str_eq(key, known[i]))
			return true;
	return false;
}

static void check_metadata(struct asya_findings *f, const struct asya_tree *tree)
{
	const struct asya_tree *metadata = asya_tree_get(tree, "metadata", NULL);
	size_t n = ASYA_ARRAY_SIZE(metadata_fields);

	if (!metadata || metadata->type != ASYA_TREE_MAP) {
		error(f, metadata ? metadata->place : tree->place, ASYA_STR("metadata"),
		      "must be a map with a name");
		return;
	}
	asya_tree_each(child, metadata)
	{
		if (!is_known(child->key, metadata_fields, n))
			asya_schema_unknown(f, ASYA_SEVERITY_ERROR, child, ASYA_STR("metadata"),
					    metadata_fields, n);
	}
	check_name(f, metadata);
	check_namespace(f, metadata);
	check_strings(f, metadata, "labels");
	check_strings(f, metadata, "annotations");
}

static int64_t number_or(const struct asya_tree *node, int64_t otherwise)
{
	int64_t value;

	return asya_tree_i64(node, &value) ? value : otherwise;
}

static void check_scaling(struct asya_findings *f, const struct asya_tree *schema,
			  const struct asya_tree *spec)
{
	const struct asya_tree *defaults =
		asya_tree_get(schema, "schema", "properties", "spec", "properties", "scaling",
			      "properties", NULL);
	const struct asya_tree *min = asya_tree_get(spec, "scaling", "minReplicas", NULL);
	const struct asya_tree *max = asya_tree_get(spec, "scaling", "maxReplicas", NULL);
	const struct asya_tree *advanced = asya_tree_get(spec, "scaling", "advanced", NULL);
	const struct asya_tree *formula = asya_tree_get(advanced, "formula", NULL);
	int64_t least = number_or(
		min, number_or(asya_tree_get(defaults, "minReplicas", "default", NULL), 0));
	int64_t most = number_or(
		max, number_or(asya_tree_get(defaults, "maxReplicas", "default", NULL), 0));

	if ((min || max) && least > most)
		error(f, min ? min->place : max->place, ASYA_STR("spec.scaling.minReplicas"),
		      "must be at most maxReplicas (%lld%s), is %lld", (long long)most,
		      max ? "" : " by default", (long long)least);
	if (formula && !asya_tree_get(advanced, "target", NULL))
		error(f, formula->key_place, ASYA_STR("spec.scaling.advanced.formula"),
		      "a formula needs a target");
}

static const struct asya_tree *list_at(const struct asya_tree *map, const char *key)
{
	const struct asya_tree *node = asya_tree_get(map, key, NULL);

	return node && node->type == ASYA_TREE_LIST ? node : NULL;
}

static void check_policy(struct asya_findings *f, const struct asya_tree *policy,
			 struct asya_str path)
{
	const struct asya_tree *attempts = asya_tree_get(policy, "maxAttempts", NULL);
	const struct asya_tree *duration = asya_tree_get(policy, "maxDuration", NULL);
	int64_t ns = 0;

	asya_tree_each(actor, list_at(policy, "onExhausted"))
	{
		if (actor->type == ASYA_TREE_STRING && asya_str_ends(actor->text, "-dlq"))
			error(f, actor->place,
			      asya_path_member(f->arena, path, ASYA_STR("onExhausted")),
			      "names that end in -dlq are for dead-letter queues");
	}
	if (duration && duration->type == ASYA_TREE_STRING &&
	    asya_duration_parse(&ns, duration->text))
		return;
	if (number_or(attempts, 1) == 0 && ns == 0)
		error(f, attempts->place, asya_path_member(f->arena, path, ASYA_STR("maxAttempts")),
		      "0 is without a limit and needs a maxDuration");
}

static void check_rule(struct asya_findings *f, const struct asya_tree *policies,
		       const struct asya_tree *rule, struct asya_str path)
{
	const struct asya_tree *policy = asya_tree_get(rule, "policy", NULL);
	struct asya_str names[ASYA_POLICIES_MAX];
	size_t n = 0;
	int near;

	if (!policy || policy->type != ASYA_TREE_STRING || asya_tree_member(policies, policy->text))
		return;
	asya_tree_each(child, policies) if (n < ASYA_POLICIES_MAX) names[n++] = child->key;
	near = asya_suggest(policy->text, names, n);
	path = asya_path_member(f->arena, path, ASYA_STR("policy"));
	if (near >= 0)
		error(f, policy->place, path, "there is no policy \"%s\", did you mean %s?",
		      asya_tree_shown(f->arena, policy->text),
		      asya_tree_shown(f->arena, names[near]));
	else
		error(f, policy->place, path,
		      "there is no policy \"%s\" under spec.resiliency.policies",
		      asya_tree_shown(f->arena, policy->text));
}

static void check_resiliency(struct asya_findings *f, const struct asya_tree *spec)
{
	const struct asya_tree *policies = asya_tree_get(spec, "resiliency", "policies", NULL);
	const struct asya_tree *rules = asya_tree_get(spec, "resiliency", "rules", NULL);
	struct asya_str path = ASYA_STR("spec.resiliency.policies");
	size_t i = 0;

	if (policies && policies->type == ASYA_TREE_MAP)
		asya_tree_each(policy, policies)
			check_policy(f, policy, asya_path_member(f->arena, path, policy->key));
	if (rules && rules->type == ASYA_TREE_LIST && rules->n <= ASYA_RULES_MAX)
		asya_tree_each(rule, rules) check_rule(
			f, policies, rule,
			asya_path_item(f->arena, ASYA_STR("spec.resiliency.rules"), i++));
}

static int64_t processing_seconds(const struct asya_tree *spec)
{
	const struct asya_tree *longest = asya_tree_get(spec, "resiliency", "actorTimeout", NULL);
	int64_t ns;

	if (longest && longest->type == ASYA_TREE_STRING &&
	    asya_duration_parse(&ns, longest->text) == 0)
		return ns / 1000000000;
	return number_or(asya_tree_get(spec, "timeout", "processing", NULL), 300);
}

static void check_timeouts(struct asya_findings *f, const struct asya_tree *spec)
{
	const struct asya_tree *grace = asya_tree_get(spec, "timeout", "gracefulShutdown", NULL);
	const struct asya_tree *longest = asya_tree_get(spec, "resiliency", "actorTimeout", NULL);
	int64_t seconds, ns;

	if (asya_tree_i64(grace, &seconds) && seconds >= 0 && seconds < processing_seconds(spec))
		asya_findings_add(f, ASYA_SEVERITY_WARNING, grace->place,
				  ASYA_STR("spec.timeout.gracefulShutdown"),
				  "is shorter than a call may take (%lld s), so calls are cut off "
				  "and their messages given back; not set, it is %lld",
				  (long long)processing_seconds(spec),
				  (long long)processing_seconds(spec) + 30);
	if (longest && longest->type == ASYA_TREE_STRING &&
	    asya_duration_parse(&ns, longest->text) == 0 && ns == 0)
		error(f, longest->place, ASYA_STR("spec.resiliency.actorTimeout"),
		      "must be longer than 0");
}

void asya_asyncactor_check(struct asya_findings *f, const struct asya_tree *schema,
			   const struct asya_tree *tree)
{
	const struct asya_tree *spec = asya_tree_get(tree, "spec", NULL);

	if (tree->type != ASYA_TREE_MAP) {
		error(f, tree->place, ASYA_STR(""), "must be a map with apiVersion and kind");
		return;
	}
	if (!check_word(f, tree, "apiVersion", ASYA_API_VERSION) ||
	    !check_word(f, tree, "kind", "AsyncActor"))
		return;
	check_metadata(f, tree);
	asya_schema_check(f, asya_tree_get(schema, "schema", NULL), tree, ASYA_STR(""));
	check_scaling(f, schema, spec);
	check_resiliency(f, spec);
	check_timeouts(f, spec);
	asya_pod_check(f, asya_tree_get(spec, "workload", "template", "spec", NULL),
		       ASYA_STR("spec.workload.template.spec"), processing_seconds(spec));
}
