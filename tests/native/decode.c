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
 * others; `starve` counts failures. A broken promise of decoder.h aborts (unpack.h).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "starve.h"
#include "unpack.h"

#define ROOM ((size_t)64 << 20)

struct file {
	unsigned char *bytes;
	size_t len;
};

static struct unpacked said;
long starve_after = -1;

static int decode(struct file in, const struct way *way, struct image *out)
{
	const enum upd_format format = upd_decoder_sniff(in.bytes, in.len);

	if (format != UPD_FORMAT_RAW) {
		said = unpack(format, in.bytes, in.len, way, out);
		return said.status;
	}
	said = (struct unpacked){ .is_refused = 1 };
	said.status = upd_fail(&said.error, UPD_FORMAT, "no format that is known");
	out->len = 0;
	return said.status;
}

/* --- many of them ----------------------------------------------------------------------------- */

static void flip(struct file file, size_t bit)
{
	file.bytes[bit / 8] ^= (unsigned char)(1U << bit % 8);
}

/* 0: an error; 1: the same image; 2: another. Twice: whole, and in pieces. */
static unsigned outcome(struct file in, const struct way *way, const struct image *whole,
			struct image *out)
{
	static const struct way at_once = { 0, { { ROOM }, 1 }, { { 65536 }, 1 } };
	struct way other = at_once;
	unsigned outcomes[2];

	other.memory = way->memory;
	for (unsigned i = 0; i < 2; i++) {
		if (decode(in, i ? &other : way, out) != UPD_DONE)
			outcomes[i] = 0;
		else if (out->len == whole->len &&
			 memcmp(out->bytes, whole->bytes, whole->len) == 0)
			outcomes[i] = 1;
		else
			outcomes[i] = 2;
	}
	demand(outcomes[0] == outcomes[1], "pieces make no difference");
	return outcomes[0];
}

static int try_all(struct file in, const struct way *way, int is_cut, struct image *out)
{
	unsigned long counts[3] = { 0 };
	struct image whole = { malloc(ROOM), ROOM, 0 };
	/* exact, so that nothing behind a cut is read */
	struct file tried = { NULL, 0 };

	if (decode(in, way, &whole) != UPD_DONE)
		return 2;
	for (size_t i = 0; i < (is_cut ? in.len : in.len * 8); i++) {
		tried.len = is_cut ? i : in.len;
		tried.bytes = copy_of(in.bytes, tried.len);
		if (!is_cut)
			flip(tried, i);
		counts[outcome(tried, way, &whole, out)]++;
		free(tried.bytes);
	}
	fprintf(stderr, "%lu %lu %lu\n", counts[0], counts[1], counts[2]);
	free(whole.bytes);
	return 0;
}

/* Only memory runs out, whenever it does; until it lasts. */
static int starve(struct file in, const struct way *way, struct image *out)
{
	long failures = 0;
	int status;

	do {
		starve_after = failures;
		status = decode(in, way, out);
		if (status == UPD_DONE)
			break;
		demand(status == UPD_RESOURCES, "no memory is called so");
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

static int perform(const char *what, struct file in, const struct way *way, struct image *out)
{
	int status;

	if (strcmp(what, "cut") == 0 || strcmp(what, "flip") == 0)
		return try_all(in, way, strcmp(what, "cut") == 0, out);
	if (strcmp(what, "starve") == 0)
		return starve(in, way, out);
	status = decode(in, way, out);
	fwrite(out->bytes, 1, out->len, stdout);
	fprintf(stderr, "%d %d %zu %llu %s\n", status, said.is_refused, said.most_held,
		(unsigned long long)said.claimed, said.error.message);
	return 0;
}

int main(int argc, char **argv)
{
	struct image out = { malloc(ROOM), ROOM, 0 };
	struct file in;
	struct way way;
	int code = 0;

	if (argc < 3 || !out.bytes)
		return 2;
	in = read_file(argv[2]);
	count_allocations();
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
