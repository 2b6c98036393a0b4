// SPDX-License-Identifier: Apache-2.0
/* The bytes of runtimes/python/asya_runtime.py; made by tools/embed at build time. */
#pragma once
#include <stddef.h>

extern const unsigned char asya_shim_text[];
extern const size_t asya_shim_size;
