// SPDX-License-Identifier: Apache-2.0
/*
 * libcurl tells which sockets and which timeout it waits for; libuv waits, and calls back in.
 *
 *	send ─► waiting ─► running ─► finished ─► done
 *	           └────── cancel ──────┘
 *
 * The tick answers what is finished, so that `done` never runs inside of libcurl or of a call.
 */
#include "io/http_client.h"

#include "base/mem.h"

#include <curl/curl.h>
#include <ctype.h>
#include <strings.h>

enum {
	CONNECTIONS = 64,
	TIMEOUT_MS = 30000,
	CONNECT_MS = 5000,
	ANSWER_BYTES = 1 << 20,
	HEADER_BYTES = 64 << 10,
	SPARE_MAX = 16,
	UPLOAD_BYTES = 16 << 10, /* libcurl's 64 KiB are kept for each of many connections */
};

/* A request from the time it has a connection's place until its `done` has returned. */
struct transfer {
	struct asya_link link; /* running, finished or spare */
	struct asya_http_client *client;
	struct asya_http_request *r;
	CURL *easy;
	struct curl_slist *headers;
	struct asya_http_answer answer;
	size_t max_bytes;
	bool too_large, failed;
	struct asya_error err;
	char text[CURL_ERROR_SIZE];
};

struct watch {
	uv_poll_t poll;
	struct asya_http_client *client;
	curl_socket_t socket;
};

struct asya_http_client {
	uv_loop_t *loop;
	CURLM *multi;
	uv_timer_t timer; /* libcurl's */
	uv_timer_t tick;
	char *ca_file, *cert_file, *key_file;
	bool proxy;
	unsigned connections, n_running, n_spare, handles;
	struct asya_link waiting; /* requests */
	struct asya_link running, finished, spare;
	bool closing, ticking;
	void (*closed)(void *user);
	void *closed_user;
};

static void on_tick(uv_timer_t *timer);

static void ring(struct asya_http_client *c)
{
	if (!c->ticking)
		uv_timer_start(&c->tick, on_tick, 0, 0);
}

/* ---- transfers ---- */

static struct transfer *transfer_take(struct asya_http_client *c)
{
	struct asya_link *l = asya_list_pop(&c->spare);
	struct transfer *t;

	if (l) {
		c->n_spare--;
		return asya_container_of(l, struct transfer, link);
	}
	t = asya_new0(struct transfer);
	t->client = c;
	t->easy = curl_easy_init();
	if (!t->easy)
		abort(); /* out of memory */
	asya_list_init(&t->link);
	return t;
}

static void transfer_free(struct transfer *t)
{
	curl_easy_cleanup(t->easy);
	free(t);
}

static void transfer_give_back(struct transfer *t)
{
	struct asya_http_client *c = t->client;

	asya_buf_fini(&t->answer.body);
	asya_buf_fini(&t->answer.headers);
	if (c->closing || c->n_spare >= SPARE_MAX) {
		transfer_free(t);
		return;
	}
	*t = (struct transfer){.client = c, .easy = t->easy};
	asya_list_init(&t->link);
	asya_list_add_tail(&c->spare, &t->link);
	c->n_spare++;
}

/* Takes it from libcurl, which keeps the connection. */
static void finish(struct transfer *t)
{
	struct asya_http_client *c = t->client;

	curl_multi_remove_handle(c->multi, t->easy);
	curl_easy_reset(t->easy);
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	c->n_running--;
	asya_list_remove(&t->link);
	asya_list_add_tail(&c->finished, &t->link);
	ring(c);
}

/* Where a request goes, without user, password and query, which may hold secrets. */
static struct asya_str shown(const char *url)
{
	const char *at = strstr(url, "://");
	size_t n;

	at = at ? at + 3 : url;
	n = strcspn(at, "?#");
	for (size_t i = 0; i < n && at[i] != '/'; i++)
		if (at[i] == '@')
			return shown(at + i + 1);
	return (struct asya_str){at, n > 200 ? 200 : n};
}

