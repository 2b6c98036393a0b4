// SPDX-License-Identifier: Apache-2.0
/* asya run: the actors of manifests, on this machine. */
#include "cli/run.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/shim_text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	LOOK_MS = 200,
	ACTORS_MAX = 256,
	MANIFEST_MAX = 1 << 20,
	SOCKET_MAX = 107,
	EARLY_FAILURES = 3
};

struct running {
	struct cli *cli;
	struct client client;
	struct run_settings settings;
	struct supervisor supervisor;
	struct local_actor actors[ACTORS_MAX];
	size_t n_actors;
	uv_signal_t interrupt, terminate;
	uv_timer_t look;
	bool until_empty, screen, ended;
	unsigned empty_looks, interrupts;
	int64_t dead_before, failed_before; /* counts before this run, of what went wrong */
	int64_t dead, failed;
	bool have_before;
	int64_t last_ms;
	unsigned lines; /* of the table on the screen */
	int code;
};

/* ---- manifests ---- */

static bool known(const struct running *r, struct asya_str name)
{
	for (size_t i = 0; i < r->n_actors; i++)
		if (asya_str_eq(r->actors[i].name, name))
			return true;
	return false;
}

static const char *folder_of(struct asya_arena *arena, const char *file)
{
	const char *slash = strrchr(file, '/');
	char full[PATH_MAX];
	const char *folder = slash ? asya_arena_printf(arena, "%.*s",
						       (int)(slash - file) + (slash == file), file)
					     .p
				   : ".";

	return realpath(folder, full) ? asya_arena_cstr(arena, asya_str_c(full)) : folder;
}

static int add_actor(struct running *r, const char *file, const struct asya_asyncactor *spec)
{
	struct local_actor *a = &r->actors[r->n_actors];

	if (known(r, spec->name))
		return cli_fail(CLI_USAGE, "%s: the actor '%.*s' is there twice", file,
				ASYA_STR_ARG(spec->name));
	if (r->n_actors + 2 >= ACTORS_MAX)
		return cli_fail(CLI_USAGE, "more than %d actors", ACTORS_MAX - 2);
	for (size_t i = 0; i < spec->runtime.n_env_from; i++)
		cli_fail(0,
			 "%s: %.*s: the value of %.*s comes from the cluster and is not set here",
			 file, ASYA_STR_ARG(spec->name),
			 ASYA_STR_ARG(spec->runtime.env_from[i].name));
	*a = (struct local_actor){.name = spec->name,
				  .spec = spec,
				  .folder = folder_of(r->cli->arena, file),
				  .replicas = spec->replicas > 0 ? (unsigned)spec->replicas : 1};
	r->n_actors++;
	return 0;
}

static int read_manifest(struct running *r, const char *file)
{
	struct asya_arena *arena = r->cli->arena;
	struct asya_findings findings;
	struct asya_manifest m;
	struct asya_buf report = {0};
	struct asya_error err;
	struct asya_str text;
	int code = 0;

	if (cli_read_file(&text, arena, file, MANIFEST_MAX, &err))
		return cli_fail(CLI_USAGE, "%s", err.text);
	asya_findings_init(&findings, arena);
	asya_manifest_parse(&m, arena, text, &findings);
	asya_manifest_report_write(&report, file, text, &findings, false);
	fwrite(report.p ? report.p : "", 1, report.n, stderr);
	asya_buf_fini(&report);
	if (findings.errors)
		return CLI_USAGE;
	for (size_t i = 0; i < m.n && !code; i++)
		code = add_actor(r, file, &m.actors[i]);
	return code;
}

static void add_end(struct running *r, struct asya_str name)
{
	if (!known(r, name))
		r->actors[r->n_actors++] =
			(struct local_actor){.name = name, .folder = ".", .replicas = 1};
}

/* ---- directories ---- */

static int make_dir(const char *path)
{
	if (mkdir(path, 0777) && errno != EEXIST)
		return cli_fail(CLI_TROUBLE, "making the directory '%s': %s", path,
				strerror(errno));
	return 0;
}

/* With what is missing above it. */
static int make_path(const char *path)
{
	_cleanup_(asya_freep) char *copy = asya_strdup(path);

	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (make_dir(copy))
			return -1;
		*slash = '/';
	}
	return make_dir(copy);
}

