// SPDX-License-Identifier: Apache-2.0
/*
 * The power is cut at every sync of a pipeline and at many writes between, and what the disk holds
 * is opened again.
 *
 * Message i is posted to `a`; settling it there posts to `b` and `c`; settling it at `b` posts to
 * `d`. So each message has four whole states, and any other mixture is a settlement that was torn.
 */
#include "lib/loop.h"
#include "lib/power_vfs.h"
#include "lib/transport.h"

#include "base/mem.h"
#include "transport/local/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MESSAGES = 240, WINDOW = 6, BODY = 5200, IN_A = 1, IN_B = 2, IN_C = 4, IN_D = 8 };

/* What `done` has said of a message, and what its queues must hold then. */
enum stage { NOTHING, POSTED, FANNED_OUT, FORWARDED };

static const unsigned whole[] = {
	[NOTHING] = 0, [POSTED] = IN_A, [FANNED_OUT] = IN_B | IN_C, [FORWARDED] = IN_C | IN_D};
static const int live_of[] = {[NOTHING] = 0, [POSTED] = 1, [FANNED_OUT] = 2, [FORWARDED] = 2};

struct pipeline {
	uv_loop_t loop;
	char *top, *dir;
	struct asya_transport *t;
	struct asya_consumer a, b;
	atomic_int confirmed[MESSAGES];
	unsigned ended;
	/* the cuts */
	bool normal;
	unsigned every; /* how many of the occasions to cut at: 1, all */
	unsigned cuts, syncs, writes;
	unsigned lost, torn, corrupt; /* findings */
	char first[300];              /* the first of them */
};

struct step {
	struct asya_settle op;
	struct asya_post posts[2];
	struct asya_hop hop;
	struct pipeline *p;
	int message;
	char body[BODY];
	char root[16];
};

static void on_step(struct asya_settle *op, enum asya_settled outcome, const struct asya_error *err)
{
	struct step *s = op->user;

	if (outcome != ASYA_SETTLED)
		fail_msg("settling: %s", err ? err->text : "stale");
	s->p->ended += ++s->p->confirmed[s->message] == FORWARDED;
	free(s);
}

static void step(struct pipeline *p, int message, struct asya_delivery *d, const char *to,
		 const char *also, int live)
{
	struct step *s = asya_new0(struct step);
	int n = snprintf(s->body, sizeof(s->body), "%d ", message);

	memset(s->body + n, '.', sizeof(s->body) - (size_t)n);
	snprintf(s->root, sizeof(s->root), "r%d", message);
	s->p = p;
	s->message = message;
	s->posts[0] = (struct asya_post){.actor = asya_str_c(to), .body = {s->body, BODY}};
	s->posts[1] = (struct asya_post){.actor = also ? asya_str_c(also) : ASYA_STR_NONE,
					 .body = {s->body, BODY}};
	s->hop = (struct asya_hop){.id = asya_str_c(s->root),
				   .root = asya_str_c(s->root),
				   .outcome = ASYA_STR("routed"),
				   .attempt = 1,
				   .live = live};
	s->op = (struct asya_settle){.delivery = d,
				     .posts = s->posts,
				     .n_posts = also ? 2 : 1,
				     .hop = &s->hop,
				     .done = on_step,
				     .user = s};
	asya_transport_settle(p->t, &s->op);
}

static void on_a(struct asya_consumer *c, struct asya_delivery *d)
{
	step(c->user, atoi(d->body.p), d, "b", "c", 1);
}

static void on_b(struct asya_consumer *c, struct asya_delivery *d)
{
	step(c->user, atoi(d->body.p), d, "d", NULL, 0);
}

/* ---- looking at what is left ---- */

static int64_t number(sqlite3 *db, const char *text)
{
	int64_t value = -1;
	sqlite3_stmt *st;

	if (sqlite3_prepare_v2(db, text, -1, &st, NULL) == SQLITE_OK &&
	    sqlite3_step(st) == SQLITE_ROW)
		value = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return value;
}

static void finding(struct pipeline *p, unsigned *count, const char *what, int message,
		    int expected, int found)
{
	if (!p->lost && !p->torn && !p->corrupt)
		snprintf(p->first, sizeof(p->first),
			 "cut %u: %s, message %d: expected %d, found %d", p->cuts, what, message,
			 expected, found);
	++*count;
}

static bool intact(sqlite3 *db)
{
	sqlite3_stmt *st;
	bool ok = sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &st, NULL) == SQLITE_OK &&
		  sqlite3_step(st) == SQLITE_ROW &&
		  strcmp((const char *)sqlite3_column_text(st, 0), "ok") == 0;

	sqlite3_finalize(st);
	return ok && number(db, "SELECT count(*) FROM slots") ==
			     number(db, "SELECT count(*) FROM messages");
}

