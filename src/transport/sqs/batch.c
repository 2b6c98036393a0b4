// SPDX-License-Identifier: Apache-2.0
/*
 * Entries wait in their queue's lane. Ten go out at once; fewer, when nothing of that lane is under
 * way: so a lone entry waits for nobody, and under load requests fill up while others are answered.
 */
#include "transport/sqs/inner.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>

enum { TIMEOUT_MS = 20000 };

struct batch {
	struct sqs_queue *queue;
	enum sqs_kind kind;
	size_t n;
	struct sqs_item *items[SQS_BATCH];
};

static void flush_lane(struct sqs_queue *q, enum sqs_kind kind);

static void item_end(struct sqs_item *i, const struct sqs_fault *fault)
{
	struct sqs *s = i->queue->sqs;

	i->done(i, fault);
	free(i->receipt);
	free(i);
	s->n_items--;
	if (s->closing)
		sqs_ring(s);
}

static void to_lane(struct sqs_item *i)
{
	struct sqs_lane *lane = &i->queue->lanes[i->kind];

	asya_list_add_tail(&lane->items, &i->link);
	lane->n++;
}

static void item_failed(struct sqs_item *i, const struct sqs_fault *fault)
{
	struct sqs *s = i->queue->sqs;

	if (!fault->passing || ++i->failures >= SQS_TRIES || s->closing) {
		item_end(i, fault);
		return;
	}
	i->again_ms = asya_clock_mono_ms() + sqs_backoff_ms(i->failures);
	asya_list_add_tail(&s->parked, &i->link);
	sqs_ring(s);
}

void sqs_items_due(struct sqs *s, int64_t now)
{
	struct asya_link *next;

	for (struct asya_link *l = s->parked.next; l != &s->parked; l = next) {
		struct sqs_item *i = asya_container_of(l, struct sqs_item, link);

		next = l->next;
		if (i->again_ms > now)
			continue;
		asya_list_remove(l);
		to_lane(i);
		sqs_ring(s);
	}
}

/* ---- answers ---- */

static bool no_queue(const struct sqs_fault *f)
{
	return sqs_fault_is(f, "QueueDoesNotExist") || sqs_fault_is(f, "NonExistentQueue");
}

static void all_failed(struct batch *b, const struct sqs_fault *fault)
{
	struct sqs_fault each = *fault;

	each.passing = false; /* the request was repeated already */
	if (no_queue(fault)) {
		sqs_queue_lost(b->queue);
		each.passing = b->kind == SQS_SEND; /* it may be made again */
	}
	for (size_t k = 0; k < b->n; k++)
		item_failed(b->items[k], &each);
}

/* The entries that failed are taken out of the batch. */
static void some_failed(struct batch *b, yyjson_val *failed)
{
	static const char *const actions[] = {"SendMessageBatch", "DeleteMessageBatch",
					      "ChangeMessageVisibilityBatch"};
	yyjson_val *entry;
	size_t at, n;

	yyjson_arr_foreach(failed, at, n, entry)
	{
		struct asya_str id = sqs_member(entry, "Id");
		struct asya_str code = sqs_member(entry, "Code");
		struct sqs_fault fault = {0};
		char text[80];
		size_t k = id.n == 1 && id.p[0] >= '0' ? (size_t)(id.p[0] - '0') : SQS_BATCH;

		if (k >= b->n || !b->items[k])
			continue;
		snprintf(text, sizeof(text), "%.*s", ASYA_STR_ARG(code));
		sqs_fault_set(&fault, text, sqs_member(entry, "Message"), actions[b->kind], 200);
		item_failed(take_ptr(b->items[k]), &fault);
	}
}

static void on_answer(struct sqs_call *call, yyjson_val *root, const struct sqs_fault *fault)
{
	struct batch *b = call->user;
	struct sqs_queue *q = b->queue;
	enum sqs_kind kind = b->kind;

	q->lanes[kind].under_way--;
	if (fault) {
		all_failed(b, fault);
	} else {
		some_failed(b, yyjson_obj_get(root, "Failed"));
		for (size_t k = 0; k < b->n; k++)
			if (b->items[k])
				item_end(b->items[k], NULL);
	}
	free(b);
	flush_lane(q, kind);
}

/* ---- requests ---- */

static void write_attribute(struct asya_buf *b, const char *name, const char *type,
			    const char *value, bool *first)
{
	asya_buf_printf(b, "%s\"%s\":{\"DataType\":\"%s\",\"StringValue\":\"%s\"}",
			*first ? ",\"MessageAttributes\":{" : ",", name, type, value);
	*first = false;
}

static void write_attributes(struct asya_buf *b, const struct sqs_item *i, int64_t not_before_us)
{
	bool first = true;
	char text[32];

	if (sqs_form_name(i->form))
		write_attribute(b, "asya-encoding", "String", sqs_form_name(i->form), &first);
	if (i->post->queued_us) {
		snprintf(text, sizeof(text), "%" PRId64, i->post->queued_us);
		write_attribute(b, "asya-queued-us", "Number", text, &first);
	}
	if (not_before_us) {
		snprintf(text, sizeof(text), "%" PRId64, not_before_us);
		write_attribute(b, "asya-not-before-us", "Number", text, &first);
	}
	if (!first)
		asya_buf_char(b, '}');
}

