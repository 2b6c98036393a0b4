// SPDX-License-Identifier: Apache-2.0
#include "core/config.h"

#include "base/clock.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

enum { SHOWN_VALUE = 64, NAME_MAX_COMPARED = 128 };

static bool within(const struct asya_setting *row, int64_t value)
{
	return (row->min == 0 && row->max == 0) || (value >= row->min && value <= row->max);
}

static int parse_bool(bool *ret, const char *text)
{
	static const char *const words[] = {"false", "0", "no", "off", "true", "1", "yes", "on"};

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(words); i++) {
		if (strcasecmp(text, words[i]) == 0) {
			*ret = i >= 4;
			return 0;
		}
	}
	return -1;
}

/* Digits of `base` from *text on; at least one. */
static int parse_digits(int64_t *ret, const char **text, int base)
{
	const char *p = *text;
	int64_t value = 0;

	for (; *p >= '0' && *p < '0' + base; p++)
		if (__builtin_mul_overflow(value, base, &value) ||
		    __builtin_add_overflow(value, *p - '0', &value))
			return -1;
	if (p == *text)
		return -1;
	*text = p;
	*ret = value;
	return 0;
}

static int parse_int(int64_t *ret, const char *text)
{
	bool negative = *text == '-';

	text += negative;
	if (parse_digits(ret, &text, 10) || *text)
		return -1;
	*ret = negative ? -*ret : *ret;
	return 0;
}

static int parse_bytes(int64_t *ret, const char *text)
{
	static const struct {
		const char *name;
		int64_t factor;
	} units[] = {{"", 1},           {"Ki", 1LL << 10}, {"Mi", 1LL << 20},
		     {"Gi", 1LL << 30}, {"Ti", 1LL << 40}, {"k", 1000},
		     {"M", 1000000},    {"G", 1000000000}, {"T", 1000000000000}};

	if (parse_digits(ret, &text, 10))
		return -1;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(units); i++)
		if (strcmp(text, units[i].name) == 0)
			return __builtin_mul_overflow(*ret, units[i].factor, ret) ? -1 : 0;
	return -1;
}

static int parse_duration_ms(int64_t *ret, const char *text)
{
	int64_t ns;

	if (asya_duration_parse(&ns, asya_str_c(text)))
		return -1;
	*ret = ns / 1000000 + (ns % 1000000 != 0);
	return 0;
}

static int parse_choice(int *ret, const char *const *choices, const char *text)
{
	for (int i = 0; choices[i]; i++) {
		if (strcasecmp(text, choices[i]) == 0) {
			*ret = i;
			return 0;
		}
	}
	return -1;
}

static int parse_mode(unsigned *ret, const char *text)
{
	int64_t value;

	if (text[0] == '0' && (text[1] == 'o' || text[1] == 'O'))
		text += 2;
	if (parse_digits(&value, &text, 8) || *text || value > 07777)
		return -1;
	*ret = (unsigned)value;
	return 0;
}

static struct asya_str trimmed(const char *p, size_t n)
{
	for (; n && isspace((unsigned char)*p); n--)
		p++;
	for (; n && isspace((unsigned char)p[n - 1]); n--)
		;
	return (struct asya_str){p, n};
}

static void parse_list(struct asya_setting_list *ret, struct asya_arena *arena, const char *text)
{
	size_t room = 1;

	for (const char *p = text; *p; p++)
		room += *p == ',';
	ret->items = asya_arena_array(arena, struct asya_str, room);
	ret->n = 0;
	for (size_t len; room; room--, text += len + 1) {
		struct asya_str item;

		len = strcspn(text, ",");
		item = trimmed(text, len);
		if (item.n)
			ret->items[ret->n++] = asya_arena_str(arena, item);
	}
}

static int parse_number(int64_t *field, const struct asya_setting *row, const char *text)
{
	int64_t value = 0;
	int failed;

	if (row->type == ASYA_SETTING_INT)
		failed = parse_int(&value, text);
	else if (row->type == ASYA_SETTING_BYTES)
		failed = parse_bytes(&value, text);
	else
		failed = parse_duration_ms(&value, text);
	if (failed || !within(row, value))
		return -1;
	*field = value;
	return 0;
}

