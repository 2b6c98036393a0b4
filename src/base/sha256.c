// SPDX-License-Identifier: Apache-2.0
#include "base/sha256.h"

#include <endian.h>

enum { BLOCK = 64, LENGTH_AT = 56 };

/* The fractional parts of the cube roots of the first 64 primes (FIPS 180-4, 4.2.2). */
static const uint32_t k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2};

static uint32_t turn(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

/* The message schedule (6.2.2, step 1). */
static void expand(uint32_t w[64], const unsigned char *block)
{
	for (int t = 0; t < 16; t++) {
		memcpy(&w[t], block + 4 * t, 4);
		w[t] = be32toh(w[t]);
	}
	for (int t = 16; t < 64; t++) {
		uint32_t a = w[t - 15], b = w[t - 2];

		w[t] = (turn(b, 17) ^ turn(b, 19) ^ b >> 10) + w[t - 7] +
		       (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[t - 16];
	}
}

/* s holds a to h of the standard. */
static void compress(uint32_t state[8], const unsigned char *block)
{
	uint32_t w[64], s[8];

	expand(w, block);
	memcpy(s, state, sizeof(s));
	for (int t = 0; t < 64; t++) {
		uint32_t t1 = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) +
			      ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[t] + w[t];
		uint32_t t2 = (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) +
			      ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

		memmove(s + 1, s, 7 * sizeof(*s));
		s[4] += t1;
		s[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		state[i] += s[i];
}

void asya_sha256_init(struct asya_sha256 *h)
{
	/* the fractional parts of the square roots of the first eight primes (5.3.3) */
	static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
					  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

	memcpy(h->state, start, sizeof(start));
	h->bytes = 0;
}

void asya_sha256_add(struct asya_sha256 *h, const void *p, size_t n)
{
	size_t have = h->bytes % BLOCK, part = BLOCK - have;
	const unsigned char *from = p;

	if (!n)
		return;
	h->bytes += n;
	if (n >= part) {
		memcpy(h->block + have, from, part);
		compress(h->state, h->block);
		for (from += part, n -= part; n >= BLOCK; from += BLOCK, n -= BLOCK)
			compress(h->state, from);
		have = 0;
	}
	memcpy(h->block + have, from, n);
}

void asya_sha256_end(struct asya_sha256 *h, unsigned char out[ASYA_SHA256_BYTES])
{
	static const unsigned char padding[BLOCK] = {0x80};
	uint64_t bits = htobe64(h->bytes * 8);
	size_t have = h->bytes % BLOCK;

	asya_sha256_add(h, padding, have < LENGTH_AT ? LENGTH_AT - have : BLOCK + LENGTH_AT - have);
	asya_sha256_add(h, &bits, sizeof(bits));
	for (int i = 0; i < 8; i++) {
		uint32_t word = htobe32(h->state[i]);

		memcpy(out + 4 * i, &word, sizeof(word));
	}
}

char *asya_sha256_hex_write(char out[ASYA_SHA256_HEX], const unsigned char sum[ASYA_SHA256_BYTES])
{
	for (size_t i = 0; i < ASYA_SHA256_BYTES; i++) {
		out[2 * i] = "0123456789abcdef"[sum[i] >> 4];
		out[2 * i + 1] = "0123456789abcdef"[sum[i] & 15];
	}
	out[2 * ASYA_SHA256_BYTES] = '\0';
	return out;
}

char *asya_sha256_hex(char out[ASYA_SHA256_HEX], struct asya_str s)
{
	unsigned char sum[ASYA_SHA256_BYTES];
	struct asya_sha256 h;

	asya_sha256_init(&h);
	asya_sha256_add(&h, s.p, s.n);
	asya_sha256_end(&h, sum);
	return asya_sha256_hex_write(out, sum);
}

static void hmac_pass(unsigned char out[ASYA_SHA256_BYTES], const unsigned char key[BLOCK],
		      unsigned char with, const void *p, size_t n)
{
	unsigned char pad[BLOCK];
	struct asya_sha256 h;

	for (int i = 0; i < BLOCK; i++)
		pad[i] = key[i] ^ with;
	asya_sha256_init(&h);
	asya_sha256_add(&h, pad, BLOCK);
	asya_sha256_add(&h, p, n);
	asya_sha256_end(&h, out);
}

void asya_hmac_sha256(unsigned char out[ASYA_SHA256_BYTES], struct asya_str key,
		      struct asya_str text)
{
	unsigned char block[BLOCK] = {0}, inner[ASYA_SHA256_BYTES];
	struct asya_sha256 h;

	if (key.n > BLOCK) {
		asya_sha256_init(&h);
		asya_sha256_add(&h, key.p, key.n);
		asya_sha256_end(&h, block);
	} else if (key.n) {
		memcpy(block, key.p, key.n);
	}
	hmac_pass(inner, block, 0x36, text.p, text.n);
	hmac_pass(out, block, 0x5c, inner, sizeof(inner));
}
