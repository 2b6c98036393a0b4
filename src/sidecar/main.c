// SPDX-License-Identifier: Apache-2.0
/* asya-sidecar: sits between one actor's queue and its handler. */
#include "sidecar/sidecar.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern char **environ;

/* END_DEPTH: what failed is nested in an error's payload. PUTS: messages of an end actor that are
 * being kept in a bucket, or wait for a connection. */
enum { TICK_MS = 500, FORCE_MS = 3000, EXIT_CONFIG = 2, END_DEPTH = 8, PUTS = 128 };

/* ---- pages ---- */

static void page_metrics(void *user, struct asya_http_response *r)
{
	struct sidecar *s = user;

	meter_active(s->meter, s->n_messages, s->window);
	meter_state(s->meter, s->live, s->concurrency);
	r->content_type = ASYA_METRICS_CONTENT_TYPE;
	meter_write(&r->body, s->meter);
}

static void say(struct asya_http_response *r, bool good, const char *text)
{
	r->status = good ? 200 : 503;
	asya_buf_c(&r->body, text);
}

/* Red only for what a restart would mend: a runtime that took a request and never came back. */
static void page_health(void *user, struct asya_http_response *r)
{
	struct sidecar *s = user;
	bool stuck = s->runtime && runtime_stuck(s->runtime);

	say(r, !stuck, stuck ? "the runtime has not come back after a timeout\n" : "ok\n");
}

static void page_ready(void *user, struct asya_http_response *r)
{
	struct sidecar *s = user;

	if (s->draining)
		say(r, false, "draining\n");
	else if (!s->live)
		say(r, false, "the queue cannot be consumed from\n");
	else if (!s->concurrency)
		say(r, false, "the runtime is not ready\n");
	else
		say(r, true, "ok\n");
}

static const struct asya_http_route pages[] = {
	{"GET", "/metrics", page_metrics},
	{"GET", "/healthz", page_health},
	{"GET", "/readyz", page_ready},
};

/* ---- ending ---- */

static void on_tick(uv_timer_t *t)
{
	flow_tick(asya_container_of(t, struct sidecar, tick));
}

static void nothing(void *user)
{
	(void)user;
}

static void transport_closed(void *user)
{
	struct sidecar *s = user;

	if (s->forced) /* a disk that hangs would hold up every orderly end */
		_exit(s->exit_code);
	if (s->runtime)
		runtime_close(s->runtime, nothing, NULL);
	if (s->store)
		asya_file_store_close(s->store, NULL, NULL);
	if (s->claims.s3)
		s->claims.ops->close(s->claims.s3, NULL, NULL);
	if (s->http)
		asya_http_server_close(s->http, NULL, NULL);
	uv_close((uv_handle_t *)&s->tick, NULL);
	uv_close((uv_handle_t *)&s->grace, NULL);
	uv_close((uv_handle_t *)&s->terminate, NULL);
	uv_close((uv_handle_t *)&s->interrupt, NULL);
}

static void on_drained(struct sidecar *s)
{
	asya_log(ASYA_LOG_INFO, "stopped", LOG_INT("messages_left", s->n_messages));
	asya_transport_close(s->transport, transport_closed, s);
}

/* The queue's own disk hangs: leases end by themselves. */
static void on_stuck(uv_timer_t *t)
{
	struct sidecar *s = asya_container_of(t, struct sidecar, grace);

	asya_log(ASYA_LOG_ERROR, "not_given_back", LOG_INT("messages_left", s->n_messages));
	_exit(1);
}

/* Nothing answers any more; closing the transport gives everything back. */
static void on_forced(uv_timer_t *t)
{
	struct sidecar *s = asya_container_of(t, struct sidecar, grace);

	if (s->ended)
		return;
	s->ended = s->forced = true;
	uv_timer_start(t, on_stuck, FORCE_MS, 0);
	on_drained(s);
}

static void on_grace_over(uv_timer_t *t)
{
	flow_cut(asya_container_of(t, struct sidecar, grace));
	uv_timer_start(t, on_forced, FORCE_MS, 0);
}

static void drain(struct sidecar *s, const char *why, int exit_code, int64_t grace_ms)
{
	if (s->draining)
		return;
	asya_log(ASYA_LOG_INFO, "draining", LOG_C("why", why), LOG_INT("messages", s->n_messages));
	s->exit_code = exit_code;
	uv_timer_start(&s->grace, on_grace_over, (uint64_t)grace_ms, 0);
	flow_drain(s);
}

static void on_terminate(uv_signal_t *h, int signal)
{
	struct sidecar *s = asya_container_of(h, struct sidecar, terminate);

	(void)signal;
	drain(s, "SIGTERM", 0, s->config->grace_ms);
}

