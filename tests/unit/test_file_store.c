// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "core/object_key.h"
#include "store/file/file.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const int64_t t0 = 1763978400000000;
static const char *program;

struct fixture {
	char root[64];
	uv_loop_t loop;
	struct asya_file_store *store;
	struct asya_arena *arena;
	struct asya_error err;
	unsigned closed;
};

struct one {
	struct asya_file_put put;
	struct fixture *f;
	int calls;
	int status;
	struct asya_error err;
	void (*then)(struct one *one);
};

static int setup(void **state)
{
	struct fixture *f = asya_new0(struct fixture);

	snprintf(f->root, sizeof(f->root), "/tmp/asya-file-store-XXXXXX");
	if (!mkdtemp(f->root))
		return -1;
	uv_loop_init(&f->loop);
	f->arena = asya_arena_new();
	*state = f;
	return 0;
}

static void on_closed(void *user)
{
	struct fixture *f = user;

	f->closed++;
}

static void close_store(struct fixture *f)
{
	f->closed = 0;
	asya_file_store_close(take_ptr(f->store), on_closed, f);
	assert_int_equal(f->closed, 0);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->closed, 1);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->store)
		close_store(f);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	asya_arena_free(f->arena);
	nftw(f->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

static void open_store(struct fixture *f)
{
	if (asya_file_store_open(&f->store, &f->loop, f->root, &f->err))
		fail_msg("%s", f->err.text);
}

static void on_done(struct asya_file_put *put, int status, const struct asya_error *err)
{
	struct one *one = asya_container_of(put, struct one, put);

	one->calls++;
	one->status = status;
	assert_int_equal(status == 0, err == NULL);
	if (err)
		one->err = *err;
	if (one->then)
		one->then(one);
}

static void put(struct fixture *f, struct one *one, struct asya_str key, struct asya_str body)
{
	one->f = f;
	one->put.key = key;
	one->put.body = body;
	one->put.done = on_done;
	asya_file_store_put(f->store, &one->put);
	assert_int_equal(one->calls, 0);
}

/* Puts and waits. */
static struct one put_now(struct fixture *f, struct asya_str key, struct asya_str body)
{
	struct one one = {0};

	put(f, &one, key, body);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(one.calls, 1);
	return one;
}

static struct asya_str key_of(struct fixture *f, int64_t time_us, const char *id)
{
	return asya_object_key(f->arena, ASYA_STR("happy-asya/"), time_us, ASYA_STR("post"),
			       asya_str_c(id), ASYA_OBJECT_NAME_MAX);
}

static struct asya_str read_key(struct fixture *f, struct asya_str key)
{
	_cleanup_(asya_freep) char *path = asya_asprintf("%s/%s", f->root, key.p);
	FILE *file = fopen(path, "r");
	char *body = asya_arena_alloc(f->arena, 1 << 20);
	size_t n;

	if (!file)
		return ASYA_STR_NONE;
	n = fread(body, 1, 1 << 20, file);
	fclose(file);
	return (struct asya_str){body, n};
}

static int files_seen, temporaries_seen;

static int count_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)at;
	if (kind == FTW_F && strstr(path, "/.asya-tmp/"))
		temporaries_seen++;
	else if (kind == FTW_F)
		files_seen++;
	return 0;
}

/* Files below the root that are objects, and those that are not yet. */
static void expect_files(struct fixture *f, int objects, int temporaries)
{
	files_seen = temporaries_seen = 0;
	nftw(f->root, count_one, 16, FTW_PHYS);
	assert_int_equal(files_seen, objects);
	assert_int_equal(temporaries_seen, temporaries);
}

static void a_put_makes_the_object_whole_under_its_key(void **state)
{
	struct fixture *f = *state;
	struct asya_str key = key_of(f, t0, "../../x"), body = ASYA_STR("{\"a\":\"\0\"}");

	open_store(f);
	assert_int_equal(put_now(f, key, body).status, 0);
	assert_true(asya_str_eq(read_key(f, key), body));
	assert_int_equal(put_now(f, key, ASYA_STR("new")).status, 0);
	assert_true(asya_str_eq(read_key(f, key), ASYA_STR("new")));
	assert_int_equal(put_now(f, ASYA_STR("//top"), ASYA_STR("")).status, 0);
	expect_files(f, 2, 0);
}

