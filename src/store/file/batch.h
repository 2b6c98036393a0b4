// SPDX-License-Identifier: Apache-2.0
/* The part of the file store that runs in a thread: writes several puts so that they are durable
 * together. */
#pragma once
#include "store/file/file.h"

/* Directories below the root; it holds no objects, as no key component begins with a dot. */
#define ASYA_FILE_TEMPORARY ".asya-tmp"

struct asya_file_place {
	int root;       /* the open directory */
	int temporary;  /* the open directory of temporary files */
	char stem[17];  /* what only this store's temporary files begin with */
	uint64_t count; /* temporary files made so far */
};

/* Sets failed_step and errnum of each put that failed. */
void asya_file_batch_write(struct asya_file_place *place, struct asya_file_put *const *puts,
			   size_t n);
