// SPDX-License-Identifier: Apache-2.0
#include "cli/supervise.h"

#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { PAUSE_FIRST_MS = 100, PAUSE_MAX_MS = 2000, STEADY_MS = 1000, ARGS_MAX = 64 };

/* The signal at the parent's death has to be asked for by the child itself, after the fork. */
int supervise_exec(int argc, char **argv)
{
	if (argc < 2)
		return CLI_USAGE;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != atoi(argv[0]))
		return CLI_FAILED; /* it has died already */
	execvp(argv[1], argv + 1);
	return cli_fail(127, "starting '%s': %s", argv[1], strerror(errno));
}

void supervisor_init(struct supervisor *s, uv_loop_t *loop)
{
	*s = (struct supervisor){.loop = loop};
	asya_list_init(&s->processes);
}

static struct process *process_at(const struct asya_link *i)
{
	return asya_container_of(i, struct process, link);
}

unsigned supervisor_running(const struct supervisor *s)
{
	unsigned n = 0;

	for (const struct asya_link *i = s->processes.next; i != &s->processes; i = i->next)
		n += process_at(i)->running;
	return n;
}

static void start(struct process *p);

static void on_again(uv_timer_t *t)
{
	struct process *p = asya_container_of(t, struct process, again);

	if (!p->supervisor->stopping)
		start(p);
}

static void pause_then_start(struct process *p)
{
	unsigned shift = p->failures < 7 ? p->failures : 7;
	uint64_t ms = (uint64_t)PAUSE_FIRST_MS << (shift ? shift - 1 : 0);

	uv_timer_start(&p->again, on_again, ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS, 0);
}

/* Those that waited for this one to end. */
static void stop_followers(struct supervisor *s, const struct process *ended)
{
	for (struct asya_link *i = s->processes.next; i != &s->processes; i = i->next) {
		struct process *p = process_at(i);

		if (p->after == ended && p->running)
			uv_process_kill(&p->handle, SIGTERM);
	}
}

static void on_process_closed(uv_handle_t *h)
{
	struct process *p = asya_container_of((uv_process_t *)h, struct process, handle);
	struct supervisor *s = p->supervisor;

	p->spawned = false;
	if (!s->stopping) {
		if (!s->ended || s->ended(s, p))
			pause_then_start(p);
		return;
	}
	stop_followers(s, p);
	if (!supervisor_running(s) && s->stopped)
		s->stopped(s);
}

static void on_exit_process(uv_process_t *h, int64_t code, int signal)
{
	struct process *p = asya_container_of(h, struct process, handle);

	p->running = false;
	p->exit_code = (int)code;
	p->signal = signal;
	p->failures = asya_clock_mono_ms() - p->started_ms > STEADY_MS ? 1 : p->failures + 1;
	uv_close((uv_handle_t *)h, on_process_closed);
}

static void start(struct process *p)
{
	int log = open(p->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE}};
	char *argv[ARGS_MAX + 4], parent[16];
	uv_process_options_t options = {.exit_cb = on_exit_process,
					.file = "/proc/self/exe",
					.args = argv,
					.env = p->env,
					.flags = UV_PROCESS_DETACHED,
					.stdio = stdio,
					.stdio_count = 3};
	size_t n = 0;

	snprintf(parent, sizeof(parent), "%d", getpid());
	argv[n++] = (char *)"asya";
	argv[n++] = (char *)"__exec";
	argv[n++] = parent;
	for (size_t i = 0; p->argv[i] && i < ARGS_MAX; i++)
		argv[n++] = p->argv[i];
	argv[n] = NULL;
	for (int i = 1; i < 3; i++)
		stdio[i] = (uv_stdio_container_t){.flags = log < 0 ? UV_IGNORE : UV_INHERIT_FD,
						  .data.fd = log};
	p->started_ms = asya_clock_mono_ms();
	p->supervisor->starts++;
	p->spawned = true;
	if (uv_spawn(p->supervisor->loop, &p->handle, &options) == 0)
		p->running = true;
	else
		on_exit_process(&p->handle, 127, 0);
	if (log >= 0)
		close(log);
}

void supervisor_add(struct supervisor *s, struct process *p)
{
	p->supervisor = s;
	uv_timer_init(s->loop, &p->again);
	asya_list_add_tail(&s->processes, &p->link);
	start(p);
}

void supervisor_stop(struct supervisor *s)
{
	s->stopping = true;
	for (struct asya_link *i = s->processes.next; i != &s->processes; i = i->next) {
		struct process *p = process_at(i);

		uv_timer_stop(&p->again);
		if (p->running && (!p->after || !p->after->running))
			uv_process_kill(&p->handle, SIGTERM);
	}
	if (!supervisor_running(s) && s->stopped)
		s->stopped(s);
}

void supervisor_kill(struct supervisor *s)
{
	for (struct asya_link *i = s->processes.next; i != &s->processes; i = i->next)
		if (process_at(i)->running)
			uv_process_kill(&process_at(i)->handle, SIGKILL);
}

void supervisor_close(struct supervisor *s)
{
	for (struct asya_link *i = s->processes.next; i != &s->processes; i = i->next)
		uv_close((uv_handle_t *)&process_at(i)->again, NULL);
}
