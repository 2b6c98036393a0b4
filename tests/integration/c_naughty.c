// SPDX-License-Identifier: Apache-2.0
/* A C actor for tests: the payload, a JSON string, says what it does. */
#include "asya_runtime.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool told(struct asya_request *r, const char *order)
{
	size_t n = strlen(order);

	return asya_payload_len(r) == n + 2 && memcmp(asya_payload(r) + 1, order, n) == 0;
}

static void emit_text(struct asya_request *r, const char *json)
{
	asya_emit(r, json, strlen(json));
}

static void pid(struct asya_request *r)
{
	char text[32];

	snprintf(text, sizeof text, "%d", (int)getpid());
	emit_text(r, text);
}

/* Says that it is hanging by a file in the socket's directory; a child hangs along. */
static void hang(void)
{
	char path[4096], aside[4096];
	pid_t child = fork();
	FILE *f;

	if (child) {
		snprintf(path, sizeof path, "%s/hanging", getenv("ASYA_SOCKET_DIR"));
		snprintf(aside, sizeof aside, "%s/hanging.new", getenv("ASYA_SOCKET_DIR"));
		f = fopen(aside, "we");
		if (f) {
			fprintf(f, "%d %d\n", (int)getpid(), (int)child);
			fclose(f);
			rename(aside, path);
		}
	}
	for (;;)
		pause();
}

/* Until a file called `go` is there. */
static void wait_for_go(struct asya_request *r)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/waiting", getenv("ASYA_SOCKET_DIR"));
	fclose(fopen(path, "we"));
	snprintf(path, sizeof path, "%s/go", getenv("ASYA_SOCKET_DIR"));
	while (access(path, F_OK) != 0)
		usleep(1000);
	pid(r);
}

static void many(struct asya_request *r)
{
	static char item[3000];

	memset(item, '7', sizeof item);
	for (int i = 0; i < 1000; i++)
		asya_emit(r, item, sizeof item);
}

static void routed(struct asya_request *r)
{
	static const char route[] = "{\"actors\":[\"a\",\"x\"],\"current\":1}",
			  headers[] = "{\"h\":2}";

	asya_emit_item(r, &(struct asya_item){.payload = "1",
					      .payload_len = 1,
					      .route = route,
					      .route_len = sizeof route - 1,
					      .headers = headers,
					      .headers_len = sizeof headers - 1});
}

static void headers(struct asya_request *r)
{
	size_t n = 0;
	const char *p = asya_member(r, "headers", &n);

	asya_emit(r, p ? p : "null", p ? n : 4);
}

static void huge(struct asya_request *r)
{
	size_t n = 1 << 20;
	char *text = malloc(n);

	memset(text, '1', n);
	asya_emit(r, text, n);
	free(text);
}

static void handle(struct asya_request *r, void *user)
{
	(void)user;
	if (told(r, "pid"))
		pid(r);
	else if (told(r, "crash"))
		raise(SIGSEGV);
	else if (told(r, "hang"))
		hang();
	else if (told(r, "wait"))
		wait_for_go(r);
	else if (told(r, "many"))
		many(r);
	else if (told(r, "routed"))
		routed(r);
	else if (told(r, "headers"))
		headers(r);
	else if (told(r, "huge"))
		huge(r);
	else if (told(r, "broken")) {
		emit_text(r, "1");
		emit_text(r, "{\"a\":\x01}");
	} else if (told(r, "fail")) {
		emit_text(r, "1");
		asya_fail(r, "my.Busy", "it \"says\"\n\x01 \xff %d", 7);
	} else if (told(r, "id"))
		asya_fail(r, "Id", "%s", asya_id(r));
}

static int start(void *user)
{
	(void)user;
	return getenv("NAUGHTY_START") != NULL;
}

int main(void)
{
	/* A crash that is meant must look like one, also under a sanitizer. */
	signal(SIGSEGV, SIG_DFL);
	return asya_serve_actor(&(struct asya_actor){.handle = handle, .start = start});
}
