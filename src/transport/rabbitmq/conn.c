// SPDX-License-Identifier: Apache-2.0
#include "transport/rabbitmq/conn.h"

#include "base/clock.h"
#include "base/mem.h"

#if ASYA_RABBITMQ_C_012
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

#include <errno.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECT_S = 3, RPC_S = 20, RETRY_FIRST_MS = 50, RETRY_MAX_MS = 3000, FRAME_MAX = 131072 };

void rabbit_conn_init(struct rabbit_conn *c, const struct asya_rabbitmq_config *config,
		      const char *what)
{
	*c = (struct rabbit_conn){.config = config, .what = what, .fd = -1};
	pthread_mutex_init(&c->lock, NULL);
}

void rabbit_conn_fini(struct rabbit_conn *c)
{
	pthread_mutex_destroy(&c->lock);
}

static void set_fd(struct rabbit_conn *c, int fd)
{
	pthread_mutex_lock(&c->lock);
	c->fd = fd;
	pthread_mutex_unlock(&c->lock);
}

void rabbit_conn_cut(struct rabbit_conn *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->fd >= 0)
		shutdown(c->fd, SHUT_RDWR);
	pthread_mutex_unlock(&c->lock);
}

static int failed(struct rabbit_conn *c, const char *text, struct asya_error *err)
{
	return asya_error_set(err, ASYA_RETRY, "RabbitMQ at %s:%d: %s", c->host->name,
			      c->host->port, text);
}

int rabbit_conn_check(struct rabbit_conn *c, int status, struct asya_error *err)
{
	if (status >= 0)
		return 0;
	set_fd(c, -1); /* the library may have closed it */
	if (status == AMQP_STATUS_SOCKET_ERROR && errno)
		return failed(c, strerror(errno), err);
	if (status == AMQP_STATUS_SSL_PEER_VERIFY_FAILED ||
	    status == AMQP_STATUS_SSL_CONNECTION_FAILED)
		return asya_error_set(err, ASYA_RETRY,
				      "RabbitMQ at %s:%d: the TLS connection failed (%s): is the "
				      "broker's certificate signed by one of '%s' "
				      "(ASYA_RABBITMQ_CA_FILE), and does this port speak TLS?",
				      c->host->name, c->host->port, amqp_error_string2(status),
				      c->config->ca_file);
	if (status == AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED)
		return asya_error_set(err, ASYA_RETRY,
				      "RabbitMQ at %s:%d: its certificate is not for the name '%s'",
				      c->host->name, c->host->port, c->host->name);
	return failed(c, amqp_error_string2(status), err);
}

static int said(struct rabbit_conn *c, int code, amqp_bytes_t text, struct asya_error *err)
{
	asya_error_set(err, ASYA_RETRY, "RabbitMQ at %s:%d: %.*s", c->host->name, c->host->port,
		       ASYA_STR_ARG(rabbit_str(text)));
	return code >= 300 ? code : 300;
}

int rabbit_conn_channel_closed(struct rabbit_conn *c, amqp_channel_t channel,
			       const amqp_channel_close_t *close, struct asya_error *err)
{
	amqp_channel_close_ok_t ok = {0};
	int code = said(c, close->reply_code, close->reply_text, err);

	if (channel == RABBIT_ADMIN_CHANNEL)
		c->admin_open = false;
	amqp_send_method(c->amqp, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
	return code;
}

static int connection_closed(struct rabbit_conn *c, const amqp_connection_close_t *close,
			     struct asya_error *err)
{
	amqp_connection_close_ok_t ok = {0};

	said(c, close->reply_code, close->reply_text, err);
	amqp_send_method(c->amqp, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
	return -1;
}

int rabbit_conn_reply(struct rabbit_conn *c, amqp_channel_t channel, amqp_rpc_reply_t reply,
		      struct asya_error *err)
{
	switch (reply.reply_type) {
	case AMQP_RESPONSE_NORMAL:
		return 0;
	case AMQP_RESPONSE_SERVER_EXCEPTION:
		if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD)
			return rabbit_conn_channel_closed(c, channel, reply.reply.decoded, err);
		if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD)
			return connection_closed(c, reply.reply.decoded, err);
		return failed(c, "an answer that was not expected", err);
	case AMQP_RESPONSE_LIBRARY_EXCEPTION:
		return rabbit_conn_check(c, reply.library_error, err);
	case AMQP_RESPONSE_NONE:
		break;
	}
	return failed(c, "no answer", err);
}

