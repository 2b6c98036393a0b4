// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "core/metrics.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

static const char *const queue[] = {"queue", NULL};
static const char *const failed[] = {"queue", "reason", NULL};
static const double seconds[] = {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120};
static const double sizes[] = {1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};

static const struct asya_metric_row failed_row = {"messages_failed_total", ASYA_METRIC_COUNTER,
						  "Failed \\ by\nreason.", failed},
				    active_row = {"active_messages", ASYA_METRIC_GAUGE,
						  "Now in \"flight\"."},
				    duration_row = {"processing_duration_seconds",
						    ASYA_METRIC_HISTOGRAM,
						    "Time.",
						    queue,
						    seconds,
						    ASYA_ARRAY_SIZE(seconds)},
				    size_row = {"envelope_size_bytes",
						ASYA_METRIC_HISTOGRAM,
						"Size.",
						NULL,
						sizes,
						ASYA_ARRAY_SIZE(sizes)};

/* A strict reader of the text format 0.0.4: what a scraper must be able to rely on. Each failure is
 * a failed assertion. */

struct sample {
	char name[128];
	char labels[512]; /* as written, without le */
	char le[64];
	double value;
};

struct reading {
	struct sample samples[512];
	size_t n;
	char families[16][128];
	size_t n_families;
};

static void copy(char *out, size_t room, const char *p, size_t n)
{
	assert_in_range(n, 0, room - 1);
	memcpy(out, p, n);
	out[n] = '\0';
}

static size_t read_name(const char *p, bool label)
{
	size_t n = 0;

	assert_true(isalpha((unsigned char)p[0]) || p[0] == '_' || (!label && p[0] == ':'));
	while (isalnum((unsigned char)p[n]) || p[n] == '_' || (!label && p[n] == ':'))
		n++;
	return n;
}

/* The length of a quoted label value, checked: only \\ \" \n are escapes, no raw line feed. */
static size_t read_quoted(const char *p)
{
	size_t n = 1;

	assert_int_equal(p[0], '"');
	for (; p[n] != '"'; n++) {
		assert_true(p[n] && p[n] != '\n');
		if (p[n] == '\\') {
			n++;
			assert_non_null(memchr("\\\"n", p[n], 3));
		}
	}
	assert_true(asya_utf8_valid(p + 1, n - 1));
	return n + 1;
}

static const char *read_labels(struct sample *s, const char *p)
{
	size_t used = 0;

	if (*p != '{')
		return p;
	do {
		const char *name = ++p;
		size_t n = read_name(p, true), quoted;

		p += n;
		assert_int_equal(*p++, '=');
		quoted = read_quoted(p);
		if (n == 2 && memcmp(name, "le", 2) == 0) {
			copy(s->le, sizeof(s->le), p + 1, quoted - 2);
		} else {
			copy(s->labels + used, sizeof(s->labels) - used, name, n + 1 + quoted);
			used += n + 1 + quoted;
		}
		p += quoted;
	} while (*p == ',');
	assert_int_equal(*p, '}');
	return p + 1;
}

static void read_sample(struct reading *r, const char *line, size_t n)
{
	struct sample *s = &r->samples[r->n++];
	size_t name = read_name(line, false);
	const char *p;
	char *end;

	assert_in_range(r->n, 1, ASYA_ARRAY_SIZE(r->samples) - 1);
	copy(s->name, sizeof(s->name), line, name);
	p = read_labels(s, line + name);
	assert_int_equal(*p++, ' ');
	assert_false(isspace((unsigned char)*p));
	s->value = strtod(p, &end);
	assert_ptr_equal(end, line + n);
	for (size_t i = 0; i + 1 < r->n; i++)
		assert_false(strcmp(r->samples[i].name, s->name) == 0 &&
			     strcmp(r->samples[i].labels, s->labels) == 0 &&
			     strcmp(r->samples[i].le, s->le) == 0);
}

