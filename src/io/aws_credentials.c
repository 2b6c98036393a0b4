// SPDX-License-Identifier: Apache-2.0
/*
 * A fetch is a few steps, one request at a time; each step's answer begins the next. Whoever wants
 * keys while one is under way waits for it.
 */
#include "io/aws_credentials.h"

#include "base/clock.h"
#include "base/mem.h"
#include "io/aws_profile.h"

#include <yyjson.h>

enum {
	EARLY_US = 300000000, /* fetched anew so long before they expire */
	SPARE_US = 10000000,  /* and not used in the last seconds, where there are more */
	AGAIN_MS = 5000,      /* between fetches in vain, and between refusals */
	METADATA_MS = 1000,   /* an address that most machines do not have */
	STS_MS = 10000,
};

#define ECS_HOST "http://169.254.170.2"
#define IMDS_HOST "http://169.254.169.254"

struct fetch {
	struct asya_http_request http;
	struct asya_arena *arena;
	void (*answered)(struct asya_aws_credentials *c, const struct asya_http_answer *a);
	struct asya_str imds_token;
	const char *source; /* for errors */
};

struct asya_aws_credentials {
	struct asya_http_client *client;
	asya_aws_variable_fn *get;
	void *get_user;
	struct asya_str region;
	uv_timer_t tick;
	struct asya_link wants;

	struct asya_aws_keys keys;      /* heap; no access key: none */
	int64_t fetched_us, expires_us; /* 0: never */
	int64_t next_ms;                /* no fetch before */
	struct asya_error error;        /* of the last fetch */
	bool failed;
	bool given, fetching, closing;
	struct fetch fetch;
	void (*closed)(void *user);
	void *closed_user;
};

/* ---- what is kept ---- */

static struct asya_str copy(struct asya_str s)
{
	return s.n ? (struct asya_str){asya_strndup(s.p, s.n), s.n} : ASYA_STR_NONE;
}

static void wipe(struct asya_str *s)
{
	if (s->p)
		explicit_bzero((char *)s->p, s->n);
	free((char *)s->p);
	*s = ASYA_STR_NONE;
}

static void forget(struct asya_aws_credentials *c)
{
	wipe(&c->keys.access);
	wipe(&c->keys.secret);
	wipe(&c->keys.token);
}

