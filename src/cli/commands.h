// SPDX-License-Identifier: Apache-2.0
/* The commands, a file each. */
#pragma once
#include "cli/cli.h"

extern const struct cli_command command_run;
extern const struct cli_command command_completion;
extern const struct cli_command command_dead;
extern const struct cli_command command_get;
extern const struct cli_command command_queues;
extern const struct cli_command command_send;
extern const struct cli_command command_trace;
extern const struct cli_command command_validate;

/* Reads options and arguments. -1: go on; else the exit code, with the help or a message printed.
 */
int cli_parse(struct cli *cli, int argc, char **argv);
