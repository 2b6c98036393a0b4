// SPDX-License-Identifier: Apache-2.0
#include "core/runtime_reply.h"

#include "core/json_scan.h"
#include "core/json_value.h"

/* A text of a failure, or what stands there as it is. */
static struct asya_str text_of(struct asya_arena *arena, struct asya_str raw)
{
	struct asya_str text;

	return asya_json_string(&text, arena, raw) ? raw : text;
}

struct details {
	struct asya_arena *arena;
	struct asya_failure *failure;
};

static int detail_member(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	struct details *d = user;

	(void)err;
	if (asya_str_eq_c(m->key, "message"))
		d->failure->message = text_of(d->arena, m->value);
	else if (asya_str_eq_c(m->key, "type"))
		d->failure->type = text_of(d->arena, m->value);
	else if (asya_str_eq_c(m->key, "traceback"))
		d->failure->traceback = text_of(d->arena, m->value);
	else if (asya_str_eq_c(m->key, "mro") && m->value.p[0] == '[')
		d->failure->mro = m->value;
	return 0;
}

struct members {
	struct asya_str error, details, payload, route, headers;
};

static int reply_member(void *user, const struct asya_json_member *m, struct asya_error *err)
{
	struct members *r = user;
	const struct {
		const char *name;
		struct asya_str *slot;
	} known[] = {{"error", &r->error},
		     {"details", &r->details},
		     {"payload", &r->payload},
		     {"route", &r->route},
		     {"headers", &r->headers}};

	(void)err;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (asya_str_eq_c(m->key, known[i].name))
			*known[i].slot = m->value;
	return 0;
}

static int failed(struct asya_reply *reply, struct asya_arena *arena, const struct members *m,
		  const struct asya_reply_limits *limits, struct asya_error *err)
{
	struct details d = {arena, &reply->failure};

	reply->failed = true;
	reply->failure = (struct asya_failure){.code = text_of(arena, m->error)};
	if (m->details.p && m->details.p[0] == '{')
		return asya_json_members(m->details, limits->depth, detail_member, &d, err);
	reply->failure.message = m->details.p ? text_of(arena, m->details) : reply->failure.code;
	return 0;
}

static int add_item(struct asya_reply *reply, struct asya_arena *arena, const struct members *m,
		    const struct asya_reply_limits *limits, struct asya_error *err)
{
	if (!m->payload.p)
		return asya_error_set(err, ASYA_REJECT,
				      "item %zu of the runtime's answer has no 'payload'",
				      reply->n);
	if (reply->n == limits->items)
		return asya_error_set(err, ASYA_REJECT,
				      "the runtime's answer has more than %zu items",
				      limits->items);
	if (reply->n == reply->room) {
		size_t room = reply->room ? reply->room * 2 : 4;
		struct asya_item *more = asya_arena_array(arena, struct asya_item, room);

		if (reply->n)
			memcpy(more, reply->items, reply->n * sizeof(*more));
		reply->items = more;
		reply->room = room;
	}
	reply->items[reply->n++] = (struct asya_item){m->payload, m->route, m->headers};
	return 0;
}

static bool is_null(struct asya_str raw)
{
	return asya_str_eq_c(raw, "null");
}

struct walk {
	struct asya_reply *reply;
	struct asya_arena *arena;
	const struct asya_reply_limits *limits;
};

static int add_object(struct walk *w, struct asya_str object, struct asya_error *err)
{
	struct members m = {0};

	if (asya_json_members(object, w->limits->depth, reply_member, &m, err))
		return -1;
	if (m.error.p && !m.payload.p)
		return failed(w->reply, w->arena, &m, w->limits, err);
	if (is_null(m.route))
		m.route = ASYA_STR_NONE;
	if (is_null(m.headers))
		m.headers = ASYA_STR_NONE;
	return add_item(w->reply, w->arena, &m, w->limits, err);
}

static int v1_item(void *user, size_t index, struct asya_str value, struct asya_error *err)
{
	if (value.p[0] != '{')
		return asya_error_set(err, ASYA_REJECT,
				      "item %zu of the runtime's answer is no object", index);
	return add_object(user, value, err);
}

static int count_bytes(struct asya_reply *reply, size_t n, const struct asya_reply_limits *limits,
		       struct asya_error *err)
{
	reply->bytes += n;
	if (reply->bytes <= limits->bytes)
		return 0;
	return asya_error_set(err, ASYA_REJECT, "the runtime's answer has more than %zu bytes",
			      limits->bytes);
}

int asya_reply_add_v1(struct asya_reply *reply, struct asya_arena *arena, struct asya_str frame,
		      const struct asya_reply_limits *limits, struct asya_error *err)
{
	struct walk w = {reply, arena, limits};

	if (count_bytes(reply, frame.n, limits, err))
		return -1;
	frame = asya_arena_str(arena, frame);
	if (asya_json_items(frame, limits->depth, v1_item, &w, err))
		return asya_error_wrap(err, "reading the runtime's answer");
	return 1;
}

int asya_reply_add(struct asya_reply *reply, struct asya_arena *arena, struct asya_str frame,
		   const struct asya_reply_limits *limits, struct asya_error *err)
{
	struct walk w = {reply, arena, limits};
	struct members m = {0};
	char type;

	if (!frame.n)
		return asya_error_set(err, ASYA_REJECT, "the runtime sent an empty frame");
	if (count_bytes(reply, frame.n, limits, err))
		return -1;
	type = frame.p[0];
	frame = asya_arena_str(arena, (struct asya_str){frame.p + 1, frame.n - 1});
	if (type == 'E')
		return 1;
	if (type == 'I')
		return add_object(&w, frame, err);
	if (type >= 'a' && type <= 'z')
		return 0;
	if (type != 'X')
		return asya_error_set(err, ASYA_REJECT,
				      "the runtime sent a frame of the unknown type 0x%02x",
				      (unsigned char)type);
	if (asya_json_members(frame, limits->depth, reply_member, &m, err))
		return asya_error_wrap(err, "reading the runtime's error");
	if (!m.error.p)
		m.error = ASYA_STR("\"processing_error\"");
	return failed(reply, arena, &m, limits, err) ? -1 : 1;
}
