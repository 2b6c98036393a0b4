// SPDX-License-Identifier: Apache-2.0
#include "store/s3/s3.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "io/aws_client.h"

#include <ctype.h>

enum { TRIES = 5, FIRST_MS = 100, AGAIN_MS = 50, TIMEOUT_MS = 30000, CONNECTIONS = 32 };

struct request {
	struct asya_link link; /* in `later` */
	struct asya_s3 *s3;
	struct asya_s3_op *op;
	struct asya_aws_request aws;
	struct asya_buf path;
	unsigned failures;
	int64_t again_ms;
};

struct asya_s3 {
	struct asya_aws_client *client;
	char *bucket;
	bool path_style;
	struct asya_link later;
	uv_timer_t again;
	unsigned n;
	bool closing, ending;
	void (*closed)(void *user);
	void *closed_user;
};

static void close_step(struct asya_s3 *s3);

/* ---- the end of a request ---- */

static void finish(struct request *r, struct asya_buf *body, struct asya_error *err)
{
	struct asya_s3 *s3 = r->s3;
	struct asya_s3_op *op = r->op;

	if (err)
		asya_error_wrap(err, "%s '%.*s' in bucket '%s'",
				r->aws.method[0] == 'P' ? "keeping" : "reading",
				(int)(op->key.n > 300 ? 300 : op->key.n), op->key.p, s3->bucket);
	op->done(op, err ? -1 : 0, err ? NULL : body, err);
	asya_buf_fini(&r->path);
	free(r);
	s3->n--;
	close_step(s3);
}

static void on_again(uv_timer_t *t);

/* Whether it will be tried once more. */
static bool again(struct request *r)
{
	struct asya_s3 *s3 = r->s3;
	int64_t most = FIRST_MS << r->failures;

	if (++r->failures >= TRIES || s3->closing)
		return false;
	r->again_ms = asya_clock_mono_ms() + most / 2 + rand() % most;
	asya_list_add_tail(&s3->later, &r->link);
	uv_timer_start(&s3->again, on_again, AGAIN_MS, AGAIN_MS);
	return true;
}

static struct asya_str element(const struct asya_buf *xml, const char *open)
{
	const char *p = xml->n ? memmem(xml->p, xml->n, open, strlen(open)) : NULL, *end;

	if (!p)
		return ASYA_STR_NONE;
	p += strlen(open);
	end = memchr(p, '<', xml->n - (size_t)(p - xml->p));
	return end ? (struct asya_str){p, end - p > 200 ? 200 : (size_t)(end - p)} : ASYA_STR_NONE;
}

static void refused(struct request *r, const struct asya_http_answer *a)
{
	struct asya_str code = element(&a->body, "<Code>");
	struct asya_str message = element(&a->body, "<Message>");
	bool gone =
		a->status == 404 && r->aws.method[0] == 'G' && !asya_str_eq_c(code, "NoSuchBucket");
	struct asya_error err;

	if ((a->status >= 500 || a->status == 429 || a->status == 408) && again(r))
		return;
	asya_error_set(&err, gone ? ASYA_REJECT : ASYA_RETRY, "status %u%s%.*s%s%.*s", a->status,
		       code.n ? ", " : "", ASYA_STR_ARG(code), message.n ? ": " : "",
		       ASYA_STR_ARG(message));
	finish(r, NULL, &err);
}

static void on_answer(struct asya_aws_request *aws, struct asya_http_answer *a,
		      const struct asya_error *err)
{
	struct request *r = aws->user;
	struct asya_error copy;

	if (a && a->status == 200) {
		finish(r, &a->body, NULL);
	} else if (a) {
		refused(r, a);
	} else {
		copy = *err;
		if (copy.advice == ASYA_RETRY && again(r))
			return;
		finish(r, NULL, &copy);
	}
}

/* ---- its beginning ---- */

static void on_again(uv_timer_t *t)
{
	struct asya_s3 *s3 = asya_container_of(t, struct asya_s3, again);
	int64_t now = asya_clock_mono_ms();
	struct asya_link *next;

	for (struct asya_link *l = s3->later.next; l != &s3->later; l = next) {
		struct request *r = asya_container_of(l, struct request, link);

		next = l->next;
		if (r->again_ms > now && !s3->closing)
			continue;
		asya_list_remove(l);
		asya_aws_send(s3->client, &r->aws);
	}
	if (asya_list_empty(&s3->later))
		uv_timer_stop(t);
}

