// SPDX-License-Identifier: Apache-2.0
#include "core/envelope.h"

#include "base/clock.h"
#include "core/json_scan.h"
#include "core/json_value.h"

#include <yyjson.h>

bool asya_actor_name_valid(struct asya_str s)
{
	if (!s.n || s.n > ASYA_ACTOR_MAX || s.p[0] == '-' || s.p[s.n - 1] == '-' ||
	    asya_str_ends(s, "-dlq"))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9') ||
		      s.p[i] == '-'))
			return false;
	return true;
}

static bool is_null(struct asya_str raw)
{
	return asya_str_eq_c(raw, "null");
}

static bool is_kind(struct asya_str raw, char first)
{
	return raw.n && raw.p[0] == first;
}

/* Decodes a raw string of a checked text. */
static int decode(struct asya_str *ret, struct asya_arena *arena, const char *name,
		  struct asya_str raw, struct asya_error *err)
{
	if (!asya_json_is_string(raw))
		return asya_error_set(err, ASYA_REJECT, "'%s' must be a string, it is %.*s", name,
				      (int)(raw.n > 60 ? 60 : raw.n), raw.p);
	if (asya_json_string(ret, arena, raw))
		return asya_error_set(err, ASYA_REJECT, "'%s' is not a JSON string", name);
	return 0;
}

struct route_reader {
	struct asya_route *route;
	struct asya_arena *arena;
	const struct asya_limits *limits;
	struct asya_str actors, current;
};

static int actors_parse(struct route_reader *r, struct asya_error *err)
{
	yyjson_doc *doc;
	yyjson_val *item;
	size_t i, n;
	int code = 0;

	if (!is_kind(r->actors, '['))
		return asya_error_set(err, ASYA_REJECT,
				      "'route.actors' must be a list of actor names");
	doc = yyjson_read(r->actors.p, r->actors.n, YYJSON_READ_NUMBER_AS_RAW);
	if (!doc)
		return asya_error_set(err, ASYA_REJECT, "'route.actors' is not JSON");
	n = yyjson_arr_size(yyjson_doc_get_root(doc));
	if (n > r->limits->route_actors) {
		yyjson_doc_free(doc);
		return asya_error_set(err, ASYA_REJECT,
				      "'route.actors' has %zu actors, at most %zu are allowed", n,
				      r->limits->route_actors);
	}
	r->route->n = n;
	r->route->actors = asya_arena_array(r->arena, struct asya_str, n);
	yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_doc_get_root(doc));
	for (i = 0; (item = yyjson_arr_iter_next(&it)) && !code; i++) {
		struct asya_str name = {yyjson_get_str(item), yyjson_get_len(item)};

		if (!yyjson_is_str(item))
			code = asya_error_set(err, ASYA_REJECT,
					      "'route.actors[%zu]' must be a string", i);
		else if (!asya_actor_name_valid(name))
			code = asya_error_set(err, ASYA_REJECT,
					      "'route.actors[%zu]' is '%.*s': an actor name is a "
					      "DNS label (a-z, 0-9, '-', at most 63) "
					      "that does not end in '-dlq'",
					      i, (int)(name.n > 80 ? 80 : name.n), name.p);
		else
			r->route->actors[i] = asya_arena_str(r->arena, name);
	}
	yyjson_doc_free(doc);
	return code;
}

static int current_parse(struct route_reader *r, struct asya_error *err)
{
	size_t value = 0;

	if (!r->current.p) /* v0.1 senders may leave it out: the beginning */
		return r->route->current = 0, 0;
	for (size_t i = 0; i < r->current.n; i++) {
		char c = r->current.p[i];

		if (c < '0' || c > '9' || value > r->route->n)
			return asya_error_set(
				err, ASYA_REJECT,
				"'route.current' is %.*s, it must be a whole number from 0 to %zu",
				(int)(r->current.n > 40 ? 40 : r->current.n), r->current.p,
				r->route->n);
		value = value * 10 + (size_t)(c - '0');
	}
	if (value > r->route->n)
		return asya_error_set(err, ASYA_REJECT,
				      "'route.current' is %zu, the route has %zu actors", value,
				      r->route->n);
	r->route->current = value;
	return 0;
}

static int once(struct asya_str *slot, const struct asya_json_member *m, struct asya_error *err)
{
	if (slot->p)
		return asya_error_set(err, ASYA_REJECT, "member '%.*s' stands twice",
				      ASYA_STR_ARG(m->key));
	*slot = m->value;
	return 0;
}

