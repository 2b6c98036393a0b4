// SPDX-License-Identifier: Apache-2.0
/* asya completion: scripts for shells, made from the tables of commands and options. */
#include "cli/commands.h"
#include "cli/look.h"

#include "base/mem.h"
#include "core/suggest.h"

#include <stdio.h>

/* The names of the queues that there are, from the directory that the call names. */
#define ACTORS "queues --json 2>/dev/null | sed -n 's/^{\"actor\":\"\\([^\"]*\\)\".*/\\1/p'"

/* Text inside of single quotes; `specials` get a backslash. */
static void quoted(struct asya_buf *b, const char *text, const char *specials)
{
	for (; *text; text++) {
		if (*text == '\'')
			asya_buf_c(b, "'\\'");
		else if (strchr(specials, *text))
			asya_buf_char(b, '\\');
		asya_buf_char(b, *text == '\n' ? ' ' : *text);
	}
}

/* ---- bash ---- */

static const char bash_head[] =
	"# For bash; made by `asya completion bash`.\n"
	"# In ~/.bashrc: source <(asya completion bash)\n"
	"_asya_actors() {\n"
	"	local before= i where=()\n"
	"	case $1 in *,*) before=${1%,*}, ;; esac\n"
	"	for ((i = 2; i < COMP_CWORD - 1; i++)); do\n"
	"		case ${COMP_WORDS[i]} in --dir | -d) where=(--dir \"${COMP_WORDS[i + "
	"1]}\") ;; "
	"esac\n"
	"	done\n"
	"	compgen -P \"$before\" -W \"$(\"${COMP_WORDS[0]}\" \"queues\" \"${where[@]}\" "
	"--json "
	"2>/dev/null |\n"
	"		sed -n 's/^{\"actor\":\"\\([^\"]*\\)\".*/\\1/p')\" -- \"${1##*,}\"\n"
	"}\n"
	"_asya_kind() {\n"
	"	case $1 in\n"
	"	file)\n"
	"		compopt -o filenames 2>/dev/null\n"
	"		case $2 in\n"
	"		@*) mapfile -t COMPREPLY < <(compgen -P @ -f -- \"${2#@}\") ;;\n"
	"		*) mapfile -t COMPREPLY < <(compgen -f -- \"$2\") ;;\n"
	"		esac ;;\n"
	"	dir)\n"
	"		compopt -o filenames 2>/dev/null\n"
	"		mapfile -t COMPREPLY < <(compgen -d -- \"$2\") ;;\n"
	"	actor) mapfile -t COMPREPLY < <(_asya_actors \"$2\") ;;\n"
	"	=*) mapfile -t COMPREPLY < <(compgen -W \"${1//[=,]/ }\" -- \"$2\") ;;\n"
	"	esac\n"
	"}\n"
	"_asya() {\n"
	"	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
	"	local options= valued= first= rest= i n=0 word\n"
	"	COMPREPLY=()\n"
	"	if [ \"$cur\" = = ]; then\n"
	"		cur=\n"
	"	elif [ \"$prev\" = = ]; then\n"
	"		prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
	"	fi\n";

static const char bash_tail[] =
	"	for word in $valued; do\n"
	"		if [ \"${word%%:*}\" = \"$prev\" ]; then\n"
	"			_asya_kind \"${word#*:}\" \"$cur\"\n"
	"			return\n"
	"		fi\n"
	"	done\n"
	"	for ((i = 2; i < COMP_CWORD; i++)); do\n"
	"		case ${COMP_WORDS[i]} in\n"
	"		-*) [[ \" $valued\" == *\" ${COMP_WORDS[i]}:\"* ]] && ((i++)) ;;\n"
	"		*) ((n++)) ;;\n"
	"		esac\n"
	"	done\n"
	"	case $cur in\n"
	"	-*) mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\") ;;\n"
	"	*) ((n)) && first=$rest; _asya_kind \"$first\" \"$cur\" ;;\n"
	"	esac\n"
	"}\n"
	"complete -F _asya asya\n";

/* `file`, `dir`, `actor`, or `=word,word`. */
static void bash_kind(struct asya_buf *b, const char *kind)
{
	if (!kind)
		return;
	if (strcmp(kind, "file") && strcmp(kind, "dir") && strcmp(kind, "actor"))
		asya_buf_char(b, '=');
	for (; *kind; kind++)
		asya_buf_char(b, *kind == ' ' ? ',' : *kind);
}

