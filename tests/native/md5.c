/* SPDX-License-Identifier: MIT */
/*
 * Drives md5.c, for the tests: `md5 PIECE...` hashes standard input in pieces of those lengths,
 * over and over; `md5 long` lets 2^32 bytes of the same go first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "md5.h"

#define MAX ((size_t)8 << 20)

int main(int argc, char **argv)
{
	static unsigned char in[MAX];
	unsigned char md5[UPD_MD5_SIZE];
	const int is_long = argc > 1 && strcmp(argv[1], "long") == 0;
	size_t len = fread(in, 1, MAX, stdin), at = 0;
	struct upd_md5 state;

	upd_md5_init(&state);
	for (int i = 0; is_long && i < 1 << 9; i++) /* 2^32 bytes and what comes behind */
		upd_md5_update(&state, in, MAX);
	for (int i = 1; at < len; i = i + 1 < argc ? i + 1 : 1) {
		size_t piece = is_long || argc < 2 ? len : strtoul(argv[i], NULL, 10);

		if (piece > len - at)
			piece = len - at;
		/* an exact copy, so that one byte too far is seen by the sanitizer */
		unsigned char *copy = malloc(piece ? piece : 1);

		memcpy(copy, in + at, piece);
		upd_md5_update(&state, copy, piece);
		free(copy);
		at += piece;
	}
	upd_md5_final(&state, md5);
	for (unsigned i = 0; i < UPD_MD5_SIZE; i++)
		printf("%02x", md5[i]);
	printf("\n");
	return 0;
}
