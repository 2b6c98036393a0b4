// SPDX-License-Identifier: Apache-2.0
/* What the commands share that look at what is there: opening it, showing it. */
#pragma once
#include "cli/cli.h"
#include "core/envelope.h"

/* As client_open, but a local directory in which there are no queues is CLI_NOT_FOUND and is not
 * made. */
int look_open(struct client *c, const struct cli *cli);

/* CLI_OK if there is a queue of that actor, or if the transport cannot tell; else CLI_NOT_FOUND
 * with the names of those that there are, or CLI_TROUBLE; a message is printed. */
int look_actor(struct client *c, const char *actor);

/* Ids, actors and texts from outside, on `arena`: at most `max` bytes, nothing that a terminal
 * would act on. */
const char *look_shown(struct asya_arena *arena, struct asya_str text, size_t max);

/* `950 us`, `12.3 ms`, `4.56 s`, `2m5s`; `-` for less than 0. */
enum { LOOK_TIME = 32 };
const char *look_duration(char out[LOOK_TIME], int64_t us);

/* Appends `,"key":"value"` (nothing for a value that is not there), or a time as RFC 3339 (nothing
 * for 0). */
void look_json_str(struct asya_buf *b, const char *key, struct asya_str value);
void look_json_time(struct asya_buf *b, const char *key, int64_t us);
/* Appends JSON as one line: line feeds outside of its strings are spaces. */
void look_json_line(struct asya_buf *b, struct asya_str raw);

/* Standard output. Empties the buffer. */
void look_print(struct asya_buf *b);
/* Whether nobody can read what is printed any more: stop. */
bool look_broken(void);

/* Whether standard output is a terminal that is to have colours and bars: not where NO_COLOR is
 * set, and not a dumb one. */
bool look_pretty(void);
#define LOOK_RED "\033[31m"
#define LOOK_GREEN "\033[32m"
#define LOOK_YELLOW "\033[33m"
#define LOOK_DIM "\033[2m"
#define LOOK_BOLD "\033[1m"
#define LOOK_PLAIN "\033[0m"

/* What an error envelope says. */
struct look_failure {
	struct asya_str code, type, message; /* decoded, on the arena; no value if absent */
};
/* Whether the payload is that of an envelope that was sent to error-end. */
bool look_failure_read(struct look_failure *ret, struct asya_arena *arena, struct asya_str payload);
