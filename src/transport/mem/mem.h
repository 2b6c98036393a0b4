// SPDX-License-Identifier: Apache-2.0
/*
 * The mem transport: queues in this process's memory, for tests and for trying things out. A hub
 * holds the queues; any number of transports on one loop open it. Nothing outlives the hub.
 * Transactional. A lease ends when its transport is closed, or when asya_mem_expire says so.
 */
#pragma once
#include "transport/transport.h"

struct asya_mem_hub;

extern const struct asya_transport_ops asya_mem_ops;

struct asya_mem_hub *asya_mem_hub_new(uv_loop_t *loop);
/* All its transports have been closed. `done` runs once its handles are. */
void asya_mem_hub_close(struct asya_mem_hub *hub, void (*done)(void *user), void *user);
void asya_mem_open(struct asya_transport **ret, struct asya_mem_hub *hub);
/* Ends every lease of the transport, as if it had stopped extending them. */
void asya_mem_expire(struct asya_transport *t);
