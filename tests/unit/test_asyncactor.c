// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>

#include "base/mem.h"
#include "core/asyncactor.h"
#include "core/schema.h"

#define _arena_ _cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new()

/* Reads a file of tests/data/manifests; "" if there is none. */
static struct asya_str read_file(struct asya_arena *arena, const char *name)
{
	struct asya_str path = asya_arena_printf(arena, "%s/%s", ASYA_TEST_MANIFESTS, name);
	char text[65536];
	FILE *file = fopen(path.p, "rb");
	size_t n;

	if (!file)
		return ASYA_STR("");
	n = fread(text, 1, sizeof(text), file);
	fclose(file);
	return asya_arena_str(arena, (struct asya_str){text, n});
}

/* Each manifest F.yaml gives the report F.txt (none: no findings). Returns how many there were. */
static int assert_reports(const char *folder, bool errors)
{
	_arena_;
	struct asya_str path = asya_arena_printf(arena, "%s/%s", ASYA_TEST_MANIFESTS, folder);
	DIR *dir = opendir(path.p);
	struct dirent *entry;
	int count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		struct asya_str name = asya_str_c(entry->d_name), text, want;
		struct asya_findings f;
		struct asya_manifest m;
		struct asya_buf out = {0};

		if (!asya_str_ends(name, ".yaml"))
			continue;
		text = read_file(arena, asya_arena_printf(arena, "%s/%s", folder, name.p).p);
		want = read_file(
			arena,
			asya_arena_printf(arena, "%s/%.*s.txt", folder, (int)name.n - 5, name.p).p);
		asya_findings_init(&f, arena);
		asya_manifest_parse(&m, arena, text, &f);
		asya_manifest_report_write(&out, name.p, text, &f, false);
		if (!asya_str_eq(asya_buf_view(&out), want))
			fail_msg("%s\n-- is\n%.*s\n-- want\n%.*s", name.p, (int)out.n,
				 out.p ? out.p : "", (int)want.n, want.p);
		assert_int_equal(f.errors > 0, errors);
		assert_true(errors || m.n > 0);
		asya_buf_fini(&out);
		count++;
	}
	closedir(dir);
	return count;
}

static void good_manifests_have_no_errors(void **state)
{
	(void)state;
	assert_true(assert_reports("good", false) >= 6);
}

static void bad_manifests_have_the_errors_written_beside_them(void **state)
{
	(void)state;
	assert_true(assert_reports("bad", true) >= 12);
}

static struct asya_asyncactor *load(struct asya_arena *arena, const char *name)
{
	struct asya_findings f;
	struct asya_manifest m;

	asya_findings_init(&f, arena);
	asya_manifest_parse(&m, arena, read_file(arena, name), &f);
	assert_int_equal(f.errors, 0);
	assert_int_equal(m.n, 1);
	return &m.actors[0];
}

#define assert_str(str, want) assert_true(asya_str_eq_c(str, want))

static void the_smallest_actor_gets_the_defaults(void **state)
{
	_arena_;
	const struct asya_asyncactor *a = load(arena, "good/smallest.yaml");

	(void)state;
	assert_str(a->name, "text-prep");
	assert_null(a->namespace.p);
	assert_str(a->transport, "rabbitmq");
	assert_int_equal(a->workload, ASYA_WORKLOAD_DEPLOYMENT);
	assert_int_equal(a->replicas, 1);
	assert_str(a->python_executable, "python3");
	assert_str(a->runtime.image, "registry.example/a:1");
	assert_null(a->runtime.command);
	assert_null(a->runtime.working_dir.p);
	assert_int_equal(a->runtime.n_env, 1);
	assert_str(asya_env_find(a->runtime.env, 1, ASYA_STR("ASYA_HANDLER"))->value,
		   "prep.process");
	assert_null(asya_env_find(a->runtime.env, 1, ASYA_STR("OTHER")));
	assert_int_equal(a->processing_timeout_ms, 300000);
	assert_int_equal(a->grace_period_ms, 330000);
	assert_false(a->scaling.enabled);
	assert_int_equal(a->scaling.min_replicas, 0);
	assert_int_equal(a->scaling.max_replicas, 50);
	assert_int_equal(a->scaling.polling_interval_s, 10);
	assert_int_equal(a->scaling.cooldown_period_s, 60);
	assert_int_equal(a->scaling.queue_length, 5);
	assert_null(a->scaling.advanced);
	assert_int_equal(a->resiliency.n_rules, 0);
	assert_null(a->resiliency_json.p);
	assert_int_equal(a->n_sidecar_env, 0);
	assert_int_equal(a->deletion, ASYA_QUEUE_RETAIN);
}

