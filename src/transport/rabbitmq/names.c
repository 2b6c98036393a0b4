// SPDX-License-Identifier: Apache-2.0
/* Names of queues and keys. No DNS label has an underscore or a dot, so no two of them collide. */
#include "transport/rabbitmq/thread.h"

#include "base/mem.h"

enum { DELAY_FIRST_MS = 125 };

char *rabbit_key(const struct asya_rabbitmq_config *c, struct asya_str actor, bool dead)
{
	return asya_asprintf("%s%s%.*s%s", c->space, *c->space ? "_" : "", ASYA_STR_ARG(actor),
			     dead ? "-dlq" : "");
}

char *rabbit_queue(const struct asya_rabbitmq_config *c, struct asya_str actor, bool dead)
{
	_cleanup_(asya_freep) char *key = rabbit_key(c, actor, dead);

	return asya_asprintf("asya-%s", key);
}

unsigned rabbit_delay_step(int64_t delay_ms)
{
	unsigned step = 0;

	while (step < RABBIT_DELAY_STEPS - 1 && rabbit_delay_ms(step) < delay_ms)
		step++;
	return step;
}

int64_t rabbit_delay_ms(unsigned step)
{
	return (int64_t)DELAY_FIRST_MS << step;
}

char *rabbit_delay_name(const struct asya_rabbitmq_config *c, unsigned step)
{
	return asya_asprintf("%s.delay.%lld", c->exchange, (long long)rabbit_delay_ms(step));
}
