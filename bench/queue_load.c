// SPDX-License-Identifier: Apache-2.0
/*
 * Makes load on the local transport and measures what it takes to get through.
 *
 *	queue-load fill QUEUE NEXT COUNT BYTES
 *		puts COUNT envelopes of BYTES bytes for the route QUEUE,NEXT into QUEUE
 *	queue-load probe QUEUE NEXT COUNT BYTES PER_SECOND
 *		puts them there one by one at that rate, takes them out of NEXT, and prints for each
 *		the microseconds between asking for the one and having the other
 */
#include "transport/transport.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>

enum { BATCH = 200, ID = 36, ID_AT = 7 };

struct load {
	uv_loop_t loop;
	uv_timer_t timer;
	struct asya_transport *transport;
	struct asya_consumer consumer;
	const char *queue, *next;
	unsigned long count, sent, done, bytes;
	int64_t *asked_ns, *took_ns;
};

struct sending {
	struct load *load;
	struct asya_arena *arena;
	struct asya_settle settle;
	struct asya_post posts[BATCH];
};

/* Records as programs exchange them: keys, texts, numbers; the last text makes up the length. */
static struct asya_str envelope(struct asya_arena *arena, const struct load *l, unsigned long n)
{
	struct asya_buf b = {0};
	struct asya_str body;

	asya_buf_printf(&b,
			"{\"id\":\"%0*lu\",\"route\":{\"actors\":[\"%s\",\"%s\"],\"current\":0},"
			"\"payload\":{\"records\":[",
			ID, n, l->queue, l->next);
	for (unsigned i = 0; b.n + 160 < l->bytes; i++)
		asya_buf_printf(&b,
				"%s{\"name\":\"record "
				"%u\",\"score\":%u.25,\"tags\":[\"left\",\"m\xC3\xBCnchen\"],"
				"\"note\":\"what was found is kept as it is\",\"ok\":true}",
				i ? "," : "", i, i % 97);
	asya_buf_c(&b, "],\"rest\":\"");
	while (b.n + 3 < l->bytes)
		asya_buf_char(&b, 'x');
	asya_buf_c(&b, "\"}}");
	body = asya_arena_str(arena, asya_buf_view(&b));
	asya_buf_fini(&b);
	return body;
}

static void fail(const char *what)
{
	fprintf(stderr, "queue-load: %s\n", what);
	exit(1);
}

static void nothing(void *user)
{
	(void)user;
}

static void end(struct load *l)
{
	uv_close((uv_handle_t *)&l->timer, NULL);
	asya_transport_close(l->transport, nothing, NULL);
}

static void send_batch(struct load *l, unsigned long most,
		       void (*done)(struct asya_settle *, enum asya_settled,
				    const struct asya_error *))
{
	struct sending *s = asya_new0(struct sending);

	s->load = l;
	s->arena = asya_arena_new();
	for (; s->settle.n_posts < most && l->sent < l->count; s->settle.n_posts++)
		s->posts[s->settle.n_posts] = (struct asya_post){
			.actor = asya_str_c(l->queue), .body = envelope(s->arena, l, l->sent++)};
	s->settle.posts = s->posts;
	s->settle.done = done;
	asya_transport_settle(l->transport, &s->settle);
}

static struct load *sent(struct asya_settle *op, enum asya_settled outcome)
{
	struct sending *s = asya_container_of(op, struct sending, settle);
	struct load *l = s->load;

	if (outcome != ASYA_SETTLED)
		fail("a batch could not be sent");
	asya_arena_free(s->arena);
	free(s);
	return l;
}

/* ---- fill ---- */

static void on_filled(struct asya_settle *op, enum asya_settled outcome,
		      const struct asya_error *err)
{
	struct load *l = sent(op, outcome);

	(void)err;
	if (l->sent < l->count)
		send_batch(l, BATCH, on_filled);
	else
		end(l);
}

/* ---- probe ---- */

static void on_asked(struct asya_settle *op, enum asya_settled outcome,
		     const struct asya_error *err)
{
	(void)err;
	(void)sent(op, outcome);
}

static void on_due(uv_timer_t *t)
{
	struct load *l = asya_container_of(t, struct load, timer);

	l->asked_ns[l->sent] = asya_clock_mono_ns();
	send_batch(l, 1, on_asked);
	if (l->sent == l->count)
		uv_timer_stop(t);
}

static void on_acked(struct asya_settle *op, enum asya_settled outcome,
		     const struct asya_error *err)
{
	struct load *l = sent(op, outcome);

	(void)err;
	if (++l->done < l->count)
		return;
	for (unsigned long i = 0; i < l->count; i++)
		printf("%lld\n", (long long)(l->took_ns[i] / 1000));
	end(l);
}

static void on_delivery(struct asya_consumer *c, struct asya_delivery *d)
{
	struct load *l = c->user;
	struct sending *s = asya_new0(struct sending);
	char digits[ID + 1] = "";
	unsigned long n;

	if (d->body.n > ID_AT + ID)
		memcpy(digits, d->body.p + ID_AT, ID);
	n = strtoul(digits, NULL, 10);
	if (n >= l->count)
		fail("a message of somebody else's");
	l->took_ns[n] = asya_clock_mono_ns() - l->asked_ns[n];
	s->load = l;
	s->settle = (struct asya_settle){.delivery = d, .verdict = ASYA_ACK, .done = on_acked};
	asya_transport_settle(l->transport, &s->settle);
}

static void probe(struct load *l, unsigned long per_second)
{
	uint64_t ms = per_second && per_second < 1000 ? 1000 / per_second : 1;

	l->asked_ns = asya_calloc(l->count, sizeof(*l->asked_ns));
	l->took_ns = asya_calloc(l->count, sizeof(*l->took_ns));
	l->consumer = (struct asya_consumer){
		.actor = asya_str_c(l->next), .deliver = on_delivery, .user = l};
	asya_transport_consume(l->transport, &l->consumer);
	asya_transport_window(l->transport, &l->consumer, 64);
	uv_timer_start(&l->timer, on_due, 100, ms);
}

static const char *from_environment(void *user, const char *name)
{
	(void)user;
	return getenv(name);
}

int main(int argc, char **argv)
{
	const struct asya_transport_ops *ops = asya_transport_find(ASYA_STR("local"));
	struct load l = {.sent = 0};
	struct asya_error err;

	if (argc < 6 || (strcmp(argv[1], "fill") != 0 && argc < 7)) {
		fprintf(stderr, "usage: queue-load fill QUEUE NEXT COUNT BYTES\n"
				"       queue-load probe QUEUE NEXT COUNT BYTES PER_SECOND\n");
		return 2;
	}
	l.queue = argv[2];
	l.next = argv[3];
	l.count = strtoul(argv[4], NULL, 10);
	l.bytes = strtoul(argv[5], NULL, 10);
	uv_loop_init(&l.loop);
	uv_timer_init(&l.loop, &l.timer);
	if (ops->open(&l.transport, &l.loop, from_environment, NULL, &err))
		fail(err.text);
	if (argc < 7)
		send_batch(&l, BATCH, on_filled);
	else
		probe(&l, strtoul(argv[6], NULL, 10));
	uv_run(&l.loop, UV_RUN_DEFAULT);
	uv_loop_close(&l.loop);
	free(l.asked_ns);
	free(l.took_ns);
	return 0;
}
