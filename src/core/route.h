// SPDX-License-Identifier: Apache-2.0
/*
 * Where an envelope goes next: decided here, done elsewhere. Pure: no clock, no socket, no
 * environment.
 *
 * A plan is a list of messages and its order is the guarantee: every send is confirmed durable by
 * its queue before the consumed message is acked. A plan without sends is for end actors, which
 * report instead of routing on.
 */
#pragma once
#include "core/envelope.h"

/* The header that says for which id the first fan-out has been: item 0 keeps its id, so a second
 * one must not make ids again. */
#define ASYA_HEADER_FANOUT "asya-fanout"
/* A handler that replaces the headers keeps our own ones (ASYA_HEADER_OWN). */
/* The attempt that this delivery is, from 2 on, and when the first one began (microseconds since
 * 1970); both end with the hop. */
#define ASYA_HEADER_ATTEMPT "asya-attempt"
#define ASYA_HEADER_SINCE "asya-attempt-since"
/* How often the message was taken out of dead letters. */
#define ASYA_HEADER_REDRIVE "asya-redrive"
/* The id of the envelope that it descends from, where somebody waits for all descendants. */
#define ASYA_HEADER_ROOT "asya-root"
/* Where the message has been, a list of objects, oldest first: for queue systems that keep no
 * history of hops. At most ASYA_TRACE_HOPS_MAX; later hops are not added. */
#define ASYA_HEADER_TRACE "asya-trace"
enum { ASYA_TRACE_HOPS_MAX = 32 };

struct asya_actor {
	struct asya_str name;
	struct asya_str happy_end;
	struct asya_str error_end;
	bool is_end; /* any route is accepted and nothing is routed on */
	struct asya_str
		hop; /* raw object: this hop, for ASYA_HEADER_TRACE; no value: none is added */
};

/* One value of a handler; raw JSON. */
struct asya_item {
	struct asya_str payload;
	struct asya_str route;   /* no value: the envelope's own, one further */
	struct asya_str headers; /* no value: the envelope's own */
};

/* A handler's failure. */
struct asya_failure {
	struct asya_str code;    /* processing_error, msg_parsing_error, connection_error, ... */
	struct asya_str message; /* decoded, as are the two below; no value if absent */
	struct asya_str type;
	struct asya_str traceback;
	struct asya_str mro; /* raw JSON list of type names; no value if absent */
};

struct asya_send {
	struct asya_str actor;
	struct asya_str id;
	struct asya_str body;
};

enum asya_outcome {
	ASYA_OUTCOME_ROUTED,  /* to the next actor */
	ASYA_OUTCOME_DONE,    /* past the end of the route, to happy-end */
	ASYA_OUTCOME_ENDED,   /* the handler returned nothing, unchanged to happy-end */
	ASYA_OUTCOME_FAILED,  /* to error-end */
	ASYA_OUTCOME_RETRIED, /* to its own queue again */
	ASYA_OUTCOME_FINAL,   /* this is an end actor: nothing is sent */
};

struct asya_plan {
	enum asya_outcome outcome; /* of the first item where they differ */
	struct asya_send *sends;
	size_t n;
};

/* Whether `actor` is the one that the route names. 0, or -1 ASYA_REJECT with the text that
 * error-end gets. */
int asya_route_check(const struct asya_actor *actor, const struct asya_envelope *env,
		     struct asya_error *err);

/* A handler's answer of `n` items (0: it ended the envelope). ASYA_REJECT if an item's route or
 * headers are not allowed: the past, up to and including `current`, must be as it was and `current`
 * must have advanced. Bodies live on `arena`. */
int asya_route_decide(struct asya_plan *ret, struct asya_arena *arena,
		      const struct asya_actor *actor, const struct asya_envelope *env,
		      const struct asya_item *items, size_t n, const struct asya_limits *limits,
		      struct asya_error *err);

/* To error-end, with the original route, headers and payload. Cannot fail. */
void asya_route_fail(struct asya_plan *ret, struct asya_arena *arena,
		     const struct asya_actor *actor, const struct asya_envelope *env,
		     const struct asya_failure *failure);

/* The same message, but along `actors` in place of the rest of its route. At least one actor. */
void asya_route_divert(struct asya_plan *ret, struct asya_arena *arena,
		       const struct asya_envelope *env, const struct asya_failure *failure,
		       const struct asya_str *actors, size_t n);

/* What the headers say of this delivery. */
struct asya_attempt {
	unsigned n;       /* from 1 */
	int64_t since_us; /* of the first attempt; 0: this is the first */
	unsigned redrives;
	struct asya_str root; /* decoded; no value if nobody waits */
};
void asya_attempt_read(struct asya_attempt *ret, struct asya_arena *arena,
		       const struct asya_envelope *env);

/* To its own queue once more, as attempt `n`. */
void asya_route_retry(struct asya_plan *ret, struct asya_arena *arena,
		      const struct asya_actor *actor, const struct asya_envelope *env, unsigned n,
		      int64_t since_us);

/* The message `body`, of which `env` was read, as it leaves dead letters: with one redrive more and
 * no attempts in its headers, and all its other bytes. On `arena`. */
struct asya_str asya_route_redrive(struct asya_arena *arena, struct asya_str body,
				   const struct asya_envelope *env);

/* A message that is no envelope, to error-end: `id` (of the message, or made from its bytes), and
 * the bytes as a text, or as base64 where they are not UTF-8. */
void asya_route_poison(struct asya_plan *ret, struct asya_arena *arena,
		       const struct asya_actor *actor, struct asya_str id, struct asya_str bytes,
		       const struct asya_failure *failure);

/* Appends `headers` (raw object or no value) with `key` set to the string `value`, in place of what
 * it was. */
void asya_headers_set(struct asya_buf *out, struct asya_str headers, const char *key,
		      struct asya_str value);
/* The raw value of the member `key`; no value if there is none. */
struct asya_str asya_headers_get(struct asya_str headers, const char *key);
