// SPDX-License-Identifier: Apache-2.0
/*
 * One delivery's life:
 *
 *	deliver ─► waiting ─► invoking ─► settling ─► gone
 *	   │          │           │          │  ▲
 *	   │          └─ deadline ┤          └──┘ the queue could not take it: again, later
 *	   └─ poison, wrong actor ┘
 *
 * `waiting`: the runtime has no room, or is not ready; the message stays leased. Every way out of
 * the first two goes through one settlement, whose posts are durable before the ack. While
 *draining, what waits is released, and so is what a dying runtime leaves behind.
 */
#include "sidecar/sidecar.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "core/json_scan.h"
#include "core/json_value.h"
#include "core/object_key.h"
#include "core/window.h"

enum { AGAIN_FIRST_MS = 100, AGAIN_MAX_MS = 5000, MRO_MAX = 64 };

struct message {
	struct asya_link link; /* waiting, invoking, settling or again */
	struct sidecar *s;
	struct asya_arena *arena;
	struct asya_delivery *delivery;
	struct asya_envelope env;
	struct asya_attempt attempt;
	struct asya_plan plan;
	struct call call;
	struct asya_file_put put;
	struct asya_s3_op object;
	struct asya_str
		body; /* what the handler gets: the delivery's, or with its payload fetched */
	struct claim *claims; /* of what is fetched or left */
	struct asya_post *posts;
	size_t n_claims; /* that are not done */
	struct asya_error claim_error;
	struct asya_settle settle;
	struct asya_hop hop;
	struct asya_str outcome;
	int64_t received_ns, received_us, invoked_ns, settle_ns;
	int64_t again_at_ms, again_ms;
};

static const struct asya_str outcomes[] = {
	[ASYA_OUTCOME_ROUTED] = ASYA_STR("routed"),   [ASYA_OUTCOME_DONE] = ASYA_STR("done"),
	[ASYA_OUTCOME_ENDED] = ASYA_STR("ended"),     [ASYA_OUTCOME_FAILED] = ASYA_STR("failed"),
	[ASYA_OUTCOME_RETRIED] = ASYA_STR("retried"), [ASYA_OUTCOME_FINAL] = ASYA_STR("final"),
};

static void message_free(struct message *m)
{
	struct sidecar *s = m->s;

	asya_list_remove(&m->link);
	s->n_messages--;
	asya_arena_free(m->arena);
}

static void move_to(struct asya_link *list, struct message *m)
{
	asya_list_remove(&m->link);
	asya_list_add_tail(list, &m->link);
}

static bool end_of_drain(struct sidecar *s)
{
	if (!s->draining || s->n_messages || s->ended)
		return false;
	s->ended = true;
	s->drained(s);
	return true;
}

/* ---- settling ---- */

static void on_settled(struct asya_settle *op, enum asya_settled outcome,
		       const struct asya_error *err);

static void settle_now(struct message *m)
{
	if (m->s->ended) { /* cut short: closing the transport has given it back */
		message_free(m);
		return;
	}
	move_to(&m->s->settling, m);
	m->settle_ns = asya_clock_mono_ns();
	m->hop.settled_us = asya_clock_wall_us();
	asya_failpoint("settle.before");
	asya_transport_settle(m->s->transport, &m->settle);
}

static void settle_later(struct message *m, const struct asya_error *err)
{
	m->again_ms = m->again_ms ? m->again_ms * 2 : AGAIN_FIRST_MS;
	if (m->again_ms > AGAIN_MAX_MS)
		m->again_ms = AGAIN_MAX_MS;
	m->again_at_ms = asya_clock_mono_ms() + m->again_ms;
	asya_log(ASYA_LOG_WARNING, "settle_failed", LOG_STR("id", m->env.id),
		 LOG_C("error", err->text), LOG_INT("again_in_ms", m->again_ms));
	move_to(&m->s->again, m);
}

static void count_settled(struct message *m)
{
	struct meter *meter = m->s->meter;
	int64_t now = asya_clock_mono_ns();

	for (size_t i = 0; i < m->settle.n_posts; i++) {
		const struct asya_post *p = &m->settle.posts[i];

		meter_sent(meter, p->actor, p->dead ? "dead" : m->outcome.p, p->body.n);
	}
	if (m->settle.n_posts)
		meter_settled(meter, m->settle.posts[0].actor, now - m->settle_ns);
	meter_processed(meter, m->outcome, now - m->received_ns);
}

