// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/runtime_frame.h"

static void frames_come_whole_however_the_bytes_are_cut(void **state)
{
	static const char *const bodies[] = {"{}", "", "[1,2,3]", "x"};
	struct asya_buf stream = {0};

	(void)state;
	for (size_t i = 0; i < 4; i++)
		asya_frame_write(&stream, i == 1 ? 'E' : 0, asya_str_c(bodies[i]));
	assert_memory_equal(stream.p, "\0\0\0\2{}\0\0\0\1E\0\0\0\7[1,2,3]", 22);
	for (size_t piece = 1; piece <= stream.n; piece++) {
		struct asya_frames f = {.max = 7};
		struct asya_error err;
		struct asya_str frame;
		size_t seen = 0;

		for (size_t at = 0; at < stream.n; at += piece) {
			size_t n = stream.n - at < piece ? stream.n - at : piece;

			asya_frames_feed(&f, stream.p + at, n);
			while (asya_frames_next(&f, &frame, &err) == 1) {
				assert_true(asya_str_eq_c(frame, seen == 1 ? "E" : bodies[seen]));
				seen++;
			}
		}
		assert_int_equal(seen, 4);
		assert_false(asya_frames_partial(&f));
		asya_frames_fini(&f);
	}
	asya_buf_fini(&stream);
}

static void frame_at_the_limit_passes_and_one_more_is_refused_before_its_bytes_come(void **state)
{
	struct asya_frames f = {.max = 256};
	struct asya_error err;
	struct asya_str frame;

	(void)state;
	asya_frames_feed(&f, "\0\0\1\0", 4);
	assert_int_equal(asya_frames_next(&f, &frame, &err), 0);
	assert_true(asya_frames_partial(&f));
	asya_frames_fini(&f);
	asya_frames_feed(&f, "\0\0\1\1", 4);
	assert_int_equal(asya_frames_next(&f, &frame, &err), -1);
	assert_string_equal(err.text, "a frame of 257 bytes, at most 256 are allowed");
	asya_frames_fini(&f);
}

static void buffer_stays_small_over_many_frames(void **state)
{
	struct asya_frames f = {.max = 100};
	struct asya_buf one = {0};
	struct asya_error err;
	struct asya_str frame;

	(void)state;
	asya_frame_write(&one, 'I', ASYA_STR("{\"payload\":1}"));
	for (int i = 0; i < 100000; i++) {
		asya_frames_feed(&f, one.p, one.n);
		assert_int_equal(asya_frames_next(&f, &frame, &err), 1);
	}
	assert_true(f.buf.room <= 256);
	asya_buf_fini(&one);
	asya_frames_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_come_whole_however_the_bytes_are_cut),
		cmocka_unit_test(
			frame_at_the_limit_passes_and_one_more_is_refused_before_its_bytes_come),
		cmocka_unit_test(buffer_stays_small_over_many_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
