/* SPDX-License-Identifier: MIT */
/*
 * Drives one decoder, for the tests:
 *
 *     decode sniff FILE                which format it is taken for
 *     decode once FILE MEMORY IN OUT   unpack to stdout; IN and OUT are sizes of pieces, 7,0,4096,
 *                                      taken in turn
 *     decode cut FILE MEMORY IN OUT    cut the file short at every length
 *     decode flip FILE MEMORY IN OUT   flip every bit
 *     decode starve FILE MEMORY IN OUT let the first allocation fail, the second, and so on;
 *                                      needs starve.c
 *
 * What came of it is on stderr. `cut` and `flip` count errors, images that are the same, and
 * others; `starve` counts failures. Ends with 1 if a promise of decoder.h is broken.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decoder.h"
#include "starve.h"

#define ROOM ((size_t)64 << 20)
#define MAX_SIZES 16U

struct file {
	unsigned char *bytes;
	size_t len;
};

struct pieces {
	size_t sizes[MAX_SIZES];
	unsigned count;
};

struct way {
	uint64_t memory;
	struct pieces in;
	struct pieces out;
};

static struct upd_error error;
static int is_refused; /* by open */
static uint64_t claimed;

/* --- what the decoder and its library have allocated ------------------------------------------ */

int is_counting;
long starve_after = -1;
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

/* --- one decoding ----------------------------------------------------------------------------- */

static void broken(const char *promise)
{
	fprintf(stderr, "the decoder broke a promise: %s\n", promise);
	exit(1);
}

/* An exact copy, so that a byte too far is seen by the sanitizer. */
static unsigned char *copy_of(const unsigned char *bytes, size_t len)
{
	unsigned char *copy = malloc(len);

	if (len > 0)
		memcpy(copy, bytes, len);
	return copy;
}

static int step(struct upd_decoder *decoder, struct upd_decoder_io *io, int is_last)
{
	int status;

	is_counting = 1;
	status = decoder->ops->decode(decoder, io, is_last, &error);
	is_counting = 0;
	if (status == UPD_MORE && io->in_len > 0 && io->out_room > 0)
		broken("it wants neither input nor room");
	if (status == UPD_MORE && is_last && io->out_room > 0)
		broken("it wants more than there is");
	if (status == UPD_DONE && (io->in_len > 0 || !is_last))
		broken("it is done before the end");
	if (status < 0 && (error.status != status || error.message[0] == '\0'))
		broken("a failure without a sentence");
	return status;
}

/* All pieces of input, each until it is used up, into all pieces of room. */
static int unpack(struct upd_decoder *decoder, struct file in, const struct way *way,
		  struct file *out)
{
	size_t at = 0;
	int status = UPD_MORE;
	unsigned in_turn = 0, out_turn = 0;

	out->len = 0;
	while (status == UPD_MORE && out->len < ROOM) {
		const size_t wanted = way->in.sizes[in_turn++ % way->in.count];
		const size_t len = in.len - at < wanted ? in.len - at : wanted;
		unsigned char *piece = copy_of(in.bytes + at, len);
		struct upd_decoder_io io = { .in = piece, .in_len = len };

		at += len;
		do {
			const size_t room = way->out.sizes[out_turn++ % way->out.count];
			unsigned char *image = malloc(room);

			io.out = image;
			io.out_room = room < ROOM - out->len ? room : ROOM - out->len;
			status = step(decoder, &io, at == in.len);
			memcpy(out->bytes + out->len, image, (size_t)(io.out - image));
			out->len += (size_t)(io.out - image);
			free(image);
		} while (status == UPD_MORE && io.out_room == 0 && out->len < ROOM);
		free(piece);
	}
	return status;
}

static int decode(struct file in, const struct way *way, struct file *out)
{
	enum upd_format format = upd_decoder_sniff(in.bytes, in.len);
	struct upd_decoder *decoder = NULL;
	int status;

	held = 0;
	most_held = 0;
	claimed = 0;
	is_refused = 1;
	out->len = 0;
	error = (struct upd_error){ 0 };
	if (format == UPD_FORMAT_RAW)
		return upd_fail(&error, UPD_FORMAT, "no format that is known");
	is_counting = 1;
	status = upd_decoder_open(format, way->memory, in.bytes, in.len, &decoder, &error);
	is_counting = 0;
	if (status != 0)
		return status;
	is_refused = 0;
	claimed = decoder->image_size;
	status = unpack(decoder, in, way, out);
	is_counting = 1;
	decoder->ops->close(decoder);
	is_counting = 0;
	if (held != 0)
		broken("something is left allocated");
	return status;
}