static void check_buckets(const struct reading *r, size_t from, const char *family)
{
	double before = -1, bound = -INFINITY;
	size_t i = from;
	char name[160];

	snprintf(name, sizeof(name), "%s_bucket", family);
	for (; i < r->n && strcmp(r->samples[i].name, name) == 0; i++) {
		assert_true(strtod(r->samples[i].le, NULL) > bound);
		assert_true(r->samples[i].value >= before);
		assert_string_equal(r->samples[i].labels, r->samples[from].labels);
		bound = strtod(r->samples[i].le, NULL);
		before = r->samples[i].value;
		if (strcmp(r->samples[i].le, "+Inf") == 0)
			break;
	}
	assert_string_equal(r->samples[i].le, "+Inf");
	snprintf(name, sizeof(name), "%s_sum", family);
	assert_string_equal(r->samples[i + 1].name, name);
	snprintf(name, sizeof(name), "%s_count", family);
	assert_string_equal(r->samples[i + 2].name, name);
	assert_true(r->samples[i + 2].value == before);
	assert_string_equal(r->samples[i + 2].labels, r->samples[from].labels);
}

static const char *read_family(struct reading *r, const char *p)
{
	char type[16], *family = r->families[r->n_families++];
	size_t n, first = r->n;

	assert_memory_equal(p, "# HELP ", 7);
	n = read_name(p + 7, false);
	copy(family, 128, p + 7, n);
	for (size_t i = 0; i + 1 < r->n_families; i++)
		assert_string_not_equal(r->families[i], family);
	p = strchr(p, '\n') + 1;
	assert_memory_equal(p, "# TYPE ", 7);
	assert_memory_equal(p + 7, family, n);
	assert_int_equal(sscanf(p + 7 + n, " %15s", type), 1);
	p = strchr(p, '\n') + 1;
	while (*p && *p != '#') {
		n = strcspn(p, "\n");
		assert_int_equal(p[n], '\n');
		read_sample(r, p, n);
		assert_int_equal(strncmp(r->samples[r->n - 1].name, family, strlen(family)), 0);
		p += n + 1;
	}
	assert_true(r->n > first);
	for (size_t i = first; strcmp(type, "histogram") == 0 && i < r->n; i++)
		if (i == first || strstr(r->samples[i - 1].name, "_count"))
			check_buckets(r, i, family);
	return p;
}

static struct reading *read_text(const struct asya_metrics *metrics)
{
	struct reading *r = asya_new0(struct reading);
	struct asya_buf text = {0};

	asya_metrics_write(&text, metrics);
	asya_buf_char(&text, '\0');
	for (const char *p = text.p; *p;)
		p = read_family(r, p);
	asya_buf_fini(&text);
	return r;
}

static double value_of(const struct reading *r, const char *name, const char *labels,
		       const char *le)
{
	for (size_t i = 0; i < r->n; i++)
		if (strcmp(r->samples[i].name, name) == 0 &&
		    strcmp(r->samples[i].labels, labels) == 0 && strcmp(r->samples[i].le, le) == 0)
			return r->samples[i].value;
	fail_msg("no sample %s{%s,le=%s}", name, labels, le);
	return NAN;
}

static struct asya_metrics *registry(size_t max_series)
{
	struct asya_metrics *m = NULL;
	struct asya_error err;

	assert_int_equal(asya_metrics_new(&m, "asya_actor", max_series, &err), 0);
	return m;
}

static void counters_and_gauges_are_written_with_help_type_and_labels(void **state)
{
	_cleanup_(asya_metrics_freep) struct asya_metrics *m = registry(10);
	struct asya_metric *f = asya_metrics_add(m, &failed_row);
	struct asya_series *active = asya_metric_series(asya_metrics_add(m, &active_row), NULL, 0);
	struct asya_buf text = {0};

	(void)state;
	asya_counter_add(asya_series(f, ASYA_STR("asya-prep"), ASYA_STR("parse")), 2);
	asya_counter_add(asya_series(f, ASYA_STR("asya-prep"), ASYA_STR("parse")), 1);
	asya_gauge_add(active, 3);
	asya_gauge_add(active, -1.5);
	asya_metrics_write(&text, m);
	asya_buf_char(&text, '\0');
	assert_string_equal(
		text.p, "# HELP asya_actor_messages_failed_total Failed \\\\ by\\nreason.\n"
			"# TYPE asya_actor_messages_failed_total counter\n"
			"asya_actor_messages_failed_total{queue=\"asya-prep\",reason=\"parse\"} 3\n"
			"# HELP asya_actor_active_messages Now in \"flight\".\n"
			"# TYPE asya_actor_active_messages gauge\n"
			"asya_actor_active_messages 1.5\n");
	asya_buf_fini(&text);
}

