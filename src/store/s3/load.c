// SPDX-License-Identifier: Apache-2.0
#include "io/module.h"
#include "store/s3/s3.h"

const struct asya_s3_ops *asya_s3_load(const char *dir, struct asya_error *err)
{
	return asya_module_symbol(dir, "asya-aws.so", "asya_s3_backend_ops", err);
}
