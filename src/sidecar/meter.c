// SPDX-License-Identifier: Apache-2.0
#include "sidecar/meter.h"

#include "base/mem.h"
#include "core/envelope.h"

#include <stdio.h>

static const double seconds[] = {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120};
static const double bytes[] = {1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};

static const char *const by_queue_transport[] = {"queue", "transport", NULL};
static const char *const by_queue_status[] = {"queue", "status", NULL};
static const char *const by_destination_type[] = {"destination_queue", "message_type", NULL};
static const char *const by_queue_reason[] = {"queue", "reason", NULL};
static const char *const by_queue_error[] = {"queue", "error_type", NULL};
static const char *const by_queue[] = {"queue", NULL};
static const char *const by_destination_transport[] = {"destination_queue", "transport", NULL};
static const char *const by_direction[] = {"direction", NULL};

enum which {
	RECEIVED,
	PROCESSED,
	SENT,
	FAILED,
	RUNTIME_ERRORS,
	PROCESSING,
	EXECUTION,
	WAITED,
	SENDING,
	SIZES,
	ACTIVE,
	WINDOW,
	CONSUMER,
	WORKERS,
	METRICS
};

#define SECONDS .bounds = seconds, .n_bounds = sizeof(seconds) / sizeof(seconds[0])
#define BYTES .bounds = bytes, .n_bounds = sizeof(bytes) / sizeof(bytes[0])

static const struct asya_metric_row rows[METRICS] = {
	[RECEIVED] = {"messages_received_total", ASYA_METRIC_COUNTER,
		      "Messages taken from the queue.", by_queue_transport},
	[PROCESSED] = {"messages_processed_total", ASYA_METRIC_COUNTER,
		       "Messages settled, by what came of them.", by_queue_status},
	[SENT] = {"messages_sent_total", ASYA_METRIC_COUNTER,
		  "Messages put into other queues, durable there.", by_destination_type},
	[FAILED] = {"messages_failed_total", ASYA_METRIC_COUNTER,
		    "Messages that went to error-end or to dead letters.", by_queue_reason},
	[RUNTIME_ERRORS] = {"runtime_errors_total", ASYA_METRIC_COUNTER,
			    "Failures of the handler, by type.", by_queue_error},
	[PROCESSING] = {"processing_duration_seconds", ASYA_METRIC_HISTOGRAM,
			"From taking a message to its settlement.", by_queue, SECONDS},
	[EXECUTION] = {"runtime_execution_duration_seconds", ASYA_METRIC_HISTOGRAM,
		       "From a request to the handler to its answer.", by_queue, SECONDS},
	[WAITED] = {"queue_receive_duration_seconds", ASYA_METRIC_HISTOGRAM,
		    "From being put into the queue to being taken.", by_queue_transport, SECONDS},
	[SENDING] = {"queue_send_duration_seconds", ASYA_METRIC_HISTOGRAM,
		     "From asking the queue to send and ack to its confirmation.",
		     by_destination_transport, SECONDS},
	[SIZES] = {"envelope_size_bytes", ASYA_METRIC_HISTOGRAM, "Sizes of envelopes.",
		   by_direction, BYTES},
	[ACTIVE] = {"active_messages", ASYA_METRIC_GAUGE, "Messages taken and not settled.", NULL},
	[WINDOW] = {"window_messages", ASYA_METRIC_GAUGE,
		    "How many messages may be taken and not settled.", NULL},
	[CONSUMER] = {"consumer_live", ASYA_METRIC_GAUGE, "1 while the queue can be consumed from.",
		      NULL},
	[WORKERS] = {"runtime_workers", ASYA_METRIC_GAUGE, "Workers of the runtime that are ready.",
		     NULL},
};

/* The series of the queue that was sent to last: mostly it is the next one's too. */
struct destination {
	char actor[ASYA_ACTOR_MAX];
	size_t n;
	const char *kind;
	struct asya_series *sent, *sending;
};

struct meter {
	struct asya_metrics *metrics;
	struct asya_metric *m[METRICS];
	struct asya_series *received, *processing, *execution, *waited, *size_in, *size_out;
	struct destination last;
	const char *outcome; /* that was last, and its series */
	struct asya_series *processed;
	struct asya_str queue, transport;
	struct asya_arena *arena;
};

struct meter *meter_new(struct asya_str name_space, struct asya_str queue,
			struct asya_str transport, struct asya_error *err)
{
	struct meter *m = asya_new0(struct meter);