static void explain(struct transfer *t, CURLcode code)
{
	bool at_fault =
		t->too_large || code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL;
	struct asya_str url = shown(t->r->url);

	t->failed = true;
	if (t->too_large)
		asya_error_set(&t->err, ASYA_REJECT, "%s %.*s: the answer is larger than %zu bytes",
			       t->r->method, ASYA_STR_ARG(url), t->max_bytes);
	else
		asya_error_set(&t->err, at_fault ? ASYA_REJECT : ASYA_RETRY, "%s %.*s: %s",
			       t->r->method, ASYA_STR_ARG(url),
			       t->text[0] ? t->text : curl_easy_strerror(code));
}

static void reap(struct asya_http_client *c)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(c->multi, &left))) {
		CURLcode code = m->data.result;
		struct transfer *t;
		long status = 0;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		curl_easy_getinfo(m->easy_handle, CURLINFO_RESPONSE_CODE, &status);
		t->answer.status = (unsigned)status;
		if (code != CURLE_OK)
			explain(t, code);
		finish(t);
	}
}

static size_t on_body(char *p, size_t size, size_t n, void *user)
{
	struct transfer *t = user;

	if (t->answer.body.n + size * n > t->max_bytes) {
		t->too_large = true;
		return 0;
	}
	asya_buf_add(&t->answer.body, p, size * n);
	return size * n;
}

static size_t on_header(char *p, size_t size, size_t n, void *user)
{
	struct transfer *t = user;

	if (t->answer.headers.n + size * n > HEADER_BYTES) {
		t->too_large = true;
		return 0;
	}
	if (size * n > 5 && memcmp(p, "HTTP/", 5) == 0) /* after a 100 Continue there is another */
		t->answer.headers.n = 0;
	asya_buf_add(&t->answer.headers, p, size * n);
	return size * n;
}

static void add_header(struct transfer *t, struct asya_str name, struct asya_str value)
{
	struct asya_buf line = {0};

	asya_buf_str(&line, name);
	asya_buf_c(&line, value.n ? ": " : ";"); /* libcurl's word for an empty one */
	asya_buf_str(&line, value);
	asya_buf_char(&line, '\0');
	t->headers = curl_slist_append(t->headers, line.p);
	asya_buf_fini(&line);
}

static void set_headers(struct transfer *t)
{
	bool typed = false;

	for (size_t i = 0; i < t->r->n_headers; i++) {
		const struct asya_http_header *h = &t->r->headers[i];

		add_header(t, h->name, h->value);
		typed |= h->name.n == strlen("content-type") &&
			 strncasecmp(h->name.p, "content-type", h->name.n) == 0;
	}
	/* what libcurl would add of its own accord */
	t->headers = curl_slist_append(t->headers, "Expect:");
	if (!typed)
		t->headers = curl_slist_append(t->headers, "Content-Type:");
	curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
}

static void set_tls(struct transfer *t)
{
	struct asya_http_client *c = t->client;

	if (c->ca_file)
		curl_easy_setopt(t->easy, CURLOPT_CAINFO, c->ca_file);
	if (c->cert_file)
		curl_easy_setopt(t->easy, CURLOPT_SSLCERT, c->cert_file);
	if (c->key_file)
		curl_easy_setopt(t->easy, CURLOPT_SSLKEY, c->key_file);
}

static void set_method(struct transfer *t)
{
	const struct asya_http_request *r = t->r;

	if (r->body.p) {
		curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, r->body.p);
		curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
	}
	if (strcmp(r->method, "HEAD") == 0)
		curl_easy_setopt(t->easy, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, r->method);
}

