// SPDX-License-Identifier: Apache-2.0
/*
 * Processes that are kept running: started again, with a growing pause, when they end; stopped in
 * order when told to. Each writes into a log file of its own, is no target of the terminal's
 * Ctrl-C, and gets SIGTERM when this process dies, however it dies.
 */
#pragma once
#include "base/arena.h"
#include "base/error.h"
#include "base/list.h"

#include <uv.h>

struct supervisor;

struct process {
	const char *name; /* "embed-1 runtime"; borrowed, like all below */
	char **argv;
	char **env;
	const char *log_path;
	struct process *after; /* is stopped only once this one has ended; NULL: at once */

	/* the supervisor's */
	struct supervisor *supervisor;
	struct asya_link link;
	uv_process_t handle;
	uv_timer_t again;
	bool running, spawned;
	int64_t started_ms;
	unsigned failures;     /* in a row */
	int exit_code, signal; /* of the last run */
	unsigned closing;
};

struct supervisor {
	uv_loop_t *loop;
	struct asya_link processes;
	bool stopping;
	unsigned starts; /* of any process, first starts too */
	/* It has ended, and is started again unless this returns false. NULL: always. */
	bool (*ended)(struct supervisor *s, struct process *p);
	void (*stopped)(struct supervisor *s); /* all have ended after supervisor_stop */
	void *user;
};

void supervisor_init(struct supervisor *s, uv_loop_t *loop);
/* Starts it. What cannot even be started counts as a failure and is tried again. */
void supervisor_add(struct supervisor *s, struct process *p);
unsigned supervisor_running(const struct supervisor *s);
/* SIGTERM, in order; `stopped` once all have ended. */
void supervisor_stop(struct supervisor *s);
/* SIGKILL to what still runs. */
void supervisor_kill(struct supervisor *s);
/* Closes the handles; the processes' memory may go once the loop has run to its end. */
void supervisor_close(struct supervisor *s);

/* The hidden command that every process is started through: `PARENT_PID PROGRAM ARG...`. It does
 * not return if the program could be started. */
int supervise_exec(int argc, char **argv);
