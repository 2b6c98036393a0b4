// SPDX-License-Identifier: Apache-2.0
#include "sidecar/sidecar.h"

#include "base/mem.h"

static const char *const levels[] = {"DEBUG", "INFO", "WARNING", "ERROR", NULL};

#define ROW(kind, member) ASYA_SETTING(kind, struct sidecar_config, member)

const struct asya_setting sidecar_settings[] = {
	{"ASYA_ACTOR_NAME", ROW(STRING, actor), .flags = ASYA_SETTING_REQUIRED,
	 .help = "Name of the actor whose queue is consumed: a DNS label that does not end in "
		 "-dlq."},
	{"ASYA_TRANSPORT", ROW(STRING, transport), .fallback = "local",
	 .help = "Queue system: local (a directory on this machine), sqs (Amazon SQS and what "
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
	 .help = "Deepest nesting of JSON."},
	{"ASYA_MAX_ROUTE_ACTORS", ROW(INT, route_actors), .fallback = "256", .min = 1,
	 .max = 100000, .help = "Longest route."},
	{"ASYA_MAX_HEADERS", ROW(INT, headers), .fallback = "128", .min = 8, .max = 10000,
	 .help = "Most members of an envelope's headers."},
	{"ASYA_MAX_HEADER_BYTES", ROW(BYTES, header_bytes), .fallback = "32Ki", .min = 1024,
	 .max = 16777216, .help = "Largest headers, as a whole."},
};

const size_t sidecar_n_settings = ASYA_ARRAY_SIZE(sidecar_settings);
