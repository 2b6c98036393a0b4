// SPDX-License-Identifier: Apache-2.0
/* What the sidecar's files share: its settings, its state, and one message's life. */
#pragma once
#include "base/list.h"
#include "core/config.h"
#include "core/metrics.h"
#include "core/resiliency.h"
#include "core/retry.h"
#include "core/route.h"
#include "io/http_server.h"
#include "sidecar/claim.h"
#include "sidecar/meter.h"
#include "sidecar/runtime.h"
#include "store/file/file.h"
#include "store/s3/s3.h"
#include "transport/transport.h"

#include <uv.h>

struct sidecar_config {
	struct asya_str actor, transport, happy_end, error_end, socket_dir, results_dir, resiliency;
	struct asya_str results_prefix, errors_prefix;
	struct asya_str s3_bucket, s3_endpoint, s3_access, s3_secret, s3_region, module_dir;
	struct asya_str claim_prefix;
	bool s3_virtual, claim_check;
	struct asya_str metrics_addr, metrics_namespace;
	bool is_end, metrics;
	int log_level;
	int64_t timeout_ms, ready_timeout_ms, grace_ms;
	int64_t window_max, crash_attempts;
	int64_t message_bytes, depth, route_actors, headers, header_bytes, fanout, reply_bytes;
};

extern const struct asya_setting sidecar_settings[];
extern const size_t sidecar_n_settings;

/* Loads the settings, and checks what no row can, those of the transport too. -1 with all that is
 * wrong, joined by "; ", appended to `wrong`. */
int sidecar_config_load(struct sidecar_config *c, struct asya_resiliency *resiliency,
			struct asya_arena *arena, struct asya_buf *wrong);

struct sidecar {
	const struct sidecar_config *config;
	struct asya_limits limits;
	struct asya_actor actor;
	uv_loop_t *loop;
	struct asya_transport *transport;
	struct asya_consumer consumer;
	struct runtime *runtime;       /* NULL: an end actor that keeps envelopes itself */
	struct asya_file_store *store; /* NULL: a runtime does the work, or s3 keeps */
	struct claims claims;          /* s3 NULL: there is no bucket */
	struct asya_http_server *http;
	struct meter *meter;
	struct asya_retry_rule *rules;
	size_t n_rules;
	struct asya_retry_policy crash_policy;

	unsigned concurrency; /* what the runtime takes side by side; 0: not ready */
	double service_us;    /* smoothed time of one request */
	double busy_us;       /* for so long no request has ended */
	unsigned window;
	struct asya_link waiting; /* messages for which the runtime has no room yet */
	struct asya_link invoking;
	struct asya_link settling;
	struct asya_link again; /* settlements that failed, to be tried again */
	unsigned n_messages;
	uv_timer_t tick;
	uv_timer_t grace;
	uv_signal_t terminate, interrupt;
	bool live; /* the queue can be reached */
	bool draining, ended;
	bool forced; /* ended with messages left */
	int exit_code;
	void (*drained)(struct sidecar *s);
};

/* flow.c: one delivery's life. */
void flow_deliver(struct asya_consumer *c, struct asya_delivery *d);
/* The runtime's room or readiness has changed, or a message waits. */
void flow_pump(struct sidecar *s);
void flow_window(struct sidecar *s);
/* Deadlines of what waits; settlements that failed. Called twice a second. */
void flow_tick(struct sidecar *s);
/* Gives back what no handler works on; `drained` is called once nothing is left. */
void flow_drain(struct sidecar *s);
/* Gives back the rest too. */
void flow_cut(struct sidecar *s);

/* usage.c: prints what --help, --version, --man or --markdown asks for. Whether `word` is one of
 * these. */
bool usage_print(const char *word);