static void on_settled(struct asya_settle *op, enum asya_settled outcome,
		       const struct asya_error *err)
{
	struct message *m = asya_container_of(op, struct message, settle);
	struct sidecar *s = m->s;

	asya_failpoint("settle.after");
	if (outcome == ASYA_SETTLE_FAILED) {
		settle_later(m, err);
		if (s->ended)
			message_free(m);
		return;
	}
	if (outcome == ASYA_STALE)
		asya_log(
			ASYA_LOG_WARNING, "delivery_lost", LOG_STR("id", m->env.id),
			LOG_C("what",
			      "its lease had ended; somebody else has it, this result is dropped"));
	else
		count_settled(m);
	message_free(m);
	if (!end_of_drain(s))
		flow_pump(s);
}

static void release(struct message *m, int64_t delay_ms)
{
	m->outcome = ASYA_STR("released");
	m->settle = (struct asya_settle){.delivery = m->delivery,
					 .verdict = ASYA_RELEASE,
					 .delay_ms = delay_ms,
					 .done = on_settled};
	settle_now(m);
}

/* Fills the hop record; `live` is what this adds to the messages below the root. */
static void record(struct message *m, struct asya_str detail, int live)
{
	m->hop = (struct asya_hop){.id = m->env.id,
				   .parent_id = m->env.parent_id,
				   .root = m->attempt.root,
				   .outcome = m->outcome,
				   .detail = detail,
				   .received_us = m->received_us,
				   .attempt = m->attempt.n,
				   .live = live};
}

static void ack_with(struct message *m, const struct asya_post *posts, size_t n)
{
	m->settle = (struct asya_settle){.delivery = m->delivery,
					 .verdict = ASYA_ACK,
					 .posts = posts,
					 .n_posts = n,
					 .hop = &m->hop,
					 .done = on_settled};
	settle_now(m);
}

/* Into this actor's own dead letters, byte for byte. */
static void to_dead_letters(struct message *m, struct asya_str why)
{
	struct asya_post *p = asya_arena_new0(m->arena, struct asya_post);

	*p = (struct asya_post){.actor = m->s->actor.name,
				.dead = true,
				.body = m->delivery->body,
				.queued_us = m->delivery->queued_us};
	m->outcome = ASYA_STR("dead");
	record(m, why, -1);
	asya_log(ASYA_LOG_ERROR, "dead_letter", LOG_STR("id", m->env.id), LOG_STR("why", why));
	meter_failed(m->s->meter, ASYA_STR("dead_letter"));
	ack_with(m, p, 1);
}

/* The largest body that the queue takes. */
static size_t taken(const struct sidecar *s)
{
	size_t most = s->transport->max_body;

	return most && most < s->limits.message_bytes ? most : s->limits.message_bytes;
}

static bool plan_fits(const struct message *m)
{
	const struct sidecar *s = m->s;
	size_t most = s->config->claim_check ? s->limits.message_bytes : taken(s);

	for (size_t i = 0; i < m->plan.n; i++)
		if (m->plan.sends[i].body.n > most)
			return false;
	return true;
}

/* All that was to be left in the bucket is there. */
static void posts_ready(struct message *m)
{
	if (!m->claim_error.text[0]) {
		ack_with(m, m->posts, m->plan.n);
		return;
	}
	asya_log(ASYA_LOG_ERROR, "payload_not_left", LOG_STR("id", m->env.id),
		 LOG_C("error", m->claim_error.text));
	if (m->claim_error.advice == ASYA_REJECT)
		to_dead_letters(m, ASYA_STR("ClaimError"));
	else
		release(m, 1000);
}

static void on_claim_left(struct claim *c, const struct asya_error *err)
{
	struct message *m = c->user;

	if (err)
		m->claim_error = *err;
	else
		m->posts[c - m->claims].body = c->body;
	if (--m->n_claims == 0)
		posts_ready(m);
}

