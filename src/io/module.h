// SPDX-License-Identifier: Apache-2.0
/* Parts of a program that are loaded only when they are asked for, because the libraries they need
 * cost memory. */
#pragma once
#include "base/error.h"

/* The address of `symbol` in the module `name` ("asya-aws.so"), which stays loaded. It is looked
 * for in `dir` alone if that is set (not NULL, not empty); else beside the program, in ../lib/asya
 * from there, and where it was installed. NULL with ASYA_FATAL. */
void *asya_module_symbol(const char *dir, const char *name, const char *symbol,
			 struct asya_error *err);
