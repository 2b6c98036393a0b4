// SPDX-License-Identifier: Apache-2.0
/* What the local transport says of directories and databases it cannot use, and that it leaves
 * their bytes alone. */
#include "lib/loop.h"
#include "lib/transport.h"

#include "base/mem.h"
#include "transport/local/local.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
	uv_loop_t loop;
	char *top; /* removed at the end */
	char *dir; /* the transport's */
	char *db;
};

static struct asya_local_config config_of(const struct fixture *f)
{
	struct asya_local_config config = ASYA_LOCAL_CONFIG_DEFAULT;

	config.dir = f->dir;
	return config;
}

static int try_open(struct fixture *f, struct asya_transport **ret, struct asya_error *err)
{
	struct asya_local_config config = config_of(f);

	return asya_local_open(ret, &f->loop, &config, err);
}

static struct asya_transport *open_one(struct fixture *f)
{
	struct asya_transport *t = NULL;
	struct asya_error err;

	if (try_open(f, &t, &err))
		fail_msg("%s", err.text);
	return t;
}

/* The error must be fatal and say where and what. */
static void expect_fatal(struct fixture *f, const char *path, const char *what)
{
	struct asya_error err = ASYA_ERROR_NONE;
	struct asya_transport *t = NULL;

	assert_int_equal(try_open(f, &t, &err), -1);
	assert_null(t);
	if (err.advice != ASYA_FATAL || !strstr(err.text, path) || !strstr(err.text, what))
		fail_msg("%s: '%s' should name '%s' and say '%s'", asya_advice_name(err.advice),
			 err.text, path, what);
}

/* Messages until the database has some 60 pages; then closed, all in the one file. */
static void fill(struct fixture *f)
{
	struct asya_transport *t = open_one(f);
	char body[4000];

	memset(body, 'b', sizeof(body) - 1);
	body[sizeof(body) - 1] = '\0';
	for (int i = 0; i < 50; i++)
		test_post(&f->loop, t, "x", body, 0);
	test_transport_close(&f->loop, t);
}

struct file {
	char *p;
	size_t n;
};

static struct file file_read(const char *path)
{
	FILE *in = fopen(path, "rb");
	struct file file = {asya_malloc(4 << 20), 0};

	assert_non_null(in);
	file.n = fread(file.p, 1, 4 << 20, in);
	fclose(in);
	return file;
}

static void file_write(const char *path, const void *p, size_t n)
{
	FILE *out = fopen(path, "wb");

	assert_non_null(out);
	assert_int_equal(fwrite(p, 1, n, out), n);
	fclose(out);
}

static void expect_unchanged(const char *path, struct file *take_before)
{
	struct file after = file_read(path);

	assert_int_equal(after.n, take_before->n);
	assert_memory_equal(after.p, take_before->p, after.n);
	free(after.p);
	free(take_before->p);
}

static void overwrite(const char *path, long at, int byte, size_t n)
{
	struct file file = file_read(path);

	assert_true((size_t)at + n <= file.n);
	memset(file.p + at, byte, n);
	file_write(path, file.p, file.n);
	free(file.p);
}

static void sql(const char *path, const char *text)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", text, sqlite3_errmsg(db));
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void expect_refused_unchanged(struct fixture *f, const char *what)
{
	struct file before = file_read(f->db);

	expect_fatal(f, f->db, what);
	expect_unchanged(f->db, &before);
}

static void overwritten_header_is_fatal_and_left_alone(void **state)
{
	struct fixture *f = *state;

	fill(f);
	overwrite(f->db, 0, 0xa5, 100);
	expect_refused_unchanged(f, "not a database");
}

static void truncated_database_is_fatal_and_left_alone(void **state)
{
	struct fixture *f = *state;
	struct file whole;

	fill(f);
	whole = file_read(f->db);
	assert_true(whole.n > 20 * 4096);
	file_write(f->db, whole.p, whole.n / 2 / 4096 * 4096);
	expect_refused_unchanged(f, "malformed");
	file_write(f->db, whole.p, 4096);
	expect_refused_unchanged(f, "malformed");
	file_write(f->db, whole.p, 1000);
	expect_refused_unchanged(f, "queue.db");
	file_write(f->db, whole.p, 50);
	expect_refused_unchanged(f, "queue.db");
	free(whole.p);
}

