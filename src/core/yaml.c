// SPDX-License-Identifier: Apache-2.0
#include "core/yaml.h"

#include "base/mem.h"

#include <stdarg.h>
#include <yaml.h>

#define TAG_PREFIX "tag:yaml.org,2002:"

struct anchor {
	struct asya_str name;
	const struct asya_tree *node;
	struct anchor *older;
};

struct reader {
	yaml_parser_t parser;
	struct asya_str text;
	struct asya_arena *arena;
	struct anchor *anchors; /* of this document, the newest first */
	size_t n_anchors;
	size_t nodes; /* of the whole text, aliases counted as expanded */
	struct asya_place place;
	struct asya_error *err;
};

static struct asya_tree *read_node(struct reader *r, yaml_event_t *event, unsigned depth);

static void event_fini(yaml_event_t *event)
{
	yaml_event_delete(event);
}

static struct asya_place place_of(yaml_mark_t mark)
{
	return (struct asya_place){(unsigned)mark.line + 1, (unsigned)mark.column + 1};
}

static struct asya_str str_of(struct reader *r, const yaml_char_t *p, size_t n)
{
	return asya_arena_str(r->arena, (struct asya_str){(const char *)p, n});
}

static int refuse(struct reader *r, struct asya_place place, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(struct reader *r, struct asya_place place, const char *fmt, ...)
{
	char text[sizeof(r->err->text)];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	r->place = place;
	return asya_error_set(r->err, ASYA_REJECT, "%s", text);
}

static bool is_tab(struct asya_str text, struct asya_place place)
{
	const char *at = text.p, *end = text.p + text.n;

	while (at && --place.line) {
		at = memchr(at, '\n', (size_t)(end - at));
		at = at ? at + 1 : NULL;
	}
	/* Only white space can stand before a tab that indents, so a column is a byte. */
	return at && (size_t)(end - at) >= place.column && at[place.column - 1] == '\t';
}

/* What libyaml found. Of a reader's error it knows only the byte. */
static int refuse_syntax(struct reader *r)
{
	yaml_parser_t *p = &r->parser;
	struct asya_place place =
		place_of(p->error == YAML_READER_ERROR ? p->mark : p->problem_mark);

	if (is_tab(r->text, place))
		return refuse(r, place, "a tab cannot indent YAML; use spaces");
	return refuse(r, place, "%s%s%s", p->problem ? p->problem : "no YAML",
		      p->context ? " " : "", p->context ? p->context : "");
}

static int next(struct reader *r, yaml_event_t *event)
{
	if (yaml_parser_parse(&r->parser, event))
		return 0;
	memset(event, 0, sizeof(*event));
	return refuse_syntax(r);
}

static int count(struct reader *r, struct asya_place place, size_t nodes, unsigned depth)
{
	if (depth > ASYA_TREE_DEPTH_MAX)
		return refuse(r, place, "nested deeper than %d", ASYA_TREE_DEPTH_MAX);
	if (nodes > ASYA_TREE_NODES_MAX - r->nodes)
		return refuse(r, place,
			      "more than %d values, counting each alias as what it "
			      "stands for",
			      ASYA_TREE_NODES_MAX);
	r->nodes += nodes;
	return 0;
}

/* The part of the tag behind the standard prefix; "" without a tag or with `!`; NULL for others. */
static const char *standard_tag(const yaml_char_t *tag)
{
	const char *t = (const char *)tag;

	if (!t || strcmp(t, "!") == 0)
		return "";
	return strncmp(t, TAG_PREFIX, strlen(TAG_PREFIX)) == 0 ? t + strlen(TAG_PREFIX) : NULL;
}

static int refuse_tag(struct reader *r, struct asya_place place, const yaml_char_t *tag)
{
	return refuse(r, place,
		      "the tag %s is not known here; there are !!str, !!int, !!float, "
		      "!!bool, !!null, !!map and !!seq",
		      asya_tree_shown(r->arena, asya_str_c((const char *)tag)));
}

static int collection_tag(struct reader *r, struct asya_place place, const yaml_char_t *tag,
			  const char *own)
{
	const char *t = standard_tag(tag);

	return t && (!*t || strcmp(t, own) == 0) ? 0 : refuse_tag(r, place, tag);
}

static int tagged(struct reader *r, struct asya_tree *node, const yaml_char_t *tag)
{
	static const struct {
		const char *tag;
		enum asya_tree_type type;
	} rows[] = {{"int", ASYA_TREE_NUMBER},
		    {"float", ASYA_TREE_NUMBER},
		    {"bool", ASYA_TREE_BOOL},
		    {"null", ASYA_TREE_NULL}};
	const char *t = standard_tag(tag);

	for (size_t i = 0; t && i < ASYA_ARRAY_SIZE(rows); i++) {
		if (strcmp(t, rows[i].tag) != 0)
			continue;
		if (asya_yaml_resolve(node, r->arena, node->text, r->err)) {
			r->place = node->place;
			return -1;
		}
		return node->type == rows[i].type ? 0
						  : refuse(r, node->place, "%s is no !!%s",
							   asya_tree_shown(r->arena, node->raw), t);
	}
	return t && (!*t || strcmp(t, "str") == 0) ? 0 : refuse_tag(r, node->place, tag);
}

static struct asya_tree *read_scalar(struct reader *r, yaml_event_t *event)
{
	struct asya_place place = place_of(event->start_mark);
	struct asya_tree *node = asya_tree_new(r->arena, ASYA_TREE_STRING, place);
	bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;

	node->text = str_of(r, event->data.scalar.value, event->data.scalar.length);
	node->raw = node->text;
	if (event->data.scalar.tag)
		return tagged(r, node, event->data.scalar.tag) ? NULL : node;
	if (plain && asya_yaml_resolve(node, r->arena, node->text, r->err)) {
		r->place = place;
		return NULL;
	}
	return node;
}

static struct asya_tree *read_alias(struct reader *r, yaml_event_t *event, unsigned depth)
{
	struct asya_place place = place_of(event->start_mark);
	struct asya_str name = asya_str_c((const char *)event->data.alias.anchor);
	struct anchor *a = r->anchors;
	struct asya_tree *node;

	while (a && !asya_str_eq(a->name, name))
		a = a->older;
	if (!a) {
		refuse(r, place,
		       "the alias *%s has no anchor before it (and an anchor cannot "
		       "contain itself)",
		       asya_tree_shown(r->arena, name));
		return NULL;
	}
	if (count(r, place, a->node->nodes, depth + a->node->height - 1))
		return NULL;
	node = asya_arena_new0(r->arena, struct asya_tree);
	*node = *a->node;
	node->place = place;
	node->key = ASYA_STR_NONE;
	node->next = NULL;
	return node;
}

static struct asya_tree *read_list(struct reader *r, yaml_event_t *begin, unsigned depth)
{
	struct asya_place place = place_of(begin->start_mark);
	struct asya_tree *list = asya_tree_new(r->arena, ASYA_TREE_LIST, place);

	if (collection_tag(r, place, begin->data.sequence_start.tag, "seq"))
		return NULL;
	for (;;) {
		_cleanup_(event_fini) yaml_event_t event = {0};
		struct asya_tree *item;

		if (next(r, &event))
			return NULL;
		if (event.type == YAML_SEQUENCE_END_EVENT)
			return list;
		item = read_node(r, &event, depth + 1);
		if (!item)
			return NULL;
		asya_tree_append(list, item);
	}
}

static int add_member(struct reader *r, struct asya_tree *map, struct asya_tree *node)
{
	const struct asya_tree *there = asya_tree_member(map, node->key);

	if (there)
		return refuse(r, node->key_place,
			      "the key \"%s\" is there twice, first on line "
			      "%u",
			      asya_tree_shown(r->arena, node->key), there->key_place.line);
	if (map->n >= ASYA_TREE_MEMBERS_MAX)
		return refuse(r, node->key_place, "more than %d members in one map",
			      ASYA_TREE_MEMBERS_MAX);
	asya_tree_append(map, node);
	return 0;
}

/* One map of a merge. Its members go to `merged`, where earlier ones win. */
static int merge_one(struct reader *r, const struct asya_tree *map, struct asya_tree *merged,
		     const struct asya_tree *from, struct asya_place place)
{
	if (from->type != ASYA_TREE_MAP)
		return refuse(r, place, "the merge key << takes a map or a list of maps");
	asya_tree_each(child, from)
	{
		const struct asya_tree *own = asya_tree_member(map, child->key);
		struct asya_tree *copy;

		if (own)
			return refuse(r, place,
				      "write << before \"%s\" (line %u), which both "
				      "maps have: readers disagree on which one wins",
				      asya_tree_shown(r->arena, child->key), own->key_place.line);
		if (asya_tree_member(merged, child->key))
			continue;
		copy = asya_arena_new0(r->arena, struct asya_tree);
		*copy = *child;
		if (add_member(r, merged, copy))
			return -1;
	}
	return 0;
}

static int merge(struct reader *r, const struct asya_tree *map, struct asya_tree *merged,
		 const struct asya_tree *value, struct asya_place place)
{
	if (value->type != ASYA_TREE_LIST)
		return merge_one(r, map, merged, value, place);
	asya_tree_each(item, value) if (merge_one(r, map, merged, item, place)) return -1;
	return 0;
}

static int read_key(struct reader *r, yaml_event_t *event, struct asya_tree **ret, bool *ret_merge)
{
	struct asya_place place = place_of(event->start_mark);
	struct asya_tree *key;

	if (event->type != YAML_SCALAR_EVENT)
		return refuse(r, place, "a key must be a string%s",
			      event->type == YAML_ALIAS_EVENT ? ", not an alias" : "");
	key = read_node(r, event, 1);
	if (!key)
		return -1;
	if (key->type != ASYA_TREE_STRING)
		return refuse(r, place, "the key %s is no string; write \"%s\":",
			      asya_tree_shown(r->arena, key->raw),
			      asya_tree_shown(r->arena, key->raw));
	*ret_merge = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
		     asya_str_eq_c(key->text, "<<");
	*ret = key;
	return 0;
}

/* The merged members that the map's own do not replace, behind them. */
static int settle_merge(struct reader *r, struct asya_tree *map, struct asya_tree *merged)
{
	struct asya_tree *child, *after;

	for (child = merged->first; child; child = after) {
		after = child->next;
		if (!asya_tree_member(map, child->key) && add_member(r, map, child))
			return -1;
	}
	return 0;
}

static int read_member(struct reader *r, struct asya_tree *map, struct asya_tree *merged,
		       yaml_event_t *key_event, unsigned depth)
{
	_cleanup_(event_fini) yaml_event_t event = {0};
	struct asya_tree *key = NULL, *value;
	bool is_merge = false;

	if (read_key(r, key_event, &key, &is_merge) || next(r, &event))
		return -1;
	value = read_node(r, &event, depth + 1);
	if (!value)
		return -1;
	if (is_merge)
		return merge(r, map, merged, value, key->place);
	value->key = key->text;
	value->key_place = key->place;
	return add_member(r, map, value);
}

static struct asya_tree *read_map(struct reader *r, yaml_event_t *begin, unsigned depth)
{
	struct asya_place place = place_of(begin->start_mark);
	struct asya_tree *map = asya_tree_new(r->arena, ASYA_TREE_MAP, place);
	struct asya_tree *merged = asya_tree_new(r->arena, ASYA_TREE_MAP, place);

	if (collection_tag(r, place, begin->data.mapping_start.tag, "map"))
		return NULL;
	for (;;) {
		_cleanup_(event_fini) yaml_event_t event = {0};

		if (next(r, &event))
			return NULL;
		if (event.type == YAML_MAPPING_END_EVENT)
			return settle_merge(r, map, merged) ? NULL : map;
		if (read_member(r, map, merged, &event, depth))
			return NULL;
	}
}

static const yaml_char_t *anchor_of(const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return event->data.scalar.anchor;
	case YAML_SEQUENCE_START_EVENT:
		return event->data.sequence_start.anchor;
	case YAML_MAPPING_START_EVENT:
		return event->data.mapping_start.anchor;
	default:
		return NULL;
	}
}