static int store(void *field, const struct asya_setting *row, const char *text,
		 struct asya_arena *arena)
{
	switch (row->type) {
	case ASYA_SETTING_STRING:
		*(struct asya_str *)field = asya_arena_str(arena, asya_str_c(text));
		return 0;
	case ASYA_SETTING_BOOL:
		return parse_bool(field, text);
	case ASYA_SETTING_INT:
	case ASYA_SETTING_BYTES:
	case ASYA_SETTING_DURATION:
		return parse_number(field, row, text);
	case ASYA_SETTING_CHOICE:
		return parse_choice(field, row->choices, text);
	case ASYA_SETTING_MODE:
		return parse_mode(field, text);
	case ASYA_SETTING_LIST:
		parse_list(field, arena, text);
		return 0;
	}
	abort();
}

static void clear(void *field, enum asya_setting_type type)
{
	static const size_t sizes[] = {
		[ASYA_SETTING_STRING] = sizeof(struct asya_str),
		[ASYA_SETTING_BOOL] = sizeof(bool),
		[ASYA_SETTING_INT] = sizeof(int64_t),
		[ASYA_SETTING_BYTES] = sizeof(int64_t),
		[ASYA_SETTING_DURATION] = sizeof(int64_t),
		[ASYA_SETTING_CHOICE] = sizeof(int),
		[ASYA_SETTING_MODE] = sizeof(unsigned),
		[ASYA_SETTING_LIST] = sizeof(struct asya_setting_list),
	};

	memset(field, 0, sizes[type]);
}

/* The value between quotes, cut and with what is not printable shown as '?'. */
static void show_value(struct asya_buf *out, const char *value)
{
	size_t n = strlen(value);

	asya_buf_char(out, '\'');
	for (size_t i = 0; i < n && i < SHOWN_VALUE; i++)
		asya_buf_char(out, isprint((unsigned char)value[i]) ? value[i] : '?');
	asya_buf_c(out, n > SHOWN_VALUE ? "...'" : "'");
}

static void explain(struct asya_buf *out, const struct asya_setting *row, const char *value)
{
	asya_buf_printf(out, "%s%s", out->n ? "; " : "", row->name);
	if (!*value) {
		asya_buf_c(out, " is not set and is required: ");
		asya_setting_describe(out, row);
		return;
	}
	if (row->flags & ASYA_SETTING_SECRET)
		asya_buf_c(out, " (value not shown)");
	else
		asya_buf_char(out, '='), show_value(out, value);
	asya_buf_c(out, " is wrong, right is ");
	asya_setting_describe(out, row);
	if (strncmp(value, "tcp://", 6) == 0)
		asya_buf_c(out, " (Kubernetes sets this for a Service of that name: "
				"enableServiceLinks: false in the pod)");
}

static const char *from_environment(void *user, const char *name)
{
	(void)user;
	return getenv(name);
}

/* The error has room for what fits whole; the rest is counted. */
static int report(struct asya_error *err, const struct asya_buf *all, const size_t *ends, size_t n)
{
	size_t shown = 0;

	while (shown < n && ends[shown] < sizeof(err->text) - sizeof("; and 12345678 more"))
		shown++;
	if (shown == n)
		return asya_error_set(err, ASYA_FATAL, "%.*s", (int)all->n, all->p);
	return asya_error_set(err, ASYA_FATAL, "%.*s; and %zu more",
			      (int)(shown ? ends[shown - 1] : 0), all->p, n - shown);
}

int asya_config_load(void *config, const struct asya_setting *rows, size_t n,
		     asya_config_get_fn *get, void *user, struct asya_arena *arena,
		     struct asya_error *err)
{
	size_t *ends = asya_arena_array(arena, size_t, n);
	struct asya_buf wrong = {0};
	size_t n_wrong = 0;

