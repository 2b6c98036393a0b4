// SPDX-License-Identifier: Apache-2.0
/* What the local transport counts and remembers: queues, live messages below a root, hops. */
#include "lib/loop.h"
#include "lib/transport.h"

#include "base/mem.h"
#include "transport/local/local.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

struct fixture {
	uv_loop_t loop;
	char *top, *dir;
	struct asya_local_config config;
};

static struct asya_transport *open_one(struct fixture *f)
{
	struct asya_transport *t = NULL;
	struct asya_error err;

	if (asya_local_open(&t, &f->loop, &f->config, &err))
		fail_msg("%s", err.text);
	return t;
}

struct seen_hops {
	unsigned n;
	char text[2000];
};

static void on_hop(void *user, const struct asya_hop_row *row)
{
	struct seen_hops *s = user;
	size_t used = strlen(s->text);

	s->n++;
	snprintf(s->text + used, sizeof(s->text) - used, "%.*s:%.*s:%.*s ",
		 ASYA_STR_ARG(row->actor), ASYA_STR_ARG(row->hop.id),
		 ASYA_STR_ARG(row->hop.outcome));
}

static struct seen_hops hops(struct asya_transport *t, const char *id, bool below)
{
	struct seen_hops s = {0};
	struct asya_error err;

	if (t->ops->history(t, asya_str_c(id), below, on_hop, &s, &err))
		fail_msg("%s", err.text);
	return s;
}

static int64_t live(struct asya_transport *t, const char *root)
{
	struct asya_error err;
	int64_t n = -1;

	if (t->ops->live(t, asya_str_c(root), &n, &err))
		fail_msg("%s", err.text);
	return n;
}

/* One settlement of a whole hop. */
static void hop(struct fixture *f, struct asya_transport *t, struct asya_delivery *d,
		const char *id, const char *root, const char *outcome, int change,
		const char *const *to, unsigned n)
{
	struct asya_post p[8];
	struct asya_hop h = {.id = asya_str_c(id),
			     .root = asya_str_c(root),
			     .outcome = asya_str_c(outcome),
			     .attempt = 1,
			     .live = change};

	for (unsigned i = 0; i < n; i++) {
		const char *dlq = strstr(to[i], "-dlq");

		p[i] = (struct asya_post){
			.actor = {to[i], dlq ? (size_t)(dlq - to[i]) : strlen(to[i])},
			.dead = dlq != NULL,
			.body = ASYA_STR("m")};
	}
	assert_int_equal(test_settle(&f->loop, t,
				     (struct asya_settle){
					     .delivery = d, .posts = p, .n_posts = n, .hop = &h})
				 .outcome,
			 ASYA_SETTLED);
}

static struct asya_delivery *next(struct fixture *f, struct test_taker *k, unsigned *had)
{
	test_take_wait(&f->loop, k, ++*had);
	return k->got[*had - 1];
}

static void live_count_is_zero_exactly_when_all_descendants_have_ended(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	unsigned a = 0, b = 0;
	struct test_taker ka, kb;

	test_take(&ka, t, "a", false, 1);
	test_take(&kb, t, "b", false, 1);
	assert_int_equal(live(t, "r"), 0);
	hop(f, t, NULL, "r", "r", "routed", 1, (const char *const[]){"a"}, 1);
	assert_int_equal(live(t, "r"), 1);
	hop(f, t, next(f, &ka, &a), "r", "r", "routed", 2, (const char *const[]){"b", "b", "b"}, 3);
	assert_int_equal(live(t, "r"), 3);
	hop(f, t, next(f, &kb, &b), "r", "r", "done", -1, NULL, 0);
	assert_int_equal(live(t, "r"), 2);
	hop(f, t, next(f, &kb, &b), "r-1", "r", "retried", 0, (const char *const[]){"b"}, 1);
	assert_int_equal(live(t, "r"), 2);
	hop(f, t, next(f, &kb, &b), "r-2", "r", "dead", -1, (const char *const[]){"b-dlq"}, 1);
	assert_int_equal(live(t, "r"), 1);
	hop(f, t, next(f, &kb, &b), "r-1", "r", "failed", -1, NULL, 0);
	assert_int_equal(live(t, "r"), 0);
	test_expect_depth(&f->loop, t, "b", 0, 0, 0, 1);
	test_transport_close(&f->loop, t);
	t = open_one(f);
	assert_int_equal(live(t, "r"), 0);
	test_transport_close(&f->loop, t);
}

