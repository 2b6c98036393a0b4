// SPDX-License-Identifier: Apache-2.0
#include "core/json_value.h"

#include <yyjson.h>

int asya_json_string(struct asya_str *ret, struct asya_arena *arena, struct asya_str raw)
{
	yyjson_doc *doc;

	if (!asya_json_is_string(raw) || raw.n < 2)
		return -1;
	if (!memchr(raw.p, '\\', raw.n)) {
		*ret = asya_arena_str(arena, (struct asya_str){raw.p + 1, raw.n - 2});
		return 0;
	}
	doc = yyjson_read(raw.p, raw.n, 0);
	if (!doc)
		return -1;
	*ret = asya_arena_str(arena, (struct asya_str){yyjson_get_str(yyjson_doc_get_root(doc)),
						       yyjson_get_len(yyjson_doc_get_root(doc))});
	yyjson_doc_free(doc);
	return 0;
}
