// SPDX-License-Identifier: Apache-2.0
#include "io/sigv4.h"
#include "sigv4_vectors.h"

#include "base/clock.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { HEADERS_MAX = 16 };

static const struct asya_aws_keys keys = {
	.access = ASYA_STR("AKIDEXAMPLE"),
	.secret = ASYA_STR("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")};

static size_t read_headers(struct asya_http_header *ret, struct asya_sigv4 *s, const char *p)
{
	size_t n = 0;

	for (const char *colon, *eol; *p; p = eol + 1) {
		struct asya_str name, value;

		eol = strchr(p, '\n');
		colon = memchr(p, ':', (size_t)(eol - p));
		name = (struct asya_str){p, (size_t)(colon - p)};
		value = (struct asya_str){colon + 1, (size_t)(eol - colon) - 1};
		if (asya_str_eq_c(name, "Host"))
			s->host = value;
		else if (!asya_str_eq_c(name, "X-Amz-Date"))
			ret[n++] = (struct asya_http_header){name, value};
	}
	return n;
}

/* Where paths are not normalised they are encoded once, as S3 wants it. */
static struct asya_str path_of(struct asya_arena *arena, const struct sigv4_vector *v)
{
	struct asya_buf b = {0};
	struct asya_str ret;

	if (v->normalize)
		return asya_str_c(v->path);
	asya_uri_encode(&b, asya_str_c(v->path), '/');
	ret = asya_arena_str(arena, asya_buf_view(&b));
	asya_buf_fini(&b);
	return ret;
}

static struct asya_str signature(const struct asya_http_header *headers, size_t n)
{
	struct asya_str a = headers[n - 1].value;

	assert_true(asya_str_eq_c(headers[n - 1].name, "Authorization"));
	return (struct asya_str){a.p + a.n - 64, 64};
}

static void published_examples_have_the_published_signatures(void **state)
{
	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(sigv4_vectors); i++) {
		const struct sigv4_vector *v = &sigv4_vectors[i];
		_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
		struct asya_http_header in[HEADERS_MAX], out[ASYA_SIGV4_HEADERS];
		struct asya_sigv4 s = {.keys = keys,
				       .region = ASYA_STR("us-east-1"),
				       .service = ASYA_STR("service"),
				       .flags = (v->normalize ? 0 : ASYA_SIGV4_PATH_AS_IS) |
						(v->hash_header ? ASYA_SIGV4_HASH_HEADER : 0),
				       .method = asya_str_c(v->method),
				       .query = asya_str_c(v->query),
				       .headers = in,
				       .body = asya_str_c(v->body)};

		s.keys.token = asya_str_c(v->token);
		s.path = path_of(arena, v);
		assert_int_equal(asya_time_parse(&s.time_us, ASYA_STR("2015-08-30T12:36:00Z")), 0);
		s.n_headers = read_headers(in, &s, v->headers);
		s.headers = in;
		if (!asya_str_eq_c(signature(out, asya_sigv4_sign(out, arena, &s)), v->signature))
			fail_msg("%s", v->name);
	}
}

/* Of the S3 documentation: a GET of the first ten bytes of examplebucket's test.txt. */
static void s3_request_has_the_documented_signature(void **state)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	const struct asya_http_header range = {ASYA_STR("Range"), ASYA_STR("bytes=0-9")};
	struct asya_http_header out[ASYA_SIGV4_HEADERS];
	struct asya_sigv4 s = {.keys = {ASYA_STR("AKIAIOSFODNN7EXAMPLE"),
					ASYA_STR("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
					ASYA_STR_NONE},
			       .region = ASYA_STR("us-east-1"),
			       .service = ASYA_STR("s3"),
			       .flags = ASYA_SIGV4_S3,
			       .method = ASYA_STR("GET"),
			       .host = ASYA_STR("examplebucket.s3.amazonaws.com"),
			       .path = ASYA_STR("/test.txt"),
			       .headers = &range,
			       .n_headers = 1};

	(void)state;
	assert_int_equal(asya_time_parse(&s.time_us, ASYA_STR("2013-05-24T00:00:00Z")), 0);
	assert_true(
		asya_str_eq_c(signature(out, asya_sigv4_sign(out, arena, &s)),
			      "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"));
}

static void body_left_unsigned_says_so(void **state)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct asya_http_header out[ASYA_SIGV4_HEADERS];
	const struct asya_sigv4 s = {.keys = keys,
				     .flags = ASYA_SIGV4_S3 | ASYA_SIGV4_UNSIGNED,
				     .method = ASYA_STR("PUT"),
				     .body = ASYA_STR("x")};

	(void)state;
	assert_int_equal(asya_sigv4_sign(out, arena, &s), 3);
	assert_true(asya_str_eq_c(out[1].name, "X-Amz-Content-Sha256"));
	assert_true(asya_str_eq_c(out[1].value, "UNSIGNED-PAYLOAD"));
}

static void paths_of_any_bytes_are_encoded(void **state)
{
	struct asya_buf b = {0};

	(void)state;
	asya_uri_encode(&b, (struct asya_str){"a/b:c \xc3\xa9~\0%", 11}, '/');
	asya_buf_char(&b, '\0');
	assert_string_equal(b.p, "a/b%3Ac%20%C3%A9~%00%25");
	asya_buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published_examples_have_the_published_signatures),
		cmocka_unit_test(s3_request_has_the_documented_signature),
		cmocka_unit_test(body_left_unsigned_says_so),
		cmocka_unit_test(paths_of_any_bytes_are_encoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
