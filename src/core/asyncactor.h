// SPDX-License-Identifier: Apache-2.0
/*
 * AsyncActors out of manifests: read, checked, and taken apart into a struct. Pure: the caller
 * reads the file.
 *
 *	struct asya_findings findings;
 *	struct asya_manifest m;
 *
 *	asya_findings_init(&findings, arena);
 *	asya_manifest_parse(&m, arena, text, &findings);
 *	asya_manifest_report_write(&out, "actor.yaml", text, &findings, false);
 *	if (!findings.errors)
 *		... m.actors[0 .. m.n - 1]
 */
#pragma once
#include "core/finding.h"
#include "core/resiliency.h"

#define ASYA_API_VERSION "asya.sh/v1alpha1"
#define ASYA_RUNTIME_CONTAINER "asya-runtime"
#define ASYA_SIDECAR_CONTAINER "asya-sidecar"

enum asya_workload_kind { ASYA_WORKLOAD_DEPLOYMENT, ASYA_WORKLOAD_STATEFULSET };
enum asya_queue_deletion { ASYA_QUEUE_RETAIN, ASYA_QUEUE_DELETE_IF_EMPTY };

struct asya_env {
	struct asya_str name;
	struct asya_str value;              /* $(NAME) as written; empty where it is not set */
	const struct asya_tree *value_from; /* what stands under valueFrom, or NULL */
};

/* The container asya-runtime. Strings have no value where the manifest has none. */
struct asya_container {
	struct asya_str image;
	struct asya_str working_dir;
	const struct asya_str *command, *args;
	size_t n_command, n_args;
	struct asya_env *env; /* with a value; see asya_env_find */
	size_t n_env;
	struct asya_env *env_from; /* with valueFrom: not known outside of Kubernetes */
	size_t n_env_from;
	bool has_env_sources; /* there is an envFrom: variables nobody can name here */
};

struct asya_scaling {
	bool enabled;
	int64_t min_replicas, max_replicas;
	int64_t polling_interval_s, cooldown_period_s;
	int64_t queue_length;
	const struct asya_tree *advanced; /* a map, or NULL */
};

/* Defaults are in. */
struct asya_asyncactor {
	struct asya_str name;
	struct asya_str namespace; /* no value: that of the caller */
	struct asya_str transport;
	enum asya_workload_kind workload;
	int64_t replicas;
	struct asya_str python_executable;
	struct asya_container runtime;
	int64_t processing_timeout_ms; /* resiliency.actorTimeout, else timeout.processing */
	int64_t grace_period_ms;       /* timeout.gracefulShutdown, else the above + 30 s */
	struct asya_scaling scaling;
	struct asya_resiliency resiliency;
	struct asya_str resiliency_json; /* for ASYA_RESILIENCY; no value: nothing is given */
	struct asya_str sidecar_image;   /* no value: the operator's */
	struct asya_str sidecar_pull_policy;
	struct asya_env *sidecar_env; /* with a value */
	size_t n_sidecar_env;
	enum asya_queue_deletion deletion;
	const struct asya_tree *tree; /* the whole resource, with defaults */
};

struct asya_manifest {
	struct asya_asyncactor *actors; /* those without errors, in their order */
	size_t n;
};

/* Reads every document of `text` (core/yaml.h); empty ones are passed over. What is wrong, even the
 * YAML itself, goes to `findings`: look at findings->errors. No document at all is an error. Actors
 * of the same name and namespace are. The actors live on `arena`. */
void asya_manifest_parse(struct asya_manifest *ret, struct asya_arena *arena, struct asya_str text,
			 struct asya_findings *findings);

/* Adds what is wrong with one resource: apiVersion and kind, metadata, the schema (`schema` as
 * asya_schema_asyncactor gives it), and what a schema cannot say. */
void asya_asyncactor_check(struct asya_findings *f, const struct asya_tree *schema,
			   const struct asya_tree *tree);

/* Takes a resource apart that asya_asyncactor_check had no error for. It and `tree` live on
 * `arena`, as long as the schema. ASYA_REJECT if it had one after all. */
int asya_asyncactor_parse(struct asya_asyncactor *ret, struct asya_arena *arena,
			  const struct asya_tree *schema, const struct asya_tree *tree,
			  struct asya_error *err);

/* The last one with that name, which is the one that Kubernetes takes, or NULL. */
const struct asya_env *asya_env_find(const struct asya_env *env, size_t n, struct asya_str name);