/* --- many of them ----------------------------------------------------------------------------- */

static void flip(struct file file, size_t bit)
{
	file.bytes[bit / 8] ^= (unsigned char)(1U << bit % 8);
}

/* 0: an error; 1: the same image; 2: another. Twice: whole, and in pieces. */
static unsigned outcome(struct file in, const struct way *way, struct file whole, struct file *out)
{
	static const struct way at_once = { 0, { { ROOM }, 1 }, { { 65536 }, 1 } };
	struct way other = at_once;
	unsigned outcomes[2];

	other.memory = way->memory;
	for (unsigned i = 0; i < 2; i++) {
		if (decode(in, i ? &other : way, out) != UPD_DONE)
			outcomes[i] = 0;
		else if (out->len == whole.len && memcmp(out->bytes, whole.bytes, whole.len) == 0)
			outcomes[i] = 1;
		else
			outcomes[i] = 2;
	}
	if (outcomes[0] != outcomes[1])
		broken("pieces make a difference");
	return outcomes[0];
}

static int try_all(struct file in, const struct way *way, int is_cut, struct file *out)
{
	unsigned long counts[3] = { 0 };
	struct file whole = { malloc(ROOM), 0 };
	/* exact, so that nothing behind a cut is read */
	struct file tried = { NULL, 0 };

	if (decode(in, way, &whole) != UPD_DONE)
		return 2;
	for (size_t i = 0; i < (is_cut ? in.len : in.len * 8); i++) {
		tried.len = is_cut ? i : in.len;
		tried.bytes = copy_of(in.bytes, tried.len);
		if (!is_cut)
			flip(tried, i);
		counts[outcome(tried, way, whole, out)]++;
		free(tried.bytes);
	}
	fprintf(stderr, "%lu %lu %lu\n", counts[0], counts[1], counts[2]);
	free(whole.bytes);
	return 0;
}

/* Only memory runs out, whenever it does; until it lasts. */
static int starve(struct file in, const struct way *way, struct file *out)
{
	long failures = 0;
	int status;

	do {
		starve_after = failures;
		status = decode(in, way, out);
		if (status == UPD_DONE)
			break;
		if (status != UPD_RESOURCES)
			broken("no memory is called something else");
		failures++;
	} while (failures < 1000);
	starve_after = -1;
	fprintf(stderr, "%ld\n", failures);
	return status == UPD_DONE ? 0 : 1;
}

/* --- the command line ------------------------------------------------------------------------- */

static struct file read_file(const char *path)
{
	struct file file = { malloc(ROOM), 0 };
	FILE *stream = fopen(path, "rb");

	if (!stream || !file.bytes)
		exit(2);
	file.len = fread(file.bytes, 1, ROOM, stream);
	fclose(stream);
	file.bytes = realloc(file.bytes, file.len ? file.len : 1);
	return file;
}

static struct pieces read_pieces(char *text)
{
	struct pieces pieces = { .count = 0 };

	for (char *word = strtok(text, ","); word && pieces.count < MAX_SIZES;
	     word = strtok(NULL, ","))
		pieces.sizes[pieces.count++] = strtoul(word, NULL, 10);
	return pieces;
}

static int perform(const char *what, struct file in, const struct way *way, struct file *out)
{
	int status;

	if (strcmp(what, "cut") == 0 || strcmp(what, "flip") == 0)
		return try_all(in, way, strcmp(what, "cut") == 0, out);
	if (strcmp(what, "starve") == 0)
		return starve(in, way, out);
	status = decode(in, way, out);
	fwrite(out->bytes, 1, out->len, stdout);
	fprintf(stderr, "%d %d %zu %llu %s\n", status, is_refused, most_held,
		(unsigned long long)claimed, error.message);
	return 0;
}

int main(int argc, char **argv)
{
	struct file in, out = { malloc(ROOM), 0 };
	struct way way;
	int code = 0;

	if (argc < 3 || !out.bytes)
		return 2;
	in = read_file(argv[2]);
	__sanitizer_install_malloc_and_free_hooks(count_malloc, count_free);
	if (strcmp(argv[1], "sniff") == 0) {
		fprintf(stderr, "%d\n", (int)upd_decoder_sniff(in.bytes, in.len));
	} else if (argc == 6) {
		way.memory = strtoull(argv[3], NULL, 10);
		way.in = read_pieces(argv[4]);
		way.out = read_pieces(argv[5]);
		code = perform(argv[1], in, &way, &out);
	} else {
		code = 2;
	}
	free(in.bytes);
	free(out.bytes);
	return code;
}
