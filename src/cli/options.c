// SPDX-License-Identifier: Apache-2.0
#include "cli/cli.h"
#include "cli/commands.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/suggest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

const struct cli_option cli_common[] = {
	{"dir", 'd', "DIR", "Directory of queues, results and logs [$ASYA_LOCAL_DIR, else .asya].",
	 "dir"},
	{"transport", 0, "NAME", "Queue system [$ASYA_TRANSPORT, else local].", "local"},
	{"json", 0, NULL, "Print JSON, an object a line.", NULL},
	{"help", 'h', NULL, "Print this help.", NULL},
	{NULL, 0, NULL, NULL, NULL},
};

const struct cli_option *cli_option_at(const struct cli_command *c, size_t i)
{
	if (i < c->n_options)
		return &c->options[i];
	return cli_common[i - c->n_options].name ? &cli_common[i - c->n_options] : NULL;
}

static const struct cli_option *option_find(const struct cli_command *c, const char *name, size_t n,
					    size_t *ret_index)
{
	const struct cli_option *o;

	for (size_t i = 0; (o = cli_option_at(c, i)); i++)
		if ((n == 1 && o->letter == *name) ||
		    (strlen(o->name) == n && memcmp(o->name, name, n) == 0))
			return *ret_index = i, o;
	return NULL;
}

const char *cli_get(const struct cli *cli, const char *name)
{
	size_t i;

	if (!option_find(cli->command, name, strlen(name), &i))
		abort();
	return cli->values[i];
}

