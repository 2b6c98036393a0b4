// SPDX-License-Identifier: Apache-2.0
/* Against the server of tests/brokers/moto, at ASYA_TEST_S3_ENDPOINT; without that, what can be
 * shown without a server. */
#include "io/http_client.h"
#include "lib/loop.h"
#include "lib/transport.h"
#include "store/s3/s3.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

enum { SECONDS = 30 };

static const struct asya_s3_ops *const ops = &asya_s3_backend_ops;

struct fixture {
	uv_loop_t loop;
	struct asya_s3 *s3;
};

struct result {
	struct asya_s3_op op;
	bool done;
	int status;
	char body[200];
	struct asya_error err;
};

static const char *no_variable(void *user, const char *name)
{
	(void)user;
	return strcmp(name, "AWS_EC2_METADATA_DISABLED") == 0 ? "true" : NULL;
}

static void on_done(struct asya_s3_op *op, int status, struct asya_buf *body,
		    const struct asya_error *err)
{
	struct result *r = op->user;

	assert_false(r->done);
	r->done = true;
	r->status = status;
	if (err)
		r->err = *err;
	if (body)
		snprintf(r->body, sizeof(r->body), "%.*s", ASYA_STR_ARG(asya_buf_view(body)));
}

static struct result run(struct fixture *f, bool put, const char *key, const char *body)
{
	struct result r = {
		.op = {.key = asya_str_c(key), .body = asya_str_c(body), .done = on_done}};

	r.op.user = &r;
	(put ? ops->put : ops->get)(f->s3, &r.op);
	assert_false(r.done);
	test_run_until(&f->loop, &r.done, key, SECONDS);
	return r;
}

static void made(struct asya_http_request *r, struct asya_http_answer *a,
		 const struct asya_error *err)
{
	assert_null(err);
	assert_int_equal(a->status, 200);
	*(bool *)r->user = true;
}

static void make_bucket(struct fixture *f, const char *endpoint, const char *name)
{
	_cleanup_(asya_freep) char *url = asya_asprintf("%s/%s", endpoint, name);
	struct asya_http_client *client;
	struct asya_error err;
	bool done = false, closed = false;
	struct asya_http_request r = {.method = "PUT", .url = url, .done = made, .user = &done};

	assert_int_equal(asya_http_client_open(&client, &f->loop,
					       &(struct asya_http_client_config){0}, &err),
			 0);
	asya_http_send(client, &r);
	test_run_until(&f->loop, &done, "a bucket", SECONDS);
	asya_http_client_close(client, test_set_flag, &closed);
	test_run_until(&f->loop, &closed, "closing", SECONDS);
}

static void open_store(struct fixture *f, const char *endpoint, const char *bucket, const char *key)
{
	struct asya_s3_config c = {.bucket = bucket,
				   .endpoint = endpoint,
				   .region = "us-east-1",
				   .access = asya_str_c(key),
				   .secret = ASYA_STR("secret"),
				   .get = no_variable};
	struct asya_error err;

	if (ops->open(&f->s3, &f->loop, &c, &err))
		fail_msg("%s", err.text);
}

static void object_of_any_key_comes_back_as_it_was_put(void **state)
{
	static const char *const keys[] = {"happy-asya/2026-11-24T10:00:00.000000Z/last/a.json",
					   "sp ace/\xc3\xa9\xe2\x82\xac", "a+b&c=d?e#f%20;$'(*)!@,",
					   "dots/../.hidden//double"};
	struct fixture *f = *state;

	make_bucket(f, getenv("ASYA_TEST_S3_ENDPOINT"), "keys");
	open_store(f, getenv("ASYA_TEST_S3_ENDPOINT"), "keys", "any");
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(keys); i++) {
		struct result r = run(f, true, keys[i], keys[i]);

		if (r.status)
			fail_msg("%s", r.err.text);
		r = run(f, false, keys[i], NULL);
		assert_string_equal(r.body, keys[i]);
	}
}

