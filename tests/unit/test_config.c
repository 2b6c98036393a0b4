// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "core/config.h"

#include <stdio.h>

struct config {
	struct asya_str actor;
	struct asya_str password;
	bool metrics;
	int64_t prefetch;
	int64_t body_bytes;
	int64_t timeout_ms;
	int transport;
	unsigned chmod;
	struct asya_setting_list hosts;
};

static const char *const transports[] = {"rabbitmq", "sqs", "local", NULL};

static const struct asya_setting rows[] = {
	{"ASYA_ACTOR_NAME", ASYA_SETTING(STRING, struct config, actor),
	 .flags = ASYA_SETTING_REQUIRED, .help = "Name of this actor."},
	{"ASYA_RABBITMQ_PASSWORD", ASYA_SETTING(STRING, struct config, password),
	 .flags = ASYA_SETTING_SECRET, .help = "Password of the broker's user."},
	{"ASYA_METRICS_ENABLED", ASYA_SETTING(BOOL, struct config, metrics), .fallback = "true",
	 .help = "Whether metrics are served."},
	{"ASYA_RABBITMQ_PREFETCH", ASYA_SETTING(INT, struct config, prefetch), .fallback = "1",
	 .min = 1, .max = 65535, .help = "Messages taken before they are settled."},
	{"ASYA_MESSAGE_BYTES", ASYA_SETTING(BYTES, struct config, body_bytes), .fallback = "64Mi",
	 .min = 1024, .max = 1LL << 30, .help = "Largest message."},
	{"ASYA_RUNTIME_TIMEOUT", ASYA_SETTING(DURATION, struct config, timeout_ms),
	 .fallback = "5m", .min = 1, .max = INT64_MAX,
	 .help = "How long a handler may take for one envelope before its connection is closed, "
		 "the "
		 "worker behind it is ended, and the envelope goes on its way with a | "
		 "TimeoutError."},
	{"ASYA_TRANSPORT", ASYA_SETTING(CHOICE, struct config, transport), .fallback = "local",
	 .choices = transports, .help = "Where the queues are.\n'local' needs no broker."},
	{"ASYA_SOCKET_CHMOD", ASYA_SETTING(MODE, struct config, chmod), .fallback = "0o666",
	 .help = ".mode of the socket, C:\\like"},
	{"ASYA_HOSTS", ASYA_SETTING(LIST, struct config, hosts), .help = "Hosts."},
};
enum { ROWS = ASYA_ARRAY_SIZE(rows) };

struct fixture {
	struct asya_arena *arena;
	struct asya_error err;
	struct config config;
};

static int setup(void **state)
{
	struct fixture *f = asya_new0(struct fixture);

	f->arena = asya_arena_new();
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	asya_arena_free(f->arena);
	free(f);
	return 0;
}

/* `user` is an array of names and values, ended by NULL. */
static const char *get(void *user, const char *name)
{
	for (const char *const *pair = user; *pair; pair += 2)
		if (strcmp(pair[0], name) == 0)
			return pair[1];
	return NULL;
}

#define LOAD(f, ...)                                                                               \
	({                                                                                         \
		const char *pairs_[] = {__VA_ARGS__, NULL};                                        \
		asya_config_load(&(f)->config, rows, ROWS, get, pairs_, (f)->arena, &(f)->err);    \
	})

static void unset_and_empty_variables_mean_the_fallback(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(LOAD(f, "ASYA_ACTOR_NAME", "prep", "ASYA_RUNTIME_TIMEOUT", ""), 0);
	assert_string_equal(f->config.actor.p, "prep");
	assert_null(f->config.password.p);
	assert_true(f->config.metrics);
	assert_int_equal(f->config.prefetch, 1);
	assert_int_equal(f->config.body_bytes, 64 << 20);
	assert_int_equal(f->config.timeout_ms, 300000);
	assert_int_equal(f->config.transport, 2);
	assert_int_equal(f->config.chmod, 0666);
	assert_int_equal(f->config.hosts.n, 0);
}

static void every_type_reads_its_texts(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(LOAD(f, "ASYA_ACTOR_NAME", "a", "ASYA_METRICS_ENABLED", "OFF",
			      "ASYA_RABBITMQ_PREFETCH", "65535", "ASYA_MESSAGE_BYTES", "512Ki",
			      "ASYA_RUNTIME_TIMEOUT", "1500us", "ASYA_TRANSPORT", "RabbitMQ",
			      "ASYA_SOCKET_CHMOD", "0660", "ASYA_HOSTS", " a, ,b:1 ,"),
			 0);
	assert_false(f->config.metrics);
	assert_int_equal(f->config.prefetch, 65535);
	assert_int_equal(f->config.body_bytes, 512 << 10);
	assert_int_equal(f->config.timeout_ms, 2);
	assert_int_equal(f->config.transport, 0);
	assert_int_equal(f->config.chmod, 0660);
	assert_int_equal(f->config.hosts.n, 2);
	assert_string_equal(f->config.hosts.items[0].p, "a");
	assert_string_equal(f->config.hosts.items[1].p, "b:1");
}