static void every_field_is_taken(void **state)
{
	_arena_;
	const struct asya_asyncactor *a = load(arena, "good/everything.yaml");

	(void)state;
	assert_str(a->namespace, "demo");
	assert_int_equal(a->workload, ASYA_WORKLOAD_STATEFULSET);
	assert_int_equal(a->replicas, 3);
	assert_str(a->python_executable, "/opt/conda/bin/python");
	assert_str(a->runtime.working_dir, "/app");
	assert_int_equal(a->runtime.n_args, 1);
	assert_str(a->runtime.args[0], "--fast");
	assert_int_equal(a->runtime.n_env, 2);
	assert_int_equal(a->runtime.n_env_from, 1);
	assert_str(a->runtime.env_from[0].name, "TOKEN");
	assert_non_null(asya_tree_get(a->runtime.env_from[0].value_from, "secretKeyRef", NULL));
	assert_int_equal(a->processing_timeout_ms, 90000);
	assert_int_equal(a->grace_period_ms, 700000);
	assert_true(a->scaling.enabled);
	assert_int_equal(a->scaling.min_replicas, 1);
	assert_int_equal(a->scaling.max_replicas, 10);
	assert_int_equal(a->scaling.polling_interval_s, 5);
	assert_int_equal(a->scaling.cooldown_period_s, 30);
	assert_int_equal(a->scaling.queue_length, 2);
	assert_non_null(asya_tree_get(a->scaling.advanced, "formula", NULL));
	assert_int_equal(a->resiliency.n_policies, 3);
	assert_int_equal(a->resiliency.n_rules, 3);
	assert_str(a->sidecar_image, "registry.example/asya-sidecar:1.2");
	assert_str(a->sidecar_pull_policy, "IfNotPresent");
	assert_int_equal(a->n_sidecar_env, 1);
	assert_str(a->sidecar_env[0].value, "DEBUG");
	assert_int_equal(a->deletion, ASYA_QUEUE_DELETE_IF_EMPTY);
}

static void the_sidecar_reads_from_the_variable_what_the_manifest_said(void **state)
{
	_arena_;
	const struct asya_asyncactor *a = load(arena, "good/everything.yaml");
	struct asya_resiliency r;
	struct asya_error err;

	(void)state;
	assert_int_equal(asya_resiliency_parse_json(&r, arena, a->resiliency_json, &err), 0);
	assert_int_equal(r.n_policies, a->resiliency.n_policies);
	for (size_t i = 0; i < r.n_policies; i++) {
		struct asya_retry_policy is = r.policies[i], want = a->resiliency.policies[i];

		assert_true(asya_str_eq(is.name, want.name));
		assert_int_equal(is.max_attempts, want.max_attempts);
		assert_int_equal(is.initial_delay_ms, want.initial_delay_ms);
		assert_int_equal(is.max_duration_ms, want.max_duration_ms);
		assert_int_equal(is.on_exhausted, want.on_exhausted);
	}
	assert_int_equal(r.n_rules, a->resiliency.n_rules);
	assert_int_equal(r.actor_timeout_ms, 90000);
}

