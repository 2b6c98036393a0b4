// SPDX-License-Identifier: Apache-2.0
#include "base/failpoint.h"

#ifdef ASYA_FAILPOINTS
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { MAX_RULES = 64 };

struct rule {
	char name[48];
	char how; /* '@' the nth hit, '%' per mille, 'o' on */
	double value;
	long hits;
};

static struct {
	pthread_mutex_t lock;
	bool loaded;
	struct rule rules[MAX_RULES];
	size_t n;
	unsigned seed;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void add_rule(const char *text)
{
	struct rule *r = &state.rules[state.n];
	char action[16] = "";

	if (state.n == MAX_RULES || sscanf(text, "%47[^=]=%15s", r->name, action) != 2)
		return;
	if (strcmp(action, "on") == 0)
		r->how = 'o';
	else if (strncmp(action, "kill", 4) == 0 && (action[4] == '@' || action[4] == '%'))
		r->how = action[4], r->value = atof(action + 5);
	else
		return;
	state.n++;
}

static void load(void)
{
	const char *text = getenv("ASYA_FAILPOINTS"), *seed = getenv("ASYA_FAILPOINT_SEED");
	_cleanup_(asya_freep) char *copy = asya_strdup(text ? text : "");
	char *next = copy;

	state.seed = (unsigned)(seed ? atoi(seed) : 1) * 2654435761u + (unsigned)getpid();
	for (char *one = strsep(&next, ","); one; one = strsep(&next, ","))
		add_rule(one);
	state.loaded = true;
}

static void die(const char *name)
{
	const char *path = getenv("ASYA_FAILPOINT_LOG");
	char line[128];
	int n = snprintf(line, sizeof(line), "%s %d %lld\n", name, getpid(),
			 (long long)asya_clock_wall_us());
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
	ssize_t written = fd < 0 ? 0 : write(fd, line, (size_t)n);

	(void)written;
	kill(getpid(), SIGKILL);
}

static bool fires(struct rule *r)
{
	r->hits++;
	if (r->how == '@')
		return r->hits == (long)r->value;
	return r->how == '%' && rand_r(&state.seed) < r->value / 1000 * RAND_MAX;
}

void asya_failpoint(const char *name)
{
	pthread_mutex_lock(&state.lock);
	if (!state.loaded)
		load();
	for (size_t i = 0; i < state.n; i++)
		if ((strcmp(state.rules[i].name, name) == 0 ||
		     strcmp(state.rules[i].name, "*") == 0) &&
		    fires(&state.rules[i]))
			die(name);
	pthread_mutex_unlock(&state.lock);
}

bool asya_failpoint_on(const char *name)
{
	bool on = false;

	pthread_mutex_lock(&state.lock);
	if (!state.loaded)
		load();
	for (size_t i = 0; i < state.n; i++)
		on = on || (state.rules[i].how == 'o' && strcmp(state.rules[i].name, name) == 0);
	pthread_mutex_unlock(&state.lock);
	return on;
}
#endif
