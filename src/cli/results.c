// SPDX-License-Identifier: Apache-2.0
#include "cli/results.h"

#include "base/mem.h"
#include "core/envelope.h"

#include <stdio.h>

static const size_t result_max = (size_t)1 << 30;

static bool is_final(const struct asya_hop_row *row)
{
	return asya_str_eq_c(row->hop.outcome, "final") || asya_str_eq_c(row->hop.outcome, "dead");
}

static void add(void *user, const struct asya_hop_row *row)
{
	struct results *r = user;

	if (!is_final(row))
		return;
	if (r->n == r->room) {
		size_t room = r->room ? r->room * 2 : 64;
		struct result *more = asya_arena_array(r->arena, struct result, room);

		if (r->n)
			memcpy(more, r->items, r->n * sizeof(*more));
		r->items = more;
		r->room = room;
	}
	r->items[r->n++] = (struct result){.id = asya_arena_str(r->arena, row->hop.id),
					   .outcome = asya_arena_str(r->arena, row->hop.outcome),
					   .detail = asya_arena_str(r->arena, row->hop.detail),
					   .actor = asya_arena_str(r->arena, row->actor),
					   .settled_us = row->hop.settled_us};
	r->failed +=
		asya_str_eq_c(row->hop.outcome, "dead") || asya_str_eq_c(row->actor, "error-end");
}

int results_read(struct results *ret, struct client *c, struct asya_str root,
		 struct asya_error *err)
{
	*ret = (struct results){.arena = c->cli->arena};
	if (!c->transport->ops->history)
		return asya_error_set(err, ASYA_REJECT, "the transport %s keeps no history",
				      c->transport->ops->name);
	return c->transport->ops->history(c->transport, root, true, add, ret, err);
}

static void print_json(const struct result *r, struct asya_str payload)
{
	struct asya_buf b = {0};

	asya_buf_c(&b, "{\"id\":");
	asya_buf_json(&b, r->id);
	asya_buf_c(&b, ",\"outcome\":");
	asya_buf_json(&b, r->outcome);
	asya_buf_c(&b, ",\"actor\":");
	asya_buf_json(&b, r->actor);
	if (r->detail.p) {
		asya_buf_c(&b, ",\"detail\":");
		asya_buf_json(&b, r->detail);
	}
	if (payload.p) {
		asya_buf_c(&b, ",\"payload\":");
		asya_buf_str(&b, payload);
	}
	asya_buf_c(&b, "}\n");
	fwrite(b.p, 1, b.n, stdout);
	asya_buf_fini(&b);
}

void results_print(struct client *c, const struct result *r, bool json)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct asya_limits limits = ASYA_LIMITS_DEFAULT;
	struct asya_str text = ASYA_STR_NONE;
	struct asya_envelope env = {0};
	struct asya_error err;

	limits.message_bytes = result_max;
	if (asya_str_eq_c(r->outcome, "final") && r->detail.p) {
		_cleanup_(asya_freep) char *path =
			asya_asprintf("%s/results/%.*s", cli_dir(c->cli), ASYA_STR_ARG(r->detail));

		if (cli_read_file(&text, arena, path, result_max, &err) ||
		    asya_envelope_parse(&env, arena, text, &limits, &err))
			cli_fail(CLI_TROUBLE, "%s", err.text);
	}
	if (json) {
		print_json(r, env.payload);
		return;
	}
	printf("%.*s  %.*s  ", ASYA_STR_ARG(r->id),
	       ASYA_STR_ARG(asya_str_eq_c(r->outcome, "final") ? r->actor : r->outcome));
	fwrite(env.payload.p ? env.payload.p : "", 1, env.payload.n, stdout);
	fputc('\n', stdout);
}
