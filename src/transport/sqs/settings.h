// SPDX-License-Identifier: Apache-2.0
/* The settings of the SQS transport: the program shows them, the module reads them. */
#pragma once
#include "core/config.h"

struct sqs_settings {
	struct asya_str endpoint, region, space, ca_file, modules;
	int64_t visibility_ms, wait_s;
	bool auto_create, fifo, fair;
};

enum { SQS_SETTINGS = 10 };

extern const struct asya_setting sqs_settings[SQS_SETTINGS];