static void booleans_read_all_words_in_any_case(void **state)
{
	static const char *const yes[] = {"true", "1", "yes", "on", "TRUE", "Yes"},
				 *const no[] = {"false", "0", "no", "off", "False", "OFF"};
	struct fixture *f = *state;

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(yes); i++) {
		assert_int_equal(LOAD(f, "ASYA_ACTOR_NAME", "a", "ASYA_METRICS_ENABLED", yes[i]),
				 0);
		assert_true(f->config.metrics);
		assert_int_equal(LOAD(f, "ASYA_ACTOR_NAME", "a", "ASYA_METRICS_ENABLED", no[i]), 0);
		assert_false(f->config.metrics);
	}
	assert_int_equal(LOAD(f, "ASYA_ACTOR_NAME", "a", "ASYA_METRICS_ENABLED", "y"), -1);
}

static void bad_values_are_errors_that_name_variable_value_and_what_is_right(void **state)
{
	static const struct {
		const char *name, *value, *right;
	} bad[] = {
		{"ASYA_METRICS_ENABLED", "ja", "true or false"},
		{"ASYA_RABBITMQ_PREFETCH", "0", "an integer from 1 to 65535"},
		{"ASYA_RABBITMQ_PREFETCH", "65536", "an integer from 1 to 65535"},
		{"ASYA_RABBITMQ_PREFETCH", "10 ", "an integer"},
		{"ASYA_RABBITMQ_PREFETCH", "9223372036854775808", "an integer"},
		{"ASYA_RABBITMQ_PREFETCH", "tcp://10.0.0.1:5672", "enableServiceLinks"},
		{"ASYA_MESSAGE_BYTES", "1023", "from 1Ki to 1Gi"},
		{"ASYA_MESSAGE_BYTES", "64MiB", "a size like"},
		{"ASYA_MESSAGE_BYTES", "9999999999Gi", "a size like"},
		{"ASYA_RUNTIME_TIMEOUT", "5 minutes", "a duration like"},
		{"ASYA_RUNTIME_TIMEOUT", "0", "from 1ms on"},
		{"ASYA_TRANSPORT", "kafka", "rabbitmq, sqs or local"},
		{"ASYA_SOCKET_CHMOD", "0o888", "an octal file mode"},
		{"ASYA_SOCKET_CHMOD", "10000", "an octal file mode"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(bad); i++) {
		_cleanup_(asya_freep) char *begin =
			asya_asprintf("%s='%s' is wrong", bad[i].name, bad[i].value);

		assert_int_equal(LOAD(f, "ASYA_ACTOR_NAME", "a", bad[i].name, bad[i].value), -1);
		assert_int_equal(f->err.advice, ASYA_FATAL);
		assert_ptr_equal(strstr(f->err.text, begin), f->err.text);
		assert_non_null(strstr(f->err.text, bad[i].right));
	}
}

static void all_bad_values_are_reported_together(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(LOAD(f, "ASYA_TRANSPORT", "kafka", "ASYA_RUNTIME_TIMEOUT", "5"), -1);
	assert_string_equal(
		f->err.text,
		"ASYA_ACTOR_NAME is not set and is required: a text; "
		"ASYA_RUNTIME_TIMEOUT='5' is wrong, right is a duration like 250ms, 30s or 1h2m "
		"from 1ms on; ASYA_TRANSPORT='kafka' is wrong, right is rabbitmq, sqs or local");
}

static void errors_that_have_no_room_are_counted(void **state)
{
	struct asya_setting many[40];
	char names[40][16];
	int64_t config = 0;
	struct fixture *f = *state;

	for (size_t i = 0; i < 40; i++) {
		snprintf(names[i], sizeof(names[i]), "ASYA_N%zu", i);
		many[i] = (struct asya_setting){
			.name = names[i], .type = ASYA_SETTING_INT, .fallback = "x", .help = "h"};
	}
	assert_int_equal(
		asya_config_load(&config, many, 40, get, &(const char *){NULL}, f->arena, &f->err),
		-1);
	assert_non_null(strstr(f->err.text, "ASYA_N18='x' is wrong, right is an integer"));
	assert_non_null(strstr(f->err.text, " is wrong, right is an integer; and "));
	assert_non_null(strstr(f->err.text, " more"));
}

static void a_secret_is_never_in_an_error(void **state)
{
	static const struct asya_setting secret = {"ASYA_TOKEN",
						   ASYA_SETTING(INT, struct config, prefetch),
						   .flags = ASYA_SETTING_SECRET, .help = "h"};
	const char *pairs[] = {"ASYA_TOKEN", "hunter2", NULL};
	struct fixture *f = *state;

	assert_int_equal(asya_config_load(&f->config, &secret, 1, get, pairs, f->arena, &f->err),
			 -1);
	assert_string_equal(f->err.text,
			    "ASYA_TOKEN (value not shown) is wrong, right is an integer");
}

static void without_a_getter_the_environment_is_read(void **state)
{
	struct fixture *f = *state;

	setenv("ASYA_ACTOR_NAME", "from-env", 1);
	assert_int_equal(asya_config_load(&f->config, rows, ROWS, NULL, NULL, f->arena, &f->err),
			 0);
	assert_string_equal(f->config.actor.p, "from-env");
	unsetenv("ASYA_ACTOR_NAME");
}

static void strays_are_listed_with_the_setting_that_was_meant(void **state)
{
	static const char *const others[] = {"ASYA_HANDLER", NULL};
	char *environment[] = {"PATH=/bin",
			       "ASYA_ACTOR_NAME=a",
			       "ASYA_RUNTIME_TIMEUOT=5m",
			       "ASYA_TRANPSORT=sqs",
			       "ASYA_HANDLER=a.b",
			       "ASYA_COMPLETELY_ELSE=secret",
			       "ASYA_GATEWAY_SERVICE_HOST=10.0.0.1",
			       "ASYA_GATEWAY_SERVICE_PORT_HTTP=80",
			       "ASYA_GATEWAY_PORT=tcp://10.0.0.1:80",
			       "ASYA_GATEWAY_PORT_80_TCP_ADDR=10.0.0.1",
			       NULL};
	struct asya_config_stray *strays;
	struct fixture *f = *state;

	assert_int_equal(asya_config_strays(&strays, f->arena, environment, rows, ROWS, others), 3);
	assert_string_equal(strays[0].name.p, "ASYA_RUNTIME_TIMEUOT");
	assert_string_equal(strays[0].nearest, "ASYA_RUNTIME_TIMEOUT");
	assert_string_equal(strays[1].nearest, "ASYA_TRANSPORT");
	assert_string_equal(strays[2].name.p, "ASYA_COMPLETELY_ELSE");
	assert_null(strays[2].nearest);
}

static void help_names_every_row_within_100_columns(void **state)
{
	struct asya_buf out = {0};

	(void)state;
	asya_config_help_write(&out, rows, ROWS);
	asya_buf_char(&out, '\0');
	for (size_t i = 0; i < ROWS; i++)
		assert_non_null(strstr(out.p, rows[i].name));
	assert_non_null(strstr(out.p, "  ASYA_TRANSPORT rabbitmq, sqs or local; default local\n"
				      "      Where the queues are. 'local' needs no broker.\n"));
	assert_non_null(strstr(out.p, "  ASYA_ACTOR_NAME a text; required\n"));
	for (const char *line = out.p; *line; line += strcspn(line, "\n") + 1)
		assert_in_range(strcspn(line, "\n"), 1, 100);
	asya_buf_fini(&out);
}

static void man_page_escapes_what_roff_would_act_on(void **state)
{
	struct asya_buf out = {0};

	(void)state;
	asya_config_man_write(&out, rows, ROWS);
	asya_buf_char(&out, '\0');
	assert_non_null(strstr(out.p, ".TP\n.B ASYA_SOCKET_CHMOD\n"
				      "\\&.mode of the socket, C:\\elike\n"
				      "(an octal file mode like 0o660; default 0o666)\n"));
	assert_non_null(strstr(out.p, "are.\n\\&'local' needs"));
	asya_buf_fini(&out);
}

static void markdown_is_one_row_a_setting_with_bars_escaped(void **state)
{
	struct asya_buf out = {0};
	size_t lines = 0;

	(void)state;
	asya_config_markdown_write(&out, rows, ROWS);
	asya_buf_char(&out, '\0');
	for (const char *p = out.p; *p; p++)
		lines += *p == '\n';
	assert_int_equal(lines, ROWS + 2);
	assert_non_null(strstr(out.p, "with a \\| TimeoutError. |\n"));
	assert_non_null(strstr(out.p, "| `ASYA_TRANSPORT` | rabbitmq, sqs or local | `local` | "));
	assert_non_null(strstr(out.p, "| `ASYA_ACTOR_NAME` | a text | required | "));
	asya_buf_fini(&out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(unset_and_empty_variables_mean_the_fallback),
		TEST(every_type_reads_its_texts),
		TEST(booleans_read_all_words_in_any_case),
		TEST(bad_values_are_errors_that_name_variable_value_and_what_is_right),
		TEST(all_bad_values_are_reported_together),
		TEST(errors_that_have_no_room_are_counted),
		TEST(a_secret_is_never_in_an_error),
		TEST(without_a_getter_the_environment_is_read),
		TEST(strays_are_listed_with_the_setting_that_was_meant),
		TEST(help_names_every_row_within_100_columns),
		TEST(man_page_escapes_what_roff_would_act_on),
		TEST(markdown_is_one_row_a_setting_with_bars_escaped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