static void bash_command(struct asya_buf *b, const struct cli_command *c)
{
	const struct cli_option *o;

	asya_buf_printf(b, "	%s)\n		options='", c->name);
	for (size_t i = 0; (o = cli_option_at(c, i)); i++)
		asya_buf_printf(b, "%s--%s", i ? " " : "", o->name);
	asya_buf_c(b, "'\n		valued='");
	for (size_t i = 0; (o = cli_option_at(c, i)); i++) {
		if (!o->value)
			continue;
		asya_buf_printf(b, "--%s:", o->name);
		bash_kind(b, o->complete);
		asya_buf_char(b, ' ');
		if (!o->letter)
			continue;
		asya_buf_printf(b, "-%c:", o->letter);
		bash_kind(b, o->complete);
		asya_buf_char(b, ' ');
	}
	asya_buf_c(b, "'\n		first='");
	bash_kind(b, c->complete[0]);
	asya_buf_c(b, "'\n		rest='");
	bash_kind(b, c->complete[1]);
	asya_buf_c(b, "' ;;\n");
}

static void names_write(struct asya_buf *b, const char *between)
{
	for (size_t i = 0; cli_commands[i]; i++)
		asya_buf_printf(b, "%s%s", i ? between : "", cli_commands[i]->name);
}

static void bash(struct asya_buf *b)
{
	asya_buf_c(b, bash_head);
	asya_buf_c(b, "	if ((COMP_CWORD == 1)); then\n		mapfile -t COMPREPLY < <(compgen "
		      "-W '");
	names_write(b, " ");
	asya_buf_c(b, " help --help --version' -- \"$cur\")\n		return\n	fi\n"
		      "	case ${COMP_WORDS[1]} in\n");
	for (size_t i = 0; cli_commands[i]; i++)
		bash_command(b, cli_commands[i]);
	asya_buf_c(b, "	help) first='=");
	names_write(b, ",");
	asya_buf_c(b, "' ;;\n	esac\n");
	asya_buf_c(b, bash_tail);
}

/* ---- zsh ---- */

static void zsh_kind(struct asya_buf *b, const char *kind)
{
	if (!kind)
		return;
	if (strcmp(kind, "file") == 0)
		asya_buf_c(b, "_files");
	else if (strcmp(kind, "dir") == 0)
		asya_buf_c(b, "_files -/");
	else if (strcmp(kind, "actor") == 0)
		asya_buf_c(b, "_asya_actors");
	else
		asya_buf_printf(b, "(%s)", kind);
}

static void zsh_option(struct asya_buf *b, const struct cli_option *o)
{
	asya_buf_c(b, " \\\n			");
	if (o->letter)
		asya_buf_printf(b, "'(-%c --%s)'{-%c,--%s}'[", o->letter, o->name, o->letter,
				o->name);
	else
		asya_buf_printf(b, "'--%s[", o->name);
	quoted(b, o->help, "[]:\\");
	asya_buf_char(b, ']');
	if (o->value) {
		asya_buf_printf(b, ":%s:", o->value);
		zsh_kind(b, o->complete);
	}
	asya_buf_char(b, '\'');
}

static void zsh(struct asya_buf *b)
{
	asya_buf_c(b, "#compdef asya\n# For zsh; made by `asya completion zsh`: a file _asya in a "
		      "directory of $fpath.\n"
		      "_asya_actors() {\n	local -a names\n	compset -P '*,'\n"
		      "	names=(${(f)\"$(asya " ACTORS ")\"})\n	compadd -a names\n}\n"
		      "_asya() {\n	local -a commands\n	commands=(\n");
	for (size_t i = 0; cli_commands[i]; i++) {
		asya_buf_printf(b, "		'%s:", cli_commands[i]->name);
		quoted(b, cli_commands[i]->summary, ":\\");
		asya_buf_c(b, "'\n");
	}
	asya_buf_c(b, "		'help:tell more about a command'\n	)\n	if ((CURRENT == "
		      "2)); then\n"
		      "		_describe command commands\n		return\n	fi\n"
		      "	shift words\n	((CURRENT--))\n	case $words[1] in\n");
	for (size_t i = 0; cli_commands[i]; i++) {
		const struct cli_command *c = cli_commands[i];
		const struct cli_option *o;

		asya_buf_printf(b, "	%s)\n		_arguments", c->name);
		for (size_t k = 0; (o = cli_option_at(c, k)); k++)
			zsh_option(b, o);
		asya_buf_c(b, " \\\n			'1:argument:");
		zsh_kind(b, c->complete[0]);
		asya_buf_c(b, "' \\\n			'*:argument:");
		zsh_kind(b, c->complete[1]);
		asya_buf_c(b, "' ;;\n");
	}
	asya_buf_c(b, "	help) _describe command commands ;;\n	esac\n}\n"
		      "if [ \"$funcstack[1]\" = _asya ]; then\n	_asya \"$@\"\nelse\n	compdef "
		      "_asya asya\nfi\n");
}

