// SPDX-License-Identifier: Apache-2.0
#include "io/aws_client.h"

#include "base/clock.h"
#include "base/mem.h"

enum { HEADERS_MAX = 16 };

struct asya_aws_client {
	struct asya_http_client *http;
	struct asya_aws_credentials *credentials;
	char *service, *region, *endpoint;
	struct asya_str host, prefix; /* of the endpoint; the path before every other */
	void (*closed)(void *user);
	void *closed_user;
};

static void finish(struct asya_aws_request *r, struct asya_http_answer *answer,
		   const struct asya_error *err)
{
	r->arena = asya_arena_free(r->arena);
	r->done(r, answer, err);
}

/* Whether the service says that it is the keys. */
static bool keys_refused(const struct asya_http_answer *a)
{
	static const char *const codes[] = {"ExpiredToken", "InvalidClientTokenId",
					    "UnrecognizedClient", "InvalidAccessKeyId"};

	if (a->status != 400 && a->status != 401 && a->status != 403)
		return false;
	for (size_t i = 0; a->body.n && i < ASYA_ARRAY_SIZE(codes); i++)
		if (memmem(a->body.p, a->body.n, codes[i], strlen(codes[i])))
			return true;
	return false;
}

static void on_http(struct asya_http_request *http, struct asya_http_answer *answer,
		    const struct asya_error *err)
{
	struct asya_aws_request *r = http->user;

	if (answer && keys_refused(answer))
		asya_aws_credentials_refused(r->client->credentials);
	finish(r, answer, err);
}

/* The path as it stands in the URL. */
static struct asya_str whole_path(const struct asya_aws_request *r)
{
	struct asya_buf b = {0};
	struct asya_str ret;

	asya_buf_str(&b, r->client->prefix);
	asya_buf_str(&b, r->path);
	ret = asya_arena_str(r->arena, asya_buf_view(&b));
	asya_buf_fini(&b);
	return ret;
}

static void sign_and_send(struct asya_aws_request *r, const struct asya_aws_keys *keys)
{
	struct asya_aws_client *c = r->client;
	struct asya_http_header *headers =
		asya_arena_array(r->arena, struct asya_http_header, HEADERS_MAX);
	const struct asya_sigv4 s = {.keys = *keys,
				     .region = asya_str_c(c->region),
				     .service = asya_str_c(c->service),
				     .time_us = asya_clock_wall_us(),
				     .flags = r->flags,
				     .method = asya_str_c(r->method),
				     .host = c->host,
				     .path = whole_path(r),
				     .query = r->query,
				     .headers = r->headers,
				     .n_headers = r->n_headers,
				     .body = r->body};
	struct asya_buf url = {0};
	size_t n = asya_sigv4_sign(headers, r->arena, &s);

	for (size_t i = 0; i < r->n_headers && n < HEADERS_MAX; i++)
		headers[n++] = r->headers[i];
	asya_buf_c(&url, c->endpoint);
	asya_buf_str(&url, r->path);
	if (r->query.n)
		asya_buf_char(&url, '?');
	asya_buf_str(&url, r->query);
	r->http = (struct asya_http_request){.method = r->method,
					     .url = asya_arena_cstr(r->arena, asya_buf_view(&url)),
					     .headers = headers,
					     .n_headers = n,
					     .body = r->body,
					     .timeout_ms = r->timeout_ms,
					     .max_bytes = r->max_bytes,
					     .done = on_http,
					     .user = r};
	asya_buf_fini(&url);
	asya_http_send(c->http, &r->http);
}

static void on_keys(struct asya_aws_want *w, const struct asya_aws_keys *keys,
		    const struct asya_error *err)
{
	struct asya_aws_request *r = w->user;

	if (err)
		finish(r, NULL, err);
	else
		sign_and_send(r, keys);
}

void asya_aws_send(struct asya_aws_client *c, struct asya_aws_request *r)
{
	struct asya_aws_keys keys;

	r->client = c;
	r->arena = asya_arena_new();
	if (asya_aws_credentials_have(c->credentials, &keys)) {
		sign_and_send(r, &keys);
		return;
	}
	r->want = (struct asya_aws_want){.done = on_keys, .user = r};
	asya_aws_credentials_want(c->credentials, &r->want);
}

/* Where the host begins in `endpoint`, or NULL. */
static const char *host_of(const char *endpoint, size_t *ret_n)
{
	const char *host = NULL;

	if (strncmp(endpoint, "https://", 8) == 0)
		host = endpoint + 8;
	else if (strncmp(endpoint, "http://", 7) == 0)
		host = endpoint + 7;
	if (!host)
		return NULL;
	*ret_n = strcspn(host, "/?#");
	return *ret_n && !memchr(host, '@', *ret_n) ? host : NULL;
}

int asya_aws_client_open(struct asya_aws_client **ret, uv_loop_t *loop,
			 const struct asya_aws_client_config *config, struct asya_error *err)
{
	const struct asya_http_client_config http = {.connections = config->connections,
						     .ca_file = config->ca_file};
	struct asya_aws_client *c;
	const char *host;
	size_t n, all = strlen(config->endpoint);

	host = host_of(config->endpoint, &n);
	if (!host)
		return asya_error_set(err, ASYA_FATAL,
				      "the endpoint '%.200s' must be a URL like "
				      "https://host:port",
				      config->endpoint);
	while (all && config->endpoint[all - 1] == '/')
		all--;
	c = asya_new0(struct asya_aws_client);
	if (asya_http_client_open(&c->http, loop, &http, err)) {
		free(c);
		return -1;
	}
	c->service = asya_strdup(config->service);
	c->region = asya_strdup(config->region);
	c->endpoint = asya_strndup(config->endpoint, all);
	c->host = (struct asya_str){c->endpoint + (host - config->endpoint), n};
	c->prefix = asya_str_c(c->host.p + n);
	c->credentials = asya_aws_credentials_new(
		loop, c->http, &config->keys, asya_str_c(c->region), config->get, config->get_user);
	*ret = c;
	return 0;
}

static void on_client_closed(void *user)
{
	struct asya_aws_client *c = user;

	free(c->service);
	free(c->region);
	free(c->endpoint);
	if (c->closed)
		c->closed(c->closed_user);
	free(c);
}

static void on_credentials_closed(void *user)
{
	struct asya_aws_client *c = user;

	asya_http_client_close(c->http, on_client_closed, c);
}

void asya_aws_client_close(struct asya_aws_client *c, void (*done)(void *user), void *user)
{
	c->closed = done;
	c->closed_user = user;
	asya_aws_credentials_close(c->credentials, on_credentials_closed, c);
}
