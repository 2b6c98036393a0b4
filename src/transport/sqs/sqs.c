// SPDX-License-Identifier: Apache-2.0
#include "transport/sqs/inner.h"

#include "base/clock.h"
#include "base/mem.h"
#include "transport/sqs/settings.h"

enum { AGAIN_MS = 25, BEAT_MIN_MS = 200 };

static struct sqs *sqs_of(struct asya_transport *t)
{
	return (struct sqs *)t;
}

/* ---- ending ---- */

static void on_handle_closed(uv_handle_t *h)
{
	struct sqs *s = h->data;
	struct asya_link *i;

	if (--s->handles)
		return;
	while ((i = asya_list_pop(&s->consumers)))
		free(asya_container_of(i, struct sqs_consumer, link));
	while ((i = asya_list_pop(&s->queues)))
		sqs_queue_free(asya_container_of(i, struct sqs_queue, link));
	free(s->space);
	s->closed(s->closed_user);
	free(s);
}

static void on_client_closed(void *user)
{
	struct sqs *s = user;
	uv_handle_t *const handles[] = {(uv_handle_t *)&s->tick, (uv_handle_t *)&s->again,
					(uv_handle_t *)&s->beat, (uv_handle_t *)&s->turn};

	s->handles = ASYA_ARRAY_SIZE(handles);
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(handles); i++) {
		handles[i]->data = s;
		uv_close(handles[i], on_handle_closed);
	}
}

static void on_given_back(struct sqs_item *i, const struct sqs_fault *fault)
{
	(void)fault; /* its lease ends by itself */
	sqs_delivery_free(i->user);
}

static void give_back_all(struct sqs *s)
{
	struct asya_link *next;

	s->releasing = true;
	for (struct asya_link *l = s->held.next; l != &s->held; l = next) {
		struct sqs_delivery *d = asya_container_of(l, struct sqs_delivery, held);
		struct sqs_item *i;

		next = l->next;
		d->settling = true;
		i = sqs_item_new(d->queue, SQS_CHANGE, on_given_back, d);
		i->receipt = asya_strdup(d->receipt);
		sqs_item_queue(i);
	}
}

/* Polls are not cut short: the service would go on with them, and what it takes for nobody stays
 * hidden until its lease ends. What they bring is given back. */
static void close_step(struct sqs *s)
{
	if (s->ending || s->n_settles || s->n_stats)
		return;
	if (!s->releasing && !s->n_items) /* heartbeats under way would hide them again */
		give_back_all(s);
	if (!s->releasing || s->n_items || s->n_calls)
		return;
	s->ending = true;
	asya_aws_client_close(s->client, on_client_closed, s);
}

/* ---- timers ---- */

static void on_again(uv_timer_t *t);

/* Whether anything waits for its time. */
static bool waits(const struct sqs *s)
{
	if (!asya_list_empty(&s->later) || !asya_list_empty(&s->parked))
		return true;
	for (const struct asya_link *i = s->consumers.next; i != &s->consumers; i = i->next)
		if (asya_container_of(i, struct sqs_consumer, link)->again_ms && !s->closing)
			return true;
	return false;
}

static void on_tick(uv_timer_t *t)
{
	struct sqs *s = asya_container_of(t, struct sqs, tick);

	sqs_finish_settles(s);
	sqs_flush(s);
	if (waits(s) && !uv_is_active((uv_handle_t *)&s->again))
		uv_timer_start(&s->again, on_again, AGAIN_MS, AGAIN_MS);
	if (s->closing)
		close_step(s);
}

void sqs_ring(struct sqs *s)
{
	if (!s->ending && !uv_is_active((uv_handle_t *)&s->tick))
		uv_timer_start(&s->tick, on_tick, 0, 0);
}

static void on_again(uv_timer_t *t)
{
	struct sqs *s = asya_container_of(t, struct sqs, again);
	int64_t now = asya_clock_mono_ms();

	sqs_calls_due(s, now);
	sqs_items_due(s, now);
	sqs_consumers_due(s, now);
	if (!waits(s))
		uv_timer_stop(t);
}

static void on_beat(uv_timer_t *t)
{
	sqs_beat(asya_container_of(t, struct sqs, beat));
}

static void on_turn(uv_prepare_t *h)
{
	asya_container_of(h, struct sqs, turn)->turn_ms = asya_clock_mono_ms();
}

/* ---- the port ---- */

static void nothing(struct sqs_wait *w, const struct asya_error *err)
{
	(void)w;
	(void)err;
}

