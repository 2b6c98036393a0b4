// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"

#include <unistd.h>

static struct {
	enum asya_log_level level;
	const char *program;
	const char *actor;
} state = {ASYA_LOG_INFO, "asya", NULL};

void asya_log_init(enum asya_log_level level, const char *program, const char *actor)
{
	state.level = level;
	state.program = program;
	state.actor = actor;
}

bool asya_log_enabled(enum asya_log_level level)
{
	return level >= state.level;
}

static void member(struct asya_buf *b, const char *key, struct asya_str value)
{
	asya_buf_char(b, ',');
	asya_buf_json(b, asya_str_c(key));
	asya_buf_char(b, ':');
	asya_buf_json(b, value);
}

static void field(struct asya_buf *b, const struct asya_log_field *f)
{
	if (!f->is_int) {
		member(b, f->key, f->text.p ? f->text : ASYA_STR(""));
		return;
	}
	asya_buf_char(b, ',');
	asya_buf_json(b, asya_str_c(f->key));
	asya_buf_char(b, ':');
	asya_buf_i64(b, f->number);
}

void asya_log_write(enum asya_log_level level, const char *event,
		    const struct asya_log_field *fields, size_t n)
{
	static const char *const names[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
	struct asya_buf b = {0};
	char when[ASYA_TIME_TEXT];
	ssize_t written;

	asya_buf_printf(&b, "{\"time\":\"%s\"", asya_time_write(when, asya_clock_wall_us()));
	member(&b, "level", asya_str_c(names[level]));
	member(&b, "program", asya_str_c(state.program));
	if (state.actor)
		member(&b, "actor", asya_str_c(state.actor));
	member(&b, "event", asya_str_c(event));
	for (size_t i = 0; i < n; i++)
		field(&b, &fields[i]);
	asya_buf_c(&b, "}\n");
	written = write(STDERR_FILENO, b.p, b.n);
	(void)written;
	asya_buf_fini(&b);
}
