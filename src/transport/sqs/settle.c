// SPDX-License-Identifier: Apache-2.0
/*
 *	posts ─► all confirmed ─► delete, or visibility ─► finished ─► done
 *	  └ one failed ────────────────────────────────────────┘
 */
#include "transport/sqs/inner.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/mem.h"

static void finish(struct sqs_settling *g, enum asya_settled outcome, const struct asya_error *err)
{
	g->outcome = outcome;
	if (err)
		g->err = *err;
	asya_list_add_tail(&g->sqs->finished, &g->link);
	sqs_ring(g->sqs);
}

static bool receipt_is_void(const struct sqs_fault *f)
{
	static const char *const codes[] = {"ReceiptHandleIsInvalid", "InvalidParameterValue",
					    "MessageNotInflight",     "InvalidIdFormat",
					    "QueueDoesNotExist",      "NonExistentQueue"};

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(codes); i++)
		if (sqs_fault_is(f, codes[i]))
			return true;
	return false;
}

static void on_verdict(struct sqs_item *i, const struct sqs_fault *fault)
{
	struct sqs_settling *g = i->user;

	asya_failpoint("sqs.acked");
	if (!fault) {
		finish(g, ASYA_SETTLED, NULL);
	} else if (receipt_is_void(fault)) {
		finish(g, ASYA_STALE, NULL);
	} else {
		sqs_delivery_of(g->op->delivery)->settling = false;
		finish(g, ASYA_SETTLE_FAILED, &fault->err);
	}
}

void sqs_settle_verdict(struct sqs_settling *g)
{
	struct asya_settle *op = g->op;
	struct sqs_delivery *d = sqs_delivery_of(op->delivery);
	bool ack = op->verdict == ASYA_ACK;
	struct sqs_item *i;

	/* A heartbeat that is answered later would hide again what is released. */
	if (d->beat) {
		d->after_beat = g;
		return;
	}
	if (d->lost) {
		finish(g, ASYA_STALE, NULL);
		return;
	}
	d->settling = true; /* no heartbeat any more */
	i = sqs_item_new(d->queue, ack ? SQS_DELETE : SQS_CHANGE, on_verdict, g);
	i->receipt = asya_strdup(d->receipt);
	i->visibility_s = (op->delay_ms + 999) / 1000;
	if (i->visibility_s > SQS_VISIBILITY_MAX_S)
		i->visibility_s = SQS_VISIBILITY_MAX_S;
	sqs_item_queue(i);
}

static void posts_done(struct sqs_settling *g)
{
	asya_failpoint("sqs.posted");
	if (g->outcome == ASYA_SETTLE_FAILED || !g->op->delivery)
		finish(g, g->outcome, NULL);
	else
		sqs_settle_verdict(g);
}

static void on_posted(struct sqs_item *i, const struct sqs_fault *fault)
{
	struct sqs_settling *g = i->user;

	if (fault) {
		g->outcome = ASYA_SETTLE_FAILED;
		g->err = fault->err;
	}
	if (--g->pending == 0)
		posts_done(g);
}

static void post(struct sqs_settling *g, const struct asya_post *p)
{
	struct sqs_item *i =
		sqs_item_new(sqs_queue_at(g->sqs, p->actor, p->dead), SQS_SEND, on_posted, g);

	i->post = p;
	i->form = sqs_body_form(p->body, &i->bytes);
	i->bytes += SQS_OVERHEAD;
	i->salt = g->sqs->salt++;
	sqs_item_queue(i);
}

/* What no queue takes; the size of one that was not found yet is not known. */
static bool too_large(struct sqs_settling *g)
{
	for (size_t k = 0; k < g->op->n_posts; k++) {
		const struct asya_post *p = &g->op->posts[k];
		struct sqs_queue *q = sqs_queue_at(g->sqs, p->actor, p->dead);
		size_t most = q->state == SQS_READY ? q->max_bytes : SQS_BODY_MAX, bytes;

		if (p->body.n <= most / 2) /* no form doubles it */
			continue;
		sqs_body_form(p->body, &bytes);
		if (bytes <= most)
			continue;
		asya_error_set(&g->err, ASYA_REJECT,
			       "a message of %zu bytes for queue '%.*s', which takes at most %zu",
			       bytes, ASYA_STR_ARG(q->name), most);
		return true;
	}
	return false;
}

void sqs_settle(struct sqs *s, struct asya_settle *op)
{
	struct sqs_delivery *d = op->delivery ? sqs_delivery_of(op->delivery) : NULL;
	struct sqs_settling *g = asya_new0(struct sqs_settling);

	*g = (struct sqs_settling){.sqs = s, .op = op, .outcome = ASYA_SETTLED};
	asya_list_init(&g->link);
	s->n_settles++;
	if (d && (d->lost || asya_clock_mono_ms() >= d->lease_ms)) {
		d->lost = true;
		finish(g, ASYA_STALE, NULL);
		return;
	}
	if (too_large(g)) {
		finish(g, ASYA_SETTLE_FAILED, NULL);
		return;
	}
	if (!op->n_posts) {
		posts_done(g);
		return;
	}
	g->pending = (unsigned)op->n_posts;
	for (size_t k = 0; k < op->n_posts; k++)
		post(g, &op->posts[k]);
}

void sqs_finish_settles(struct sqs *s)
{
	struct asya_link *l;

	while ((l = asya_list_pop(&s->finished))) {
		struct sqs_settling *g = asya_container_of(l, struct sqs_settling, link);
		struct sqs_delivery *d = g->op->delivery ? sqs_delivery_of(g->op->delivery) : NULL;
		bool failed = g->outcome == ASYA_SETTLE_FAILED;
		struct sqs_consumer *c;

		g->op->done(g->op, g->outcome, failed ? &g->err : NULL);
		s->n_settles--;
		free(g);
		if (!d || failed)
			continue;
		c = d->consumer;
		sqs_delivery_free(d);
		sqs_pump(c);
	}
}