static void histograms_are_cumulative_and_bounds_belong_to_their_bucket(void **state)
{
	_cleanup_(asya_metrics_freep) struct asya_metrics *m = registry(10);
	struct asya_metric *duration = asya_metrics_add(m, &duration_row);
	struct asya_series *a = asya_series(duration, ASYA_STR("a")),
			   *b = asya_series(duration, ASYA_STR("b")),
			   *size = asya_metric_series(asya_metrics_add(m, &size_row), NULL, 0);
	static const double observed[] = {.005, .0050001, 1, 119.9, 121, 1e9};
	_cleanup_(asya_freep) struct reading *r = NULL;

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(observed); i++)
		asya_histogram_observe(a, observed[i]);
	asya_histogram_observe(a, NAN);
	asya_histogram_observe(b, -1);
	asya_histogram_observe(size, 1000);
	r = read_text(m);
#define BUCKET "asya_actor_processing_duration_seconds_bucket"
	assert_true(value_of(r, BUCKET, "queue=\"a\"", "0.005") == 1);
	assert_true(value_of(r, BUCKET, "queue=\"a\"", "0.01") == 2);
	assert_true(value_of(r, BUCKET, "queue=\"a\"", "0.5") == 2);
	assert_true(value_of(r, BUCKET, "queue=\"a\"", "1") == 3);
	assert_true(value_of(r, BUCKET, "queue=\"a\"", "120") == 4);
	assert_true(value_of(r, BUCKET, "queue=\"a\"", "+Inf") == 6);
	assert_true(value_of(r, BUCKET, "queue=\"b\"", "0.005") == 1);
	assert_true(value_of(r, "asya_actor_processing_duration_seconds_sum", "queue=\"a\"", "") ==
		    .005 + .0050001 + 1 + 119.9 + 121 + 1e9);
	assert_true(value_of(r, "asya_actor_envelope_size_bytes_bucket", "", "100") == 0);
	assert_true(value_of(r, "asya_actor_envelope_size_bytes_bucket", "", "1000") == 1);
	assert_true(value_of(r, "asya_actor_envelope_size_bytes_bucket", "", "1e+09") == 1);
}

static void series_beyond_the_limit_are_counted_as_other(void **state)
{
	_cleanup_(asya_metrics_freep) struct asya_metrics *m = registry(3);
	struct asya_metric *f = asya_metrics_add(m, &failed_row);
	struct asya_series *first = asya_series(f, ASYA_STR("q"), ASYA_STR("0"));
	_cleanup_(asya_freep) struct reading *r = NULL;

	(void)state;
	for (int i = 0; i < 100; i++) {
		char reason[8];

		snprintf(reason, sizeof(reason), "%d", i);
		asya_counter_add(asya_series(f, ASYA_STR("q"), asya_str_c(reason)), 1);
	}
	assert_ptr_equal(asya_series(f, ASYA_STR("q"), ASYA_STR("0")), first);
	r = read_text(m);
	assert_int_equal(r->n, 4);
	assert_true(value_of(r, "asya_actor_messages_failed_total", "queue=\"q\"reason=\"2\"",
			     "") == 1);
	assert_true(value_of(r, "asya_actor_messages_failed_total",
			     "queue=\"other\"reason=\"other\"", "") == 97);
}

static void a_label_called_other_shares_the_series_of_the_rest(void **state)
{
	_cleanup_(asya_metrics_freep) struct asya_metrics *m = registry(2);
	struct asya_metric *d = asya_metrics_add(m, &duration_row);
	struct asya_series *other = asya_series(d, ASYA_STR("other"));

	(void)state;
	assert_ptr_not_equal(asya_series(d, ASYA_STR("a")), other);
	assert_ptr_not_equal(asya_series(d, ASYA_STR("b")), other);
	assert_ptr_equal(asya_series(d, ASYA_STR("c")), other);
	free(read_text(m));
}

