// SPDX-License-Identifier: Apache-2.0
#include "lib/loop.h"

#include "base/clock.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

static void nothing(uv_timer_t *t)
{
	(void)t;
}

static void on_tick_closed(uv_handle_t *h)
{
	free(h);
}

/* The timer is not on the stack: an assertion in a callback jumps out of here. */
static void run_while(uv_loop_t *loop, bool (*more)(const void *), const void *arg,
		      const char *what, int64_t ms)
{
	int64_t until = asya_clock_mono_ms() + ms;
	uv_timer_t *tick = asya_new0(uv_timer_t);
	bool late = false;

	uv_timer_init(loop, tick);
	uv_timer_start(tick, nothing, 5, 5);
	uv_unref((uv_handle_t *)tick);
	while (more(arg) && !late) {
		uv_run(loop, UV_RUN_ONCE);
		late = asya_clock_mono_ms() > until && more(arg);
	}
	uv_close((uv_handle_t *)tick, on_tick_closed);
	uv_run(loop, UV_RUN_NOWAIT);
	if (late && what)
		fail_msg("waited %lld ms in vain for: %s", (long long)ms, what);
}

static bool unset(const void *arg)
{
	return !*(const volatile bool *)arg;
}

void test_run_until(uv_loop_t *loop, const bool *flag, const char *what, int seconds)
{
	run_while(loop, unset, flag, what, seconds * 1000);
}

struct below {
	const volatile unsigned *count;
	unsigned n;
};

static bool is_below(const void *arg)
{
	const struct below *b = arg;

	return *b->count < b->n;
}

void test_run_until_count(uv_loop_t *loop, const unsigned *count, unsigned n, const char *what,
			  int seconds)
{
	run_while(loop, is_below, &(struct below){count, n}, what, seconds * 1000);
}

static bool always(const void *arg)
{
	(void)arg;
	return true;
}

void test_run_for(uv_loop_t *loop, unsigned ms)
{
	run_while(loop, always, NULL, NULL, ms);
}

static bool is_alive(const void *loop)
{
	return uv_loop_alive(loop);
}

void test_loop_close(uv_loop_t *loop)
{
	run_while(loop, is_alive, loop, "the loop to end", 10000);
	assert_int_equal(uv_loop_close(loop), 0);
}

char *test_dir_make(void)
{
	const char *tmp = getenv("TMPDIR");
	char *dir = asya_asprintf("%s/asya-test-XXXXXX", tmp ? tmp : "/tmp");

	assert_non_null(mkdtemp(dir));
	return dir;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	return remove(path);
}

void test_dir_remove(char *take_dir)
{
	nftw(take_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(take_dir);
}
