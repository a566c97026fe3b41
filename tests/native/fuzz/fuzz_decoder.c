/* SPDX-License-Identifier: MIT */
/*
 * One decoder, FUZZED, fed with anything. The input: a memory limit, sizes of pieces of input and
 * of room, and the firmware. Whatever that is, how it is cut makes no difference, what the decoder
 * and its library allocate stays within the limit, and a firmware that unpacks is known by its
 * first bytes.
 */
#include <string.h>

#include "unpack.h"

#define SIZES 3U
#define CONTROL_BYTES (1 + 2 * SIZES)
#define MOST_IMAGE ((size_t)64 << 10) /* what is longer is not looked at to the end */
#define FEW_BYTES 16384U	      /* allocated before the limit is known to be too low */

static unsigned char room[2][MOST_IMAGE];

/* Up to 127 as it is, then in steps, so that small and large ones are both at hand. */
static size_t size_of(unsigned char byte)
{
	return byte < 128 ? byte : (size_t)(byte - 127) * 97;
}

static struct unpacked decode(const unsigned char *bytes, size_t len, const struct way *way,
			      struct image *ret)
{
	const struct unpacked unpacked = unpack(FUZZED, bytes, len, way, ret);
	const int status = unpacked.status;

	if (unpacked.is_refused)
		return unpacked;
	demand(status == UPD_DONE || status == UPD_MORE || status == UPD_FORMAT,
	       "there is one kind of failure");
	demand(unpacked.most_held <= (way->memory > FEW_BYTES ? way->memory : FEW_BYTES),
	       "the limit of memory is kept");
	return unpacked;
}

/* Libraries look ahead: damage behind the last byte that is wanted may be met or not. */
static int agree(int status, const struct image *image, int other_status, const struct image *other)
{
	if (status != other_status)
		return status != UPD_DONE && other_status != UPD_DONE;
	return status < 0 ||
	       (image->len == other->len && memcmp(image->bytes, other->bytes, image->len) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	count_allocations();
	return 0;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct image images[2] = { { room[0], MOST_IMAGE, 0 }, { room[1], MOST_IMAGE, 0 } };
	struct way way = { .in.count = SIZES, .out.count = SIZES };
	struct way whole = { .in = { { size }, 1 }, .out = { { MOST_IMAGE }, 1 } };
	int in_pieces, at_once;

	if (size < CONTROL_BYTES)
		return -1;
	way.memory = (uint64_t)(data[0] % 16 + 16) << (data[0] / 16 + 6); /* 1 KiB to 62 MiB */
	whole.memory = way.memory;
	for (unsigned i = 0; i < SIZES; i++) {
		way.in.sizes[i] = size_of(data[1 + i]);
		way.out.sizes[i] = size_of(data[1 + SIZES + i]);
	}
	way.in.sizes[0] += way.in.sizes[1] + way.in.sizes[2] == 0;
	way.out.sizes[0] += way.out.sizes[1] + way.out.sizes[2] == 0;
	data += CONTROL_BYTES;
	size -= CONTROL_BYTES;
	in_pieces = decode(data, size, &way, &images[0]).status;
	at_once = decode(data, size, &whole, &images[1]).status;
	demand(agree(in_pieces, &images[0], at_once, &images[1]), "pieces make no difference");
	if (at_once == UPD_DONE)
		demand(upd_decoder_sniff(data, size) == FUZZED, "what unpacks is known");
	return 0;
}
