// SPDX-License-Identifier: Apache-2.0
#include "core/suggest.h"

#include <strings.h>

enum { LONGEST = 64 };

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Optimal string alignment: three rows of the table are enough. */
static unsigned distance(struct asya_str a, struct asya_str b)
{
	unsigned rows[3][LONGEST + 1];
	unsigned *two = rows[0], *one = rows[1], *now = rows[2];

	for (unsigned j = 0; j <= b.n; j++)
		one[j] = j;
	for (unsigned i = 1; i <= a.n; i++) {
		unsigned *spare = two;

		now[0] = i;
		for (unsigned j = 1; j <= b.n; j++) {
			bool same = a.p[i - 1] == b.p[j - 1];

			now[j] = least(least(one[j], now[j - 1]) + 1, one[j - 1] + !same);
			if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1])
				now[j] = least(now[j], two[j - 2] + 1);
		}
		two = one;
		one = now;
		now = spare;
	}
	return one[b.n];
}

int asya_suggest(struct asya_str typed, const struct asya_str *words, size_t n)
{
	unsigned limit = typed.n / 3 > 3 ? 3 : (unsigned)typed.n / 3;
	unsigned best = limit + 1;
	int found = -1;

	if (typed.n > LONGEST)
		return -1;
	for (size_t i = 0; i < n; i++) {
		unsigned d;

		if (words[i].n > LONGEST)
			continue;
		if (words[i].n == typed.n && typed.n && !strncasecmp(words[i].p, typed.p, typed.n))
			return (int)i;
		d = distance(typed, words[i]);
		if (d < best) {
			best = d;
			found = (int)i;
		}
	}
	return found;
}