static void keep(struct asya_aws_credentials *c, const struct asya_aws_keys *keys,
		 int64_t expires_us)
{
	forget(c);
	c->keys = (struct asya_aws_keys){copy(keys->access), copy(keys->secret), copy(keys->token)};
	c->fetched_us = asya_clock_wall_us();
	c->expires_us = expires_us;
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static bool usable(const struct asya_aws_credentials *c)
{
	int64_t life = c->expires_us - c->fetched_us;

	return c->keys.access.n &&
	       (!c->expires_us ||
		asya_clock_wall_us() < c->expires_us - least(SPARE_US, life / 10));
}

static bool old(const struct asya_aws_credentials *c)
{
	int64_t life = c->expires_us - c->fetched_us;

	return !c->keys.access.n ||
	       (c->expires_us && asya_clock_wall_us() >= c->expires_us - least(EARLY_US, life / 3));
}

/* ---- the end of a fetch ---- */

static void on_tick(uv_timer_t *t);

static void ring(struct asya_aws_credentials *c)
{
	uv_timer_start(&c->tick, on_tick, 0, 0);
}

static void end_fetch(struct asya_aws_credentials *c)
{
	c->fetching = false;
	c->fetch.arena = asya_arena_free(c->fetch.arena);
	ring(c);
}

/* `c->error` says why. */
static void fail(struct asya_aws_credentials *c)
{
	asya_error_wrap(&c->error, "AWS credentials from %s", c->fetch.source);
	c->error.advice = ASYA_RETRY;
	c->failed = true;
	c->next_ms = asya_clock_mono_ms() + AGAIN_MS;
	end_fetch(c);
}

static void succeed(struct asya_aws_credentials *c, const struct asya_aws_keys *keys,
		    int64_t expires_us)
{
	if (!keys->access.n || !keys->secret.n) {
		asya_error_set(&c->error, ASYA_RETRY, "there is no key, or no secret key");
		fail(c);
		return;
	}
	keep(c, keys, expires_us);
	c->failed = false;
	end_fetch(c);
}

/* ---- requests ---- */

static void on_answer(struct asya_http_request *r, struct asya_http_answer *a,
		      const struct asya_error *err)
{
	struct asya_aws_credentials *c = r->user;

	if (err || a->status != 200) {
		if (err)
			c->error = *err;
		else
			asya_error_set(&c->error, ASYA_RETRY, "the answer is status %u", a->status);
		fail(c);
		return;
	}
	c->fetch.answered(c, a);
}

static void ask(struct asya_aws_credentials *c, const char *method, const char *url,
		const struct asya_http_header *header, int64_t timeout_ms,
		void (*answered)(struct asya_aws_credentials *c, const struct asya_http_answer *a))
{
	struct fetch *f = &c->fetch;
	struct asya_http_header *h = asya_arena_new0(f->arena, struct asya_http_header);
	struct asya_str body = f->http.body;

	if (header)
		*h = *header;
	f->answered = answered;
	f->http = (struct asya_http_request){.method = method,
					     .url = url,
					     .headers = h,
					     .n_headers = header ? 1 : 0,
					     .body = body,
					     .timeout_ms = timeout_ms,
					     .connect_timeout_ms = timeout_ms,
					     .max_bytes = 65536,
					     .done = on_answer,
					     .user = c};
	asya_http_send(c->client, &f->http);
}

static struct asya_str member(yyjson_val *object, const char *name)
{
	yyjson_val *v = yyjson_obj_get(object, name);

	return yyjson_is_str(v) ? (struct asya_str){yyjson_get_str(v), yyjson_get_len(v)}
				: ASYA_STR_NONE;
}

static void finish(struct asya_aws_credentials *c, const struct asya_aws_keys *keys,
		   struct asya_str expiration)
{
	int64_t expires_us = 0;

	if (expiration.n && asya_time_parse(&expires_us, expiration)) {
		asya_error_set(&c->error, ASYA_RETRY, "the time of their end cannot be read");
		fail(c);
		return;
	}
	succeed(c, keys, expires_us);
}

/* ECS, pod identity and IMDS answer alike. */
static void answered_json(struct asya_aws_credentials *c, const struct asya_http_answer *a)
{
	yyjson_doc *doc = yyjson_read(a->body.p, a->body.n, 0);
	yyjson_val *root = yyjson_doc_get_root(doc);
	const struct asya_aws_keys keys = {member(root, "AccessKeyId"),
					   member(root, "SecretAccessKey"), member(root, "Token")};

	finish(c, &keys, member(root, "Expiration"));
	yyjson_doc_free(doc);
}

/* The text of the first element of that name. */
static struct asya_str element(struct asya_arena *arena, struct asya_str xml, const char *name)
{
	struct asya_str tag = asya_arena_printf(arena, "<%s>", name);
	const char *p = xml.n ? memmem(xml.p, xml.n, tag.p, tag.n) : NULL, *end;

	if (!p)
		return ASYA_STR_NONE;
	p += tag.n;
	end = memchr(p, '<', xml.n - (size_t)(p - xml.p));
	return end ? (struct asya_str){p, (size_t)(end - p)} : ASYA_STR_NONE;
}

static void answered_sts(struct asya_aws_credentials *c, const struct asya_http_answer *a)
{
	struct asya_arena *arena = c->fetch.arena;
	struct asya_str xml = asya_buf_view(&a->body);
	const struct asya_aws_keys keys = {element(arena, xml, "AccessKeyId"),
					   element(arena, xml, "SecretAccessKey"),
					   element(arena, xml, "SessionToken")};

	finish(c, &keys, element(arena, xml, "Expiration"));
}

/* ---- where keys come from: 1 if it is not configured ---- */

static const char *get(struct asya_aws_credentials *c, const char *name)
{
	const char *v = c->get(c->get_user, name);

	return v && *v ? v : NULL;
}

static int from_environment(struct asya_aws_credentials *c)
{
	const struct asya_aws_keys keys = {asya_str_c(get(c, "AWS_ACCESS_KEY_ID")),
					   asya_str_c(get(c, "AWS_SECRET_ACCESS_KEY")),
					   asya_str_c(get(c, "AWS_SESSION_TOKEN"))};

	c->fetch.source = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
	if (!keys.access.n)
		return 1;
	succeed(c, &keys, 0);
	return 0;
}

static void add_field(struct asya_buf *b, const char *name, struct asya_str value)
{
	asya_buf_printf(b, "%s%s=", b->n ? "&" : "", name);
	asya_uri_encode(b, value, 0);
}

static const char *sts_url(struct asya_aws_credentials *c)
{
	const char *url = get(c, "AWS_ENDPOINT_URL_STS");

	return url ? url
		   : asya_arena_printf(c->fetch.arena, "https://sts.%.*s.amazonaws.com%s/",
				       ASYA_STR_ARG(c->region),
				       asya_str_starts(c->region, "cn-") ? ".cn" : "")
			       .p;
}

static int assume(struct asya_aws_credentials *c, const char *file, struct asya_str role,
		  struct asya_str session)
{
	static const struct asya_http_header form = {ASYA_STR("Content-Type"),
						     ASYA_STR("application/x-www-form-urlencoded")};
	struct asya_arena *arena = c->fetch.arena;
	struct asya_buf b = {0};
	struct asya_str token;
	int code = asya_aws_file_read(&token, arena, file, &c->error);

	if (code) {
		if (code > 0)
			asya_error_set(&c->error, ASYA_RETRY, "there is no file '%s'", file);
		fail(c);
		return 0;
	}
	add_field(&b, "Action", ASYA_STR("AssumeRoleWithWebIdentity"));
	add_field(&b, "Version", ASYA_STR("2011-06-15"));
	add_field(&b, "RoleArn", role);
	add_field(&b, "RoleSessionName", session.n ? session : ASYA_STR("asya"));
	add_field(&b, "WebIdentityToken", token);
	c->fetch.http.body = asya_arena_str(arena, asya_buf_view(&b));
	asya_buf_fini(&b);
	ask(c, "POST", sts_url(c), &form, STS_MS, answered_sts);
	return 0;
}

static int from_web_identity(struct asya_aws_credentials *c)
{
	const char *file = get(c, "AWS_WEB_IDENTITY_TOKEN_FILE"), *role = get(c, "AWS_ROLE_ARN");

	c->fetch.source = "AWS_WEB_IDENTITY_TOKEN_FILE";
	if (!file || !role)
		return 1;
	return assume(c, file, asya_str_c(role), asya_str_c(get(c, "AWS_ROLE_SESSION_NAME")));
}

static int from_section(struct asya_aws_credentials *c, struct asya_str text, const char *profile,
			bool prefixed)
{
	static const char *const others[] = {"source_profile", "credential_source",
					     "credential_process", "sso_session", "sso_start_url"};
	struct asya_arena *arena = c->fetch.arena;
	struct asya_str role, file;
	const struct asya_aws_keys keys = {
		asya_aws_profile_get(text, profile, prefixed, "aws_access_key_id"),
		asya_aws_profile_get(text, profile, prefixed, "aws_secret_access_key"),
		asya_aws_profile_get(text, profile, prefixed, "aws_session_token")};

	role = asya_aws_profile_get(text, profile, prefixed, "role_arn");
	file = asya_aws_profile_get(text, profile, prefixed, "web_identity_token_file");
	if (role.n && file.n)
		return assume(c, asya_arena_cstr(arena, file), role,
			      asya_aws_profile_get(text, profile, prefixed, "role_session_name"));
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(others); i++) {
		if (!asya_aws_profile_get(text, profile, prefixed, others[i]).n)
			continue;
		asya_error_set(&c->error, ASYA_RETRY,
			       "%s of profile '%s' is not supported; use keys, or "
			       "web_identity_token_file with role_arn",
			       others[i], profile);
		fail(c);
		return 0;
	}
	if (!keys.access.n)
		return 1;
	succeed(c, &keys, 0);
	return 0;
}

