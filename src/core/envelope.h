// SPDX-License-Identifier: Apache-2.0
/*
 * The envelope: one JSON object per queue message, read once and never rewritten where nobody
 * changed it.
 *
 * `payload`, `headers`, `route.metadata` and unknown top-level members are kept as the bytes that
 * came and go out as these bytes. What is decoded is what routing needs: the id, the actors, the
 * position, the deadline.
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Each is the largest value that passes; one more is refused. */
struct asya_limits {
	size_t message_bytes;
	unsigned depth; /* nested arrays and objects in the whole message */
	size_t route_actors;
	size_t headers;      /* members of `headers` that are not our own */
	size_t header_bytes; /* bytes of the whole `headers` object, without our own members */
};

/* Headers that begin with this are Asya's own. They have limits of their own, so that what we add
 * on the way makes no message illegal. */
#define ASYA_HEADER_OWN "asya-"
enum { ASYA_OWN_HEADERS_MAX = 16, ASYA_OWN_HEADER_BYTES = 8192 };

#define ASYA_LIMITS_DEFAULT                                                                        \
	((struct asya_limits){.message_bytes = 64u << 20,                                          \
			      .depth = 512,                                                        \
			      .route_actors = 256,                                                 \
			      .headers = 128,                                                      \
			      .header_bytes = 32768})

enum { ASYA_ID_MAX = 256, ASYA_ACTOR_MAX = 63 };

/* A member that we do not know: key between its quotes (escaped) and value, as they came. */
struct asya_unknown {
	struct asya_str key;
	struct asya_str value;
};

struct asya_route {
	struct asya_str *actors; /* decoded */
	size_t n;
	size_t current;           /* at most n; n is the end of the route */
	struct asya_str metadata; /* raw; no value if absent */
};

struct asya_envelope {
	struct asya_str id;        /* decoded, 1 to ASYA_ID_MAX bytes */
	struct asya_str parent_id; /* decoded; no value if absent or null */
	struct asya_route route;
	struct asya_str headers;     /* raw object; no value if absent or null */
	struct asya_str deadline;    /* raw; no value if absent or null */
	int64_t deadline_us;         /* UTC since 1970; meaningful with `deadline` */
	struct asya_str payload;     /* raw; no value if `payload_ref` is there in its place */
	struct asya_str payload_ref; /* raw object; no value if absent */
	struct asya_unknown *unknown;
	size_t n_unknown;
};

/* Reads `text`, which must outlive the envelope; decoded parts and arrays live on `arena`.
 * ASYA_REJECT names the member, what it is, and what would be right. Members repeated at the top
 * level are refused: readers disagree on which one counts. */
int asya_envelope_parse(struct asya_envelope *ret, struct asya_arena *arena, struct asya_str text,
			const struct asya_limits *limits, struct asya_error *err);

/* Whether `headers` (raw) are an object within the limits. 0, or -1 ASYA_REJECT. */
int asya_headers_check(struct asya_str headers, const struct asya_limits *limits,
		       struct asya_error *err);

/* Reads a `route` object. */
int asya_route_parse(struct asya_route *ret, struct asya_arena *arena, struct asya_str text,
		     const struct asya_limits *limits, struct asya_error *err);

/* Appends the envelope as JSON: id, parent_id, route, headers, deadline, payload, then the unknown
 * members in their order. */
void asya_envelope_write(struct asya_buf *out, const struct asya_envelope *env);
void asya_route_write(struct asya_buf *out, const struct asya_route *route);

/* Whether `name` is a DNS label (RFC 1123) that does not end in the reserved `-dlq`. */
bool asya_actor_name_valid(struct asya_str name);
