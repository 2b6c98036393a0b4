// SPDX-License-Identifier: Apache-2.0
/*
 * Errors say what to do, then why.
 *
 * One type, on the caller's stack, last parameter, never NULL. A function that fails returns -1
 * with `*err` filled; 0 is done; a positive value is an outcome that its header names. Texts name
 * the thing, the value, and what would be right, and never hold a secret or a payload.
 */
#pragma once
#include <stddef.h>

/* What the caller should do about it. */
enum asya_advice {
	ASYA_ADVICE_NONE, /* no advice: only the place that knows more can tell */
	ASYA_RETRY,       /* trouble of the surroundings: keep the message, try again */
	ASYA_REJECT,      /* the message (or the request) is at fault: it will fail again */
	ASYA_FATAL,       /* this process cannot go on: wrong configuration, corrupt state */
};

struct asya_error {
	enum asya_advice advice;
	char text[1000];
};

#define ASYA_ERROR_NONE ((struct asya_error){ASYA_ADVICE_NONE, ""})

/* Fills *err. Returns -1, so that `return asya_error_set(err, ...)` reads well. */
int asya_error_set(struct asya_error *err, enum asya_advice advice, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same, ending in ": " and the text of errno value `errnum`. */
int asya_error_errno(struct asya_error *err, enum asya_advice advice, int errnum, const char *fmt,
		     ...) __attribute__((format(printf, 4, 5)));

/* Puts what was being done before the reason: "opening queue 'x': <reason>". Keeps the advice.
 * Returns -1. */
int asya_error_wrap(struct asya_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

const char *asya_advice_name(enum asya_advice advice);
