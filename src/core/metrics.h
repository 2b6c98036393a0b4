// SPDX-License-Identifier: Apache-2.0
/*
 * Metrics: counters, gauges and histograms with labels, written in the Prometheus text format
 * 0.0.4. Pure, and for one thread.
 *
 * A metric is a row that the program declares; a series is one set of label values. The caller
 * keeps the series, so counting is one addition. Labels come from outside (error types, queues), so
 * a metric has at most `max_series` of them; what comes later is counted in one more series whose
 * label values are all "other".
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define ASYA_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum { ASYA_METRIC_LABELS_MAX = 8, ASYA_METRIC_LABEL_BYTES = 128 };

enum asya_metric_type { ASYA_METRIC_COUNTER, ASYA_METRIC_GAUGE, ASYA_METRIC_HISTOGRAM };

/* Borrowed as long as the registry lives. */
struct asya_metric_row {
	const char *name; /* without the namespace; a counter's ends in _total, a unit is in it */
	enum asya_metric_type type;
	const char *help;
	const char *const *labels; /* ends with NULL; NULL itself: none. Never `le`. */
	const double *bounds;      /* a histogram's upper bounds, rising, finite, without +Inf */
	size_t n_bounds;
};

struct asya_metrics;
struct asya_metric;

/* Its members belong to metrics.c; they are here so that adding is inline. */
struct asya_series {
	struct asya_series *next;
	const struct asya_metric *metric;
	const struct asya_str *values;
	uint64_t hash;
	uint64_t count;    /* a counter's value, a histogram's observations */
	double value;      /* a gauge's value, a histogram's sum */
	uint64_t *buckets; /* a histogram's; not cumulative, the last one is +Inf */
};

/* `name_space` goes before every name with an underscore; "" for none. ASYA_FATAL if it cannot
 * begin a metric's name. `max_series` is for each metric, at least 1. */
int asya_metrics_new(struct asya_metrics **ret, const char *name_space, size_t max_series,
		     struct asya_error *err);
struct asya_metrics *asya_metrics_free(struct asya_metrics *metrics);
void asya_metrics_freep(struct asya_metrics **metrics);

/* Declares a metric; it lives as long as the registry. A row that breaks the rules above, or a name
 * declared twice, aborts. A metric without labels has its series from the start, at 0. */
struct asya_metric *asya_metrics_add(struct asya_metrics *metrics,
				     const struct asya_metric_row *row);

/* The series with these label values, in the order of the row's labels and as many (else it
 * aborts); made at 0 if it is not there yet. Never NULL; lives as long as the registry. Values are
 * copied, longer ones cut to ASYA_METRIC_LABEL_BYTES, bytes that are not UTF-8 replaced by '?'. */
struct asya_series *asya_metric_series(struct asya_metric *metric, const struct asya_str *values,
				       size_t n);

/* `asya_series(metric, ASYA_STR("a"), queue)`, for metrics with labels. */
#define asya_series(metric, ...)                                                                   \
	asya_metric_series((metric), (const struct asya_str[]){__VA_ARGS__},                       \
			   sizeof((const struct asya_str[]){__VA_ARGS__}) /                        \
				   sizeof(struct asya_str))

static inline void asya_counter_add(struct asya_series *series, uint64_t n)
{
	series->count += n;
}

static inline void asya_gauge_set(struct asya_series *series, double value)
{
	series->value = value;
}

static inline void asya_gauge_add(struct asya_series *series, double n)
{
	series->value += n;
}

/* A value that is no number (NaN) is not counted. */
void asya_histogram_observe(struct asya_series *series, double value);

/* Appends all metrics that have a series, in the order of their declaration. */
void asya_metrics_write(struct asya_buf *out, const struct asya_metrics *metrics);
