// SPDX-License-Identifier: Apache-2.0
#include "core/object_key.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/sha256.h"

#include <assert.h>
#include <ctype.h>

enum { HASH = 1 + ASYA_SHA256_HEX - 1 }; /* '=' and the digits */

static bool unreserved(unsigned char c)
{
	return c < 0x80 && (isalnum(c) || (c && strchr("-_.~", c)));
}

/* Encodes as many characters as fit into `room`. Returns how many bytes of `text` that are. */
static size_t encode(struct asya_buf *out, struct asya_str text, size_t room)
{
	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];
		bool plain = unreserved(c) && !(c == '.' && i == 0);
		size_t n = plain ? 1 : 3;

		if (n > room)
			return i;
		room -= n;
		if (plain)
			asya_buf_char(out, (char)c);
		else
			asya_buf_printf(out, "%%%02X", c);
	}
	return text.n;
}

static void name(struct asya_buf *out, struct asya_str text, const char *suffix, size_t max)
{
	char hash[ASYA_SHA256_HEX];
	size_t room = max - strlen(suffix), begin = out->n;

	assert(max >= ASYA_OBJECT_NAME_MIN && room > HASH);
	if (encode(out, text, room) < text.n) {
		out->n = begin;
		encode(out, text, room - HASH);
		asya_buf_printf(out, "=%s", asya_sha256_hex(hash, text));
	}
	asya_buf_c(out, suffix);
}

static struct asya_str settle(struct asya_arena *arena, struct asya_buf *b)
{
	struct asya_str s = asya_arena_str(arena, asya_buf_view(b));

	asya_buf_fini(b);
	return s;
}

struct asya_str asya_object_name(struct asya_arena *arena, struct asya_str text, const char *suffix,
				 size_t max)
{
	struct asya_buf b = {0};

	name(&b, text, suffix, max);
	return settle(arena, &b);
}

struct asya_str asya_object_key(struct asya_arena *arena, struct asya_str prefix, int64_t time_us,
				struct asya_str last_actor, struct asya_str id, size_t max)
{
	char time[ASYA_TIME_TEXT];
	struct asya_buf b = {0};

	asya_buf_str(&b, prefix);
	asya_buf_printf(&b, "%s/", asya_time_write(time, time_us));
	name(&b, last_actor.n ? last_actor : ASYA_STR("unknown"), "", max);
	asya_buf_char(&b, '/');
	name(&b, id, ".json", max);
	return settle(arena, &b);
}