static void write_send(struct asya_buf *b, const struct sqs_item *i)
{
	struct sqs *s = i->queue->sqs;
	int64_t seconds = (i->post->delay_ms + 999) / 1000, not_before_us = 0;
	char group[129], dedup[65];

	if (seconds > 0 && (s->fifo || seconds > SQS_DELAY_MAX_S))
		not_before_us = asya_clock_wall_us() + i->post->delay_ms * 1000;
	if (seconds > SQS_DELAY_MAX_S)
		seconds = SQS_DELAY_MAX_S;
	asya_buf_c(b, ",\"MessageBody\":");
	sqs_body_write(b, i->post->body, i->form);
	if (seconds > 0 && !s->fifo)
		asya_buf_printf(b, ",\"DelaySeconds\":%" PRId64, seconds);
	write_attributes(b, i, not_before_us);
	if (!s->fifo && !s->fair)
		return;
	sqs_group_write(group, dedup, i->post->body, i->post->dead, i->salt);
	asya_buf_c(b, ",\"MessageGroupId\":");
	asya_buf_json(b, asya_str_c(group));
	if (s->fifo)
		asya_buf_printf(b, ",\"MessageDeduplicationId\":\"%s\"", dedup);
}

static void write_entry(struct asya_buf *b, const struct sqs_item *i, size_t k)
{
	asya_buf_printf(b, "%s{\"Id\":\"%zu\"", k ? "," : "", k);
	if (i->kind == SQS_SEND) {
		write_send(b, i);
	} else {
		asya_buf_c(b, ",\"ReceiptHandle\":");
		asya_buf_json(b, asya_str_c(i->receipt));
	}
	if (i->kind == SQS_CHANGE)
		asya_buf_printf(b, ",\"VisibilityTimeout\":%" PRId64, i->visibility_s);
	asya_buf_char(b, '}');
}

static struct batch *batch_take(struct sqs_queue *q, enum sqs_kind kind)
{
	struct batch *b = asya_new0(struct batch);
	struct sqs_lane *lane = &q->lanes[kind];
	size_t bytes = 0, most = q->max_bytes > SQS_BATCH_BYTES ? q->max_bytes : SQS_BATCH_BYTES;

	b->queue = q;
	b->kind = kind;
	while (b->n < SQS_BATCH && !asya_list_empty(&lane->items)) {
		struct sqs_item *i = asya_container_of(lane->items.next, struct sqs_item, link);

		if (b->n && bytes + i->bytes > most)
			break;
		bytes += i->bytes;
		asya_list_remove(&i->link);
		lane->n--;
		i->sent_ms = asya_clock_mono_ms();
		b->items[b->n++] = i;
	}
	return b;
}

static void send_batch(struct sqs_queue *q, enum sqs_kind kind)
{
	static const char *const actions[] = {"SendMessageBatch", "DeleteMessageBatch",
					      "ChangeMessageVisibilityBatch"};
	struct sqs_call *call = sqs_call_new(q->sqs, actions[kind]);
	struct batch *b = batch_take(q, kind);

	asya_buf_c(&call->body, "{\"QueueUrl\":");
	asya_buf_json(&call->body, asya_str_c(q->url));
	asya_buf_c(&call->body, ",\"Entries\":[");
	for (size_t k = 0; k < b->n; k++)
		write_entry(&call->body, b->items[k], k);
	asya_buf_c(&call->body, "]}");
	call->done = on_answer;
	call->user = b;
	q->lanes[kind].under_way++;
	sqs_call_send(call, TIMEOUT_MS, SQS_TRIES);
}

static void on_queue(struct sqs_wait *w, const struct asya_error *err)
{
	struct sqs_queue *q = w->user;
	struct asya_link now, *l;
	struct sqs_fault fault = {0};

	q->waiting_for_items = false;
	if (!err) {
		for (int kind = 0; kind < SQS_KINDS; kind++)
			flush_lane(q, kind);
		return;
	}
	fault.err = *err;
	asya_list_init(&now);
	for (int kind = 0; kind < SQS_KINDS; kind++) {
		asya_list_splice(&now, &q->lanes[kind].items);
		q->lanes[kind].n = 0;
	}
	while ((l = asya_list_pop(&now)))
		item_end(asya_container_of(l, struct sqs_item, link), &fault);
}

static void flush_lane(struct sqs_queue *q, enum sqs_kind kind)
{
	struct sqs_lane *lane = &q->lanes[kind];
	unsigned most = q->sqs->fifo && kind == SQS_SEND ? 1 : SQS_SENDS_MAX;

	if (lane->n && q->state != SQS_READY) {
		if (q->waiting_for_items)
			return;
		q->waiting_for_items = true;
		q->for_items = (struct sqs_wait){.create = true, .done = on_queue, .user = q};
		sqs_queue_want(q, &q->for_items);
		return;
	}
	while (lane->n && lane->under_way < most && (lane->n >= SQS_BATCH || !lane->under_way))
		send_batch(q, kind);
}

void sqs_flush(struct sqs *s)
{
	for (struct asya_link *i = s->queues.next; i != &s->queues; i = i->next)
		for (int kind = 0; kind < SQS_KINDS; kind++)
			flush_lane(asya_container_of(i, struct sqs_queue, link), kind);
}

struct sqs_item *sqs_item_new(struct sqs_queue *q, enum sqs_kind kind,
			      void (*done)(struct sqs_item *i, const struct sqs_fault *fault),
			      void *user)
{
	struct sqs_item *i = asya_new0(struct sqs_item);

	*i = (struct sqs_item){.queue = q, .kind = kind, .done = done, .user = user};
	q->sqs->n_items++;
	return i;
}

void sqs_item_queue(struct sqs_item *i)
{
	to_lane(i);
	sqs_ring(i->queue->sqs);
}
