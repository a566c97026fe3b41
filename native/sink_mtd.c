/* SPDX-License-Identifier: MIT */
/*
 * An MTD partition, NOR or raw NAND, as a sink.
 *
 * The image is gathered into whole erase blocks. Each is erased, programmed and read back before
 * the next one is begun, so that nothing but the block in hand is ever unproven, and the erasing
 * costs no time of its own at the start. The head is the first good block. Order of writes, and
 * what a power cut leaves:
 *
 *     first write: erase the head         nothing that boots
 *     erase, program, read back the rest  the same; what was proven can be gone on with
 *     commit: program the head            before: blank. Within: a part of the head, and nobody was
 *                                         told that the slot may become primary. After: the image
 *
 * blank only counts the room: the head waits for the image's first bytes, which may be refused.
 *
 * NAND wears out: a block that twice fails to erase or to program, or to give back what was
 * programmed, is marked bad, and its data go whole to the next good block, from the buffer. The
 * blocks before it stay where they are. A cut before the mark leaves a block that is not proven and
 * is erased again; it then shows once more that it is worn. The head has nowhere to go, for all
 * else stands behind it: then the image is to be written again from its first byte (UPD_AGAIN).
 * NOR flash knows no bad blocks: there, a failure is the end.
 *
 * Options: NAND is always read back, since its ECC must be asked anyway; NOR as read_back says.
 * With skip_identical a block that holds the same bytes is neither erased nor programmed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "mtd.h"
#include "sink.h"

#define UBI_MAGIC "UBI#" /* at the begin of each erase block that UBI uses */
#define FAILURE_LIMIT 8U /* blocks that fail one after the other: no wear does that */

struct mtd_sink {
	struct upd_sink base;
	struct upd_mtd mtd;
	int skips_identical;
	int is_begun;	/* blanked */
	int is_erased;	/* the head, by us */
	int is_resumed; /* blocks before `offset` hold what belongs there */
	uint64_t size;	/* of the image; 0: nobody knows it */
	uint64_t offset;
	unsigned char *block; /* what is gathered behind the head */
	unsigned failures;    /* in a row */
};

static int holds(const struct mtd_sink *sink, uint32_t block, const unsigned char *wanted,
		 size_t len)
{
	struct upd_error ignored = { 0 };

	return upd_mtd_compare(&sink->mtd, block, wanted, len, &ignored) == 0;
}

static int store(struct mtd_sink *sink, uint32_t block, const unsigned char *buf, size_t len,
		 int is_erased, struct upd_error *reterr)
{
	int status = upd_mtd_store(&sink->mtd, block, buf, len, is_erased, reterr);

	if (status == 0 && sink->mtd.reads_back)
		sink->base.verified += len;
	return status;
}

static int store_unless_held(struct mtd_sink *sink, uint32_t block, size_t len,
			     struct upd_error *reterr)
{
	if (!sink->skips_identical || !holds(sink, block, sink->block, len))
		return store(sink, block, sink->block, len, 0, reterr);
	sink->base.identical += len;
	sink->base.verified += len;
	return 0;
}

/* --- blocks that fail ------------------------------------------------------------------------- */

static int no_room(const struct mtd_sink *sink, struct upd_error *reterr)
{
	reterr->os_errno = 0;
	reterr->offset = upd_mtd_capacity(&sink->mtd);
	return upd_fail(reterr, UPD_SPACE,
			"the flash holds %llu bytes in good blocks, %u blocks went bad just now: "
			"the image does not fit",
			(unsigned long long)reterr->offset, sink->base.bad_blocks);
}

/* Mark a block bad, whose error is in reterr, and see whether the image still fits. */
static int retire(struct mtd_sink *sink, uint32_t block, struct upd_error *reterr)
{
	int status;

	if (++sink->failures == FAILURE_LIMIT)
		return upd_fail(reterr, UPD_IO,
				"%u erase blocks failed one after the other, up to byte %llu: "
				"that is more than wear",
				FAILURE_LIMIT, (unsigned long long)reterr->offset);
	status = upd_mtd_retire(&sink->mtd, block, reterr);
	if (status != 0)
		return status;
	sink->base.bad_blocks++;
	if (block >= sink->mtd.good || sink->size > upd_mtd_capacity(&sink->mtd))
		return no_room(sink, reterr);
	*reterr = (struct upd_error){ 0 };
	return 0;
}

static int store_somewhere(struct mtd_sink *sink, uint32_t block, size_t len,
			   struct upd_error *reterr)
{
	int status;

	if (block >= sink->mtd.good)
		return no_room(sink, reterr);
	for (;;) {
		status = store_unless_held(sink, block, len, reterr);
		if (status == 0)
			sink->failures = 0;
		if (status == 0 || !upd_mtd_is_worn(&sink->mtd, reterr))
			return status;
		status = retire(sink, block, reterr);
		if (status != 0)
			return status;
	}
}

