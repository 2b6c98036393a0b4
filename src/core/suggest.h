// SPDX-License-Identifier: Apache-2.0
/* Did you mean? */
#pragma once
#include "base/str.h"

/* The index of the word that `typed` most likely was meant to be: equal but for case, or at most a
 * third of its letters (and at most 3) added, dropped, changed or swapped. -1: none is near. Words
 * over 64 bytes are near to nothing. */
int asya_suggest(struct asya_str typed, const struct asya_str *words, size_t n);