/* Payloads that their queue does not take stay in the bucket. */
static void leave_payloads(struct message *m)
{
	struct sidecar *s = m->s;
	size_t most = taken(s);

	move_to(&s->settling, m);
	m->claims = asya_arena_array(m->arena, struct claim, m->plan.n);
	m->n_claims = 1; /* until all have begun */
	for (size_t i = 0; i < m->plan.n; i++) {
		struct claim *c = &m->claims[i];

		if (m->posts[i].body.n <= most)
			continue;
		*c = (struct claim){
			.claims = &s->claims, .arena = m->arena, .done = on_claim_left, .user = m};
		if (claim_check(c, m->posts[i].body, &m->claim_error) == 0)
			m->n_claims++;
	}
	if (--m->n_claims == 0)
		posts_ready(m);
}

/* Sends what the plan says, and acks. */
static void carry_out(struct message *m, struct asya_str detail, int64_t delay_ms)
{
	struct asya_post *posts = asya_arena_array(m->arena, struct asya_post, m->plan.n);
	bool retried = m->plan.outcome == ASYA_OUTCOME_RETRIED;

	for (size_t i = 0; i < m->plan.n; i++)
		posts[i] = (struct asya_post){.actor = m->plan.sends[i].actor,
					      .body = m->plan.sends[i].body,
					      .delay_ms = delay_ms,
					      .queued_us = retried ? m->delivery->queued_us : 0};
	m->outcome = outcomes[m->plan.outcome];
	record(m, detail, (int)m->plan.n - 1);
	m->posts = posts;
	if (m->s->config->claim_check)
		leave_payloads(m);
	else
		ack_with(m, posts, m->plan.n);
}

/* ---- failures ---- */

struct type_list {
	struct asya_arena *arena;
	struct asya_str *types;
	size_t n;
};

static int add_type(void *user, size_t i, struct asya_str raw, struct asya_error *err)
{
	struct type_list *list = user;

	(void)i;
	(void)err;
	if (list->n < MRO_MAX && asya_json_string(&list->types[list->n], list->arena, raw) == 0)
		list->n++;
	return 0;
}

static const struct asya_retry_policy *policy_for(struct message *m, const struct asya_failure *f,
						  bool crash)
{
	struct type_list mro = {m->arena, asya_arena_array(m->arena, struct asya_str, MRO_MAX), 0};
	const struct asya_retry_policy *found;
	struct asya_error ignored;

	if (f->mro.p)
		(void)asya_json_items(f->mro, 4, add_type, &mro, &ignored);
	found = asya_retry_find(m->s->rules, m->s->n_rules, f->type, mro.types, mro.n);
	return found || !crash ? found : &m->s->crash_policy;
}

static void give_up(struct message *m, const struct asya_failure *f,
		    const struct asya_retry_policy *policy)
{
	struct sidecar *s = m->s;

	meter_failed(s->meter, f->type.n ? f->type : f->code);
	asya_log(ASYA_LOG_WARNING, "message_failed", LOG_STR("id", m->env.id),
		 LOG_STR("error", f->code), LOG_STR("type", f->type),
		 LOG_INT("attempt", m->attempt.n));
	asya_route_fail(&m->plan, m->arena, &s->actor, &m->env, f);
	if (policy && policy->on_exhausted == ASYA_EXHAUSTED_ROUTE)
		asya_route_divert(&m->plan, m->arena, &m->env, f, policy->exhausted_actors,
				  policy->n_exhausted_actors);
	if (s->actor.is_end || !plan_fits(m))
		to_dead_letters(m, f->type.n ? f->type : f->code);
	else
		carry_out(m, f->type.n ? f->type : f->code, 0);
}

static bool deadline_before(const struct message *m, int64_t us)
{
	return m->env.deadline.p && m->env.deadline_us <= us;
}

static void fail_deadline(struct message *m)
{
	const struct asya_failure f = {.code = ASYA_STR("deadline_exceeded"),
				       .type = ASYA_STR("DeadlineExceeded"),
				       .message = asya_arena_printf(m->arena,
								    "the deadline %.*s has passed",
								    ASYA_STR_ARG(m->env.deadline))};

	give_up(m, &f, NULL);
}