static void many_puts_are_all_there_and_done_once_each(void **state)
{
	enum { MANY = 300 };
	static struct one ones[MANY];
	struct fixture *f = *state;

	memset(ones, 0, sizeof(ones));
	open_store(f);
	for (int i = 0; i < MANY; i++) {
		struct asya_str body = asya_arena_printf(f->arena, "{\"n\":%d}", i);

		put(f, &ones[i], key_of(f, t0 + i / 3, i % 2 ? "a" : "b"), body);
	}
	uv_run(&f->loop, UV_RUN_DEFAULT);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(ones[i].calls, 1);
		assert_int_equal(ones[i].status, 0);
	}
	assert_true(asya_str_eq_c(read_key(f, ones[MANY - 1].put.key), "{\"n\":299}"));
	expect_files(f, 200, 0);
}

static void one_bad_put_of_a_batch_leaves_the_others_alone(void **state)
{
	static const struct asya_str bad[] = {
		ASYA_STR(""),   ASYA_STR("/"),  ASYA_STR("a/../b"), ASYA_STR("a/."),
		ASYA_STR("a/"), ASYA_STR(".."), ASYA_STR("a\0b"),   ASYA_STR("a/..\0x")};
	struct one ones[ASYA_ARRAY_SIZE(bad) + 1] = {0};
	struct fixture *f = *state;

	open_store(f);
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(bad); i++)
		put(f, &ones[i], bad[i], ASYA_STR("x"));
	put(f, &ones[ASYA_ARRAY_SIZE(bad)], ASYA_STR("good"), ASYA_STR("x"));
	uv_run(&f->loop, UV_RUN_DEFAULT);
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(bad); i++) {
		assert_int_equal(ones[i].status, -1);
		assert_int_equal(ones[i].err.advice, ASYA_REJECT);
	}
	assert_int_equal(ones[ASYA_ARRAY_SIZE(bad)].status, 0);
	expect_files(f, 1, 0);
}

static void put_another(struct one *one)
{
	if (one->calls == 1) {
		one->put.key = ASYA_STR("second");
		asya_file_store_put(one->f->store, &one->put);
	}
}

static void done_may_put_again(void **state)
{
	struct one one = {.then = put_another};
	struct fixture *f = *state;

	open_store(f);
	put(f, &one, ASYA_STR("first"), ASYA_STR("x"));
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(one.calls, 2);
	expect_files(f, 2, 0);
}

static void close_from_done(struct one *one)
{
	asya_file_store_close(take_ptr(one->f->store), on_closed, one->f);
}

static void closing_finishes_what_is_written_and_ends_what_waits(void **state)
{
	enum { MANY = ASYA_FILE_BATCH + 10 };
	static struct one ones[MANY];
	struct fixture *f = *state;

	memset(ones, 0, sizeof(ones));
	open_store(f);
	ones[0].then = close_from_done;
	for (int i = 0; i < MANY; i++)
		put(f, &ones[i], asya_arena_printf(f->arena, "%d", i), ASYA_STR("x"));
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->closed, 1);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(ones[i].calls, 1);
		assert_int_equal(ones[i].status, i < ASYA_FILE_BATCH ? 0 : -1);
		if (i >= ASYA_FILE_BATCH)
			assert_int_equal(ones[i].err.advice, ASYA_RETRY);
	}
	expect_files(f, ASYA_FILE_BATCH, 0);
}

static void closing_before_the_loop_runs_ends_every_put(void **state)
{
	struct one one = {0};
	struct fixture *f = *state;

	open_store(f);
	put(f, &one, ASYA_STR("a"), ASYA_STR("x"));
	close_store(f);
	assert_int_equal(one.calls, 1);
	assert_int_equal(one.err.advice, ASYA_RETRY);
	expect_files(f, 0, 0);
}

