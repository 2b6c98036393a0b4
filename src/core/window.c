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
