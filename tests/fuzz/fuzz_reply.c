// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a runtime's answer: whole as protocol 1, and cut at zero bytes as the frames of
 * protocol 2. What is accepted must lead to a plan whose messages are envelopes. */
#include "core/runtime_reply.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct asya_reply_limits limits = {.items = 20, .bytes = 4000, .depth = 40};
static const struct asya_limits envelope_limits = ASYA_LIMITS_DEFAULT;

static void use(const struct asya_reply *reply, struct asya_arena *arena)
{
	static const char text[] =
		"{\"id\":\"a\",\"route\":{\"actors\":[\"x\",\"y\"],\"current\":0},"
		"\"headers\":{\"asya-root\":\"r\",\"t\":1},\"payload\":[1]}";
	const struct asya_actor actor = {ASYA_STR("x"), ASYA_STR("happy-end"),
					 ASYA_STR("error-end"), false};
	struct asya_envelope env, sent;
	struct asya_plan plan = {0};
	struct asya_error err;

	if (asya_envelope_parse(&env, arena, ASYA_STR(text), &envelope_limits, &err))
		abort();
	if (reply->failed)
		asya_route_fail(&plan, arena, &actor, &env, &reply->failure);
	else if (asya_route_decide(&plan, arena, &actor, &env, reply->items, reply->n,
				   &envelope_limits, &err))
		return;
	for (size_t i = 0; i < plan.n; i++)
		if (asya_envelope_parse(&sent, arena, plan.sends[i].body, &envelope_limits, &err))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct asya_arena *arena = asya_arena_new();
	struct asya_reply reply = {0};
	struct asya_error err;
	int code = 0;

	if (asya_reply_add_v1(&reply, arena, (struct asya_str){(const char *)data, n}, &limits,
			      &err) == 1)
		use(&reply, arena);
	reply = (struct asya_reply){0};
	for (size_t at = 0; at < n && code == 0;) {
		const uint8_t *end = memchr(data + at, 0, n - at);
		size_t length = end ? (size_t)(end - data) - at : n - at;

		code = asya_reply_add(&reply, arena,
				      (struct asya_str){(const char *)data + at, length}, &limits,
				      &err);
		at += length + 1;
	}
	if (code == 1)
		use(&reply, arena);
	asya_arena_free(arena);
	return 0;
}
