// SPDX-License-Identifier: Apache-2.0
/* Sends each payload on as it came. */
#include "asya_runtime.h"

static void handle(struct asya_request *r, void *user)
{
	(void)user;
	asya_emit(r, asya_payload(r), asya_payload_len(r));
}

int main(void)
{
	return asya_serve(handle, NULL);
}