static void on_interrupt(uv_signal_t *h, int signal)
{
	struct sidecar *s = asya_container_of(h, struct sidecar, interrupt);

	(void)signal;
	drain(s, "SIGINT", 0, s->config->grace_ms);
}

/* The same timer, before there is anything to drain: the runtime has not become ready. */
static void on_never_ready(uv_timer_t *t)
{
	struct sidecar *s = asya_container_of(t, struct sidecar, grace);
	char text[ASYA_TIME_TEXT];

	asya_log(ASYA_LOG_ERROR, "runtime_not_ready", LOG_STR("socket_dir", s->config->socket_dir),
		 LOG_C("waited", asya_duration_write(text, s->config->ready_timeout_ms * 1000000)));
	drain(s, "the runtime did not become ready", 1, s->config->grace_ms);
}

/* ---- what changes around it ---- */

static void on_runtime(void *user, unsigned workers)
{
	struct sidecar *s = user;

	asya_log(workers ? ASYA_LOG_INFO : ASYA_LOG_WARNING,
		 workers ? "runtime_ready" : "runtime_not_ready", LOG_INT("workers", workers),
		 LOG_INT("protocol", runtime_protocol(s->runtime)));
	if (workers && !s->draining)
		uv_timer_stop(&s->grace);
	s->concurrency = workers;
	flow_window(s);
	flow_pump(s);
}

static void on_consumer(struct asya_consumer *c, bool live, const struct asya_error *err)
{
	struct sidecar *s = c->user;

	s->live = live;
	if (live) {
		asya_log(ASYA_LOG_INFO, "consuming", LOG_STR("transport", s->config->transport));
		return;
	}
	asya_log(ASYA_LOG_ERROR, "queue_unavailable", LOG_C("error", err->text));
	if (err->advice == ASYA_FATAL) /* no result could be settled */
		drain(s, "the queue cannot be used", 1, 0);
}

/* ---- starting ---- */

static const char *from_environment(void *user, const char *name)
{
	(void)user;
	return getenv(name);
}

static int open_bucket(struct sidecar *s, struct asya_error *err)
{
	const struct sidecar_config *c = s->config;
	const struct asya_s3_config s3 = {.bucket = c->s3_bucket.p,
					  .endpoint = c->s3_endpoint.p,
					  .region = c->s3_region.p,
					  .virtual_host = c->s3_virtual,
					  .access = c->s3_access,
					  .secret = c->s3_secret,
					  .get = from_environment};

	s->claims = (struct claims){.ops = asya_s3_load(c->module_dir.p, err),
				    .bucket = c->s3_bucket,
				    .prefix = c->claim_prefix,
				    .max_bytes = (size_t)c->message_bytes};
	if (!s->claims.ops || s->claims.ops->open(&s->claims.s3, s->loop, &s3, err))
		return asya_error_wrap(err, "ASYA_S3_BUCKET");
	return 0;
}

static int open_handler(struct sidecar *s, struct asya_error *err)
{
	const struct sidecar_config *c = s->config;
	const struct runtime_config runtime = {
		.dir = c->socket_dir.p,
		.frame_bytes = (size_t)c->message_bytes + 65536,
		.limits = {(size_t)c->fanout, (size_t)c->reply_bytes, (unsigned)c->depth + 4},
		.changed = on_runtime,
		.user = s};

	if (c->s3_bucket.n && open_bucket(s, err))
		return -1;
	if (c->s3_bucket.n && c->is_end) {
		s->concurrency = c->window_max < PUTS ? (unsigned)c->window_max : PUTS;
		return 0;
	}
	if (c->results_dir.n) {
		s->concurrency = (unsigned)c->window_max;
		return asya_file_store_open(&s->store, s->loop, c->results_dir.p, err);
	}
	uv_timer_start(&s->grace, on_never_ready, (uint64_t)c->ready_timeout_ms, 0);
	return runtime_open(&s->runtime, s->loop, &runtime, err);
}

static int open_queue(struct sidecar *s, struct asya_error *err)
{
	const struct asya_transport_ops *ops = asya_transport_find(s->config->transport);

	if (ops->open(&s->transport, s->loop, from_environment, NULL, err))
		return -1;
	s->consumer = (struct asya_consumer){
		.actor = s->actor.name, .deliver = flow_deliver, .state = on_consumer, .user = s};
	asya_transport_consume(s->transport, &s->consumer);
	return 0;
}

