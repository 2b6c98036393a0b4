// SPDX-License-Identifier: Apache-2.0
#include "core/finding.h"

#include <stdarg.h>
#include <stdio.h>

enum { TEXT_MAX = 1000, LINE_SHOWN = 160, LINE_BEFORE = 80 };

void asya_findings_init(struct asya_findings *f, struct asya_arena *arena)
{
	*f = (struct asya_findings){
		.arena = arena,
		.items = asya_arena_array(arena, struct asya_finding, ASYA_FINDINGS_MAX)};
}

void asya_findings_add(struct asya_findings *f, enum asya_severity severity,
		       struct asya_place place, struct asya_str path, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list args;

	*(severity == ASYA_SEVERITY_ERROR ? &f->errors : &f->warnings) += 1;
	if (f->n >= ASYA_FINDINGS_MAX)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	f->items[f->n++] = (struct asya_finding){severity, place, asya_arena_str(f->arena, path),
						 asya_arena_str(f->arena, asya_str_c(text))};
}

static bool is_word(struct asya_str key)
{
	for (size_t i = 0; i < key.n; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_",
			    key.p[i]) ||
		    !key.p[i])
			return false;
	return key.n > 0;
}

struct asya_str asya_path_member(struct asya_arena *arena, struct asya_str path,
				 struct asya_str key)
{
	struct asya_buf quoted = {0};
	struct asya_str ret;

	key.n = key.n > 256 ? 256 : key.n;
	if (is_word(key))
		return asya_arena_printf(arena, "%.*s%s%.*s", ASYA_STR_ARG(path), path.n ? "." : "",
					 ASYA_STR_ARG(key));
	asya_buf_json(&quoted, key);
	ret = asya_arena_printf(arena, "%.*s[%.*s]", ASYA_STR_ARG(path),
				ASYA_STR_ARG(asya_buf_view(&quoted)));
	asya_buf_fini(&quoted);
	return ret;
}

struct asya_str asya_path_item(struct asya_arena *arena, struct asya_str path, size_t index)
{
	return asya_arena_printf(arena, "%.*s[%zu]", ASYA_STR_ARG(path), index);
}

static const char *severity_name(enum asya_severity severity)
{
	return severity == ASYA_SEVERITY_ERROR ? "error" : "warning";
}

/* The line, without its end; no value if there is none. */
static struct asya_str line_of(struct asya_str text, unsigned line)
{
	const char *at = text.p, *end = text.p ? text.p + text.n : NULL, *stop;

	while (at && --line) {
		at = memchr(at, '\n', (size_t)(end - at));
		at = at ? at + 1 : NULL;
	}
	if (!at || at >= end)
		return ASYA_STR_NONE;
	stop = memchr(at, '\n', (size_t)(end - at));
	stop = stop ? stop : end;
	if (stop > at && stop[-1] == '\r')
		stop--;
	return (struct asya_str){at, (size_t)(stop - at)};
}

static size_t char_bytes(struct asya_str s)
{
	size_t n = 1;

	while (n < s.n && ((unsigned char)s.p[n] & 0xc0) == 0x80)
		n++;
	return n;
}

/* One character as it is shown: nothing that a terminal would act on. */
static void show(struct asya_buf *out, struct asya_str s)
{
	unsigned char c = (unsigned char)s.p[0];
	bool acts = c < 0x20 || c == 0x7f || (c == 0xc2 && s.n > 1 && (uint8_t)s.p[1] < 0xa0);

	if (acts || !asya_utf8_valid(s.p, s.n))
		asya_buf_char(out, c == '\t' ? '\t' : '?');
	else
		asya_buf_str(out, s);
}

/* The line around `column`, and below it white space as wide as what stands before. */
static void write_source(struct asya_buf *out, struct asya_str line, struct asya_place place)
{
	unsigned from = place.column > LINE_SHOWN - 20 ? place.column - LINE_BEFORE : 1, at = 1;
	struct asya_buf below = {0};

	asya_buf_printf(out, "%5u | %s", place.line, from > 1 ? "..." : "");
	asya_buf_printf(&below, "      | %s", from > 1 ? "   " : "");
	for (; line.n && at < from + LINE_SHOWN; at++) {
		size_t n = char_bytes(line);

		if (at >= from)
			show(out, (struct asya_str){line.p, n});
		if (at >= from && at < place.column)
			asya_buf_char(&below, *line.p == '\t' ? '\t' : ' ');
		line.p += n;
		line.n -= n;
	}
	asya_buf_printf(out, "%s\n%.*s^\n", line.n ? "..." : "", (int)below.n, below.p);
	asya_buf_fini(&below);
}

static void write_text(struct asya_buf *out, const char *file, struct asya_str text,
		       const struct asya_findings *f)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct asya_finding *item = &f->items[i];
		struct asya_str line = ASYA_STR_NONE;

		asya_buf_c(out, file);
		if (item->place.line)
			asya_buf_printf(out, ":%u:%u", item->place.line, item->place.column);
		asya_buf_printf(out, ": %s: %.*s%s%.*s\n", severity_name(item->severity),
				ASYA_STR_ARG(item->path), item->path.n ? ": " : "",
				ASYA_STR_ARG(item->text));
		if (item->place.line)
			line = line_of(text, item->place.line);
		if (line.n)
			write_source(out, line, item->place);
	}
	if (f->errors + f->warnings > f->n)
		asya_buf_printf(out, "%s: %zu more findings are not shown\n", file,
				f->errors + f->warnings - f->n);
}

static void write_json(struct asya_buf *out, const char *file, const struct asya_findings *f)
{
	asya_buf_c(out, "{\"file\":");
	asya_buf_json(out, asya_str_c(file));
	asya_buf_printf(out, ",\"errors\":%zu,\"warnings\":%zu,\"findings\":[", f->errors,
			f->warnings);
	for (size_t i = 0; i < f->n; i++) {
		const struct asya_finding *item = &f->items[i];

		asya_buf_printf(out, "%s{\"severity\":\"%s\",\"line\":%u,\"column\":%u,\"path\":",
				i ? "," : "", severity_name(item->severity), item->place.line,
				item->place.column);
		asya_buf_json(out, item->path);
		asya_buf_c(out, ",\"message\":");
		asya_buf_json(out, item->text);
		asya_buf_char(out, '}');
	}
	asya_buf_c(out, "]}\n");
}

void asya_manifest_report_write(struct asya_buf *out, const char *file, struct asya_str text,
				const struct asya_findings *f, bool as_json)
{
	if (as_json)
		write_json(out, file, f);
	else
		write_text(out, file, text, f);
}
