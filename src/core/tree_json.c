// SPDX-License-Identifier: Apache-2.0
/* JSON to trees, by yyjson, and back. */
#include "core/tree.h"

#include <yyjson.h>

struct reader {
	struct asya_arena *arena;
	size_t nodes;
	struct asya_error *err;
};

static const struct asya_place nowhere;

static struct asya_tree *read_value(struct reader *r, yyjson_val *value, unsigned depth);

static struct asya_str text_of(struct reader *r, yyjson_val *value)
{
	struct asya_str s = {unsafe_yyjson_get_str(value), unsafe_yyjson_get_len(value)};

	return asya_arena_str(r->arena, s);
}

static struct asya_tree *refused(struct reader *r, const char *why, int limit)
{
	asya_error_set(r->err, ASYA_REJECT, "%s, at most %d", why, limit);
	return NULL;
}

static struct asya_tree *read_list(struct reader *r, struct asya_tree *list, yyjson_val *value,
				   unsigned depth)
{
	yyjson_val *item;
	size_t i, n;

	yyjson_arr_foreach(value, i, n, item)
	{
		struct asya_tree *node = read_value(r, item, depth + 1);

		if (!node)
			return NULL;
		asya_tree_append(list, node);
	}
	return list;
}

static struct asya_tree *read_map(struct reader *r, struct asya_tree *map, yyjson_val *value,
				  unsigned depth)
{
	yyjson_val *key, *item;
	size_t i, n;

	if (yyjson_obj_size(value) > ASYA_TREE_MEMBERS_MAX)
		return refused(r, "too many members in one object", ASYA_TREE_MEMBERS_MAX);
	yyjson_obj_foreach(value, i, n, key, item)
	{
		struct asya_str name = text_of(r, key);
		struct asya_tree *node;

		if (asya_tree_member(map, name)) {
			asya_error_set(r->err, ASYA_REJECT, "the key \"%.*s\" is there twice",
				       ASYA_STR_ARG(name));
			return NULL;
		}
		node = read_value(r, item, depth + 1);
		if (!node)
			return NULL;
		node->key = name;
		asya_tree_append(map, node);
	}
	return map;
}

static struct asya_tree *read_value(struct reader *r, yyjson_val *value, unsigned depth)
{
	struct asya_tree *node;

	if (depth > ASYA_TREE_DEPTH_MAX)
		return refused(r, "nested too deep", ASYA_TREE_DEPTH_MAX);
	if (++r->nodes > ASYA_TREE_NODES_MAX)
		return refused(r, "too many values", ASYA_TREE_NODES_MAX);
	node = asya_tree_new(r->arena, ASYA_TREE_NULL, nowhere);
	switch (yyjson_get_type(value)) {
	case YYJSON_TYPE_ARR:
		node->type = ASYA_TREE_LIST;
		return read_list(r, node, value, depth);
	case YYJSON_TYPE_OBJ:
		node->type = ASYA_TREE_MAP;
		return read_map(r, node, value, depth);
	case YYJSON_TYPE_STR:
		node->type = ASYA_TREE_STRING;
		node->text = text_of(r, value);
		break;
	case YYJSON_TYPE_RAW:
		node->type = ASYA_TREE_NUMBER;
		node->text = text_of(r, value);
		break;
	case YYJSON_TYPE_BOOL:
		node->type = ASYA_TREE_BOOL;
		node->boolean = yyjson_get_bool(value);
		break;
	default:
		break;
	}
	return node;
}

int asya_tree_json_parse(struct asya_tree **ret, struct asya_arena *arena, struct asya_str text,
			 struct asya_error *err)
{
	struct reader r = {.arena = arena, .err = err};
	struct asya_tree *tree;
	yyjson_read_err why;
	yyjson_doc *doc;

	if (text.n > ASYA_TREE_TEXT_MAX)
		return asya_error_set(err, ASYA_REJECT, "%zu bytes of JSON, at most %d", text.n,
				      ASYA_TREE_TEXT_MAX);
	/* Without INSITU the text is copied, not written to. */
	doc = yyjson_read_opts((char *)text.p, text.n, YYJSON_READ_NUMBER_AS_RAW, NULL, &why);
	if (!doc)
		return asya_error_set(err, ASYA_REJECT, "no JSON at byte %zu: %s", why.pos,
				      why.msg);
	tree = read_value(&r, yyjson_doc_get_root(doc), 1);
	yyjson_doc_free(doc);
	if (!tree)
		return -1;
	*ret = tree;
	return 0;
}

static void write_children(struct asya_buf *out, const struct asya_tree *node)
{
	bool map = node->type == ASYA_TREE_MAP;

	asya_buf_char(out, map ? '{' : '[');
	asya_tree_each(child, node)
	{
		if (child != node->first)
			asya_buf_char(out, ',');
		if (map) {
			asya_buf_json(out, child->key);
			asya_buf_char(out, ':');
		}
		asya_tree_json_write(out, child);
	}
	asya_buf_char(out, map ? '}' : ']');
}

void asya_tree_json_write(struct asya_buf *out, const struct asya_tree *node)
{
	switch (node->type) {
	case ASYA_TREE_NULL:
		asya_buf_c(out, "null");
		return;
	case ASYA_TREE_BOOL:
		asya_buf_c(out, node->boolean ? "true" : "false");
		return;
	case ASYA_TREE_NUMBER:
		asya_buf_str(out, node->text);
		return;
	case ASYA_TREE_STRING:
		asya_buf_json(out, node->text);
		return;
	case ASYA_TREE_LIST:
	case ASYA_TREE_MAP:
		write_children(out, node);
	}
}