static int from_file(struct asya_aws_credentials *c, const char *variable, const char *name,
		     bool prefixed)
{
	struct asya_arena *arena = c->fetch.arena;
	const char *path = get(c, variable), *home = get(c, "HOME"), *profile;
	struct asya_str text;
	int code;

	if (!path && !home)
		return 1;
	if (!path)
		path = asya_arena_printf(arena, "%s/.aws/%s", home, name).p;
	profile = get(c, "AWS_PROFILE");
	c->fetch.source = path;
	code = asya_aws_file_read(&text, arena, path, &c->error);
	if (code < 0) {
		fail(c);
		return 0;
	}
	return code ? code : from_section(c, text, profile ? profile : "default", prefixed);
}

static int from_profile(struct asya_aws_credentials *c)
{
	int code = from_file(c, "AWS_SHARED_CREDENTIALS_FILE", "credentials", false);

	if (code > 0)
		code = from_file(c, "AWS_CONFIG_FILE", "config", true);
	if (code == 0 || !get(c, "AWS_PROFILE"))
		return code;
	c->fetch.source = "AWS_PROFILE";
	asya_error_set(&c->error, ASYA_RETRY, "no file has keys for profile '%s'",
		       get(c, "AWS_PROFILE"));
	fail(c);
	return 0;
}