/* An attempt has failed: again by its policy, or not. */
static void fail(struct message *m, const struct asya_failure *f, bool crash)
{
	const struct asya_retry_policy *policy = policy_for(m, f, crash);
	int64_t now = asya_clock_wall_us(), since = m->attempt.since_us, delay_ms;

	since = since ? since : m->received_us;
	if (!asya_retry_decide(policy, m->attempt.n, (now - since) / 1000,
			       (double)rand() / ((double)RAND_MAX + 1), &delay_ms)) {
		give_up(m, f, policy);
		return;
	}
	if (deadline_before(m, now + delay_ms * 1000)) {
		fail_deadline(m);
		return;
	}
	asya_log(ASYA_LOG_INFO, "message_retried", LOG_STR("id", m->env.id),
		 LOG_STR("type", f->type), LOG_INT("attempt", m->attempt.n),
		 LOG_INT("delay_ms", delay_ms));
	asya_route_retry(&m->plan, m->arena, &m->s->actor, &m->env, m->attempt.n + 1, since);
	carry_out(m, f->type, delay_ms);
}

/* What is no envelope, or none for this actor. */
static void refuse(struct message *m, const struct asya_error *err, bool parsed)
{
	const struct asya_failure f = {
		.code = parsed ? ASYA_STR("route_mismatch") : ASYA_STR("msg_parsing_error"),
		.type = parsed ? ASYA_STR("RouteMismatch") : ASYA_STR("ParsingError"),
		.message = asya_str_c(err->text)};
	struct sidecar *s = m->s;

	if (!m->env.id.p) {
		char hex[ASYA_SHA256_HEX];

		asya_sha256_hex(hex, m->delivery->body);
		m->env.id = asya_arena_str(m->arena, asya_str_c(hex));
	}
	if (parsed) {
		give_up(m, &f, NULL);
		return;
	}
	asya_log(ASYA_LOG_ERROR, "message_refused", LOG_STR("id", m->env.id),
		 LOG_C("why", err->text));
	meter_failed(s->meter, ASYA_STR("parse_error"));
	asya_route_poison(&m->plan, m->arena, &s->actor, m->env.id, m->delivery->body, &f);
	if (asya_str_eq(s->actor.name, s->actor.error_end) || !plan_fits(m))
		to_dead_letters(m, f.type);
	else
		carry_out(m, f.type, 0);
}

/* ---- the handler ---- */

static void answered(struct message *m)
{
	struct asya_reply *reply = &m->call.reply;
	struct sidecar *s = m->s;
	struct asya_error err;

	if (reply->failed) {
		meter_runtime_error(s->meter, reply->failure.type);
		fail(m, &reply->failure, false);
		return;
	}
	if (asya_route_decide(&m->plan, m->arena, &s->actor, &m->env, reply->items, reply->n,
			      &s->limits, &err) ||
	    (!plan_fits(m) &&
	     asya_error_set(
		     &err, ASYA_REJECT,
		     "a message of the handler's would be larger than ASYA_MAX_MESSAGE_BYTES "
		     "or what the queue takes"))) {
		const struct asya_failure f = {.code = ASYA_STR("processing_error"),
					       .type = ASYA_STR("InvalidResult"),
					       .message = asya_str_c(err.text)};

		meter_runtime_error(s->meter, f.type);
		fail(m, &f, false);
		return;
	}
	carry_out(m, ASYA_STR_NONE, 0);
}

static void timed_out(struct message *m)
{
	char text[ASYA_TIME_TEXT];
	const struct asya_failure f = {
		.code = ASYA_STR("processing_error"),
		.type = ASYA_STR("TimeoutError"),
		.message =
			asya_arena_printf(m->arena, "Runtime timeout exceeded after %s",
					  asya_duration_write(text, m->call.timeout_ms * 1000000))};

	meter_runtime_error(m->s->meter, f.type);
	fail(m, &f, false);
}

static void lost(struct message *m)
{
	const struct asya_failure f = {.code = ASYA_STR("connection_error"),
				       .type = ASYA_STR("RuntimeLost"),
				       .message = asya_str_c(m->call.err.text)};

	if (m->s->draining) {
		release(m, 0);
		return;
	}
	meter_runtime_error(m->s->meter, f.type);
	fail(m, &f, true);
}

static void learn(struct sidecar *s, int64_t took_ns)
{
	double us = (double)took_ns / 1000;

	s->service_us = s->service_us > 0 ? s->service_us * 0.9 + us * 0.1 : us;
	meter_executed(s->meter, took_ns);
	flow_window(s);
}