/* --- the head --------------------------------------------------------------------------------- */

static int blank_head(struct mtd_sink *sink, struct upd_error *reterr)
{
	const size_t len = sink->mtd.erase_size;
	int status;

	sink->is_erased = 0;
	if (holds(sink, 0, NULL, len))
		return 0;
	status = upd_mtd_store(&sink->mtd, 0, NULL, len, 0, reterr);
	sink->is_erased = status == 0;
	return status;
}

static int again(struct upd_error *reterr)
{
	return upd_fail(reterr, UPD_AGAIN,
			"the block kept for the head has worn out and was marked bad");
}

/* Nothing stands behind the head yet, unless it was resumed: the next good block will do. */
static int blank_first(struct mtd_sink *sink, struct upd_error *reterr)
{
	for (;;) {
		int status = blank_head(sink, reterr);

		if (status == 0)
			sink->failures = 0;
		if (status == 0 || !upd_mtd_is_worn(&sink->mtd, reterr))
			return status;
		status = retire(sink, 0, reterr);
		if (status != 0 || sink->is_resumed)
			return status ? status : again(reterr);
	}
}

/*
 * Of a UBI image any block may be missing: the volume table stands in it twice, the kernel attaches
 * what is there and puts the rest in order. No head of it can be held back, and UBI's counters of
 * erasures, which are in each block, would be lost.
 */
static int refuse_ubi(const struct mtd_sink *sink, struct upd_error *reterr)
{
	if (memcmp(sink->base.head, UBI_MAGIC, strlen(UBI_MAGIC)) != 0)
		return 0;
	return upd_fail(reterr, UPD_OPEN,
			"a UBI image cannot be written to flash as it is: "
			"write each volume's own image, or use ubiformat");
}

/* With the image's first bytes at hand, and nothing touched yet. */
static int begin(struct mtd_sink *sink, struct upd_error *reterr)
{
	int status = refuse_ubi(sink, reterr);

	/* whoever came while the source was waited for */
	if (status == 0)
		status = upd_mtd_refuse_used(&sink->mtd, reterr);
	if (status == 0)
		status = upd_mtd_unlock(&sink->mtd, reterr);
	if (status == 0)
		status = blank_first(sink, reterr);
	sink->is_begun = status == 0;
	return status;
}

static int mtd_blank(struct upd_sink *base, uint64_t size, struct upd_error *reterr)
{
	struct mtd_sink *sink = (struct mtd_sink *)base;

	sink->size = size;
	return size > upd_mtd_capacity(&sink->mtd) ? no_room(sink, reterr) : 0;
}

static int store_head(struct mtd_sink *sink, struct upd_error *reterr)
{
	const uint32_t room = sink->mtd.erase_size;
	const size_t len = sink->offset < room ? (size_t)sink->offset : room;

	/* one that was found blank may be the work of a cut: erased in part, and fading */
	return store(sink, 0, sink->base.head, len, sink->is_erased, reterr);
}

static int mtd_commit(struct upd_sink *base, struct upd_error *reterr)
{
	struct mtd_sink *sink = (struct mtd_sink *)base;
	struct upd_error ignored = { 0 };
	int status = store_head(sink, reterr);

	if (status != 0 && upd_mtd_is_worn(&sink->mtd, reterr)) {
		status = retire(sink, 0, reterr);
		if (status == 0)
			status = again(reterr);
	}
	/* a part of the head, or what now stands where the head is looked for: neither may boot */
	if (status != 0 && sink->mtd.good > 0)
		upd_mtd_erase(&sink->mtd, 0, &ignored);
	return status;
}

/* --- all else --------------------------------------------------------------------------------- */

/* Store what is gathered, if it is not the head. */
static int end_block(struct mtd_sink *sink, struct upd_error *reterr)
{
	const uint64_t last = sink->offset - 1;
	const uint32_t block = (uint32_t)(last / sink->mtd.erase_size);
	const size_t len = (size_t)(last % sink->mtd.erase_size) + 1;
	int status = 0;

	if (block > 0) {
		memset(sink->block + len, 0xff, sink->mtd.erase_size - len);
		status = store_somewhere(sink, block, len, reterr);
	}
	if (status == 0)
		sink->base.settled = sink->offset;
	return status;
}

static int mtd_write(struct upd_sink *base, unsigned char *buf, size_t len,
		     struct upd_error *reterr)
{
	struct mtd_sink *sink = (struct mtd_sink *)base;
	const uint32_t room = sink->mtd.erase_size;
	int status = 0;

