// SPDX-License-Identifier: Apache-2.0
#include "core/retry.h"

bool asya_error_type_matches(struct asya_str pattern, struct asya_str name)
{
	size_t at;

	if (asya_str_eq(pattern, name))
		return pattern.n > 0;
	if (!pattern.n || pattern.n >= name.n)
		return false;
	at = name.n - pattern.n;
	return name.p[at - 1] == '.' && memcmp(name.p + at, pattern.p, pattern.n) == 0;
}

static bool names_any(const struct asya_retry_rule *rule, struct asya_str type)
{
	for (size_t i = 0; i < rule->n_errors; i++)
		if (asya_error_type_matches(rule->errors[i], type))
			return true;
	return false;
}

static bool rule_applies(const struct asya_retry_rule *rule, struct asya_str type,
			 const struct asya_str *mro, size_t n_mro)
{
	if (!rule->n_errors || names_any(rule, type))
		return true;
	for (size_t i = 0; i < n_mro; i++)
		if (names_any(rule, mro[i]))
			return true;
	return false;
}

const struct asya_retry_policy *asya_retry_find(const struct asya_retry_rule *rules, size_t n,
						struct asya_str type, const struct asya_str *mro,
						size_t n_mro)
{
	for (size_t i = 0; i < n; i++)
		if (rule_applies(&rules[i], type, mro, n_mro))
			return rules[i].policy;
	return NULL;
}

static int64_t times(int64_t a, int64_t b)
{
	int64_t product;

	return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

static int64_t delay_of(const struct asya_retry_policy *p, unsigned attempt)
{
	int64_t factor = 1, delay;

	if (p->backoff == ASYA_BACKOFF_LINEAR)
		factor = attempt;
	else if (p->backoff == ASYA_BACKOFF_EXPONENTIAL)
		factor = attempt > 62 ? INT64_MAX : (int64_t)1 << (attempt - 1);
	delay = times(p->initial_delay_ms, factor);
	return p->max_interval_ms && delay > p->max_interval_ms ? p->max_interval_ms : delay;
}

bool asya_retry_decide(const struct asya_retry_policy *policy, unsigned attempt, int64_t elapsed_ms,
		       double chance, int64_t *ret_delay_ms)
{
	int64_t delay;

	if (!policy || !attempt || (policy->max_attempts && attempt >= policy->max_attempts))
		return false;
	delay = delay_of(policy, attempt);
	if (policy->jitter)
		delay -= (int64_t)((double)delay / 2 * (1 - chance));
	if (policy->max_duration_ms &&
	    (elapsed_ms > policy->max_duration_ms || delay > policy->max_duration_ms - elapsed_ms))
		return false;
	*ret_delay_ms = delay;
	return true;
}
