// SPDX-License-Identifier: Apache-2.0
/*
 * Long polls: one while the queue is quiet, up to SQS_RECEIVES_MAX side by side while each comes
 * back full. What a poll may bring is reserved in the window.
 */
#include "transport/sqs/inner.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>

enum { GRACE_MS = 15000 };

struct sqs_poll {
	struct sqs_consumer *consumer;
	unsigned asked;
	int64_t sent_ms;
};

/* ---- deliveries ---- */

void sqs_delivery_free(struct sqs_delivery *d)
{
	if (d->beat)
		d->beat->user = NULL;
	asya_list_remove(&d->held);
	d->consumer->out--;
	free(d->body);
	free(d->receipt);
	free(d);
}

static void nothing(struct sqs_item *i, const struct sqs_fault *fault)
{
	(void)i;
	(void)fault;
}

/* Not for us, or not yet. */
static void hide(struct sqs_queue *q, struct asya_str receipt, int64_t seconds)
{
	struct sqs_item *i = sqs_item_new(q, SQS_CHANGE, nothing, NULL);

	i->receipt = asya_strndup(receipt.p, receipt.n);
	i->visibility_s = seconds > SQS_VISIBILITY_MAX_S ? SQS_VISIBILITY_MAX_S : seconds;
	sqs_item_queue(i);
}

static int64_t number(struct asya_str s)
{
	int64_t v = 0;

	for (size_t i = 0; i < s.n && i < 18 && s.p[i] >= '0' && s.p[i] <= '9'; i++)
		v = v * 10 + s.p[i] - '0';
	return v;
}

static struct asya_str attribute(yyjson_val *message, const char *name)
{
	yyjson_val *all = yyjson_obj_get(message, "MessageAttributes");

	return sqs_member(yyjson_obj_get(all, name), "StringValue");
}

static void fill(struct sqs_delivery *d, yyjson_val *message)
{
	yyjson_val *system = yyjson_obj_get(message, "Attributes");
	int64_t ours = number(attribute(message, "asya-queued-us"));
	int64_t sent_ms = number(sqs_member(system, "SentTimestamp"));

	d->base.receives = (unsigned)number(sqs_member(system, "ApproximateReceiveCount"));
	d->base.queued_us = ours ? ours : sent_ms * 1000;
}

/* The lease began when the service took the message, somewhere in a long poll; its answer was not
 * there yet when the loop last began to wait. So a process that stood still since then does not
 * take its lease for longer than it is. */
static void deliver(struct sqs_poll *p, yyjson_val *message)
{
	struct sqs_consumer *c = p->consumer;
	struct sqs_queue *q = c->queue;
	struct asya_str receipt = sqs_member(message, "ReceiptHandle");
	int64_t taken_ms = p->sent_ms > c->sqs->turn_ms ? p->sent_ms : c->sqs->turn_ms;
	int64_t early_us = number(attribute(message, "asya-not-before-us")) - asya_clock_wall_us();
	struct sqs_delivery *d;
	size_t n;
	char *body;

	if (!receipt.n)
		return;
	body = sqs_body_read(sqs_member(message, "Body"), attribute(message, "asya-encoding"), &n);
	if (!c->user || c->sqs->closing || c->out >= c->window || early_us > 0 || !body) {
		/* one whose encoding is not ours stays for those who know it */
		hide(q, receipt, early_us > 0 ? (early_us + 999999) / 1000000 : body ? 0 : 30);
		free(body);
		return;
	}
	d = asya_new0(struct sqs_delivery);
	*d = (struct sqs_delivery){.consumer = c,
				   .queue = q,
				   .body = body,
				   .receipt = asya_strndup(receipt.p, receipt.n),
				   .received_ms = taken_ms,
				   .lease_ms = taken_ms + c->sqs->visibility_s * 1000};
	d->base.body = (struct asya_str){body, n};
	fill(d, message);
	c->out++;
	asya_list_add_tail(&c->sqs->held, &d->held);
	c->user->deliver(c->user, &d->base);
}

/* ---- polls ---- */

static void tell(struct sqs_consumer *c, bool live, const struct asya_error *err)
{
	bool news = !c->told || c->live != live;

	c->told = true;
	c->live = live;
	if (news && c->user && c->user->state && !c->sqs->closing)
		c->user->state(c->user, live, err);
}

static void fail(struct sqs_consumer *c, const struct asya_error *err)
{
	c->again_ms = asya_clock_mono_ms() + sqs_backoff_ms(c->failures++);
	tell(c, false, err);
	sqs_ring(c->sqs);
}

