// SPDX-License-Identifier: Apache-2.0
#include "transport/local/local.h"
#include "transport/mem/mem.h"
#include "transport/rabbitmq/rabbitmq.h"
#include "transport/sqs/sqs.h"

static const struct asya_transport_ops *const backends[] = {&asya_local_ops, &asya_rabbitmq_ops,
							    &asya_sqs_ops, &asya_mem_ops};

const struct asya_transport_ops *asya_transport_at(size_t i)
{
	return i < sizeof(backends) / sizeof(backends[0]) ? backends[i] : NULL;
}

const struct asya_transport_ops *asya_transport_find(struct asya_str name)
{
	const struct asya_transport_ops *ops;

	for (size_t i = 0; (ops = asya_transport_at(i)); i++)
		if (asya_str_eq_c(name, ops->name))
			return ops;
	return NULL;
}