/* The defaults of a policy stand in the schema and in core/resiliency.c, which has no schema. */
static void the_defaults_of_a_policy_are_those_of_the_schema(void **state)
{
	_arena_;
	const struct asya_tree *schema = asya_tree_get(
		asya_schema_asyncactor(arena), "schema", "properties", "spec", "properties",
		"resiliency", "properties", "policies", "additionalProperties", NULL);
	struct asya_tree *empty = asya_tree_new(arena, ASYA_TREE_MAP, (struct asya_place){0, 0});
	struct asya_buf json = {0};
	struct asya_resiliency bare, filled;
	struct asya_error err;

	(void)state;
	assert_non_null(schema);
	asya_buf_c(&json, "{\"policies\":{\"a\":");
	asya_tree_json_write(&json, asya_schema_default(arena, schema, empty));
	asya_buf_c(&json, "}}");
	assert_true(json.n > 60);
	assert_int_equal(asya_resiliency_parse_json(&filled, arena, asya_buf_view(&json), &err), 0);
	assert_int_equal(asya_resiliency_parse_json(&bare, arena,
						    ASYA_STR("{\"policies\":{\"a\":{}}}"), &err),
			 0);
	assert_int_equal(filled.policies[0].max_attempts, bare.policies[0].max_attempts);
	assert_int_equal(filled.policies[0].backoff, bare.policies[0].backoff);
	assert_int_equal(filled.policies[0].initial_delay_ms, bare.policies[0].initial_delay_ms);
	assert_int_equal(filled.policies[0].max_interval_ms, bare.policies[0].max_interval_ms);
	assert_int_equal(filled.policies[0].max_duration_ms, bare.policies[0].max_duration_ms);
	assert_int_equal(filled.policies[0].jitter, bare.policies[0].jitter);
	assert_int_equal(filled.policies[0].on_exhausted, bare.policies[0].on_exhausted);
	asya_buf_fini(&json);
}

/* The smallest actor with `name` and a line of the spec; its errors. */
static size_t errors_of(const char *name, const char *line)
{
	_arena_;
	struct asya_str text = asya_arena_printf(
		arena,
		"apiVersion: asya.sh/v1alpha1\nkind: AsyncActor\nmetadata: {name: %s}\nspec:\n"
		"  transport: sqs\n  %s\n"
		"  workload: {template: {spec: {containers: [{name: asya-runtime}]}}}\n",
		name, line);
	struct asya_findings f;
	struct asya_manifest m;

	asya_findings_init(&f, arena);
	asya_manifest_parse(&m, arena, text, &f);
	assert_int_equal(m.n, f.errors ? 0 : 1);
	return f.errors;
}

static void names_are_dns_labels_up_to_63(void **state)
{
	char name[65];

	(void)state;
	memset(name, 'a', sizeof(name));
	name[63] = 0;
	assert_int_equal(errors_of(name, ""), 0);
	name[63] = 'a';
	name[64] = 0;
	assert_int_equal(errors_of(name, ""), 1);
	assert_int_equal(errors_of("a-dl", ""), 0);
	assert_int_equal(errors_of("a-dlq", ""), 1);
	assert_int_equal(errors_of("-a", ""), 1);
	assert_int_equal(errors_of("A", ""), 1);
	assert_int_equal(errors_of("a.b", ""), 1);
}