static void on_polled(struct sqs_call *call, yyjson_val *root, const struct sqs_fault *fault)
{
	struct sqs_poll *p = call->user;
	struct sqs_consumer *c = p->consumer;
	yyjson_val *messages = yyjson_obj_get(root, "Messages"), *m;
	size_t at, n = 0;

	c->polls--;
	c->reserved -= p->asked;
	if (fault) {
		if (sqs_fault_is(fault, "QueueDoesNotExist") ||
		    sqs_fault_is(fault, "NonExistentQueue"))
			sqs_queue_lost(c->queue);
		if (!c->sqs->closing)
			fail(c, &fault->err);
		free(p);
		return;
	}
	c->failures = 0;
	tell(c, true, NULL);
	yyjson_arr_foreach(messages, at, n, m)
	{
		deliver(p, m);
	}
	if (n >= p->asked && c->allowed < SQS_RECEIVES_MAX)
		c->allowed *= 2;
	else if (!n)
		c->allowed = 1;
	free(p);
	sqs_pump(c);
}

static void poll(struct sqs_consumer *c, unsigned n)
{
	struct sqs_poll *p = asya_new0(struct sqs_poll);
	struct sqs_call *call = sqs_call_new(c->sqs, "ReceiveMessage");

	*p = (struct sqs_poll){.consumer = c, .asked = n, .sent_ms = asya_clock_mono_ms()};
	c->polls++;
	c->reserved += n;
	asya_buf_c(&call->body, "{\"QueueUrl\":");
	asya_buf_json(&call->body, asya_str_c(c->queue->url));
	asya_buf_printf(&call->body,
			",\"MaxNumberOfMessages\":%u,\"WaitTimeSeconds\":%" PRId64
			",\"VisibilityTimeout\":%" PRId64
			",\"AttributeNames\":[\"SentTimestamp\",\"ApproximateReceiveCount\"]"
			",\"MessageAttributeNames\":[\"All\"]}",
			n, c->sqs->wait_s, c->sqs->visibility_s);
	call->done = on_polled;
	call->user = p;
	sqs_call_send(call, c->sqs->wait_s * 1000 + GRACE_MS, 1);
}

static void on_queue(struct sqs_wait *w, const struct asya_error *err)
{
	struct sqs_consumer *c = w->user;

	c->waiting = false;
	if (err) {
		fail(c, err);
		return;
	}
	tell(c, true, NULL);
	sqs_pump(c);
}

void sqs_pump(struct sqs_consumer *c)
{
	if (!c->user || c->sqs->closing || c->waiting || c->again_ms > asya_clock_mono_ms())
		return;
	if (c->queue->state != SQS_READY) {
		c->waiting = true;
		c->wait = (struct sqs_wait){.create = true, .done = on_queue, .user = c};
		sqs_queue_want(c->queue, &c->wait);
		return;
	}
	while (c->polls < c->allowed && c->out + c->reserved < c->window) {
		unsigned room = c->window - c->out - c->reserved;

		poll(c, room < SQS_BATCH ? room : SQS_BATCH);
	}
}

void sqs_consumers_due(struct sqs *s, int64_t now)
{
	for (struct asya_link *i = s->consumers.next; i != &s->consumers; i = i->next) {
		struct sqs_consumer *c = asya_container_of(i, struct sqs_consumer, link);

		if (c->again_ms && c->again_ms <= now) {
			c->again_ms = 0;
			sqs_pump(c);
		}
	}
}

/* ---- the heartbeat ---- */

static void on_beaten(struct sqs_item *i, const struct sqs_fault *fault)
{
	struct sqs_delivery *d = i->user;
	struct sqs_settling *waits;

	if (!d)
		return;
	d->beat = NULL;
	if (!fault)
		d->lease_ms = i->sent_ms + i->visibility_s * 1000;
	else if (!fault->passing && fault->code[0])
		d->lost = true;
	waits = take_ptr(d->after_beat);
	if (waits)
		sqs_settle_verdict(waits);
}

static void extend(struct sqs_delivery *d, int64_t now)
{
	int64_t left_s = SQS_VISIBILITY_MAX_S - (now - d->received_ms) / 1000 - 5;
	int64_t seconds = d->queue->sqs->visibility_s;

	if (left_s < seconds)
		seconds = left_s;
	if (seconds <= 0)
		return; /* twelve hours are the most; then it is delivered again */
	d->beat = sqs_item_new(d->queue, SQS_CHANGE, on_beaten, d);
	d->beat->receipt = asya_strdup(d->receipt);
	d->beat->visibility_s = seconds;
	sqs_item_queue(d->beat);
}

void sqs_beat(struct sqs *s)
{
	int64_t now = asya_clock_mono_ms(), third = s->visibility_s * 1000 / 3;

	if (s->releasing)
		return;
	for (struct asya_link *i = s->held.next; i != &s->held; i = i->next) {
		struct sqs_delivery *d = asya_container_of(i, struct sqs_delivery, held);

		if (now >= d->lease_ms)
			d->lost = true; /* somebody else may have it */
		if (!d->lost && !d->beat && !d->settling && d->lease_ms - now <= 2 * third)
			extend(d, now);
	}
}
