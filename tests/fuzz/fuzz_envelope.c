// SPDX-License-Identifier: Apache-2.0
/* Any bytes as an envelope: what is accepted must write back to something that is accepted again
 * and writes the same. */
#include "base/mem.h"
#include "core/envelope.h"

#include <yyjson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct asya_limits limits = ASYA_LIMITS_DEFAULT;
	struct asya_arena *arena = asya_arena_new();
	struct asya_buf first = {0}, second = {0};
	struct asya_envelope env;
	struct asya_error err;

	if (asya_envelope_parse(&env, arena, (struct asya_str){(const char *)data, n}, &limits,
				&err) == 0) {
		yyjson_doc *doc;

		asya_envelope_write(&first, &env);
		if (asya_envelope_parse(&env, arena, asya_buf_view(&first), &limits, &err))
			abort();
		asya_envelope_write(&second, &env);
		if (!asya_str_eq(asya_buf_view(&first), asya_buf_view(&second)))
			abort();
		doc = yyjson_read(first.p, first.n, YYJSON_READ_NUMBER_AS_RAW);
		if (!doc)
			abort();
		yyjson_doc_free(doc);
	}
	asya_buf_fini(&first);
	asya_buf_fini(&second);
	asya_arena_free(arena);
	return 0;
}
