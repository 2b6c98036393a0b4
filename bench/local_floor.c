// SPDX-License-Identifier: Apache-2.0
/*
 * The floor that the sidecar is measured against: a bare loop on the transport port that does the
 * same queue operations and nothing else. It takes messages of one queue with the window that the
 * sidecar would have at most, and settles each with one settlement that posts the same bytes to the
 * other queue and acks: the same group commit, the same settings (ASYA_LOCAL_*), the same process.
 * Nothing is parsed, nobody is asked, nothing is recorded or counted.
 *
 *	local-floor FROM TO COUNT [WINDOW [hop]]
 *
 * Ends once COUNT messages are settled, or with SIGTERM. With `hop` each settlement carries a hop
 * record as the sidecar's do.
 */
#include "transport/transport.h"

#include "base/clock.h"
#include "base/mem.h"

#include <signal.h>
#include <stdio.h>

enum { WINDOW = 1024 };

struct floor {
	uv_loop_t loop;
	uv_signal_t terminate;
	struct asya_transport *transport;
	struct asya_consumer from;
	struct asya_str to;
	long left;
	bool hops, failed;
};

struct one {
	struct floor *floor;
	struct asya_settle settle;
	struct asya_post post;
	struct asya_hop hop;
};

static void nothing(void *user)
{
	(void)user;
}

static void end(struct floor *f)
{
	if (uv_is_closing((uv_handle_t *)&f->terminate))
		return;
	uv_close((uv_handle_t *)&f->terminate, NULL);
	asya_transport_close(f->transport, nothing, NULL);
}

static void on_terminate(uv_signal_t *h, int signal)
{
	(void)signal;
	end(asya_container_of(h, struct floor, terminate));
}

static void on_settled(struct asya_settle *op, enum asya_settled outcome,
		       const struct asya_error *err)
{
	struct one *o = asya_container_of(op, struct one, settle);
	struct floor *f = o->floor;

	if (outcome != ASYA_SETTLED) {
		fprintf(stderr, "local-floor: %s\n", err ? err->text : "a lease was lost");
		f->failed = true;
	}
	free(o);
	if (--f->left == 0 || f->failed)
		end(f);
}

static void on_delivery(struct asya_consumer *c, struct asya_delivery *d)
{
	struct floor *f = c->user;
	struct one *o = asya_new0(struct one);

	o->floor = f;
	o->post = (struct asya_post){.actor = f->to, .body = d->body};
	o->settle = (struct asya_settle){.delivery = d,
					 .verdict = ASYA_ACK,
					 .posts = &o->post,
					 .n_posts = 1,
					 .done = on_settled};
	if (f->hops) {
		o->hop = (struct asya_hop){.id = {d->body.p + 7, d->body.n < 43 ? 0 : 36},
					   .outcome = ASYA_STR("routed"),
					   .received_us = asya_clock_wall_us(),
					   .settled_us = asya_clock_wall_us(),
					   .attempt = 1};
		o->settle.hop = &o->hop;
	}
	asya_transport_settle(f->transport, &o->settle);
}

static void on_state(struct asya_consumer *c, bool live, const struct asya_error *err)
{
	(void)c;
	if (live)
		return;
	fprintf(stderr, "local-floor: %s\n", err->text);
	exit(1);
}

static const char *from_environment(void *user, const char *name)
{
	(void)user;
	return getenv(name);
}

int main(int argc, char **argv)
{
	const struct asya_transport_ops *ops = asya_transport_find(ASYA_STR("local"));
	struct floor f = {.failed = false};
	struct asya_error err;

	if (argc < 4) {
		fprintf(stderr, "usage: local-floor FROM TO COUNT [WINDOW [hop]]\n");
		return 2;
	}
	uv_loop_init(&f.loop);
	if (ops->open(&f.transport, &f.loop, from_environment, NULL, &err)) {
		fprintf(stderr, "local-floor: %s\n", err.text);
		return 1;
	}
	f.to = asya_str_c(argv[2]);
	f.left = strtol(argv[3], NULL, 10);
	f.hops = argc > 5;
	f.from = (struct asya_consumer){.actor = asya_str_c(argv[1]),
					.deliver = on_delivery,
					.state = on_state,
					.user = &f};
	uv_signal_init(&f.loop, &f.terminate);
	uv_signal_start(&f.terminate, on_terminate, SIGTERM);
	asya_transport_consume(f.transport, &f.from);
	asya_transport_window(f.transport, &f.from,
			      argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : WINDOW);
	uv_run(&f.loop, UV_RUN_DEFAULT);
	uv_loop_close(&f.loop);
	return f.failed;
}
