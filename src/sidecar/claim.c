// SPDX-License-Identifier: Apache-2.0
#include "sidecar/claim.h"

#include "base/mem.h"
#include "base/sha256.h"
#include "core/json_scan.h"
#include "core/tree.h"

#include <inttypes.h>

enum { DEPTH = 10000 };

static struct asya_str write_envelope(struct claim *c)
{
	struct asya_buf b = {0};
	struct asya_str ret;

	asya_envelope_write(&b, &c->env);
	ret = asya_arena_str(c->arena, asya_buf_view(&b));
	asya_buf_fini(&b);
	return ret;
}

/* ---- reading ---- */

/* The object's key, where the URL is below our prefix of our bucket. */
static int read_claim(struct claim *c, struct asya_str *ret_key, struct asya_error *err)
{
	const struct claims *all = c->claims;
	struct asya_str url = ASYA_STR_NONE, base;
	struct asya_tree *tree;

	c->size = -1;
	if (asya_tree_json_parse(&tree, c->arena, c->env.payload_ref, err) ||
	    asya_tree_read_str(&url, tree, "url", err) ||
	    asya_tree_read_str(&c->sha256, tree, "sha256", err) ||
	    asya_tree_read_i64(&c->size, tree, "size", 0, INT64_MAX, err))
		return asya_error_wrap(err, "payload_ref");
	base = asya_arena_printf(c->arena, "s3://%.*s/%.*s", ASYA_STR_ARG(all->bucket),
				 ASYA_STR_ARG(all->prefix));
	if (!asya_str_starts(url, base.p) || url.n == base.n)
		return asya_error_set(err, ASYA_REJECT,
				      "payload_ref.url is '%.*s', it must begin with '%.*s'",
				      ASYA_STR_ARG(url), ASYA_STR_ARG(base));
	if (c->size < 0 || (uint64_t)c->size > all->max_bytes || c->sha256.n != 64)
		return asya_error_set(err, ASYA_REJECT,
				      "payload_ref must have the sha256 of the payload and its "
				      "size, at most %zu bytes",
				      all->max_bytes);
	*ret_key =
		(struct asya_str){url.p + base.n - all->prefix.n, url.n - base.n + all->prefix.n};
	return 0;
}

static int verify(const struct claim *c, struct asya_str payload, struct asya_error *err)
{
	char hex[ASYA_SHA256_HEX];

	if ((uint64_t)c->size != payload.n ||
	    !asya_str_eq_c(c->sha256, asya_sha256_hex(hex, payload)))
		return asya_error_set(err, ASYA_REJECT,
				      "the payload that was fetched is not the one that was left: "
				      "its size or its hash differs");
	return asya_json_check(payload, DEPTH, err);
}

static void on_got(struct asya_s3_op *op, int status, struct asya_buf *body,
		   const struct asya_error *err)
{
	struct claim *c = op->user;
	struct asya_error why;

	if (status) {
		c->done(c, err);
		return;
	}
	if (verify(c, asya_buf_view(body), &why)) {
		c->done(c, &why);
		return;
	}
	c->env.payload = asya_arena_str(c->arena, asya_buf_view(body));
	c->env.payload_ref = ASYA_STR_NONE;
	c->body = write_envelope(c);
	c->done(c, NULL);
}

int claim_redeem(struct claim *c, const struct asya_envelope *env, struct asya_error *err)
{
	struct asya_str key;

	c->env = *env;
	if (read_claim(c, &key, err))
		return -1;
	c->op = (struct asya_s3_op){
		.key = key, .max_bytes = c->claims->max_bytes, .done = on_got, .user = c};
	c->claims->ops->get(c->claims->s3, &c->op);
	return 0;
}

/* ---- leaving ---- */

static void on_left(struct asya_s3_op *op, int status, struct asya_buf *body,
		    const struct asya_error *err)
{
	struct claim *c = op->user;

	(void)body;
	if (status) {
		c->done(c, err);
		return;
	}
	c->env.payload_ref = asya_arena_printf(
		c->arena, "{\"url\":\"s3://%.*s/%.*s\",\"size\":%zu,\"sha256\":\"%.*s\"}",
		ASYA_STR_ARG(c->claims->bucket), ASYA_STR_ARG(op->key), op->body.n,
		ASYA_STR_ARG(c->sha256));
	c->env.payload = ASYA_STR_NONE;
	c->body = write_envelope(c);
	c->done(c, NULL);
}

/* It is ours already: what we have added to its headers must not make it too large. */
static const struct asya_limits any = {.message_bytes = SIZE_MAX,
				       .depth = DEPTH,
				       .route_actors = SIZE_MAX,
				       .headers = SIZE_MAX,
				       .header_bytes = SIZE_MAX};

int claim_check(struct claim *c, struct asya_str body, struct asya_error *err)
{
	char hex[ASYA_SHA256_HEX];

	if (asya_envelope_parse(&c->env, c->arena, body, &any, err))
		return -1;
	if (!c->env.payload.p)
		return asya_error_set(err, ASYA_REJECT, "there is no payload to leave behind");
	c->sha256 = asya_arena_str(c->arena, asya_str_c(asya_sha256_hex(hex, c->env.payload)));
	c->op = (struct asya_s3_op){.key = asya_arena_printf(c->arena, "%.*s%.*s",
							     ASYA_STR_ARG(c->claims->prefix),
							     ASYA_STR_ARG(c->sha256)),
				    .body = c->env.payload,
				    .done = on_left,
				    .user = c};
	c->claims->ops->put(c->claims->s3, &c->op);
	return 0;
}
