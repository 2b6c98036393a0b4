// SPDX-License-Identifier: Apache-2.0
/*
 * Failpoints: named places where a test makes a process die or fail. In builds without
 * -Dfailpoints=true they are nothing.
 *
 * ASYA_FAILPOINTS holds `name=kill@N` (SIGKILL itself at the Nth hit), `name=kill%P` (with
 * probability P per mille, fractions allowed, seeded by ASYA_FAILPOINT_SEED and the process id) or
 * `name=on` (asya_failpoint_on answers true), separated by commas; `*` is every name. Each kill
 * first appends `name` to the file ASYA_FAILPOINT_LOG.
 */
#pragma once
#include <stdbool.h>

#ifdef ASYA_FAILPOINTS
void asya_failpoint(const char *name);
bool asya_failpoint_on(const char *name);
#else
static inline void asya_failpoint(const char *name)
{
	(void)name;
}
static inline bool asya_failpoint_on(const char *name)
{
	(void)name;
	return false;
}
#endif
