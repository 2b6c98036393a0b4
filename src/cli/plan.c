// SPDX-License-Identifier: Apache-2.0
/* From an AsyncActor to the processes that are that actor on this machine: for each replica a
 * runtime and a sidecar, with the variables that the operator would give their containers. */
#include "cli/run.h"

#include "base/clock.h"
#include "base/mem.h"
#include "transport/transport.h"

#include <stdio.h>
#include <sys/stat.h>

extern char **environ;

struct env {
	struct asya_arena *arena;
	char **items;
	size_t n, room;
};

static void env_put(struct env *e, char *item)
{
	size_t name = strcspn(item, "=") + 1;

	for (size_t i = 0; i < e->n; i++)
		if (strncmp(e->items[i], item, name) == 0) {
			e->items[i] = item;
			return;
		}
	if (e->n + 1 >= e->room) {
		size_t room = e->room ? e->room * 2 : 64;
		char **more = asya_arena_array(e->arena, char *, room);

		if (e->n)
			memcpy(more, e->items, e->n * sizeof(*more));
		e->items = more;
		e->room = room;
	}
	e->items[e->n++] = item;
	e->items[e->n] = NULL;
}

static void env_set(struct env *e, const char *name, const char *value)
{
	env_put(e, (char *)asya_arena_printf(e->arena, "%s=%s", name, value).p);
}

static void env_set_str(struct env *e, struct asya_str name, struct asya_str value)
{
	struct asya_buf b = {0};

	asya_buf_str(&b, name);
	asya_buf_char(&b, '=');
	asya_buf_str(&b, value);
	env_put(e, asya_arena_cstr(e->arena, asya_buf_view(&b)));
	asya_buf_fini(&b);
}

static void env_set_ms(struct env *e, const char *name, int64_t ms)
{
	env_set(e, name, asya_arena_printf(e->arena, "%lldms", (long long)ms).p);
}

/* Whether a variable (`NAME=value`) is a setting of the transport. */
static bool is_setting_of(const char *transport, const char *item)
{
	const struct asya_transport_ops *ops = asya_transport_find(asya_str_c(transport));
	size_t n = strcspn(item, "=");

	for (size_t i = 0; ops && i < ops->n_settings; i++)
		if (strlen(ops->settings[i].name) == n &&
		    memcmp(ops->settings[i].name, item, n) == 0)
			return true;
	return false;
}

/* This process's own, without what is ours: an actor's settings come from its manifest. What tests
 * put in (failpoints) stays, and the settings of `transport`, if any: a sidecar's alone, as there
 * are passwords among them. */
static struct env env_begin(struct asya_arena *arena, const char *transport)
{
	struct env e = {.arena = arena};

	for (char **i = environ; *i; i++)
		if (strncmp(*i, "ASYA_", 5) != 0 || strncmp(*i, "ASYA_FAILPOINT", 14) == 0 ||
		    (transport && is_setting_of(transport, *i)))
			env_put(&e, *i);
	return e;
}

static void env_add(struct env *e, const struct asya_env *env, size_t n)
{
	for (size_t i = 0; i < n; i++)
		env_set_str(e, env[i].name, env[i].value);
}

static char **sidecar_env(const struct local_actor *a, struct asya_arena *arena,
			  const struct run_settings *s, const char *sockets)
{
	const struct asya_asyncactor *spec = a->spec;
	struct env e = env_begin(arena, s->transport);

	env_set(&e, "ASYA_LOG_LEVEL", s->log_level);
	env_set(&e, "ASYA_METRICS_ENABLED", "false");
	if (spec)
		env_add(&e, spec->sidecar_env, spec->n_sidecar_env);
	env_set_str(&e, ASYA_STR("ASYA_ACTOR_NAME"), a->name);
	env_set(&e, "ASYA_TRANSPORT", s->transport);
	env_set(&e, "ASYA_LOCAL_DIR", s->dir);
	env_set(&e, "ASYA_SOCKET_DIR", sockets);
	if (!spec) {
		env_set(&e, "ASYA_IS_END_ACTOR", "true");
		env_set(&e, "ASYA_RESULTS_DIR", asya_arena_printf(arena, "%s/results", s->dir).p);
		return e.items;
	}
	env_set_ms(&e, "ASYA_RUNTIME_TIMEOUT", spec->processing_timeout_ms);
	env_set_ms(&e, "ASYA_GRACE_PERIOD", spec->grace_period_ms);
	if (spec->resiliency_json.p)
		env_set_str(&e, ASYA_STR("ASYA_RESILIENCY"), spec->resiliency_json);
	return e.items;
}

