// SPDX-License-Identifier: Apache-2.0
#include "base/failpoint.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HITS = 4000 };

/* Hits the point in a child with these rules. How many hits it survived, or -1 if it was not
 * killed. */
static int survived(const char *rules, const char *seed, const char *log, const char *name)
{
	int fds[2], status, n = 0;
	pid_t pid;
	char c;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		setenv("ASYA_FAILPOINTS", rules, 1);
		setenv("ASYA_FAILPOINT_SEED", seed, 1);
		setenv("ASYA_FAILPOINT_LOG", log, 1);
		for (int i = 0; i < HITS; i++) {
			asya_failpoint(name);
			if (write(fds[1], "x", 1) != 1)
				_exit(1);
		}
		_exit(asya_failpoint_on(name) ? 3 : 0);
	}
	close(fds[1]);
	while (read(fds[0], &c, 1) == 1)
		n++;
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return n;
	return WEXITSTATUS(status) == 3 ? -3 : -1;
}

static char *read_all(const char *path)
{
	char *text = asya_calloc(1, 4096);
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(text, 1, 4095, f) : 0;

	text[n] = '\0';
	if (f)
		fclose(f);
	return text;
}

#ifdef ASYA_FAILPOINTS
static void rule_kills_at_its_hit_and_says_so_first(void **state)
{
	char log[] = "/tmp/asya-failpoint-XXXXXX";
	_cleanup_(asya_freep) char *text = NULL;

	(void)state;
	close(mkstemp(log));
	assert_int_equal(survived("other=kill@1,here=kill@3", "1", log, "here"), 2);
	text = read_all(log);
	unlink(log);
	assert_int_equal(strncmp(text, "here ", 5), 0);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void chance_is_per_mille_and_may_be_a_fraction(void **state)
{
	(void)state;
	assert_int_equal(survived("here=kill%1000", "1", "/dev/null", "here"), 0);
	assert_int_equal(survived("here=kill%0", "1", "/dev/null", "here"), -1);
	/* 4,000 hits at 1 in 50: to survive them all has a chance of 10^-35. */
	assert_true(survived("*=kill%20", "7", "/dev/null", "here") >= 0);
	/* At 1 in 100 million: a chance of 4 in 100,000 to be killed. */
	assert_int_equal(survived("here=kill%0.00001", "7", "/dev/null", "here"), -1);
}

static void switch_is_on_where_a_rule_says_so(void **state)
{
	(void)state;
	assert_int_equal(survived("here=on", "1", "/dev/null", "here"), -3);
	assert_int_equal(survived("other=on", "1", "/dev/null", "here"), -1);
}
#else
static void without_failpoints_a_rule_does_nothing(void **state)
{
	(void)state;
	assert_int_equal(survived("*=kill@1,here=on", "1", "/dev/null", "here"), -1);
	(void)read_all;
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
#ifdef ASYA_FAILPOINTS
		cmocka_unit_test(rule_kills_at_its_hit_and_says_so_first),
		cmocka_unit_test(chance_is_per_mille_and_may_be_a_fraction),
		cmocka_unit_test(switch_is_on_where_a_rule_says_so),
#else
		cmocka_unit_test(without_failpoints_a_rule_does_nothing),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
