// SPDX-License-Identifier: Apache-2.0
#include "core/window.h"

unsigned asya_window_decide(unsigned concurrency, double service_us, unsigned max)
{
	double ahead =
		service_us > 0 ? concurrency * (ASYA_WINDOW_AHEAD_MS * 1000.0) / service_us : 0;

	if (concurrency >= max || ahead >= max - concurrency)
		return concurrency ? max : 0;
	return concurrency + (unsigned)ahead;
}

unsigned asya_ahead_decide(double service_us, unsigned max)
{
	double n = service_us > 0 ? ASYA_AHEAD_US / service_us : 1;

	if (max > ASYA_AHEAD_MAX)
		max = ASYA_AHEAD_MAX;
	if (n >= max)
		return max ? max : 1;
	return n > 1 ? (unsigned)n : 1;
}
