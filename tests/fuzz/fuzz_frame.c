// SPDX-License-Identifier: Apache-2.0
/* Any bytes as a stream of frames, fed in pieces whose sizes the bytes choose. */
#include "core/runtime_frame.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct asya_frames f = {.max = 1000};
	struct asya_error err;
	struct asya_str frame;
	size_t total = 0;

	for (size_t at = 0; at < n;) {
		size_t piece = 1 + data[at] % 16;

		piece = piece > n - at ? n - at : piece;
		asya_frames_feed(&f, data + at, piece);
		at += piece;
		for (;;) {
			int code = asya_frames_next(&f, &frame, &err);

			if (code < 0)
				goto out;
			if (code == 0)
				break;
			total += 4 + frame.n;
			if (total > at || frame.n > 1000)
				abort();
		}
	}
out:
	asya_frames_fini(&f);
	return 0;
}
