// SPDX-License-Identifier: Apache-2.0
/*
 * Settings as rows. A program has one const table and one plain struct that the table fills:
 *
 *	struct sidecar_config { struct asya_str actor; int64_t timeout_ms; };
 *	static const struct asya_setting settings[] = {
 *		{"ASYA_ACTOR_NAME", ASYA_SETTING(STRING, struct sidecar_config, actor),
 *		 .flags = ASYA_SETTING_REQUIRED, .help = "Name of this actor."},
 *		{"ASYA_RUNTIME_TIMEOUT", ASYA_SETTING(DURATION, struct sidecar_config, timeout_ms),
 *		 .fallback = "5m", .min = 1, .max = 86400000, .help = "..."},
 *	};
 *
 * Help texts, the man page and the documentation are written from the same rows. A bad value is an
 * error that names the variable, never a silent default. Pure: the environment comes in as a
 * function or an array.
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum asya_setting_type {
	ASYA_SETTING_STRING,   /* struct asya_str with a NUL behind; no value if unset */
	ASYA_SETTING_BOOL,     /* bool: true 1 yes on, false 0 no off, in any case */
	ASYA_SETTING_INT,      /* int64_t */
	ASYA_SETTING_BYTES,    /* int64_t: `1048576`, `512Ki`, `64Mi`, `1G` */
	ASYA_SETTING_DURATION, /* int64_t in milliseconds, rounded up: `250ms`, `5m`, `1h2m3s` */
	ASYA_SETTING_CHOICE,   /* int: the index in `choices` */
	ASYA_SETTING_MODE,     /* unsigned: `0o666`, `0666` or `666`, at most 0o7777 */
	ASYA_SETTING_LIST,     /* struct asya_setting_list: separated by commas */
};

struct asya_setting_list {
	struct asya_str *items; /* without white space around them; empty ones are left out */
	size_t n;
};

enum {
	ASYA_SETTING_REQUIRED = 1 << 0, /* unset or empty is an error */
	ASYA_SETTING_SECRET = 1 << 1,   /* errors never show the value */
};

struct asya_setting {
	const char *name; /* the variable */
	enum asya_setting_type type;
	size_t offset;              /* into the program's struct; ASYA_SETTING fills both */
	const char *fallback;       /* what an unset or empty variable means; NULL: nothing */
	const char *help;           /* sentences; a line feed is a space */
	unsigned flags;             /* ASYA_SETTING_REQUIRED | ASYA_SETTING_SECRET */
	const char *const *choices; /* for CHOICE, ends with NULL */
	int64_t min, max;           /* INT, BYTES, DURATION in the unit stored; both 0: no limit */
};

#define ASYA_SETTING_C_STRING struct asya_str
#define ASYA_SETTING_C_BOOL bool
#define ASYA_SETTING_C_INT int64_t
#define ASYA_SETTING_C_BYTES int64_t
#define ASYA_SETTING_C_DURATION int64_t
#define ASYA_SETTING_C_CHOICE int
#define ASYA_SETTING_C_MODE unsigned
#define ASYA_SETTING_C_LIST struct asya_setting_list

/* Type and offset of a row. A member of another C type than the kind's does not compile. */
#define ASYA_SETTING(kind, config, member)                                                         \
	.type = ASYA_SETTING_##kind,                                                               \
	.offset = offsetof(config, member) +                                                       \
		  0 * sizeof(struct {                                                              \
			  _Static_assert(                                                          \
				  __builtin_types_compatible_p(__typeof__(((config *)0)->member),  \
							       ASYA_SETTING_C_##kind),             \
				  #member " is not what a setting of kind " #kind " fills");       \
			  int unused;                                                              \
		  })

/* The value of a variable, NULL if it is not set. */
typedef const char *asya_config_get_fn(void *user, const char *name);

/* Fills `config` from `n` rows. `get` NULL: the process's environment. Texts live on `arena`. -1
 * ASYA_FATAL names every bad or missing variable, joined by "; ", as far as the error has room; the
 * members of those rows are left as they were. An unset variable without a fallback leaves 0,
 * false, or no value. */
int asya_config_load(void *config, const struct asya_setting *rows, size_t n,
		     asya_config_get_fn *get, void *user, struct asya_arena *arena,
		     struct asya_error *err);

/* A variable that looks like ours and is none. */
struct asya_config_stray {
	struct asya_str name;
	const char *nearest; /* the setting that may have been meant; NULL if none is near */
};

/* The same, with the values thrown away. */
int asya_config_check(const struct asya_setting *rows, size_t n, asya_config_get_fn *get,
		      void *user, struct asya_error *err);

/* Lists the variables of `environment` (`NAME=value`, ends with NULL) that begin with ASYA_ and are
 * neither in the rows nor in `others` (names of other programs that share the environment, ends
 * with NULL; may be NULL itself). Leaves out what Kubernetes sets for each Service
 * (`..._SERVICE_HOST`,
 * `..._PORT=tcp://...`). Returns their number, the list on `arena`. */
size_t asya_config_strays(struct asya_config_stray **ret, struct asya_arena *arena,
			  char *const *environment, const struct asya_setting *rows, size_t n,
			  const char *const *others);

/* Each row for --help, at most 100 columns wide; items of a man page (roff, .TP); a Markdown
 * table. */
void asya_config_help_write(struct asya_buf *out, const struct asya_setting *rows, size_t n);
void asya_config_man_write(struct asya_buf *out, const struct asya_setting *rows, size_t n);
void asya_config_markdown_write(struct asya_buf *out, const struct asya_setting *rows, size_t n);

/* Appends what a value of this row looks like: "an integer from 1 to 65535". */
void asya_setting_describe(struct asya_buf *out, const struct asya_setting *row);