/* Only once the node is whole: an anchor cannot contain itself. */
static int remember(struct reader *r, const yaml_char_t *name, const struct asya_tree *node)
{
	struct anchor *a;

	if (++r->n_anchors > ASYA_YAML_ANCHORS_MAX)
		return refuse(r, node->place, "more than %d anchors in one document",
			      ASYA_YAML_ANCHORS_MAX);
	a = asya_arena_new0(r->arena, struct anchor);
	a->name = str_of(r, name, strlen((const char *)name));
	a->node = node;
	a->older = r->anchors;
	r->anchors = a;
	return 0;
}

static struct asya_tree *read_node(struct reader *r, yaml_event_t *event, unsigned depth)
{
	struct asya_tree *node;

	if (event->type == YAML_ALIAS_EVENT)
		return read_alias(r, event, depth);
	if (count(r, place_of(event->start_mark), 1, depth))
		return NULL;
	if (event->type == YAML_SCALAR_EVENT)
		node = read_scalar(r, event);
	else if (event->type == YAML_SEQUENCE_START_EVENT)
		node = read_list(r, event, depth);
	else
		node = read_map(r, event, depth);
	if (node && anchor_of(event) && remember(r, anchor_of(event), node))
		return NULL;
	return node;
}

static int add_document(struct reader *r, struct asya_tree ***docs, size_t *n)
{
	_cleanup_(event_fini) yaml_event_t root = {0};
	_cleanup_(event_fini) yaml_event_t end = {0};
	struct asya_tree *node;

	if (next(r, &root))
		return -1;
	if (*n >= ASYA_YAML_DOCUMENTS_MAX)
		return refuse(r, place_of(root.start_mark), "more than %d documents",
			      ASYA_YAML_DOCUMENTS_MAX);
	r->anchors = NULL;
	r->n_anchors = 0;
	node = read_node(r, &root, 1);
	if (!node || next(r, &end))
		return -1;
	(*docs)[(*n)++] = node;
	return 0;
}

