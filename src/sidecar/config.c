// SPDX-License-Identifier: Apache-2.0
#include "sidecar/sidecar.h"

#include "base/mem.h"
#include "io/listen.h"

#include <limits.h>

static const char *const levels[] = {"DEBUG", "INFO", "WARNING", "ERROR", NULL};

#define ROW(kind, member) ASYA_SETTING(kind, struct sidecar_config, member)

const struct asya_setting sidecar_settings[] = {
	{"ASYA_ACTOR_NAME", ROW(STRING, actor), .flags = ASYA_SETTING_REQUIRED,
	 .help = "Name of the actor whose queue is consumed: a DNS label that does not end in "
		 "-dlq."},
	{"ASYA_TRANSPORT", ROW(STRING, transport), .fallback = "local",
	 .help = "Queue system: local (a directory on this machine), rabbitmq, sqs (Amazon SQS and "
		 "what "
		 "speaks like it), or mem (this process only, for trying)."},
	{"ASYA_ACTOR_HAPPY_END", ROW(STRING, happy_end), .fallback = "happy-end",
	 .help = "Actor that gets envelopes at the end of their route."},
	{"ASYA_ACTOR_ERROR_END", ROW(STRING, error_end), .fallback = "error-end",
	 .help = "Actor that gets envelopes that failed."},
	{"ASYA_IS_END_ACTOR", ROW(BOOL, is_end), .fallback = "false",
	 .help = "An end actor takes envelopes of any route and sends nothing on."},
	{"ASYA_RESULTS_DIR", ROW(STRING, results_dir),
	 .help = "For an end actor: keep envelopes as files below this directory, with no "
		 "runtime."},
	{"ASYA_S3_RESULTS_PREFIX", ROW(STRING, results_prefix), .fallback = "happy-asya/",
	 .help = "What the names of kept envelopes begin with."},
	{"ASYA_S3_ERRORS_PREFIX", ROW(STRING, errors_prefix), .fallback = "error-asya/",
	 .help = "The same at error-end."},
	{"ASYA_S3_BUCKET", ROW(STRING, s3_bucket),
	 .help = "For an end actor: keep envelopes as objects in this bucket, with no runtime. For "
		 "every actor: fetch payloads that were left there by a claim check."},
	{"ASYA_CLAIM_CHECK", ROW(BOOL, claim_check), .fallback = "false",
	 .help = "Leave payloads in the bucket whose messages are larger than the queue takes, and "
		 "send payload_ref in their place. Every actor that may get such a message needs "
		 "the bucket, and objects must live longer than messages and dead letters."},
	{"ASYA_CLAIM_PREFIX", ROW(STRING, claim_prefix), .fallback = "asya-claims/",
	 .help = "What the names of such objects begin with; no others are fetched."},
	{"ASYA_S3_ENDPOINT", ROW(STRING, s3_endpoint),
	 .help = "URL of the object store; unset: Amazon S3 of AWS_REGION."},
	{"ASYA_S3_VIRTUAL_HOST", ROW(BOOL, s3_virtual), .fallback = "false",
	 .help = "Ask that endpoint at BUCKET.HOST in place of HOST/BUCKET."},
	{"ASYA_S3_ACCESS_KEY", ROW(STRING, s3_access),
	 .help = "Key of the bucket; unset: found where the AWS SDKs find it."},
	{"ASYA_S3_SECRET_KEY", ROW(STRING, s3_secret), .flags = ASYA_SETTING_SECRET,
	 .help = "Its secret."},
	{"AWS_REGION", ROW(STRING, s3_region), .fallback = "us-east-1",
	 .help = "Region of the bucket."},
	{"ASYA_MODULE_DIR", ROW(STRING, module_dir),
	 .help = "Directory of asya-aws.so, which is loaded for S3 and SQS; unset: beside the "
		 "program, then where it was installed."},
	{"ASYA_SOCKET_DIR", ROW(STRING, socket_dir), .fallback = "/var/run/asya",
	 .help = "Directory of the runtime's socket and readiness file."},
	{"ASYA_RUNTIME_TIMEOUT", ROW(DURATION, timeout_ms), .fallback = "5m", .min = 1,
	 .max = 604800000,
	 .help = "How long a handler may take. Then its connection is closed, which means that it "
		 "must "
		 "stop, and the attempt has failed with TimeoutError."},
	{"ASYA_RUNTIME_READY_TIMEOUT", ROW(DURATION, ready_timeout_ms), .fallback = "5m", .min = 1,
	 .max = 86400000,
	 .help = "How long the start waits for the runtime; then the sidecar exits. Nothing is "
		 "taken from "
		 "the queue before the runtime is ready."},
	{"ASYA_GRACE_PERIOD", ROW(DURATION, grace_ms), .fallback = "30s", .max = 604800000,
	 .help = "How long SIGTERM lets handlers finish; then their messages are given back."},
	{"ASYA_RESILIENCY", ROW(STRING, resiliency),
	 .help = "Retry policies and rules as JSON, shaped as spec.resiliency of an AsyncActor. "
		 "Without "
		 "a rule that applies, a handler's error goes to error-end at once."},
	{"ASYA_CRASH_MAX_ATTEMPTS", ROW(INT, crash_attempts), .fallback = "3", .min = 1,
	 .max = 1000,
	 .help = "How often a message is tried whose runtime died over it, where no rule names the "
		 "error "
		 "RuntimeLost."},
	{"ASYA_WINDOW_MAX", ROW(INT, window_max), .fallback = "1024", .min = 1, .max = 65535,
	 .help = "Messages held at a time, at most. Within this the window follows the handler: "
		 "what it "
		 "works on, and what it can take within 50 ms more."},
	{"ASYA_METRICS_ENABLED", ROW(BOOL, metrics), .fallback = "true",
	 .help = "Serve /metrics, /healthz and /readyz."},
	{"ASYA_METRICS_ADDR", ROW(STRING, metrics_addr), .fallback = ":8080",
	 .help = "Where: host:port, or :port for every address; port 0 takes a free one, which the "
		 "log names."},
	{"ASYA_METRICS_NAMESPACE", ROW(STRING, metrics_namespace), .fallback = "asya_actor",
	 .help = "What the names of metrics begin with."},
	{"ASYA_LOG_LEVEL", ROW(CHOICE, log_level), .choices = levels, .fallback = "INFO",
	 .help = "What is logged: one JSON object a line on standard error."},
	{"ASYA_MAX_MESSAGE_BYTES", ROW(BYTES, message_bytes), .fallback = "64Mi", .min = 1024,
	 .max = 1073741824, .help = "Largest message that is taken or sent."},
	{"ASYA_MAX_REPLY_BYTES", ROW(BYTES, reply_bytes), .fallback = "256Mi", .min = 1024,
	 .max = 2147483648, .help = "Largest answer of a handler, all its items together."},
	{"ASYA_MAX_FANOUT", ROW(INT, fanout), .fallback = "10000", .min = 1, .max = 1000000,
	 .help = "Most items of one answer."},
	{"ASYA_MAX_DEPTH", ROW(INT, depth), .fallback = "512", .min = 8, .max = 10000,
	 .help = "Deepest nesting of JSON; end actors take 8 levels more, for what failed is "
		 "nested in "
		 "the error."},
	{"ASYA_MAX_ROUTE_ACTORS", ROW(INT, route_actors), .fallback = "256", .min = 1,
	 .max = 100000, .help = "Longest route."},
	{"ASYA_MAX_HEADERS", ROW(INT, headers), .fallback = "128", .min = 8, .max = 10000,
	 .help = "Most members of an envelope's headers."},
	{"ASYA_MAX_HEADER_BYTES", ROW(BYTES, header_bytes), .fallback = "32Ki", .min = 1024,
	 .max = 16777216, .help = "Largest headers, as a whole."},
};

