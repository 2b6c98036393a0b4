// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t now_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t asya_clock_mono_ns(void)
{
	return now_ns(CLOCK_MONOTONIC);
}

int64_t asya_clock_mono_ms(void)
{
	return now_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t asya_clock_wall_us(void)
{
	return now_ns(CLOCK_REALTIME) / 1000;
}

int64_t asya_clock_wall_ms(void)
{
	return now_ns(CLOCK_REALTIME) / 1000000;
}

char *asya_time_write(char *out, int64_t wall_us)
{
	time_t seconds = (time_t)(wall_us / 1000000);
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(out, ASYA_TIME_TEXT, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, ASYA_TIME_TEXT - n, ".%06dZ", (int)(wall_us % 1000000));
	return out;
}

/* Reads exactly `digits` digits and moves on; -1 if they are not there or the value is above `max`.
 */
static int number(struct asya_str *s, int digits, int max, int *ret)
{
	int value = 0;

	if (s->n < (size_t)digits)
		return -1;
	for (int i = 0; i < digits; i++) {
		if (s->p[i] < '0' || s->p[i] > '9')
			return -1;
		value = value * 10 + (s->p[i] - '0');
	}
	if (value > max)
		return -1;
	s->p += digits;
	s->n -= (size_t)digits;
	*ret = value;
	return 0;
}

static int literal(struct asya_str *s, const char *any)
{
	if (!s->n || !strchr(any, s->p[0]) || !s->p[0])
		return -1;
	s->p++;
	s->n--;
	return 0;
}

static int fraction(struct asya_str *s, int64_t *ret_us)
{
	int64_t scale = 100000, us = 0;

	if (!s->n || s->p[0] != '.')
		return 0;
	s->p++;
	s->n--;
	if (!s->n || s->p[0] < '0' || s->p[0] > '9')
		return -1;
	for (; s->n && s->p[0] >= '0' && s->p[0] <= '9'; s->p++, s->n--, scale /= 10)
		us += (s->p[0] - '0') * scale;
	*ret_us = us;
	return 0;
}

static int zone(struct asya_str *s, int *ret_minutes)
{
	int sign, hours, minutes;

	*ret_minutes = 0;
	if (literal(s, "Zz") == 0)
		return 0;
	sign = s->n && s->p[0] == '-' ? -1 : 1;
	if (literal(s, "+-") || number(s, 2, 23, &hours) || literal(s, ":") ||
	    number(s, 2, 59, &minutes))
		return -1;
	*ret_minutes = sign * (hours * 60 + minutes);
	return 0;
}

static bool day_exists(const struct tm *tm)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int year = tm->tm_year + 1900;
	bool leap = (year % 4 == 0 && year % 100) || year % 400 == 0;

	if (tm->tm_mon < 0 || tm->tm_mday < 1)
		return false;
	return tm->tm_mday <= days[tm->tm_mon] + (leap && tm->tm_mon == 1);
}

int asya_time_parse(int64_t *ret_wall_us, struct asya_str s)
{
	int year, month, offset;
	struct tm tm = {0};
	int64_t us = 0;

	if (number(&s, 4, 9999, &year) || literal(&s, "-") || number(&s, 2, 12, &month) ||
	    literal(&s, "-") || number(&s, 2, 31, &tm.tm_mday) || literal(&s, "Tt ") ||
	    number(&s, 2, 23, &tm.tm_hour) || literal(&s, ":") || number(&s, 2, 59, &tm.tm_min) ||
	    literal(&s, ":") || number(&s, 2, 60, &tm.tm_sec) || fraction(&s, &us) ||
	    zone(&s, &offset) || s.n)
		return -1;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	if (!day_exists(&tm))
		return -1;
	*ret_wall_us = ((int64_t)timegm(&tm) - offset * 60) * 1000000 + us;
	return 0;
}

static const struct {
	const char *name;
	int64_t ns;
} units[] = {{"ns", 1},
	     {"us", 1000},
	     {"\xC2\xB5s", 1000},
	     {"ms", 1000000},
	     {"s", 1000000000},
	     {"m", 60 * 1000000000LL},
	     {"h", 3600 * 1000000000LL}};

static int64_t unit(struct asya_str *s)
{
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(units[i].name);
		bool whole = s->n == n ||
			     (s->n > n && (s->p[n] == '.' || (s->p[n] >= '0' && s->p[n] <= '9')));

		if (whole && memcmp(s->p, units[i].name, n) == 0) {
			s->p += n;
			s->n -= n;
			return units[i].ns;
		}
	}
	return 0;
}

/* One `number unit` pair; the number may have a fraction. */
static int term(struct asya_str *s, int64_t *ret_ns)
{
	double value = 0, scale = 1;
	bool digits = false, dot = false;
	int64_t ns;

	for (; s->n && ((s->p[0] >= '0' && s->p[0] <= '9') || (s->p[0] == '.' && !dot));
	     s->p++, s->n--) {
		if (s->p[0] == '.') {
			dot = true;
			continue;
		}
		digits = true;
		value = value * 10 + (s->p[0] - '0');
		scale *= dot ? 10 : 1;
	}
	ns = digits ? unit(s) : 0;
	/* Written so that it holds for NaN too: endless digits on both sides of the point. */
	if (!ns || !(value / scale * (double)ns <= 9e18))
		return -1;
	*ret_ns = (int64_t)(value / scale * (double)ns + 0.5);
	return 0;
}

int asya_duration_parse(int64_t *ret_ns, struct asya_str s)
{
	int64_t total = 0, part;

	if (asya_str_eq_c(s, "0")) {
		*ret_ns = 0;
		return 0;
	}
	if (!s.n)
		return -1;
	while (s.n) {
		if (term(&s, &part) || __builtin_add_overflow(total, part, &total))
			return -1;
	}
	*ret_ns = total;
	return 0;
}

/* `rest` of `digits` digits behind the point, without zeros at the end */
static void decimal(char *out, size_t room, int64_t whole, int64_t rest, int digits,
		    const char *name)
{
	while (digits && rest % 10 == 0) {
		rest /= 10;
		digits--;
	}
	if (digits)
		snprintf(out, room, "%lld.%0*lld%s", (long long)whole, digits, (long long)rest,
			 name);
	else
		snprintf(out, room, "%lld%s", (long long)whole, name);
}

char *asya_duration_write(char *out, int64_t ns)
{
	int64_t minutes = ns / 60000000000, hours = minutes / 60;
	size_t n = 0;

	if (ns == 0) {
		snprintf(out, ASYA_TIME_TEXT, "0s");
	} else if (ns < 1000) {
		decimal(out, ASYA_TIME_TEXT, ns, 0, 0, "ns");
	} else if (ns < 1000000) {
		decimal(out, ASYA_TIME_TEXT, ns / 1000, ns % 1000, 3, "\xC2\xB5s");
	} else if (ns < 1000000000) {
		decimal(out, ASYA_TIME_TEXT, ns / 1000000, ns % 1000000, 6, "ms");
	} else {
		if (hours)
			n += (size_t)snprintf(out, ASYA_TIME_TEXT, "%lldh", (long long)hours);
		if (minutes)
			n += (size_t)snprintf(out + n, ASYA_TIME_TEXT - n, "%lldm",
					      (long long)(minutes % 60));
		decimal(out + n, ASYA_TIME_TEXT - n, ns % 60000000000 / 1000000000, ns % 1000000000,
			9, "s");
	}
	return out;
}
