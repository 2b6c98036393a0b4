// SPDX-License-Identifier: Apache-2.0
/* asya: sends envelopes, runs actors on this machine, looks into queues. */
#include "cli/cli.h"

#include "base/mem.h"
#include "cli/commands.h"
#include "cli/supervise.h"
#include "core/suggest.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

const struct cli_command *const cli_commands[] = {
	&command_run,      &command_send,       &command_get,
	&command_trace,    &command_queues,     &command_dead,
	&command_validate, &command_completion, NULL};

static const struct cli_command *find(const char *name)
{
	for (size_t i = 0; cli_commands[i]; i++)
		if (strcmp(cli_commands[i]->name, name) == 0)
			return cli_commands[i];
	return NULL;
}

static void print(struct asya_buf *b)
{
	fwrite(b->p, 1, b->n, stdout);
	asya_buf_fini(b);
}

static int unknown(const char *name)
{
	struct asya_str names[64];
	size_t n = 0;
	int near;

	while (cli_commands[n] && n < ASYA_ARRAY_SIZE(names)) {
		names[n] = asya_str_c(cli_commands[n]->name);
		n++;
	}
	near = asya_suggest(asya_str_c(name), names, n);
	if (near >= 0)
		return cli_fail(CLI_USAGE, "there is no command '%s'; did you mean %s?", name,
				names[near].p);
	return cli_fail(CLI_USAGE, "there is no command '%s'; `asya help` lists them", name);
}

/* What was printed is there, or nobody wants it any more (a closed pipe), or the disk is full. */
static int flushed(int code)
{
	struct pollfd out = {.fd = STDOUT_FILENO};
	int failed = fflush(stdout), why = errno;

	if (!failed && !ferror(stdout))
		return code;
	if (poll(&out, 1, 0) > 0 && (out.revents & POLLERR))
		return code;
	return cli_fail(CLI_TROUBLE, "writing to standard output%s%s", failed ? ": " : " failed",
			failed ? strerror(why) : "");
}

static int help(const char *name)
{
	const struct cli_command *command = name ? find(name) : NULL;
	struct asya_buf b = {0};

	if (name && !command)
		return unknown(name);
	cli_help_write(&b, command);
	print(&b);
	return CLI_OK;
}

static bool is(const char *word, const char *a, const char *b)
{
	return strcmp(word, a) == 0 || strcmp(word, b) == 0;
}

int main(int argc, char **argv)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	struct cli cli = {.arena = arena};
	int code;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 2 || is(argv[1], "--help", "-h") || is(argv[1], "help", "help"))
		return argc < 2 ? (help(NULL), CLI_USAGE) : help(argc > 2 ? argv[2] : NULL);
	if (is(argv[1], "--version", "version")) {
		printf("asya %s\n", ASYA_VERSION);
		return CLI_OK;
	}
	if (strcmp(argv[1], "--man") == 0) {
		struct asya_buf b = {0};

		cli_man_write(&b);
		print(&b);
		return CLI_OK;
	}
	if (strcmp(argv[1], "__exec") == 0)
		return supervise_exec(argc - 2, argv + 2);
	cli.command = find(argv[1]);
	if (!cli.command)
		return unknown(argv[1]);
	code = cli_parse(&cli, argc - 2, argv + 2);
	return flushed(code >= 0 ? code : cli.command->run(&cli));
}
