/* SPDX-License-Identifier: MIT */
/*
 * Fills the volume of volume.c through the sink's table of operations, for the tests: `fill
 * key=value ...`, and what became of it on stdout. `until` is the last step before the sink is
 * closed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ring.h"
#include "sink.h"
#include "volume.h"

#define PIECE_LIMIT (64U * UPD_ALIGNMENT)

static unsigned char piece[PIECE_LIMIT] __attribute__((aligned(UPD_ALIGNMENT)));

struct orders {
	uint64_t size;
	uint64_t announced; /* to blank; like size unless set */
	uint64_t piece;
	const char *until;
};

static const char *const steps[] = { "open", "blank", "write", "settle", "commit" };

static int take(struct orders *orders, struct upd_options *options, const char *key,
		const char *value)
{
	const uint64_t number = strtoull(value, NULL, 10);

	if (strcmp(key, "size") == 0)
		orders->size = orders->announced = number;
	else if (strcmp(key, "announced") == 0)
		orders->announced = number;
	else if (strcmp(key, "piece") == 0)
		orders->piece = number;
	else if (strcmp(key, "until") == 0)
		orders->until = value;
	else if (strcmp(key, "read_back") == 0)
		options->read_back = (int)number;
	else if (strcmp(key, "device_number") == 0)
		options->device_number = number;
	else if (strcmp(key, "device") == 0)
		options->device = value;
	else
		return volume_take(key, value);
	return strcmp(key, "size") == 0 ? volume_take(key, value) : 1;
}

static int write_all(struct upd_sink *sink, const struct orders *orders, struct upd_error *error)
{
	uint64_t offset = 0;
	int status = 0;

	while (status == 0 && offset < orders->size) {
		uint64_t left = orders->size - offset;
		size_t len = (size_t)(left < orders->piece ? left : orders->piece);

		for (size_t i = 0; i < len; i++)
			piece[i] = volume_image(offset + i);
		status = sink->ops->write(sink, piece, len, error);
		offset += len;
	}
	/* the end of the image, told by an empty buffer, as a decoder may */
	return status ? status : sink->ops->write(sink, piece, 0, error);
}

static int fill(struct upd_sink *sink, const struct orders *orders, struct upd_error *error)
{
	int status = 0;

	for (unsigned i = 1; status == 0 && strcmp(orders->until, steps[i - 1]) != 0; i++) {
		switch (i) {
		case 1:
			status = sink->ops->blank(sink, orders->announced, error);
			break;
		case 2:
			status = write_all(sink, orders, error);
			break;
		case 3:
			status = sink->ops->settle(sink, error);
			break;
		case 4:
			status = sink->ops->commit(sink, error);
			break;
		default:
			abort();
		}
	}
	return status;
}

int main(int argc, char **argv)
{
	struct orders orders = { .piece = UPD_ALIGNMENT, .until = "commit" };
	struct upd_options options = { .device = VOLUME_PATH, .read_back = 1 };
	struct upd_error error = { 0 };
	struct upd_sink *sink = NULL;
	int status;

	for (int i = 1; i < argc; i++) {
		char *value = strchr(argv[i], '=');

		if (value)
			*value++ = '\0';
		if (!value || !take(&orders, &options, argv[i], value) ||
		    orders.piece > PIECE_LIMIT)
			return 2;
	}
	options.buffer_size = (size_t)orders.piece;
	status = upd_sink_ubi_open(&options, &sink, &error);
	if (status == 0) {
		printf("capacity %" PRIu64 "\nresumable %d\n", sink->capacity,
		       sink->ops->resume || sink->ops->read || sink->head_size);
		status = fill(sink, &orders, &error);
		printf("written %" PRIu64 "\nverified %" PRIu64 "\n", sink->written,
		       sink->verified);
		sink->ops->close(sink);
	}
	printf("status %d\nos_errno %d\noffset %" PRIu64 "\nmessage %s\n", status, error.os_errno,
	       error.offset, error.message);
	volume_tell();
	return status != error.status;
}
