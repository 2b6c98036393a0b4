// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "transport/rabbitmq/rabbitmq.h"
#include "transport/rabbitmq/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

struct fixture {
	struct asya_arena *arena;
	struct asya_rabbitmq_config config;
	struct asya_error err;
	const char *const *environment; /* name, value, ..., NULL */
};

static const char *get(void *user, const char *name)
{
	const struct fixture *f = user;

	for (const char *const *i = f->environment; *i; i += 2)
		if (strcmp(i[0], name) == 0)
			return i[1];
	return NULL;
}

static int load(struct fixture *f, const char *const *environment)
{
	f->environment = environment;
	return asya_rabbitmq_config_load(&f->config, get, f, f->arena, &f->err);
}

#define LOAD(f, ...) load(f, (const char *const[]){__VA_ARGS__, NULL})

static void expect_host(const struct fixture *f, size_t i, const char *name, int port)
{
	assert_true(i < f->config.n_hosts);
	assert_string_equal(f->config.hosts[i].name, name);
	assert_int_equal(f->config.hosts[i].port, port);
}

static void without_settings_it_is_the_guest_of_this_machine(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(LOAD(f, "HOME", "/"), 0);
	assert_int_equal(f->config.n_hosts, 1);
	expect_host(f, 0, "localhost", 5672);
	assert_string_equal(f->config.user, "guest");
	assert_string_equal(f->config.vhost, "/");
	assert_string_equal(f->config.exchange, "asya");
	assert_true(f->config.verify && f->config.auto_create && !f->config.tls);
	assert_int_equal(f->config.queue_type, ASYA_RABBITMQ_CLASSIC);
	assert_int_equal(f->config.heartbeat_ms, 10000);
}

static void url_is_taken_apart_and_decoded(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(LOAD(f, "ASYA_RABBITMQ_URL",
			      "amqp://a%40b:p%3A%2F%25@one:1234,two,[::1]:77,[fe80::2]/v%2Fh"),
			 0);
	assert_string_equal(f->config.user, "a@b");
	assert_string_equal(f->config.password, "p:/%");
	assert_string_equal(f->config.vhost, "v/h");
	assert_int_equal(f->config.n_hosts, 4);
	expect_host(f, 0, "one", 1234);
	expect_host(f, 1, "two", 5672);
	expect_host(f, 2, "::1", 77);
	expect_host(f, 3, "fe80::2", 5672);
}

static void url_of_the_public_original_means_the_default_virtual_host(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(LOAD(f, "ASYA_RABBITMQ_URL", "amqp://guest:guest@rabbitmq:5672/"), 0);
	assert_string_equal(f->config.vhost, "/");
	assert_int_equal(LOAD(f, "ASYA_RABBITMQ_URL", "amqp://h?heartbeat=30"), 0);
	assert_string_equal(f->config.vhost, "/");
	expect_host(f, 0, "h", 5672);
}

static void amqps_means_tls_and_its_port(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(LOAD(f, "ASYA_RABBITMQ_URL", "amqps://u:p@h"), 0);
	assert_true(f->config.tls);
	expect_host(f, 0, "h", 5671);
	assert_int_equal(LOAD(f, "ASYA_RABBITMQ_TLS", "true"), 0);
	expect_host(f, 0, "localhost", 5671);
	assert_int_equal(LOAD(f, "ASYA_RABBITMQ_TLS", "true", "ASYA_RABBITMQ_URL", "amqp://h"), -1);
}

