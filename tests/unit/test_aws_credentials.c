// SPDX-License-Identifier: Apache-2.0
#include "io/aws_credentials.h"
#include "io/aws_profile.h"
#include "lib/fake.h"
#include "lib/loop.h"
#include "lib/transport.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

enum { SECONDS = 20, VARIABLES = 12 };

struct fixture {
	uv_loop_t loop;
	struct test_fake fake;
	struct asya_http_client *client;
	struct asya_aws_credentials *c;
	const char *names[VARIABLES];
	char *values[VARIABLES];
	size_t n;
	char *dir;
};

struct want {
	struct asya_aws_want w;
	bool done, failed;
	char access[100], secret[100], token[100];
	struct asya_error err;
};

static const char *get(void *user, const char *name)
{
	struct fixture *f = user;

	for (size_t i = 0; i < f->n; i++)
		if (strcmp(f->names[i], name) == 0)
			return f->values[i];
	return NULL;
}

static void set(struct fixture *f, const char *name, char *take_value)
{
	assert_true(f->n < VARIABLES);
	f->names[f->n] = name;
	f->values[f->n++] = take_value;
}

static char *at_fake(struct fixture *f, const char *path)
{
	return asya_asprintf("http://127.0.0.1:%u%s", f->fake.port, path);
}

static char *write_file(struct fixture *f, const char *name, const char *text)
{
	char *path = asya_asprintf("%s/%s", f->dir, name);
	FILE *file = fopen(path, "w");

	fputs(text, file);
	fclose(file);
	return path;
}

static void on_keys(struct asya_aws_want *w, const struct asya_aws_keys *k,
		    const struct asya_error *err)
{
	struct want *got = w->user;

	assert_false(got->done);
	assert_true(!k == !!err);
	got->done = true;
	got->failed = err;
	if (err) {
		got->err = *err;
		return;
	}
	snprintf(got->access, sizeof(got->access), "%.*s", ASYA_STR_ARG(k->access));
	snprintf(got->secret, sizeof(got->secret), "%.*s", ASYA_STR_ARG(k->secret));
	snprintf(got->token, sizeof(got->token), "%.*s", ASYA_STR_ARG(k->token));
}

static struct want fetch(struct fixture *f)
{
	struct want w = {.w = {.done = on_keys}};

	w.w.user = &w;
	if (!f->c)
		f->c = asya_aws_credentials_new(&f->loop, f->client, NULL, ASYA_STR("us-east-1"),
						get, f);
	asya_aws_credentials_want(f->c, &w.w);
	assert_false(w.done);
	test_run_until(&f->loop, &w.done, "keys", SECONDS);
	return w;
}

static void close_credentials(struct fixture *f)
{
	bool closed = false;

	asya_aws_credentials_close(f->c, test_set_flag, &closed);
	test_run_until(&f->loop, &closed, "closing", SECONDS);
	f->c = NULL;
}

static void keys_of_the_environment_come_first(void **state)
{
	struct fixture *f = *state;
	struct asya_aws_keys k;
	struct want w;

	set(f, "AWS_ACCESS_KEY_ID", asya_strdup("A"));
	set(f, "AWS_SECRET_ACCESS_KEY", asya_strdup("S"));
	set(f, "AWS_SESSION_TOKEN", asya_strdup("T"));
	set(f, "AWS_CONTAINER_CREDENTIALS_FULL_URI", at_fake(f, "/container"));
	w = fetch(f);
	assert_string_equal(w.access, "A");
	assert_string_equal(w.secret, "S");
	assert_string_equal(w.token, "T");
	assert_true(asya_aws_credentials_have(f->c, &k));
}

static void half_a_pair_is_an_error_that_shows_no_secret(void **state)
{
	struct fixture *f = *state;
	struct want w;

	set(f, "AWS_ACCESS_KEY_ID", asya_strdup("AKSOMETHING"));
	w = fetch(f);
	assert_true(w.failed);
	assert_non_null(strstr(w.err.text, "AWS_SECRET_ACCESS_KEY"));
	assert_null(strstr(w.err.text, "AKSOMETHING"));
}

static void profile_is_read_from_either_file(void **state)
{
	struct fixture *f = *state;
	struct want w;

	set(f, "AWS_SHARED_CREDENTIALS_FILE",
	    write_file(f, "credentials",
		       "# mine\n[default]\naws_access_key_id = D\naws_secret_access_key=DS\n"
		       "[blue]\n aws_access_key_id=B\naws_secret_access_key = b=s \n"));
	set(f, "AWS_CONFIG_FILE",
	    write_file(f, "config",
		       "[default]\nregion=x\n[profile green]\naws_access_key_id=G\n"
		       "aws_secret_access_key=GS\naws_session_token=GT\n"));
	set(f, "AWS_PROFILE", asya_strdup("blue"));
	w = fetch(f);
	assert_string_equal(w.access, "B");
	assert_string_equal(w.secret, "b=s");
	close_credentials(f);
	free(f->values[--f->n]);
	set(f, "AWS_PROFILE", asya_strdup("green"));
	w = fetch(f);
	assert_string_equal(w.access, "G");
	assert_string_equal(w.token, "GT");
}

static void profile_that_is_nowhere_or_not_understood_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct want w;

	set(f, "AWS_CONFIG_FILE",
	    write_file(f, "config", "[profile odd]\ncredential_process = /bin/keys\n"));
	set(f, "AWS_PROFILE", asya_strdup("odd"));
	w = fetch(f);
	assert_true(w.failed);
	assert_non_null(strstr(w.err.text, "credential_process of profile 'odd'"));
}

