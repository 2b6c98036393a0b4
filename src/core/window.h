// SPDX-License-Identifier: Apache-2.0
/* How many messages a sidecar holds at a time, and how many of them a handler. Pure. */
#pragma once

/* What its handlers work on, and beyond that no more than they can take within
 * ASYA_WINDOW_AHEAD_MS: slow handlers must not hoard messages that other pods could take, quick
 * ones must not wait for the queue. `concurrency`: requests that the handler takes side by side (0:
 * it is not ready); `service_us`: what one takes, 0 if it is not known yet. At most `max`, at least
 * `concurrency` (if `max` allows). */
enum { ASYA_WINDOW_AHEAD_MS = 50 };

unsigned asya_window_decide(unsigned concurrency, double service_us, unsigned max);

/* How many requests a connection carries that are not answered, the one at work among them: what
 * the handler can do within ASYA_AHEAD_US, since what was sent cannot be taken back. `service_us`
 * as above; at most `max`, what the runtime allows, and ASYA_AHEAD_MAX; at least 1. */
enum { ASYA_AHEAD_US = 2000, ASYA_AHEAD_MAX = 32 };

unsigned asya_ahead_decide(double service_us, unsigned max);
