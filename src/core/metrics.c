// SPDX-License-Identifier: Apache-2.0
/* The text format: prometheus.io, "Exposition formats", version 0.0.4. */
#include "core/metrics.h"

#include "base/mem.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

struct asya_metric {
	struct asya_metric *next;
	struct asya_metrics *registry;
	const struct asya_metric_row *row;
	const char *name;
	size_t n_labels;
	struct asya_series *first, **end;
	size_t n_series;
	struct asya_series *other;
};

struct asya_metrics {
	struct asya_arena *arena;
	const char *name_space;
	size_t max_series;
	struct asya_metric *first, **end;
};

/* Label names have no colon. */
static bool name_valid(const char *name, bool label)
{
	if (!*name || isdigit((unsigned char)*name))
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && *name != '_' && (label || *name != ':'))
			return false;
	return true;
}

int asya_metrics_new(struct asya_metrics **ret, const char *name_space, size_t max_series,
		     struct asya_error *err)
{
	struct asya_metrics *m;

	if (*name_space && !name_valid(name_space, false))
		return asya_error_set(err, ASYA_FATAL,
				      "metrics namespace '%.64s' must have only letters, digits, _ "
				      "and :, and not begin with a digit",
				      name_space);
	m = asya_new0(struct asya_metrics);
	m->arena = asya_arena_new();
	m->name_space = asya_arena_cstr(m->arena, asya_str_c(name_space));
	m->max_series = max_series ? max_series : 1;
	m->end = &m->first;
	*ret = m;
	return 0;
}

struct asya_metrics *asya_metrics_free(struct asya_metrics *metrics)
{
	if (!metrics)
		return NULL;
	asya_arena_free(metrics->arena);
	free(metrics);
	return NULL;
}

void asya_metrics_freep(struct asya_metrics **metrics)
{
	*metrics = asya_metrics_free(*metrics);
}

static struct asya_series *series_new(struct asya_metric *metric, const struct asya_str *values,
				      uint64_t hash)
{
	struct asya_arena *arena = metric->registry->arena;
	struct asya_series *s = asya_arena_new0(arena, struct asya_series);
	struct asya_str *copy = asya_arena_array(arena, struct asya_str, metric->n_labels);

	for (size_t i = 0; i < metric->n_labels; i++)
		copy[i] = asya_arena_str(arena, values[i]);
	s->metric = metric;
	s->values = copy;
	s->hash = hash;
	if (metric->row->type == ASYA_METRIC_HISTOGRAM)
		s->buckets = asya_arena_array(arena, uint64_t, metric->row->n_bounds + 1);
	*metric->end = s;
	metric->end = &s->next;
	metric->n_series++;
	return s;
}

static void check_row(const struct asya_metrics *metrics, const struct asya_metric_row *row,
		      const char *name)
{
	bool histogram = row->type == ASYA_METRIC_HISTOGRAM;

	assert(name_valid(name, false));
	assert(histogram == (row->n_bounds > 0));
	for (size_t i = 0; row->labels && row->labels[i]; i++) {
		assert(i < ASYA_METRIC_LABELS_MAX && name_valid(row->labels[i], true));
		assert(strcmp(row->labels[i], "le") != 0);
	}
	for (size_t i = 0; i < row->n_bounds; i++)
		assert(isfinite(row->bounds[i]) && (!i || row->bounds[i] > row->bounds[i - 1]));
	for (const struct asya_metric *m = metrics->first; m; m = m->next)
		assert(strcmp(m->name, name) != 0);
}

struct asya_metric *asya_metrics_add(struct asya_metrics *metrics,
				     const struct asya_metric_row *row)
{
	struct asya_metric *m = asya_arena_new0(metrics->arena, struct asya_metric);

	m->name = asya_arena_printf(metrics->arena, "%s%s%s", metrics->name_space,
				    *metrics->name_space ? "_" : "", row->name)
			  .p;
	check_row(metrics, row, m->name);
	m->registry = metrics;
	m->row = row;
	m->end = &m->first;
	while (row->labels && row->labels[m->n_labels])
		m->n_labels++;
	*metrics->end = m;
	metrics->end = &m->next;
	if (!m->n_labels)
		series_new(m, NULL, 0);
	return m;
}

/* The value as it is kept. `room` holds what had to be changed. */
static struct asya_str clean(struct asya_str s, char *room)
{
	size_t n = s.n;

	if (n > ASYA_METRIC_LABEL_BYTES) {
		n = ASYA_METRIC_LABEL_BYTES;
		while (n && ((unsigned char)s.p[n] & 0xC0) == 0x80)
			n--;
	}
	if (asya_utf8_valid(s.p, n))
		return (struct asya_str){n ? s.p : "", n};
	n = s.n < ASYA_METRIC_LABEL_BYTES ? s.n : ASYA_METRIC_LABEL_BYTES;
	for (size_t i = 0; i < n; i++)
		room[i] = (unsigned char)s.p[i] < 0x80 ? s.p[i] : '?';
	return (struct asya_str){room, n};
}

static bool same(const struct asya_str *a, const struct asya_str *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!asya_str_eq(a[i], b[i]))
			return false;
	return true;
}

static struct asya_series *overflow(struct asya_metric *metric)
{
	struct asya_str others[ASYA_METRIC_LABELS_MAX];

