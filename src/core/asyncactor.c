// SPDX-License-Identifier: Apache-2.0
#include "core/asyncactor.h"

#include "base/mem.h"
#include "core/schema.h"
#include "core/yaml.h"

enum { GRACE_MS = 30000 };

const struct asya_env *asya_env_find(const struct asya_env *env, size_t n, struct asya_str name)
{
	while (n--)
		if (asya_str_eq(env[n].name, name))
			return &env[n];
	return NULL;
}

/* Those with a value go to one array, those with valueFrom to the other (NULL: nowhere). */
static int read_env(struct asya_env **ret, size_t *ret_n, struct asya_env **ret_from,
		    size_t *ret_n_from, struct asya_arena *arena, const struct asya_tree *map,
		    struct asya_error *err)
{
	struct asya_env *env, *from;
	const struct asya_tree *list;

	if (asya_tree_read_node(&list, map, "env", ASYA_TREE_LIST, err))
		return -1;
	env = asya_arena_array(arena, struct asya_env, list && list->n ? list->n : 1);
	from = asya_arena_array(arena, struct asya_env, list && list->n ? list->n : 1);
	*ret = env;
	*ret_n = 0;
	if (ret_from) {
		*ret_from = from;
		*ret_n_from = 0;
	}
	asya_tree_each(item, list)
	{
		struct asya_env e = {.value = ASYA_STR("")};

		if (asya_tree_read_str(&e.name, item, "name", err) ||
		    asya_tree_read_str(&e.value, item, "value", err) ||
		    asya_tree_read_node(&e.value_from, item, "valueFrom", ASYA_TREE_MAP, err))
			return asya_error_wrap(err, "env");
		if (!e.name.p)
			return asya_error_set(err, ASYA_REJECT, "env: a variable without a name");
		if (!e.value_from)
			env[(*ret_n)++] = e;
		else if (ret_from)
			from[(*ret_n_from)++] = e;
	}
	return 0;
}

static int read_container(struct asya_container *c, struct asya_arena *arena,
			  const struct asya_tree *map, struct asya_error *err)
{
	const struct asya_tree *sources;

	if (asya_tree_read_str(&c->image, map, "image", err) ||
	    asya_tree_read_str(&c->working_dir, map, "workingDir", err) ||
	    asya_tree_read_strs(&c->command, &c->n_command, arena, map, "command", err) ||
	    asya_tree_read_strs(&c->args, &c->n_args, arena, map, "args", err) ||
	    asya_tree_read_node(&sources, map, "envFrom", ASYA_TREE_LIST, err))
		return -1;
	c->has_env_sources = sources && sources->n;
	return read_env(&c->env, &c->n_env, &c->env_from, &c->n_env_from, arena, map, err);
}

static int read_runtime(struct asya_asyncactor *a, struct asya_arena *arena,
			const struct asya_tree *workload, struct asya_error *err)
{
	const struct asya_tree *list =
		asya_tree_get(workload, "template", "spec", "containers", NULL);

	asya_tree_each(item, list)
	{
		struct asya_str name = ASYA_STR_NONE;

		if (asya_tree_read_str(&name, item, "name", err))
			return -1;
		if (asya_str_eq_c(name, ASYA_RUNTIME_CONTAINER))
			return read_container(&a->runtime, arena, item, err);
	}
	return asya_error_set(err, ASYA_REJECT, "no container is called %s",
			      ASYA_RUNTIME_CONTAINER);
}

static int read_workload(struct asya_asyncactor *a, struct asya_arena *arena,
			 const struct asya_tree *spec, struct asya_error *err)
{
	const struct asya_tree *workload = asya_tree_get(spec, "workload", NULL);
	struct asya_str kind = ASYA_STR_NONE;

	if (asya_tree_read_str(&kind, workload, "kind", err) ||
	    asya_tree_read_i64(&a->replicas, workload, "replicas", 0, INT32_MAX, err) ||
	    asya_tree_read_str(&a->python_executable, workload, "pythonExecutable", err) ||
	    read_runtime(a, arena, workload, err))
		return asya_error_wrap(err, "spec.workload");
	a->workload = asya_str_eq_c(kind, "StatefulSet") ? ASYA_WORKLOAD_STATEFULSET
							 : ASYA_WORKLOAD_DEPLOYMENT;
	return 0;
}

