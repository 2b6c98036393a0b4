// SPDX-License-Identifier: Apache-2.0
/* The bytes of deploy/schema/asyncactor.yaml; made by tools/embed at build time. */
#pragma once
#include <stddef.h>

extern const unsigned char asya_schema_asyncactor_text[];
extern const size_t asya_schema_asyncactor_size;
