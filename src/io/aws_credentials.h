// SPDX-License-Identifier: Apache-2.0
/*
 * The keys that AWS requests are signed with, from where the AWS SDKs look for them, in this order:
 *
 *	AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *	AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME: STS (EKS: IRSA);
 *		AWS_ENDPOINT_URL_STS names another STS
 *	AWS_PROFILE of AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials), then of AWS_CONFIG_FILE
 *		(~/.aws/config); a profile may have keys, or web_identity_token_file with role_arn.
 *		source_profile, credential_process and sso are not supported: an error says so
 *	AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI, with AWS_CONTAINER_AUTHORIZATION_TOKEN
 *		or _TOKEN_FILE: ECS, EKS pod identity
 *	the instance's metadata (IMDSv2), unless AWS_EC2_METADATA_DISABLED=true;
 *		AWS_EC2_METADATA_SERVICE_ENDPOINT names another address
 *
 * The first that is configured is used; where it fails, that is an error and not a reason to try
 *the next. Keys that expire are fetched anew before they do, while the old ones still serve; files
 * with tokens are read each time. No secret is ever part of an error.
 */
#pragma once
#include "io/http_client.h"
#include "io/sigv4.h"

struct asya_aws_credentials;

/* The value of a variable, NULL if it is not set. */
typedef const char *asya_aws_variable_fn(void *user, const char *name);

/* Who waits for keys. The caller's memory, unmoved until `done`, which runs once, from the loop,
 * never inside. `keys` are valid during the call. */
struct asya_aws_want {
	void (*done)(struct asya_aws_want *w, const struct asya_aws_keys *keys,
		     const struct asya_error *err);
	void *user;
	struct asya_link link;
};

/* `client` and `get` are borrowed until it is closed. `given`: keys to use in place of all of the
 * above, or NULL. `region` is of the STS. Never fails: what is wrong, requests are told. */
struct asya_aws_credentials *asya_aws_credentials_new(uv_loop_t *loop,
						      struct asya_http_client *client,
						      const struct asya_aws_keys *given,
						      struct asya_str region,
						      asya_aws_variable_fn *get, void *get_user);
/* Those who wait are done with an error; then it frees itself, and `done` runs, from the loop; it
 * may be NULL. The client must be open until then. */
void asya_aws_credentials_close(struct asya_aws_credentials *take_c, void (*done)(void *user),
				void *user);

/* Keys that are there and hold for a while yet: fills *ret, valid until the loop goes on, and
 * returns true. Else false: ask with asya_aws_credentials_want. */
bool asya_aws_credentials_have(struct asya_aws_credentials *c, struct asya_aws_keys *ret);
void asya_aws_credentials_want(struct asya_aws_credentials *c, struct asya_aws_want *w);
/* A server has called the keys expired or unknown: they are not used again, at most once in some
 * seconds. */
void asya_aws_credentials_refused(struct asya_aws_credentials *c);
