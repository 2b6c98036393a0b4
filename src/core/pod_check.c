// SPDX-License-Identifier: Apache-2.0
#include "core/pod_check.h"

#include "base/mem.h"
#include "core/asyncactor.h"
#include "core/schema.h"
#include "core/suggest.h"

#include <regex.h>

static const struct asya_str pod_fields[] = {
	ASYA_STR("activeDeadlineSeconds"),
	ASYA_STR("affinity"),
	ASYA_STR("automountServiceAccountToken"),
	ASYA_STR("containers"),
	ASYA_STR("dnsConfig"),
	ASYA_STR("dnsPolicy"),
	ASYA_STR("enableServiceLinks"),
	ASYA_STR("ephemeralContainers"),
	ASYA_STR("hostAliases"),
	ASYA_STR("hostIPC"),
	ASYA_STR("hostNetwork"),
	ASYA_STR("hostPID"),
	ASYA_STR("hostUsers"),
	ASYA_STR("hostname"),
	ASYA_STR("imagePullSecrets"),
	ASYA_STR("initContainers"),
	ASYA_STR("nodeName"),
	ASYA_STR("nodeSelector"),
	ASYA_STR("os"),
	ASYA_STR("overhead"),
	ASYA_STR("preemptionPolicy"),
	ASYA_STR("priority"),
	ASYA_STR("priorityClassName"),
	ASYA_STR("readinessGates"),
	ASYA_STR("resourceClaims"),
	ASYA_STR("resources"),
	ASYA_STR("restartPolicy"),
	ASYA_STR("runtimeClassName"),
	ASYA_STR("schedulerName"),
	ASYA_STR("schedulingGates"),
	ASYA_STR("securityContext"),
	ASYA_STR("serviceAccount"),
	ASYA_STR("serviceAccountName"),
	ASYA_STR("setHostnameAsFQDN"),
	ASYA_STR("shareProcessNamespace"),
	ASYA_STR("subdomain"),
	ASYA_STR("terminationGracePeriodSeconds"),
	ASYA_STR("tolerations"),
	ASYA_STR("topologySpreadConstraints"),
	ASYA_STR("volumes"),
};

static const struct asya_str container_fields[] = {
	ASYA_STR("args"),
	ASYA_STR("command"),
	ASYA_STR("env"),
	ASYA_STR("envFrom"),
	ASYA_STR("image"),
	ASYA_STR("imagePullPolicy"),
	ASYA_STR("lifecycle"),
	ASYA_STR("livenessProbe"),
	ASYA_STR("name"),
	ASYA_STR("ports"),
	ASYA_STR("readinessProbe"),
	ASYA_STR("resizePolicy"),
	ASYA_STR("resources"),
	ASYA_STR("restartPolicy"),
	ASYA_STR("securityContext"),
	ASYA_STR("startupProbe"),
	ASYA_STR("stdin"),
	ASYA_STR("stdinOnce"),
	ASYA_STR("terminationMessagePath"),
	ASYA_STR("terminationMessagePolicy"),
	ASYA_STR("tty"),
	ASYA_STR("volumeDevices"),
	ASYA_STR("volumeMounts"),
	ASYA_STR("workingDir"),
};

static const struct asya_str env_fields[] = {ASYA_STR("name"), ASYA_STR("value"),
					     ASYA_STR("valueFrom")};
static const struct asya_str resource_fields[] = {ASYA_STR("claims"), ASYA_STR("limits"),
						  ASYA_STR("requests")};

#define warn(f, place, path, ...)                                                                  \
	asya_findings_add(f, ASYA_SEVERITY_WARNING, place, path, __VA_ARGS__)

/* A key is warned of only if a known one is near: Kubernetes has fields that are newer than this
 * list. */
static void check_keys(struct asya_findings *f, const struct asya_tree *map, struct asya_str path,
		       const struct asya_str *known, size_t n)
{
	if (!map || map->type != ASYA_TREE_MAP)
		return;
	asya_tree_each(child, map)
	{
		bool is_known = false;

		for (size_t i = 0; i < n; i++)
			is_known = is_known || asya_str_eq(child->key, known[i]);
		if (!is_known && asya_suggest(child->key, known, n) >= 0)
			asya_schema_unknown(f, ASYA_SEVERITY_WARNING, child, path, known, n);
	}
}