	for (size_t i = 0; i < n; i++) {
		const char *value = (get ? get : from_environment)(user, rows[i].name);
		void *field = (char *)config + rows[i].offset;
		bool required = rows[i].flags & ASYA_SETTING_REQUIRED;

		if (!value || !*value)
			value = rows[i].fallback ? rows[i].fallback : "";
		if (!*value && !required) {
			clear(field, rows[i].type);
			continue;
		}
		if (*value && store(field, &rows[i], value, arena) == 0)
			continue;
		explain(&wrong, &rows[i], value);
		ends[n_wrong++] = wrong.n;
	}
	if (n_wrong)
		report(err, &wrong, ends, n_wrong);
	asya_buf_fini(&wrong);
	return n_wrong ? -1 : 0;
}

int asya_config_check(const struct asya_setting *rows, size_t n, asya_config_get_fn *get,
		      void *user, struct asya_error *err)
{
	_cleanup_(asya_arena_freep) struct asya_arena *arena = asya_arena_new();
	size_t end = 0;

	for (size_t i = 0; i < n; i++)
		if (rows[i].offset > end)
			end = rows[i].offset;
	end += sizeof(struct asya_setting_list) + sizeof(struct asya_str);
	return asya_config_load(asya_arena_array(arena, char, end), rows, n, get, user, arena, err);
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Insertions, deletions and replacements that make one of the other; two neighbours exchanged count
 * as one change. SIZE_MAX for names too long to be ours. */
static size_t distance(struct asya_str a, struct asya_str b)
{
	size_t rows[3][NAME_MAX_COMPARED + 1];
	size_t *before = rows[0], *last = rows[1], *now = rows[2], *spare;

	if (a.n > NAME_MAX_COMPARED || b.n > NAME_MAX_COMPARED)
		return SIZE_MAX;
	for (size_t j = 0; j <= b.n; j++)
		now[j] = j;
	for (size_t i = 1; i <= a.n; i++) {
		spare = before, before = last, last = now, now = spare;
		now[0] = i;
		for (size_t j = 1; j <= b.n; j++) {
			now[j] = least(least(last[j], now[j - 1]) + 1,
				       last[j - 1] + (a.p[i - 1] != b.p[j - 1]));
			if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1])
				now[j] = least(now[j], before[j - 2] + 1);
		}
	}
	return now[b.n];
}

/* The part after ASYA_ decides how many changes are still a slip: one in four characters. */
static const char *nearest(struct asya_str name, const struct asya_setting *rows, size_t n)
{
	size_t best = (name.n - strlen("ASYA_")) / 4 + 1;
	const char *found = NULL;

	for (size_t i = 0; i < n; i++) {
		size_t d = distance(name, asya_str_c(rows[i].name));

		if (d < best || (d == best && !found)) {
			best = d;
			found = rows[i].name;
		}
	}
	return found;
}

static bool known(struct asya_str name, const struct asya_setting *rows, size_t n,
		  const char *const *others)
{
	for (size_t i = 0; i < n; i++)
		if (asya_str_eq_c(name, rows[i].name))
			return true;
	for (; others && *others; others++)
		if (asya_str_eq_c(name, *others))
			return true;
	return false;
}

static bool service_link(struct asya_str name, const char *value)
{
	char text[NAME_MAX_COMPARED + 1];

	if (name.n > NAME_MAX_COMPARED)
		return false;
	snprintf(text, sizeof(text), "%.*s", (int)name.n, name.p);
	if (asya_str_ends(name, "_SERVICE_HOST") || strstr(text, "_SERVICE_PORT") ||
	    strstr(text, "_TCP_") || strstr(text, "_UDP_"))
		return true;
	return strncmp(value, "tcp://", 6) == 0 || strncmp(value, "udp://", 6) == 0;
}

size_t asya_config_strays(struct asya_config_stray **ret, struct asya_arena *arena,
			  char *const *environment, const struct asya_setting *rows, size_t n,
			  const char *const *others)
{
	size_t room = 0, found = 0;

	while (environment[room])
		room++;
	*ret = asya_arena_array(arena, struct asya_config_stray, room);
	for (; *environment; environment++) {
		struct asya_str name = {*environment, strcspn(*environment, "=")};

		if (!asya_str_starts(name, "ASYA_") || known(name, rows, n, others) ||
		    service_link(name, name.p + name.n + (name.p[name.n] == '=')))
			continue;
		(*ret)[found++] = (struct asya_config_stray){asya_arena_str(arena, name),
							     nearest(name, rows, n)};
	}
	return found;
}
