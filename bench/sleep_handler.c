// SPDX-License-Identifier: Apache-2.0
/* A handler that waits ten milliseconds, as one does that asks a model or a database, and sends the
 * payload on. */
#include "asya_runtime.h"

#include <time.h>

static void handle(struct asya_request *r, void *user)
{
	const struct timespec ten_ms = {.tv_nsec = 10000000};

	(void)user;
	nanosleep(&ten_ms, NULL);
	asya_emit(r, asya_payload(r), asya_payload_len(r));
}

int main(void)
{
	return asya_serve(handle, NULL);
}