static bool read_places(sqlite3 *db, unsigned *places)
{
	sqlite3_stmt *st;
	int code;

	if (sqlite3_prepare_v2(db,
			       "SELECT q.actor, m.body FROM slots s JOIN messages m ON m.seq=s.seq"
			       " JOIN queues q ON q.id=s.queue",
			       -1, &st, NULL) != SQLITE_OK)
		return false;
	while ((code = sqlite3_step(st)) == SQLITE_ROW) {
		unsigned bit = 1u << (sqlite3_column_text(st, 0)[0] - 'a');
		unsigned *place = &places[atoi(sqlite3_column_blob(st, 1))];

		*place = *place & bit ? ~0u : *place | bit;
	}
	sqlite3_finalize(st);
	return code == SQLITE_DONE;
}

static void check_message(struct pipeline *p, struct local_store *s, int i, unsigned place,
			  enum stage at_least)
{
	char root[16];
	int64_t live = -1;
	struct asya_error err;
	int stage = NOTHING;

	while (stage <= FORWARDED && whole[stage] != place)
		stage++;
	if (stage > FORWARDED) {
		finding(p, &p->torn, "half a settlement", i, (int)whole[at_least], (int)place);
		return;
	}
	if (stage < (int)at_least)
		finding(p, &p->lost, "a settlement that was said to be done is lost", i,
			(int)at_least, stage);
	snprintf(root, sizeof(root), "r%d", i);
	if (local_store_live(s, asya_str_c(root), &live, &err) || live != live_of[stage])
		finding(p, &p->torn, "the count of live messages", i, live_of[stage], (int)live);
}

static void check_left(struct pipeline *p, const char *dir, const int *at_least)
{
	struct asya_local_config config = ASYA_LOCAL_CONFIG_DEFAULT;
	unsigned places[MESSAGES] = {0};
	struct local_store s;
	struct asya_error err;

	config.dir = dir;
	config.normal = true;
	if (local_store_open(&s, &config, &err) || !intact(s.db) || !read_places(s.db, places)) {
		finding(p, &p->corrupt, "corrupt", -1, 0, 0);
	} else {
		for (int i = 0; i < MESSAGES; i++)
			check_message(p, &s, i, places[i], (enum stage)at_least[i]);
	}
	local_store_close(&s);
}

static void cut(struct pipeline *p, unsigned seed)
{
	int at_least[MESSAGES];
	char *dir = test_dir_make();

	/* First what was confirmed, then the disk: a confirmation between the two is not asked for.
	 */
	for (int i = 0; i < MESSAGES; i++)
		at_least[i] = p->confirmed[i];
	power_vfs_cut(p->dir, dir, seed);
	p->cuts++;
	check_left(p, dir, at_least);
	test_dir_remove(dir);
}

static void on_call(void *user, bool sync)
{
	struct pipeline *p = user;

	p->syncs += sync;
	p->writes += !sync;
	if ((sync ? p->syncs : p->writes / 40) % p->every)
		return;
	if (sync) {
		cut(p, 0);
		cut(p, p->syncs);
	} else if (p->writes % 40 == 0) {
		cut(p, 0);
		cut(p, p->writes * 7919);
	}
}

/* ---- running it ---- */

static void run(struct pipeline *p, const char *vfs, bool normal)
{
	struct asya_local_config config = ASYA_LOCAL_CONFIG_DEFAULT;
	struct asya_error err;

	p->a = (struct asya_consumer){.actor = ASYA_STR("a"), .deliver = on_a, .user = p};
	p->b = (struct asya_consumer){.actor = ASYA_STR("b"), .deliver = on_b, .user = p};
	config.dir = p->dir;
	config.vfs = vfs;
	config.normal = normal;
	power_vfs_watch(on_call, p);
	if (asya_local_open(&p->t, &p->loop, &config, &err))
		fail_msg("%s", err.text);
	asya_transport_consume(p->t, &p->a);
	asya_transport_consume(p->t, &p->b);
	asya_transport_window(p->t, &p->a, WINDOW);
	asya_transport_window(p->t, &p->b, WINDOW);
	for (int i = 0; i < MESSAGES; i++)
		step(p, i, NULL, "a", NULL, 1);
	test_run_until_count(&p->loop, &p->ended, MESSAGES, "the pipeline", 240);
	power_vfs_watch(NULL, NULL);
	cut(p, 0);
	cut(p, 1);
}

static bool checkpointed(struct pipeline *p)
{
	_cleanup_(asya_freep) char *db = asya_asprintf("%s/queue.db", p->dir);
	struct stat st;

	return stat(db, &st) == 0 && st.st_size > 100 * 4096;
}

static void close_it(struct pipeline *p)
{
	power_vfs_watch(NULL, NULL);
	if (p->t)
		test_transport_close(&p->loop, take_ptr(p->t));
}

static void settled_means_on_the_disk_at_every_cut(void **state)
{
	struct pipeline *p = *state;

	run(p, power_vfs_start(), false);
	print_message("%u cuts at %u syncs and %u writes\n", p->cuts, p->syncs, p->writes);
	assert_true(p->syncs > 20 && p->writes > 200);
	/* Syncs of the database itself were among them; a slow run has fewer and larger commits. */
	if (p->every == 1)
		assert_true(checkpointed(p));
	if (p->lost || p->torn || p->corrupt)
		fail_msg("%u lost, %u torn, %u corrupt; %s", p->lost, p->torn, p->corrupt,
			 p->first);
	close_it(p);
}

