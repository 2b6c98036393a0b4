// SPDX-License-Identifier: Apache-2.0
#include "core/runtime_frame.h"

enum { HEAD = 4 };

void asya_frames_fini(struct asya_frames *f)
{
	asya_buf_fini(&f->buf);
	f->done = 0;
}

/* Drops what was yielded, once that is at least half of the buffer, so that moving costs no more
 * than reading did. */
static void compact(struct asya_frames *f)
{
	if (f->done == 0 || f->done < f->buf.n / 2)
		return;
	asya_buf_shift(&f->buf, f->done);
	f->done = 0;
}

void asya_frames_feed(struct asya_frames *f, const void *p, size_t n)
{
	compact(f);
	asya_buf_add(&f->buf, p, n);
}

int asya_frames_next(struct asya_frames *f, struct asya_str *ret, struct asya_error *err)
{
	size_t have = f->buf.n - f->done, length;
	const unsigned char *p;

	if (have < HEAD)
		return 0;
	p = (const unsigned char *)f->buf.p + f->done;
	length = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
	if (length > f->max)
		return asya_error_set(err, ASYA_REJECT,
				      "a frame of %zu bytes, at most %zu are allowed", length,
				      f->max);
	if (have - HEAD < length)
		return 0;
	*ret = (struct asya_str){(const char *)p + HEAD, length};
	f->done += HEAD + length;
	return 1;
}

bool asya_frames_partial(const struct asya_frames *f)
{
	return f->buf.n > f->done;
}

void asya_frame_head(struct asya_buf *out, char type, size_t n)
{
	size_t all = n + (type ? 1 : 0);
	const unsigned char head[HEAD] = {(unsigned char)(all >> 24), (unsigned char)(all >> 16),
					  (unsigned char)(all >> 8), (unsigned char)all};

	asya_buf_add(out, head, HEAD);
	if (type)
		asya_buf_char(out, type);
}

void asya_frame_write(struct asya_buf *out, char type, struct asya_str body)
{
	asya_buf_reserve(out, HEAD + 1 + body.n);
	asya_frame_head(out, type, body.n);
	asya_buf_str(out, body);
}