/* Socket directories of runs that are gone. */
static void sweep(const char *run)
{
	struct dirent *entry;
	DIR *d = opendir(run);

	while (d && (entry = readdir(d))) {
		pid_t pid = atoi(entry->d_name);

		if (pid > 0 && kill(pid, 0) && errno == ESRCH) {
			_cleanup_(asya_freep) char *path =
				asya_asprintf("%s/%s", run, entry->d_name);

			cli_remove_tree(path);
		}
	}
	if (d)
		closedir(d);
}

static size_t longest_name(const struct running *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_actors; i++)
		n = r->actors[i].name.n > n ? r->actors[i].name.n : n;
	return n;
}

static int make_dirs(struct running *r)
{
	struct asya_arena *arena = r->cli->arena;
	struct run_settings *s = &r->settings;
	const char *run = asya_arena_printf(arena, "%s/run", s->dir).p;

	if (make_dir(run) || make_dir(asya_arena_printf(arena, "%s/logs", s->dir).p) ||
	    make_dir(asya_arena_printf(arena, "%s/results", s->dir).p))
		return CLI_TROUBLE;
	sweep(run);
	s->sockets = asya_arena_printf(arena, "%s/%d", run, getpid()).p;
	if (strlen(s->sockets) + longest_name(r) + strlen("/-1000/asya-runtime.sock") > SOCKET_MAX)
		s->sockets = asya_arena_printf(arena, "/tmp/asya-run-%d-%d", getuid(), getpid()).p;
	return make_dir(s->sockets) ? CLI_TROUBLE : 0;
}

/* The runtime's file is inside this program; it stands beside the sockets while it is needed. */
static int write_shim(struct running *r)
{
	const char *path =
		asya_arena_printf(r->cli->arena, "%s/asya_runtime.py", r->settings.sockets).p;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	bool good = fd >= 0 && write(fd, asya_shim_text, asya_shim_size) == (ssize_t)asya_shim_size;

	if (fd >= 0)
		close(fd);
	r->settings.shim = path;
	return good ? 0 : cli_fail(CLI_TROUBLE, "writing '%s': %s", path, strerror(errno));
}

static void find_sidecar(struct running *r)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	r->settings.sidecar = "asya-sidecar";
	if (n <= 0)
		return;
	self[n] = '\0';
	slash = strrchr(self, '/');
	*slash = '\0';
	if (slash) {
		const char *beside = asya_arena_printf(r->cli->arena, "%s/asya-sidecar", self).p;

		if (access(beside, X_OK) == 0)
			r->settings.sidecar = beside;
	}
}

/* ---- looking ---- */

struct totals {
	struct running *r;
	int64_t waiting, dead, failed;
	bool draw;
};

static struct local_actor *actor_find(struct running *r, struct asya_str name)
{
	for (size_t i = 0; i < r->n_actors; i++)
		if (asya_str_eq(r->actors[i].name, name))
			return &r->actors[i];
	return NULL;
}

static unsigned sidecars_up(const struct local_actor *a)
{
	unsigned n = 0;

	for (size_t i = 0; i < a->n_processes; i++)
		n += !a->processes[i].after && a->processes[i].running;
	return n;
}

static void draw_row(struct totals *t, struct local_actor *a, struct asya_str name,
		     const struct asya_depth *d, int64_t done, int64_t failed)
{
	int64_t now = asya_clock_mono_ms();
	double seconds = (double)(now - t->r->last_ms) / 1000;
	double rate =
		a && seconds > 0 && t->r->last_ms ? (double)(done - a->done_before) / seconds : 0;
	char up[24] = "-";

	if (a) {
		snprintf(up, sizeof(up), "%u/%u", sidecars_up(a), a->replicas);
		a->done_before = done;
	}
	fprintf(stderr, "%-24.*s %7s %9lld %9lld %9lld %9lld %7lld %9.1f\033[K\n",
		ASYA_STR_ARG(name), up, (long long)(d->ready + d->delayed), (long long)d->leased,
		(long long)done, (long long)failed, (long long)d->dead, rate);
	t->r->lines++;
}

static void on_queue(void *user, struct asya_str name, const struct asya_depth *d, int64_t done,
		     int64_t failed)
{
	struct totals *t = user;

	t->waiting += d->ready + d->leased + d->delayed;
	t->dead += d->dead;
	if (asya_str_eq_c(name, "error-end"))
		t->failed += done + failed;
	if (t->draw)
		draw_row(t, actor_find(t->r, name), name, d, done, failed);
}

