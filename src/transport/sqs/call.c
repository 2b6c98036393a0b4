// SPDX-License-Identifier: Apache-2.0
#include "transport/sqs/inner.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>
#include <strings.h>

enum { FIRST_MS = 50, LAST_MS = 5000, ANSWER_BYTES = 16 << 20 };

int64_t sqs_backoff_ms(unsigned failures)
{
	int64_t most = failures > 7 ? LAST_MS : FIRST_MS << failures;

	most = most > LAST_MS ? LAST_MS : most;
	return most / 2 + rand() % (most / 2 + 1);
}

struct asya_str sqs_member(yyjson_val *object, const char *name)
{
	yyjson_val *v = yyjson_obj_get(object, name);

	return yyjson_is_str(v) ? (struct asya_str){yyjson_get_str(v), yyjson_get_len(v)}
				: ASYA_STR_NONE;
}

static bool contains(const char *text, const char *part)
{
	return strcasestr(text, part);
}

bool sqs_fault_is(const struct sqs_fault *f, const char *part)
{
	return contains(f->code, part);
}

void sqs_fault_set(struct sqs_fault *f, const char *code, struct asya_str message,
		   const char *action, unsigned status)
{
	static const char *const passing[] = {"Throttl",   "TooManyRequests",    "RequestLimit",
					      "OverLimit", "ServiceUnavailable", "Internal",
					      "Timeout"};

	snprintf(f->code, sizeof(f->code), "%s", code);
	f->passing = status >= 500 || status == 429;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(passing); i++)
		f->passing |= contains(code, passing[i]);
	asya_error_set(&f->err, ASYA_RETRY, "SQS %s: %s%s%.*s", action, code, message.n ? ": " : "",
		       (int)(message.n > 300 ? 300 : message.n), message.p);
}

static void read_fault(struct sqs_fault *f, struct sqs_call *call, struct asya_http_answer *a,
		       yyjson_val *root)
{
	struct asya_str type = sqs_member(root, "__type");
	struct asya_str message = sqs_member(root, "message");
	char code[80], *hash;

	if (!message.n)
		message = sqs_member(root, "Message");
	if (!type.n)
		type = asya_http_answer_header(a, "x-amzn-query-error");
	snprintf(code, sizeof(code), "%.*s", ASYA_STR_ARG(type));
	code[strcspn(code, ";:")] = '\0';
	hash = strrchr(code, '#');
	if (!type.n)
		snprintf(code, sizeof(code), "status %u", a->status);
	sqs_fault_set(f, hash ? hash + 1 : code, message, strchr(call->target, '.') + 1, a->status);
}

static void call_free(struct sqs_call *call)
{
	call->sqs->n_calls--;
	asya_buf_fini(&call->body);
	free(call);
}

static void finish(struct sqs_call *call, yyjson_val *root, const struct sqs_fault *fault)
{
	struct sqs *s = call->sqs;

	call->done(call, root, fault);
	call_free(call);
	if (s->closing)
		sqs_ring(s);
}

static void refuse(struct sqs_call *call, const struct sqs_fault *fault)
{
	struct sqs *s = call->sqs;

	if (!fault->passing || --call->tries == 0 || s->closing) {
		finish(call, NULL, fault);
		return;
	}
	call->again_ms = asya_clock_mono_ms() + sqs_backoff_ms(call->failures++);
	asya_list_add_tail(&s->later, &call->link);
	sqs_ring(s);
}

static void on_answer(struct asya_aws_request *r, struct asya_http_answer *a,
		      const struct asya_error *err)
{
	struct sqs_call *call = r->user;
	struct sqs_fault fault = {0};
	yyjson_doc *doc;

	if (err) {
		fault.passing = err->advice == ASYA_RETRY;
		fault.err = *err;
		asya_error_wrap(&fault.err, "SQS %s", strchr(call->target, '.') + 1);
		fault.err.advice = ASYA_RETRY;
		refuse(call, &fault);
		return;
	}
	doc = yyjson_read(a->body.p, a->body.n, 0);
	if (a->status == 200 && (doc || !a->body.n)) {
		finish(call, yyjson_doc_get_root(doc), NULL);
	} else {
		read_fault(&fault, call, a, yyjson_doc_get_root(doc));
		refuse(call, &fault);
	}
	yyjson_doc_free(doc);
}

struct sqs_call *sqs_call_new(struct sqs *s, const char *action)
{
	struct sqs_call *call = asya_new0(struct sqs_call);

	call->sqs = s;
	snprintf(call->target, sizeof(call->target), "AmazonSQS.%s", action);
	call->headers[0] = (struct asya_http_header){ASYA_STR("Content-Type"),
						     ASYA_STR("application/x-amz-json-1.0")};
	call->headers[1] =
		(struct asya_http_header){ASYA_STR("X-Amz-Target"), asya_str_c(call->target)};
	s->n_calls++;
	return call;
}

void sqs_call_send(struct sqs_call *call, int64_t timeout_ms, unsigned tries)
{
	call->tries = tries;
	call->aws = (struct asya_aws_request){.method = "POST",
					      .path = ASYA_STR("/"),
					      .headers = call->headers,
					      .n_headers = ASYA_ARRAY_SIZE(call->headers),
					      .body = asya_buf_view(&call->body),
					      .timeout_ms = timeout_ms,
					      .max_bytes = ANSWER_BYTES,
					      .done = on_answer,
					      .user = call};
	asya_aws_send(call->sqs->client, &call->aws);
}

void sqs_calls_due(struct sqs *s, int64_t now)
{
	struct asya_link *next;

	for (struct asya_link *i = s->later.next; i != &s->later; i = next) {
		struct sqs_call *call = asya_container_of(i, struct sqs_call, link);

		next = i->next;
		if (call->again_ms > now)
			continue;
		asya_list_remove(i);
		sqs_call_send(call, call->aws.timeout_ms, call->tries);
	}
}
