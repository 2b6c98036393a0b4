// SPDX-License-Identifier: Apache-2.0
#include "core/route.h"

#include "core/json_scan.h"

#include <limits.h>

struct header_walk {
	const char *key;
	struct asya_str found;
	struct asya_buf *out; /* the other members are appended here; may be NULL */
	bool any;
};

static int header_member(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	struct header_walk *w = user;

	(void)err;
	if (asya_str_eq_c(m->key, w->key)) {
		w->found = m->value;
		return 0;
	}
	if (!w->out)
		return 0;
	if (w->any)
		asya_buf_char(w->out, ',');
	w->any = true;
	asya_buf_char(w->out, '"');
	asya_buf_str(w->out, m->key);
	asya_buf_c(w->out, "\":");
	asya_buf_str(w->out, m->value);
	return 0;
}

struct asya_str asya_headers_get(struct asya_str headers, const char *key)
{
	struct header_walk w = {.key = key};
	struct asya_error ignored;

	if (headers.p && asya_json_members(headers, UINT_MAX, header_member, &w, &ignored))
		return ASYA_STR_NONE;
	return w.found;
}

void asya_headers_set(struct asya_buf *out, struct asya_str headers, const char *key,
		      struct asya_str value)
{
	struct header_walk w = {.key = key, .out = out};
	struct asya_error ignored;

	asya_buf_char(out, '{');
	if (headers.p)
		(void)asya_json_members(headers, UINT_MAX, header_member, &w, &ignored);
	if (w.any)
		asya_buf_char(out, ',');
	asya_buf_json(out, asya_str_c(key));
	asya_buf_char(out, ':');
	asya_buf_json(out, value);
	asya_buf_char(out, '}');
}

int asya_route_check(const struct asya_actor *actor, const struct asya_envelope *env,
		     struct asya_error *err)
{
	const struct asya_route *r = &env->route;

	if (actor->is_end || (r->current < r->n && asya_str_eq(r->actors[r->current], actor->name)))
		return 0;
	if (r->current == r->n)
		return asya_error_set(err, ASYA_REJECT,
				      "Route mismatch: message routed to wrong actor (expected: "
				      "%.*s, actual: end of route)",
				      ASYA_STR_ARG(actor->name));
	return asya_error_set(
		err, ASYA_REJECT,
		"Route mismatch: message routed to wrong actor (expected: %.*s, actual: %.*s)",
		ASYA_STR_ARG(actor->name), ASYA_STR_ARG(r->actors[r->current]));
}

/* Moves the bytes of a buffer to the arena. */
static struct asya_str settle(struct asya_arena *arena, struct asya_buf *b)
{
	struct asya_str s = asya_arena_str(arena, asya_buf_view(b));

	asya_buf_fini(b);
	return s;
}

static struct asya_str body_of(struct asya_arena *arena, const struct asya_envelope *env)
{
	struct asya_buf b = {0};

	asya_envelope_write(&b, env);
	return settle(arena, &b);
}

static struct asya_str quoted(struct asya_arena *arena, struct asya_str s)
{
	struct asya_buf b = {0};

	asya_buf_json(&b, s);
	return settle(arena, &b);
}

static struct asya_str marked(struct asya_arena *arena, const struct asya_envelope *env)
{
	struct asya_buf b = {0};

	asya_headers_set(&b, env->headers, ASYA_HEADER_FANOUT, env->id);
	return settle(arena, &b);
}

static int past_kept(const struct asya_route *before, const struct asya_route *after, size_t item,
		     struct asya_error *err)
{
	for (size_t i = 0; i <= before->current && i < before->n; i++)
		if (i >= after->n || !asya_str_eq(before->actors[i], after->actors[i]))
			return asya_error_set(err, ASYA_REJECT,
					      "item %zu changes the past of the route at "
					      "actors[%zu]: it must stay '%.*s'",
					      item, i, ASYA_STR_ARG(before->actors[i]));
	if (after->current <= before->current)
		return asya_error_set(
			err, ASYA_REJECT,
			"item %zu leaves route.current at %zu: it must be more than %zu", item,
			after->current, before->current);
	return 0;
}

static int item_route(struct asya_route *ret, struct asya_arena *arena,
		      const struct asya_envelope *env, const struct asya_item *item, size_t index,
		      const struct asya_limits *limits, struct asya_error *err)
{
	if (!item->route.p) {
		*ret = env->route;
		ret->current++;
		return 0;
	}
	if (asya_route_parse(ret, arena, item->route, limits, err))
		return asya_error_wrap(err, "item %zu", index);
	return past_kept(&env->route, ret, index, err);
}

/* The i-th id of a fan-out. `again`: this id has had its first fan-out before. An id at its limit
 * is shortened by a hash. */
