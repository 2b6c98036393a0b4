// SPDX-License-Identifier: Apache-2.0
/* asya validate: checks manifests without a cluster. */
#include "cli/commands.h"
#include "cli/look.h"

#include "base/mem.h"
#include "core/asyncactor.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum { FILES_MAX = 100000 };

struct validating {
	struct cli *cli;
	size_t files, bad;
};

static void print_summary(const char *file, const struct asya_manifest *m,
			  const struct asya_findings *f, bool bad)
{
	printf("%s: ", file);
	if (f->errors)
		printf("%zu error%s", f->errors, f->errors == 1 ? "" : "s");
	else
		printf("%zu actor%s, %s", m->n, m->n == 1 ? "" : "s", bad ? "not ok" : "ok");
	if (f->warnings)
		printf(", %zu warning%s", f->warnings, f->warnings == 1 ? "" : "s");
	putchar('\n');
}

static void validate_file(struct validating *v, const char *path)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	const char *shown = strcmp(path, "-") == 0 ? "(standard input)" : path;
	bool json = cli_has(v->cli, "json"), bad;
	struct asya_findings findings;
	struct asya_buf b = {0};
	struct asya_manifest m = {0};
	struct asya_error err;
	struct asya_str text = ASYA_STR_NONE;

	v->files++;
	asya_findings_init(&findings, arena);
	if (cli_read_file(&text, arena, path, ASYA_TREE_TEXT_MAX, &err))
		asya_findings_add(&findings, ASYA_SEVERITY_ERROR, (struct asya_place){0, 0},
				  ASYA_STR(""), "%s", err.text);
	else
		asya_manifest_parse(&m, arena, text, &findings);
	bad = findings.errors || (findings.warnings && cli_has(v->cli, "strict"));
	v->bad += bad;
	asya_manifest_report_write(&b, shown, text, &findings, json);
	look_print(&b);
	asya_buf_fini(&b);
	if (!json)
		print_summary(shown, &m, &findings, bad);
}

static bool is_manifest(const char *name)
{
	struct asya_str s = asya_str_c(name);

	return *name != '.' &&
	       (asya_str_ends(s, ".yaml") || asya_str_ends(s, ".yml") || asya_str_ends(s, ".json"));
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The manifests of a directory, not of those below it. */
static int validate_directory(struct validating *v, const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	char **names;
	size_t n = 0;

	if (!dir)
		return cli_fail(CLI_USAGE, "opening '%s': %s", path, strerror(errno));
	names = asya_arena_array(v->cli->arena, char *, FILES_MAX);
	while ((entry = readdir(dir)) && n < FILES_MAX)
		if (is_manifest(entry->d_name))
			names[n++] = asya_arena_cstr(
				v->cli->arena,
				asya_arena_printf(v->cli->arena, "%s/%s", path, entry->d_name));
	closedir(dir);
	if (!n)
		return cli_fail(CLI_USAGE, "'%s' has no file *.yaml, *.yml or *.json", path);
	qsort(names, n, sizeof(*names), by_name);
	for (size_t i = 0; i < n && !look_broken(); i++)
		validate_file(v, names[i]);
	return CLI_OK;
}

static int run(struct cli *cli)
{
	struct validating v = {.cli = cli};
	int code = CLI_OK;

	for (unsigned i = 0; i < cli->n_args && !look_broken(); i++) {
		struct stat st;

		if (strcmp(cli->args[i], "-") && stat(cli->args[i], &st) == 0 &&
		    S_ISDIR(st.st_mode))
			code |= validate_directory(&v, cli->args[i]);
		else
			validate_file(&v, cli->args[i]);
	}
	return code || v.bad ? CLI_USAGE : CLI_OK;
}

static const struct cli_option options[] = {
	{"strict", 's', NULL, "A warning makes the exit code 2, too.", NULL},
};

const struct cli_command command_validate = {
	.name = "validate",
	.arguments = "FILE...",
	.summary = "check manifests of AsyncActors, without a cluster",
	.text = "Checks each file (- is standard input; of a directory its *.yaml, *.yml and "
		"*.json) as the\n"
		"operator and Kubernetes will, and names lines and what would be right. Exits 2 if "
		"there is an error.\n\n"
		"  asya validate actors.yaml\n"
		"  asya validate deploy/ --strict\n"
		"  helm template chart | asya validate -",
	.options = options,
	.n_options = ASYA_ARRAY_SIZE(options),
	.min_args = 1,
	.max_args = 4096,
	.complete = {"file", "file"},
	.run = run,
};
