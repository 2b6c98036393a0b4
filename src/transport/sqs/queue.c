// SPDX-License-Identifier: Apache-2.0
/*
 *	unknown ─► GetQueueUrl ──────────────────────────► GetQueueAttributes ─► ready
 *	              └ missing ─► (its dead letters) ─► CreateQueue ┘
 */
#include "transport/sqs/inner.h"

#include "base/mem.h"

#include <inttypes.h>

enum { TIMEOUT_MS = 10000, RECEIVES_BACKSTOP = 1000 };

static void begin(struct sqs_queue *q);

struct sqs_queue *sqs_queue_at(struct sqs *s, struct asya_str actor, bool dead)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = NULL;
	struct sqs_queue *q;
	struct asya_str name;

	for (struct asya_link *i = s->queues.next; i != &s->queues; i = i->next) {
		q = asya_container_of(i, struct sqs_queue, link);
		if (q->dead == dead && asya_str_eq(q->actor, actor))
			return q;
	}
	arena = asya_arena_new();
	name = sqs_queue_name(arena, s->space, actor, dead, s->fifo);
	q = asya_new0(struct sqs_queue);
	*q = (struct sqs_queue){.sqs = s,
				.actor = {asya_strndup(actor.p, actor.n), actor.n},
				.name = {asya_strndup(name.p, name.n), name.n},
				.dead = dead,
				.max_bytes = SQS_BATCH_BYTES};
	asya_list_init(&q->waits);
	for (int i = 0; i < SQS_KINDS; i++)
		asya_list_init(&q->lanes[i].items);
	asya_list_add_tail(&s->queues, &q->link);
	return q;
}

void sqs_queue_free(struct sqs_queue *q)
{
	free((char *)q->actor.p);
	free((char *)q->name.p);
	free(q->url);
	free(q->arn);
	free(q);
}

static void answer_waits(struct sqs_queue *q, const struct asya_error *err)
{
	struct asya_link now, *i;

	asya_list_init(&now);
	asya_list_splice(&now, &q->waits);
	while ((i = asya_list_pop(&now))) {
		struct sqs_wait *w = asya_container_of(i, struct sqs_wait, link);

		w->done(w, err);
	}
}

static void fail(struct sqs_queue *q, const struct asya_error *why)
{
	struct asya_error err = *why;

	q->state = SQS_UNKNOWN;
	asya_error_wrap(&err, "queue '%.*s'", ASYA_STR_ARG(q->name));
	answer_waits(q, &err);
}

static struct sqs_call *call_of(struct sqs_queue *q, const char *action,
				void (*done)(struct sqs_call *call, yyjson_val *root,
					     const struct sqs_fault *fault))
{
	struct sqs_call *call = sqs_call_new(q->sqs, action);

	call->done = done;
	call->user = q;
	asya_buf_c(&call->body, q->url ? "{\"QueueUrl\":" : "{\"QueueName\":");
	asya_buf_json(&call->body, q->url ? asya_str_c(q->url) : q->name);
	return call;
}

static int64_t number(struct asya_str s)
{
	int64_t v = 0;

	for (size_t i = 0; i < s.n && i < 18 && s.p[i] >= '0' && s.p[i] <= '9'; i++)
		v = v * 10 + s.p[i] - '0';
	return v;
}

static void on_attributes(struct sqs_call *call, yyjson_val *root, const struct sqs_fault *fault)
{
	struct sqs_queue *q = call->user;
	yyjson_val *all = yyjson_obj_get(root, "Attributes");
	struct asya_str arn = sqs_member(all, "QueueArn");
	int64_t max = number(sqs_member(all, "MaximumMessageSize"));
	size_t body;

	if (fault) {
		free(q->url);
		q->url = NULL;
		fail(q, &fault->err);
		return;
	}
	free(q->arn);
	q->arn = arn.n ? asya_strndup(arn.p, arn.n) : NULL;
	q->max_bytes = max > 0 ? (size_t)max : SQS_BATCH_BYTES;
	body = q->max_bytes > SQS_OVERHEAD * 2 ? q->max_bytes - SQS_OVERHEAD : q->max_bytes;
	if (body < q->sqs->base.max_body)
		q->sqs->base.max_body = body;
	q->state = SQS_READY;
	q->missing = false;
	answer_waits(q, NULL);
	sqs_ring(q->sqs);
}