static void wrong_urls_are_errors_that_do_not_show_them(void **state)
{
	static const char *const wrong[] = {
		"http://u:s3cr3t@h/",       "u:s3cr3t@h",           "amqp://u:s3cr3t%zz@h",
		"amqp://u:s3cr3t%00x@h",    "amqp://u:s3cr3t@",     "amqp://u:s3cr3t@h:0",
		"amqp://u:s3cr3t@h:70000",  "amqp://u:s3cr3t@h:x",  "amqp://u:s3cr3t@a,,b",
		"amqp://u:s3cr3t@[::1",     "amqp://u:s3cr3t@h:/v", "amqp://u:s3cr3t@h/v%2",
		"amqp://u:s3cr3t@[::1]x:1",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(wrong); i++) {
		if (LOAD(f, "ASYA_RABBITMQ_URL", wrong[i]) == 0)
			fail_msg("'%s' was taken", wrong[i]);
		assert_non_null(strstr(f->err.text, "ASYA_RABBITMQ_URL"));
		assert_null(strstr(f->err.text, "s3cr3t"));
		assert_int_equal(f->err.advice, ASYA_FATAL);
	}
}

static void parts_name_several_hosts(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(LOAD(f, "ASYA_RABBITMQ_HOST", "a, b:99", "ASYA_RABBITMQ_PORT", "1000",
			      "ASYA_RABBITMQ_USERNAME", "me", "ASYA_RABBITMQ_PASSWORD", "pw",
			      "ASYA_RABBITMQ_VHOST", "v", "ASYA_RABBITMQ_QUEUE_TYPE", "quorum"),
			 0);
	expect_host(f, 0, "a", 1000);
	expect_host(f, 1, "b", 99);
	assert_string_equal(f->config.password, "pw");
	assert_int_equal(f->config.queue_type, ASYA_RABBITMQ_QUORUM);
	assert_int_equal(LOAD(f, "ASYA_RABBITMQ_HOST", "a:b:c"), -1);
	assert_int_equal(LOAD(f, "ASYA_NAMESPACE", "not_a_label"), -1);
	assert_int_equal(LOAD(f, "ASYA_RABBITMQ_CERT_FILE", "/c"), -1);
}

static void names_of_queues_never_collide(void **state)
{
	struct fixture *f = *state;
	char *key, *queue, *dead;

	assert_int_equal(LOAD(f, "ASYA_NAMESPACE", "shop"), 0);
	key = rabbit_key(&f->config, ASYA_STR("pay"), false);
	queue = rabbit_queue(&f->config, ASYA_STR("pay"), false);
	dead = rabbit_queue(&f->config, ASYA_STR("pay"), true);
	assert_string_equal(key, "shop_pay");
	assert_string_equal(queue, "asya-shop_pay");
	assert_string_equal(dead, "asya-shop_pay-dlq");
	free(key);
	free(queue);
	free(dead);
	assert_int_equal(LOAD(f, "HOME", "/"), 0);
	queue = rabbit_queue(&f->config, ASYA_STR("delay-250"), false);
	dead = rabbit_delay_name(&f->config, 1);
	assert_string_equal(queue, "asya-delay-250");
	assert_string_equal(dead, "asya.delay.250");
	free(queue);
	free(dead);
}

static void step_of_a_delay_is_the_next_that_is_not_shorter(void **state)
{
	(void)state;
	assert_int_equal(rabbit_delay_ms(rabbit_delay_step(1)), 125);
	assert_int_equal(rabbit_delay_ms(rabbit_delay_step(125)), 125);
	assert_int_equal(rabbit_delay_ms(rabbit_delay_step(126)), 250);
	assert_int_equal(rabbit_delay_ms(rabbit_delay_step(1000)), 1000);
	assert_int_equal(rabbit_delay_ms(rabbit_delay_step(60000)), 64000);
}

static int set_up(void **state)
{
	struct fixture *f = asya_new0(struct fixture);

	f->arena = asya_arena_new();
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	asya_arena_free(f->arena);
	free(f);
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(without_settings_it_is_the_guest_of_this_machine),
		T(url_is_taken_apart_and_decoded),
		T(url_of_the_public_original_means_the_default_virtual_host),
		T(amqps_means_tls_and_its_port),
		T(wrong_urls_are_errors_that_do_not_show_them),
		T(parts_name_several_hosts),
		T(names_of_queues_never_collide),
		T(step_of_a_delay_is_the_next_that_is_not_shorter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