static amqp_socket_t *tls_socket(struct rabbit_conn *c, struct asya_error *err)
{
	const struct asya_rabbitmq_config *config = c->config;
	amqp_socket_t *s = amqp_ssl_socket_new(c->amqp);

	if (!s) {
		failed(c, "TLS cannot be set up", err);
		return NULL;
	}
	amqp_ssl_socket_set_verify_peer(s, config->verify);
	amqp_ssl_socket_set_verify_hostname(s, config->verify);
	if (config->verify && amqp_ssl_socket_set_cacert(s, config->ca_file)) {
		asya_error_set(err, ASYA_RETRY,
			       "ASYA_RABBITMQ_CA_FILE is '%s': there is no certificate to be read",
			       config->ca_file);
		return NULL;
	}
	if (*config->cert_file && amqp_ssl_socket_set_key(s, config->cert_file, config->key_file)) {
		asya_error_set(err, ASYA_RETRY,
			       "ASYA_RABBITMQ_CERT_FILE '%s' and ASYA_RABBITMQ_KEY_FILE '%s' "
			       "cannot be read, or do not belong together",
			       config->cert_file, config->key_file);
		return NULL;
	}
	return s;
}

static amqp_table_entry_t flag(const char *name)
{
	return (amqp_table_entry_t){.key = amqp_cstring_bytes(name),
				    .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
}

/* The library asks for neither of these capabilities by itself. */
static int log_in(struct rabbit_conn *c, struct asya_error *err)
{
	const struct asya_rabbitmq_config *config = c->config;
	amqp_table_entry_t wanted[] = {flag("connection.blocked"), flag("consumer_cancel_notify")};
	amqp_table_entry_t properties[] = {
		{.key = amqp_cstring_bytes("capabilities"),
		 .value = {.kind = AMQP_FIELD_KIND_TABLE,
			   .value.table = {ASYA_ARRAY_SIZE(wanted), wanted}}},
		{.key = amqp_cstring_bytes("connection_name"),
		 .value = {.kind = AMQP_FIELD_KIND_UTF8,
			   .value.bytes = amqp_cstring_bytes(c->what)}},
	};
	amqp_table_t table = {ASYA_ARRAY_SIZE(properties), properties};
	amqp_rpc_reply_t reply = amqp_login_with_properties(
		c->amqp, config->vhost, 0, FRAME_MAX, (int)(config->heartbeat_ms / 1000), &table,
		AMQP_SASL_METHOD_PLAIN, config->user, config->password);
	int code = rabbit_conn_reply(c, 0, reply, err);

	if (code)
		asya_error_wrap(err, "logging in as '%s' to virtual host '%s'", config->user,
				config->vhost);
	return code ? -1 : 0;
}

static int open_one(struct rabbit_conn *c, const struct asya_rabbitmq_host *host,
		    struct asya_error *err)
{
	const struct timeval rpc = {RPC_S, 0}, handshake = {CONNECT_S, 0};
	struct timeval connect = {CONNECT_S, 0};
	amqp_socket_t *s;

	c->host = host;
	c->amqp = amqp_new_connection();
	if (!c->amqp)
		abort();
	s = c->config->tls ? tls_socket(c, err) : amqp_tcp_socket_new(c->amqp);
	if (!s)
		return c->config->tls ? -1 : failed(c, "no socket", err);
	amqp_set_handshake_timeout(c->amqp, &handshake);
	amqp_set_rpc_timeout(c->amqp, &rpc);
	errno = 0;
	if (rabbit_conn_check(c, amqp_socket_open_noblock(s, host->name, host->port, &connect),
			      err))
		return -1;
	set_fd(c, amqp_get_sockfd(c->amqp));
	return log_in(c, err);
}

static int64_t below(int64_t n)
{
	uint32_t at_random;

	if (getrandom(&at_random, sizeof(at_random), 0) != sizeof(at_random))
		at_random = (uint32_t)asya_clock_mono_ns();
	return at_random % n;
}

/* At random within the second half, so that a broker that comes back is not met by all at once. */
static void retry_later(struct rabbit_conn *c)
{
	int64_t ms = RETRY_MAX_MS;

	if (c->failures < 6)
		ms = RETRY_FIRST_MS << c->failures;
	c->failures++;
	c->retry_ms = asya_clock_mono_ms() + ms / 2 + below(ms / 2 + 1);
}

int rabbit_conn_open(struct rabbit_conn *c, struct asya_error *err)
{
	for (size_t i = 0; i < c->config->n_hosts; i++) {
		const struct asya_rabbitmq_host *host =
			&c->config->hosts[c->next_host++ % c->config->n_hosts];

		if (open_one(c, host, err) == 0) {
			c->next_host--; /* the same one again, as long as it works */
			c->failures = 0;
			return 0;
		}
		rabbit_conn_close(c, false);
	}
	retry_later(c);
	return -1;
}

void rabbit_conn_close(struct rabbit_conn *c, bool politely)
{
	if (!c->amqp)
		return;
	if (politely) {
		const struct timeval soon = {1, 0};

		amqp_set_rpc_timeout(c->amqp, &soon);
		amqp_connection_close(c->amqp, AMQP_REPLY_SUCCESS);
	}
	set_fd(c, -1);
	amqp_destroy_connection(c->amqp);
	c->amqp = NULL;
	c->retry_ms = asya_clock_mono_ms() + RETRY_FIRST_MS / 2 + below(RETRY_FIRST_MS);
	c->admin_open = false;
}

int rabbit_conn_frame(struct rabbit_conn *c, amqp_frame_t *ret, struct asya_error *err)
{
	struct timeval now = {0, 0};
	int status;

	errno = 0;
	status = amqp_simple_wait_frame_noblock(c->amqp, ret, &now);
	if (status == AMQP_STATUS_TIMEOUT)
		return 0;
	if (rabbit_conn_check(c, status, err))
		return -1;
	if (ret->frame_type == AMQP_FRAME_METHOD &&
	    ret->payload.method.id == AMQP_CONNECTION_CLOSE_METHOD)
		return connection_closed(c, ret->payload.method.decoded, err);
	return 1;
}

int rabbit_conn_channel(struct rabbit_conn *c, amqp_channel_t channel, struct asya_error *err)
{
	amqp_channel_open(c->amqp, channel);
	return rabbit_conn_reply(c, channel, amqp_get_rpc_reply(c->amqp), err);
}

static int admin(struct rabbit_conn *c, struct asya_error *err)
{
	if (c->admin_open)
		return 0;
	if (rabbit_conn_channel(c, RABBIT_ADMIN_CHANNEL, err))
		return -1;
	c->admin_open = true;
	return 0;
}

static int admin_reply(struct rabbit_conn *c, struct asya_error *err)
{
	int code = rabbit_conn_reply(c, RABBIT_ADMIN_CHANNEL, amqp_get_rpc_reply(c->amqp), err);

	amqp_maybe_release_buffers_on_channel(c->amqp, RABBIT_ADMIN_CHANNEL);
	return code;
}

int rabbit_conn_exchange(struct rabbit_conn *c, const char *name, const char *type,
			 struct asya_error *err)
{
	if (admin(c, err))
		return -1;
	amqp_exchange_declare(c->amqp, RABBIT_ADMIN_CHANNEL, amqp_cstring_bytes(name),
			      amqp_cstring_bytes(type), false, true, false, false,
			      amqp_empty_table);
	return admin_reply(c, err);
}

int rabbit_conn_queue(struct rabbit_conn *c, const char *name, const amqp_table_t *arguments,
		      struct asya_error *err)
{
	if (admin(c, err))
		return -1;
	amqp_queue_declare(c->amqp, RABBIT_ADMIN_CHANNEL, amqp_cstring_bytes(name), false, true,
			   false, false, *arguments);
	return admin_reply(c, err);
}

int rabbit_conn_look(struct rabbit_conn *c, const char *queue, int64_t *count,
		     struct asya_error *err)
{
	amqp_queue_declare_ok_t *ok;

	if (admin(c, err))
		return -1;
	ok = amqp_queue_declare(c->amqp, RABBIT_ADMIN_CHANNEL, amqp_cstring_bytes(queue), true,
				true, false, false, amqp_empty_table);
	if (ok && count)
		*count = ok->message_count;
	return admin_reply(c, err);
}

int rabbit_conn_bind(struct rabbit_conn *c, const char *queue, const char *exchange,
		     const char *key, struct asya_error *err)
{
	if (admin(c, err))
		return -1;
	amqp_queue_bind(c->amqp, RABBIT_ADMIN_CHANNEL, amqp_cstring_bytes(queue),
			amqp_cstring_bytes(exchange), amqp_cstring_bytes(key), amqp_empty_table);
	return admin_reply(c, err);
}