static void text_file_is_fatal_and_left_alone(void **state)
{
	struct fixture *f = *state;
	char text[9000];

	assert_int_equal(mkdir(f->dir, 0777), 0);
	file_write(f->db, "hello\n", 6);
	expect_refused_unchanged(f, "not a database");
	memset(text, 'x', sizeof(text));
	file_write(f->db, text, sizeof(text));
	expect_refused_unchanged(f, "not a database");
}

static void empty_file_becomes_a_new_database(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t;

	assert_int_equal(mkdir(f->dir, 0777), 0);
	file_write(f->db, "", 0);
	t = open_one(f);
	test_post(&f->loop, t, "x", "m", 0);
	test_expect_depth(&f->loop, t, "x", 1, 0, 0, 0);
	test_transport_close(&f->loop, t);
}

static void database_of_another_program_is_fatal_and_left_alone(void **state)
{
	static const char *const journals[] = {"DELETE", "WAL"};
	struct fixture *f = *state;

	assert_int_equal(mkdir(f->dir, 0777), 0);
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(journals); i++) {
		char text[200];

		unlink(f->db);
		snprintf(text, sizeof(text),
			 "PRAGMA journal_mode=%s; CREATE TABLE t(a); INSERT INTO t VALUES(1)",
			 journals[i]);
		sql(f->db, text);
		expect_refused_unchanged(f, "some other program");
	}
	unlink(f->db);
	sql(f->db, "PRAGMA application_id=77; PRAGMA user_version=1; VACUUM");
	expect_refused_unchanged(f, "some other program");
}

static void database_of_another_program_with_a_log_keeps_both(void **state)
{
	struct fixture *f = *state;
	_cleanup_(asya_freep) char *log = asya_asprintf("%s-wal", f->db);
	_cleanup_(asya_freep) char *copy = asya_asprintf("%s/copy", f->top);
	struct file db, wal;
	sqlite3 *other;

	assert_int_equal(mkdir(f->dir, 0777), 0);
	assert_int_equal(sqlite3_open(copy, &other), SQLITE_OK);
	sqlite3_exec(other, "PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1)",
		     NULL, NULL, NULL);
	db = file_read(copy);
	file_write(f->db, db.p, db.n);
	free(db.p);
	free(copy);
	copy = asya_asprintf("%s/copy-wal", f->top);
	wal = file_read(copy);
	assert_true(wal.n > 0);
	file_write(log, wal.p, wal.n);
	free(wal.p);
	sqlite3_close(other);
	wal = file_read(log);
	expect_refused_unchanged(f, "some other program");
	expect_unchanged(log, &wal);
}

static void database_of_a_newer_version_is_fatal_and_left_alone(void **state)
{
	struct fixture *f = *state;

	fill(f);
	sql(f->db, "PRAGMA user_version=2");
	expect_refused_unchanged(f, "another version");
}

static void directory_that_is_a_file_is_fatal_and_left_alone(void **state)
{
	struct fixture *f = *state;
	struct file before;

	file_write(f->dir, "mine", 4);
	before = file_read(f->dir);
	expect_fatal(f, f->dir, "Not a directory");
	expect_unchanged(f->dir, &before);
}

static void directory_below_a_file_is_fatal(void **state)
{
	struct fixture *f = *state;

	file_write(f->dir, "mine", 4);
	free(f->dir);
	f->dir = asya_asprintf("%s/queues/deeper/still", f->top);
	expect_fatal(f, f->dir, "Not a directory");
}

static void database_that_is_a_directory_is_fatal(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdir(f->dir, 0777), 0);
	assert_int_equal(mkdir(f->db, 0777), 0);
	expect_fatal(f, f->db, "unable to open");
}

static void missing_directories_are_made(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t;

	free(f->dir);
	f->dir = asya_asprintf("%s/queues/deeper//still/", f->top);
	t = open_one(f);
	test_post(&f->loop, t, "x", "m", 0);
	test_transport_close(&f->loop, t);
}

static void empty_directory_name_is_fatal(void **state)
{
	struct fixture *f = *state;

	free(f->dir);
	f->dir = asya_strdup("");
	expect_fatal(f, "''", "directory");
}

/* Root may write everywhere: this runs as nobody then. */
static void as_nobody(void (*fn)(struct fixture *f), struct fixture *f)
{
	bool root = geteuid() == 0;

	assert_int_equal(chmod(f->top, 0755), 0);
	if (root)
		assert_int_equal(seteuid(65534), 0);
	fn(f);
	if (root)
		assert_int_equal(seteuid(0), 0);
}

static void expect_read_only_dir(struct fixture *f)
{
	expect_fatal(f, f->dir, "Permission denied");
}