static char **runtime_env(const struct local_actor *a, struct asya_arena *arena,
			  const struct run_settings *s, const char *sockets)
{
	const char *old = getenv("PYTHONPATH");
	struct env e = env_begin(arena, NULL);

	env_set(&e, "ASYA_LOG_LEVEL", s->log_level);
	env_set(&e, "PYTHONUNBUFFERED", "1");
	env_set(&e, "PYTHONPATH",
		asya_arena_printf(arena, "%s%s%s%s%s", a->folder, s->path ? ":" : "",
				  s->path ? s->path : "", old && *old ? ":" : "", old ? old : "")
			.p);
	env_add(&e, a->spec->runtime.env, a->spec->runtime.n_env);
	env_set(&e, "ASYA_SOCKET_DIR", sockets);
	env_set(&e, "ASYA_LOCAL_DIR", s->dir);
	env_set_ms(&e, "ASYA_GRACE_PERIOD", a->spec->grace_period_ms);
	return e.items;
}

static char **words(struct asya_arena *arena, const char *first, const char *second)
{
	char **argv = asya_arena_array(arena, char *, 3);

	argv[0] = (char *)first;
	argv[1] = (char *)second;
	return argv;
}

/* The container's own command where it has one, else the Python runtime. */
static char **runtime_argv(const struct local_actor *a, struct asya_arena *arena,
			   const struct run_settings *s)
{
	const struct asya_container *c = &a->spec->runtime;
	size_t n = 0;
	char **argv;

	if (!c->n_command)
		return words(arena,
			     s->python ? s->python
				       : asya_arena_cstr(arena, a->spec->python_executable),
			     s->shim);
	argv = asya_arena_array(arena, char *, c->n_command + c->n_args + 1);
	for (size_t i = 0; i < c->n_command; i++)
		argv[n++] = asya_arena_cstr(arena, c->command[i]);
	for (size_t i = 0; i < c->n_args; i++)
		argv[n++] = asya_arena_cstr(arena, c->args[i]);
	return argv;
}

static void fill(struct process *p, const struct local_actor *a, struct asya_arena *arena,
		 const struct run_settings *s, unsigned replica, const char *what)
{
	p->name = asya_arena_printf(arena, "%.*s-%u %s", ASYA_STR_ARG(a->name), replica, what).p;
	p->log_path = asya_arena_printf(arena, "%s/logs/%.*s-%u.%s.log", s->dir,
					ASYA_STR_ARG(a->name), replica, what)
			      .p;
}

void run_plan(struct local_actor *a, struct asya_arena *arena, const struct run_settings *s)
{
	a->processes = asya_arena_array(arena, struct process, 2 * (size_t)a->replicas);
	for (unsigned i = 0; i < a->replicas; i++) {
		const char *sockets =
			asya_arena_printf(arena, "%s/%.*s-%u", s->sockets, ASYA_STR_ARG(a->name), i)
				.p;
		struct process *sidecar = &a->processes[a->n_processes++], *runtime;

		(void)mkdir(sockets, 0700);
		fill(sidecar, a, arena, s, i, "sidecar");
		sidecar->argv = words(arena, s->sidecar, NULL);
		sidecar->env = sidecar_env(a, arena, s, sockets);
		if (!a->spec)
			continue;
		runtime = &a->processes[a->n_processes++];
		fill(runtime, a, arena, s, i, "runtime");
		runtime->argv = runtime_argv(a, arena, s);
		runtime->env = runtime_env(a, arena, s, sockets);
		runtime->after = sidecar;
	}
}