static void each_limit_of_the_schema_lets_its_value_pass_and_no_more(void **state)
{
	static const struct {
		const char *good, *bad;
	} rows[] = {
		{"timeout: {processing: 1}", "timeout: {processing: 0}"},
		{"timeout: {processing: 604800}", "timeout: {processing: 604801}"},
		{"timeout: {gracefulShutdown: 0}", "timeout: {gracefulShutdown: -1}"},
		{"timeout: {gracefulShutdown: 604830}", "timeout: {gracefulShutdown: 604831}"},
		{"scaling: {minReplicas: 0}", "scaling: {minReplicas: -1}"},
		{"scaling: {minReplicas: 50}", "scaling: {minReplicas: 51}"},
		{"scaling: {minReplicas: 2, maxReplicas: 2}",
		 "scaling: {minReplicas: 3, maxReplicas: 2}"},
		{"scaling: {maxReplicas: 1}", "scaling: {maxReplicas: -1, minReplicas: -1}"},
		{"scaling: {maxReplicas: 100000}", "scaling: {maxReplicas: 100001}"},
		{"scaling: {pollingInterval: 1}", "scaling: {pollingInterval: 0}"},
		{"scaling: {pollingInterval: 86400}", "scaling: {pollingInterval: 86401}"},
		{"scaling: {cooldownPeriod: 0}", "scaling: {cooldownPeriod: -1}"},
		{"scaling: {cooldownPeriod: 604800}", "scaling: {cooldownPeriod: 604801}"},
		{"scaling: {queueLength: 1}", "scaling: {queueLength: 0}"},
		{"scaling: {queueLength: 1000000}", "scaling: {queueLength: 1000001}"},
		{"scaling: {advanced: {formula: a, target: '1'}}",
		 "scaling: {advanced: {formula: a}}"},
		{"scaling: {advanced: {metricType: Value}}",
		 "scaling: {advanced: {metricType: value}}"},
		{"queue: {deletionPolicy: DeleteIfEmpty}", "queue: {deletionPolicy: Delete}"},
		{"resiliency: {actorTimeout: 1ns}", "resiliency: {actorTimeout: 0s}"},
		{"resiliency: {policies: {a: {maxAttempts: 1000}}}",
		 "resiliency: {policies: {a: {maxAttempts: 1001}}}"},
		{"resiliency: {policies: {a: {maxAttempts: 0, maxDuration: 1s}}}",
		 "resiliency: {policies: {a: {maxAttempts: 0}}}"},
		{"resiliency: {policies: {a: {onExhausted: [b-dl]}}}",
		 "resiliency: {policies: {a: {onExhausted: [b-dlq]}}}"},
		{"resiliency: {policies: {a: {}}, rules: [{errors: [E], policy: a}]}",
		 "resiliency: {policies: {a: {}}, rules: [{errors: [E], policy: b}]}"},
		{"sidecar: {env: [{name: A}]}", "sidecar: {env: [{name: 'A B'}]}"},
		{"sidecar: {resources: {limits: {cpu: 1.5Gi}}}",
		 "sidecar: {resources: {limits: {cpu: 1.5G_i}}}"},
	};

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		if (errors_of("a", rows[i].good))
			fail_msg("refused: %s", rows[i].good);
		if (!errors_of("a", rows[i].bad))
			fail_msg("accepted: %s", rows[i].bad);
	}
}

static void the_last_variable_of_a_name_counts(void **state)
{
	const struct asya_env env[] = {{ASYA_STR("A"), ASYA_STR("1"), NULL},
				       {ASYA_STR("B"), ASYA_STR("2"), NULL},
				       {ASYA_STR("A"), ASYA_STR("3"), NULL}};

	(void)state;
	assert_str(asya_env_find(env, 3, ASYA_STR("A"))->value, "3");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_manifests_have_no_errors),
		cmocka_unit_test(bad_manifests_have_the_errors_written_beside_them),
		cmocka_unit_test(the_smallest_actor_gets_the_defaults),
		cmocka_unit_test(every_field_is_taken),
		cmocka_unit_test(the_sidecar_reads_from_the_variable_what_the_manifest_said),
		cmocka_unit_test(the_defaults_of_a_policy_are_those_of_the_schema),
		cmocka_unit_test(names_are_dns_labels_up_to_63),
		cmocka_unit_test(each_limit_of_the_schema_lets_its_value_pass_and_no_more),
		cmocka_unit_test(the_last_variable_of_a_name_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