const size_t sidecar_n_settings = ASYA_ARRAY_SIZE(sidecar_settings);

static void complain(struct asya_buf *wrong, const struct asya_error *err)
{
	asya_buf_printf(wrong, "%s%s", wrong->n ? "; " : "", err->text);
}

static void check_names(const struct sidecar_config *c, struct asya_buf *wrong)
{
	const struct {
		const char *variable;
		struct asya_str name;
	} names[] = {{"ASYA_ACTOR_NAME", c->actor},
		     {"ASYA_ACTOR_HAPPY_END", c->happy_end},
		     {"ASYA_ACTOR_ERROR_END", c->error_end}};
	struct asya_error err;

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(names); i++) {
		if (!names[i].name.p || asya_actor_name_valid(names[i].name))
			continue;
		asya_error_set(&err, ASYA_FATAL,
			       "%s is '%.*s', it must be a DNS label (a-z, 0-9, '-', at most 63) "
			       "that does not end in '-dlq'",
			       names[i].variable, ASYA_STR_ARG(names[i].name));
		complain(wrong, &err);
	}
}

/* An error-end that routes would send what it refuses to itself, for ever. */
static void check_end(const struct sidecar_config *c, struct asya_buf *wrong)
{
	bool error = c->actor.p && asya_str_eq(c->actor, c->error_end);
	bool happy = c->actor.p && asya_str_eq(c->actor, c->happy_end);
	struct asya_error err;

	if (!c->is_end && (error || happy)) {
		asya_error_set(
			&err, ASYA_FATAL,
			"ASYA_ACTOR_NAME is '%.*s', the name in ASYA_ACTOR_%s_END, and so it "
			"must be an end actor: set ASYA_IS_END_ACTOR=true",
			ASYA_STR_ARG(c->actor), error ? "ERROR" : "HAPPY");
		complain(wrong, &err);
	}
	if (c->results_dir.n && !c->is_end) {
		asya_error_set(&err, ASYA_FATAL,
			       "ASYA_RESULTS_DIR is for end actors: set ASYA_IS_END_ACTOR=true");
		complain(wrong, &err);
	}
}

