// SPDX-License-Identifier: Apache-2.0
/* Any bytes as an envelope and as what a handler emits: yyjson must take each reply of the C
 * runtime, and agree on what is JSON. */
#include "asya_message.h"

#include <stdint.h>
#include <stdlib.h>
#include <yyjson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must_be_json(const char *p, size_t n)
{
	yyjson_doc *doc = yyjson_read(p, n, YYJSON_READ_NUMBER_AS_RAW);

	if (!doc)
		abort();
	yyjson_doc_free(doc);
}

static void check_frames(const struct asya_request *r)
{
	size_t skip = r->version == 2 ? 1 : 0;

	for (size_t at = 0; at < r->out.n;) {
		const unsigned char *p = (const unsigned char *)r->out.p + at;
		size_t length = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];

		if (length > r->limit || at + 4 + length > r->out.n)
			abort();
		must_be_json((const char *)p + 4 + skip, length - skip);
		at += 4 + length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *text = (const char *)data;
	struct asya_json_fault fault;

	if (n && asya_message_check((struct asya_view){text, n}, 0, &fault) == 0)
		must_be_json(text, n);
	for (int version = 1; n && version <= 2; version++) {
		struct asya_request r = {.limit = 20000};
		const struct asya_item item = {
			.payload = "1", .payload_len = 1, .headers = text, .headers_len = n};

		asya_message_begin(&r, version);
		if (asya_message_parse(&r, (struct asya_view){text, n}) == 0) {
			asya_emit(&r, asya_payload(&r), asya_payload_len(&r));
			if (data[0] & 1)
				asya_emit(&r, text, n);
			if (data[n - 1] & 1)
				asya_emit_item(&r, &item);
		}
		asya_fail(&r, asya_id(&r), "%.*s", (int)(n % 100), data[n / 2] & 1 ? text : "");
		asya_message_end(&r);
		check_frames(&r);
		asya_message_begin(&r, version);
		if (asya_message_parse(&r, (struct asya_view){text, n}) == 0) {
			asya_emit(&r, asya_payload(&r), asya_payload_len(&r));
			asya_emit(&r, text, n);
		}
		asya_message_end(&r);
		check_frames(&r);
		asya_message_fini(&r);
	}
	return 0;
}
