// SPDX-License-Identifier: Apache-2.0
#include "core/schema.h"

#include "base/clock.h"
#include "base/mem.h"
#include "core/schema_text.h"
#include "core/suggest.h"
#include "core/yaml.h"

#include <regex.h>
#include <stdio.h>

enum { NAMES_MAX = 128 };

/* One value under check. */
struct check {
	struct asya_findings *f;
	const struct asya_tree *schema, *node;
	struct asya_str path;
	struct asya_buf is; /* what it is, for messages */
};

const struct asya_tree *asya_schema_asyncactor(struct asya_arena *arena)
{
	struct asya_str text = {(const char *)asya_schema_asyncactor_text,
				asya_schema_asyncactor_size};
	struct asya_tree **docs;
	struct asya_error err;
	size_t n;

	if (asya_yaml_parse(&docs, &n, arena, text, NULL, &err) || n != 1) {
		fprintf(stderr, "the schema of AsyncActor in this program: %s\n", err.text);
		abort();
	}
	return docs[0];
}

static struct asya_str str_at(const struct asya_tree *map, const char *key)
{
	const struct asya_tree *node = asya_tree_get(map, key, NULL);

	return node && node->type == ASYA_TREE_STRING ? node->text : ASYA_STR_NONE;
}

static bool true_at(const struct asya_tree *map, const char *key)
{
	const struct asya_tree *node = asya_tree_get(map, key, NULL);

	return node && node->type == ASYA_TREE_BOOL && node->boolean;
}

static bool limit_at(const struct asya_tree *map, const char *key, int64_t *ret)
{
	return asya_tree_i64(asya_tree_get(map, key, NULL), ret);
}

static bool is_absent(const struct asya_tree *node)
{
	return !node || node->type == ASYA_TREE_NULL;
}

/* `the number 5`, valid until the check ends. */
static const char *is(struct check *c)
{
	if (!c->is.n) {
		asya_tree_describe(&c->is, c->node);
		asya_buf_char(&c->is, 0);
	}
	return c->is.p;
}

#define wrong(c, ...)                                                                              \
	asya_findings_add((c)->f, ASYA_SEVERITY_ERROR, (c)->node->place, (c)->path, __VA_ARGS__)

static void check_enum(struct check *c)
{
	const struct asya_tree *words = asya_tree_get(c->schema, "enum", NULL);
	struct asya_str names[NAMES_MAX];
	struct asya_buf list = {0};
	size_t n = 0;
	int near;

	asya_tree_each(word, words)
	{
		if (asya_str_eq(word->text, c->node->text))
			goto out;
		asya_buf_printf(&list, "%s%.*s", n ? ", " : "", ASYA_STR_ARG(word->text));
		if (n < NAMES_MAX)
			names[n++] = word->text;
	}
	if (!n)
		goto out;
	near = asya_suggest(c->node->text, names, n);
	if (near >= 0)
		wrong(c, "must be one of %.*s; did you mean %.*s? It is %s", (int)list.n, list.p,
		      ASYA_STR_ARG(names[near]), is(c));
	else
		wrong(c, "must be one of %.*s, is %s", (int)list.n, list.p, is(c));
out:
	asya_buf_fini(&list);
}

static bool matches(struct asya_arena *arena, struct asya_str pattern, struct asya_str text)
{
	char *cstr = asya_arena_cstr(arena, text);
	regex_t re;
	bool found;

	if (strlen(cstr) != text.n || text.n > ASYA_PATTERN_MAX)
		return false;
	if (regcomp(&re, asya_arena_cstr(arena, pattern), REG_EXTENDED | REG_NOSUB))
		return false;
	found = regexec(&re, cstr, 0, NULL, 0) == 0;
	regfree(&re);
	return found;
}

/* True if it is of its format. */
static bool check_format(struct check *c)
{
	struct asya_str format = str_at(c->schema, "format");
	int64_t ignored;

	if (asya_str_eq_c(format, "duration") && asya_duration_parse(&ignored, c->node->text))
		wrong(c, "must be a duration like 300ms, 5s or 1h30m, is %s", is(c));
	else if (asya_str_eq_c(format, "date-time") && asya_time_parse(&ignored, c->node->text))
		wrong(c, "must be a time like 2026-11-24T10:00:00Z, is %s", is(c));
	else
		return true;
	return false;
}

