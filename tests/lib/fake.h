// SPDX-License-Identifier: Apache-2.0
/* The server of lib/fake_http.py, for as long as a test runs. */
#pragma once
#include <stdio.h>
#include <sys/types.h>

struct test_fake {
	pid_t pid;
	int input; /* it ends when this is closed */
	unsigned port;
};

/* `cert` and `key` NULL: plain HTTP. Fails the test if it cannot start. */
void test_fake_start(struct test_fake *ret, const char *cert, const char *key);
void test_fake_stop(struct test_fake *fake);
