// SPDX-License-Identifier: Apache-2.0
#include "core/route.h"

#include "base/sha256.h"
#include "core/json_scan.h"
#include "core/json_value.h"

#include <limits.h>
#include <stdio.h>

/* hexadecimal digits of an id that was too long in its children's ids: 128 bits */
enum { CHILD_HASH = 32 };

struct header_walk {
	const char *key;
	struct asya_str found;
	struct asya_buf *out; /* the other members are appended here; may be NULL */
	bool any;
};

static void header_copy(struct header_walk *w, const struct asya_json_member *m)
{
	if (w->any)
		asya_buf_char(w->out, ',');
	w->any = true;
	asya_buf_char(w->out, '"');
	asya_buf_str(w->out, m->key);
	asya_buf_c(w->out, "\":");
	asya_buf_str(w->out, m->value);
}

static int header_member(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	struct header_walk *w = user;

	(void)err;
	if (asya_str_eq_c(m->key, w->key)) {
		w->found = m->value;
		return 0;
	}
	if (w->out)
		header_copy(w, m);
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

/* All but `key`, then `"key":`; the value and the closing brace are the caller's. */
static void headers_open(struct asya_buf *out, struct asya_str headers, const char *key)
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
}

void asya_headers_set(struct asya_buf *out, struct asya_str headers, const char *key,
		      struct asya_str value)
{
	headers_open(out, headers, key);
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

static struct asya_str body_of(struct asya_arena *arena, const struct asya_envelope *env)
{
	struct asya_buf b = {0};

	asya_envelope_write(&b, env);
	return asya_arena_buf(arena, &b);
}

static struct asya_str quoted(struct asya_arena *arena, struct asya_str s)
{
	struct asya_buf b = {0};

	asya_buf_json(&b, s);
	return asya_arena_buf(arena, &b);
}

static struct asya_str marked(struct asya_arena *arena, const struct asya_envelope *env)
{
	struct asya_buf b = {0};

	asya_headers_set(&b, env->headers, ASYA_HEADER_FANOUT, env->id);
	return asya_arena_buf(arena, &b);
}

static bool is_own(const struct asya_json_member *m)
{
	return asya_str_starts(m->key, ASYA_HEADER_OWN);
}

static bool ends_with_the_hop(const struct asya_json_member *m)
{
	return asya_str_eq_c(m->key, ASYA_HEADER_ATTEMPT) ||
	       asya_str_eq_c(m->key, ASYA_HEADER_SINCE);
}

/* Of the envelope's headers: our own ones that live on. */
static int own_header(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	(void)err;
	if (is_own(m) && !ends_with_the_hop(m))
		header_copy(user, m);
	return 0;
}

/* Of the handler's headers: what is not ours. */
static int users_header(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	(void)err;
	if (!is_own(m))
		header_copy(user, m);
	return 0;
}

static int lasting_header(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	(void)err;
	if (!ends_with_the_hop(m))
		header_copy(user, m);
	return 0;
}

/* The headers that an item travels on with: the handler's where it gave any, else the envelope's;
 * our own ones always. */
static struct asya_str item_headers(struct asya_arena *arena, struct asya_str old,
				    struct asya_str given)
{
	struct asya_buf b = {0};
	struct header_walk w = {.out = &b};
	struct asya_error ignored;

	if (!old.p)
		return given;
	if (!given.p && !memmem(old.p, old.n, ASYA_HEADER_ATTEMPT, sizeof(ASYA_HEADER_ATTEMPT) - 1))
		return old;
	asya_buf_char(&b, '{');
	if (given.p) {
		(void)asya_json_members(given, UINT_MAX, users_header, &w, &ignored);
		(void)asya_json_members(old, UINT_MAX, own_header, &w, &ignored);
	} else {
		(void)asya_json_members(old, UINT_MAX, lasting_header, &w, &ignored);
	}
	asya_buf_char(&b, '}');
	return asya_arena_buf(arena, &b);
}

static int count_hop(void *user, size_t i, struct asya_str raw, struct asya_error *err)
{
	(void)raw;
	(void)err;
	*(size_t *)user = i + 1;
	return 0;
}

/* The headers with this hop behind those that are there. */
static struct asya_str traced(struct asya_arena *arena, const struct asya_actor *actor,
			      struct asya_str headers)
{
	struct asya_str old = asya_headers_get(headers, ASYA_HEADER_TRACE);
	struct asya_buf b = {0};
	struct asya_error ignored;
	size_t n = 0;