static void synchronous_normal_loses_the_newest_but_tears_nothing(void **state)
{
	struct pipeline *p = *state;

	run(p, power_vfs_start(), true);
	print_message("%u cuts at %u syncs and %u writes\n", p->cuts, p->syncs, p->writes);
	assert_true(p->cuts >= 10);
	if (p->torn || p->corrupt)
		fail_msg("%u torn, %u corrupt; %s", p->torn, p->corrupt, p->first);
	close_it(p);
}

static int switch_off(sqlite3 *db, const char **error, const struct sqlite3_api_routines *api)
{
	(void)error;
	(void)api;
	power_vfs_ignore_synchronous(false);
	sqlite3_exec(db, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
	power_vfs_ignore_synchronous(true);
	return SQLITE_OK;
}

/* The control: these tests do see what a disk does to a database that is not synced. */
static void without_syncs_the_cuts_are_seen_to_lose_and_to_tear(void **state)
{
	struct pipeline *p = *state;
	const char *vfs = power_vfs_start();

	sqlite3_auto_extension((void (*)(void))switch_off);
	run(p, vfs, false);
	sqlite3_cancel_auto_extension((void (*)(void))switch_off);
	assert_int_equal(p->syncs, 0);
	print_message("%u cuts: %u lost, %u torn, %u corrupt\n", p->cuts, p->lost, p->torn,
		      p->corrupt);
	assert_true(p->lost > 0);
	if (p->every == 1) /* with fewer cuts, chance may spare it */
		assert_true(p->torn + p->corrupt > 0);
	close_it(p);
}

/* Not only the tables: a transport goes on from there, and every message comes out at the end. */
static void pipeline_goes_on_from_what_a_cut_left(void **state)
{
	struct pipeline *p = *state;
	struct asya_local_config config = ASYA_LOCAL_CONFIG_DEFAULT;
	char *dir = test_dir_make();
	struct test_taker c, d;
	struct asya_error err;
	bool seen[MESSAGES] = {false};

	config.dir = p->dir;
	config.vfs = power_vfs_start();
	if (asya_local_open(&p->t, &p->loop, &config, &err))
		fail_msg("%s", err.text);
	p->a = (struct asya_consumer){.actor = ASYA_STR("a"), .deliver = on_a, .user = p};
	p->b = (struct asya_consumer){.actor = ASYA_STR("b"), .deliver = on_b, .user = p};
	asya_transport_consume(p->t, &p->a);
	asya_transport_window(p->t, &p->a, WINDOW);
	for (int i = 0; i < MESSAGES; i++)
		step(p, i, NULL, "a", NULL, 1);
	while (p->confirmed[MESSAGES / 2] < FANNED_OUT)
		test_run_for(&p->loop, 1);
	power_vfs_cut(p->dir, dir, 0);
	test_run_for(&p->loop, 100);
	close_it(p);

	config.dir = dir;
	config.vfs = NULL;
	if (asya_local_open(&p->t, &p->loop, &config, &err))
		fail_msg("%s", err.text);
	asya_transport_consume(p->t, &p->a);
	asya_transport_consume(p->t, &p->b);
	asya_transport_window(p->t, &p->a, WINDOW);
	asya_transport_window(p->t, &p->b, WINDOW);
	test_take(&c, p->t, "c", false, MESSAGES);
	test_take(&d, p->t, "d", false, MESSAGES);
	test_take_wait(&p->loop, &c, MESSAGES);
	test_take_wait(&p->loop, &d, MESSAGES);
	for (unsigned i = 0; i < d.n; i++) {
		assert_false(seen[atoi(d.got[i]->body.p)]);
		seen[atoi(d.got[i]->body.p)] = true;
	}
	test_expect_depth(&p->loop, p->t, "a", 0, 0, 0, 0);
	test_expect_depth(&p->loop, p->t, "b", 0, 0, 0, 0);
	close_it(p);
	test_dir_remove(dir);
}

static int set_up(void **state)
{
	struct pipeline *p = asya_new0(struct pipeline);
	const char *every = getenv("ASYA_TEST_CUT_EVERY");

	p->every = every ? (unsigned)atoi(every) : 1;
	uv_loop_init(&p->loop);
	p->top = test_dir_make();
	p->dir = asya_asprintf("%s/queues", p->top);
	*state = p;
	return 0;
}

static int tear_down(void **state)
{
	struct pipeline *p = *state;

	close_it(p);
	test_loop_close(&p->loop);
	power_vfs_end();
	test_dir_remove(p->top);
	free(p->dir);
	free(p);
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(settled_means_on_the_disk_at_every_cut),
		T(synchronous_normal_loses_the_newest_but_tears_nothing),
		T(without_syncs_the_cuts_are_seen_to_lose_and_to_tear),
		T(pipeline_goes_on_from_what_a_cut_left),
	};

	/* Opening what is left syncs: where that costs nothing, hundreds of times are soon done. */
	if (access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
