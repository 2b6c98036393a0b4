// SPDX-License-Identifier: Apache-2.0
/* The claim check in a message's life: payloads too large for a queue wait in the bucket. */
#include "sidecar/message.h"

#include "base/log.h"

size_t flow_taken(const struct sidecar *s)
{
	size_t most = s->transport->max_body;

	return most && most < s->limits.message_bytes ? most : s->limits.message_bytes;
}

/* All that was to be left in the bucket is there. */
static void posts_ready(struct message *m)
{
	if (!m->claim_error.text[0]) {
		flow_ack_with(m, m->posts, m->plan.n);
		return;
	}
	asya_log(ASYA_LOG_ERROR, "payload_not_left", LOG_STR("id", m->env.id),
		 LOG_C("error", m->claim_error.text));
	if (m->claim_error.advice == ASYA_REJECT)
		flow_to_dead_letters(m, ASYA_STR("ClaimError"));
	else
		flow_release(m, 1000);
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

void flow_leave_payloads(struct message *m)
{
	struct sidecar *s = m->s;
	size_t most = flow_taken(s);

	flow_move_to(&s->settling, m);
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

static void claim_void(struct message *m, const struct asya_error *err)
{
	const struct asya_failure f = {.code = ASYA_STR("processing_error"),
				       .type = ASYA_STR("ClaimError"),
				       .message = asya_str_c(err->text)};

	flow_give_up(m, &f, NULL);
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
		flow_release(m, 1000);
		return;
	}
	m->env = c->env;
	m->body = c->body;
	flow_move_to(&s->waiting, m);
	flow_pump(s);
}

void flow_fetch(struct message *m)
{
	struct asya_error err;
	struct claim *c = asya_arena_new0(m->arena, struct claim);

	*c = (struct claim){
		.claims = &m->s->claims, .arena = m->arena, .done = on_redeemed, .user = m};
	flow_move_to(&m->s->settling, m);
	if (claim_redeem(c, &m->env, &err))
		claim_void(m, &err);
}