static void check_bucket(const struct sidecar_config *c, struct asya_buf *wrong)
{
	struct asya_error err;

	if (c->s3_bucket.n && c->results_dir.n) {
		asya_error_set(
			&err, ASYA_FATAL,
			"ASYA_RESULTS_DIR and ASYA_S3_BUCKET are both set: envelopes are kept "
			"in one place");
		complain(wrong, &err);
	}
	if (c->claim_check && !c->s3_bucket.n) {
		asya_error_set(&err, ASYA_FATAL,
			       "ASYA_CLAIM_CHECK is true, so ASYA_S3_BUCKET must be set");
		complain(wrong, &err);
	}
}

static bool is_path(struct asya_str s)
{
	for (const char *p = s.p, *slash; s.p && (slash = strchr(p, '/')); p = slash + 1) {
		size_t n = (size_t)(slash - p);

		if (n > NAME_MAX || (n && strspn(p, ".") >= n && n <= 2))
			return false;
	}
	return true;
}

static void check_prefixes(const struct sidecar_config *c, struct asya_buf *wrong)
{
	const struct {
		const char *variable;
		struct asya_str prefix;
	} prefixes[] = {{"ASYA_S3_RESULTS_PREFIX", c->results_prefix},
			{"ASYA_S3_ERRORS_PREFIX", c->errors_prefix}};
	struct asya_error err;

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(prefixes) && c->results_dir.n; i++) {
		if (is_path(prefixes[i].prefix))
			continue;
		asya_error_set(&err, ASYA_FATAL,
			       "%s is '%.*s', it must be names between slashes, none '.' or '..' "
			       "or longer than %d bytes",
			       prefixes[i].variable,
			       (int)(prefixes[i].prefix.n > 200 ? 200 : prefixes[i].prefix.n),
			       prefixes[i].prefix.p, NAME_MAX);
		complain(wrong, &err);
	}
}

static void no_transport(struct asya_str name, struct asya_error *err)
{
	const struct asya_transport_ops *ops;
	struct asya_buf names = {0};

	for (size_t i = 0; (ops = asya_transport_at(i)); i++)
		asya_buf_printf(&names, "%s%s", i ? ", " : "", ops->name);
	asya_error_set(err, ASYA_FATAL, "ASYA_TRANSPORT is '%.*s', it must be one of: %.*s",
		       ASYA_STR_ARG(name), ASYA_STR_ARG(asya_buf_view(&names)));
	asya_buf_fini(&names);
}

static void check_transport(const struct sidecar_config *c, struct asya_buf *wrong)
{
	const struct asya_transport_ops *ops = asya_transport_find(c->transport);
	struct asya_error err;

	if (ops && !asya_config_check(ops->settings, ops->n_settings, NULL, NULL, &err))
		return;
	if (!ops)
		no_transport(c->transport, &err);
	complain(wrong, &err);
}

static void check_metrics(const struct sidecar_config *c, struct asya_buf *wrong)
{
	struct asya_metrics *metrics;
	struct asya_error err;

	if (asya_metrics_new(&metrics, c->metrics_namespace.p ? c->metrics_namespace.p : "", 1,
			     &err)) {
		asya_error_wrap(&err, "ASYA_METRICS_NAMESPACE");
		complain(wrong, &err);
	} else {
		asya_metrics_free(metrics);
	}
	if (c->metrics && c->metrics_addr.p && asya_tcp_address_check(c->metrics_addr.p, &err)) {
		asya_error_wrap(&err, "ASYA_METRICS_ADDR");
		complain(wrong, &err);
	}
}

int sidecar_config_load(struct sidecar_config *c, struct asya_resiliency *resiliency,
			struct asya_arena *arena, struct asya_buf *wrong)
{
	struct asya_error err;

	*resiliency = (struct asya_resiliency){0};
	if (asya_config_load(c, sidecar_settings, sidecar_n_settings, NULL, NULL, arena, &err))
		complain(wrong, &err);
	check_names(c, wrong);
	check_end(c, wrong);
	check_bucket(c, wrong);
	check_prefixes(c, wrong);
	if (c->resiliency.n && asya_resiliency_parse_json(resiliency, arena, c->resiliency, &err)) {
		asya_error_wrap(&err, "ASYA_RESILIENCY");
		complain(wrong, &err);
	}
	check_transport(c, wrong);
	check_metrics(c, wrong);
	return wrong->n ? -1 : 0;
}