static void label_values_are_escaped_cut_and_made_utf8(void **state)
{
	_cleanup_(asya_metrics_freep) struct asya_metrics *m = registry(10);
	struct asya_metric *d = asya_metrics_add(m, &duration_row);
	char at[ASYA_METRIC_LABEL_BYTES + 1], one_more[ASYA_METRIC_LABEL_BYTES + 1];
	_cleanup_(asya_freep) struct reading *r = NULL;
	struct asya_series *long_one;

	(void)state;
	memset(at, 'x', sizeof(at));
	memcpy(one_more, at, sizeof(at));
	memcpy(one_more + ASYA_METRIC_LABEL_BYTES - 1, "\xC3\xA9", 2);
	long_one = asya_series(d, (struct asya_str){at, ASYA_METRIC_LABEL_BYTES});
	assert_ptr_equal(asya_series(d, (struct asya_str){at, sizeof(at)}), long_one);
	assert_ptr_not_equal(asya_series(d, (struct asya_str){one_more, sizeof(at)}), long_one);
	asya_histogram_observe(asya_series(d, ASYA_STR("a\"b\\c\nd")), 1);
	asya_histogram_observe(asya_series(d, ASYA_STR("\xFF\xC3\xA9z")), 1);
	asya_histogram_observe(asya_series(d, ASYA_STR("")), 1);
	r = read_text(m);
#define COUNT "asya_actor_processing_duration_seconds_count"
	assert_true(value_of(r, COUNT, "queue=\"a\\\"b\\\\c\\nd\"", "") == 1);
	assert_true(value_of(r, COUNT, "queue=\"???z\"", "") == 1);
	assert_true(value_of(r, COUNT, "queue=\"\"", "") == 1);
}

static void numbers_are_the_shortest_that_read_back(void **state)
{
	static const struct {
		double value;
		const char *text;
	} rows[] = {
		{0, "0"},           {0.1, "0.1"},       {0.1 + 0.2, "0.30000000000000004"},
		{1e21, "1e+21"},    {-2.5, "-2.5"},     {9007199254740993.0, "9007199254740992"},
		{5e-324, "5e-324"}, {INFINITY, "+Inf"}, {-INFINITY, "-Inf"},
		{NAN, "NaN"}};
	_cleanup_(asya_metrics_freep) struct asya_metrics *m = registry(1);
	struct asya_series *g = asya_metric_series(asya_metrics_add(m, &active_row), NULL, 0);

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		_cleanup_(asya_freep) char *end = asya_asprintf("_messages %s\n", rows[i].text);
		struct asya_buf text = {0};

		asya_gauge_set(g, rows[i].value);
		asya_metrics_write(&text, m);
		assert_true(asya_str_ends(asya_buf_view(&text), end));
		asya_buf_fini(&text);
	}
}

static void a_metric_without_series_is_not_written(void **state)
{
	_cleanup_(asya_metrics_freep) struct asya_metrics *m = registry(1);
	struct asya_buf text = {0};

	(void)state;
	asya_metrics_add(m, &failed_row);
	asya_metrics_write(&text, m);
	assert_int_equal(text.n, 0);
}

static void a_namespace_that_no_name_may_begin_with_is_refused(void **state)
{
	static const char *const bad[] = {"1a", "a-b", "a b", "\xC3\xA9"};
	_cleanup_(asya_metrics_freep) struct asya_metrics *m = NULL;
	struct asya_buf text = {0};
	struct asya_error err;

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(bad); i++) {
		assert_int_equal(asya_metrics_new(&m, bad[i], 1, &err), -1);
		assert_int_equal(err.advice, ASYA_FATAL);
		assert_non_null(strstr(err.text, bad[i]));
	}
	assert_int_equal(asya_metrics_new(&m, "", 1, &err), 0);
	asya_metrics_add(m, &active_row);
	asya_metrics_write(&text, m);
	assert_true(asya_str_ends(asya_buf_view(&text), "gauge\nactive_messages 0\n"));
	asya_buf_fini(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counters_and_gauges_are_written_with_help_type_and_labels),
		cmocka_unit_test(histograms_are_cumulative_and_bounds_belong_to_their_bucket),
		cmocka_unit_test(series_beyond_the_limit_are_counted_as_other),
		cmocka_unit_test(a_label_called_other_shares_the_series_of_the_rest),
		cmocka_unit_test(label_values_are_escaped_cut_and_made_utf8),
		cmocka_unit_test(numbers_are_the_shortest_that_read_back),
		cmocka_unit_test(a_metric_without_series_is_not_written),
		cmocka_unit_test(a_namespace_that_no_name_may_begin_with_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
