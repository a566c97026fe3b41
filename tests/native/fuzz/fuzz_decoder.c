/* SPDX-License-Identifier: MIT */
/*
 * One decoder, FUZZED, fed with anything. The input: a memory limit, sizes of pieces of input and
 * of room, and the firmware. Whatever that is, how it is cut makes no difference, what the decoder
 * and its library allocate stays within the limit, and a firmware that unpacks is known by its
 * first bytes.
 */
#include <sanitizer/allocator_interface.h>
#include <stdlib.h>
#include <string.h>

#include "decoder.h"

#define SIZES 3U
#define CONTROL_BYTES (1 + 2 * SIZES)
#define MOST_IMAGE ((size_t)64 << 10) /* what is longer is not looked at to the end */
#define FEW_BYTES 16384U	      /* allocated before the limit is known to be too low */

struct pieces {
	size_t in[SIZES];
	size_t out[SIZES];
};

struct result {
	int status; /* UPD_MORE: the image is longer than MOST_IMAGE */
	size_t len;
	uint64_t sum;
};

static _Thread_local int is_counting;
static size_t held, most_held;

static void count_malloc(const volatile void *block, size_t size)
{
	(void)block;
	if (!is_counting)
		return;
	held += size;
	if (held > most_held)
		most_held = held;
}

static void count_free(const volatile void *block)
{
	if (is_counting && block)
		held -= __sanitizer_get_allocated_size(block);
}

static void demand(int is_kept)
{
	if (!is_kept)
		abort();
}

/* Up to 127 as it is, then in steps, so that small and large ones are both at hand. */
static size_t size_of(unsigned char byte)
{
	return byte < 128 ? byte : (size_t)(byte - 127) * 97;
}

static int step(struct upd_decoder *decoder, struct upd_decoder_io *io, int is_last)
{
	struct upd_error error = { 0 };
	int status;

	is_counting = 1;
	status = decoder->ops->decode(decoder, io, is_last, &error);
	is_counting = 0;
	demand(status == UPD_DONE || status == UPD_MORE || status == UPD_FORMAT);
	demand(status != UPD_MORE || (io->in_len == 0 && !is_last) || io->out_room == 0);
	demand(status != UPD_DONE || (io->in_len == 0 && is_last));
	demand(status != UPD_FORMAT || (error.status == status && error.message[0] != '\0'));
	return status;
}

/* One piece of input, whole; exact copies, so that a byte too far is seen. */
static int feed(struct upd_decoder *decoder, const unsigned char *bytes, size_t len, int is_last,
		const struct pieces *pieces, unsigned *turn, struct result *result)
{
	unsigned char *in = malloc(len);
	struct upd_decoder_io io = { .in = in, .in_len = len };
	int status;

	if (len > 0)
		memcpy(in, bytes, len);
	do {
		const size_t left = MOST_IMAGE - result->len;
		const size_t wanted = pieces->out[(*turn)++ % SIZES];
		unsigned char *out = malloc(wanted);

		io.out = out;
		io.out_room = wanted < left ? wanted : left;
		status = step(decoder, &io, is_last);
		result->len += (size_t)(io.out - out);
		for (const unsigned char *at = out; at < io.out; at++)
			result->sum = result->sum * 1099511628211U + *at + 1;
		free(out);
	} while (status == UPD_MORE && io.out_room == 0 && result->len < MOST_IMAGE);
	free(in);
	return status;
}

static struct result decode(const unsigned char *bytes, size_t len, uint64_t memory,
			    const struct pieces *pieces)
{
	struct result result = { .status = UPD_MORE };
	struct upd_decoder *decoder = NULL;
	struct upd_error error = { 0 };
	unsigned in_turn = 0, out_turn = 0;
	size_t at = 0;

	held = 0;
	most_held = 0;
	is_counting = 1;
	result.status = upd_decoder_open(FUZZED, memory, bytes, len, &decoder, &error);
	is_counting = 0;
	demand(result.status == 0 ? decoder != NULL : decoder == NULL && error.message[0]);
	if (result.status != 0)
		return result;
	do {
		const size_t wanted = pieces->in[in_turn++ % SIZES];
		const size_t piece = len - at < wanted ? len - at : wanted;

		at += piece;
		result.status = feed(decoder, bytes + at - piece, piece, at == len, pieces,
				     &out_turn, &result);
	} while (result.status == UPD_MORE && result.len < MOST_IMAGE);
	is_counting = 1;
	decoder->ops->close(decoder);
	is_counting = 0;
	demand(held == 0);
	demand(most_held <= (memory > FEW_BYTES ? memory : FEW_BYTES));
	return result;
}

static void compare(const struct result *a, const struct result *b)
{
	/* libraries look ahead: damage behind the last byte that is wanted may be met or not */
	const int is_a_long = a->status == UPD_MORE, is_b_long = b->status == UPD_MORE;

	demand((a->status == UPD_DONE) == (b->status == UPD_DONE));
	if (a->status == UPD_DONE || (is_a_long && is_b_long))
		demand(a->len == b->len && a->sum == b->sum);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	__sanitizer_install_malloc_and_free_hooks(count_malloc, count_free);
	return 0;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct pieces pieces, whole;
	struct result in_pieces, at_once;
	uint64_t memory;

	if (size < CONTROL_BYTES)
		return -1;
	memory = (uint64_t)(data[0] % 16 + 16) << (data[0] / 16 + 6); /* 1 KiB to 62 MiB */
	for (unsigned i = 0; i < SIZES; i++) {
		pieces.in[i] = size_of(data[1 + i]);
		pieces.out[i] = size_of(data[1 + SIZES + i]);
		whole.in[i] = size;
		whole.out[i] = MOST_IMAGE;
	}
	pieces.in[0] += pieces.in[1] + pieces.in[2] == 0;
	pieces.out[0] += pieces.out[1] + pieces.out[2] == 0;
	data += CONTROL_BYTES;
	size -= CONTROL_BYTES;
	in_pieces = decode(data, size, memory, &pieces);
	at_once = decode(data, size, memory, &whole);
	compare(&in_pieces, &at_once);
	if (at_once.status == UPD_DONE)
		demand(upd_decoder_sniff(data, size) == FUZZED);
	return 0;
}
