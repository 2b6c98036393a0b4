// SPDX-License-Identifier: Apache-2.0
/* The shared files of the AWS command line: sections of `name = value` lines. */
#pragma once
#include "base/arena.h"
#include "base/error.h"

enum { ASYA_AWS_FILE_MAX = 1 << 20 };

/* The whole file, without white space at its end, on the arena. 1 if it is not there. -1 ASYA_RETRY
 * names the file. */
int asya_aws_file_read(struct asya_str *ret, struct asya_arena *arena, const char *path,
		       struct asya_error *err);

/* The value of `name` in section `[profile]`, or `[profile PROFILE]` where `prefixed` (in the
 * config file all but default are written so); no value if it is not there. Borrows from `text`. */
struct asya_str asya_aws_profile_get(struct asya_str text, const char *profile, bool prefixed,
				     const char *name);
