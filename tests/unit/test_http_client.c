// SPDX-License-Identifier: Apache-2.0
#include "io/http_client.h"
#include "lib/fake.h"
#include "lib/loop.h"
#include "lib/transport.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

enum { SECONDS = 20 };

struct fixture {
	uv_loop_t loop;
	struct test_fake fake;
	struct asya_http_client *client;
	char url[200];
};

struct call {
	struct asya_http_request r;
	bool done;
	unsigned n_done;
	bool answered;
	unsigned status;
	struct asya_error err;
	char body[8192], odd[100];
};

static void on_done(struct asya_http_request *r, struct asya_http_answer *a,
		    const struct asya_error *err)
{
	struct call *c = r->user;

	assert_true(!a == !!err);
	c->done = true;
	c->n_done++;
	c->answered = a;
	if (err) {
		c->err = *err;
		return;
	}
	c->status = a->status;
	snprintf(c->body, sizeof(c->body), "%.*s", ASYA_STR_ARG(asya_buf_view(&a->body)));
	snprintf(c->odd, sizeof(c->odd), "%.*s", ASYA_STR_ARG(asya_http_answer_header(a, "x-odd")));
}

static const char *url(struct fixture *f, const char *path)
{
	snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%u%s", f->fake.port, path);
	return f->url;
}

static void begin(struct fixture *f, struct call *c, const char *method, const char *where)
{
	c->r.method = method;
	c->r.url = where;
	c->r.done = on_done;
	c->r.user = c;
	asya_http_send(f->client, &c->r);
	assert_false(c->done);
}

static void run(struct fixture *f, struct call *c, const char *method, const char *path)
{
	begin(f, c, method, url(f, path));
	test_run_until(&f->loop, &c->done, path, SECONDS);
}

static void request_goes_out_and_its_answer_comes_whole(void **state)
{
	const struct asya_http_header h = {ASYA_STR("X-Mine"), ASYA_STR("v 1")};
	struct call c = {.r = {.headers = &h, .n_headers = 1, .body = ASYA_STR("{\"a\":1}")}};

	run(*state, &c, "POST", "/echo?q=%20a:b");
	assert_int_equal(c.status, 200);
	assert_non_null(strstr(c.body, "\"method\": \"POST\""));
	assert_non_null(strstr(c.body, "\"target\": \"/echo?q=%20a:b\""));
	assert_non_null(strstr(c.body, "\"x-mine\": \"v 1\""));
	assert_non_null(strstr(c.body, "{\\\"a\\\":1}"));
	assert_null(strstr(c.body, "content-type"));
}

static void status_and_headers_of_an_error_are_an_answer(void **state)
{
	struct call c = {0};

	run(*state, &c, "GET", "/status/503");
	assert_int_equal(c.status, 503);
	assert_string_equal(c.odd, "a b");
	assert_string_equal(c.body, "nothing");
}

static void connection_is_kept_for_the_next_request(void **state)
{
	struct call a = {0}, b = {0};

	run(*state, &a, "GET", "/echo");
	run(*state, &b, "GET", "/echo");
	assert_non_null(strstr(a.body, "\"connections\": "));
	assert_string_equal(strstr(a.body, "\"connections\": "),
			    strstr(b.body, "\"connections\": "));
}

static void answer_may_have_its_limit_and_not_one_byte_more(void **state)
{
	struct call fits = {.r = {.max_bytes = 1000}}, large = {.r = {.max_bytes = 1000}};

	run(*state, &fits, "GET", "/bytes/1000");
	assert_int_equal(strlen(fits.body), 1000);
	run(*state, &large, "GET", "/bytes/1001");
	assert_false(large.answered);
	assert_int_equal(large.err.advice, ASYA_REJECT);
	assert_non_null(strstr(large.err.text, "larger than 1000 bytes"));
}

static void silence_ends_with_the_time_and_closed_connections_with_an_error(void **state)
{
	struct call slow = {.r = {.timeout_ms = 100}}, cut = {0};

	run(*state, &slow, "GET", "/silent");
	assert_false(slow.answered);
	assert_int_equal(slow.err.advice, ASYA_RETRY);
	run(*state, &cut, "GET", "/close");
	assert_false(cut.answered);
	assert_int_equal(cut.err.advice, ASYA_RETRY);
}

static void errors_hide_what_may_be_secret_in_a_url(void **state)
{
	struct fixture *f = *state;
	struct call c = {0};

	begin(f, &c, "GET", "http://joe:pass@127.0.0.1:1/path?signature=1");
	test_run_until(&f->loop, &c.done, "a refusal", SECONDS);
	assert_non_null(strstr(c.err.text, "127.0.0.1:1/path"));
	assert_null(strstr(c.err.text, "pass@"));
	assert_null(strstr(c.err.text, "signature"));
}

static void other_schemes_are_refused(void **state)
{
	struct fixture *f = *state;
	struct call c = {0};

	begin(f, &c, "GET", "file:///etc/passwd");
	test_run_until(&f->loop, &c.done, "a refusal", SECONDS);
	assert_false(c.answered);
	assert_int_equal(c.err.advice, ASYA_REJECT);
}

