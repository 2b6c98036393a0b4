// SPDX-License-Identifier: Apache-2.0
/* A JSON string becomes the same in capitals (ASCII); anything else is a ValueError. */
#include "asya_runtime.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static void handle(struct asya_request *r, void *user)
{
	size_t n = asya_payload_len(r);
	char *text = malloc(n);

	(void)user;
	if (!text || *asya_payload(r) != '"') {
		asya_fail(r, "ValueError", "the payload must be a JSON string");
		free(text);
		return;
	}
	memcpy(text, asya_payload(r), n);
	for (size_t i = 0; i < n; i++) {
		if (text[i] == '\\')
			i++; /* \n is no \N */
		else
			text[i] = (char)toupper((unsigned char)text[i]);
	}
	asya_emit(r, text, n);
	free(text);
}

int main(void)
{
	return asya_serve(handle, NULL);
}