static int route_member(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	struct route_reader *r = user;

	if (asya_str_eq_c(m->key, "actors"))
		return once(&r->actors, m, err);
	if (asya_str_eq_c(m->key, "current"))
		return once(&r->current, m, err);
	if (asya_str_eq_c(m->key, "metadata"))
		return once(&r->route->metadata, m, err);
	return 0;
}

int asya_route_parse(struct asya_route *ret, struct asya_arena *arena, struct asya_str text,
		     const struct asya_limits *limits, struct asya_error *err)
{
	struct route_reader r = {.route = ret, .arena = arena, .limits = limits};

	*ret = (struct asya_route){0};
	if (!is_kind(text, '{'))
		return asya_error_set(err, ASYA_REJECT,
				      "'route' must be an object with 'actors' and 'current'");
	if (asya_json_members(text, limits->depth, route_member, &r, err))
		return asya_error_wrap(err, "reading 'route'");
	if (!r.actors.p)
		return asya_error_set(err, ASYA_REJECT, "'route.actors' is missing");
	return actors_parse(&r, err) || current_parse(&r, err) ? -1 : 0;
}

struct reader {
	struct asya_envelope *env;
	struct asya_arena *arena;
	struct asya_str id, parent_id, route;
	size_t room;
};

static int keep_unknown(struct reader *r, const struct asya_json_member *m, struct asya_error *err)
{
	struct asya_envelope *e = r->env;

	for (size_t i = 0; i < e->n_unknown; i++)
		if (asya_str_eq(e->unknown[i].key, m->key))
			return asya_error_set(err, ASYA_REJECT, "member '%.*s' stands twice",
					      ASYA_STR_ARG(m->key));
	if (e->n_unknown == 64)
		return asya_error_set(err, ASYA_REJECT,
				      "more than 64 unknown members in the envelope");
	if (e->n_unknown == r->room) {
		size_t room = r->room ? r->room * 2 : 4;
		struct asya_unknown *more = asya_arena_array(r->arena, struct asya_unknown, room);

		if (e->n_unknown)
			memcpy(more, e->unknown, e->n_unknown * sizeof(*more));
		e->unknown = more;
		r->room = room;
	}
	e->unknown[e->n_unknown++] = (struct asya_unknown){m->key, m->value};
	return 0;
}

