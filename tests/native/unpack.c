/* SPDX-License-Identifier: MIT */
/* One decoding: pieces are exact copies, and whatever is allocated meanwhile is counted. */
#include "unpack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "starve.h"

_Thread_local int is_counting;
static size_t held, most_held;

void demand(int is_kept, const char *promise)
{
	if (is_kept)
		return;
	fprintf(stderr, "the decoder broke a promise: %s\n", promise);
	abort();
}

unsigned char *copy_of(const unsigned char *bytes, size_t len)
{
	unsigned char *copy = malloc(len);

	if (len > 0)
		memcpy(copy, bytes, len);
	return copy;
}

/* --- what the decoder and its library have allocated ------------------------------------------ */

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

void count_allocations(void)
{
	__sanitizer_install_malloc_and_free_hooks(count_malloc, count_free);
}

/* --- one decoding ----------------------------------------------------------------------------- */

struct unpacking {
	struct upd_decoder *decoder;
	const struct way *way;
	unsigned in_turn;
	unsigned out_turn;
	struct image *image;
	struct upd_error *reterr;
};

static void demand_sentence(int status, const struct upd_error *error)
{
	demand(status >= 0 || (error->status == status && error->message[0] != '\0'),
	       "a failure has a sentence");
}

static int step(struct unpacking *unpacking, struct upd_decoder_io *io, int is_last)
{
	struct upd_decoder *decoder = unpacking->decoder;
	int status;

	is_counting = 1;
	status = decoder->ops->decode(decoder, io, is_last, unpacking->reterr);
	is_counting = 0;
	demand(status != UPD_MORE || io->in_len == 0 || io->out_room == 0,
	       "it goes on until the input is used up or the room is");
	demand(status != UPD_MORE || !is_last || io->out_room == 0,
	       "it wants no more input than there is");
	demand(status != UPD_DONE || (io->in_len == 0 && is_last), "it is done at the end");
	demand_sentence(status, unpacking->reterr);
	return status;
}

/* One piece of input, until it is used up, into pieces of room. */
static int feed(struct unpacking *unpacking, struct upd_decoder_io *io, int is_last)
{
	const struct pieces *rooms = &unpacking->way->out;
	struct image *image = unpacking->image;
	int status;

	do {
		const size_t left = image->room - image->len;
		const size_t wanted = rooms->sizes[unpacking->out_turn++ % rooms->count];
		unsigned char *piece = malloc(wanted);

		io->out = piece;
		io->out_room = wanted < left ? wanted : left;
		status = step(unpacking, io, is_last);
		memcpy(image->bytes + image->len, piece, (size_t)(io->out - piece));
		image->len += (size_t)(io->out - piece);
		free(piece);
	} while (status == UPD_MORE && io->out_room == 0 && image->len < image->room);
	return status;
}

static int feed_all(struct unpacking *unpacking, const unsigned char *bytes, size_t len)
{
	const struct pieces *pieces = &unpacking->way->in;
	int status = UPD_MORE;
	size_t at = 0;

	while (status == UPD_MORE && unpacking->image->len < unpacking->image->room) {
		const size_t wanted = pieces->sizes[unpacking->in_turn++ % pieces->count];
		const size_t taken = len - at < wanted ? len - at : wanted;
		unsigned char *piece = copy_of(bytes + at, taken);
		struct upd_decoder_io io = { .in = piece, .in_len = taken };

		at += taken;
		status = feed(unpacking, &io, at == len);
		free(piece);
	}
	return status;
}

struct unpacked unpack(enum upd_format format, const unsigned char *bytes, size_t len,
		       const struct way *way, struct image *ret)
{
	struct unpacked unpacked = { .is_refused = 1 };
	struct unpacking unpacking = { .way = way, .image = ret, .reterr = &unpacked.error };

	held = 0;
	most_held = 0;
	ret->len = 0;
	is_counting = 1;
	unpacked.status = upd_decoder_open(format, way->memory, bytes, len, &unpacking.decoder,
					   &unpacked.error);
	is_counting = 0;
	demand((unpacked.status == 0) == (unpacking.decoder != NULL), "refused is not opened");
	demand_sentence(unpacked.status, &unpacked.error);
	if (unpacking.decoder) {
		unpacked.is_refused = 0;
		unpacked.claimed = unpacking.decoder->image_size;
		unpacked.status = feed_all(&unpacking, bytes, len);
		is_counting = 1;
		unpacking.decoder->ops->close(unpacking.decoder);
		is_counting = 0;
	}
	unpacked.most_held = most_held;
	demand(held == 0, "nothing is left allocated");
	return unpacked;
}
