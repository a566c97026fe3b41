/* SPDX-License-Identifier: MIT */
/*
 * Unpacks a firmware by one decoder, in pieces of input and of room whose sizes are told, and asks
 * at each step whether decoder.h keeps its promises. One that it breaks aborts with a sentence.
 */
#ifndef UNPACK_H
#define UNPACK_H

#include <stddef.h>
#include <stdint.h>

#include "decoder.h"

#define MAX_SIZES 16U

/* Sizes, taken in turn; one at least is not 0. */
struct pieces {
	size_t sizes[MAX_SIZES];
	unsigned count;
};

struct way {
	uint64_t memory;
	struct pieces in;
	struct pieces out;
};

struct image {
	unsigned char *bytes;
	size_t room;
	size_t len;
};

struct unpacked {
	int status;	  /* UPD_MORE: the image is longer than the room for it */
	int is_refused;	  /* by open */
	uint64_t claimed; /* what the header says of the image's size */
	size_t most_held; /* allocated at once, by the decoder and its library */
	struct upd_error error;
};

void demand(int is_kept, const char *promise);

/* An exact copy, so that a byte too far is seen by the sanitizer. */
unsigned char *copy_of(const unsigned char *bytes, size_t len);

/* Once, before anything is unpacked. */
void count_allocations(void);

struct unpacked unpack(enum upd_format format, const unsigned char *bytes, size_t len,
		       const struct way *way, struct image *ret);

#endif
