// SPDX-License-Identifier: Apache-2.0
#include "transport/rabbitmq/rabbitmq.h"

#include "base/mem.h"
#include "core/envelope.h"

#include <ctype.h>

enum { PORT_PLAIN = 5672, PORT_TLS = 5671 };

static const char *const queue_types[] = {"classic", "quorum", NULL};

struct settings {
	struct asya_str url, user, password, vhost, exchange, space, ca, cert, key;
	struct asya_setting_list hosts;
	int64_t port, heartbeat_ms, prefetch;
	bool tls, verify, auto_create;
	int queue_type;
};

#define ROW(kind, member) ASYA_SETTING(kind, struct settings, member)

const struct asya_setting asya_rabbitmq_settings[ASYA_RABBITMQ_N_SETTINGS] = {
	{"ASYA_RABBITMQ_URL", ROW(STRING, url), .flags = ASYA_SETTING_SECRET,
	 .help = "amqp://user:password@host:port,host:port/vhost, or amqps:// for TLS. What is in "
		 "it "
		 "must be percent-encoded. Takes the place of the next five."},
	{"ASYA_RABBITMQ_HOST", ROW(LIST, hosts), .fallback = "localhost",
	 .help = "Hosts, each with a port of its own or not (host:port); tried in turn."},
	{"ASYA_RABBITMQ_PORT", ROW(INT, port), .max = 65535,
	 .help = "Port of the hosts that name none. Not set: 5672, with TLS 5671."},
	{"ASYA_RABBITMQ_USERNAME", ROW(STRING, user), .fallback = "guest", .help = "Who logs in."},
	{"ASYA_RABBITMQ_PASSWORD", ROW(STRING, password), .fallback = "guest",
	 .flags = ASYA_SETTING_SECRET, .help = "The password."},
	{"ASYA_RABBITMQ_VHOST", ROW(STRING, vhost), .fallback = "/", .help = "Virtual host."},
	{"ASYA_RABBITMQ_TLS", ROW(BOOL, tls), .fallback = "false",
	 .help = "TLS without an amqps:// URL."},
	{"ASYA_RABBITMQ_TLS_VERIFY", ROW(BOOL, verify), .fallback = "true",
	 .help = "Check the broker's certificate and that it is for the host's name. Without this "
		 "anybody in between can read and change everything."},
	{"ASYA_RABBITMQ_CA_FILE", ROW(STRING, ca), .fallback = "/etc/ssl/certs/ca-certificates.crt",
	 .help = "Certificates (PEM) that the broker's must descend from."},
	{"ASYA_RABBITMQ_CERT_FILE", ROW(STRING, cert),
	 .help = "Our own certificate (PEM), where the broker asks for one."},
	{"ASYA_RABBITMQ_KEY_FILE", ROW(STRING, key), .help = "The key (PEM) of our certificate."},
	{"ASYA_RABBITMQ_EXCHANGE", ROW(STRING, exchange), .fallback = "asya",
	 .help = "Topic exchange that messages are sent to."},
	{"ASYA_RABBITMQ_QUEUE_TYPE", ROW(CHOICE, queue_type), .choices = queue_types,
	 .fallback = "classic",
	 .help = "Type of queues that are made. A queue that is there with another type is an "
		 "error; it is never deleted."},
	{"ASYA_QUEUE_AUTO_CREATE", ROW(BOOL, auto_create), .fallback = "true",
	 .help = "Make the exchange, the actor's queue and its dead letters where they are "
		 "missing. false: wait until they are there."},
	{"ASYA_RABBITMQ_PREFETCH", ROW(INT, prefetch), .max = 65535,
	 .help = "Messages held at a time, at most. Not set: the window follows the handler."},
	{"ASYA_RABBITMQ_HEARTBEAT", ROW(DURATION, heartbeat_ms), .fallback = "10s", .min = 1000,
	 .max = 3600000,
	 .help = "A connection on which nothing was heard for twice this is dead. Whole seconds."},
	{"ASYA_NAMESPACE", ROW(STRING, space),
	 .help = "Keeps queues of the same actor name in several namespaces apart."},
};