/* Tokens go in clear only to this machine and its link-local neighbours. */
static bool may_ask(const char *url)
{
	static const char *const hosts[] = {"http://localhost",      "http://127.",
					    "http://[::1]",          "http://169.254.170.2",
					    "http://169.254.170.23", "http://[fd00:ec2::23]"};

	if (strncmp(url, "https://", 8) == 0)
		return true;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(hosts); i++) {
		size_t n = strlen(hosts[i]);

		if (strncmp(url, hosts[i], n) == 0 &&
		    (hosts[i][n - 1] == '.'
			     ? strspn(url + n, "0123456789.") == strcspn(url + n, ":/?#")
			     : !url[n] || strchr(":/?#", url[n])))
			return true;
	}
	return false;
}

static int container_token(struct asya_aws_credentials *c, struct asya_str *ret)
{
	const char *file = get(c, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	int code = 0;

	*ret = asya_str_c(get(c, "AWS_CONTAINER_AUTHORIZATION_TOKEN"));
	if (file)
		code = asya_aws_file_read(ret, c->fetch.arena, file, &c->error);
	if (code > 0)
		return asya_error_set(&c->error, ASYA_RETRY, "there is no file '%s'", file);
	if (code == 0 && ret->n && (memchr(ret->p, '\n', ret->n) || memchr(ret->p, '\r', ret->n)))
		return asya_error_set(&c->error, ASYA_RETRY,
				      "the authorization token has several lines");
	return code;
}

static int from_container(struct asya_aws_credentials *c)
{
	const char *relative = get(c, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = get(c, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
	struct asya_http_header auth = {.name = ASYA_STR("Authorization")};

	c->fetch.source = relative ? "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
				   : "AWS_CONTAINER_CREDENTIALS_FULL_URI";
	if (!relative && !full)
		return 1;
	if (relative)
		full = asya_arena_printf(c->fetch.arena, ECS_HOST "%s", relative).p;
	if (!may_ask(full)) {
		asya_error_set(&c->error, ASYA_RETRY,
			       "it must be https, or http to a loopback address or the agent's");
		fail(c);
	} else if (container_token(c, &auth.value)) {
		fail(c);
	} else {
		ask(c, "GET", full, auth.value.n ? &auth : NULL, METADATA_MS * 5, answered_json);
	}
	return 0;
}

static const char *imds_url(struct asya_aws_credentials *c, const char *path)
{
	const char *base = get(c, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
	struct asya_str s = asya_str_c(base ? base : IMDS_HOST);

	while (asya_str_ends(s, "/"))
		s.n--;
	return asya_arena_printf(c->fetch.arena, "%.*s/latest/%s", ASYA_STR_ARG(s), path).p;
}

static void ask_imds(struct asya_aws_credentials *c, struct asya_str role,
		     void (*answered)(struct asya_aws_credentials *c,
				      const struct asya_http_answer *a))
{
	const struct asya_http_header h = {ASYA_STR("X-aws-ec2-metadata-token"),
					   c->fetch.imds_token};
	struct asya_str path = asya_arena_printf(
		c->fetch.arena, "meta-data/iam/security-credentials/%.*s", ASYA_STR_ARG(role));

	ask(c, "GET", imds_url(c, path.p), &h, METADATA_MS * 2, answered);
}

static void answered_role(struct asya_aws_credentials *c, const struct asya_http_answer *a)
{
	struct asya_str role = asya_buf_view(&a->body);
	const char *eol = role.n ? memchr(role.p, '\n', role.n) : NULL;

	role.n = eol ? (size_t)(eol - role.p) : role.n;
	ask_imds(c, asya_arena_str(c->fetch.arena, role), answered_json);
}

static void answered_token(struct asya_aws_credentials *c, const struct asya_http_answer *a)
{
	c->fetch.imds_token = asya_arena_str(c->fetch.arena, asya_buf_view(&a->body));
	ask_imds(c, ASYA_STR(""), answered_role);
}

static int from_instance(struct asya_aws_credentials *c)
{
	static const struct asya_http_header ttl = {
		ASYA_STR("X-aws-ec2-metadata-token-ttl-seconds"), ASYA_STR("21600")};
	const char *off = get(c, "AWS_EC2_METADATA_DISABLED");

	c->fetch.source = "the instance's metadata (no other source is configured)";
	if (off && strcasecmp(off, "true") == 0)
		return 1;
	ask(c, "PUT", imds_url(c, "api/token"), &ttl, METADATA_MS, answered_token);
	return 0;
}

static void begin_fetch(struct asya_aws_credentials *c)
{
	static int (*const sources[])(struct asya_aws_credentials * c) = {
		from_environment, from_web_identity, from_profile, from_container, from_instance};

	c->fetch = (struct fetch){.arena = asya_arena_new(), .source = "anywhere"};
	c->fetching = true;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(sources); i++)
		if (sources[i](c) == 0)
			return;
	c->fetch.source = "anywhere";
	asya_error_set(&c->error, ASYA_RETRY,
		       "none are configured: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
		       "AWS_PROFILE, a role of the pod or one of the instance");
	fail(c);
}

/* ---- */

static void answer_all(struct asya_aws_credentials *c, const struct asya_error *err)
{
	struct asya_link now, *l;

	asya_list_init(&now);
	asya_list_splice(&now, &c->wants);
	while ((l = asya_list_pop(&now))) {
		struct asya_aws_want *w = asya_container_of(l, struct asya_aws_want, link);

		w->done(w, err ? NULL : &c->keys, err);
	}
}

static void on_tick(uv_timer_t *t)
{
	struct asya_aws_credentials *c = asya_container_of(t, struct asya_aws_credentials, tick);
	struct asya_error err = c->error;

	if (usable(c))
		answer_all(c, NULL);
	else if (!c->fetching && c->failed && asya_clock_mono_ms() < c->next_ms)
		answer_all(c, &err);
	if (!c->closing && !c->fetching && !asya_list_empty(&c->wants))
		begin_fetch(c);
}

bool asya_aws_credentials_have(struct asya_aws_credentials *c, struct asya_aws_keys *ret)
{
	if (!usable(c))
		return false;
	if (!c->given && old(c) && !c->fetching && asya_clock_mono_ms() >= c->next_ms)
		begin_fetch(c);
	if (!usable(c))
		return false;
	*ret = c->keys;
	return true;
}

void asya_aws_credentials_want(struct asya_aws_credentials *c, struct asya_aws_want *w)
{
	asya_list_add_tail(&c->wants, &w->link);
	ring(c);
}

void asya_aws_credentials_refused(struct asya_aws_credentials *c)
{
	int64_t now = asya_clock_mono_ms();

	if (c->given || c->fetching || now < c->next_ms)
		return;
	c->next_ms = now + AGAIN_MS;
	c->failed = false;
	forget(c);
}

struct asya_aws_credentials *
asya_aws_credentials_new(uv_loop_t *loop, struct asya_http_client *client,
			 const struct asya_aws_keys *given, struct asya_str region,
			 asya_aws_variable_fn *get_variable, void *get_user)
{
	struct asya_aws_credentials *c = asya_new0(struct asya_aws_credentials);

	*c = (struct asya_aws_credentials){.client = client,
					   .get = get_variable,
					   .get_user = get_user,
					   .region = copy(region)};
	asya_list_init(&c->wants);
	uv_timer_init(loop, &c->tick);
	if (given && given->access.n) {
		keep(c, given, 0);
		c->given = true;
	}
	return c;
}

static void on_closed(uv_handle_t *h)
{
	struct asya_aws_credentials *c =
		asya_container_of((uv_timer_t *)h, struct asya_aws_credentials, tick);
	struct asya_error err;

	asya_error_set(&err, ASYA_RETRY, "AWS credentials: closed while waiting for them");
	answer_all(c, &err);
	forget(c);
	free((char *)c->region.p);
	asya_arena_free(c->fetch.arena);
	if (c->closed)
		c->closed(c->closed_user);
	free(c);
}

/* The request's `done` comes after; it finds nothing of this. */
static void on_orphan(struct asya_http_request *r, struct asya_http_answer *a,
		      const struct asya_error *err)
{
	struct asya_aws_credentials *c = r->user;

	(void)a;
	(void)err;
	uv_close((uv_handle_t *)&c->tick, on_closed);
}

void asya_aws_credentials_close(struct asya_aws_credentials *c, void (*done)(void *user),
				void *user)
{
	c->closed = done;
	c->closed_user = user;
	c->closing = true;
	uv_timer_stop(&c->tick);
	if (c->fetching) {
		c->fetch.http.done = on_orphan;
		asya_http_cancel(c->client, &c->fetch.http);
	} else {
		uv_close((uv_handle_t *)&c->tick, on_closed);
	}
}
