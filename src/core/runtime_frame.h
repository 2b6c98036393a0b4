// SPDX-License-Identifier: Apache-2.0
/* Frames of the runtime socket (docs/runtime-protocol.md): a 4-byte big-endian length and that many
 * bytes. Pure: bytes in, views out, no sockets. */
#pragma once
#include "base/buf.h"
#include "base/error.h"

/* Takes bytes as they come in any pieces and yields whole frames. Zero-initialise, set `max`, end
 * with asya_frames_fini. */
struct asya_frames {
	struct asya_buf buf;
	size_t done; /* bytes of the buffer that were yielded already */
	size_t max;  /* the longest frame, without its length; more is refused before it is kept */
};

void asya_frames_fini(struct asya_frames *f);
void asya_frames_feed(struct asya_frames *f, const void *p, size_t n);
/* 1: *ret is the next frame, a view until the next call with `f`; 0: more bytes are needed; -1:
 * ASYA_REJECT, a frame longer than `max`, after which the stream is of no use. */
int asya_frames_next(struct asya_frames *f, struct asya_str *ret, struct asya_error *err);
/* Whether bytes of an unfinished frame are waiting: a peer that closes now has cut it. */
bool asya_frames_partial(const struct asya_frames *f);

/* Appends one frame: `type` (0: none, the v0.1 dialect) and the bytes behind it, at most 4 GiB - 2.
 */
void asya_frame_write(struct asya_buf *out, char type, struct asya_str body);
/* The same without the bytes: what stands before a body of `n` bytes. */
void asya_frame_head(struct asya_buf *out, char type, size_t n);
