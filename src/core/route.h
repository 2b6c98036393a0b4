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

struct asya_actor {
	struct asya_str name;
	struct asya_str happy_end;
	struct asya_str error_end;
	bool is_end; /* any route is accepted and nothing is routed on */
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
};

struct asya_send {
	struct asya_str actor;
	struct asya_str id;
	struct asya_str body;
};

enum asya_outcome {
	ASYA_OUTCOME_ROUTED, /* to the next actor */
	ASYA_OUTCOME_DONE,   /* past the end of the route, to happy-end */
	ASYA_OUTCOME_ENDED,  /* the handler returned nothing, unchanged to happy-end */
	ASYA_OUTCOME_FAILED, /* to error-end */
	ASYA_OUTCOME_FINAL,  /* this is an end actor: nothing is sent */
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

/* Appends `headers` (raw object or no value) with `key` set to the string `value`, in place of what
 * it was. */
void asya_headers_set(struct asya_buf *out, struct asya_str headers, const char *key,
		      struct asya_str value);
/* The raw value of the member `key`; no value if there is none. */
struct asya_str asya_headers_get(struct asya_str headers, const char *key);