/* Up to `end` or the end; *rest is what is behind it, without a value if `end` is not there. */
static struct asya_str until(struct asya_str s, char end, struct asya_str *rest)
{
	const char *at = s.n ? memchr(s.p, end, s.n) : NULL;

	*rest = ASYA_STR_NONE;
	if (!at)
		return s;
	*rest = (struct asya_str){at + 1, s.n - (size_t)(at - s.p) - 1};
	return (struct asya_str){s.p, (size_t)(at - s.p)};
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* NULL if it is not rightly encoded, or hides a NUL. */
static const char *decoded(struct asya_arena *arena, struct asya_str s)
{
	char *out = asya_arena_zalloc(arena, s.n + 1);
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		out[n] = s.p[i];
		if (s.p[i] == '%') {
			if (i + 2 >= s.n || hex(s.p[i + 1]) < 0 || hex(s.p[i + 2]) < 0)
				return NULL;
			out[n] = (char)(hex(s.p[i + 1]) * 16 + hex(s.p[i + 2]));
			i += 2;
		}
		if (!out[n++])
			return NULL;
	}
	return out;
}

static int parse_port(int *ret, struct asya_str s)
{
	*ret = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9' || *ret > 65535)
			return -1;
		*ret = *ret * 10 + s.p[i] - '0';
	}
	return *ret < 1 || *ret > 65535 ? -1 : 0;
}

/* `name`, `name:port`, `[IPv6]` or `[IPv6]:port`. */
static int parse_host(struct asya_rabbitmq_host *ret, struct asya_str s, int port,
		      struct asya_arena *arena)
{
	struct asya_str name = s, rest = ASYA_STR_NONE;

	if (s.n && s.p[0] == '[') {
		name = until((struct asya_str){s.p + 1, s.n - 1}, ']', &rest);
		if (!rest.p || (rest.n && rest.p[0] != ':'))
			return -1;
		rest = rest.n ? (struct asya_str){rest.p + 1, rest.n - 1} : ASYA_STR_NONE;
	} else {
		name = until(s, ':', &rest);
	}
	ret->name = decoded(arena, name);
	ret->port = port;
	if (!ret->name || !*ret->name)
		return -1;
	return rest.p ? parse_port(&ret->port, rest) : 0;
}

static int parse_hosts(struct asya_rabbitmq_config *c, struct asya_str s, int port,
		       struct asya_arena *arena)
{
	struct asya_rabbitmq_host *hosts;
	size_t room = 1;

	for (size_t i = 0; i < s.n; i++)
		room += s.p[i] == ',';
	c->hosts = hosts = asya_arena_array(arena, struct asya_rabbitmq_host, room);
	for (c->n_hosts = 0; s.p; c->n_hosts++)
		if (parse_host(&hosts[c->n_hosts], until(s, ',', &s), port, arena))
			return -1;
	return 0;
}

int asya_rabbitmq_url_parse(struct asya_rabbitmq_config *c, struct asya_str url,
			    struct asya_arena *arena, struct asya_error *err)
{
	static const char shape[] =
		"it must be amqp://user:password@host:port,host:port/vhost (or amqps://...), "
		"percent-encoded";
	struct asya_str login, hosts, vhost, rest, user, password, query;

	c->tls = asya_str_starts(url, "amqps://");
	if (!c->tls && !asya_str_starts(url, "amqp://"))
		return asya_error_set(err, ASYA_FATAL,
				      "the URL does not begin with amqp:// or amqps://; %s", shape);
	rest = (struct asya_str){url.p + 7 + c->tls, url.n - 7 - c->tls};
	rest = until(rest, '?', &query); /* of other clients, such as heartbeat */
	rest = until(rest, '/', &vhost);
	login = until(rest, '@', &hosts);
	if (hosts.p) {
		user = until(login, ':', &password);
		c->user = decoded(arena, user);
		c->password = decoded(arena, password);
		if (!c->user || !c->password)
			return asya_error_set(err, ASYA_FATAL,
					      "the URL's user or password (not shown) is not "
					      "rightly percent-encoded; %s",
					      shape);
	} else {
		hosts = login;
	}
	if (parse_hosts(c, hosts, c->tls ? PORT_TLS : PORT_PLAIN, arena))
		return asya_error_set(err, ASYA_FATAL, "the URL's hosts are wrong; %s", shape);
	if (!vhost.n)
		return 0;
	c->vhost = decoded(arena, vhost);
	if (!c->vhost || strchr(c->vhost, '\n'))
		return asya_error_set(err, ASYA_FATAL,
				      "the URL's virtual host is not rightly percent-encoded; %s",
				      shape);
	return 0;
}