static size_t characters(struct asya_str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

static void check_string(struct check *c)
{
	size_t length = characters(c->node->text);
	struct asya_str pattern = str_at(c->schema, "pattern");
	int64_t limit;

	if (limit_at(c->schema, "minLength", &limit) && (int64_t)length < limit)
		wrong(c, "must have at least %lld character%s, has %zu", (long long)limit,
		      limit == 1 ? "" : "s", length);
	else if (limit_at(c->schema, "maxLength", &limit) && (int64_t)length > limit)
		wrong(c, "must have at most %lld characters, has %zu", (long long)limit, length);
	else if (check_format(c) && pattern.p && !matches(c->f->arena, pattern, c->node->text))
		wrong(c, "must match %.*s, is %s", ASYA_STR_ARG(pattern), is(c));
	check_enum(c);
}

static void check_integer(struct check *c)
{
	struct asya_str format = str_at(c->schema, "format");
	int64_t value, limit;

	if (!asya_tree_i64(c->node, &value))
		wrong(c, "must be a whole number (of at most 64 bits), is %s", is(c));
	else if (limit_at(c->schema, "minimum", &limit) && value < limit)
		wrong(c, "must be at least %lld, is %lld", (long long)limit, (long long)value);
	else if (limit_at(c->schema, "maximum", &limit) && value > limit)
		wrong(c, "must be at most %lld, is %lld", (long long)limit, (long long)value);
	else if (asya_str_eq_c(format, "int32") && (value > INT32_MAX || value < INT32_MIN))
		wrong(c, "must fit 32 bits, is %lld", (long long)value);
}

static void check_child(struct check *c, const struct asya_tree *schema,
			const struct asya_tree *child, struct asya_str path)
{
	if (!is_absent(child))
		asya_schema_check(c->f, schema, child, path);
}

/* The earlier item of a list with the same values under `keys`; NULL if there is none. */
static const struct asya_tree *earlier(const struct asya_tree *list, const struct asya_tree *item,
				       const struct asya_tree *keys)
{
	asya_tree_each(other, list)
	{
		bool same = true;

		if (other == item)
			return NULL;
		asya_tree_each(key, keys)
		{
			const struct asya_tree *a = asya_tree_member(other, key->text);
			const struct asya_tree *b = asya_tree_member(item, key->text);

			same = same && a && b && asya_str_eq(a->text, b->text);
		}
		if (same && keys)
			return other;
	}
	return NULL;
}

static void check_list(struct check *c)
{
	const struct asya_tree *items = asya_tree_get(c->schema, "items", NULL);
	const struct asya_tree *keys = asya_tree_get(c->schema, "x-kubernetes-list-map-keys", NULL);
	size_t i = 0;
	int64_t limit;

	if (limit_at(c->schema, "minItems", &limit) && (int64_t)c->node->n < limit)
		wrong(c, "must have at least %lld item%s, has %zu", (long long)limit,
		      limit == 1 ? "" : "s", c->node->n);
	if (limit_at(c->schema, "maxItems", &limit) && (int64_t)c->node->n > limit) {
		wrong(c, "must have at most %lld items, has %zu", (long long)limit, c->node->n);
		return;
	}
	asya_tree_each(item, c->node)
	{
		struct asya_str path = asya_path_item(c->f->arena, c->path, i++);

		if (item->type == ASYA_TREE_NULL)
			asya_findings_add(c->f, ASYA_SEVERITY_ERROR, item->place, path,
					  "there is nothing here; take the item out or fill it");
		else
			check_child(c, items, item, path);
		if (keys && earlier(c->node, item, keys))
			asya_findings_add(c->f, ASYA_SEVERITY_ERROR, item->place, path,
					  "the same %.*s is in the list before",
					  ASYA_STR_ARG(keys->first->text));
	}
}

void asya_schema_unknown(struct asya_findings *f, enum asya_severity severity,
			 const struct asya_tree *child, struct asya_str path,
			 const struct asya_str *known, size_t n)
{
	int near = asya_suggest(child->key, known, n);
	struct asya_str where = asya_path_member(f->arena, path, child->key);

	if (near >= 0)
		asya_findings_add(f, severity, child->key_place, where,
				  "unknown field, did you mean %.*s?", ASYA_STR_ARG(known[near]));
	else
		asya_findings_add(f, severity, child->key_place, where, "unknown field");
}

static size_t names_of(const struct asya_tree *map, struct asya_str *names)
{
	size_t n = 0;

	asya_tree_each(child, map) if (n < NAMES_MAX) names[n++] = child->key;
	return n;
}

static void check_member(struct check *c, const struct asya_tree *child)
{
	const struct asya_tree *properties = asya_tree_get(c->schema, "properties", NULL);
	const struct asya_tree *others = asya_tree_get(c->schema, "additionalProperties", NULL);
	const struct asya_tree *schema = asya_tree_member(properties, child->key);
	struct asya_str names[NAMES_MAX];

	if (!c->path.n && asya_str_eq_c(child->key, "metadata"))
		return;
	if (!schema && others && others->type == ASYA_TREE_MAP)
		schema = others;
	if (schema)
		check_child(c, schema, child, asya_path_member(c->f->arena, c->path, child->key));
	else if (!true_at(c->schema, "x-kubernetes-preserve-unknown-fields"))
		asya_schema_unknown(c->f, ASYA_SEVERITY_ERROR, child, c->path, names,
				    names_of(properties, names));
}

static void check_map(struct check *c)
{
	struct asya_place place = c->node->key.p ? c->node->key_place : c->node->place;
	int64_t limit;

	asya_tree_each(name, asya_tree_get(c->schema, "required", NULL))
	{
		const struct asya_tree *null = asya_tree_member(c->node, name->text);

		if (is_absent(null))
			asya_findings_add(c->f, ASYA_SEVERITY_ERROR, null ? null->key_place : place,
					  asya_path_member(c->f->arena, c->path, name->text),
					  "is required");
	}
	if (limit_at(c->schema, "maxProperties", &limit) && (int64_t)c->node->n > limit)
		wrong(c, "must have at most %lld members, has %zu", (long long)limit, c->node->n);
	asya_tree_each(child, c->node) check_member(c, child);
}

static bool is_scalar(const struct asya_tree *node)
{
	return node->type != ASYA_TREE_LIST && node->type != ASYA_TREE_MAP;
}

static void refuse_type(struct check *c, const char *what, bool is_text)
{
	if (is_text && asya_str_eq_c(str_at(c->schema, "format"), "duration"))
		wrong(c, "must be a duration like 300ms, 5s or 1h30m, is %s", is(c));
	else
		wrong(c, "must be %s, is %s%s", what, is(c),
		      is_text && is_scalar(c->node) ? "; put it in quotes" : "");
}

static void check_type(struct check *c)
{
	static const struct {
		const char *name, *what;
		enum asya_tree_type type;
		void (*check)(struct check *c);
	} rows[] = {{"object", "a map", ASYA_TREE_MAP, check_map},
		    {"array", "a list", ASYA_TREE_LIST, check_list},
		    {"string", "a string", ASYA_TREE_STRING, check_string},
		    {"integer", "a whole number", ASYA_TREE_NUMBER, check_integer},
		    {"boolean", "true or false", ASYA_TREE_BOOL, NULL}};
	struct asya_str type = str_at(c->schema, "type");

	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++) {
		if (!asya_str_eq_c(type, rows[i].name))
			continue;
		if (c->node->type != rows[i].type)
			refuse_type(c, rows[i].what, rows[i].type == ASYA_TREE_STRING);
		else if (rows[i].check)
			rows[i].check(c);
	}
}

