// SPDX-License-Identifier: Apache-2.0
/* What the verbs of `asya dead` share. */
#pragma once
#include "cli/letters.h"

struct dead_words {
	const char *actor, *id, *type, *to; /* NULL: not given */
	long long limit;                    /* 0: not given */
	double rate;                        /* a second; 0: as fast as it goes */
};

/* redrive.c. Returns the exit code. */
int dead_redrive(struct client *c, const struct dead_words *w);