/* Runs `body` without root's power to write everywhere. */
static void as_nobody(void (*body)(struct fixture *f), struct fixture *f)
{
	bool root = geteuid() == 0;

	assert_false(root && seteuid(65534));
	body(f);
	assert_false(root && seteuid(0));
}

static void put_without_permission(struct fixture *f)
{
	struct one one = put_now(f, ASYA_STR("sealed/a/x.json"), ASYA_STR("x"));

	assert_int_equal(one.status, -1);
	assert_int_equal(one.err.advice, ASYA_RETRY);
	assert_non_null(strstr(one.err.text, "sealed/a/x.json"));
	assert_non_null(strstr(one.err.text, f->root));
	assert_non_null(strstr(one.err.text, "Permission denied"));
}

static void a_directory_without_permission_is_to_be_retried(void **state)
{
	struct fixture *f = *state;
	_cleanup_(asya_freep) char *sealed = asya_asprintf("%s/sealed", f->root);
	_cleanup_(asya_freep) char *temporary = asya_asprintf("%s/.asya-tmp", f->root);

	open_store(f);
	assert_int_equal(mkdir(sealed, 0555), 0);
	assert_int_equal(chmod(f->root, 0755) + chmod(temporary, 0777), 0);
	as_nobody(put_without_permission, f);
	expect_files(f, 0, 0);
	assert_int_equal(chmod(sealed, 0755), 0);
	assert_int_equal(put_now(f, ASYA_STR("sealed/a/x.json"), ASYA_STR("x")).status, 0);
}

static void open_without_permission(struct fixture *f)
{
	assert_int_equal(asya_file_store_open(&f->store, &f->loop, f->root, &f->err), -1);
	assert_int_equal(f->err.advice, ASYA_FATAL);
	assert_non_null(strstr(f->err.text, f->root));
}

static void a_root_that_cannot_be_written_is_an_error_at_open(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(chmod(f->root, 0555), 0);
	as_nobody(open_without_permission, f);
	assert_int_equal(chmod(f->root, 0755), 0);
	assert_int_equal(asya_file_store_open(&f->store, &f->loop, "/tmp/no/such/dir", &f->err),
			 -1);
	assert_non_null(strstr(f->err.text, "/tmp/no/such/dir"));
	f->store = NULL;
}

static void a_root_whose_last_component_is_missing_is_made(void **state)
{
	struct fixture *f = *state;
	char made[80];

	snprintf(made, sizeof(made), "%s/made", f->root);
	assert_int_equal(asya_file_store_open(&f->store, &f->loop, made, &f->err), 0);
	assert_int_equal(put_now(f, ASYA_STR("a"), ASYA_STR("x")).status, 0);
	assert_true(asya_str_eq_c(read_key(f, ASYA_STR("made/a")), "x"));
}

/* A file that may not grow as far fails in the middle of its bytes, as a full disk does. */
static void a_write_that_stops_half_way_leaves_nothing(void **state)
{
	struct rlimit before, small;
	struct fixture *f = *state;
	struct one one;
	char body[5000];

	memset(body, 'x', sizeof(body));
	open_store(f);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	small = (struct rlimit){4096, before.rlim_max};
	setrlimit(RLIMIT_FSIZE, &small);
	one = put_now(f, ASYA_STR("a/b"), (struct asya_str){body, sizeof(body)});
	setrlimit(RLIMIT_FSIZE, &before);
	assert_int_equal(one.status, -1);
	assert_int_equal(one.err.advice, ASYA_RETRY);
	expect_files(f, 0, 0);
	one = put_now(f, ASYA_STR("a/b"), (struct asya_str){body, sizeof(body)});
	assert_int_equal(one.status, 0);
}