	if (!actor->hop.p)
		return headers;
	if (!old.p || asya_json_items(old, UINT_MAX, count_hop, &n, &ignored))
		n = 0;
	if (n >= ASYA_TRACE_HOPS_MAX)
		return headers;
	headers_open(&b, headers, ASYA_HEADER_TRACE);
	asya_buf_char(&b, '[');
	if (n) {
		asya_buf_add(&b, old.p + 1, old.n - 2);
		asya_buf_char(&b, ',');
	}
	asya_buf_str(&b, actor->hop);
	asya_buf_c(&b, "]}");
	return asya_arena_buf(arena, &b);
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
 * is shortened by a hash of the whole. Ids may hold NUL bytes. */
static struct asya_str child_id(struct asya_arena *arena, const struct asya_envelope *env, size_t i,
				bool again)
{
	char tail[64], hash[ASYA_SHA256_HEX];
	struct asya_buf b = {0};
	size_t keep = env->id.n, n;

	n = (size_t)(again ? snprintf(tail, sizeof(tail), "-%zu.%zu", env->route.current, i)
			   : snprintf(tail, sizeof(tail), "-%zu", i));
	if (keep + n > ASYA_ID_MAX) {
		keep = ASYA_ID_MAX - n - 1 - CHILD_HASH;
		while (keep && ((unsigned char)env->id.p[keep] & 0xC0) == 0x80)
			keep--;
	}
	asya_buf_add(&b, env->id.p, keep);
	if (keep < env->id.n) {
		asya_buf_char(&b, '~');
		asya_buf_add(&b, asya_sha256_hex(hash, env->id), CHILD_HASH);
	}
	asya_buf_add(&b, tail, n);
	return asya_arena_buf(arena, &b);
}

static int check_item(const struct asya_item *item, size_t index, const struct asya_limits *limits,
		      struct asya_error *err)
{
	if (!item->payload.p)
		return asya_error_set(err, ASYA_REJECT, "item %zu has no payload", index);
	if (item->headers.p && asya_headers_check(item->headers, limits, err))
		return asya_error_wrap(err, "item %zu", index);
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
		out.headers =
			traced(arena, actor, item_headers(arena, env->headers, items[i].headers));
		if (i) {
			out.id = child_id(arena, env, i, again);
			out.parent_id = env->id;
		} else if (n > 1) {
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

/* `{"error":...,"details":{...},"` */
static void failure_write(struct asya_buf *b, const struct asya_failure *failure)
{
	asya_buf_c(b, "{\"error\":");
	asya_buf_json(b, failure->code);
	asya_buf_c(b, ",\"details\":{");
	detail(b, "message", failure->message, true);
	detail(b, "type", failure->type, false);
	detail(b, "traceback", failure->traceback, false);
	if (failure->mro.p) {
		asya_buf_c(b, ",\"mro\":");
		asya_buf_str(b, failure->mro);
	}
	asya_buf_c(b, "},\"");
}

/* The envelope with the failure and its old payload as the new one. */
static struct asya_envelope failed_envelope(struct asya_arena *arena,
					    const struct asya_envelope *env,
					    const struct asya_failure *failure)
{
	struct asya_envelope out = *env;
	struct asya_buf b = {0};

	failure_write(&b, failure);
	asya_buf_c(&b, env->payload.p ? "original_payload\":" : "original_payload_ref\":");
	asya_buf_str(&b, env->payload.p ? env->payload : env->payload_ref);
	asya_buf_char(&b, '}');
	out.payload = asya_arena_buf(arena, &b);
	out.payload_ref = ASYA_STR_NONE;
	return out;
}

void asya_route_fail(struct asya_plan *ret, struct asya_arena *arena,
		     const struct asya_actor *actor, const struct asya_envelope *env,
		     const struct asya_failure *failure)
{
	struct asya_envelope out = failed_envelope(arena, env, failure);

	out.headers = traced(arena, actor, out.headers);
	single(ret, arena, ASYA_OUTCOME_FAILED, actor->error_end, &out);
}

void asya_route_divert(struct asya_plan *ret, struct asya_arena *arena,
		       const struct asya_envelope *env, const struct asya_failure *failure,
		       const struct asya_str *actors, size_t n)
{
	struct asya_envelope out = failed_envelope(arena, env, failure);
	size_t past = env->route.current < env->route.n ? env->route.current + 1 : env->route.n;

	out.headers = item_headers(arena, env->headers, ASYA_STR_NONE);
	out.route.n = past + n;
	out.route.current = past;
	out.route.actors = asya_arena_array(arena, struct asya_str, past + n);
	for (size_t i = 0; i < past + n; i++)
		out.route.actors[i] = i < past ? env->route.actors[i] : actors[i - past];
	single(ret, arena, ASYA_OUTCOME_FAILED, actors[0], &out);
}

void asya_route_poison(struct asya_plan *ret, struct asya_arena *arena,
		       const struct asya_actor *actor, struct asya_str id, struct asya_str bytes,
		       const struct asya_failure *failure)
{
	struct asya_envelope out = {.id = id};
	struct asya_buf b = {0};

	failure_write(&b, failure);
	asya_buf_c(&b, "original_payload\":");
	if (asya_utf8_valid(bytes.p, bytes.n)) {
		asya_buf_json(&b, bytes);
		asya_buf_char(&b, '}');
	} else {
		asya_buf_char(&b, '"');
		asya_buf_base64(&b, bytes);
		asya_buf_c(&b, "\",\"encoding\":\"base64\"}");
	}
	out.payload = asya_arena_buf(arena, &b);
	single(ret, arena, ASYA_OUTCOME_FAILED, actor->error_end, &out);
}

static int64_t header_number(struct asya_str headers, const char *key)
{
	struct asya_str raw = asya_headers_get(headers, key);
	int64_t value = 0;

	for (size_t i = 1; i + 1 < raw.n && i < 18; i++) {
		if (raw.p[i] < '0' || raw.p[i] > '9')
			return 0;
		value = value * 10 + (raw.p[i] - '0');
	}
	return value;
}

void asya_attempt_read(struct asya_attempt *ret, struct asya_arena *arena,
		       const struct asya_envelope *env)
{
	int64_t n;

	*ret = (struct asya_attempt){.n = 1};
	if (!env->headers.p)
		return;
	n = header_number(env->headers, ASYA_HEADER_ATTEMPT);
	ret->n = n > 1 && n < UINT_MAX ? (unsigned)n : 1;
	ret->since_us = header_number(env->headers, ASYA_HEADER_SINCE);
	ret->redrives = (unsigned)header_number(env->headers, ASYA_HEADER_REDRIVE);
	if (asya_json_string(&ret->root, arena, asya_headers_get(env->headers, ASYA_HEADER_ROOT)))
		ret->root = ASYA_STR_NONE;
}

static struct asya_str with_header(struct asya_arena *arena, struct asya_str headers,
				   const char *key, int64_t value)
{
	struct asya_buf b = {0};

	asya_headers_set(&b, headers, key, asya_arena_printf(arena, "%lld", (long long)value));
	return asya_arena_buf(arena, &b);
}

void asya_route_retry(struct asya_plan *ret, struct asya_arena *arena,
		      const struct asya_actor *actor, const struct asya_envelope *env, unsigned n,
		      int64_t since_us)
{
	struct asya_envelope out = *env;

	out.headers = with_header(arena, env->headers, ASYA_HEADER_ATTEMPT, n);
	out.headers = with_header(arena, out.headers, ASYA_HEADER_SINCE, since_us);
	out.headers = traced(arena, actor, out.headers);
	single(ret, arena, ASYA_OUTCOME_RETRIED, actor->name, &out);
}

static int find_headers(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	struct asya_str *found = user;

	(void)err;
	if (asya_str_eq_c(m->key, "headers"))
		*found = m->value;
	return 0;
}

/* Attempts end with the hop, and a redrive begins it anew. */
static struct asya_str redriven_headers(struct asya_arena *arena, const struct asya_envelope *env)
{
	struct asya_str lasting = item_headers(arena, env->headers, ASYA_STR_NONE);
	int64_t redrives = header_number(env->headers, ASYA_HEADER_REDRIVE);

	return with_header(arena, lasting, ASYA_HEADER_REDRIVE, redrives + 1);
}

struct asya_str asya_route_redrive(struct asya_arena *arena, struct asya_str body,
				   const struct asya_envelope *env)
{
	struct asya_str headers = redriven_headers(arena, env), old = ASYA_STR_NONE;
	const char *open = memchr(body.p, '{', body.n), *after;
	struct asya_error ignored;
	struct asya_buf b = {0};

	(void)asya_json_members(body, UINT_MAX, find_headers, &old, &ignored);
	after = old.p ? old.p + old.n : open + 1;
	asya_buf_add(&b, body.p, (size_t)((old.p ? old.p : open + 1) - body.p));
	if (!old.p)
		asya_buf_c(&b, "\"headers\":");
	asya_buf_str(&b, headers);
	if (!old.p)
		asya_buf_char(&b, ',');
	asya_buf_add(&b, after, (size_t)(body.p + body.n - after));
	return asya_arena_buf(arena, &b);
}
