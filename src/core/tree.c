// SPDX-License-Identifier: Apache-2.0
#include "core/tree.h"

#include "base/clock.h"
#include "core/suggest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHOWN = 60 };

struct asya_tree *asya_tree_new(struct asya_arena *arena, enum asya_tree_type type,
				struct asya_place place)
{
	struct asya_tree *node = asya_arena_new0(arena, struct asya_tree);

	node->type = type;
	node->place = place;
	node->nodes = 1;
	node->height = 1;
	return node;
}

void asya_tree_append(struct asya_tree *parent, struct asya_tree *node)
{
	node->next = NULL;
	if (parent->last)
		parent->last->next = node;
	else
		parent->first = node;
	parent->last = node;
	parent->n++;
	parent->nodes += node->nodes;
	if (node->height >= parent->height)
		parent->height = node->height + 1;
}

struct asya_tree *asya_tree_copy(struct asya_arena *arena, const struct asya_tree *node)
{
	struct asya_tree *copy = asya_tree_new(arena, node->type, node->place);

	copy->boolean = node->boolean;
	copy->text = node->text;
	copy->raw = node->raw;
	asya_tree_each(child, node)
	{
		struct asya_tree *c = asya_tree_copy(arena, child);

		c->key = child->key;
		c->key_place = child->key_place;
		asya_tree_append(copy, c);
	}
	return copy;
}

const struct asya_tree *asya_tree_member(const struct asya_tree *map, struct asya_str key)
{
	if (!map || map->type != ASYA_TREE_MAP)
		return NULL;
	asya_tree_each(child, map) if (asya_str_eq(child->key, key)) return child;
	return NULL;
}

const struct asya_tree *asya_tree_get(const struct asya_tree *node, ...)
{
	const char *key;
	va_list keys;

	va_start(keys, node);
	while (node && (key = va_arg(keys, const char *)))
		node = asya_tree_member(node, asya_str_c(key));
	va_end(keys);
	return node;
}

const struct asya_tree *asya_tree_at(const struct asya_tree *list, size_t index)
{
	if (!list || list->type != ASYA_TREE_LIST)
		return NULL;
	asya_tree_each(child, list) if (index-- == 0) return child;
	return NULL;
}

bool asya_tree_i64(const struct asya_tree *node, int64_t *ret)
{
	char text[64], *end;
	long long whole;
	double real;

	if (!node || node->type != ASYA_TREE_NUMBER || node->text.n >= sizeof(text))
		return false;
	memcpy(text, node->text.p, node->text.n);
	text[node->text.n] = 0;
	errno = 0;
	whole = strtoll(text, &end, 10);
	if (!*end && end != text) {
		*ret = whole;
		return errno == 0;
	}
	/* A double holds whole numbers exactly up to 2^53. */
	real = strtod(text, &end);
	if (*end || !(real >= -9007199254740992.0 && real <= 9007199254740992.0) ||
	    (double)(int64_t)real != real)
		return false;
	*ret = (int64_t)real;
	return true;
}

static struct asya_str shorten(struct asya_str s, size_t max)
{
	if (s.n <= max)
		return s;
	s.n = max;
	while (s.n && ((unsigned char)s.p[s.n] & 0xc0) == 0x80)
		s.n--;
	return s;
}

const char *asya_tree_shown(struct asya_arena *arena, struct asya_str text)
{
	struct asya_buf quoted = {0};
	char *ret;

	asya_buf_json(&quoted, shorten(text, SHOWN));
	ret = asya_arena_cstr(arena, (struct asya_str){quoted.p + 1, quoted.n - 2});
	asya_buf_fini(&quoted);
	return ret;
}

void asya_tree_describe(struct asya_buf *out, const struct asya_tree *node)
{
	static const char *const words[] = {"nothing",     "the boolean ", "the number ",
					    "the string ", "a list",       "a map"};
	struct asya_str shown = shorten(node->raw.p ? node->raw : node->text, SHOWN);

	asya_buf_c(out, words[node->type]);
	if (node->type == ASYA_TREE_BOOL)
		asya_buf_c(out, node->boolean ? "true" : "false");
	if (node->type == ASYA_TREE_BOOL && shown.n && !asya_str_eq_c(shown, "true") &&
	    !asya_str_eq_c(shown, "false"))
		asya_buf_printf(out, " (which is how YAML reads %.*s)", ASYA_STR_ARG(shown));
	if (node->type == ASYA_TREE_NUMBER)
		asya_buf_str(out, shown);
	if (node->type == ASYA_TREE_STRING) {
		shown = shorten(node->text, SHOWN);
		asya_buf_json(out, shown);
		if (shown.n < node->text.n)
			asya_buf_c(out, "...");
	}
}

