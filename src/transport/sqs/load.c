// SPDX-License-Identifier: Apache-2.0
/*
 * What a program has of the SQS transport: its name and its settings. Opening loads the rest, with
 * libcurl, from the module asya-aws.so: linked in, libcurl costs a process 4.4 MiB of private
 * memory even if it never asks for it.
 */
#include "io/module.h"
#include "transport/sqs/settings.h"
#include "transport/sqs/sqs.h"

#include "base/mem.h"

static int load(struct asya_transport **ret, uv_loop_t *loop, asya_config_get_fn *get, void *user,
		struct asya_error *err)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	const struct asya_transport_ops *ops;
	struct sqs_settings s;

	if (asya_config_load(&s, sqs_settings, SQS_SETTINGS, get, user, arena, err))
		return -1;
	ops = asya_module_symbol(s.modules.p, "asya-aws.so", "asya_sqs_backend_ops", err);
	return ops ? ops->open(ret, loop, get, user, err) : -1;
}

/* The other operations are the opened transport's own. */
const struct asya_transport_ops asya_sqs_ops = {
	.name = "sqs", .settings = sqs_settings, .n_settings = SQS_SETTINGS, .open = load};
