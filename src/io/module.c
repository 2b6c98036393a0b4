// SPDX-License-Identifier: Apache-2.0
#include "io/module.h"

#include "base/mem.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The directory of this program; "." if that cannot be told. */
static void program_dir(char dir[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", dir, PATH_MAX - 1);
	char *slash;

	dir[n > 0 ? n : 0] = '\0';
	slash = strrchr(dir, '/');
	if (slash)
		*slash = '\0';
	else
		strcpy(dir, ".");
}

static void *open_first(const char *dir, const char *name)
{
	static const char *const places[] = {"%s/%s", "%s/../lib/asya/%s", ASYA_MODULES "/%.0s%s"};
	char own[PATH_MAX];
	void *module = NULL;

	if (dir && *dir) {
		_cleanup_(asya_freep) char *path = asya_asprintf("%s/%s", dir, name);

		return dlopen(path, RTLD_NOW | RTLD_LOCAL);
	}
	program_dir(own);
	for (size_t i = 0; !module && i < ASYA_ARRAY_SIZE(places); i++) {
		char path[2 * PATH_MAX];

		snprintf(path, sizeof(path), places[i], own, name);
		if (access(path, F_OK) == 0)
			module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	}
	return module;
}

void *asya_module_symbol(const char *dir, const char *name, const char *symbol,
			 struct asya_error *err)
{
	void *module = open_first(dir, name), *found = module ? dlsym(module, symbol) : NULL;
	const char *why;

	if (found)
		return found;
	why = dlerror();
	asya_error_set(err, ASYA_FATAL,
		       "cannot load %s (%s); it is installed with asya, and ASYA_MODULE_DIR names "
		       "its directory",
		       name, why ? why : "it is not beside the program, nor in " ASYA_MODULES);
	return NULL;
}
