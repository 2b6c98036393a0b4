// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/sha256.h"

/* The examples that NIST publishes with FIPS 180-4, and the empty message. */
static void sums_are_those_of_the_standard(void **state)
{
	static const struct {
		const char *text, *sum;
	} rows[] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
		{"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
		 "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
		 "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
	};
	char hex[ASYA_SHA256_HEX];

	(void)state;
	for (size_t i = 0; i < ASYA_ARRAY_SIZE(rows); i++)
		assert_string_equal(asya_sha256_hex(hex, asya_str_c(rows[i].text)), rows[i].sum);
}

static void a_million_letters_sum_up_in_any_pieces(void **state)
{
	static const unsigned char sum[] = {0xcd, 0xc7, 0x6e, 0x5c, 0x99, 0x14, 0xfb, 0x92,
					    0x81, 0xa1, 0xc7, 0xe2, 0x84, 0xd7, 0x3e, 0x67,
					    0xf1, 0x80, 0x9a, 0x48, 0xa4, 0x97, 0x20, 0x0e,
					    0x04, 0x6d, 0x39, 0xcc, 0xc7, 0x11, 0x2c, 0xd0};
	unsigned char out[ASYA_SHA256_BYTES];
	char letters[200];
	struct asya_sha256 h;

	(void)state;
	memset(letters, 'a', sizeof(letters));
	asya_sha256_init(&h);
	for (size_t left = 1000000, n = 0; left; left -= n) {
		n = (n * 7 + 1) % sizeof(letters);
		n = n < left ? n : left;
		asya_sha256_add(&h, letters, n);
	}
	asya_sha256_end(&h, out);
	assert_memory_equal(out, sum, sizeof(sum));
}

/* Each length around the ends of blocks and of the padding, chained so that one wrong sum shows. */
static void lengths_around_block_ends_agree_with_one_byte_at_a_time(void **state)
{
	unsigned char whole[ASYA_SHA256_BYTES], pieces[ASYA_SHA256_BYTES];
	unsigned char text[200];
	struct asya_sha256 h;

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (unsigned char)(i * 37);
	for (size_t n = 0; n <= sizeof(text); n++) {
		asya_sha256_init(&h);
		asya_sha256_add(&h, text, n);
		asya_sha256_end(&h, whole);
		asya_sha256_init(&h);
		for (size_t i = 0; i < n; i++)
			asya_sha256_add(&h, text + i, 1);
		asya_sha256_end(&h, pieces);
		assert_memory_equal(whole, pieces, sizeof(whole));
	}
}

/* RFC 4231, test cases 1, 2 and 6. */
static void hmac_is_that_of_the_standard(void **state)
{
	unsigned char sum[ASYA_SHA256_BYTES];
	char hex[ASYA_SHA256_HEX], key[131];

	(void)state;
	memset(key, 0x0b, 20);
	asya_hmac_sha256(sum, (struct asya_str){key, 20}, ASYA_STR("Hi There"));
	assert_string_equal(asya_sha256_hex_write(hex, sum),
			    "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	asya_hmac_sha256(sum, ASYA_STR("Jefe"), ASYA_STR("what do ya want for nothing?"));
	assert_string_equal(asya_sha256_hex_write(hex, sum),
			    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	memset(key, 0xaa, sizeof(key));
	asya_hmac_sha256(sum, (struct asya_str){key, sizeof(key)},
			 ASYA_STR("Test Using Larger Than Block-Size Key - Hash Key First"));
	assert_string_equal(asya_sha256_hex_write(hex, sum),
			    "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_are_those_of_the_standard),
		cmocka_unit_test(a_million_letters_sum_up_in_any_pieces),
		cmocka_unit_test(hmac_is_that_of_the_standard),
		cmocka_unit_test(lengths_around_block_ends_agree_with_one_byte_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
