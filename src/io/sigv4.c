// SPDX-License-Identifier: Apache-2.0
#include "io/sigv4.h"

#include "base/mem.h"
#include "base/sha256.h"

#include <ctype.h>
#include <openssl/sha.h>
#include <time.h>

#define ALGORITHM "AWS4-HMAC-SHA256"

void asya_uri_encode(struct asya_buf *out, struct asya_str s, char keep)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c && (isalnum(c) || strchr("-._~", c) || c == (unsigned char)keep) && c < 128)
			asya_buf_char(out, (char)c);
		else
			asya_buf_printf(out, "%%%02X", c);
	}
}

/* ---- the canonical request ---- */

/* RFC 3986, 5.2.4, and repeated slashes are one. */
static void normalise(struct asya_buf *out, struct asya_str path)
{
	size_t at = 0;

	asya_buf_char(out, '/');
	while (at < path.n) {
		size_t n = 0;

		while (at + n < path.n && path.p[at + n] != '/')
			n++;
		if (n == 2 && memcmp(path.p + at, "..", 2) == 0) {
			for (out->n -= out->n > 1; out->n && out->p[out->n - 1] != '/'; out->n--)
				;
		} else if (n && !(n == 1 && path.p[at] == '.')) {
			asya_buf_add(out, path.p + at, n);
			if (at + n < path.n)
				asya_buf_char(out, '/');
		}
		at += n + 1;
	}
}

static void add_path(struct asya_buf *out, const struct asya_sigv4 *s)
{
	struct asya_str path = s->path.n ? s->path : ASYA_STR("/");
	struct asya_buf plain = {0};

	if (s->flags & ASYA_SIGV4_PATH_AS_IS) {
		asya_buf_str(out, path);
		return;
	}
	normalise(&plain, path);
	asya_uri_encode(out, asya_buf_view(&plain), '/');
	asya_buf_fini(&plain);
}

static int hex_value(char c)
{
	return isdigit((unsigned char)c)    ? c - '0'
	       : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
					    : -1;
}

/* Decoded, then encoded as AWS does it. */
static struct asya_str encode_again(struct asya_arena *arena, struct asya_str s)
{
	struct asya_buf plain = {0}, out = {0};
	struct asya_str ret;

	for (size_t i = 0; i < s.n; i++) {
		int high, low;

		if (s.p[i] == '%' && i + 2 < s.n && (high = hex_value(s.p[i + 1])) >= 0 &&
		    (low = hex_value(s.p[i + 2])) >= 0) {
			asya_buf_char(&plain, (char)(high << 4 | low));
			i += 2;
		} else {
			asya_buf_char(&plain, s.p[i]);
		}
	}
	asya_uri_encode(&out, asya_buf_view(&plain), 0);
	ret = asya_arena_str(arena, asya_buf_view(&out));
	asya_buf_fini(&plain);
	asya_buf_fini(&out);
	return ret;
}

static int compare_str(struct asya_str a, struct asya_str b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int order = n ? memcmp(a.p, b.p, n) : 0;

	return order ? order : (a.n > b.n) - (a.n < b.n);
}

static int compare_pairs(const void *a, const void *b)
{
	const struct asya_http_header *x = a, *y = b;
	int order = compare_str(x->name, y->name);

	return order ? order : compare_str(x->value, y->value);
}

static void add_query(struct asya_buf *out, struct asya_arena *arena, struct asya_str query)
{
	struct asya_http_header *pairs =
		asya_arena_array(arena, struct asya_http_header, query.n + 1);
	size_t n = 0;

	for (size_t at = 0, len; at < query.n; at += len + 1) {
		struct asya_str name = {query.p + at, 0}, value = {"", 0};
		const char *equals;

		for (len = 0; at + len < query.n && query.p[at + len] != '&'; len++)
			;
		equals = memchr(name.p, '=', len);
		name.n = equals ? (size_t)(equals - name.p) : len;
		if (equals)
			value = (struct asya_str){equals + 1, len - name.n - 1};
		if (len)
			pairs[n++] = (struct asya_http_header){encode_again(arena, name),
							       encode_again(arena, value)};
	}
	qsort(pairs, n, sizeof(*pairs), compare_pairs);
	for (size_t i = 0; i < n; i++) {
		if (i)
			asya_buf_char(out, '&');
		asya_buf_str(out, pairs[i].name);
		asya_buf_char(out, '=');
		asya_buf_str(out, pairs[i].value);
	}
}

/* Without white space around it, and with one space for several inside. */
static void add_trimmed(struct asya_buf *out, struct asya_str value)
{
	size_t begin = out->n;

	for (size_t i = 0; i < value.n; i++) {
		char c = value.p[i];

		if (!isspace((unsigned char)c))
			asya_buf_char(out, c);
		else if (out->n > begin && out->p[out->n - 1] != ' ')
			asya_buf_char(out, ' ');
	}
	if (out->n > begin && out->p[out->n - 1] == ' ')
		out->n--;
}

struct header {
	struct asya_str name; /* in lower case */
	struct asya_str value;
	size_t order; /* values of the same name stay in their order */
};

static int compare_headers(const void *a, const void *b)
{
	const struct header *x = a, *y = b;
	int order = compare_str(x->name, y->name);

	return order ? order : (x->order > y->order) - (x->order < y->order);
}

static struct header header_of(struct asya_arena *arena, const struct asya_http_header *h, size_t i)
{
	char *name = asya_arena_cstr(arena, h->name);