static int envelope_member(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	struct reader *r = user;
	const struct {
		const char *name;
		struct asya_str *slot;
	} known[] = {{"id", &r->id},
		     {"parent_id", &r->parent_id},
		     {"route", &r->route},
		     {"headers", &r->env->headers},
		     {"deadline", &r->env->deadline},
		     {"payload", &r->env->payload},
		     {"payload_ref", &r->env->payload_ref}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (asya_str_eq_c(m->key, known[i].name))
			return once(known[i].slot, m, err);
	return keep_unknown(r, m, err);
}

struct header_count {
	size_t n, own, own_bytes;
};

static int count_header(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	struct header_count *c = user;

	(void)err;
	if (!asya_str_starts(m->key, ASYA_HEADER_OWN)) {
		c->n++;
		return 0;
	}
	c->own++;
	c->own_bytes += m->key.n + m->value.n + strlen("\"\":,");
	return 0;
}

int asya_headers_check(struct asya_str headers, const struct asya_limits *limits,
		       struct asya_error *err)
{
	struct header_count count = {0};
	size_t bytes;

	if (!is_kind(headers, '{'))
		return asya_error_set(err, ASYA_REJECT, "'headers' must be an object");
	if (asya_json_members(headers, limits->depth, count_header, &count, err))
		return -1;
	bytes = headers.n > count.own_bytes ? headers.n - count.own_bytes : 0;
	if (bytes > limits->header_bytes)
		return asya_error_set(err, ASYA_REJECT,
				      "'headers' has %zu bytes, at most %zu are allowed", bytes,
				      limits->header_bytes);
	if (count.n > limits->headers)
		return asya_error_set(err, ASYA_REJECT,
				      "'headers' has %zu members, at most %zu are allowed", count.n,
				      limits->headers);
	if (count.own > ASYA_OWN_HEADERS_MAX || count.own_bytes > ASYA_OWN_HEADER_BYTES)
		return asya_error_set(err, ASYA_REJECT,
				      "'headers' has %zu members '" ASYA_HEADER_OWN
				      "...' of %zu bytes, at most %d of %d bytes are allowed",
				      count.own, count.own_bytes, ASYA_OWN_HEADERS_MAX,
				      ASYA_OWN_HEADER_BYTES);
	return 0;
}

static int read_ids(struct reader *r, struct asya_error *err)
{
	struct asya_envelope *e = r->env;

	if (!r->id.p)
		return asya_error_set(err, ASYA_REJECT, "'id' is missing");
	if (decode(&e->id, r->arena, "id", r->id, err))
		return -1;
	if (!e->id.n || e->id.n > ASYA_ID_MAX)
		return asya_error_set(err, ASYA_REJECT, "'id' has %zu bytes, it must have 1 to %d",
				      e->id.n, ASYA_ID_MAX);
	if (!r->parent_id.p || is_null(r->parent_id))
		return 0;
	return decode(&e->parent_id, r->arena, "parent_id", r->parent_id, err);
}

static int read_deadline(struct reader *r, struct asya_error *err)
{
	struct asya_str text;

	if (!r->env->deadline.p)
		return 0;
	if (decode(&text, r->arena, "deadline", r->env->deadline, err))
		return -1;
	if (asya_time_parse(&r->env->deadline_us, text))
		return asya_error_set(err, ASYA_REJECT,
				      "'deadline' is '%.*s', it must be an RFC 3339 time such as "
				      "2026-11-24T10:00:00Z",
				      (int)(text.n > 60 ? 60 : text.n), text.p);
	return 0;
}

static int check_payload(const struct asya_envelope *e, struct asya_error *err)
{
	if (!e->payload.p && !e->payload_ref.p)
		return asya_error_set(err, ASYA_REJECT, "'payload' is missing");
	if (e->payload.p && e->payload_ref.p)
		return asya_error_set(
			err, ASYA_REJECT,
			"'payload' and 'payload_ref' are both there; only one may be");
	if (e->payload_ref.p && !is_kind(e->payload_ref, '{'))
		return asya_error_set(
			err, ASYA_REJECT,
			"'payload_ref' must be an object with 'url', 'size' and 'sha256'");
	return 0;
}

int asya_envelope_parse(struct asya_envelope *ret, struct asya_arena *arena, struct asya_str text,
			const struct asya_limits *limits, struct asya_error *err)
{
	struct reader r = {.env = ret, .arena = arena};

	*ret = (struct asya_envelope){0};
	if (text.n > limits->message_bytes)
		return asya_error_set(err, ASYA_REJECT,
				      "the message has %zu bytes, at most %zu are allowed", text.n,
				      limits->message_bytes);
	if (asya_json_members(text, limits->depth, envelope_member, &r, err))
		return -1;
	if (ret->headers.p && is_null(ret->headers))
		ret->headers = ASYA_STR_NONE;
	if (ret->deadline.p && is_null(ret->deadline))
		ret->deadline = ASYA_STR_NONE;
	if (read_ids(&r, err) || read_deadline(&r, err) || check_payload(ret, err) ||
	    (ret->headers.p && asya_headers_check(ret->headers, limits, err)))
		return -1;
	if (!r.route.p)
		return asya_error_set(err, ASYA_REJECT, "'route' is missing");
	return asya_route_parse(&ret->route, arena, r.route, limits, err);
}

static void member(struct asya_buf *out, const char *name, struct asya_str raw)
{
	if (!raw.p)
		return;
	asya_buf_c(out, ",\"");
	asya_buf_c(out, name);
	asya_buf_c(out, "\":");
	asya_buf_str(out, raw);
}

void asya_route_write(struct asya_buf *out, const struct asya_route *route)
{
	asya_buf_c(out, "{\"actors\":[");
	for (size_t i = 0; i < route->n; i++) {
		if (i)
			asya_buf_char(out, ',');
		asya_buf_json(out, route->actors[i]);
	}
	asya_buf_c(out, "],\"current\":");
	asya_buf_i64(out, (int64_t)route->current);
	member(out, "metadata", route->metadata);
	asya_buf_char(out, '}');
}

void asya_envelope_write(struct asya_buf *out, const struct asya_envelope *env)
{
	asya_buf_reserve(out, env->payload.n + env->headers.n + 512);
	asya_buf_c(out, "{\"id\":");
	asya_buf_json(out, env->id);
	if (env->parent_id.p) {
		asya_buf_c(out, ",\"parent_id\":");
		asya_buf_json(out, env->parent_id);
	}
	asya_buf_c(out, ",\"route\":");
	asya_route_write(out, &env->route);
	member(out, "headers", env->headers);
	member(out, "deadline", env->deadline);
	member(out, "payload", env->payload);
	member(out, "payload_ref", env->payload_ref);
	for (size_t i = 0; i < env->n_unknown; i++) {
		asya_buf_c(out, ",\"");
		asya_buf_str(out, env->unknown[i].key);
		asya_buf_c(out, "\":");
		asya_buf_str(out, env->unknown[i].value);
	}
	asya_buf_char(out, '}');
}