static void have_url(struct sqs_queue *q, struct asya_str url)
{
	struct sqs_call *call;

	free(q->url);
	q->url = asya_strndup(url.p, url.n);
	call = call_of(q, "GetQueueAttributes", on_attributes);
	asya_buf_c(&call->body, ",\"AttributeNames\":[\"All\"]}");
	sqs_call_send(call, TIMEOUT_MS, SQS_TRIES);
}

static void on_url(struct sqs_call *call, yyjson_val *root, const struct sqs_fault *fault);

static void look(struct sqs_queue *q)
{
	struct sqs_call *call = call_of(q, "GetQueueUrl", on_url);

	asya_buf_char(&call->body, '}');
	sqs_call_send(call, TIMEOUT_MS, SQS_TRIES);
}

static void on_created(struct sqs_call *call, yyjson_val *root, const struct sqs_fault *fault)
{
	struct sqs_queue *q = call->user;

	if (fault && sqs_fault_is(fault, "Exists")) /* somebody was faster */
		look(q);
	else if (fault)
		fail(q, &fault->err);
	else
		have_url(q, sqs_member(root, "QueueUrl"));
}

static void create(struct sqs_queue *q, const char *dead_arn)
{
	struct sqs_call *call = call_of(q, "CreateQueue", on_created);
	struct asya_buf policy = {0};

	asya_buf_printf(&call->body, ",\"Attributes\":{\"VisibilityTimeout\":\"%" PRId64 "\"",
			q->sqs->visibility_s);
	/* two weeks, the most: dead letters wait for people */
	if (q->dead)
		asya_buf_c(&call->body, ",\"MessageRetentionPeriod\":\"1209600\"");
	if (q->sqs->fifo)
		asya_buf_c(&call->body, ",\"FifoQueue\":\"true\"");
	if (dead_arn) {
		asya_buf_c(&policy, "{\"deadLetterTargetArn\":");
		asya_buf_json(&policy, asya_str_c(dead_arn));
		asya_buf_printf(&policy, ",\"maxReceiveCount\":%d}", RECEIVES_BACKSTOP);
		asya_buf_c(&call->body, ",\"RedrivePolicy\":");
		asya_buf_json(&call->body, asya_buf_view(&policy));
		asya_buf_fini(&policy);
	}
	asya_buf_c(&call->body, "}}");
	sqs_call_send(call, TIMEOUT_MS, SQS_TRIES);
}

static void on_dead_letters(struct sqs_wait *w, const struct asya_error *err)
{
	struct sqs_queue *q = w->user;

	if (err)
		fail(q, err);
	else
		create(q, sqs_queue_at(q->sqs, q->actor, true)->arn);
}

static bool create_wanted(const struct sqs_queue *q)
{
	for (const struct asya_link *i = q->waits.next; i != &q->waits; i = i->next)
		if (asya_container_of(i, struct sqs_wait, link)->create)
			return q->sqs->auto_create;
	return false;
}

