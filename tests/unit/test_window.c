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

static void ahead_is_what_can_be_done_within_two_milliseconds(void **state)
{
	static const struct {
		double service_us;
		unsigned max, ahead;
	} rows[] =
		{
			{0, 32, 1},        /* not known yet */
			{60000000, 32, 1}, /* a minute each */
			{2000, 32, 1},     {1001, 32, 1},       {1000, 32, 2},
			{100, 32, 20},     {63, 32, 31},        {62, 32, 32},
			{0.01, 32, 32}, /* no more than 32 whatever is allowed */
			{0.01, 33, 32},    {0.01, 1000000, 32}, {100, 8, 8},
			{100, 1, 1}, /* no more than is allowed */
			{100, 0, 1}, /* and one in any case */
		};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(asya_ahead_decide(rows[i].service_us, rows[i].max), rows[i].ahead);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(window_is_what_runs_and_what_can_run_within_fifty_milliseconds),
		cmocka_unit_test(ahead_is_what_can_be_done_within_two_milliseconds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
