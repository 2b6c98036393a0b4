// SPDX-License-Identifier: Apache-2.0
#include "core/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void window_is_what_runs_and_what_can_run_within_fifty_milliseconds(void **state)
{
	static const struct {
		unsigned concurrency;
		double service_us;
		unsigned max, window;
	} rows[] = {
		{0, 0, 100, 0},                        /* not ready: nothing */
		{0, 10, 100, 0},       {1, 0, 100, 1}, /* not known yet: what it runs */
		{1, 60000000, 100, 1},                 /* a minute each: nothing is hoarded */
		{1, 50001, 100, 1},    {1, 50000, 100, 2},  {1, 10000, 100, 6},
		{16, 10000, 100, 96},  {16, 10000, 95, 95}, {1, 100, 1000, 501},
		{1, 1, 1024, 1024}, /* as quick as can be: the most */
		{8, 1000000, 4, 4},    {8, 1000000, 8, 8},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(
			asya_window_decide(rows[i].concurrency, rows[i].service_us, rows[i].max),
			rows[i].window);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(window_is_what_runs_and_what_can_run_within_fifty_milliseconds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