static void pod_identity_reads_its_token_from_a_file(void **state)
{
	struct fixture *f = *state;
	struct want w;

	set(f, "AWS_CONTAINER_CREDENTIALS_FULL_URI", at_fake(f, "/container"));
	set(f, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", write_file(f, "token", "Bearer pod\n"));
	w = fetch(f);
	assert_string_equal(w.access, "PODKEY");
	assert_string_equal(w.token, "PODTOKEN");
}

static void token_is_not_sent_in_clear_to_another_host(void **state)
{
	struct fixture *f = *state;
	struct want w;

	set(f, "AWS_CONTAINER_CREDENTIALS_FULL_URI", asya_strdup("http://169.254.170.24/x"));
	set(f, "AWS_CONTAINER_AUTHORIZATION_TOKEN", asya_strdup("Bearer pod"));
	w = fetch(f);
	assert_true(w.failed);
	assert_non_null(strstr(w.err.text, "https"));
	close_credentials(f);
	free(f->values[0]);
	f->values[0] = asya_strdup("http://127.0.0.1.evil.example/x");
	w = fetch(f);
	assert_non_null(strstr(w.err.text, "https"));
}

static void instance_is_asked_with_a_session(void **state)
{
	struct fixture *f = *state;
	struct want w;

	set(f, "AWS_EC2_METADATA_SERVICE_ENDPOINT", at_fake(f, "/"));
	w = fetch(f);
	assert_string_equal(w.access, "IMDSKEY");
	assert_string_equal(w.secret, "IMDSSECRET");
}

static void nothing_configured_says_what_to_set(void **state)
{
	struct fixture *f = *state;
	struct want w;

	set(f, "AWS_EC2_METADATA_DISABLED", asya_strdup("true"));
	w = fetch(f);
	assert_true(w.failed);
	assert_non_null(strstr(w.err.text, "AWS_ACCESS_KEY_ID"));
}

static void web_identity_is_fetched_anew_before_it_ends(void **state)
{
	struct fixture *f = *state;
	struct asya_aws_keys k;
	struct want w;

	set(f, "AWS_WEB_IDENTITY_TOKEN_FILE", write_file(f, "jwt", "a token/of=the pod\n"));
	set(f, "AWS_ROLE_ARN", asya_strdup("arn:aws:iam::1:role/ROLE"));
	set(f, "AWS_ENDPOINT_URL_STS", at_fake(f, "/sts"));
	w = fetch(f);
	assert_string_equal(w.access, "ROLE1KEY");
	/* they live for 2 s: asking goes on, and gets the next ones while the first still hold */
	for (int i = 0; i < 1000; i++) {
		if (asya_aws_credentials_have(f->c, &k) && !asya_str_eq_c(k.access, "ROLE1KEY"))
			break;
		test_run_for(&f->loop, 20);
	}
	assert_true(asya_str_eq_c(k.access, "ROLE2KEY"));
}

static void refused_keys_are_fetched_anew(void **state)
{
	struct fixture *f = *state;
	struct asya_aws_keys k;
	struct want w;

	set(f, "AWS_ACCESS_KEY_ID", asya_strdup("A"));
	set(f, "AWS_SECRET_ACCESS_KEY", asya_strdup("S"));
	fetch(f);
	free(f->values[1]);
	f->values[1] = asya_strdup("S2");
	asya_aws_credentials_refused(f->c);
	assert_false(asya_aws_credentials_have(f->c, &k));
	w = fetch(f);
	assert_string_equal(w.secret, "S2");
}

static void closing_ends_those_who_wait(void **state)
{
	struct fixture *f = *state;
	struct want w = {.w = {.done = on_keys}};

	w.w.user = &w;
	set(f, "AWS_CONTAINER_CREDENTIALS_FULL_URI", at_fake(f, "/silent"));
	f->c = asya_aws_credentials_new(&f->loop, f->client, NULL, ASYA_STR("us-east-1"), get, f);
	asya_aws_credentials_want(f->c, &w.w);
	test_run_for(&f->loop, 50);
	close_credentials(f);
	test_run_until(&f->loop, &w.done, "the end", SECONDS);
	assert_true(w.failed);
}

static int set_up(void **state)
{
	struct fixture *f = asya_new0(struct fixture);
	struct asya_error err;

	uv_loop_init(&f->loop);
	f->dir = test_dir_make();
	test_fake_start(&f->fake, NULL, NULL);
	assert_int_equal(asya_http_client_open(&f->client, &f->loop,
					       &(struct asya_http_client_config){0}, &err),
			 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	bool closed = false;

	if (f->c)
		close_credentials(f);
	asya_http_client_close(f->client, test_set_flag, &closed);
	test_run_until(&f->loop, &closed, "closing", SECONDS);
	test_loop_close(&f->loop);
	test_fake_stop(&f->fake);
	test_dir_remove(f->dir);
	for (size_t i = 0; i < f->n; i++)
		free(f->values[i]);
	free(f);
	return 0;
}

#define T(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(keys_of_the_environment_come_first),
		T(half_a_pair_is_an_error_that_shows_no_secret),
		T(profile_is_read_from_either_file),
		T(profile_that_is_nowhere_or_not_understood_is_an_error),
		T(pod_identity_reads_its_token_from_a_file),
		T(token_is_not_sent_in_clear_to_another_host),
		T(instance_is_asked_with_a_session),
		T(nothing_configured_says_what_to_set),
		T(web_identity_is_fetched_anew_before_it_ends),
		T(refused_keys_are_fetched_anew),
		T(closing_ends_those_who_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