	if (asya_metrics_new(&m->metrics, name_space.p, 200, err)) {
		free(m);
		return NULL;
	}
	for (int i = 0; i < METRICS; i++)
		m->m[i] = asya_metrics_add(m->metrics, &rows[i]);
	m->arena = asya_arena_new();
	m->queue = asya_arena_printf(m->arena, "asya-%.*s", ASYA_STR_ARG(queue));
	m->transport = asya_arena_str(m->arena, transport);
	m->received = asya_series(m->m[RECEIVED], m->queue, m->transport);
	m->processing = asya_series(m->m[PROCESSING], m->queue);
	m->execution = asya_series(m->m[EXECUTION], m->queue);
	m->waited = asya_series(m->m[WAITED], m->queue, m->transport);
	m->size_in = asya_series(m->m[SIZES], ASYA_STR("received"));
	m->size_out = asya_series(m->m[SIZES], ASYA_STR("sent"));
	return m;
}

struct meter *meter_free(struct meter *m)
{
	if (!m)
		return NULL;
	asya_metrics_free(m->metrics);
	asya_arena_free(m->arena);
	free(m);
	return NULL;
}

void meter_write(struct asya_buf *out, const struct meter *m)
{
	asya_metrics_write(out, m->metrics);
}

static double in_seconds(int64_t ns)
{
	return (double)ns / 1e9;
}

void meter_received(struct meter *m, size_t n, int64_t waited_ns)
{
	asya_counter_add(m->received, 1);
	asya_histogram_observe(m->size_in, (double)n);
	if (waited_ns >= 0)
		asya_histogram_observe(m->waited, in_seconds(waited_ns));
}

void meter_processed(struct meter *m, struct asya_str outcome, int64_t took_ns)
{
	if (m->outcome != outcome.p) {
		m->outcome = outcome.p;
		m->processed = asya_series(m->m[PROCESSED], m->queue, outcome);
	}
	asya_counter_add(m->processed, 1);
	asya_histogram_observe(m->processing, in_seconds(took_ns));
}

void meter_failed(struct meter *m, struct asya_str reason)
{
	asya_counter_add(asya_series(m->m[FAILED], m->queue, reason), 1);
}

void meter_runtime_error(struct meter *m, struct asya_str type)
{
	asya_counter_add(
		asya_series(m->m[RUNTIME_ERRORS], m->queue, type.n ? type : ASYA_STR("unknown")),
		1);
}

void meter_executed(struct meter *m, int64_t took_ns)
{
	asya_histogram_observe(m->execution, in_seconds(took_ns));
}

static const struct destination *destination(struct meter *m, struct asya_str actor,
					     const char *kind)
{
	struct destination *d = &m->last;
	struct asya_str queue;
	char room[128];

	if (d->kind == kind && d->n == actor.n && memcmp(d->actor, actor.p, actor.n) == 0)
		return d;
	queue = (struct asya_str){
		room, (size_t)snprintf(room, sizeof(room), "asya-%.*s", ASYA_STR_ARG(actor))};
	d->kind = kind;
	d->n = actor.n;
	memcpy(d->actor, actor.p, actor.n);
	d->sent = asya_series(m->m[SENT], queue, asya_str_c(kind));
	d->sending = asya_series(m->m[SENDING], queue, m->transport);
	return d;
}

void meter_sent(struct meter *m, struct asya_str actor, const char *kind, size_t n)
{
	asya_counter_add(destination(m, actor, kind)->sent, 1);
	asya_histogram_observe(m->size_out, (double)n);
}

void meter_settled(struct meter *m, struct asya_str actor, const char *kind, int64_t took_ns)
{
	asya_histogram_observe(destination(m, actor, kind)->sending, in_seconds(took_ns));
}

void meter_active(struct meter *m, unsigned n, unsigned window)
{
	asya_gauge_set(asya_metric_series(m->m[ACTIVE], NULL, 0), n);
	asya_gauge_set(asya_metric_series(m->m[WINDOW], NULL, 0), window);
}

void meter_state(struct meter *m, bool consumer_live, unsigned runtime_workers)
{
	asya_gauge_set(asya_metric_series(m->m[CONSUMER], NULL, 0), consumer_live);
	asya_gauge_set(asya_metric_series(m->m[WORKERS], NULL, 0), runtime_workers);
}