static bool is_string(const struct asya_tree *node)
{
	return node && node->type == ASYA_TREE_STRING;
}

static struct asya_str name_of(const struct asya_tree *node)
{
	const struct asya_tree *name = asya_tree_get(node, "name", NULL);

	return is_string(name) ? name->text : ASYA_STR_NONE;
}

static void check_handler(struct asya_findings *f, const struct asya_tree *value,
			  struct asya_str path)
{
	regex_t re;
	bool fits;

	if (regcomp(&re, "^[a-zA-Z_][a-zA-Z0-9_]*(\\.[a-zA-Z_][a-zA-Z0-9_]*)+$",
		    REG_EXTENDED | REG_NOSUB))
		return;
	fits = value->text.n < 1024 && strlen(value->text.p) == value->text.n &&
	       regexec(&re, value->text.p, 0, NULL, 0) == 0;
	regfree(&re);
	if (!fits)
		warn(f, value->place, path,
		     "a handler is module.function or module.Class.method, with module found on "
		     "PYTHONPATH");
}

static void check_env_value(struct asya_findings *f, const struct asya_tree *item,
			    struct asya_str path)
{
	const struct asya_tree *value = asya_tree_get(item, "value", NULL);
	const struct asya_tree *from = asya_tree_get(item, "valueFrom", NULL);
	struct asya_str where = asya_path_member(f->arena, path, ASYA_STR("value"));
	struct asya_str name = name_of(item);

	if (value && from)
		warn(f, from->key_place, path, "value and valueFrom are both there; take one out");
	if (!is_string(value))
		return;
	if (asya_str_eq_c(name, "ASYA_HANDLER"))
		check_handler(f, value, where);
	if (asya_str_eq_c(name, "ASYA_HANDLER_MODE") && !asya_str_eq_c(value->text, "payload") &&
	    !asya_str_eq_c(value->text, "envelope"))
		warn(f, value->place, where, "the mode is payload or envelope");
}

enum { COMPARED_MAX = 512 };

static void check_env(struct asya_findings *f, const struct asya_tree *env, struct asya_str path)
{
	size_t i = 0;

	if (!env || env->type != ASYA_TREE_LIST)
		return;
	asya_tree_each(item, env)
	{
		struct asya_str where = asya_path_item(f->arena, path, i);
		struct asya_str name = name_of(item);

		if (i++ >= COMPARED_MAX)
			return;
		check_keys(f, item, where, env_fields, ASYA_ARRAY_SIZE(env_fields));
		check_env_value(f, item, where);
		for (const struct asya_tree *other = env->first; name.p && other != item;
		     other = other->next)
			if (asya_str_eq(name_of(other), name)) {
				warn(f, item->place, where,
				     "%s is set twice (first on line %u); the last one counts",
				     asya_tree_shown(f->arena, name), other->place.line);
				break;
			}
	}
}

static bool has_env(const struct asya_tree *container, const char *name)
{
	const struct asya_tree *env = asya_tree_get(container, "env", NULL);

	if (asya_tree_get(container, "envFrom", NULL))
		return true;
	if (env && env->type == ASYA_TREE_LIST)
		asya_tree_each(item, env) if (asya_str_eq_c(name_of(item), name)) return true;
	return false;
}

static void check_runtime(struct asya_findings *f, const struct asya_tree *container,
			  struct asya_str path)
{
	const struct asya_tree *command = asya_tree_get(container, "command", NULL);

	if (command)
		warn(f, command->key_place, asya_path_member(f->arena, path, ASYA_STR("command")),
		     "the operator starts the runtime itself and replaces this command; choose the "
		     "Python with spec.workload.pythonExecutable");
	if (!has_env(container, "ASYA_HANDLER"))
		warn(f, container->place, path,
		     "the variable ASYA_HANDLER is not set, so there is no code to run: "
		     "module.function or module.Class.method");
}