static void start(struct asya_http_client *c, struct asya_http_request *r)
{
	struct transfer *t = transfer_take(c);
	int64_t timeout = r->timeout_ms ? r->timeout_ms : TIMEOUT_MS;

	t->r = r;
	r->transfer = t;
	t->max_bytes = r->max_bytes ? r->max_bytes : ANSWER_BYTES;
	curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
	curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->text);
	curl_easy_setopt(t->easy, CURLOPT_URL, r->url);
	curl_easy_setopt(t->easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(t->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, (long)timeout);
	curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS,
			 (long)(r->connect_timeout_ms ? r->connect_timeout_ms : CONNECT_MS));
	curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(t->easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(t->easy, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(t->easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BYTES);
	if (!c->proxy)
		curl_easy_setopt(t->easy, CURLOPT_PROXY, "");
	set_tls(t);
	set_headers(t);
	set_method(t);
	c->n_running++;
	asya_list_add_tail(&c->running, &t->link);
	curl_multi_add_handle(c->multi, t->easy);
}

static void start_waiting(struct asya_http_client *c)
{
	struct asya_link *l;

	while (c->n_running < c->connections && (l = asya_list_pop(&c->waiting)))
		start(c, asya_container_of(l, struct asya_http_request, link));
}

/* ---- answers ---- */

static void on_handle_closed(uv_handle_t *h)
{
	struct asya_http_client *c = h->data;
	struct asya_link *l;

	if (--c->handles)
		return;
	while ((l = asya_list_pop(&c->spare)))
		transfer_free(asya_container_of(l, struct transfer, link));
	free(c->ca_file);
	free(c->cert_file);
	free(c->key_file);
	if (c->closed)
		c->closed(c->closed_user);
	free(c);
}

static void close_handle(struct asya_http_client *c, uv_handle_t *h)
{
	h->data = c;
	uv_close(h, on_handle_closed);
}

static void end(struct asya_http_client *c)
{
	curl_multi_cleanup(c->multi); /* closes the watches */
	curl_global_cleanup();
	close_handle(c, (uv_handle_t *)&c->timer);
	close_handle(c, (uv_handle_t *)&c->tick);
}

static void on_tick(uv_timer_t *timer)
{
	struct asya_http_client *c = asya_container_of(timer, struct asya_http_client, tick);
	struct asya_link *l;

	c->ticking = true;
	while ((l = asya_list_pop(&c->finished))) {
		struct transfer *t = asya_container_of(l, struct transfer, link);

		t->r->transfer = NULL;
		t->r->done(t->r, t->failed ? NULL : &t->answer, t->failed ? &t->err : NULL);
		transfer_give_back(t);
	}
	c->ticking = false;
	if (c->closing)
		end(c);
	else
		start_waiting(c);
}

/* ---- libcurl and libuv ---- */

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct watch *w = asya_container_of(poll, struct watch, poll);
	struct asya_http_client *c = w->client;
	int flags = 0, running;

	if (status < 0)
		flags = CURL_CSELECT_ERR;
	if (events & (UV_READABLE | UV_DISCONNECT))
		flags |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		flags |= CURL_CSELECT_OUT;
	curl_multi_socket_action(c->multi, w->socket, flags, &running);
	reap(c);
}

static void on_watch_closed(uv_handle_t *h)
{
	struct watch *w = h->data;
	struct asya_http_client *c = w->client;

	free(w);
	h = (uv_handle_t *)&c->timer;
	h->data = c;
	on_handle_closed(h);
}

static int on_socket(CURL *easy, curl_socket_t s, int what, void *user, void *assigned)
{
	struct asya_http_client *c = user;
	struct watch *w = assigned;
	int events = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (w) {
			uv_poll_stop(&w->poll);
			w->poll.data = w;
			uv_close((uv_handle_t *)&w->poll, on_watch_closed);
			curl_multi_assign(c->multi, s, NULL);
		}
		return 0;
	}
	if (!w) {
		w = asya_new0(struct watch);
		w->client = c;
		w->socket = s;
		if (uv_poll_init_socket(c->loop, &w->poll, s)) {
			free(w);
			return -1;
		}
		c->handles++;
		curl_multi_assign(c->multi, s, w);
	}
	if (what != CURL_POLL_OUT)
		events |= UV_READABLE;
	if (what != CURL_POLL_IN)
		events |= UV_WRITABLE;
	return uv_poll_start(&w->poll, events, on_poll) ? -1 : 0;
}

