// SPDX-License-Identifier: Apache-2.0
/* What queues are called and how bodies are written, so that SQS takes them. Pure. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"

#include <stdbool.h>

enum { SQS_NAME_MAX = 80 };

enum sqs_form {
	SQS_PLAIN,
	SQS_ESCAPED, /* U+FFFE and U+FFFF of a JSON text as escapes */
	SQS_BASE64,
	SQS_EMPTY, /* SQS has no empty bodies: a single character stands for it */
};

struct asya_str sqs_queue_name(struct asya_arena *arena, const char *space, struct asya_str actor,
			       bool dead, bool fifo);

/* How it must be written, and how many bytes SQS will count. */
enum sqs_form sqs_body_form(struct asya_str body, size_t *ret_bytes);
/* As a JSON string. */
void sqs_body_write(struct asya_buf *out, struct asya_str body, enum sqs_form form);
/* The value of the attribute `asya-encoding`; NULL: there is none. */
const char *sqs_form_name(enum sqs_form form);
/* malloc'd, the length in *ret_n; NULL if it is not in that encoding. `encoding` may have no value.
 */
char *sqs_body_read(struct asya_str text, struct asya_str encoding, size_t *ret_n);

/* FIFO: which messages stay in order, and which are the same. Each ASYA_SHA256_HEX bytes or less,
 * with a NUL. `salt` makes bodies that are no envelopes different from each other. */
void sqs_group_write(char group[129], char dedup[65], struct asya_str body, bool dead,
		     uint64_t salt);