static void check_container(struct asya_findings *f, const struct asya_tree *container,
			    struct asya_str path)
{
	check_keys(f, container, path, container_fields, ASYA_ARRAY_SIZE(container_fields));
	check_keys(f, asya_tree_get(container, "resources", NULL),
		   asya_path_member(f->arena, path, ASYA_STR("resources")), resource_fields,
		   ASYA_ARRAY_SIZE(resource_fields));
	check_env(f, asya_tree_get(container, "env", NULL),
		  asya_path_member(f->arena, path, ASYA_STR("env")));
	if (!asya_tree_get(container, "image", NULL))
		warn(f, container->place, asya_path_member(f->arena, path, ASYA_STR("image")),
		     "Kubernetes needs an image");
	if (asya_str_eq_c(name_of(container), ASYA_RUNTIME_CONTAINER))
		check_runtime(f, container, path);
}

/* Twin of the CEL rules on containers and initContainers. Returns how many are the runtime. */
static size_t check_names(struct asya_findings *f, const struct asya_tree *list,
			  struct asya_str path)
{
	size_t i = 0, runtimes = 0;

	asya_tree_each(container, list)
	{
		struct asya_str where = asya_path_item(f->arena, path, i++);
		struct asya_str name = name_of(container);

		if (asya_str_eq_c(name, ASYA_SIDECAR_CONTAINER))
			asya_findings_add(f, ASYA_SEVERITY_ERROR,
					  asya_tree_get(container, "name", NULL)->place, where,
					  "no container may be called %s, the operator adds it; "
					  "settings of it are under spec.sidecar",
					  ASYA_SIDECAR_CONTAINER);
		runtimes += asya_str_eq_c(name, ASYA_RUNTIME_CONTAINER);
		check_container(f, container, where);
	}
	return runtimes;
}

static void check_pod(struct asya_findings *f, const struct asya_tree *spec, struct asya_str path,
		      int64_t processing_s)
{
	const struct asya_tree *policy = asya_tree_get(spec, "restartPolicy", NULL);
	const struct asya_tree *grace = asya_tree_get(spec, "terminationGracePeriodSeconds", NULL);
	int64_t seconds;

	check_keys(f, spec, path, pod_fields, ASYA_ARRAY_SIZE(pod_fields));
	if (policy && !asya_str_eq_c(policy->text, "Always"))
		warn(f, policy->place, asya_path_member(f->arena, path, policy->key),
		     "a workload's pods restart: the only policy is Always");
	if (asya_tree_i64(grace, &seconds) && seconds < processing_s)
		warn(f, grace->place, asya_path_member(f->arena, path, grace->key),
		     "is shorter than a call may take (%lld s), so calls are cut off; use "
		     "spec.timeout.gracefulShutdown",
		     (long long)processing_s);
}

static const struct asya_tree *list_at(const struct asya_tree *map, const char *key)
{
	const struct asya_tree *node = asya_tree_get(map, key, NULL);

	return node && node->type == ASYA_TREE_LIST ? node : NULL;
}

void asya_pod_check(struct asya_findings *f, const struct asya_tree *spec, struct asya_str path,
		    int64_t processing_s)
{
	const struct asya_tree *containers = list_at(spec, "containers");
	struct asya_str where = asya_path_member(f->arena, path, ASYA_STR("containers"));
	size_t runtimes;

	if (!spec || spec->type != ASYA_TREE_MAP)
		return;
	check_pod(f, spec, path, processing_s);
	check_names(f, list_at(spec, "initContainers"),
		    asya_path_member(f->arena, path, ASYA_STR("initContainers")));
	runtimes = check_names(f, containers, where);
	if (containers && containers->n && runtimes != 1)
		asya_findings_add(f, ASYA_SEVERITY_ERROR, containers->key_place, where,
				  "exactly one container must be called %s, but %zu are",
				  ASYA_RUNTIME_CONTAINER, runtimes);
}