static struct asya_str child_id(struct asya_arena *arena, const struct asya_envelope *env, size_t i,
				bool again)
{
	struct asya_str tail = again ? asya_arena_printf(arena, "-%zu.%zu", env->route.current, i)
				     : asya_arena_printf(arena, "-%zu", i);
	size_t keep = env->id.n;

	if (keep + tail.n <= ASYA_ID_MAX)
		return asya_arena_printf(arena, "%.*s%.*s", ASYA_STR_ARG(env->id),
					 ASYA_STR_ARG(tail));
	keep = ASYA_ID_MAX - tail.n - 17;
	while (keep && ((unsigned char)env->id.p[keep] & 0xC0) == 0x80)
		keep--;
	return asya_arena_printf(arena, "%.*s~%016llx%.*s", (int)keep, env->id.p,
				 (unsigned long long)asya_hash64(env->id.p, env->id.n),
				 ASYA_STR_ARG(tail));
}

static int check_item(const struct asya_item *item, size_t index, const struct asya_limits *limits,
		      struct asya_error *err)
{
	if (!item->payload.p)
		return asya_error_set(err, ASYA_REJECT, "item %zu has no payload", index);
	if (item->headers.p && item->headers.p[0] != '{')
		return asya_error_set(err, ASYA_REJECT, "item %zu: 'headers' must be an object",
				      index);
	if (item->headers.n > limits->header_bytes)
		return asya_error_set(err, ASYA_REJECT,
				      "item %zu: 'headers' has %zu bytes, at most %zu are allowed",
				      index, item->headers.n, limits->header_bytes);
	return 0;
}

static bool fanned_out(struct asya_arena *arena, const struct asya_envelope *env)
{
	struct asya_str mark = asya_headers_get(env->headers, ASYA_HEADER_FANOUT);

	return mark.p && asya_str_eq(mark, quoted(arena, env->id));
}

static void send_item(struct asya_send *ret, struct asya_arena *arena,
		      const struct asya_actor *actor, const struct asya_envelope *out)
{
	bool more = out->route.current < out->route.n;

	ret->actor = more ? out->route.actors[out->route.current] : actor->happy_end;
	ret->id = out->id;
	ret->body = body_of(arena, out);
}

static void single(struct asya_plan *ret, struct asya_arena *arena, enum asya_outcome outcome,
		   struct asya_str actor, const struct asya_envelope *env)
{
	ret->outcome = outcome;
	ret->n = 1;
	ret->sends = asya_arena_new0(arena, struct asya_send);
	*ret->sends = (struct asya_send){actor, env->id, body_of(arena, env)};
}

int asya_route_decide(struct asya_plan *ret, struct asya_arena *arena,
		      const struct asya_actor *actor, const struct asya_envelope *env,
		      const struct asya_item *items, size_t n, const struct asya_limits *limits,
		      struct asya_error *err)
{
	bool again = fanned_out(arena, env);
	struct asya_send *sends;

	if (actor->is_end) {
		*ret = (struct asya_plan){.outcome = ASYA_OUTCOME_FINAL};
		return 0;
	}
	if (!n) {
		single(ret, arena, ASYA_OUTCOME_ENDED, actor->happy_end, env);
		return 0;
	}
	sends = asya_arena_array(arena, struct asya_send, n);
	for (size_t i = 0; i < n; i++) {
		struct asya_envelope out = *env;

		if (check_item(&items[i], i, limits, err) ||
		    item_route(&out.route, arena, env, &items[i], i, limits, err))
			return -1;
		out.payload = items[i].payload;
		out.payload_ref = ASYA_STR_NONE;
		out.headers = items[i].headers.p ? items[i].headers : env->headers;
		if (i) {
			out.id = child_id(arena, env, i, again);
			out.parent_id = env->id;
		} else if (n > 1 || (again && items[0].headers.p)) {
			out.headers = marked(arena, &out);
		}
		send_item(&sends[i], arena, actor, &out);
		if (!i)
			ret->outcome = out.route.current < out.route.n ? ASYA_OUTCOME_ROUTED
								       : ASYA_OUTCOME_DONE;
	}
	ret->sends = sends;
	ret->n = n;
	return 0;
}

static void detail(struct asya_buf *b, const char *name, struct asya_str value, bool first)
{
	asya_buf_printf(b, "%s\"%s\":", first ? "" : ",", name);
	asya_buf_json(b, value.p ? value : ASYA_STR(""));
}

void asya_route_fail(struct asya_plan *ret, struct asya_arena *arena,
		     const struct asya_actor *actor, const struct asya_envelope *env,
		     const struct asya_failure *failure)
{
	struct asya_envelope out = *env;
	struct asya_buf b = {0};

	asya_buf_c(&b, "{\"error\":");
	asya_buf_json(&b, failure->code);
	asya_buf_c(&b, ",\"details\":{");
	detail(&b, "message", failure->message, true);
	detail(&b, "type", failure->type, false);
	detail(&b, "traceback", failure->traceback, false);
	asya_buf_c(&b, env->payload.p ? "},\"original_payload\":" : "},\"original_payload_ref\":");
	asya_buf_str(&b, env->payload.p ? env->payload : env->payload_ref);
	asya_buf_char(&b, '}');
	out.payload = settle(arena, &b);
	out.payload_ref = ASYA_STR_NONE;
	single(ret, arena, ASYA_OUTCOME_FAILED, actor->error_end, &out);
}
