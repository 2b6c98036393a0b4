// SPDX-License-Identifier: Apache-2.0
/* Opens the SQS transport for the contract suite. */
#pragma once
#include "transport/sqs/sqs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

static const char *keys(void *user, const char *name)
{
	(void)user;
	return strcmp(name, "AWS_ACCESS_KEY_ID") == 0       ? "any"
	       : strcmp(name, "AWS_SECRET_ACCESS_KEY") == 0 ? "any"
							    : NULL;
}

static struct asya_transport *test_sqs_open(uv_loop_t *loop, const char *endpoint,
					    const char *space, bool fifo, int64_t visibility_ms)
{
	const struct asya_sqs_config config = {.endpoint = endpoint,
					       .region = "us-east-1",
					       .space = space,
					       .visibility_s = (visibility_ms + 999) / 1000,
					       .wait_s = 1,
					       .auto_create = true,
					       .fifo = fifo,
					       .get = keys};
	struct asya_transport *t = NULL;
	struct asya_error err;

	if (asya_sqs_open(&t, loop, &config, &err))
		fail_msg("%s", err.text);
	return t;
}