static int load_parts(struct asya_rabbitmq_config *c, const struct settings *s,
		      struct asya_arena *arena, struct asya_error *err)
{
	int port = s->port ? (int)s->port : s->tls ? PORT_TLS : PORT_PLAIN;
	struct asya_rabbitmq_host *hosts =
		asya_arena_array(arena, struct asya_rabbitmq_host, s->hosts.n + 1);

	for (size_t i = 0; i < s->hosts.n; i++)
		if (parse_host(&hosts[i], s->hosts.items[i], port, arena))
			return asya_error_set(err, ASYA_FATAL,
					      "ASYA_RABBITMQ_HOST has '%.*s', right is host, "
					      "host:port or [IPv6]:port",
					      ASYA_STR_ARG(s->hosts.items[i]));
	c->hosts = hosts;
	c->n_hosts = s->hosts.n;
	return 0;
}

static int check(const struct asya_rabbitmq_config *c, struct asya_str space,
		 struct asya_error *err)
{
	if (space.n && !asya_actor_name_valid(space))
		return asya_error_set(err, ASYA_FATAL,
				      "ASYA_NAMESPACE is '%s', it must be a DNS label", c->space);
	if (!*c->exchange || strlen(c->exchange) > 200)
		return asya_error_set(err, ASYA_FATAL,
				      "ASYA_RABBITMQ_EXCHANGE is '%s', it must have 1 to 200 bytes",
				      c->exchange);
	if (!*c->cert_file != !*c->key_file)
		return asya_error_set(err, ASYA_FATAL,
				      "ASYA_RABBITMQ_CERT_FILE and ASYA_RABBITMQ_KEY_FILE need "
				      "each other: only one is set");
	return 0;
}

static const char *or_empty(struct asya_str s)
{
	return s.p ? s.p : "";
}

int asya_rabbitmq_config_load(struct asya_rabbitmq_config *c, asya_config_get_fn *get, void *user,
			      struct asya_arena *arena, struct asya_error *err)
{
	struct settings s;

	if (asya_config_load(&s, asya_rabbitmq_settings, ASYA_RABBITMQ_N_SETTINGS, get, user, arena,
			     err))
		return -1;
	*c = (struct asya_rabbitmq_config){.user = or_empty(s.user),
					   .password = or_empty(s.password),
					   .vhost = or_empty(s.vhost),
					   .tls = s.tls,
					   .verify = s.verify,
					   .ca_file = or_empty(s.ca),
					   .cert_file = or_empty(s.cert),
					   .key_file = or_empty(s.key),
					   .exchange = or_empty(s.exchange),
					   .space = or_empty(s.space),
					   .queue_type =
						   (enum asya_rabbitmq_queue_type)s.queue_type,
					   .auto_create = s.auto_create,
					   .heartbeat_ms = s.heartbeat_ms,
					   .prefetch_max = s.prefetch};
	if (s.url.n ? asya_rabbitmq_url_parse(c, s.url, arena, err) : load_parts(c, &s, arena, err))
		return s.url.n ? asya_error_wrap(err, "ASYA_RABBITMQ_URL") : -1;
	if (s.url.n && s.tls && !c->tls)
		return asya_error_set(err, ASYA_FATAL,
				      "ASYA_RABBITMQ_TLS is true and ASYA_RABBITMQ_URL begins with "
				      "amqp://: one of them is wrong");
	return check(c, s.space, err);
}