	while (status == 0 && len > 0) {
		const size_t at = (size_t)(sink->offset % room);
		const size_t part = len < room - at ? len : room - at;

		memcpy((sink->offset < room ? base->head : sink->block) + at, buf, part);
		sink->offset += part;
		if (!sink->is_begun)
			status = begin(sink, reterr);
		if (status == 0 && at + part == room)
			status = end_block(sink, reterr);
		if (status == 0)
			base->written = sink->offset;
		buf += part;
		len -= part;
	}
	return status;
}

static int mtd_settle(struct upd_sink *base, struct upd_error *reterr)
{
	struct mtd_sink *sink = (struct mtd_sink *)base;
	int status = sink->is_begun ? 0 : begin(sink, reterr); /* an image of no bytes */

	return status == 0 && sink->offset > base->settled ? end_block(sink, reterr) : status;
}

/* --- going on --------------------------------------------------------------------------------- */

static int mtd_read(struct upd_sink *base, unsigned char *buf, size_t len, uint64_t offset,
		    struct upd_error *reterr)
{
	const struct mtd_sink *sink = (const struct mtd_sink *)base;

	return upd_mtd_read(&sink->mtd, buf, len, offset, reterr);
}

static int mtd_resume(struct upd_sink *base, uint64_t offset, const unsigned char *head,
		      struct upd_error *reterr)
{
	struct mtd_sink *sink = (struct mtd_sink *)base;

	if (offset % sink->mtd.erase_size != 0 || offset < base->head_size ||
	    offset > upd_mtd_capacity(&sink->mtd))
		return upd_fail(reterr, UPD_AGAIN, "no erase block begins at byte %llu",
				(unsigned long long)offset);
	memcpy(base->head, head, base->head_size);
	sink->is_resumed = 1;
	sink->offset = offset;
	base->written = base->settled = offset;
	base->verified = sink->mtd.reads_back ? offset - base->head_size : 0;
	return 0;
}

/* --- open, close ------------------------------------------------------------------------------ */

static void mtd_close(struct upd_sink *base)
{
	struct mtd_sink *sink = (struct mtd_sink *)base;

	upd_mtd_lock_again(&sink->mtd);
	upd_mtd_close(&sink->mtd);
	free(base->head);
	free(sink->block);
	free(sink);
}

static const struct upd_sink_ops mtd_ops = {
	.blank = mtd_blank,
	.write = mtd_write,
	.settle = mtd_settle,
	.commit = mtd_commit,
	.close = mtd_close,
	.read = mtd_read,
	.resume = mtd_resume,
};

/* Before anything is asked of the network, if it is known by then. */
static int check_size(const struct mtd_sink *sink, const struct upd_options *options,
		      struct upd_error *reterr)
{
	uint64_t size = options->image_size;

	if (size == 0 && !options->decode)
		size = options->size;
	if (size <= sink->base.capacity)
		return 0;
	reterr->offset = sink->base.capacity;
	return upd_fail(reterr, UPD_SPACE,
			"image needs %llu bytes, the flash holds %llu in good blocks",
			(unsigned long long)size, (unsigned long long)sink->base.capacity);
}

static int make_room(struct mtd_sink *sink, struct upd_error *reterr)
{
	const size_t block = sink->mtd.erase_size;

	sink->base.head_size = block;
	sink->base.head = malloc(block);
	sink->block = malloc(block);
	if (!sink->base.head || !sink->block || upd_mtd_make_scratch(&sink->mtd) != 0)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	memset(sink->base.head, 0xff, block);
	return 0;
}

static int open_flash(struct mtd_sink *sink, const struct upd_options *options,
		      struct upd_error *reterr)
{
	int status =
		upd_mtd_open(&sink->mtd, options->device, O_RDWR, options->device_number, reterr);

	if (status == 0)
		status = upd_mtd_claim(&sink->mtd, reterr);
	if (status == 0)
		status = upd_mtd_refuse_used(&sink->mtd, reterr);
	if (status == 0)
		status = make_room(sink, reterr);
	if (status != 0)
		return status;
	sink->mtd.reads_back = options->read_back || sink->mtd.is_nand;
	sink->skips_identical = options->skip_identical;
	sink->base.capacity = upd_mtd_capacity(&sink->mtd);
	sink->base.identity = sink->mtd.identity;
	return check_size(sink, options, reterr);
}

int upd_sink_mtd_open(const struct upd_options *options, struct upd_sink **ret,
		      struct upd_error *reterr)
{
	struct mtd_sink *sink = calloc(1, sizeof(*sink));
	int status;

	if (!sink)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	sink->base.ops = &mtd_ops;
	status = open_flash(sink, options, reterr);
	if (status != 0) {
		mtd_close(&sink->base);
		return status;
	}
	*ret = &sink->base;
	return 0;
}
