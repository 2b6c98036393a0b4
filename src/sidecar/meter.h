// SPDX-License-Identifier: Apache-2.0
/* The sidecar's metrics (contract, section 7), with their series at hand. */
#pragma once
#include "core/metrics.h"
#include "transport/transport.h"

struct meter;

/* NULL with *err filled if the namespace cannot begin a metric's name. */
struct meter *meter_new(struct asya_str name_space, struct asya_str queue,
			struct asya_str transport, struct asya_error *err);
struct meter *meter_free(struct meter *m);
void meter_write(struct asya_buf *out, const struct meter *m);

/* `waited_ns` in the queue; negative: not known. */
void meter_received(struct meter *m, size_t bytes, int64_t waited_ns);
/* A message has been settled: `outcome` as in struct asya_hop, one of few constants; `took_ns`
 * since it was received. */
void meter_processed(struct meter *m, struct asya_str outcome, int64_t took_ns);
void meter_failed(struct meter *m, struct asya_str reason);
void meter_runtime_error(struct meter *m, struct asya_str type);
void meter_executed(struct meter *m, int64_t took_ns);
/* To an actor's queue, or (of the kind `dead`) its dead letters; `kind` is a constant. */
void meter_sent(struct meter *m, struct asya_str actor, const char *kind, size_t bytes);
void meter_settled(struct meter *m, struct asya_str actor, const char *kind, int64_t took_ns);
void meter_active(struct meter *m, unsigned n, unsigned window);
void meter_state(struct meter *m, bool consumer_live, unsigned runtime_workers);
