// SPDX-License-Identifier: Apache-2.0
/* Not for users: what asya_runtime.c needs of asya_message.c. Pure: bytes in, bytes out. Reads
 * requests, checks JSON strictly, builds the frames of replies (docs/runtime-protocol.md). */
#ifndef ASYA_MESSAGE_H
#define ASYA_MESSAGE_H

#include "asya_runtime.h"

#include <stdbool.h>

enum {
	ASYA_FRAME_HEAD = 4,     /* bytes of a frame's length, big-endian */
	ASYA_DEPTH_MAX = 1024,   /* nested arrays and objects */
	ASYA_FLUSH_AT = 1 << 18, /* items of protocol 2 leave when so many bytes wait */
};

struct asya_view {
	const char *p; /* NULL: absent */
	size_t n;
};

/* A growing buffer; zero-initialise, free(p) at the end. Out of memory aborts. */
struct asya_out {
	char *p;
	size_t n, room;
};

/* Where a text is no JSON, and what is wrong with it. */
struct asya_json_fault {
	const char *why;
	size_t at;
};

/* JSON values, as they came. */
struct asya_parts {
	struct asya_view text, payload, route, headers, id; /* no headers if they are null */
};

/* Zero-initialise, set `limit`; asya_message_fini frees. */
struct asya_request {
	struct asya_parts in;
	struct asya_out out;   /* the reply's frames */
	struct asya_out route; /* protocol 1: the route one further */
	size_t limit;          /* the longest frame, without its length */
	size_t items;
	int version;
	bool failed;
	void (*flush)(struct asya_request *r); /* sends `out` and empties it; may be NULL */
	int fd;                                /* for `flush` */
	const char *code;                      /* of the failure, as are the next two */
	char type[128], message[2048];
	char id[1024];
};

/* Begins a reply in the dialect of `version`. */
void asya_message_begin(struct asya_request *r, int version);
/* Reads an envelope, which must stay as long as the request. -1: it is none, and the request has
 * failed. */
int asya_message_parse(struct asya_request *r, struct asya_view text);
/* The request fails with msg_parsing_error. */
__attribute__((format(printf, 2, 3))) void asya_message_refuse(struct asya_request *r,
							       const char *format, ...);
/* Ends the reply: after it `out` is complete. */
void asya_message_end(struct asya_request *r);
void asya_message_fini(struct asya_request *r);

/* 0 if `text` is one JSON value (`type` '{': an object; 0: any), else -1 with *fault filled. */
int asya_message_check(struct asya_view text, char type, struct asya_json_fault *fault);
/* Appends any bytes as a JSON string; what is not UTF-8 becomes U+FFFD. */
void asya_message_quote(struct asya_out *out, struct asya_view text);
void asya_out_add(struct asya_out *b, const void *p, size_t n);

#endif