static void on_url(struct sqs_call *call, yyjson_val *root, const struct sqs_fault *fault)
{
	struct sqs_queue *q = call->user, *dead;
	struct asya_error err;

	if (!fault) {
		have_url(q, sqs_member(root, "QueueUrl"));
		return;
	}
	q->missing =
		sqs_fault_is(fault, "QueueDoesNotExist") || sqs_fault_is(fault, "NonExistentQueue");
	if (!q->missing) {
		fail(q, &fault->err);
	} else if (!create_wanted(q)) {
		asya_error_set(&err, ASYA_RETRY,
			       "it does not exist; make it, or set ASYA_QUEUE_AUTO_CREATE=true");
		fail(q, &err);
	} else if (q->dead) {
		create(q, NULL);
	} else {
		q->dead_letters =
			(struct sqs_wait){.create = true, .done = on_dead_letters, .user = q};
		dead = sqs_queue_at(q->sqs, q->actor, true);
		sqs_queue_lost(dead); /* what took this one may have taken both */
		sqs_queue_want(dead, &q->dead_letters);
	}
}

static void begin(struct sqs_queue *q)
{
	q->state = SQS_FINDING;
	free(q->url);
	q->url = NULL;
	look(q);
}

void sqs_queue_want(struct sqs_queue *q, struct sqs_wait *w)
{
	asya_list_add_tail(&q->waits, &w->link);
	if (q->state == SQS_UNKNOWN)
		begin(q);
	else if (q->state == SQS_READY)
		answer_waits(q, NULL);
}

void sqs_queue_lost(struct sqs_queue *q)
{
	if (q->state == SQS_READY)
		q->state = SQS_UNKNOWN;
}

/* ---- depths ---- */

struct asking {
	struct sqs *sqs;
	struct asya_stat *op;
	struct sqs_queue *queue; /* asked now: the actor's, then its dead letters */
	struct sqs_wait wait;
};

static void stat_next(struct asking *t, const struct asya_error *err)
{
	struct sqs *s = t->sqs;

	if (!err && !t->queue->dead) {
		t->queue = sqs_queue_at(s, t->op->actor, true);
		sqs_queue_want(t->queue, &t->wait);
		return;
	}
	t->op->done(t->op, err);
	s->n_stats--;
	free(t);
	sqs_ring(s);
}

static void on_depth(struct sqs_call *call, yyjson_val *root, const struct sqs_fault *fault)
{
	struct asking *t = call->user;
	struct asya_depth *d = &t->op->depth;
	yyjson_val *all = yyjson_obj_get(root, "Attributes");
	int64_t ready = number(sqs_member(all, "ApproximateNumberOfMessages"));
	int64_t leased = number(sqs_member(all, "ApproximateNumberOfMessagesNotVisible"));
	int64_t delayed = number(sqs_member(all, "ApproximateNumberOfMessagesDelayed"));

	if (fault && sqs_fault_is(fault, "NonExistent"))
		sqs_queue_lost(t->queue);
	if (t->queue->dead)
		d->dead = ready + leased + delayed;
	else
		*d = (struct asya_depth){.ready = ready, .leased = leased, .delayed = delayed};
	stat_next(t, fault ? &fault->err : NULL);
}

static void on_stat_queue(struct sqs_wait *w, const struct asya_error *err)
{
	struct asking *t = w->user;
	struct sqs_call *call;

	if (err) { /* a queue that is not there is empty */
		stat_next(t, t->queue->missing ? NULL : err);
		return;
	}
	call = call_of(t->queue, "GetQueueAttributes", on_depth);
	call->user = t;
	asya_buf_c(&call->body, ",\"AttributeNames\":[\"ApproximateNumberOfMessages\","
				"\"ApproximateNumberOfMessagesNotVisible\","
				"\"ApproximateNumberOfMessagesDelayed\"]}");
	sqs_call_send(call, TIMEOUT_MS, SQS_TRIES);
}

void sqs_stat(struct sqs *s, struct asya_stat *op)
{
	struct asking *t = asya_new0(struct asking);

	*t = (struct asking){.sqs = s, .op = op, .queue = sqs_queue_at(s, op->actor, false)};
	t->wait = (struct sqs_wait){.done = on_stat_queue, .user = t};
	op->depth = (struct asya_depth){0};
	s->n_stats++;
	sqs_queue_want(t->queue, &t->wait);
}
