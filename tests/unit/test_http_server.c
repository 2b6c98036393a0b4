// SPDX-License-Identifier: Apache-2.0
/* Server and clients share one thread: while a client waits, the server's loop runs. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "io/http_server.h"
#include "io/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000 };

struct fixture {
	uv_loop_t loop;
	struct asya_http_server *server;
	struct asya_error err;
	unsigned handled;
	unsigned done;
	bool close_in_handler;
};

static void count_done(void *user)
{
	struct fixture *f = user;

	f->done++;
}

static void healthz(void *user, struct asya_http_response *response)
{
	struct fixture *f = user;

	f->handled++;
	asya_buf_c(&response->body, "ok\n");
	if (f->close_in_handler) {
		asya_http_server_close(f->server, count_done, f);
		f->server = NULL;
	}
}

static void readyz(void *user, struct asya_http_response *response)
{
	(void)user;
	response->status = 503;
	response->content_type = "application/json";
	asya_buf_c(&response->body, "{\"ready\":false}");
}

static void empty(void *user, struct asya_http_response *response)
{
	(void)user;
	response->status = 204;
}

static void large(void *user, struct asya_http_response *response)
{
	(void)user;
	asya_buf_reserve(&response->body, 4 << 20);
	memset(response->body.p, 'x', 4 << 20);
	response->body.n = 4 << 20;
}

static const struct asya_http_route routes[] = {{"GET", "/healthz", healthz},
						{"GET", "/readyz", readyz},
						{"GET", "/empty", empty},
						{"GET", "/large", large}};

static void open_server(struct fixture *f, const char *address,
			const struct asya_http_limits *limits)
{
	int status = asya_http_server_open(&f->server, &f->loop, address, routes,
					   ASYA_ARRAY_SIZE(routes), limits, f, &f->err);

	if (status)
		fail_msg("%s", f->err.text);
}

static int setup(void **state)
{
	struct fixture *f = asya_new0(struct fixture);

	uv_loop_init(&f->loop);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->server) {
		asya_http_server_close(f->server, count_done, f);
		assert_int_equal(f->done, 0);
	}
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(f->done, 1);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	free(f);
	return 0;
}

static int client(unsigned port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((in_port_t)port),
				.sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void run_once(struct fixture *f, int fd)
{
	struct pollfd fds[] = {{.fd = uv_backend_fd(&f->loop), .events = POLLIN},
			       {.fd = fd, .events = POLLIN}};

	uv_run(&f->loop, UV_RUN_NOWAIT);
	poll(fds, 2, 5);
	uv_run(&f->loop, UV_RUN_NOWAIT);
}

/* Reads until `end` has come `times` times, or to the end of the connection when `end` is NULL. */
static char *hear(struct fixture *f, int fd, const char *end, int times)
{
	int64_t late = asya_clock_mono_ms() + PATIENCE_MS;
	struct asya_buf text = {0};
	size_t from = 0;

	asya_buf_reserve(&text, 65536);
	text.p[0] = '\0';
	while (asya_clock_mono_ms() < late) {
		ssize_t n;
		char *found;

		run_once(f, fd);
		asya_buf_reserve(&text, 65536);
		n = recv(fd, text.p + text.n, 65535, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno == ECONNRESET)) {
			if (end)
				fail_msg("the connection ended after: %s", text.p);
			return text.p;
		}
		if (n < 0)
			continue;
		text.n += (size_t)n;
		text.p[text.n] = '\0';
		while (end && (found = strstr(text.p + from, end))) {
			from = (size_t)(found - text.p) + strlen(end);
			if (!--times)
				return text.p;
		}
	}
	fail_msg("no answer: %s", text.p);
	return NULL;
}

#define HEARD _cleanup_(asya_freep) char *

