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
#include "sidecar/message.h"

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

void flow_move_to(struct asya_link *list, struct message *m)
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
	flow_move_to(&m->s->settling, m);
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
	flow_move_to(&m->s->again, m);
}

static void count_settled(struct message *m)
{
	const struct asya_post *posts = m->settle.posts;
	struct meter *meter = m->s->meter;
	int64_t now = asya_clock_mono_ns();

	for (size_t i = 0; i < m->settle.n_posts; i++)
		meter_sent(meter, posts[i].actor, m->outcome.p, posts[i].body.n);
	if (m->settle.n_posts)
		meter_settled(meter, posts[0].actor, m->outcome.p, now - m->settle_ns);
	meter_processed(meter, m->outcome, now - m->received_ns);
}

static void on_settled(struct asya_settle *op, enum asya_settled outcome,
		       const struct asya_error *err)
{
	struct message *m = asya_container_of(op, struct message, settle);
	struct sidecar *s = m->s;

	asya_failpoint("settle.after");
	if (s->ended) { /* the transport is being closed, and gives back what is left */
		message_free(m);
		return;
	}
	if (outcome == ASYA_SETTLE_FAILED) {
		settle_later(m, err);
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

void flow_release(struct message *m, int64_t delay_ms)
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

void flow_ack_with(struct message *m, const struct asya_post *posts, size_t n)
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
void flow_to_dead_letters(struct message *m, struct asya_str why)
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
	flow_ack_with(m, p, 1);
}

static bool plan_fits(const struct message *m)
{
	const struct sidecar *s = m->s;
	size_t most = s->config->claim_check ? s->limits.message_bytes : flow_taken(s);

	for (size_t i = 0; i < m->plan.n; i++)
		if (m->plan.sends[i].body.n > most)
			return false;
	return true;
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
		flow_leave_payloads(m);
	else
		flow_ack_with(m, posts, m->plan.n);
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

/* Where the queue system keeps no history, the message carries its own. */
static struct asya_actor actor_of(struct message *m)
{
	struct asya_actor actor = m->s->actor;
	struct asya_buf b = {0};

	if (m->s->transport->ops->history)
		return actor;
	asya_buf_c(&b, "{\"actor\":");
	asya_buf_json(&b, actor.name);
	asya_buf_printf(&b, ",\"received_us\":%lld,\"settled_us\":%lld,\"attempt\":%u}",
			(long long)m->received_us, (long long)asya_clock_wall_us(), m->attempt.n);
	actor.hop = asya_arena_buf(m->arena, &b);
	return actor;
}

void flow_give_up(struct message *m, const struct asya_failure *f,
		  const struct asya_retry_policy *policy)
{
	const struct asya_actor actor = actor_of(m);
	struct sidecar *s = m->s;

	meter_failed(s->meter, f->type.n ? f->type : f->code);
	asya_log(ASYA_LOG_WARNING, "message_failed", LOG_STR("id", m->env.id),
		 LOG_STR("error", f->code), LOG_STR("type", f->type),
		 LOG_INT("attempt", m->attempt.n));
	asya_route_fail(&m->plan, m->arena, &actor, &m->env, f);
	if (policy && policy->on_exhausted == ASYA_EXHAUSTED_ROUTE)
		asya_route_divert(&m->plan, m->arena, &m->env, f, policy->exhausted_actors,
				  policy->n_exhausted_actors);
	if (s->actor.is_end || !plan_fits(m))
		flow_to_dead_letters(m, f->type.n ? f->type : f->code);
	else
		carry_out(m, f->type.n ? f->type : f->code, 0);
}

/* End actors take what has ended, the failures by a deadline among it. */
static bool deadline_within(const struct message *m, int64_t ms)
{
	return m->env.deadline.p && !m->s->actor.is_end &&
	       m->env.deadline_us <= asya_clock_wall_us() + ms * 1000;
}

static void fail_deadline(struct message *m)
{
	const struct asya_failure f = {.code = ASYA_STR("deadline_exceeded"),
				       .type = ASYA_STR("DeadlineExceeded"),
				       .message = asya_arena_printf(m->arena,
								    "the deadline %.*s has passed",
								    ASYA_STR_ARG(m->env.deadline))};

	flow_give_up(m, &f, NULL);
}

/* An attempt has failed: again by its policy, or not. */
static void fail(struct message *m, const struct asya_failure *f, bool crash)
{
	const struct asya_retry_policy *policy = policy_for(m, f, crash);
	int64_t now = asya_clock_wall_us(), since = m->attempt.since_us, delay_ms;
	struct asya_actor actor;

	since = since ? since : m->received_us;
	if (!asya_retry_decide(policy, m->attempt.n, (now - since) / 1000,
			       (double)rand() / ((double)RAND_MAX + 1), &delay_ms)) {
		flow_give_up(m, f, policy);
		return;
	}
	if (deadline_within(m, delay_ms)) {
		fail_deadline(m);
		return;
	}
	actor = actor_of(m);
	asya_route_retry(&m->plan, m->arena, &actor, &m->env, m->attempt.n + 1, since);
	if (!plan_fits(m)) {
		flow_give_up(m, f, policy);
		return;
	}
	asya_log(ASYA_LOG_INFO, "message_retried", LOG_STR("id", m->env.id),
		 LOG_STR("type", f->type), LOG_INT("attempt", m->attempt.n),
		 LOG_INT("delay_ms", delay_ms));
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

	if (!m->env.id.n || m->env.id.n > ASYA_ID_MAX) {
		char hex[ASYA_SHA256_HEX];

		asya_sha256_hex(hex, m->delivery->body);
		m->env.id = asya_arena_str(m->arena, asya_str_c(hex));
	}
	if (parsed) {
		flow_give_up(m, &f, NULL);
		return;
	}
	asya_log(ASYA_LOG_ERROR, "message_refused", LOG_STR("id", m->env.id),
		 LOG_C("why", err->text));
	meter_failed(s->meter, ASYA_STR("parse_error"));
	asya_route_poison(&m->plan, m->arena, &s->actor, m->env.id, m->delivery->body, &f);
	if (asya_str_eq(s->actor.name, s->actor.error_end) || !plan_fits(m))
		flow_to_dead_letters(m, f.type);
	else
		carry_out(m, f.type, 0);
}

/* ---- the handler ---- */

static void answered(struct message *m)
{
	struct asya_reply *reply = &m->call.reply;
	const struct asya_actor actor = actor_of(m);
	struct sidecar *s = m->s;
	struct asya_error err;

	if (reply->failed) {
		meter_runtime_error(s->meter, reply->failure.type);
		fail(m, &reply->failure, false);
		return;
	}
	if (asya_route_decide(&m->plan, m->arena, &actor, &m->env, reply->items, reply->n,
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

/* No handler is to blame, unless what came is no answer: that would come again. */
static void lost(struct message *m, bool invalid)
{
	const struct asya_failure f = {
		.code = invalid ? ASYA_STR("processing_error") : ASYA_STR("connection_error"),
		.type = invalid ? ASYA_STR("InvalidResult") : ASYA_STR("RuntimeLost"),
		.message = asya_str_c(m->call.why)};

	if (m->s->draining && !invalid) {
		flow_release(m, 0);
		return;
	}
	meter_runtime_error(m->s->meter, f.type);
	fail(m, &f, !invalid);
}

static void learn(struct sidecar *s, int64_t took_ns)
{
	double us = (double)took_ns / 1000;

	s->service_us = s->service_us > 0 ? s->service_us * 0.9 + us * 0.1 : us;
	s->busy_us = 0;
	meter_executed(s->meter, took_ns);
	flow_window(s);
}

/* No handler has seen it: it is the next one. */
static void wait_again(struct message *m)
{
	if (m->s->draining)
		flow_release(m, 0);
	else
		flow_move_to(m->s->waiting.next, m);
}

static void on_called(struct call *call, enum call_result result)
{
	struct message *m = asya_container_of(call, struct message, call);
	struct sidecar *s = m->s;

	if (result != CALL_NOT_STARTED && result != CALL_GIVEN_BACK)
		learn(s, call->took_ns);
	switch (result) {
	case CALL_ANSWERED:
		/* The handler gets its next message first, and works while this one is routed. */
		flow_pump(s);
		answered(m);
		return;
	case CALL_TIMEOUT:
		timed_out(m);
		break;
	case CALL_LOST:
	case CALL_INVALID:
		lost(m, result == CALL_INVALID);
		break;
	case CALL_NOT_STARTED:
		asya_log(ASYA_LOG_WARNING, "runtime_unreachable", LOG_C("error", call->why));
		wait_again(m);
		break;
	case CALL_GIVEN_BACK:
		wait_again(m);
		return;
	}
	flow_pump(s);
}

static void invoke(struct message *m)
{
	struct sidecar *s = m->s;

	flow_move_to(&s->invoking, m);
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

	if (s->ended) {
		message_free(m);
		return;
	}
	if (err) {
		asya_log(ASYA_LOG_ERROR, "not_kept", LOG_STR("id", m->env.id),
			 LOG_C("error", err->text));
		meter_failed(s->meter, ASYA_STR("store"));
		flow_release(m, 1000);
		return;
	}
	m->outcome = outcomes[ASYA_OUTCOME_FINAL];
	record(m, key, -1);
	flow_ack_with(m, NULL, 0);
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

	flow_move_to(&s->invoking, m);
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

/* Takes the first message that waits to who handles it. Whether that could be done. */
static bool pump_one(struct sidecar *s, struct message *m)
{
	int before = keeps(s) ? 0 : runtime_room(s->runtime, m->body.n);

	if (before < 0)
		return false;
	if (deadline_within(m, 0)) {
		fail_deadline(m);
		return true;
	}
	/* What is sent cannot be taken back: not behind others that may outlast its deadline. */
	if (before && deadline_within(m, before * s->config->timeout_ms))
		return false;
	if (keeps(s))
		keep(m);
	else
		invoke(m);
	return true;
}

void flow_pump(struct sidecar *s)
{
	struct asya_link *i;

	while (!s->draining && !asya_list_empty(&s->waiting) &&
	       pump_one(s, asya_container_of(s->waiting.next, struct message, link)))
		;
	if (s->runtime)
		runtime_flush(s->runtime);
	while (s->draining && (i = asya_list_pop(&s->waiting)))
		flow_release(asya_container_of(i, struct message, link), 0);
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
		flow_release(m, 0);
	else if (!parsed || asya_route_check(&s->actor, &m->env, &err))
		refuse(m, &err, parsed);
	else if (m->env.payload_ref.p && s->claims.s3)
		flow_fetch(m);
	else
		flow_pump(s);
}

void flow_window(struct sidecar *s)
{
	double us = s->busy_us > s->service_us ? s->busy_us : s->service_us;
	unsigned n;

	if (s->runtime)
		runtime_expect(s->runtime, us);
	n = asya_window_decide(s->concurrency, us, (unsigned)s->config->window_max);

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

/* Every handler has been at work for at least so long: none can be expected to be done earlier than
 * that from now. */
static void tick_busy(struct sidecar *s)
{
	int64_t busy_ns = s->runtime ? runtime_busy_ns(s->runtime) : 0;

	if (!busy_ns)
		return;
	s->busy_us = (double)busy_ns / 1000;
	flow_window(s);
}

/* Others may have room for what waits here beyond the window. Without a runtime, what has a
 * deadline stays, so that the deadline ends it. */
static void tick_hoard(struct sidecar *s)
{
	struct asya_link *next;
	unsigned n = 0;

	if (s->store)
		return;
	for (struct asya_link *i = s->invoking.next; i != &s->invoking; i = i->next)
		n++;
	for (struct asya_link *i = s->waiting.next; i != &s->waiting; i = next) {
		struct message *m = asya_container_of(i, struct message, link);

		next = i->next;
		if (++n > s->window + s->window / 4 && (s->concurrency || !m->env.deadline.p))
			flow_release(m, 0);
	}
}

void flow_tick(struct sidecar *s)
{
	struct asya_link *next;

	for (struct asya_link *i = s->waiting.next; i != &s->waiting; i = next) {
		struct message *m = asya_container_of(i, struct message, link);

		next = i->next;
		if (deadline_within(m, 0))
			fail_deadline(m);
	}
	tick_busy(s);
	tick_hoard(s);
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

	if (keeps(s))
		return;
	runtime_cancel(s->runtime);
	while ((i = asya_list_pop(&s->invoking))) {
		struct message *m = asya_container_of(i, struct message, link);

		asya_log(ASYA_LOG_WARNING, "given_back", LOG_STR("id", m->env.id),
			 LOG_C("why", "the grace period is over"));
		flow_release(m, 0);
	}
}
