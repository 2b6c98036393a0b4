// SPDX-License-Identifier: Apache-2.0
/*
 * SHA-256 (FIPS 180-4), for names that outsiders must not be able to make collide, and HMAC with it
 * (RFC 2104), for signing requests. Nothing here branches or indexes by the bytes it is given; what
 * was made must not be compared with memcmp to check somebody else's. It is here because a program
 * that needs nothing else of a cryptography library would pay 3.5 MiB of memory for it.
 */
#pragma once
#include "base/str.h"

enum { ASYA_SHA256_BYTES = 32, ASYA_SHA256_HEX = 65 };

struct asya_sha256 {
	uint32_t state[8];
	uint64_t bytes;
	unsigned char block[64];
};

void asya_sha256_init(struct asya_sha256 *h);
void asya_sha256_add(struct asya_sha256 *h, const void *p, size_t n);
/* Once; then the struct must be initialised again. */
void asya_sha256_end(struct asya_sha256 *h, unsigned char out[ASYA_SHA256_BYTES]);

/* Of one view, as 64 lower case hexadecimal digits and a NUL. Returns out. */
char *asya_sha256_hex(char out[ASYA_SHA256_HEX], struct asya_str s);
/* A sum as 64 lower case hexadecimal digits and a NUL. Returns out. */
char *asya_sha256_hex_write(char out[ASYA_SHA256_HEX], const unsigned char sum[ASYA_SHA256_BYTES]);

/* HMAC-SHA256; `out` may be the bytes of `key`. */
void asya_hmac_sha256(unsigned char out[ASYA_SHA256_BYTES], struct asya_str key,
		      struct asya_str text);