int cli_fail(int code, const char *fmt, ...)
{
	va_list args;

	fputs("asya: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	return code;
}

static int unknown(const struct cli_command *c, const char *word)
{
	struct asya_str names[CLI_OPTIONS_MAX];
	const struct cli_option *o;
	size_t n = 0;
	int near;

	for (size_t i = 0; (o = cli_option_at(c, i)) && n < CLI_OPTIONS_MAX; i++)
		names[n++] = asya_str_c(o->name);
	near = asya_suggest(asya_str_c(word + strspn(word, "-")), names, n);
	if (near >= 0)
		return cli_fail(CLI_USAGE, "%s has no option '%s'; did you mean --%s?", c->name,
				word, names[near].p);
	return cli_fail(CLI_USAGE, "%s has no option '%s'; `asya help %s` lists them", c->name,
			word, c->name);
}

/* `--name`, `--name=value`, `--name value`, `-n value`. Returns how many words it took, or -1. */
static int take_option(struct cli *cli, int argc, char **argv)
{
	const char *word = argv[0] + (argv[0][1] == '-' ? 2 : 1), *value = NULL;
	size_t n = strcspn(word, "="), i;
	const struct cli_option *o = NULL;

	if (n && (argv[0][1] == '-') == (n > 1))
		o = option_find(cli->command, word, n, &i);
	if (!o)
		return unknown(cli->command, argv[0]), -1;
	if (word[n] == '=')
		value = word + n + 1;
	if (!o->value && value)
		return cli_fail(-1, "--%s takes no value", o->name);
	if (o->value && !value && argc < 2)
		return cli_fail(-1, "--%s needs a value: --%s %s", o->name, o->name, o->value);
	cli->values[i] = !o->value ? "" : value ? value : argv[1];
	return o->value && !value ? 2 : 1;
}

static int print_help(const struct cli_command *c)
{
	struct asya_buf b = {0};

	cli_help_write(&b, c);
	fwrite(b.p, 1, b.n, stdout);
	asya_buf_fini(&b);
	return CLI_OK;
}

int cli_parse(struct cli *cli, int argc, char **argv)
{
	const struct cli_command *c = cli->command;

	cli->args = argv;
	while (argc) {
		int took = 1;

		if (strcmp(argv[0], "--") == 0) {
			while (--argc)
				cli->args[cli->n_args++] = *++argv;
			break;
		}
		if (argv[0][0] == '-' && argv[0][1])
			took = take_option(cli, argc, argv);
		else
			cli->args[cli->n_args++] = argv[0];
		if (took < 0)
			return CLI_USAGE;
		argc -= took;
		argv += took;
	}
	if (cli_has(cli, "help"))
		return print_help(c);
	if (cli->n_args < c->min_args || cli->n_args > c->max_args)
		return cli_fail(CLI_USAGE, "usage: asya %s [OPTION...] %s", c->name, c->arguments);
	return -1;
}

int cli_number(const struct cli *cli, const char *name, long long min, long long max,
	       long long *ret)
{
	const char *text = cli_get(cli, name);
	char *end;

	if (!text)
		return 1;
	errno = 0;
	*ret = strtoll(text, &end, 10);
	if (errno || end == text || *end || *ret < min || *ret > max)
		return cli_fail(-1, "--%s is '%s', it must be a whole number from %lld to %lld",
				name, text, min, max);
	return 0;
}

int cli_duration(const struct cli *cli, const char *name, int64_t *ret_ms)
{
	const char *text = cli_get(cli, name);
	int64_t ns;

	if (!text)
		return 1;
	if (asya_duration_parse(&ns, asya_str_c(text)))
		return cli_fail(-1,
				"--%s is '%s', it must be a duration such as 250ms, 10s or 1h30m",
				name, text);
	*ret_ms = ns / 1000000;
	return 0;
}

const char *cli_dir(const struct cli *cli)
{
	const char *dir = cli_get(cli, "dir");

	if (!dir)
		dir = getenv("ASYA_LOCAL_DIR");
	return dir && *dir ? dir : ".asya";
}

/* ---- help ---- */

static void option_write(struct asya_buf *out, const struct cli_option *o)
{
	size_t begin = out->n;

	asya_buf_c(out, "  ");
	if (o->letter)
		asya_buf_printf(out, "-%c, ", o->letter);
	asya_buf_printf(out, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
	do
		asya_buf_char(out, ' ');
	while (out->n - begin < 26);
	asya_buf_printf(out, "%s\n", o->help);
}

/* By exit code. */
static const char *const exits[] = {
	[CLI_OK] = "well",
	[CLI_FAILED] = "done, but messages failed",
	[CLI_USAGE] = "wrong words or files: nothing was done",
	[CLI_NOT_FOUND] = "no such thing",
	[CLI_TIMEOUT] = "waited in vain",
	[CLI_TROUBLE] = "the queue or the disk could not be used",
};

static void overview_write(struct asya_buf *out)
{
	asya_buf_c(out, "asya: asynchronous actors; messages that carry their own route\n\n"
			"usage: asya COMMAND [OPTION...] [ARGUMENT...]\n\n");
	for (size_t i = 0; cli_commands[i]; i++)
		asya_buf_printf(out, "  %-12s %s\n", cli_commands[i]->name,
				cli_commands[i]->summary);
	asya_buf_c(out, "\n`asya help COMMAND` tells more, with examples.\n\nExit codes:\n");
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(exits); i++)
		asya_buf_printf(out, "  %zu  %s\n", i, exits[i]);
}

void cli_help_write(struct asya_buf *out, const struct cli_command *c)
{
	const struct cli_option *o;

	if (!c) {
		overview_write(out);
		return;
	}
	asya_buf_printf(out, "usage: asya %s [OPTION...]%s%s\n\n%s\n\n", c->name,
			*c->arguments ? " " : "", c->arguments, c->text);
	for (size_t i = 0; (o = cli_option_at(c, i)); i++)
		option_write(out, o);
}

/* roff takes a dot at the beginning of a line and a backslash anywhere for itself, and makes
 * typographic signs of what is to be copied into a shell. */
static void roff(struct asya_buf *out, const char *text)
{
	static const char *const instead[256] = {
		['\\'] = "\\e", ['-'] = "\\-", ['\''] = "\\(aq", ['`'] = "\\(ga"};

	for (const char *p = text; *p; p++) {
		const char *other = instead[(unsigned char)*p];

		if ((p == text || p[-1] == '\n') && *p == '.')
			asya_buf_c(out, "\\&");
		if (other)
			asya_buf_c(out, other);
		else
			asya_buf_char(out, *p);
	}
}

static void man_option(struct asya_buf *out, const struct cli_option *o)
{
	asya_buf_c(out, ".TP\n.B ");
	if (o->letter)
		asya_buf_printf(out, "\\-%c, ", o->letter);
	asya_buf_c(out, "\\-\\-");
	roff(out, o->name);
	if (o->value)
		asya_buf_printf(out, " %s", o->value);
	asya_buf_char(out, '\n');
	roff(out, o->help);
	asya_buf_char(out, '\n');
}

static void man_command(struct asya_buf *out, const struct cli_command *c)
{
	asya_buf_printf(out, ".SS asya %s [OPTION...] %s\n.nf\n", c->name, c->arguments);
	roff(out, c->text);
	asya_buf_c(out, "\n.fi\n");
	for (size_t i = 0; i < c->n_options; i++)
		man_option(out, &c->options[i]);
}

void cli_man_write(struct asya_buf *out)
{
	asya_buf_printf(out,
			".TH ASYA 1 \"\" \"asya %s\"\n.SH NAME\nasya \\- asynchronous actors on "
			"the command line\n"
			".SH SYNOPSIS\n.B asya\nCOMMAND [OPTION...] [ARGUMENT...]\n.SH COMMANDS\n",
			ASYA_VERSION);
	for (size_t i = 0; cli_commands[i]; i++)
		man_command(out, cli_commands[i]);
	asya_buf_c(out, ".SH OPTIONS OF EVERY COMMAND\n");
	for (size_t i = 0; cli_common[i].name; i++)
		man_option(out, &cli_common[i]);
	asya_buf_c(out, ".SH EXIT STATUS\n");
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(exits); i++)
		asya_buf_printf(out, ".TP\n.B %zu\n%s.\n", i, exits[i]);
	asya_buf_c(out, ".SH SEE ALSO\n.BR asya\\-sidecar (1)\n");
}