static int read_stream(struct reader *r, struct asya_tree ***docs, size_t *n)
{
	for (;;) {
		_cleanup_(event_fini) yaml_event_t event = {0};

		if (next(r, &event))
			return -1;
		if (event.type == YAML_STREAM_END_EVENT)
			return 0;
		if (event.type == YAML_DOCUMENT_START_EVENT && add_document(r, docs, n))
			return -1;
	}
}

static int read_yaml(struct reader *r, struct asya_str text, struct asya_tree ***docs, size_t *n)
{
	int code;

	if (!yaml_parser_initialize(&r->parser))
		abort();
	yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r->parser, (const unsigned char *)text.p, text.n);
	*docs = asya_arena_array(r->arena, struct asya_tree *, ASYA_YAML_DOCUMENTS_MAX);
	code = read_stream(r, docs, n);
	yaml_parser_delete(&r->parser);
	return code;
}

static bool looks_like_json(struct asya_str text)
{
	size_t i = 0;

	while (i < text.n && strchr(" \t\r\n", text.p[i]) && text.p[i])
		i++;
	return i < text.n && (text.p[i] == '{' || text.p[i] == '[');
}

int asya_yaml_parse(struct asya_tree ***ret, size_t *ret_n, struct asya_arena *arena,
		    struct asya_str text, struct asya_place *place, struct asya_error *err)
{
	struct reader r = {.arena = arena, .text = text, .place = {1, 1}, .err = err};
	struct asya_tree **docs = NULL, *json;
	struct asya_error ignored;
	size_t n = 0;
	int code;

	if (text.n > ASYA_TREE_TEXT_MAX)
		code = refuse(&r, r.place, "%zu bytes, at most %d", text.n, ASYA_TREE_TEXT_MAX);
	else if (!asya_utf8_valid(text.p, text.n))
		code = refuse(&r, r.place, "not UTF-8");
	else
		code = read_yaml(&r, text, &docs, &n);
	if (code && docs && looks_like_json(text) &&
	    asya_tree_json_parse(&json, arena, text, &ignored) == 0) {
		docs[0] = json;
		n = 1;
		code = 0;
	}
	if (code && place)
		*place = r.place;
	else if (code)
		asya_error_wrap(err, "line %u, column %u", r.place.line, r.place.column);
	if (code)
		return -1;
	*ret = docs;
	*ret_n = n;
	return 0;
}