/* ---- fish ---- */

static void fish_kind(struct asya_buf *b, const char *kind)
{
	if (!kind)
		asya_buf_c(b, " -x");
	else if (strcmp(kind, "file") == 0)
		asya_buf_c(b, " -r -F");
	else if (strcmp(kind, "dir") == 0)
		asya_buf_c(b, " -x -a '(__fish_complete_directories)'");
	else if (strcmp(kind, "actor") == 0)
		asya_buf_c(b, " -x -a '(__asya_actors)'");
	else
		asya_buf_printf(b, " -x -a '%s'", kind);
}

static void fish_command(struct asya_buf *b, const struct cli_command *c)
{
	const char *const *kinds = c->complete;
	const struct cli_option *o;

	asya_buf_printf(b, "complete -c asya -n __fish_use_subcommand -a %s -d '", c->name);
	quoted(b, c->summary, "\\");
	asya_buf_c(b, "'\n");
	for (size_t i = 0; i < 2; i++) {
		if (!kinds[i] || (i && kinds[0] && strcmp(kinds[0], kinds[1]) == 0))
			continue;
		asya_buf_printf(b, "complete -c asya -n '__fish_seen_subcommand_from %s'", c->name);
		fish_kind(b, kinds[i]);
		asya_buf_char(b, '\n');
	}
	for (size_t i = 0; (o = cli_option_at(c, i)); i++) {
		asya_buf_printf(b, "complete -c asya -n '__fish_seen_subcommand_from %s' -l %s",
				c->name, o->name);
		if (o->letter)
			asya_buf_printf(b, " -s %c", o->letter);
		if (o->value)
			fish_kind(b, o->complete);
		asya_buf_c(b, " -d '");
		quoted(b, o->help, "\\");
		asya_buf_c(b, "'\n");
	}
}

static void fish(struct asya_buf *b)
{
	asya_buf_c(b, "# For fish; made by `asya completion fish`: "
		      "~/.config/fish/completions/asya.fish\n"
		      "function __asya_actors\n	set -l typed (commandline -ct)\n"
		      "	set -l before (string match -r '.*,' -- $typed)\n"
		      "	for name in (asya " ACTORS ")\n		echo \"$before$name\"\n	end\nend\n"
		      "complete -c asya -f\n");
	for (size_t i = 0; cli_commands[i]; i++)
		fish_command(b, cli_commands[i]);
	asya_buf_c(b, "complete -c asya -n __fish_use_subcommand -a help -d 'tell more about a "
		      "command'\n"
		      "complete -c asya -n '__fish_seen_subcommand_from help' -a '");
	names_write(b, " ");
	asya_buf_c(b, "'\n");
}

/* ---- */

static const struct {
	const char *name;
	void (*write)(struct asya_buf *b);
} shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};

static int no_shell(const char *name)
{
	const struct asya_str names[] = {ASYA_STR("bash"), ASYA_STR("zsh"), ASYA_STR("fish")};
	int near = asya_suggest(asya_str_c(name), names, ASYA_ARRAY_SIZE(names));

	if (near >= 0)
		return cli_fail(CLI_USAGE, "there is no completion for '%s'; did you mean %s?",
				name, names[near].p);
	return cli_fail(CLI_USAGE, "there is no completion for '%s'; it is bash, zsh or fish",
			name);
}

static int run(struct cli *cli)
{
	struct asya_buf b = {0};

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(shells); i++) {
		if (strcmp(shells[i].name, cli->args[0]) != 0)
			continue;
		shells[i].write(&b);
		look_print(&b);
		asya_buf_fini(&b);
		return CLI_OK;
	}
	return no_shell(cli->args[0]);
}

const struct cli_command command_completion = {
	.name = "completion",
	.arguments = "bash|zsh|fish",
	.summary = "print a script that completes words of asya in a shell",
	.text = "Prints a script for the shell: commands, options, files, and names of actors from "
		"the queues that\n"
		"there are.\n\n"
		"  source <(asya completion bash)\n"
		"  asya completion zsh > ~/.zfunc/_asya\n"
		"  asya completion fish > ~/.config/fish/completions/asya.fish",
	.min_args = 1,
	.max_args = 1,
	.complete = {"bash zsh fish"},
	.run = run,
};
