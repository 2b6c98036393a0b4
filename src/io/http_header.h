// SPDX-License-Identifier: Apache-2.0
/* One header of a request. */
#pragma once
#include "base/str.h"

struct asya_http_header {
	struct asya_str name, value;
};