static void on_called(struct call *call, enum call_result result)
{
	struct message *m = asya_container_of(call, struct message, call);
	struct sidecar *s = m->s;

	if (result != CALL_NOT_STARTED)
		learn(s, asya_clock_mono_ns() - m->invoked_ns);
	switch (result) {
	case CALL_ANSWERED:
		answered(m);
		break;
	case CALL_TIMEOUT:
		timed_out(m);
		break;
	case CALL_LOST:
		lost(m);
		break;
	case CALL_NOT_STARTED:
		asya_log(ASYA_LOG_WARNING, "runtime_unreachable", LOG_C("error", call->err.text));
		if (s->draining)
			release(m, 0);
		else
			asya_list_remove(&m->link), asya_list_add_tail(s->waiting.next, &m->link);
		return;
	}
	flow_pump(s);
}

static void invoke(struct message *m)
{
	struct sidecar *s = m->s;

	move_to(&s->invoking, m);
	m->invoked_ns = asya_clock_mono_ns();
	m->call = (struct call){.arena = m->arena,
				.request = m->body,
				.timeout_ms = s->config->timeout_ms,
				.done = on_called};
	runtime_invoke(s->runtime, &m->call);
}

/* ---- end actors that keep envelopes themselves ---- */

static struct asya_str last_actor(const struct asya_route *r)
{
	if (!r->n)
		return ASYA_STR_NONE;
	return r->actors[r->current < r->n ? r->current : r->n - 1];
}

static void kept(struct message *m, struct asya_str key, const struct asya_error *err)
{
	struct sidecar *s = m->s;

	if (err) {
		asya_log(ASYA_LOG_ERROR, "not_kept", LOG_STR("id", m->env.id),
			 LOG_C("error", err->text));
		meter_failed(s->meter, ASYA_STR("store"));
		release(m, 1000);
		return;
	}
	m->outcome = outcomes[ASYA_OUTCOME_FINAL];
	record(m, key, -1);
	ack_with(m, NULL, 0);
}

static void on_file_kept(struct asya_file_put *put, int status, const struct asya_error *err)
{
	kept(asya_container_of(put, struct message, put), put->key, status ? err : NULL);
}

static void on_object_kept(struct asya_s3_op *op, int status, struct asya_buf *body,
			   const struct asya_error *err)
{
	(void)body;
	kept(asya_container_of(op, struct message, object), op->key, status ? err : NULL);
}

static void keep(struct message *m)
{
	struct sidecar *s = m->s;
	bool errors = asya_str_eq(s->actor.name, s->actor.error_end);
	int64_t when = m->delivery->queued_us ? m->delivery->queued_us : m->received_us;
	struct asya_str key = asya_object_key(
		m->arena, errors ? s->config->errors_prefix : s->config->results_prefix, when,
		last_actor(&m->env.route), m->env.id, ASYA_OBJECT_NAME_MAX);

	move_to(&s->invoking, m);
	if (s->claims.s3) {
		m->object =
			(struct asya_s3_op){.key = key, .body = m->body, .done = on_object_kept};
		s->claims.ops->put(s->claims.s3, &m->object);
		return;
	}
	m->put = (struct asya_file_put){.key = key, .body = m->body, .done = on_file_kept};
	asya_file_store_put(s->store, &m->put);
}

static bool keeps(const struct sidecar *s)
{
	return s->store || (s->claims.s3 && s->actor.is_end);
}

/* ---- */

void flow_pump(struct sidecar *s)
{
	struct asya_link *i;

	while (!asya_list_empty(&s->waiting) && (keeps(s) || runtime_has_room(s->runtime))) {
		struct message *m = asya_container_of(s->waiting.next, struct message, link);

		if (s->draining)
			break;
		if (deadline_before(m, asya_clock_wall_us()))
			fail_deadline(m);
		else if (keeps(s))
			keep(m);
		else
			invoke(m);
	}
	while (s->draining && (i = asya_list_pop(&s->waiting)))
		release(asya_container_of(i, struct message, link), 0);
}

/* ---- payloads that were left behind ---- */

static void claim_void(struct message *m, const struct asya_error *err)
{
	const struct asya_failure f = {.code = ASYA_STR("processing_error"),
				       .type = ASYA_STR("ClaimError"),
				       .message = asya_str_c(err->text)};

	give_up(m, &f, NULL);
}

