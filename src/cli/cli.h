// SPDX-License-Identifier: Apache-2.0
/*
 * The command line: one table of commands, each with a table of options, from which parsing,
 * --help, the man page and shell completion come.
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "transport/transport.h"

#include <stdbool.h>
#include <stddef.h>

/* Exit codes, the same for every command. */
enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,    /* it was done, and something about the messages is not well */
	CLI_USAGE = 2,     /* the words of the call, or a file, are wrong: nothing was done */
	CLI_NOT_FOUND = 3, /* there is no such thing */
	CLI_TIMEOUT = 4,   /* waited in vain */
	CLI_TROUBLE = 5,   /* the queue or the disk could not be used */
};

struct cli_option {
	const char *name;  /* without the dashes */
	char letter;       /* 0: none */
	const char *value; /* what the help calls its argument; NULL: a switch */
	const char *help;
	const char
		*complete; /* "file", "dir", "actor" or words separated by spaces; NULL: nothing */
};

enum { CLI_OPTIONS_MAX = 24, CLI_VALUES_MAX = 64 };

struct cli;

struct cli_command {
	const char *name;
	const char *arguments; /* "FILE...", "ID", or "" */
	const char *summary;   /* one line */
	const char *text;      /* what it does, with examples */
	const struct cli_option *options;
	size_t n_options;
	unsigned min_args, max_args;
	const char *complete[2]; /* of the first argument and of the others, as an option's */
	int (*run)(struct cli *cli);
};

/* One parsed call. */
struct cli {
	const struct cli_command *command;
	const char *values[CLI_OPTIONS_MAX]; /* by option; a switch's is "" */
	char **args;
	unsigned n_args;
	struct asya_arena *arena;
};

extern const struct cli_command *const cli_commands[]; /* ends with NULL */
extern const struct cli_option cli_common[];           /* every command's, ends with a NULL name */
/* The i-th option of a command: its own, then the common ones; NULL behind the last. */
const struct cli_option *cli_option_at(const struct cli_command *c, size_t i);

/* The value of an option; NULL if it was not given. Aborts on a name the command does not have. */
const char *cli_get(const struct cli *cli, const char *name);
static inline bool cli_has(const struct cli *cli, const char *name)
{
	return cli_get(cli, name) != NULL;
}

/* "asya: <text>" on standard error. Returns `code`. */
int cli_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* -1 with a message if the option is there and no whole number within min..max; 1 if it is absent.
 */
int cli_number(const struct cli *cli, const char *name, long long min, long long max,
	       long long *ret);
/* The same for a Go duration, in milliseconds. */
int cli_duration(const struct cli *cli, const char *name, int64_t *ret_ms);
/* The directory of state: --dir, else ASYA_LOCAL_DIR, else .asya */
const char *cli_dir(const struct cli *cli);
void cli_help_write(struct asya_buf *out, const struct cli_command *command);
void cli_man_write(struct asya_buf *out);

/* Reads a whole file, or standard input for "-". -1 with *err. The bytes are on the arena. */
int cli_read_file(struct asya_str *ret, struct asya_arena *arena, const char *path, size_t max,
		  struct asya_error *err);

/* Removes a directory and all in it, as far as it can. */
void cli_remove_tree(const char *path);

/* ---- a transport, used from top to bottom ---- */

struct client {
	uv_loop_t loop;
	struct asya_transport *transport;
	const struct cli *cli;
};

/* CLI_OK, or an exit code with the message printed. */
int client_open(struct client *c, const struct cli *cli);
void client_close(struct client *c);
/* Runs the loop until it is settled. */
enum asya_settled client_settle(struct client *c, struct asya_settle *op, struct asya_error *err);
/* Runs the loop for at most so long. */
void client_sleep(struct client *c, unsigned ms);

/* A random id: 32 hexadecimal digits in the form of a UUID (version 4). On the arena. */
struct asya_str cli_new_id(struct asya_arena *arena);

/* A line that is drawn over itself on a terminal, and nothing elsewhere. */
struct progress {
	bool shown;
	int64_t next_ms;
};
void progress_show(struct progress *p, const char *what, uint64_t done, uint64_t total);
void progress_clear(struct progress *p);