static int wrong(const struct asya_tree *node, struct asya_error *err, const char *want)
{
	struct asya_buf is = {0};

	asya_tree_describe(&is, node);
	asya_error_set(err, ASYA_REJECT, "%.*s: must be %s, is %.*s", ASYA_STR_ARG(node->key), want,
		       ASYA_STR_ARG(asya_buf_view(&is)));
	asya_buf_fini(&is);
	if (node->place.line)
		asya_error_wrap(err, "line %u, column %u", node->place.line, node->place.column);
	return -1;
}

/* NULL if absent or null. */
static const struct asya_tree *member(const struct asya_tree *map, const char *key)
{
	const struct asya_tree *node = asya_tree_get(map, key, NULL);

	return node && node->type != ASYA_TREE_NULL ? node : NULL;
}

int asya_tree_read_str(struct asya_str *ret, const struct asya_tree *map, const char *key,
		       struct asya_error *err)
{
	const struct asya_tree *node = member(map, key);

	if (!node)
		return 0;
	if (node->type != ASYA_TREE_STRING)
		return wrong(node, err, "a string");
	*ret = node->text;
	return 0;
}

int asya_tree_read_bool(bool *ret, const struct asya_tree *map, const char *key,
			struct asya_error *err)
{
	const struct asya_tree *node = member(map, key);

	if (!node)
		return 0;
	if (node->type != ASYA_TREE_BOOL)
		return wrong(node, err, "true or false");
	*ret = node->boolean;
	return 0;
}

int asya_tree_read_i64(int64_t *ret, const struct asya_tree *map, const char *key, int64_t min,
		       int64_t max, struct asya_error *err)
{
	const struct asya_tree *node = member(map, key);
	char want[80];
	int64_t value;

	if (!node)
		return 0;
	snprintf(want, sizeof(want), "a whole number from %lld to %lld", (long long)min,
		 (long long)max);
	if (!asya_tree_i64(node, &value) || value < min || value > max)
		return wrong(node, err, want);
	*ret = value;
	return 0;
}

int asya_tree_read_duration_ms(int64_t *ret, const struct asya_tree *map, const char *key,
			       struct asya_error *err)
{
	const struct asya_tree *node = member(map, key);
	int64_t ns;

	if (!node)
		return 0;
	if (node->type != ASYA_TREE_STRING || asya_duration_parse(&ns, node->text))
		return wrong(node, err, "a duration like 300ms, 5s or 1h30m");
	*ret = ns / 1000000 + (ns % 1000000 != 0);
	return 0;
}

int asya_tree_read_strs(const struct asya_str **ret, size_t *ret_n, struct asya_arena *arena,
			const struct asya_tree *map, const char *key, struct asya_error *err)
{
	const struct asya_tree *node = member(map, key);
	struct asya_str *strs;
	size_t n = 0;

	if (!node)
		return 0;
	if (node->type != ASYA_TREE_LIST)
		return wrong(node, err, "a list of strings");
	strs = asya_arena_array(arena, struct asya_str, node->n ? node->n : 1);
	asya_tree_each(item, node)
	{
		if (item->type != ASYA_TREE_STRING) {
			wrong(item, err, "a string");
			return asya_error_wrap(err, "%s[%zu]", key, n);
		}
		strs[n++] = item->text;
	}
	*ret = strs;
	*ret_n = n;
	return 0;
}

int asya_tree_read_node(const struct asya_tree **ret, const struct asya_tree *map, const char *key,
			enum asya_tree_type type, struct asya_error *err)
{
	const struct asya_tree *node = member(map, key);

	if (node && node->type != type)
		return wrong(node, err, type == ASYA_TREE_MAP ? "a map" : "a list");
	*ret = node;
	return 0;
}

static bool among(struct asya_str key, const struct asya_str *known, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (asya_str_eq(key, known[i]))
			return true;
	return false;
}

int asya_tree_read_only(const struct asya_tree *map, const struct asya_str *known, size_t n,
			struct asya_error *err)
{
	asya_tree_each(child, map)
	{
		struct asya_buf shown = {0};
		int near;

		if (among(child->key, known, n))
			continue;
		near = asya_suggest(child->key, known, n);
		asya_buf_json(&shown, shorten(child->key, SHOWN));
		if (near >= 0)
			asya_error_set(err, ASYA_REJECT, "unknown field %.*s, did you mean %.*s?",
				       ASYA_STR_ARG(asya_buf_view(&shown)),
				       ASYA_STR_ARG(known[near]));
		else
			asya_error_set(err, ASYA_REJECT, "unknown field %.*s",
				       ASYA_STR_ARG(asya_buf_view(&shown)));
		asya_buf_fini(&shown);
		if (child->key_place.line)
			asya_error_wrap(err, "line %u, column %u", child->key_place.line,
					child->key_place.column);
		return -1;
	}
	return 0;
}