static void erase_table(struct running *r)
{
	if (r->lines)
		fprintf(stderr, "\033[%uA\033[J", r->lines);
	r->lines = 0;
}

static void look(struct running *r, bool draw)
{
	struct asya_transport *t = r->client.transport;
	struct totals totals = {.r = r, .draw = draw};
	struct asya_error err;

	if (!t->ops->queues)
		return;
	if (draw) {
		erase_table(r);
		fprintf(stderr, "%-24s %7s %9s %9s %9s %9s %7s %9s\033[K\n", "ACTOR", "UP",
			"QUEUED", "IN FLIGHT", "DONE", "FAILED", "DEAD", "PER SEC");
		r->lines++;
	}
	if (t->ops->queues(t, on_queue, &totals, &err)) {
		cli_fail(0, "%s", err.text);
		return;
	}
	if (draw)
		r->last_ms = asya_clock_mono_ms();
	if (!r->have_before) {
		r->dead_before = totals.dead;
		r->failed_before = totals.failed;
		r->have_before = true;
	}
	r->dead = totals.dead;
	r->failed = totals.failed;
	r->empty_looks = totals.waiting ? 0 : r->empty_looks + 1;
}

/* ---- ending ---- */

static void on_stopped(struct supervisor *s)
{
	struct running *r = s->user;

	if (r->ended)
		return;
	r->ended = true;
	supervisor_close(s);
	uv_close((uv_handle_t *)&r->interrupt, NULL);
	uv_close((uv_handle_t *)&r->terminate, NULL);
	uv_close((uv_handle_t *)&r->look, NULL);
}

static void stop(struct running *r)
{
	if (r->interrupts++ == 0) {
		if (!r->until_empty || !r->empty_looks)
			fprintf(stderr, "asya: draining; once more to end at once\n"), r->lines = 0;
		supervisor_stop(&r->supervisor);
		return;
	}
	supervisor_kill(&r->supervisor);
}

static void on_interrupt(uv_signal_t *h, int signal)
{
	(void)signal;
	stop(asya_container_of(h, struct running, interrupt));
}

static void on_terminate(uv_signal_t *h, int signal)
{
	(void)signal;
	stop(asya_container_of(h, struct running, terminate));
}

static void print_tail(const char *path)
{
	enum { TAIL = 1500 };
	char text[TAIL + 1];
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f)
		return;
	fseek(f, 0, SEEK_END);
	fseek(f, ftell(f) > TAIL ? ftell(f) - TAIL : 0, SEEK_SET);
	n = fread(text, 1, TAIL, f);
	fclose(f);
	text[n] = '\0';
	fprintf(stderr, "%s%s", text, n && text[n - 1] != '\n' ? "\n" : "");
}

/* What ends by itself, again and again, as soon as it was started, will not mend by that: its
 * settings or its code are wrong. */
static bool on_ended(struct supervisor *s, struct process *p)
{
	struct running *r = s->user;

	erase_table(r);
	if (p->signal)
		fprintf(stderr, "asya: %s was ended by signal %d; starting it again\n", p->name,
			p->signal);
	else
		fprintf(stderr, "asya: %s ended with code %d; starting it again\n", p->name,
			p->exit_code);
	if (p->signal || !p->exit_code || p->failures < EARLY_FAILURES)
		return true;
	fprintf(stderr, "asya: %s cannot start; the end of %s:\n", p->name, p->log_path);
	print_tail(p->log_path);
	r->code = CLI_FAILED;
	stop(r);
	return false;
}

static void on_look(uv_timer_t *t)
{
	struct running *r = asya_container_of(t, struct running, look);

	if (r->supervisor.stopping)
		return;
	look(r, r->screen);
	if (r->until_empty && r->empty_looks >= 2)
		stop(r);
}

/* ---- */

