// SPDX-License-Identifier: Apache-2.0
/* Running a libuv loop in a test until something is so. */
#pragma once
#include <stdbool.h>
#include <uv.h>

/* Runs the loop until *flag; fails the test after `seconds`. */
void test_run_until(uv_loop_t *loop, const bool *flag, const char *what, int seconds);
/* Runs the loop until *count is at least n. */
void test_run_until_count(uv_loop_t *loop, const unsigned *count, unsigned n, const char *what,
			  int seconds);
/* Runs the loop for so long. */
void test_run_for(uv_loop_t *loop, unsigned ms);
/* Runs the loop to its end and closes it; fails if a handle is left open. */
void test_loop_close(uv_loop_t *loop);
/* A new directory under TMPDIR or /tmp; removed by test_dir_remove. malloc'd. */
char *test_dir_make(void);
void test_dir_remove(char *take_dir);
