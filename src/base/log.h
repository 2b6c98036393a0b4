// SPDX-License-Identifier: Apache-2.0
/*
 * Logs: one JSON object a line on stderr, one event per fact, stable event names.
 *
 *	asya_log(ASYA_LOG_INFO, "message_sent", LOG_STR("id", env->id), LOG_INT("bytes", n));
 *
 * Libraries return errors and do not log; programs log. Never a payload, never a secret.
 */
#pragma once
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum asya_log_level { ASYA_LOG_DEBUG, ASYA_LOG_INFO, ASYA_LOG_WARNING, ASYA_LOG_ERROR };

struct asya_log_field {
	const char *key;
	bool is_int;
	struct asya_str text;
	int64_t number;
};

#define LOG_STR(k, s) ((struct asya_log_field){.key = (k), .text = (s)})
#define LOG_C(k, s) LOG_STR(k, asya_str_c(s))
#define LOG_INT(k, v) ((struct asya_log_field){.key = (k), .is_int = true, .number = (int64_t)(v)})

/* Once, at start. `program` and `actor` go into every line; `actor` may be NULL. Both must outlive
 * the process. */
void asya_log_init(enum asya_log_level level, const char *program, const char *actor);
bool asya_log_enabled(enum asya_log_level level);
void asya_log_write(enum asya_log_level level, const char *event,
		    const struct asya_log_field *fields, size_t n);

#define asya_log(level, event, ...)                                                                \
	do {                                                                                       \
		if (asya_log_enabled(level)) {                                                     \
			const struct asya_log_field fields_[] = {__VA_ARGS__};                     \
			asya_log_write(level, event, fields_,                                      \
				       sizeof(fields_) / sizeof(fields_[0]));                      \
		}                                                                                  \
	} while (0)