static void on_timeout(uv_timer_t *timer)
{
	struct asya_http_client *c = asya_container_of(timer, struct asya_http_client, timer);
	int running;

	curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	reap(c);
}

static int on_timer(CURLM *multi, long ms, void *user)
{
	struct asya_http_client *c = user;

	(void)multi;
	if (ms < 0)
		uv_timer_stop(&c->timer);
	else
		uv_timer_start(&c->timer, on_timeout, (uint64_t)ms, 0);
	return 0;
}

/* ---- */

void asya_http_send(struct asya_http_client *c, struct asya_http_request *r)
{
	r->transfer = NULL;
	asya_list_add_tail(&c->waiting, &r->link);
	if (!c->ticking)
		start_waiting(c);
}

static void fail(struct transfer *t, const char *why)
{
	struct asya_str url = shown(t->r->url);

	t->failed = true;
	asya_error_set(&t->err, ASYA_ADVICE_NONE, "%s %.*s: %s", t->r->method, ASYA_STR_ARG(url),
		       why);
}

void asya_http_cancel(struct asya_http_client *c, struct asya_http_request *r)
{
	struct transfer *t = r->transfer;

	if (!t) { /* it waits */
		asya_list_remove(&r->link);
		t = transfer_take(c);
		t->r = r;
		r->transfer = t;
		asya_list_add_tail(&c->finished, &t->link);
		ring(c);
	} else if (t->headers) { /* it runs */
		finish(t);
	}
	fail(t, c->closing ? "the client was closed" : "cancelled");
}

static char *copy(const char *text)
{
	return text && *text ? asya_strdup(text) : NULL;
}

int asya_http_client_open(struct asya_http_client **ret, uv_loop_t *loop,
			  const struct asya_http_client_config *config, struct asya_error *err)
{
	struct asya_http_client *c;
	CURLM *multi;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) || !(multi = curl_multi_init()))
		return asya_error_set(err, ASYA_FATAL, "libcurl cannot be set up");
	c = asya_new0(struct asya_http_client);
	*c = (struct asya_http_client){.loop = loop,
				       .multi = multi,
				       .connections = config->connections ? config->connections
									  : CONNECTIONS,
				       .ca_file = copy(config->ca_file),
				       .cert_file = copy(config->cert_file),
				       .key_file = copy(config->key_file),
				       .proxy = config->proxy_from_environment,
				       .handles = 2};
	asya_list_init(&c->waiting);
	asya_list_init(&c->running);
	asya_list_init(&c->finished);
	asya_list_init(&c->spare);
	uv_timer_init(loop, &c->timer);
	uv_timer_init(loop, &c->tick);
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, c);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, c);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)c->connections);
	*ret = c;
	return 0;
}

void asya_http_client_close(struct asya_http_client *c, void (*done)(void *user), void *user)
{
	c->closed = done;
	c->closed_user = user;
	c->closing = true;
	while (!asya_list_empty(&c->waiting))
		asya_http_cancel(
			c, asya_container_of(c->waiting.next, struct asya_http_request, link));
	while (!asya_list_empty(&c->running))
		asya_http_cancel(c, asya_container_of(c->running.next, struct transfer, link)->r);
	ring(c);
}

struct asya_str asya_http_answer_header(const struct asya_http_answer *a, const char *name)
{
	size_t n = strlen(name);
	const char *p = a->headers.p, *end = p + a->headers.n;

	while (p && p < end) {
		const char *eol = memchr(p, '\n', (size_t)(end - p));
		struct asya_str v;

		eol = eol ? eol : end;
		if ((size_t)(eol - p) > n && p[n] == ':' && strncasecmp(p, name, n) == 0) {
			v = (struct asya_str){p + n + 1, (size_t)(eol - p) - n - 1};
			for (; v.n && isspace((unsigned char)*v.p); v.n--)
				v.p++;
			for (; v.n && isspace((unsigned char)v.p[v.n - 1]); v.n--)
				;
			return v;
		}
		p = eol + 1;
	}
	return ASYA_STR_NONE;
}