static void get_answers_with_status_type_and_body_and_keeps_the_connection(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_server(f, "127.0.0.1:0", NULL);
	fd = client(asya_http_server_port(f->server));
	for (int i = 0; i < 3; i++) {
		say(fd, "GET /healthz?verbose=1 HTTP/1.1\r\nHost: a\r\n\r\n");
		HEARD text = hear(f, fd, "\r\n\r\nok\n", 1);
		assert_non_null(strstr(text, "HTTP/1.1 200 OK\r\n"));
		assert_non_null(strstr(text, "Content-Length: 3\r\n"));
		assert_non_null(strstr(text, "Content-Type: text/plain; charset=utf-8\r\n"));
	}
	say(fd, "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
	HEARD text = hear(f, fd, "{\"ready\":false}", 1);
	assert_non_null(strstr(text, "HTTP/1.1 503 "));
	assert_non_null(strstr(text, "Content-Type: application/json\r\n"));
	assert_int_equal(f->handled, 3);
	close(fd);
}

static void an_answer_without_body_is_one(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_server(f, "127.0.0.1:0", NULL);
	fd = client(asya_http_server_port(f->server));
	say(fd, "GET /empty HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
	HEARD text = hear(f, fd, NULL, 0);
	assert_non_null(strstr(text, "HTTP/1.1 204 "));
	assert_true(asya_str_ends(asya_str_c(text), "\r\n\r\n"));
	close(fd);
}

static void an_answer_larger_than_socket_buffers_comes_whole(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_server(f, "127.0.0.1:0", NULL);
	fd = client(asya_http_server_port(f->server));
	say(fd, "GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
	HEARD text = hear(f, fd, NULL, 0);
	assert_non_null(strstr(text, "\r\n\r\n"));
	assert_int_equal(strlen(strstr(text, "\r\n\r\n") + 4), 4 << 20);
	close(fd);
}

static void pipelined_requests_are_answered_in_their_order(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_server(f, "127.0.0.1:0", NULL);
	fd = client(asya_http_server_port(f->server));
	say(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"
		"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	HEARD text = hear(f, fd, "\r\n\r\nok\n", 2);
	assert_non_null(strstr(text, "\r\n\r\nok\nHTTP/1.1 503 "));
	assert_non_null(strstr(text, "{\"ready\":false}HTTP/1.1 200 OK\r\n"));
	close(fd);
}

static void a_slow_client_that_sends_byte_by_byte_is_answered(void **state)
{
	const char *request = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
	struct fixture *f = *state;
	int slow, quick;

	open_server(f, "127.0.0.1:0", NULL);
	slow = client(asya_http_server_port(f->server));
	quick = client(asya_http_server_port(f->server));
	for (size_t i = 0; request[i]; i++) {
		assert_int_equal(send(slow, request + i, 1, MSG_NOSIGNAL), 1);
		uv_run(&f->loop, UV_RUN_NOWAIT);
		if (i == 5) {
			say(quick, request);
			free(hear(f, quick, "\r\n\r\nok\n", 1));
		}
	}
	free(hear(f, slow, "\r\n\r\nok\n", 1));
	close(slow);
	close(quick);
}

static void head_has_the_headers_of_get_and_no_body(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_server(f, "127.0.0.1:0", NULL);
	fd = client(asya_http_server_port(f->server));
	say(fd, "HEAD /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
	HEARD text = hear(f, fd, NULL, 0);
	assert_non_null(strstr(text, "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(text, "Content-Length: 3\r\n"));
	assert_true(asya_str_ends(asya_str_c(text), "\r\n\r\n"));
	assert_int_equal(f->handled, 1);
	close(fd);
}

static void unknown_paths_are_404_and_name_what_is_there(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_server(f, "127.0.0.1:0", NULL);
	fd = client(asya_http_server_port(f->server));
	say(fd, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
	HEARD text = hear(f, fd, "not found; here are: /healthz /readyz /empty /large\n", 1);
	assert_non_null(strstr(text, "HTTP/1.1 404 Not Found\r\n"));
	say(fd, "POST /../etc/passwd HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
	free(hear(f, fd, "HTTP/1.1 404 Not Found\r\n", 1));
	close(fd);
}

static void other_methods_are_405_with_allow_and_their_body_is_dropped(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_server(f, "127.0.0.1:0", NULL);
	fd = client(asya_http_server_port(f->server));
	say(fd, "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
		"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	HEARD text = hear(f, fd, "\r\n\r\nok\n", 1);
	assert_non_null(strstr(text, "HTTP/1.1 405 Method Not Allowed\r\n"));
	assert_non_null(strstr(text, "Allow: GET, HEAD\r\n"));
	assert_int_equal(f->handled, 1);
	close(fd);
}

static void send_body(struct fixture *f, int fd, size_t n)
{
	_cleanup_(asya_freep) char *body = asya_calloc(1, n);

	for (size_t sent = 0; sent < n;) {
		ssize_t some = send(fd, body + sent, n - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (some < 0 && errno != EAGAIN)
			return;
		sent += some > 0 ? (size_t)some : 0;
		uv_run(&f->loop, UV_RUN_NOWAIT);
	}
}

static void a_body_at_the_limit_is_dropped_and_one_more_byte_closes(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_server(f, "127.0.0.1:0", NULL);
	fd = client(asya_http_server_port(f->server));
	say(fd, "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n");
	send_body(f, fd, ASYA_HTTP_BODY_BYTES);
	free(hear(f, fd, "HTTP/1.1 405 ", 1));
	say(fd, "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n");
	send_body(f, fd, ASYA_HTTP_BODY_BYTES + 1);
	HEARD rest = hear(f, fd, NULL, 0);
	assert_null(strstr(rest, "HTTP/1.1 "));
	close(fd);
}

static void a_request_beyond_its_limit_is_refused_and_the_server_goes_on(void **state)
{
	struct asya_buf request = {0};
	struct fixture *f = *state;
	int fd;

	open_server(f, "127.0.0.1:0", &(struct asya_http_limits){.request_bytes = 4096});
	fd = client(asya_http_server_port(f->server));
	asya_buf_c(&request, "GET /healthz HTTP/1.1\r\nHost: a\r\nX-Long: ");
	for (size_t i = 0; i < 8192; i++)
		asya_buf_char(&request, 'x');
	asya_buf_c(&request, "\r\n\r\n");
	send(fd, request.p, request.n, MSG_NOSIGNAL);
	HEARD text = hear(f, fd, NULL, 0);
	assert_null(strstr(text, " 200 "));
	assert_int_equal(f->handled, 0);
	close(fd);
	fd = client(asya_http_server_port(f->server));
	say(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	free(hear(f, fd, "\r\n\r\nok\n", 1));
	close(fd);
	asya_buf_fini(&request);
}

static void what_is_not_http_is_refused(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_server(f, "127.0.0.1:0", NULL);
	fd = client(asya_http_server_port(f->server));
	say(fd, "\x16\x03\x01\x02 what is this\r\n\r\n");
	HEARD text = hear(f, fd, NULL, 0);
	assert_null(strstr(text, " 200 "));
	assert_int_equal(f->handled, 0);
	close(fd);
}

static void one_client_above_the_limit_waits_until_another_leaves(void **state)
{
	enum { LIMIT = 64 };
	struct fixture *f = *state;
	int fds[LIMIT + 1];
	char byte;

	open_server(f, "127.0.0.1:0", &(struct asya_http_limits){.idle_s = 3600});
	for (int i = 0; i < LIMIT; i++) {
		fds[i] = client(asya_http_server_port(f->server));
		say(fds[i], "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
		free(hear(f, fds[i], "\r\n\r\nok\n", 1));
	}
	fds[LIMIT] = client(asya_http_server_port(f->server));
	say(fds[LIMIT], "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	for (int i = 0; i < LIMIT; i++) {
		say(fds[i], "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
		free(hear(f, fds[i], "\r\n\r\nok\n", 1));
	}
	assert_int_equal(recv(fds[LIMIT], &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(f->handled, 2 * LIMIT);
	close(fds[7]);
	free(hear(f, fds[LIMIT], "\r\n\r\nok\n", 1));
	for (int i = 0; i <= LIMIT; i++)
		if (i != 7)
			close(fds[i]);
}

static void an_idle_client_is_closed(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_server(f, "127.0.0.1:0", &(struct asya_http_limits){.idle_s = 1});
	fd = client(asya_http_server_port(f->server));
	say(fd, "GET /heal");
	free(hear(f, fd, NULL, 0));
	close(fd);
}

static void a_client_that_leaves_before_its_answer_does_no_harm(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_server(f, "127.0.0.1:0", NULL);
	for (int i = 0; i < 20; i++) {
		struct linger reset = {1, 0};

		fd = client(asya_http_server_port(f->server));
		say(fd, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
		if (i % 2)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		if (i % 3)
			run_once(f, fd);
		close(fd);
		uv_run(&f->loop, UV_RUN_NOWAIT);
	}
	fd = client(asya_http_server_port(f->server));
	say(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	free(hear(f, fd, "\r\n\r\nok\n", 1));
	close(fd);
}

static void closing_ends_connections_and_frees_the_port_once_done_has_run(void **state)
{
	struct fixture *f = *state;
	unsigned port;
	int idle, half, again;
	char address[32];

	open_server(f, "127.0.0.1:0", NULL);
	port = asya_http_server_port(f->server);
	idle = client(port);
	say(idle, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	free(hear(f, idle, "\r\n\r\nok\n", 1));
	half = client(port);
	say(half, "GET /heal");
	run_once(f, half);
	asya_http_server_close(take_ptr(f->server), count_done, f);
	assert_int_equal(f->done, 0);
	free(hear(f, idle, NULL, 0));
	free(hear(f, half, NULL, 0));
	assert_int_equal(f->done, 1);
	snprintf(address, sizeof(address), "127.0.0.1:%u", port);
	assert_int_equal(asya_tcp_listen(&again, &port, address, &f->err), 0);
	close(again);
	close(idle);
	close(half);
}

static void a_handler_may_close_the_server(void **state)
{
	struct fixture *f = *state;
	int fd;

	f->close_in_handler = true;
	open_server(f, "127.0.0.1:0", NULL);
	fd = client(asya_http_server_port(f->server));
	say(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	free(hear(f, fd, NULL, 0));
	assert_int_equal(f->done, 1);
	close(fd);
}

static void a_taken_port_is_an_error_that_names_the_address(void **state)
{
	struct asya_http_server *second;
	struct fixture *f = *state;
	char address[32];

	open_server(f, "127.0.0.1:0", NULL);
	snprintf(address, sizeof(address), "127.0.0.1:%u", asya_http_server_port(f->server));
	assert_int_equal(
		asya_http_server_open(&second, &f->loop, address, routes, 1, NULL, f, &f->err), -1);
	assert_int_equal(f->err.advice, ASYA_FATAL);
	assert_non_null(strstr(f->err.text, address));
	assert_non_null(strstr(f->err.text, "taken"));
}

static void without_a_host_ipv4_is_served(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_server(f, ":0", NULL);
	fd = client(asya_http_server_port(f->server));
	say(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	free(hear(f, fd, "\r\n\r\nok\n", 1));
	close(fd);
}

static void ipv6_is_served_on_its_own_address(void **state)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	bool has_v6 = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
	struct fixture *f = *state;

	if (fd >= 0)
		close(fd);
	if (!has_v6) {
		open_server(f, "127.0.0.1:0", NULL);
		return;
	}
	open_server(f, "[::1]:0", NULL);
	a.sin6_port = htons((in_port_t)asya_http_server_port(f->server));
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	say(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
	free(hear(f, fd, "\r\n\r\nok\n", 1));
	close(fd);
}

static void bad_addresses_are_errors_that_say_what_is_right(void **state)
{
	static const char *const bad[] = {"",
					  "8080",
					  ":",
					  ":http",
					  ":65536",
					  ":-1",
					  ":80 ",
					  "localhost:80",
					  "::1:80",
					  "[::1:80",
					  "[::1]",
					  "1.2.3:80",
					  "[1.2.3.4]:80",
					  "300.0.0.1:80"};
	struct asya_error err;
	unsigned port;
	int fd;

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(bad); i++) {
		assert_int_equal(asya_tcp_listen(&fd, &port, bad[i], &err), -1);
		assert_int_equal(err.advice, ASYA_FATAL);
		assert_non_null(strstr(err.text, bad[i]));
		assert_non_null(strstr(err.text, "right is :8080"));
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(get_answers_with_status_type_and_body_and_keeps_the_connection),
		TEST(an_answer_without_body_is_one),
		TEST(an_answer_larger_than_socket_buffers_comes_whole),
		TEST(pipelined_requests_are_answered_in_their_order),
		TEST(a_slow_client_that_sends_byte_by_byte_is_answered),
		TEST(head_has_the_headers_of_get_and_no_body),
		TEST(unknown_paths_are_404_and_name_what_is_there),
		TEST(other_methods_are_405_with_allow_and_their_body_is_dropped),
		TEST(a_body_at_the_limit_is_dropped_and_one_more_byte_closes),
		TEST(a_request_beyond_its_limit_is_refused_and_the_server_goes_on),
		TEST(what_is_not_http_is_refused),
		TEST(one_client_above_the_limit_waits_until_another_leaves),
		TEST(an_idle_client_is_closed),
		TEST(a_client_that_leaves_before_its_answer_does_no_harm),
		TEST(closing_ends_connections_and_frees_the_port_once_done_has_run),
		TEST(a_handler_may_close_the_server),
		TEST(a_taken_port_is_an_error_that_names_the_address),
		TEST(without_a_host_ipv4_is_served),
		TEST(ipv6_is_served_on_its_own_address),
		cmocka_unit_test(bad_addresses_are_errors_that_say_what_is_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