static void set_up(struct sidecar *s, const struct sidecar_config *c)
{
	*s = (struct sidecar){.config = c,
			      .limits = {(size_t)c->message_bytes,
					 (unsigned)c->depth + (c->is_end ? END_DEPTH : 0),
					 (size_t)c->route_actors, (size_t)c->headers,
					 (size_t)c->header_bytes},
			      .actor = {c->actor, c->happy_end, c->error_end, c->is_end},
			      .loop = uv_default_loop(),
			      .crash_policy = {.name = ASYA_STR("crash"),
					       .max_attempts = (unsigned)c->crash_attempts,
					       .backoff = ASYA_BACKOFF_EXPONENTIAL,
					       .initial_delay_ms = 1000,
					       .max_interval_ms = 30000,
					       .jitter = true},
			      .drained = on_drained};
	asya_list_init(&s->waiting);
	asya_list_init(&s->invoking);
	asya_list_init(&s->settling);
	asya_list_init(&s->again);
	uv_timer_init(s->loop, &s->tick);
	uv_timer_init(s->loop, &s->grace);
	uv_signal_init(s->loop, &s->terminate);
	uv_signal_init(s->loop, &s->interrupt);
	uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
	uv_signal_start(&s->terminate, on_terminate, SIGTERM);
	uv_signal_start(&s->interrupt, on_interrupt, SIGINT);
}

static int start(struct sidecar *s, struct asya_error *err)
{
	const struct sidecar_config *c = s->config;

	s->meter = meter_new(c->metrics_namespace, c->actor, c->transport, err);
	if (!s->meter || open_queue(s, err) || open_handler(s, err))
		return -1;
	if (c->metrics && asya_http_server_open(&s->http, s->loop, c->metrics_addr.p, pages,
						ASYA_ARRAY_SIZE(pages), NULL, s, err))
		return asya_error_wrap(err, "ASYA_METRICS_ADDR");
	flow_window(s);
	asya_log(ASYA_LOG_INFO, "started", LOG_C("version", ASYA_VERSION),
		 LOG_INT("metrics_port", s->http ? asya_http_server_port(s->http) : 0));
	return 0;
}

static void warn_of_strays(struct asya_arena *arena)
{
	/* Of the runtime, whose container often has the same environment, and of the transports. */
	const char *others[64] = {"ASYA_HANDLER",        "ASYA_HANDLER_MODE",
				  "ASYA_SOCKET_CHMOD",   "ASYA_ENABLE_VALIDATION",
				  "ASYA_WORKERS",        "ASYA_FAILPOINTS",
				  "ASYA_FAILPOINT_SEED", "ASYA_FAILPOINT_LOG"};
	const struct asya_transport_ops *ops;
	struct asya_config_stray *strays;
	size_t n = 8;

	for (size_t i = 0; (ops = asya_transport_at(i)); i++)
		for (size_t k = 0; k < ops->n_settings && n < ASYA_ARRAY_SIZE(others) - 1; k++)
			others[n++] = ops->settings[k].name;
	n = asya_config_strays(&strays, arena, environ, sidecar_settings, sidecar_n_settings,
			       others);
	for (size_t i = 0; i < n; i++)
		asya_log(ASYA_LOG_WARNING, "unknown_variable", LOG_STR("name", strays[i].name),
			 LOG_C("nearest", strays[i].nearest ? strays[i].nearest : ""));
}

static int run(struct asya_arena *arena)
{
	static struct sidecar_config config;
	static struct sidecar s;
	struct asya_resiliency resiliency;
	struct asya_buf wrong = {0};
	struct asya_error err;

	asya_log_init(ASYA_LOG_INFO, "asya-sidecar", getenv("ASYA_ACTOR_NAME"));
	if (sidecar_config_load(&config, &resiliency, arena, &wrong)) {
		asya_log(ASYA_LOG_ERROR, "bad_configuration",
			 LOG_STR("error", asya_buf_view(&wrong)));
		asya_buf_fini(&wrong);
		return EXIT_CONFIG;
	}
	asya_log_init((enum asya_log_level)config.log_level, "asya-sidecar", config.actor.p);
	warn_of_strays(arena);
	signal(SIGPIPE, SIG_IGN);
	set_up(&s, &config);
	s.rules = resiliency.rules;
	s.n_rules = resiliency.n_rules;
	if (start(&s, &err)) {
		asya_log(ASYA_LOG_ERROR, "cannot_start", LOG_C("error", err.text));
		return err.advice == ASYA_FATAL ? EXIT_CONFIG : 1;
	}
	uv_run(s.loop, UV_RUN_DEFAULT);
	uv_loop_close(s.loop);
	meter_free(s.meter);
	return s.exit_code;
}

int main(int argc, char **argv)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();

	if (argc > 1) {
		if (usage_print(argv[1]))
			return 0;
		fprintf(stderr,
			"asya-sidecar: unknown argument '%s'; it takes variables, see --help\n",
			argv[1]);
		return EXIT_CONFIG;
	}
	return run(arena);
}
