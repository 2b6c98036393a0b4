// SPDX-License-Identifier: Apache-2.0
/* What people read about settings: --help, man page, Markdown. */
#include "core/config.h"

#include "base/clock.h"

#include <inttypes.h>

enum { WIDTH = 100, INDENT = 6 };

static void write_bytes(struct asya_buf *out, int64_t value)
{
	static const char *const units[] = {"", "Ki", "Mi", "Gi", "Ti"};
	size_t unit = 0;

	for (; value && value % 1024 == 0 && unit < 4; unit++)
		value /= 1024;
	asya_buf_printf(out, "%" PRId64 "%s", value, units[unit]);
}

static void write_limit(struct asya_buf *out, const struct asya_setting *row, int64_t value)
{
	char text[ASYA_TIME_TEXT];

	if (row->type == ASYA_SETTING_BYTES)
		write_bytes(out, value);
	else if (row->type == ASYA_SETTING_DURATION && value < INT64_MAX / 1000000)
		asya_buf_c(out, asya_duration_write(text, value * 1000000));
	else
		asya_buf_i64(out, value);
}

static void write_choices(struct asya_buf *out, const char *const *choices)
{
	for (size_t i = 0; choices[i]; i++)
		asya_buf_printf(out, "%s%s", !i ? "" : choices[i + 1] ? ", " : " or ", choices[i]);
}

void asya_setting_describe(struct asya_buf *out, const struct asya_setting *row)
{
	static const char *const names[] = {
		[ASYA_SETTING_STRING] = "a text",
		[ASYA_SETTING_BOOL] = "true or false",
		[ASYA_SETTING_INT] = "an integer",
		[ASYA_SETTING_BYTES] = "a size like 65536, 512Ki or 64Mi",
		[ASYA_SETTING_DURATION] = "a duration like 250ms, 30s or 1h2m",
		[ASYA_SETTING_CHOICE] = "",
		[ASYA_SETTING_MODE] = "an octal file mode like 0o660",
		[ASYA_SETTING_LIST] = "a list separated by commas",
	};

	asya_buf_c(out, names[row->type]);
	if (row->type == ASYA_SETTING_CHOICE)
		write_choices(out, row->choices);
	if ((row->min || row->max) &&
	    (row->type == ASYA_SETTING_INT || row->type == ASYA_SETTING_BYTES ||
	     row->type == ASYA_SETTING_DURATION)) {
		asya_buf_c(out, " from ");
		write_limit(out, row, row->min);
		if (row->max != INT64_MAX) {
			asya_buf_c(out, " to ");
			write_limit(out, row, row->max);
		} else {
			asya_buf_c(out, " on");
		}
	}
}

static void describe_whole(struct asya_buf *out, const struct asya_setting *row)
{
	asya_setting_describe(out, row);
	if (row->fallback && *row->fallback)
		asya_buf_printf(out, "; default %s", row->fallback);
	else if (row->flags & ASYA_SETTING_REQUIRED)
		asya_buf_c(out, "; required");
}

/* Words of `text` within WIDTH columns, each line indented; the first line stands at `column`
 * already. */
static void wrap(struct asya_buf *out, size_t column, const char *text)
{
	while (*(text += strspn(text, " \n"))) {
		size_t n = strcspn(text, " \n");

		if (column > INDENT && column + 1 + n > WIDTH) {
			asya_buf_printf(out, "\n%*s", INDENT, "");
			column = INDENT;
		} else if (column > INDENT) {
			asya_buf_char(out, ' ');
			column++;
		}
		asya_buf_add(out, text, n);
		column += n;
		text += n;
	}
}

void asya_config_help_write(struct asya_buf *out, const struct asya_setting *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct asya_buf about = {0};

		describe_whole(&about, &rows[i]);
		asya_buf_char(&about, '\0');
		asya_buf_printf(out, "  %s", rows[i].name);
		wrap(out, strlen(rows[i].name) + 2, about.p);
		asya_buf_printf(out, "\n%*s", INDENT, "");
		wrap(out, INDENT, rows[i].help);
		asya_buf_char(out, '\n');
		asya_buf_fini(&about);
	}
}

/* Text that roff must not take for requests or escapes. */
static void roff(struct asya_buf *out, struct asya_str s)
{
	bool fresh = true;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (fresh && (c == '.' || c == '\''))
			asya_buf_c(out, "\\&");
		if (c == '\\')
			asya_buf_c(out, "\\e");
		else if (c == '-')
			asya_buf_c(out, "\\-");
		else
			asya_buf_char(out, c);
		fresh = c == '\n';
	}
}

void asya_config_man_write(struct asya_buf *out, const struct asya_setting *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct asya_buf about = {0};

		describe_whole(&about, &rows[i]);
		asya_buf_c(out, ".TP\n.B ");
		roff(out, asya_str_c(rows[i].name));
		asya_buf_char(out, '\n');
		roff(out, asya_str_c(rows[i].help));
		asya_buf_c(out, "\n(");
		roff(out, asya_buf_view(&about));
		asya_buf_c(out, ")\n");
		asya_buf_fini(&about);
	}
}

static void cell(struct asya_buf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '|')
			asya_buf_char(out, '\\');
		asya_buf_char(out, *text == '\n' ? ' ' : *text);
	}
}

void asya_config_markdown_write(struct asya_buf *out, const struct asya_setting *rows, size_t n)
{
	asya_buf_c(out, "| Variable | Value | Default | Meaning |\n|---|---|---|---|\n");
	for (size_t i = 0; i < n; i++) {
		const char *fallback = rows[i].fallback ? rows[i].fallback : "";
		struct asya_buf about = {0};

		asya_setting_describe(&about, &rows[i]);
		asya_buf_char(&about, '\0');
		asya_buf_printf(out, "| `%s` | ", rows[i].name);
		cell(out, about.p);
		asya_buf_c(out, *fallback ? " | `" : " | ");
		cell(out, *fallback                               ? fallback
			  : rows[i].flags & ASYA_SETTING_REQUIRED ? "required"
								  : "");
		asya_buf_c(out, *fallback ? "` | " : " | ");
		cell(out, rows[i].help);
		asya_buf_c(out, " |\n");
		asya_buf_fini(&about);
	}
}
