// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int asya_error_set(struct asya_error *err, enum asya_advice advice, const char *fmt, ...)
{
	va_list args;

	err->advice = advice;
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	return -1;
}

static void append(struct asya_error *err, const char *text)
{
	size_t used = strlen(err->text);

	snprintf(err->text + used, sizeof(err->text) - used, ": %s", text);
}

int asya_error_errno(struct asya_error *err, enum asya_advice advice, int errnum, const char *fmt,
		     ...)
{
	va_list args;
	char reason[128];

	err->advice = advice;
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	append(err, strerror_r(errnum, reason, sizeof(reason)));
	return -1;
}

int asya_error_wrap(struct asya_error *err, const char *fmt, ...)
{
	char inner[sizeof(err->text)];
	va_list args;

	memcpy(inner, err->text, sizeof(inner));
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	append(err, inner);
	return -1;
}

const char *asya_advice_name(enum asya_advice advice)
{
	static const char *const names[] = {"none", "retry", "reject", "fatal"};

	return names[advice];
}
