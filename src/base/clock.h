// SPDX-License-Identifier: Apache-2.0
/* The two clocks. Durations and timers use the monotonic one; what others see uses UTC. */
#pragma once
#include "base/str.h"

#include <stdint.h>

int64_t asya_clock_mono_ns(void);
int64_t asya_clock_mono_ms(void);
/* Since 1970 in UTC. */
int64_t asya_clock_wall_us(void);
int64_t asya_clock_wall_ms(void);

enum { ASYA_TIME_TEXT = 40 };
/* Writes `YYYY-MM-DDTHH:MM:SS.ffffffZ`. `out` has ASYA_TIME_TEXT bytes. Returns out. */
char *asya_time_write(char *out, int64_t wall_us);
/* Reads RFC 3339 (`2026-11-24T10:00:00Z`, fractions, `+01:00`). 0, or -1 if the text is not one. */
int asya_time_parse(int64_t *ret_wall_us, struct asya_str text);

/* Reads a Go duration (`1h2m3s`, `250ms`, `1.5s`, `0`), not negative. 0, or -1. */
int asya_duration_parse(int64_t *ret_ns, struct asya_str text);
/* Writes it as Go does (`5m0s`, `1.5s`, `250ms`). `out` has ASYA_TIME_TEXT bytes. Returns out. */
char *asya_duration_write(char *out, int64_t ns);