static void cancelled_requests_are_done_once_with_an_error(void **state)
{
	struct fixture *f = *state;
	struct call running = {0}, waiting = {0}, after = {0};
	char silent[200];

	snprintf(silent, sizeof(silent), "%s", url(f, "/silent"));
	begin(f, &running, "GET", silent);
	begin(f, &waiting, "GET", silent); /* the second of two places */
	begin(f, &after, "GET", silent);   /* has none */
	test_run_for(&f->loop, 30);
	asya_http_cancel(f->client, &after.r);
	asya_http_cancel(f->client, &running.r);
	assert_false(running.done);
	test_run_until(&f->loop, &running.done, "cancelling", SECONDS);
	test_run_until(&f->loop, &after.done, "cancelling", SECONDS);
	assert_int_equal(running.n_done, 1);
	assert_non_null(strstr(running.err.text, "cancelled"));
	assert_false(waiting.done);
	/* closing the client ends the other one */
}

static void more_requests_than_places_are_all_answered(void **state)
{
	struct fixture *f = *state;
	struct call c[20] = {0};
	char echo[200];

	snprintf(echo, sizeof(echo), "%s", url(f, "/echo"));
	for (int i = 0; i < 20; i++)
		begin(f, &c[i], "GET", echo);
	for (int i = 0; i < 20; i++) {
		test_run_until(&f->loop, &c[i].done, "an answer", SECONDS);
		assert_int_equal(c[i].status, 200);
	}
	assert_null(strstr(c[19].body, "\"connections\": 3"));
}

static void proxies_of_the_environment_are_not_used(void **state)
{
	struct call c = {0};

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	run(*state, &c, "GET", "/status/200");
	unsetenv("http_proxy");
	assert_int_equal(c.status, 200);
}

/* ---- TLS ---- */

static void make_certificate(const char *dir, const char *name)
{
	_cleanup_(asya_freep) char *command = asya_asprintf(
		"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
		"-subj /CN=%s -addext subjectAltName=%s -keyout %s/key -out %s/cert 2>/dev/null",
		name, name[0] == '1' ? "IP:127.0.0.1" : "DNS:elsewhere.example", dir, dir);

	assert_int_equal(system(command), 0);
}

static void over_tls(struct fixture *f, struct call *c, const char *name, bool trust)
{
	char *dir = test_dir_make();
	_cleanup_(asya_freep) char *cert = asya_asprintf("%s/cert", dir);
	_cleanup_(asya_freep) char *key = asya_asprintf("%s/key", dir);
	struct asya_http_client *own = f->client;
	struct test_fake fake;
	struct asya_error err;
	bool closed = false;

	make_certificate(dir, name);
	test_fake_start(&fake, cert, key);
	assert_int_equal(asya_http_client_open(
				 &f->client, &f->loop,
				 &(struct asya_http_client_config){.ca_file = trust ? cert : NULL},
				 &err),
			 0);
	snprintf(f->url, sizeof(f->url), "https://127.0.0.1:%u/status/200", fake.port);
	begin(f, c, "GET", f->url);
	test_run_until(&f->loop, &c->done, "TLS", SECONDS);
	asya_http_client_close(f->client, test_set_flag, &closed);
	test_run_until(&f->loop, &closed, "closing", SECONDS);
	test_fake_stop(&fake);
	test_dir_remove(dir);
	f->client = own;
}

static void certificates_are_verified_and_so_is_the_name(void **state)
{
	struct call good = {0}, unknown = {0}, other = {0};

	over_tls(*state, &good, "127.0.0.1", true);
	assert_int_equal(good.status, 200);
	over_tls(*state, &unknown, "127.0.0.1", false);
	assert_false(unknown.answered);
	assert_non_null(strstr(unknown.err.text, "certificate"));
	over_tls(*state, &other, "elsewhere.example", true);
	assert_false(other.answered);
	assert_int_equal(other.err.advice, ASYA_RETRY);
}

static int set_up(void **state)
{
	struct fixture *f = asya_new0(struct fixture);
	struct asya_error err;

	uv_loop_init(&f->loop);
	test_fake_start(&f->fake, NULL, NULL);
	assert_int_equal(asya_http_client_open(&f->client, &f->loop,
					       &(struct asya_http_client_config){.connections = 2},
					       &err),
			 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	bool closed = false;

	asya_http_client_close(f->client, test_set_flag, &closed);
	test_run_until(&f->loop, &closed, "closing", SECONDS);
	test_loop_close(&f->loop);
	test_fake_stop(&f->fake);
	free(f);
	return 0;
}

#define T(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(request_goes_out_and_its_answer_comes_whole),
		T(status_and_headers_of_an_error_are_an_answer),
		T(connection_is_kept_for_the_next_request),
		T(answer_may_have_its_limit_and_not_one_byte_more),
		T(silence_ends_with_the_time_and_closed_connections_with_an_error),
		T(errors_hide_what_may_be_secret_in_a_url),
		T(other_schemes_are_refused),
		T(cancelled_requests_are_done_once_with_an_error),
		T(more_requests_than_places_are_all_answered),
		T(proxies_of_the_environment_are_not_used),
		T(certificates_are_verified_and_so_is_the_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