static int read_scaling(struct asya_scaling *s, const struct asya_tree *spec,
			struct asya_error *err)
{
	const struct asya_tree *map = asya_tree_get(spec, "scaling", NULL);

	if (asya_tree_read_bool(&s->enabled, map, "enabled", err) ||
	    asya_tree_read_i64(&s->min_replicas, map, "minReplicas", 0, INT32_MAX, err) ||
	    asya_tree_read_i64(&s->max_replicas, map, "maxReplicas", 0, INT32_MAX, err) ||
	    asya_tree_read_i64(&s->polling_interval_s, map, "pollingInterval", 0, INT32_MAX, err) ||
	    asya_tree_read_i64(&s->cooldown_period_s, map, "cooldownPeriod", 0, INT32_MAX, err) ||
	    asya_tree_read_i64(&s->queue_length, map, "queueLength", 0, INT32_MAX, err) ||
	    asya_tree_read_node(&s->advanced, map, "advanced", ASYA_TREE_MAP, err))
		return asya_error_wrap(err, "spec.scaling");
	return 0;
}

static int read_resiliency(struct asya_asyncactor *a, struct asya_arena *arena,
			   const struct asya_tree *spec, struct asya_error *err)
{
	const struct asya_tree *map;
	struct asya_buf json = {0};

	if (asya_tree_read_node(&map, spec, "resiliency", ASYA_TREE_MAP, err) ||
	    asya_resiliency_parse(&a->resiliency, arena, map, err))
		return asya_error_wrap(err, "spec");
	if (!map)
		return 0;
	asya_tree_json_write(&json, map);
	a->resiliency_json = asya_arena_str(arena, asya_buf_view(&json));
	asya_buf_fini(&json);
	return 0;
}

/* After the resiliency, whose actorTimeout goes first. */
static int read_timeouts(struct asya_asyncactor *a, const struct asya_tree *spec,
			 struct asya_error *err)
{
	const struct asya_tree *map = asya_tree_get(spec, "timeout", NULL);
	int64_t processing = 0, grace = -1;

	if (asya_tree_read_i64(&processing, map, "processing", 1, INT32_MAX, err) ||
	    asya_tree_read_i64(&grace, map, "gracefulShutdown", 0, INT32_MAX, err))
		return asya_error_wrap(err, "spec.timeout");
	a->processing_timeout_ms =
		a->resiliency.actor_timeout_ms ? a->resiliency.actor_timeout_ms : processing * 1000;
	a->grace_period_ms = grace >= 0 ? grace * 1000 : a->processing_timeout_ms + GRACE_MS;
	return 0;
}

static int read_sidecar(struct asya_asyncactor *a, struct asya_arena *arena,
			const struct asya_tree *spec, struct asya_error *err)
{
	const struct asya_tree *map = asya_tree_get(spec, "sidecar", NULL);

	if (asya_tree_read_str(&a->sidecar_image, map, "image", err) ||
	    asya_tree_read_str(&a->sidecar_pull_policy, map, "imagePullPolicy", err) ||
	    read_env(&a->sidecar_env, &a->n_sidecar_env, NULL, NULL, arena, map, err))
		return asya_error_wrap(err, "spec.sidecar");
	return 0;
}