static void on_redeemed(struct claim *c, const struct asya_error *err)
{
	struct message *m = c->user;
	struct sidecar *s = m->s;

	if (err && err->advice == ASYA_REJECT) {
		claim_void(m, err);
		return;
	}
	if (err) {
		asya_log(ASYA_LOG_ERROR, "payload_not_fetched", LOG_STR("id", m->env.id),
			 LOG_C("error", err->text));
		release(m, 1000);
		return;
	}
	m->env = c->env;
	m->body = c->body;
	move_to(&s->waiting, m);
	flow_pump(s);
}

static void fetch(struct message *m)
{
	struct asya_error err;
	struct claim *c = asya_arena_new0(m->arena, struct claim);

	*c = (struct claim){
		.claims = &m->s->claims, .arena = m->arena, .done = on_redeemed, .user = m};
	move_to(&m->s->settling, m);
	if (claim_redeem(c, &m->env, &err))
		claim_void(m, &err);
}

/* ---- */

void flow_deliver(struct asya_consumer *c, struct asya_delivery *d)
{
	struct sidecar *s = c->user;
	struct asya_arena *arena = asya_arena_new();
	struct message *m = asya_arena_new0(arena, struct message);
	struct asya_error err;
	bool parsed;

	asya_failpoint("receive.after");
	*m = (struct message){.s = s,
			      .arena = arena,
			      .delivery = d,
			      .body = d->body,
			      .received_ns = asya_clock_mono_ns(),
			      .received_us = asya_clock_wall_us(),
			      .attempt = {.n = 1}};
	s->n_messages++;
	asya_list_init(&m->link);
	asya_list_add_tail(&s->waiting, &m->link);
	meter_received(s->meter, d->body.n,
		       d->queued_us ? (m->received_us - d->queued_us) * 1000 : -1);
	parsed = asya_envelope_parse(&m->env, arena, d->body, &s->limits, &err) == 0;
	if (parsed)
		asya_attempt_read(&m->attempt, arena, &m->env);
	if (s->draining)
		release(m, 0);
	else if (!parsed || asya_route_check(&s->actor, &m->env, &err))
		refuse(m, &err, parsed);
	else if (m->env.payload_ref.p && s->claims.s3)
		fetch(m);
	else
		flow_pump(s);
}

void flow_window(struct sidecar *s)
{
	unsigned n =
		asya_window_decide(s->concurrency, s->service_us, (unsigned)s->config->window_max);

	if (s->draining)
		n = 0;
	/* Small moves are not worth telling. */
	if (n == s->window ||
	    (n > s->window && n - s->window < s->window / 8 && n != s->config->window_max))
		return;
	s->window = n;
	asya_transport_window(s->transport, &s->consumer, n);
}

static void tick_again(struct sidecar *s)
{
	int64_t now = asya_clock_mono_ms();
	struct asya_link *next;

	for (struct asya_link *i = s->again.next; i != &s->again; i = next) {
		struct message *m = asya_container_of(i, struct message, link);

		next = i->next;
		if (now >= m->again_at_ms)
			settle_now(m);
	}
}

void flow_tick(struct sidecar *s)
{
	int64_t now = asya_clock_wall_us();
	struct asya_link *next;

	for (struct asya_link *i = s->waiting.next; i != &s->waiting; i = next) {
		struct message *m = asya_container_of(i, struct message, link);

		next = i->next;
		if (deadline_before(m, now))
			fail_deadline(m);
	}
	tick_again(s);
	meter_active(s->meter, s->n_messages, s->window);
	meter_state(s->meter, s->live, s->concurrency);
}

void flow_drain(struct sidecar *s)
{
	s->draining = true;
	flow_window(s);
	asya_transport_stop(s->transport, &s->consumer);
	if (!end_of_drain(s))
		flow_pump(s);
}

void flow_cut(struct sidecar *s)
{
	struct asya_link *i;

	while (!keeps(s) && (i = asya_list_pop(&s->invoking))) {
		struct message *m = asya_container_of(i, struct message, link);

		asya_log(ASYA_LOG_WARNING, "given_back", LOG_STR("id", m->env.id),
			 LOG_C("why", "the grace period is over"));
		runtime_cancel(&m->call);
		release(m, 0);
	}
}
