// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void __attribute__((noreturn)) out_of_memory(void)
{
	static const char text[] = "{\"level\":\"FATAL\",\"event\":\"out_of_memory\"}\n";
	ssize_t written = write(STDERR_FILENO, text, sizeof(text) - 1);

	(void)written;
	abort();
}

static void *checked(void *p)
{
	if (!p)
		out_of_memory();
	return p;
}

void *asya_malloc(size_t n)
{
	return checked(malloc(n ? n : 1));
}

void *asya_calloc(size_t count, size_t n)
{
	return checked(calloc(count ? count : 1, n ? n : 1));
}

void *asya_realloc(void *p, size_t n)
{
	return checked(realloc(p, n ? n : 1));
}

char *asya_strdup(const char *s)
{
	return checked(strdup(s));
}

char *asya_strndup(const char *s, size_t n)
{
	char *copy = asya_malloc(n + 1);

	if (n)
		memcpy(copy, s, n);
	copy[n] = '\0';
	return copy;
}

char *asya_asprintf(const char *fmt, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		out_of_memory();
	va_end(args);
	return text;
}