static void missing_object_and_missing_bucket_are_told_apart(void **state)
{
	struct fixture *f = *state;
	struct result r;
	bool closed = false;

	make_bucket(f, getenv("ASYA_TEST_S3_ENDPOINT"), "there");
	open_store(f, getenv("ASYA_TEST_S3_ENDPOINT"), "there", "any");
	r = run(f, false, "nothing", NULL);
	assert_int_equal(r.status, -1);
	assert_int_equal(r.err.advice, ASYA_REJECT);
	assert_non_null(strstr(r.err.text, "NoSuchKey"));
	ops->close(f->s3, test_set_flag, &closed);
	test_run_until(&f->loop, &closed, "closing", SECONDS);
	open_store(f, getenv("ASYA_TEST_S3_ENDPOINT"), "not-there", "any");
	r = run(f, true, "x", "y");
	assert_int_equal(r.status, -1);
	assert_int_equal(r.err.advice, ASYA_RETRY);
	assert_non_null(strstr(r.err.text, "NoSuchBucket"));
}

static void larger_object_than_allowed_is_refused(void **state)
{
	struct fixture *f = *state;
	struct result r = {.op = {.key = ASYA_STR("k"), .max_bytes = 3, .done = on_done}};

	make_bucket(f, getenv("ASYA_TEST_S3_ENDPOINT"), "large");
	open_store(f, getenv("ASYA_TEST_S3_ENDPOINT"), "large", "any");
	assert_int_equal(run(f, true, "k", "1234").status, 0);
	r.op.user = &r;
	ops->get(f->s3, &r.op);
	test_run_until(&f->loop, &r.done, "a refusal", SECONDS);
	assert_int_equal(r.status, -1);
	assert_int_equal(r.err.advice, ASYA_REJECT);
}

static void without_keys_the_error_says_what_to_set(void **state)
{
	struct fixture *f = *state;
	struct result r;

	open_store(f, "http://127.0.0.1:1", "bucket", "");
	r = run(f, true, "k", "v");
	assert_int_equal(r.status, -1);
	assert_int_equal(r.err.advice, ASYA_RETRY);
	assert_non_null(strstr(r.err.text, "AWS_ACCESS_KEY_ID"));
}

static void server_that_is_away_is_tried_again_and_closing_ends_what_waits(void **state)
{
	struct fixture *f = *state;
	struct result r = {.op = {.key = ASYA_STR("k"), .body = ASYA_STR("v"), .done = on_done}};

	open_store(f, "http://127.0.0.1:1", "bucket", "any"); /* nothing listens there */
	r.op.user = &r;
	ops->put(f->s3, &r.op);
	test_run_for(&f->loop, 60);
	assert_false(r.done);
	ops->close(f->s3, NULL, NULL);
	f->s3 = NULL;
	test_run_until(&f->loop, &r.done, "the end", SECONDS);
	assert_int_equal(r.status, -1);
}

static void bucket_that_cannot_be_one_is_refused_at_once(void **state)
{
	struct fixture *f = *state;
	const struct asya_s3_config c = {
		.bucket = "evil.example/x", .region = "us-east-1", .get = no_variable};
	struct asya_error err;

	assert_int_equal(ops->open(&f->s3, &f->loop, &c, &err), -1);
	assert_int_equal(err.advice, ASYA_FATAL);
}

static int set_up(void **state)
{
	struct fixture *f = asya_new0(struct fixture);

	uv_loop_init(&f->loop);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	bool closed = !f->s3;

	if (f->s3)
		ops->close(f->s3, test_set_flag, &closed);
	test_run_until(&f->loop, &closed, "closing", SECONDS);
	test_loop_close(&f->loop);
	free(f);
	return 0;
}

#define T(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest alone[] = {
		T(without_keys_the_error_says_what_to_set),
		T(server_that_is_away_is_tried_again_and_closing_ends_what_waits),
		T(bucket_that_cannot_be_one_is_refused_at_once),
	};
	const struct CMUnitTest served[] = {
		T(object_of_any_key_comes_back_as_it_was_put),
		T(missing_object_and_missing_bucket_are_told_apart),
		T(larger_object_than_allowed_is_refused),
	};
	int failed = cmocka_run_group_tests(alone, NULL, NULL);

	if (getenv("ASYA_TEST_S3_ENDPOINT"))
		failed += cmocka_run_group_tests(served, NULL, NULL);
	return failed;
}
