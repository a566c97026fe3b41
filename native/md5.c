/* SPDX-License-Identifier: MIT */
/*
 * MD5 by RFC 1321, as fast as one chain of dependent steps can be.
 *
 * Each of the 64 steps of a block needs the word that the step before it has made, so the time is
 * the number of instructions from one to the next: and, xor, add, rotate, add in rounds F and I,
 * one less in G and H. That is 288 for a block. Three things keep it there. Whatever does not need
 * the newest word, b, is added to a first. G is (b & d) | (c & ~d), and as no bit is set in both
 * halves they are added to a one by one. And `settled` forbids the compiler to add in another
 * order, as it otherwise does. The constants are read from a table: on AArch64 that is half an
 * instruction for each, where making one in a register takes two.
 */
#include <endian.h>
#include <string.h>

#include "md5.h"

static const uint32_t constants[64] = {
	0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613,
	0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193,
	0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d,
	0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed,
	0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122,
	0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa,
	0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244,
	0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
	0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb,
	0xeb86d391,
};

static inline uint32_t word(const unsigned char *block, unsigned n)
{
	uint32_t value;

	memcpy(&value, block + 4 * (size_t)n, sizeof(value));
	return le32toh(value);
}

static inline uint32_t rotated(uint32_t value, unsigned bits)
{
	return value << bits | value >> (32 - bits);
}

/* The value, as something that the compiler cannot take apart again. */
static inline uint32_t settled(uint32_t value)
{
	__asm__("" : "+r"(value));
	return value;
}

#define F(a, b, c, d) settled(a) + ((b & (c ^ d)) ^ d)
#define G(a, b, c, d) settled(a + (c & ~d)) + (b & d)
#define H(a, b, c, d) settled(a) + (b ^ (c ^ d))
#define I(a, b, c, d) settled(a) + ((b | ~d) ^ c)

/* The word of the block that a step takes. */
#define F_WORD(n) (n)
#define G_WORD(n) ((5 * (n) + 1) % 16)
#define H_WORD(n) ((3 * (n) + 5) % 16)
#define I_WORD(n) ((7 * (n)) % 16)

#define STEP(f, a, b, c, d, n, bits)                                                               \
	a += k[n] + word(block, f##_WORD(n));                                                      \
	a = rotated(f(a, b, c, d), bits) + b

#define FOUR(f, n, bits1, bits2, bits3, bits4)                                                     \
	STEP(f, a, b, c, d, n, bits1);                                                             \
	STEP(f, d, a, b, c, (n) + 1, bits2);                                                       \
	STEP(f, c, d, a, b, (n) + 2, bits3);                                                       \
	STEP(f, b, c, d, a, (n) + 3, bits4)

#define ROUND(f, n, ...)                                                                           \
	FOUR(f, (n), __VA_ARGS__);                                                                 \
	FOUR(f, (n) + 4, __VA_ARGS__);                                                             \
	FOUR(f, (n) + 8, __VA_ARGS__);                                                             \
	FOUR(f, (n) + 12, __VA_ARGS__)

static void take(uint32_t *restrict state, const unsigned char *restrict block, size_t blocks)
{
	const uint32_t *k = constants;
	uint32_t a = state[0], b = state[1], c = state[2], d = state[3];

	__asm__("" : "+r"(k)); /* or the constants would stand in the instructions */
	for (; blocks > 0; blocks--, block += UPD_MD5_BLOCK) {
		const uint32_t a0 = a, b0 = b, c0 = c, d0 = d;

		ROUND(F, 0, 7, 12, 17, 22);
		ROUND(G, 16, 5, 9, 14, 20);
		ROUND(H, 32, 4, 11, 16, 23);
		ROUND(I, 48, 6, 10, 15, 21);
		a += a0;
		b += b0;
		c += c0;
		d += d0;
	}
	state[0] = a;
	state[1] = b;
	state[2] = c;
	state[3] = d;
}

void upd_md5_init(struct upd_md5 *md5)
{
	*md5 = (struct upd_md5){ .state = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476 } };
}

void upd_md5_update(struct upd_md5 *md5, const void *buf, size_t len)
{
	const unsigned char *bytes = buf;
	const size_t used = (size_t)(md5->len % UPD_MD5_BLOCK);
	size_t whole;

	md5->len += len;
	if (used > 0) {
		const size_t room = UPD_MD5_BLOCK - used;
		const size_t part = len < room ? len : room;

		memcpy(md5->tail + used, bytes, part);
		if (part < room)
			return;
		take(md5->state, md5->tail, 1);
		bytes += part;
		len -= part;
	}
	whole = len / UPD_MD5_BLOCK;
	take(md5->state, bytes, whole);
	memcpy(md5->tail, bytes + whole * UPD_MD5_BLOCK, len % UPD_MD5_BLOCK);
}

static void put(unsigned char *at, uint64_t value, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		at[i] = (unsigned char)(value >> (8 * i));
}

void upd_md5_final(struct upd_md5 *md5, unsigned char *ret)
{
	static const unsigned char padding[UPD_MD5_BLOCK] = { 0x80 };
	const size_t used = (size_t)(md5->len % UPD_MD5_BLOCK);
	unsigned char bits[8];

	put(bits, md5->len * 8, sizeof(bits));
	upd_md5_update(md5, padding, (used < 56 ? 56 : 120) - used);
	upd_md5_update(md5, bits, sizeof(bits));
	for (unsigned i = 0; i < 4; i++)
		put(ret + 4 * (size_t)i, md5->state[i], 4);
}