static void check_int_or_string(struct check *c)
{
	int64_t ignored;

	if (c->node->type == ASYA_TREE_STRING)
		check_string(c);
	else if (!asya_tree_i64(c->node, &ignored))
		wrong(c, "must be a whole number or a string, is %s", is(c));
}

void asya_schema_check(struct asya_findings *f, const struct asya_tree *schema,
		       const struct asya_tree *node, struct asya_str path)
{
	struct check c = {.f = f, .schema = schema, .node = node, .path = path};

	if (true_at(schema, "x-kubernetes-int-or-string"))
		check_int_or_string(&c);
	else
		check_type(&c);
	asya_buf_fini(&c.is);
}

static void default_members(struct asya_arena *arena, const struct asya_tree *properties,
			    struct asya_tree *ret, const struct asya_tree *node)
{
	asya_tree_each(property, properties)
	{
		const struct asya_tree *value = asya_tree_get(property, "default", NULL);
		struct asya_tree *child;

		if (!value || !is_absent(asya_tree_member(node, property->key)))
			continue;
		child = asya_schema_default(arena, property, value);
		child->place = child->key_place = (struct asya_place){0, 0};
		child->key = property->key;
		asya_tree_append(ret, child);
	}
}

static const struct asya_tree *schema_of(const struct asya_tree *schema,
					 const struct asya_tree *child)
{
	const struct asya_tree *found =
		asya_tree_member(asya_tree_get(schema, "properties", NULL), child->key);

	if (!found && child->key.p)
		found = asya_tree_get(schema, "additionalProperties", NULL);
	return found ? found : asya_tree_get(schema, "items", NULL);
}

struct asya_tree *asya_schema_default(struct asya_arena *arena, const struct asya_tree *schema,
				      const struct asya_tree *node)
{
	const struct asya_tree *properties = asya_tree_get(schema, "properties", NULL);
	struct asya_tree *ret = asya_tree_new(arena, node->type, node->place);

	ret->boolean = node->boolean;
	ret->text = node->text;
	ret->raw = node->raw;
	asya_tree_each(child, node)
	{
		const struct asya_tree *below = schema_of(schema, child);
		struct asya_tree *copy;

		if (child->type == ASYA_TREE_NULL && asya_tree_get(below, "default", NULL))
			continue;
		copy = asya_schema_default(arena, below, child);
		copy->key = child->key;
		copy->key_place = child->key_place;
		asya_tree_append(ret, copy);
	}
	if (node->type == ASYA_TREE_MAP)
		default_members(arena, properties, ret, node);
	return ret;
}
