// SPDX-License-Identifier: Apache-2.0
/* What asya run starts: the processes of every actor. */
#pragma once
#include "cli/supervise.h"
#include "core/asyncactor.h"

/* One actor here: from a manifest, or an end actor. */
struct local_actor {
	struct asya_str name;
	const struct asya_asyncactor *spec; /* NULL: an end actor that keeps envelopes */
	const char *folder;                 /* of its manifest */
	unsigned replicas;
	struct process *processes; /* sidecars and runtimes */
	size_t n_processes;
	int64_t done_before, failed_before; /* counts of earlier runs */
};

struct run_settings {
	const char *dir;  /* of queues, results and logs; absolute */
	const char *path; /* more folders for Python code, or NULL */
	const char *transport;
	const char *sidecar; /* program */
	const char *shim;    /* the Python runtime's file */
	const char *sockets; /* directory of sockets, short enough */
	const char *python;  /* NULL: what the manifest says */
	const char *log_level;
};

/* Fills actor->processes, on the arena. */
void run_plan(struct local_actor *actor, struct asya_arena *arena, const struct run_settings *s);
