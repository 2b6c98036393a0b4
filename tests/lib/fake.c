// SPDX-License-Identifier: Apache-2.0
#include "lib/fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

void test_fake_start(struct test_fake *ret, const char *cert, const char *key)
{
	int in[2], out[2];
	FILE *answer;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	ret->pid = fork();
	if (ret->pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		unsetenv("LD_PRELOAD");
		execl("/usr/bin/python3", "python3", ASYA_TEST_LIB "/fake_http.py", cert, key,
		      (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	ret->input = in[1];
	answer = fdopen(out[0], "r");
	assert_int_equal(fscanf(answer, "%u", &ret->port), 1);
	fclose(answer);
}

void test_fake_stop(struct test_fake *fake)
{
	close(fake->input);
	waitpid(fake->pid, NULL, 0);
}