static void consume(struct asya_transport *t, struct asya_consumer *user)
{
	struct sqs *s = sqs_of(t);
	struct sqs_consumer *c = asya_new0(struct sqs_consumer);

	*c = (struct sqs_consumer){.sqs = s,
				   .user = user,
				   .queue = sqs_queue_at(s, user->actor, user->dead),
				   .allowed = 1};
	user->backend = c;
	asya_list_add_tail(&s->consumers, &c->link);
	sqs_pump(c);
	c->wait_dead = (struct sqs_wait){.create = true, .done = nothing};
	sqs_queue_want(sqs_queue_at(s, user->actor, true), &c->wait_dead);
}

static void window(struct asya_transport *t, struct asya_consumer *user, unsigned n)
{
	struct sqs_consumer *c = user->backend;

	(void)t;
	c->window = n;
	sqs_pump(c);
}

static void stop(struct asya_transport *t, struct asya_consumer *user)
{
	struct sqs_consumer *c = user->backend;

	(void)t;
	c->user = NULL; /* what its polls bring is given back */
}

static void settle(struct asya_transport *t, struct asya_settle *op)
{
	sqs_settle(sqs_of(t), op);
}

static void stat_queue(struct asya_transport *t, struct asya_stat *op)
{
	sqs_stat(sqs_of(t), op);
}

static void close_transport(struct asya_transport *t, void (*done)(void *user), void *user)
{
	struct sqs *s = sqs_of(t);

	s->closed = done;
	s->closed_user = user;
	s->closing = true;
	sqs_ring(s);
}

static int open_client(struct sqs *s, const struct asya_sqs_config *c, struct asya_error *err)
{
	_cleanup_(asya_freep) char *usual =
		asya_asprintf("https://sqs.%s.amazonaws.com%s", c->region,
			      strncmp(c->region, "cn-", 3) == 0 ? ".cn" : "");
	const struct asya_aws_client_config client = {
		.service = "sqs",
		.region = c->region,
		.endpoint = c->endpoint && *c->endpoint ? c->endpoint : usual,
		.ca_file = c->ca_file,
		.get = c->get,
		.get_user = c->get_user};

	if (asya_aws_client_open(&s->client, s->loop, &client, err))
		return asya_error_wrap(err, "ASYA_SQS_ENDPOINT");
	return 0;
}

int asya_sqs_open(struct asya_transport **ret, uv_loop_t *loop, const struct asya_sqs_config *c,
		  struct asya_error *err)
{
	struct sqs *s = asya_new0(struct sqs);
	int64_t beat_ms = c->visibility_s * 1000 / 6;

	*s = (struct sqs){.base = {.ops = &asya_sqs_backend_ops, .max_body = SQS_BODY_MAX},
			  .loop = loop,
			  .visibility_s = c->visibility_s,
			  .wait_s = c->wait_s,
			  .auto_create = c->auto_create,
			  .fifo = c->fifo,
			  .fair = c->fair,
			  .salt = (uint64_t)asya_clock_wall_us() << 12};
	asya_list_init(&s->queues);
	asya_list_init(&s->consumers);
	asya_list_init(&s->held);
	asya_list_init(&s->finished);
	asya_list_init(&s->later);
	asya_list_init(&s->parked);
	if (open_client(s, c, err)) {
		free(s);
		return -1;
	}
	s->space = asya_strdup(c->space ? c->space : "");
	uv_timer_init(loop, &s->tick);
	uv_timer_init(loop, &s->again);
	uv_timer_init(loop, &s->beat);
	uv_prepare_init(loop, &s->turn);
	uv_prepare_start(&s->turn, on_turn);
	beat_ms = beat_ms < BEAT_MIN_MS ? BEAT_MIN_MS : beat_ms;
	uv_timer_start(&s->beat, on_beat, (uint64_t)beat_ms, (uint64_t)beat_ms);
	*ret = &s->base;
	return 0;
}

static int open_transport(struct asya_transport **ret, uv_loop_t *loop, asya_config_get_fn *get,
			  void *user, struct asya_error *err)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct sqs_settings s;

	if (asya_config_load(&s, sqs_settings, SQS_SETTINGS, get, user, arena, err))
		return -1;
	return asya_sqs_open(
		ret, loop,
		&(struct asya_sqs_config){.endpoint = s.endpoint.p,
					  .region = s.region.p,
					  .space = s.space.p ? s.space.p : "",
					  .ca_file = s.ca_file.p,
					  .visibility_s = (s.visibility_ms + 999) / 1000,
					  .wait_s = s.wait_s,
					  .auto_create = s.auto_create,
					  .fifo = s.fifo,
					  .fair = s.fair,
					  .get = get,
					  .get_user = user},
		err);
}

const struct asya_transport_ops asya_sqs_backend_ops = {
	.name = "sqs",
	.open = open_transport,
	.close = close_transport,
	.consume = consume,
	.window = window,
	.stop = stop,
	.settle = settle,
	.stat = stat_queue,
};