static void history_tells_every_hop_of_an_envelope_and_below_it(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct test_taker k;
	struct seen_hops s;
	unsigned had = 0;

	test_take(&k, t, "a", false, 1);
	hop(f, t, NULL, "r", "r", "routed", 1, (const char *const[]){"a"}, 1);
	hop(f, t, next(f, &k, &had), "r", "r", "routed", 1, (const char *const[]){"a", "a"}, 2);
	hop(f, t, next(f, &k, &had), "r-1", "r", "failed", -1, NULL, 0);
	hop(f, t, next(f, &k, &had), "r", "r", "done", -1, NULL, 0);
	s = hops(t, "r", false);
	assert_string_equal(s.text, ":r:routed a:r:routed a:r:done ");
	s = hops(t, "r", true);
	assert_string_equal(s.text, ":r:routed a:r:routed a:r-1:failed a:r:done ");
	assert_int_equal(hops(t, "r-1", true).n, 0);
	assert_int_equal(hops(t, "none", false).n, 0);
	test_transport_close(&f->loop, t);
}

static void history_is_pruned_to_what_was_asked_for(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t;
	struct seen_hops s;

	f->config.history = 16;
	t = open_one(f);
	for (int i = 0; i < 100; i++)
		hop(f, t, NULL, i < 99 ? "old" : "new", NULL, "routed", 0, NULL, 0);
	test_transport_close(&f->loop, t);
	t = open_one(f);
	s = hops(t, "old", false);
	assert_int_equal(s.n, 15);
	assert_int_equal(hops(t, "new", false).n, 1);
	test_transport_close(&f->loop, t);
	f->config.history = 0;
	t = open_one(f);
	hop(f, t, NULL, "unseen", NULL, "routed", 0, NULL, 0);
	assert_int_equal(hops(t, "unseen", false).n, 0);
	test_transport_close(&f->loop, t);
}

struct seen_queues {
	char text[500];
};

static void on_queue(void *user, struct asya_str actor, const struct asya_depth *d, int64_t done,
		     int64_t failed)
{
	struct seen_queues *s = user;
	size_t used = strlen(s->text);

	snprintf(s->text + used, sizeof(s->text) - used, "%.*s:%d/%d/%d/%d:%d/%d ",
		 ASYA_STR_ARG(actor), (int)d->ready, (int)d->leased, (int)d->delayed, (int)d->dead,
		 (int)done, (int)failed);
}

static void expect_queues(struct asya_transport *t, const char *expected)
{
	struct seen_queues s = {""};
	struct asya_error err;

	if (t->ops->queues(t, on_queue, &s, &err))
		fail_msg("%s", err.text);
	assert_string_equal(s.text, expected);
}

static void queues_are_listed_with_depths_and_outcomes(void **state)
{
	static const char *const outcomes[] = {"done", "routed", "failed", "retried", "dead"};
	struct fixture *f = *state;
	struct asya_transport *t = open_one(f);
	struct test_taker k;
	unsigned had = 0;

	expect_queues(t, "");
	for (int i = 0; i < 8; i++)
		test_post(&f->loop, t, "a", "m", 0);
	test_post(&f->loop, t, "a", "m", 60000);
	test_post(&f->loop, t, "b", "m", 0);
	test_take(&k, t, "a", false, 1);
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(outcomes); i++)
		hop(f, t, next(f, &k, &had), "r", NULL, outcomes[i], 0,
		    (const char *const[]){"a-dlq"}, i == 4);
	test_take_wait(&f->loop, &k, 6);
	expect_queues(t, "a:2/1/1/1:2/2 b:1/0/0/0:0/0 ");
	test_transport_close(&f->loop, t);
}

static void namespaces_share_a_directory_and_nothing_else(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t[3];
	static const char *const spaces[] = {"", "one", "two"};
	struct test_taker k[3];

	for (int i = 0; i < 3; i++) {
		f->config.space = spaces[i];
		t[i] = open_one(f);
		hop(f, t[i], NULL, "same", "same", "routed", i + 1, (const char *const[]){"x"}, 1);
	}
	for (int i = 0; i < 3; i++) {
		test_take(&k[i], t[i], "x", false, 5);
		test_take_wait(&f->loop, &k[i], 1);
	}
	test_run_for(&f->loop, 50);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(k[i].n, 1);
		test_expect_depth(&f->loop, t[i], "x", 0, 1, 0, 0);
		assert_int_equal(live(t[i], "same"), i + 1);
		assert_int_equal(hops(t[i], "same", false).n, 1);
		assert_int_equal(hops(t[i], "same", true).n, 1);
		expect_queues(t[i], "x:0/1/0/0:0/0 ");
		test_transport_close(&f->loop, t[i]);
	}
}

static int set_up(void **state)
{
	struct fixture *f = asya_new0(struct fixture);

	uv_loop_init(&f->loop);
	f->top = test_dir_make();
	f->dir = asya_asprintf("%s/queues", f->top);
	f->config = ASYA_LOCAL_CONFIG_DEFAULT;
	f->config.dir = f->dir;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	test_loop_close(&f->loop);
	test_dir_remove(f->top);
	free(f->dir);
	free(f);
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(live_count_is_zero_exactly_when_all_descendants_have_ended),
		T(history_tells_every_hop_of_an_envelope_and_below_it),
		T(history_is_pruned_to_what_was_asked_for),
		T(queues_are_listed_with_depths_and_outcomes),
		T(namespaces_share_a_directory_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