static void directory_that_cannot_be_written_is_fatal(void **state)
{
	struct fixture *f = *state;
	struct file before;

	fill(f);
	before = file_read(f->db);
	assert_int_equal(chmod(f->dir, 0555), 0);
	as_nobody(expect_read_only_dir, f);
	assert_int_equal(chmod(f->dir, 0755), 0);
	expect_unchanged(f->db, &before);
	free(f->dir);
	assert_int_equal(chmod(f->top, 0555), 0);
	f->dir = asya_asprintf("%s/other", f->top);
	as_nobody(expect_read_only_dir, f);
	assert_int_equal(chmod(f->top, 0755), 0);
}

static void expect_read_only_db(struct fixture *f)
{
	expect_fatal(f, f->db, "read");
}

static void database_that_cannot_be_written_is_fatal(void **state)
{
	struct fixture *f = *state;
	_cleanup_(asya_freep) char *command = asya_asprintf("chmod -R a+rwX '%s'", f->dir);

	fill(f);
	assert_int_equal(system(command), 0);
	assert_int_equal(chmod(f->db, 0444), 0);
	if (geteuid() == 0)
		as_nobody(expect_read_only_db, f);
	else
		expect_read_only_db(f);
}

/* A page in the middle is found when it is read, not before. */
static void damaged_page_is_fatal_when_it_is_met_and_stays_as_it_is(void **state)
{
	struct fixture *f = *state;
	struct asya_transport *t;
	struct test_taker k;
	struct file before, after;
	size_t damaged = 0;
	bool met = false;

	fill(f);
	before = file_read(f->db);
	/* Every page from the fifth on but the roots of the tables, which come first. */
	for (size_t at = 20 * 4096; at + 4096 <= before.n; at += 4096, damaged++)
		memset(before.p + at, 0xa5, 4096);
	assert_true(damaged > 10);
	file_write(f->db, before.p, before.n);
	t = open_one(f);
	test_take(&k, t, "x", false, 100);
	for (int i = 0; i < 200 && !met; i++) {
		test_run_for(&f->loop, 20);
		met = k.downs > 0;
	}
	assert_true(met);
	assert_int_equal(k.err.advice, ASYA_FATAL);
	assert_non_null(strstr(k.err.text, f->db));
	assert_non_null(strstr(k.err.text, "malformed"));
	test_transport_close(&f->loop, t);
	after = file_read(f->db);
	assert_true(after.n >= before.n);
	assert_memory_equal(after.p + 20 * 4096, before.p + 20 * 4096, damaged * 4096);
	free(before.p);
	free(after.p);
}

static unsigned open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void opening_in_vain_and_closing_leave_no_file_open(void **state)
{
	struct fixture *f = *state;
	unsigned before;

	fill(f);
	before = open_files();
	for (int i = 0; i < 20; i++)
		fill(f);
	assert_int_equal(open_files(), before);
	sql(f->db, "PRAGMA user_version=2");
	for (int i = 0; i < 20; i++)
		expect_fatal(f, f->db, "another version");
	assert_int_equal(open_files(), before);
}

static int set_up(void **state)
{
	struct fixture *f = asya_new0(struct fixture);

	uv_loop_init(&f->loop);
	f->top = test_dir_make();
	f->dir = asya_asprintf("%s/queues", f->top);
	f->db = asya_asprintf("%s/queue.db", f->dir);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	test_loop_close(&f->loop);
	test_dir_remove(f->top);
	free(f->dir);
	free(f->db);
	free(f);
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(overwritten_header_is_fatal_and_left_alone),
		T(truncated_database_is_fatal_and_left_alone),
		T(text_file_is_fatal_and_left_alone),
		T(empty_file_becomes_a_new_database),
		T(database_of_another_program_is_fatal_and_left_alone),
		T(database_of_another_program_with_a_log_keeps_both),
		T(database_of_a_newer_version_is_fatal_and_left_alone),
		T(directory_that_is_a_file_is_fatal_and_left_alone),
		T(directory_below_a_file_is_fatal),
		T(database_that_is_a_directory_is_fatal),
		T(missing_directories_are_made),
		T(empty_directory_name_is_fatal),
		T(directory_that_cannot_be_written_is_fatal),
		T(database_that_cannot_be_written_is_fatal),
		T(damaged_page_is_fatal_when_it_is_met_and_stays_as_it_is),
		T(opening_in_vain_and_closing_leave_no_file_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