static void a_full_disk_is_to_be_retried_and_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	_cleanup_(asya_freep) char *body = asya_calloc(1, 900 << 10);
	struct one one;

	/* only root can make a small disk, and not in every container */
	if (mount("none", f->root, "tmpfs", 0, "size=1m"))
		return;
	open_store(f);
	assert_int_equal(put_now(f, ASYA_STR("a"), (struct asya_str){body, 600 << 10}).status, 0);
	one = put_now(f, ASYA_STR("b"), (struct asya_str){body, 900 << 10});
	assert_int_equal(one.status, -1);
	assert_int_equal(one.err.advice, ASYA_RETRY);
	assert_non_null(strstr(one.err.text, "No space left"));
	expect_files(f, 1, 0);
	assert_int_equal(put_now(f, ASYA_STR("c"), (struct asya_str){body, 100 << 10}).status, 0);
	close_store(f);
	assert_int_equal(umount(f->root), 0);
}

static void temporary_files_of_the_dead_are_removed_when_they_are_old(void **state)
{
	struct timespec old[2] = {{.tv_sec = time(NULL) - ASYA_FILE_TEMPORARY_S - 5},
				  {.tv_sec = time(NULL) - ASYA_FILE_TEMPORARY_S - 5}};
	struct fixture *f = *state;
	char path[128];

	open_store(f);
	close_store(f);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/.asya-tmp/dead-%d", f->root, i);
		close(open(path, O_CREAT | O_WRONLY, 0644));
	}
	utimensat(AT_FDCWD, path, old, 0);
	expect_files(f, 0, 2);
	open_store(f);
	expect_files(f, 0, 1);
	assert_int_equal(access(path, F_OK), -1);
}

#ifdef ASYA_FAILPOINTS
/* What the process below exited with or was killed by. */
static int run_child(struct fixture *f, const char *failpoints)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		setenv("ASYA_FAILPOINTS", failpoints, 1);
		execl(program, program, "put", f->root, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* Puts one object; exits with the advice of its error, 0 for none. */
static int child_main(const char *root)
{
	struct fixture f = {0};
	struct one one = {0};

	uv_loop_init(&f.loop);
	if (asya_file_store_open(&f.store, &f.loop, root, &f.err))
		return 100;
	one.put = (struct asya_file_put){
		.key = ASYA_STR("p/t/a.json"), .body = ASYA_STR("whole"), .done = on_done};
	asya_file_store_put(f.store, &one.put);
	uv_run(&f.loop, UV_RUN_DEFAULT);
	asya_file_store_close(f.store, NULL, NULL);
	uv_run(&f.loop, UV_RUN_DEFAULT);
	uv_loop_close(&f.loop);
	return one.status ? (int)one.err.advice : 0;
}

static void a_crash_at_any_step_leaves_the_object_whole_or_not_there(void **state)
{
	static const struct {
		const char *failpoints;
		int objects, temporaries;
	} rows[] = {{"store.write=kill@1", 0, 1},
		    {"store.rename=kill@1", 0, 1},
		    {"store.renamed=kill@1", 1, 0}};

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		struct fixture *f;
		int status;

		teardown(state);
		setup(state);
		f = *state;
		status = run_child(f, rows[i].failpoints);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		expect_files(f, rows[i].objects, rows[i].temporaries);
		if (rows[i].objects)
			assert_true(asya_str_eq_c(read_key(f, ASYA_STR("p/t/a.json")), "whole"));
		open_store(f);
		assert_int_equal(put_now(f, ASYA_STR("p/t/a.json"), ASYA_STR("whole")).status, 0);
		expect_files(f, 1, rows[i].temporaries);
	}
}

static void a_failure_at_any_step_is_to_be_retried_and_leaves_no_temporary_file(void **state)
{
	static const struct {
		const char *failpoints;
		int objects;
	} rows[] = {{"store.write=on", 0}, {"store.rename=on", 0}, {"store.renamed=on", 1}};
	struct fixture *f = *state;

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		int status = run_child(f, rows[i].failpoints);

		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), ASYA_RETRY);
		expect_files(f, rows[i].objects, 0);
	}
	assert_int_equal(run_child(f, ""), 0);
}
#endif

static int find(struct fixture *f, struct asya_file_found *found, const char *prefix,
		const char *id, size_t max_bytes)
{
	return asya_file_find(found, f->arena, f->root, asya_str_c(prefix), asya_str_c(id),
			      max_bytes, &f->err);
}

