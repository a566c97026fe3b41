/* SPDX-License-Identifier: MIT */
/*
 * Writes an image to flash.c's flash, through the sink's table of operations, or reads it through
 * the source's: `burn key=value ...`, and what became of it on stdout. `until` is the last step
 * before the sink is closed; `from` is the position that an earlier run had settled.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flash.h"
#include "ring.h"
#include "sink.h"
#include "source.h"

#define PIECE_LIMIT (64U * UPD_ALIGNMENT)

static unsigned char piece[PIECE_LIMIT] __attribute__((aligned(UPD_ALIGNMENT)));

static struct {
	uint64_t size;
	uint64_t announced; /* to blank; like size unless set */
	uint64_t piece;
	uint64_t from;
	uint64_t is_source, skips; /* to read from the flash, and where to begin */
	const char *until;
} orders = { .size = 100000, .announced = UINT64_MAX, .piece = UPD_ALIGNMENT, .until = "commit" };

static struct upd_sink *sink; /* NULL: not open */

static int take(struct upd_options *options, const char *key, const char *value)
{
	const uint64_t number = strtoull(value, NULL, 10);
	const struct {
		const char *key;
		uint64_t *at;
	} rows[] = {
		{ "size", &orders.size },
		{ "announced", &orders.announced },
		{ "piece", &orders.piece },
		{ "from", &orders.from },
		{ "source", &orders.is_source },
		{ "skips", &orders.skips },
		{ "options_size", &options->size },
		{ "image_size", &options->image_size },
		{ "device_number", &options->device_number },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(key, rows[i].key) == 0)
			return *rows[i].at = number, 1;
	if (strcmp(key, "until") == 0)
		return orders.until = value, 1;
	if (strcmp(key, "device") == 0)
		return options->device = options->source = value, 1;
	if (strcmp(key, "read_back") == 0)
		return options->read_back = (int)number, 1;
	if (strcmp(key, "skip_identical") == 0)
		return options->skip_identical = (int)number, 1;
	if (strcmp(key, "decode") == 0)
		return options->decode = (int)number, 1;
	return flash_take(key, value);
}

static void tell(void)
{
	if (sink)
		printf("capacity %" PRIu64 "\nhead_size %zu\nwritten %" PRIu64 "\nverified %" PRIu64
		       "\nsettled %" PRIu64 "\nidentical %" PRIu64 "\nbad_blocks %u\n",
		       sink->capacity, sink->head_size, sink->written, sink->verified,
		       sink->settled, sink->identical, sink->bad_blocks);
	flash_tell(orders.size);
}

/* --- the sink --------------------------------------------------------------------------------- */

static void make(unsigned char *buf, size_t len, uint64_t offset)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = flash_image(offset + i);
}

/* As resume.c does it: the medium is read again, and what it holds decides. */
static int go_on(struct upd_error *error)
{
	static unsigned char head[1U << 20], wanted[PIECE_LIMIT];
	uint64_t offset = sink->head_size;

	while (offset < orders.from) {
		const uint64_t left = orders.from - offset;
		const size_t len = (size_t)(left < orders.piece ? left : orders.piece);
		const int status = sink->ops->read(sink, piece, len, offset, error);

		make(wanted, len, offset);
		if (status != 0)
			return status;
		if (memcmp(piece, wanted, len) != 0)
			return upd_fail(error, UPD_READ_BACK, "the prefix is another");
		offset += len;
	}
	make(head, sink->head_size, 0);
	return sink->ops->resume(sink, orders.from, head, error);
}

static int write_all(struct upd_error *error)
{
	uint64_t offset = orders.from;
	int status = 0;

	while (status == 0 && offset < orders.size) {
		const uint64_t left = orders.size - offset;
		const size_t len = (size_t)(left < orders.piece ? left : orders.piece);

		make(piece, len, offset);
		status = sink->ops->write(sink, piece, len, error);
		offset += len;
	}
	/* the end of the image, told by an empty buffer, as a decoder may */
	return status ? status : sink->ops->write(sink, piece, 0, error);
}

static int is_last(const char *step)
{
	return strcmp(orders.until, step) == 0;
}

static int burn(struct upd_error *error)
{
	int status = orders.from ? go_on(error) : 0;

	if (status != 0 || is_last("open"))
		return status;
	status = sink->ops->blank(
		sink, orders.announced == UINT64_MAX ? orders.size : orders.announced, error);
	if (status != 0 || is_last("blank"))
		return status;
	status = write_all(error);
	if (status != 0 || is_last("write"))
		return status;
	status = sink->ops->settle(sink, error);
	if (status != 0 || is_last("settle"))
		return status;
	return sink->ops->commit(sink, error);
}

static int use_sink(const struct upd_options *options, struct upd_error *error)
{
	struct upd_sink *open_sink;
	int status = upd_sink_mtd_open(options, &sink, error);

	if (status != 0)
		return status;
	status = burn(error);
	printf("identity %" PRIu64 "\n", sink->identity);
	open_sink = sink;
	tell();
	sink = NULL;
	open_sink->ops->close(open_sink);
	return status;
}

/* --- the source ------------------------------------------------------------------------------- */

static int read_all(struct upd_source *source, struct upd_error *error)
{
	uint64_t offset = orders.skips;
	int is_same = 1, status;
	size_t len;

	do {
		status = source->ops->read(source, piece, (size_t)orders.piece, &len, error);
		for (size_t i = 0; status == 0 && i < len; i++)
			is_same &= piece[i] == flash_image(offset + i);
		offset += status == 0 ? len : 0;
	} while (status == 0 && len == orders.piece);
	printf("read %" PRIu64 "\nsame %d\n", offset, is_same);
	return status;
}

static int use_source(const struct upd_options *options, struct upd_error *error)
{
	struct upd_source *source;
	int status = upd_source_mtd_open(options, NULL, &source, error);

	if (status != 0)
		return status;
	printf("source_size %" PRIu64 "\n", source->size);
	if (orders.skips)
		status = source->ops->seek(source, orders.skips, "", error);
	if (status == 0)
		status = read_all(source, error);
	source->ops->close(source);
	return status;
}

int main(int argc, char **argv)
{
	struct upd_options options = { .device = FLASH_PATH, .source = FLASH_PATH, .read_back = 1 };
	struct upd_error error = { 0 };
	int status;

	for (int i = 1; i < argc; i++) {
		char *value = strchr(argv[i], '=');

		if (value)
			*value++ = '\0';
		if (!value || !take(&options, argv[i], value) || orders.piece > PIECE_LIMIT)
			return 2;
	}
	flash_begin(tell);
	status = orders.is_source ? use_source(&options, &error) : use_sink(&options, &error);
	printf("status %d\nos_errno %d\noffset %" PRIu64 "\nmessage %s\n", status, error.os_errno,
	       error.offset, error.message);
	tell();
	return status != error.status;
}