static int prepare(struct running *r)
{
	struct cli *cli = r->cli;
	char full[PATH_MAX];
	int code = 0;

	for (unsigned i = 0; i < cli->n_args && !code; i++)
		code = read_manifest(r, cli->args[i]);
	if (code)
		return code;
	add_end(r, ASYA_STR("happy-end"));
	add_end(r, ASYA_STR("error-end"));
	if (make_path(cli_dir(cli)))
		return CLI_TROUBLE;
	code = client_open(&r->client, cli);
	if (code)
		return code;
	r->settings.dir = realpath(cli_dir(cli), full)
				  ? asya_arena_cstr(cli->arena, asya_str_c(full))
				  : cli_dir(cli);
	code = make_dirs(r);
	if (!code)
		code = write_shim(r);
	if (code)
		client_close(&r->client);
	return code;
}

static void start_all(struct running *r)
{
	uv_loop_t *loop = &r->client.loop;

	supervisor_init(&r->supervisor, loop);
	r->supervisor.user = r;
	r->supervisor.ended = on_ended;
	r->supervisor.stopped = on_stopped;
	look(r, false);
	uv_signal_init(loop, &r->interrupt);
	uv_signal_init(loop, &r->terminate);
	uv_signal_start(&r->interrupt, on_interrupt, SIGINT);
	uv_signal_start(&r->terminate, on_terminate, SIGTERM);
	uv_timer_init(loop, &r->look);
	uv_timer_start(&r->look, on_look, LOOK_MS, r->screen ? LOOK_MS * 3 : LOOK_MS);
	for (size_t i = 0; i < r->n_actors; i++) {
		struct local_actor *a = &r->actors[i];

		run_plan(a, r->cli->arena, &r->settings);
		for (size_t k = 0; k < a->n_processes; k++)
			supervisor_add(&r->supervisor, &a->processes[k]);
	}
}

static int run(struct cli *cli)
{
	struct running *r = asya_arena_new0(cli->arena, struct running);
	int code;

	r->cli = cli;
	r->until_empty = cli_has(cli, "until-empty");
	r->screen = isatty(STDERR_FILENO) && !cli_has(cli, "no-table");
	r->settings.path = cli_get(cli, "path");
	r->settings.python = cli_get(cli, "python");
	r->settings.transport = cli_get(cli, "transport") ? cli_get(cli, "transport") : "local";
	r->settings.log_level = cli_get(cli, "log-level") ? cli_get(cli, "log-level") : "INFO";
	find_sidecar(r);
	code = prepare(r);
	if (code)
		return code;
	fprintf(stderr, "asya: running %zu actors; results, logs and queues in %s\n", r->n_actors,
		r->settings.dir);
	start_all(r);
	while (!r->ended)
		uv_run(&r->client.loop, UV_RUN_ONCE);
	look(r, r->screen);
	cli_remove_tree(r->settings.sockets);
	client_close(&r->client);
	if (r->until_empty && !r->code &&
	    (r->dead > r->dead_before || r->failed > r->failed_before)) {
		fprintf(stderr, "asya: %lld messages ended at error-end, %lld among dead letters\n",
			(long long)(r->failed - r->failed_before),
			(long long)(r->dead - r->dead_before));
		r->code = CLI_FAILED;
	}
	return r->code;
}

static const struct cli_option options[] = {
	{"until-empty", 0, NULL,
	 "End once every queue is empty; exit 1 if a message failed meanwhile.", NULL},
	{"path", 0, "DIRS", "More folders with Python code, separated by colons.", "dir"},
	{"python", 0, "PROGRAM", "The Python to use [what the manifests say: python3].", "file"},
	{"log-level", 0, "LEVEL", "Of sidecars and runtimes [INFO].", "DEBUG INFO WARNING ERROR"},
	{"no-table", 0, NULL, "No live table on a terminal.", NULL},
};

const struct cli_command command_run = {
	.name = "run",
	.arguments = "FILE...",
	.summary = "run the actors of AsyncActor manifests on this machine",
	.text = "Runs each actor of the manifests: for each replica a runtime (the container's "
		"command if it has one,\n"
		"else its ASYA_HANDLER in Python, found from the manifest's folder) and a sidecar, "
		"and the two end\n"
		"actors, which keep results below DIR/results. The queues are the local "
		"transport's in DIR, whatever\n"
		"transport the manifests name. What ends is started again; logs are in DIR/logs. "
		"Ctrl-C drains.\n\n"
		"  asya run actors.yaml\n"
		"  asya run --dir /tmp/trial --until-empty a.yaml b.yaml",
	.options = options,
	.n_options = ASYA_ARRAY_SIZE(options),
	.min_args = 1,
	.max_args = 64,
	.run = run,
};
