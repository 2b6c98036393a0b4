// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "core/retry.h"

static void each_backoff_grows_as_its_name_says_up_to_the_longest_interval(void **state)
{
	static const struct {
		enum asya_backoff backoff;
		unsigned attempt;
		int64_t delay;
	} rows[] = {{ASYA_BACKOFF_CONSTANT, 1, 100},
		    {ASYA_BACKOFF_CONSTANT, 9, 100},
		    {ASYA_BACKOFF_LINEAR, 1, 100},
		    {ASYA_BACKOFF_LINEAR, 3, 300},
		    {ASYA_BACKOFF_EXPONENTIAL, 1, 100},
		    {ASYA_BACKOFF_EXPONENTIAL, 4, 800},
		    {ASYA_BACKOFF_EXPONENTIAL, 5, 1000},
		    {ASYA_BACKOFF_EXPONENTIAL, 63, 1000},
		    {ASYA_BACKOFF_EXPONENTIAL, 4000000000u, 1000}};

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		struct asya_retry_policy p = {.backoff = rows[i].backoff,
					      .initial_delay_ms = 100,
					      .max_interval_ms = 1000};
		int64_t delay = -1;

		assert_true(asya_retry_decide(&p, rows[i].attempt, 0, 0.5, &delay));
		assert_int_equal(delay, rows[i].delay);
	}
}

static void attempts_end_at_the_limit(void **state)
{
	struct asya_retry_policy p = {.max_attempts = 3, .initial_delay_ms = 1};
	int64_t delay;

	(void)state;
	assert_true(asya_retry_decide(&p, 2, 0, 0, &delay));
	assert_false(asya_retry_decide(&p, 3, 0, 0, &delay));
	assert_false(asya_retry_decide(NULL, 1, 0, 0, &delay));
}

static void no_try_begins_after_the_longest_duration(void **state)
{
	struct asya_retry_policy p = {.initial_delay_ms = 100, .max_duration_ms = 1000};
	int64_t delay;

	(void)state;
	assert_true(asya_retry_decide(&p, 1, 900, 0, &delay));
	assert_false(asya_retry_decide(&p, 1, 901, 0, &delay));
	assert_false(asya_retry_decide(&p, 1, INT64_MAX, 0, &delay));
}

static void jitter_stays_between_half_and_the_whole(void **state)
{
	struct asya_retry_policy p = {.initial_delay_ms = 1000, .jitter = true};
	int64_t delay;

	(void)state;
	assert_true(asya_retry_decide(&p, 1, 0, 0, &delay));
	assert_int_equal(delay, 500);
	assert_true(asya_retry_decide(&p, 1, 0, 0.999999, &delay));
	assert_in_range(delay, 999, 1000);
}

static void rules_match_exact_short_and_ancestor_names_in_order(void **state)
{
	const struct asya_retry_policy net = {.name = ASYA_STR("net")},
				       rest = {.name = ASYA_STR("rest")};
	const struct asya_str errors[] = {ASYA_STR("Timeout"),
					  ASYA_STR("http.client.HTTPException")};
	const struct asya_retry_rule rules[] = {{errors, 2, &net}, {NULL, 0, &rest}};
	const struct asya_str mro[] = {ASYA_STR("app.MyError"), ASYA_STR("requests.Timeout")};

	(void)state;
	assert_ptr_equal(asya_retry_find(rules, 2, ASYA_STR("Timeout"), NULL, 0), &net);
	assert_ptr_equal(asya_retry_find(rules, 2, ASYA_STR("app.MyError"), mro, 2), &net);
	assert_ptr_equal(asya_retry_find(rules, 2, ASYA_STR("http.client.HTTPException"), NULL, 0),
			 &net);
	assert_ptr_equal(asya_retry_find(rules, 2, ASYA_STR("HTTPException"), NULL, 0), &rest);
	assert_ptr_equal(asya_retry_find(rules, 2, ASYA_STR("NoTimeout"), NULL, 0), &rest);
	assert_null(asya_retry_find(rules, 1, ASYA_STR("ValueError"), NULL, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_backoff_grows_as_its_name_says_up_to_the_longest_interval),
		cmocka_unit_test(attempts_end_at_the_limit),
		cmocka_unit_test(no_try_begins_after_the_longest_duration),
		cmocka_unit_test(jitter_stays_between_half_and_the_whole),
		cmocka_unit_test(rules_match_exact_short_and_ancestor_names_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