	for (size_t i = 0; i < metric->n_labels; i++)
		others[i] = ASYA_STR("other");
	if (!metric->other)
		metric->other = series_new(metric, others, 0);
	return metric->other;
}

static bool all_other(const struct asya_str *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!asya_str_eq_c(values[i], "other"))
			return false;
	return n > 0;
}

struct asya_series *asya_metric_series(struct asya_metric *metric, const struct asya_str *values,
				       size_t n)
{
	char room[ASYA_METRIC_LABELS_MAX][ASYA_METRIC_LABEL_BYTES];
	struct asya_str kept[ASYA_METRIC_LABELS_MAX];
	uint64_t hash = 1;

	assert(n == metric->n_labels);
	if (!n)
		return metric->first;
	for (size_t i = 0; i < n; i++) {
		kept[i] = clean(values[i], room[i]);
		hash = hash * 31 + asya_hash64(kept[i].p, kept[i].n);
	}
	if (all_other(kept, n))
		return overflow(metric);
	for (struct asya_series *s = metric->first; s; s = s->next)
		if (s->hash == hash && same(s->values, kept, n))
			return s;
	if (metric->n_series - (metric->other != NULL) >= metric->registry->max_series)
		return overflow(metric);
	return series_new(metric, kept, hash);
}

void asya_histogram_observe(struct asya_series *series, double value)
{
	const struct asya_metric_row *row = series->metric->row;
	size_t i = 0;

	if (isnan(value))
		return;
	while (i < row->n_bounds && value > row->bounds[i])
		i++;
	series->buckets[i]++;
	series->count++;
	series->value += value;
}

/* The shortest text that reads back as the same number, powers of ten from 1e+06 on as other
 * exporters write them in `le`. Of a normal number, six and fifteen digits print every text that is
 * shorter, as %g leaves out zeros at the end. */
static void write_double(struct asya_buf *out, double v)
{
	static const int normal[] = {6, 15, 16, 17};
	char text[32];

	if (isnan(v) || isinf(v)) {
		asya_buf_c(out, isnan(v) ? "NaN" : v > 0 ? "+Inf" : "-Inf");
		return;
	}
	for (int i = 0; i < 17; i++) {
		int digits = isnormal(v) ? normal[i] : i + 1;

		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (digits == 17 || strtod(text, NULL) == v)
			break;
	}
	asya_buf_c(out, text);
}

static void write_escaped(struct asya_buf *out, struct asya_str s, bool quote)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\n') {
			asya_buf_c(out, "\\n");
			continue;
		}
		if (s.p[i] == '\\' || (quote && s.p[i] == '"'))
			asya_buf_char(out, '\\');
		asya_buf_char(out, s.p[i]);
	}
}

/* `name_suffix{labels,le="bound"} `; `bound` may be NULL. */
static void write_name(struct asya_buf *out, const struct asya_series *s, const char *suffix,
		       const double *bound)
{
	const char *const *labels = s->metric->row->labels;
	const char *before = "{";

	asya_buf_printf(out, "%s%s", s->metric->name, suffix);
	for (size_t i = 0; i < s->metric->n_labels; i++, before = ",") {
		asya_buf_printf(out, "%s%s=\"", before, labels[i]);
		write_escaped(out, s->values[i], true);
		asya_buf_char(out, '"');
	}
	if (bound) {
		asya_buf_printf(out, "%sle=\"", before);
		write_double(out, *bound);
		asya_buf_char(out, '"');
		before = ",";
	}
	asya_buf_c(out, *before == ',' ? "} " : " ");
}

static void write_histogram(struct asya_buf *out, const struct asya_series *s)
{
	const struct asya_metric_row *row = s->metric->row;
	const double infinity = INFINITY;
	uint64_t total = 0;

	for (size_t i = 0; i <= row->n_bounds; i++) {
		total += s->buckets[i];
		write_name(out, s, "_bucket", i < row->n_bounds ? &row->bounds[i] : &infinity);
		asya_buf_printf(out, "%" PRIu64 "\n", total);
	}
	write_name(out, s, "_sum", NULL);
	write_double(out, s->value);
	asya_buf_char(out, '\n');
	write_name(out, s, "_count", NULL);
	asya_buf_printf(out, "%" PRIu64 "\n", total);
}

static void write_series(struct asya_buf *out, const struct asya_series *s)
{
	if (s->metric->row->type == ASYA_METRIC_HISTOGRAM) {
		write_histogram(out, s);
		return;
	}
	write_name(out, s, "", NULL);
	if (s->metric->row->type == ASYA_METRIC_COUNTER)
		asya_buf_printf(out, "%" PRIu64, s->count);
	else
		write_double(out, s->value);
	asya_buf_char(out, '\n');
}

void asya_metrics_write(struct asya_buf *out, const struct asya_metrics *metrics)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};

	for (const struct asya_metric *m = metrics->first; m; m = m->next) {
		if (!m->first)
			continue;
		asya_buf_printf(out, "# HELP %s ", m->name);
		write_escaped(out, asya_str_c(m->row->help), false);
		asya_buf_printf(out, "\n# TYPE %s %s\n", m->name, types[m->row->type]);
		for (const struct asya_series *s = m->first; s; s = s->next)
			write_series(out, s);
	}
}