static int read_identity(struct asya_asyncactor *a, const struct asya_tree *tree,
			 const struct asya_tree *spec, struct asya_error *err)
{
	const struct asya_tree *metadata = asya_tree_get(tree, "metadata", NULL);
	struct asya_str deletion = ASYA_STR_NONE;

	if (asya_tree_read_str(&a->name, metadata, "name", err) ||
	    asya_tree_read_str(&a->namespace, metadata, "namespace", err) ||
	    asya_tree_read_str(&a->transport, spec, "transport", err) ||
	    asya_tree_read_str(&deletion, asya_tree_get(spec, "queue", NULL), "deletionPolicy",
			       err))
		return -1;
	if (!a->name.p || !a->transport.p)
		return asya_error_set(err, ASYA_REJECT,
				      "metadata.name and spec.transport are required");
	a->deletion = asya_str_eq_c(deletion, "DeleteIfEmpty") ? ASYA_QUEUE_DELETE_IF_EMPTY
							       : ASYA_QUEUE_RETAIN;
	return 0;
}

int asya_asyncactor_parse(struct asya_asyncactor *ret, struct asya_arena *arena,
			  const struct asya_tree *schema, const struct asya_tree *tree,
			  struct asya_error *err)
{
	struct asya_asyncactor a = {0};
	const struct asya_tree *spec;

	a.tree = asya_schema_default(arena, asya_tree_get(schema, "schema", NULL), tree);
	spec = asya_tree_get(a.tree, "spec", NULL);
	if (read_identity(&a, a.tree, spec, err) || read_workload(&a, arena, spec, err) ||
	    read_scaling(&a.scaling, spec, err) || read_resiliency(&a, arena, spec, err) ||
	    read_timeouts(&a, spec, err) || read_sidecar(&a, arena, spec, err))
		return -1;
	*ret = a;
	return 0;
}

static const struct asya_asyncactor *same(const struct asya_manifest *m,
					  const struct asya_asyncactor *a)
{
	for (size_t i = 0; i < m->n; i++)
		if (asya_str_eq(m->actors[i].name, a->name) &&
		    asya_str_eq(m->actors[i].namespace, a->namespace))
			return &m->actors[i];
	return NULL;
}

static void add_actor(struct asya_manifest *m, struct asya_arena *arena,
		      const struct asya_tree *schema, const struct asya_tree *tree,
		      struct asya_findings *f)
{
	struct asya_asyncactor a;
	struct asya_error err;
	size_t errors = f->errors;

	asya_asyncactor_check(f, schema, tree);
	if (f->errors != errors)
		return;
	if (asya_asyncactor_parse(&a, arena, schema, tree, &err))
		asya_findings_add(f, ASYA_SEVERITY_ERROR, tree->place, ASYA_STR(""), "%s",
				  err.text);
	else if (same(m, &a))
		asya_findings_add(f, ASYA_SEVERITY_ERROR,
				  asya_tree_get(tree, "metadata", "name", NULL)->place,
				  ASYA_STR("metadata.name"),
				  "the actor \"%.*s\" is there twice, first in the document on "
				  "line %u",
				  ASYA_STR_ARG(a.name), same(m, &a)->tree->place.line);
	else
		m->actors[m->n++] = a;
}

void asya_manifest_parse(struct asya_manifest *ret, struct asya_arena *arena, struct asya_str text,
			 struct asya_findings *findings)
{
	const struct asya_tree *schema = asya_schema_asyncactor(arena);
	struct asya_tree **docs;
	struct asya_place place;
	struct asya_error err;
	size_t n, found = 0;

	*ret = (struct asya_manifest){0};
	if (asya_yaml_parse(&docs, &n, arena, text, &place, &err)) {
		asya_findings_add(findings, ASYA_SEVERITY_ERROR, place, ASYA_STR(""), "%s",
				  err.text);
		return;
	}
	ret->actors = asya_arena_array(arena, struct asya_asyncactor, n ? n : 1);
	for (size_t i = 0; i < n; i++) {
		if (docs[i]->type == ASYA_TREE_NULL)
			continue;
		found++;
		add_actor(ret, arena, schema, docs[i], findings);
	}
	if (!found)
		asya_findings_add(findings, ASYA_SEVERITY_ERROR, (struct asya_place){0, 0},
				  ASYA_STR(""),
				  "there is no resource in it; known here is "
				  "AsyncActor of %s",
				  ASYA_API_VERSION);
}