static void find_yields_the_newest_object_of_an_id(void **state)
{
	struct asya_file_found found = {0};
	struct fixture *f = *state;
	_cleanup_(asya_freep) char *path = NULL;

	assert_int_equal(find(f, &found, "happy-asya/", "a/b", 100), 1);
	open_store(f);
	put_now(f, key_of(f, t0 + 5, "a/b"), ASYA_STR("newest"));
	put_now(f, key_of(f, t0, "a/b"), ASYA_STR("old"));
	put_now(f, key_of(f, t0 + 1, "a/b"), ASYA_STR("newer"));
	put_now(f, key_of(f, t0 + 9, "other"), ASYA_STR("not this"));
	put_now(f, ASYA_STR("happy-asya/zzz/post/a%2Fb.json"), ASYA_STR("no time"));
	put_now(f, ASYA_STR("happy-asya/2999-01-01T00:00:00.000000Z"), ASYA_STR("no directory"));
	assert_int_equal(find(f, &found, "happy-asya/", "a/b", 100), 0);
	assert_string_equal(found.body.p, "newest");
	assert_int_equal(found.time_us, t0 + 5);
	path = asya_asprintf("%s/%s", f->root, key_of(f, t0 + 5, "a/b").p);
	assert_string_equal(found.path.p, path);
	assert_int_equal(find(f, &found, "happy-asya/", "a", 100), 1);
	assert_int_equal(find(f, &found, "error-asya/", "a/b", 100), 1);
}

static void find_reads_prefixes_that_end_within_a_name(void **state)
{
	struct asya_file_found found = {0};
	struct fixture *f = *state;

	open_store(f);
	for (int i = 0; i < 2; i++) {
		struct asya_str prefix = i ? ASYA_STR("x/happy-") : ASYA_STR("");

		put_now(f,
			asya_object_key(f->arena, prefix, t0, ASYA_STR("post"), ASYA_STR("a"), 200),
			prefix);
		assert_int_equal(find(f, &found, prefix.p, "a", 100), 0);
		assert_true(asya_str_eq(found.body, prefix));
	}
}

static void find_refuses_what_is_larger_than_allowed(void **state)
{
	struct asya_file_found found = {0};
	struct fixture *f = *state;

	open_store(f);
	put_now(f, key_of(f, t0, "a"), ASYA_STR("12345"));
	assert_int_equal(find(f, &found, "happy-asya/", "a", 5), 0);
	assert_int_equal(find(f, &found, "happy-asya/", "a", 4), -1);
	assert_int_equal(f->err.advice, ASYA_REJECT);
	assert_non_null(strstr(f->err.text, "has 5 bytes, at most 4"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_put_makes_the_object_whole_under_its_key),
		TEST(many_puts_are_all_there_and_done_once_each),
		TEST(one_bad_put_of_a_batch_leaves_the_others_alone),
		TEST(done_may_put_again),
		TEST(closing_finishes_what_is_written_and_ends_what_waits),
		TEST(closing_before_the_loop_runs_ends_every_put),
		TEST(a_directory_without_permission_is_to_be_retried),
		TEST(a_root_that_cannot_be_written_is_an_error_at_open),
		TEST(a_root_whose_last_component_is_missing_is_made),
		TEST(a_write_that_stops_half_way_leaves_nothing),
		TEST(a_full_disk_is_to_be_retried_and_leaves_nothing),
		TEST(temporary_files_of_the_dead_are_removed_when_they_are_old),
#ifdef ASYA_FAILPOINTS
		TEST(a_crash_at_any_step_leaves_the_object_whole_or_not_there),
		TEST(a_failure_at_any_step_is_to_be_retried_and_leaves_no_temporary_file),
#endif
		TEST(find_yields_the_newest_object_of_an_id),
		TEST(find_reads_prefixes_that_end_within_a_name),
		TEST(find_refuses_what_is_larger_than_allowed),
	};

#ifdef ASYA_FAILPOINTS
	if (argc == 3)
		return child_main(argv[2]);
#endif
	(void)argc;
	program = argv[0];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