static void begin(struct asya_s3 *s3, struct asya_s3_op *op, const char *method)
{
	static const struct asya_http_header type = {ASYA_STR("Content-Type"),
						     ASYA_STR("application/json")};
	bool put = method[0] == 'P';
	struct request *r = asya_new0(struct request);

	r->s3 = s3;
	r->op = op;
	op->request = r;
	s3->n++;
	asya_buf_char(&r->path, '/');
	if (s3->path_style)
		asya_buf_printf(&r->path, "%s/", s3->bucket);
	asya_uri_encode(&r->path, op->key, '/');
	r->aws = (struct asya_aws_request){.method = method,
					   .path = asya_buf_view(&r->path),
					   .headers = &type,
					   .n_headers = put ? 1 : 0,
					   .body = put ? op->body : ASYA_STR_NONE,
					   .flags = ASYA_SIGV4_S3,
					   .timeout_ms = TIMEOUT_MS,
					   .max_bytes = put ? 0 : op->max_bytes,
					   .done = on_answer,
					   .user = r};
	asya_aws_send(s3->client, &r->aws);
}

static void put(struct asya_s3 *s3, struct asya_s3_op *op)
{
	begin(s3, op, "PUT");
}

static void get(struct asya_s3 *s3, struct asya_s3_op *op)
{
	begin(s3, op, "GET");
}

/* ---- opening and closing ---- */

/* A bucket's name becomes part of a path or of a host. */
static bool bucket_valid(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("-._", name[i]))
			return false;
	return n >= 3 && n <= 255 && name[0] != '.' && !strstr(name, "..");
}

static char *endpoint_of(const struct asya_s3_config *c, bool *ret_path_style)
{
	const char *china = strncmp(c->region, "cn-", 3) == 0 ? ".cn" : "";
	const char *host;

	*ret_path_style = false;
	if (!c->endpoint || !*c->endpoint) {
		if (!strchr(c->bucket, '.')) /* certificates cover one label */
			return asya_asprintf("https://%s.s3.%s.amazonaws.com%s", c->bucket,
					     c->region, china);
		*ret_path_style = true;
		return asya_asprintf("https://s3.%s.amazonaws.com%s", c->region, china);
	}
	host = strstr(c->endpoint, "://");
	if (c->virtual_host && host)
		return asya_asprintf("%.*s://%s.%s", (int)(host - c->endpoint), c->endpoint,
				     c->bucket, host + 3);
	*ret_path_style = true;
	return asya_strdup(c->endpoint);
}

static int open_store(struct asya_s3 **ret, uv_loop_t *loop, const struct asya_s3_config *c,
		      struct asya_error *err)
{
	bool path_style;
	_cleanup_(asya_freep) char *endpoint = NULL;
	struct asya_aws_client_config client = {.service = "s3",
						.region = c->region,
						.connections = CONNECTIONS,
						.ca_file = c->ca_file,
						.keys = {c->access, c->secret, ASYA_STR_NONE},
						.get = c->get,
						.get_user = c->get_user};
	struct asya_s3 *s3;

	if (!bucket_valid(c->bucket))
		return asya_error_set(err, ASYA_FATAL, "'%.100s' cannot be the name of a bucket",
				      c->bucket);
	endpoint = endpoint_of(c, &path_style);
	client.endpoint = endpoint;
	s3 = asya_new0(struct asya_s3);
	if (asya_aws_client_open(&s3->client, loop, &client, err)) {
		free(s3);
		return -1;
	}
	s3->bucket = asya_strdup(c->bucket);
	s3->path_style = path_style;
	asya_list_init(&s3->later);
	uv_timer_init(loop, &s3->again);
	*ret = s3;
	return 0;
}

static void on_timer_closed(uv_handle_t *h)
{
	struct asya_s3 *s3 = asya_container_of((uv_timer_t *)h, struct asya_s3, again);

	if (s3->closed)
		s3->closed(s3->closed_user);
	free(s3->bucket);
	free(s3);
}

static void on_client_closed(void *user)
{
	struct asya_s3 *s3 = user;

	uv_close((uv_handle_t *)&s3->again, on_timer_closed);
}

/* Requests that wait for their time are sent at once, to be ended by the client. */
static void close_step(struct asya_s3 *s3)
{
	if (!s3->closing || s3->ending)
		return;
	s3->ending = true;
	asya_aws_client_close(s3->client, on_client_closed, s3);
}

static void close_store(struct asya_s3 *s3, void (*closed)(void *user), void *user)
{
	s3->closed = closed;
	s3->closed_user = user;
	s3->closing = true;
	if (!asya_list_empty(&s3->later))
		on_again(&s3->again);
	close_step(s3);
}

const struct asya_s3_ops asya_s3_backend_ops = {open_store, put, get, close_store};