	for (char *p = name; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return (struct header){{name, h->name.n}, h->value, i};
}

/* Appends the headers' lines; their names, joined by semicolons, to `names`. */
static void add_headers(struct asya_buf *out, struct asya_buf *names, struct asya_arena *arena,
			const struct asya_sigv4 *s, const struct asya_http_header *own,
			size_t n_own)
{
	const struct asya_http_header host = {ASYA_STR("host"), s->host};
	struct header *all = asya_arena_array(arena, struct header, s->n_headers + n_own + 1);
	size_t n = 0;

	all[n++] = header_of(arena, &host, 0);
	for (size_t i = 0; i < n_own; i++, n++)
		all[n] = header_of(arena, &own[i], n);
	for (size_t i = 0; i < s->n_headers; i++, n++)
		all[n] = header_of(arena, &s->headers[i], n);
	qsort(all, n, sizeof(*all), compare_headers);
	for (size_t i = 0; i < n; i++) {
		bool same = i && asya_str_eq(all[i].name, all[i - 1].name);

		if (!same) {
			asya_buf_str(out, all[i].name);
			asya_buf_char(out, ':');
			asya_buf_printf(names, "%s%.*s", i ? ";" : "", ASYA_STR_ARG(all[i].name));
		}
		add_trimmed(out, all[i].value);
		if (i + 1 < n && asya_str_eq(all[i].name, all[i + 1].name))
			asya_buf_char(out, ',');
		else
			asya_buf_char(out, '\n');
	}
}

/* ---- the signature ---- */

static void sign(char out[ASYA_SHA256_HEX], struct asya_arena *arena, const struct asya_sigv4 *s,
		 struct asya_str date, struct asya_str text)
{
	struct asya_str first = asya_arena_printf(arena, "AWS4%.*s", ASYA_STR_ARG(s->keys.secret));
	const struct asya_str steps[] = {date, s->region, s->service, ASYA_STR("aws4_request"),
					 text};
	unsigned char key[ASYA_SHA256_BYTES];

	asya_hmac_sha256(key, first, steps[0]);
	for (size_t i = 1; i < ASYA_ARRAY_SIZE(steps); i++)
		asya_hmac_sha256(key, (struct asya_str){(char *)key, sizeof(key)}, steps[i]);
	asya_sha256_hex_write(out, key);
	explicit_bzero((char *)first.p, first.n);
}

static size_t own_headers(struct asya_http_header *ret, struct asya_arena *arena,
			  const struct asya_sigv4 *s, struct asya_str stamp, struct asya_str hash)
{
	size_t n = 0;

	ret[n++] = (struct asya_http_header){ASYA_STR("X-Amz-Date"), stamp};
	if (s->keys.token.n)
		ret[n++] = (struct asya_http_header){ASYA_STR("X-Amz-Security-Token"),
						     asya_arena_str(arena, s->keys.token)};
	if (s->flags & ASYA_SIGV4_HASH_HEADER)
		ret[n++] = (struct asya_http_header){ASYA_STR("X-Amz-Content-Sha256"), hash};
	return n;
}

static struct asya_str body_hash(struct asya_arena *arena, const struct asya_sigv4 *s)
{
	unsigned char sum[ASYA_SHA256_BYTES];
	char hex[ASYA_SHA256_HEX];

	if (s->flags & ASYA_SIGV4_UNSIGNED)
		return ASYA_STR("UNSIGNED-PAYLOAD");
	/* OpenSSL's, which is here for TLS in any case: several times faster than our own */
	SHA256((const unsigned char *)(s->body.p ? s->body.p : ""), s->body.n, sum);
	asya_sha256_hex_write(hex, sum);
	return asya_arena_str(arena, asya_str_c(hex));
}

size_t asya_sigv4_sign(struct asya_http_header ret[ASYA_SIGV4_HEADERS], struct asya_arena *arena,
		       const struct asya_sigv4 *s)
{
	struct asya_buf request = {0}, names = {0};
	char stamp[32], hex[ASYA_SHA256_HEX];
	time_t seconds = s->time_us / 1000000;
	struct asya_str hash = body_hash(arena, s), scope, text, date;
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
	date = asya_arena_str(arena, (struct asya_str){stamp, 8});
	n = own_headers(ret, arena, s, asya_arena_str(arena, asya_str_c(stamp)), hash);
	asya_buf_str(&request, s->method);
	asya_buf_char(&request, '\n');
	add_path(&request, s);
	asya_buf_char(&request, '\n');
	add_query(&request, arena, s->query);
	asya_buf_char(&request, '\n');
	add_headers(&request, &names, arena, s, ret, n);
	asya_buf_printf(&request, "\n%.*s\n%.*s", (int)names.n, names.p, ASYA_STR_ARG(hash));
	scope = asya_arena_printf(arena, "%.*s/%.*s/%.*s/aws4_request", ASYA_STR_ARG(date),
				  ASYA_STR_ARG(s->region), ASYA_STR_ARG(s->service));
	asya_sha256_hex(hex, asya_buf_view(&request));
	text = asya_arena_printf(arena, ALGORITHM "\n%s\n%.*s\n%s", stamp, ASYA_STR_ARG(scope),
				 hex);
	sign(hex, arena, s, date, text);
	ret[n++] = (struct asya_http_header){
		ASYA_STR("Authorization"),
		asya_arena_printf(
			arena, ALGORITHM " Credential=%.*s/%.*s, SignedHeaders=%.*s, Signature=%s",
			ASYA_STR_ARG(s->keys.access), ASYA_STR_ARG(scope), (int)names.n, names.p,
			hex)};
	asya_buf_fini(&request);
	asya_buf_fini(&names);
	return n;
}
