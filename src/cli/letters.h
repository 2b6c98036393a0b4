// SPDX-License-Identifier: Apache-2.0
/*
 * The dead letters of one actor, taken one after another from top to bottom. They are leased while
 * they are looked at, so nothing is lost whenever this process ends; what is not settled is
 * released, to the place where it stood if the transport knows places.
 *
 * A transport gives a message that was released again, so what was looked at must be held until
 * the end: so many, and so many bytes.
 */
#pragma once
#include "cli/cli.h"
#include "cli/look.h"

#define LETTERS_HELD_BYTES ((size_t)256 << 20)

struct letters {
	struct client *client;
	struct asya_consumer consumer;
	uv_timer_t tick;
	uv_signal_t signals[2];
	struct asya_delivery **queue; /* arrived, in a ring of `room` */
	size_t first, n, room;
	struct asya_delivery **held; /* looked at, and neither settled nor to be */
	size_t n_held, held_room;
	size_t outstanding; /* taken by us and not settled */
	size_t bytes;       /* of them, and of all that were ever taken: */
	uint64_t seen, seen_bytes;
	uint64_t total; /* that there were at the beginning */
	bool live;
	bool interrupted; /* Ctrl-C, or SIGTERM */
	bool full;        /* more cannot be held */
	struct asya_error error;
};

/* CLI_OK, or CLI_TROUBLE with a message. There must be a queue of that actor. */
int letters_open(struct letters *l, struct client *client, struct asya_str actor);
/* The next one; NULL: there is none any more, or `interrupted`, or `full`, or error.text says what
 * is wrong. No more than `total`, so that what comes back in the meantime is not taken again. */
struct asya_delivery *letters_next(struct letters *l);
/* To be released in the end. Every delivery is either held or settled by the caller. */
void letters_hold(struct letters *l, struct asya_delivery *d);
/* Runs the loop until that time (asya_clock_mono_ms) or an interruption. */
void letters_wait(struct letters *l, int64_t until_ms);
/* After a delivery was settled, of so many bytes. */
void letters_settled(struct letters *l, size_t bytes);
/* Stops, and releases all that is held. */
void letters_close(struct letters *l);

/* What a dead letter is. On the arena. */
struct letter {
	struct asya_envelope env; /* meaningful if is_envelope */
	bool is_envelope;
	struct asya_str id; /* of the envelope, or made of the bytes as a sidecar makes it */
	struct asya_str cause;
	struct look_failure failure; /* as far as its payload tells */
};
void letter_read(struct letter *ret, struct asya_arena *arena, struct asya_str body);
/* Whether it is of that error type, short name of a type, code, or cause. */
bool letter_is_type(const struct letter *l, struct asya_str type);
