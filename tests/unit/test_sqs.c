// SPDX-License-Identifier: Apache-2.0
/* What a real server does too seldom: the server of lib/fake_http.py refuses on purpose. */
#include "lib/fake.h"
#include "lib/loop.h"
#include "lib/transport.h"
#include "transport/sqs/sqs.h"

#include "base/clock.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

struct fixture {
	uv_loop_t loop;
	struct test_fake fake;
	struct asya_transport *t;
};

static const char *keys(void *user, const char *name)
{
	(void)user;
	return strcmp(name, "AWS_ACCESS_KEY_ID") == 0       ? "any"
	       : strcmp(name, "AWS_SECRET_ACCESS_KEY") == 0 ? "any"
							    : NULL;
}

/* `how`: what the server does, see lib/fake_http.py. */
static void open_to(struct fixture *f, const char *how, bool auto_create)
{
	struct asya_error err;
	char url[100];
	const struct asya_sqs_config c = {.endpoint = url,
					  .region = "us-east-1",
					  .visibility_s = 1,
					  .wait_s = 0,
					  .auto_create = auto_create,
					  .get = keys};

	snprintf(url, sizeof(url), "http://127.0.0.1:%u/sqs/%s", f->fake.port, how);
	if (asya_sqs_open(&f->t, &f->loop, &c, &err))
		fail_msg("%s", err.text);
}

static struct test_result post(struct fixture *f, size_t n)
{
	_cleanup_(asya_freep) struct asya_post *p = asya_calloc(n, sizeof(*p));

	for (size_t i = 0; i < n; i++)
		p[i] = (struct asya_post){.actor = ASYA_STR("x"), .body = ASYA_STR("{}")};
	return test_settle(&f->loop, f->t, (struct asya_settle){.posts = p, .n_posts = n});
}

static void throttled_requests_are_repeated(void **state)
{
	struct fixture *f = *state;
	struct test_result r;

	open_to(f, "throttle", true);
	r = post(f, 1);
	if (r.outcome != ASYA_SETTLED)
		fail_msg("%s", r.err.text);
}

static void entry_that_failed_is_repeated_alone(void **state)
{
	struct fixture *f = *state;

	/* the server counts: each of the 10 must come once, the one that it fails at first twice */
	open_to(f, "entry", true);
	assert_int_equal(post(f, 10).outcome, ASYA_SETTLED);
	assert_int_equal(post(f, 1).outcome, ASYA_SETTLED);
}

static void refused_entry_fails_its_settlement_with_the_reason(void **state)
{
	struct fixture *f = *state;
	struct test_result r;

	open_to(f, "refuse", true);
	r = post(f, 1);
	assert_int_equal(r.outcome, ASYA_SETTLE_FAILED);
	assert_non_null(strstr(r.err.text, "InvalidMessageContents"));
}

static void message_over_the_limit_of_its_queue_is_refused_and_one_at_the_limit_goes(void **state)
{
	static char body[1025];
	struct fixture *f = *state;
	struct asya_post p = {.actor = ASYA_STR("x"), .body = {body, 1024}};
	struct test_result r;

	memset(body, '1', sizeof(body));
	open_to(f, "small", true);
	assert_int_equal(post(f, 1).outcome, ASYA_SETTLED); /* now its limit is known: 1024 */
	assert_int_equal(f->t->max_body, 1024 - 256);
	r = test_settle(&f->loop, f->t, (struct asya_settle){.posts = &p, .n_posts = 1});
	assert_int_equal(r.outcome, ASYA_SETTLED);
	p.body.n = 1025;
	r = test_settle(&f->loop, f->t, (struct asya_settle){.posts = &p, .n_posts = 1});
	assert_int_equal(r.outcome, ASYA_SETTLE_FAILED);
	assert_int_equal(r.err.advice, ASYA_REJECT);
	assert_non_null(strstr(r.err.text, "1025 bytes for queue 'asya-x'"));
}

static void missing_queue_is_reported_where_it_must_not_be_made(void **state)
{
	struct fixture *f = *state;
	struct test_taker k;
	struct test_result r;

	open_to(f, "none", false);
	test_take(&k, f->t, "x", false, 1);
	test_run_until_count(&f->loop, &k.downs, 1, "the report", TEST_WAIT_S);
	assert_non_null(strstr(k.err.text, "'asya-x'"));
	assert_non_null(strstr(k.err.text, "ASYA_QUEUE_AUTO_CREATE"));
	r = post(f, 1);
	assert_int_equal(r.outcome, ASYA_SETTLE_FAILED);
}

static void server_that_comes_back_is_used_again(void **state)
{
	struct fixture *f = *state;
	struct test_taker k;

	open_to(f, "hiccup", true); /* the first receives fail, then there is a message */
	test_take(&k, f->t, "x", false, 1);
	test_take_wait(&f->loop, &k, 1);
	assert_int_equal(k.downs, 1);
	assert_int_equal(k.ups, 2);
	test_expect_body(k.got[0], "hello");
	assert_int_equal(test_end(&f->loop, f->t, k.got[0], ASYA_ACK, 0), ASYA_SETTLED);
}

static void receipt_that_is_void_at_the_delete_is_stale(void **state)
{
	struct fixture *f = *state;
	struct test_taker k;

	open_to(f, "void", true);
	test_take(&k, f->t, "x", false, 1);
	test_take_wait(&f->loop, &k, 1);
	assert_int_equal(test_end(&f->loop, f->t, k.got[0], ASYA_ACK, 0), ASYA_STALE);
}

static void lease_that_ended_while_the_process_stood_still_is_stale_and_posts_nothing(void **state)
{
	struct asya_post p = {.actor = ASYA_STR("x"), .body = ASYA_STR("late")};
	struct fixture *f = *state;
	struct test_taker k;

	open_to(f, "refuse", true); /* a post would fail */
	test_take(&k, f->t, "x", false, 1);
	test_take_wait(&f->loop, &k, 1);
	usleep(1100000);
	assert_int_equal(
		test_settle(&f->loop, f->t,
			    (struct asya_settle){.delivery = k.got[0], .posts = &p, .n_posts = 1})
			.outcome,
		ASYA_STALE);
}

static void lease_begins_with_the_message_and_not_with_the_poll_that_waited_for_it(void **state)
{
	struct fixture *f = *state;
	struct test_taker k;

	open_to(f, "late", true); /* after 1.5 s; the lease is 1 s */
	test_take(&k, f->t, "x", false, 1);
	test_take_wait(&f->loop, &k, 1);
	assert_int_equal(test_end(&f->loop, f->t, k.got[0], ASYA_ACK, 0), ASYA_SETTLED);
}

static int set_up(void **state)
{
	struct fixture *f = asya_new0(struct fixture);

	uv_loop_init(&f->loop);
	test_fake_start(&f->fake, NULL, NULL);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	test_transport_close(&f->loop, f->t);
	test_loop_close(&f->loop);
	test_fake_stop(&f->fake);
	free(f);
	return 0;
}

#define T(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(throttled_requests_are_repeated),
		T(entry_that_failed_is_repeated_alone),
		T(refused_entry_fails_its_settlement_with_the_reason),
		T(message_over_the_limit_of_its_queue_is_refused_and_one_at_the_limit_goes),
		T(missing_queue_is_reported_where_it_must_not_be_made),
		T(server_that_comes_back_is_used_again),
		T(lease_begins_with_the_message_and_not_with_the_poll_that_waited_for_it),
		T(receipt_that_is_void_at_the_delete_is_stale),
		T(lease_that_ended_while_the_process_stood_still_is_stale_and_posts_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
