/* SPDX-License-Identifier: MIT */
/* The writing half of direct.h: what is to be done with each piece, and the head. */
#include "direct.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "extent.h"
#include "prover.h"
#include "ring.h"

#define HEAD_SIZE ((size_t)1 << 20)
#define GROUP_SIZE ((size_t)2 << 20)
#define PIECE_SIZE ((size_t)64 << 10) /* what is looked at for zeros and for what is there */

static size_t rounded(size_t len, size_t unit)
{
	return (len + unit - 1) / unit * unit;
}

/* --- the head --------------------------------------------------------------------------------- */

/* Write, flush and read back one part of the head. */
static int store_part(struct upd_direct *direct, const unsigned char *bytes, size_t from, size_t to,
		      struct upd_error *reterr)
{
	const size_t len = to - from;
	int status;

	if (len == 0)
		return 0;
	status = upd_extent_write(direct->fd, bytes + from, len, from, reterr);
	if (status == 0)
		status = upd_extent_flush(direct->fd, direct->is_cached, direct->offset, reterr);
	if (status == 0)
		status = upd_extent_read(direct->fd, direct->scratch, len, from, reterr);
	if (status == 0 && memcmp(bytes + from, direct->scratch, len) != 0)
		status = upd_extent_differs(reterr, from);
	return status;
}

/*
 * A device may take one write apart and store its pieces in any order, or only some of them; what
 * it stores whole is a sector. So the head goes in parts, each proven before the next. What makes
 * a file system or a boot image known as one comes last, and goes first when the head is blanked:
 * the first sector (squashfs, FIT, FAT, a partition table), then the rest of the first 4 KiB (ext4
 * and EROFS, at 1 KiB). A torn first part then lies in a head that nothing knows.
 */
static int store_head(struct upd_direct *direct, const unsigned char *bytes, int is_blanking,
		      struct upd_error *reterr)
{
	const size_t len = direct->base.head_size;
	const size_t first = len < direct->sector ? len : direct->sector;
	const size_t known = len < UPD_ALIGNMENT ? len : UPD_ALIGNMENT;
	const size_t edges[] = { 0, first, first < known ? known : first, len };
	int status = 0;

	for (unsigned i = 0; status == 0 && i < 3; i++) {
		unsigned part = is_blanking ? i : 2 - i;

		status = store_part(direct, bytes, edges[part], edges[part + 1], reterr);
	}
	return status;
}

int upd_direct_blank(struct upd_sink *base, uint64_t size, struct upd_error *reterr)
{
	struct upd_direct *direct = (struct upd_direct *)base;
	unsigned char *blank = aligned_alloc(UPD_ALIGNMENT, HEAD_SIZE);
	int status;

	(void)size;
	if (!blank)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	memset(blank, 0, HEAD_SIZE);
	status = store_head(direct, blank, 1, reterr);
	free(blank);
	return status ? status : upd_prover_start(direct, reterr);
}

int upd_direct_commit(struct upd_sink *base, struct upd_error *reterr)
{
	struct upd_direct *direct = (struct upd_direct *)base;
	struct upd_error ignored = { 0 };
	int status = store_head(direct, base->head, 0, reterr);

	if (status != 0) {
		/* the head may be there in part: a slot that was not proven must not boot */
		memset(base->head, 0, base->head_size);
		store_head(direct, base->head, 1, &ignored);
		return status;
	}
	base->verified += base->head_size;
	return 0;
}

/* --- all else --------------------------------------------------------------------------------- */

/* Hand the group to the prover. */
static int hand_over(struct upd_direct *direct, struct upd_error *reterr)
{
	direct->group.end = direct->offset;
	return upd_prover_give(direct, reterr);
}

static struct upd_range *next_range(struct upd_direct *direct, enum upd_range_kind kind,
				    uint64_t offset, size_t len)
{
	struct upd_range *range = &direct->group.ranges[direct->group.count++];

	range->kind = kind;
	range->offset = offset;
	range->len = len;
	direct->group.bytes += len;
	return range;
}

static int send(struct upd_direct *direct, const unsigned char *buf, size_t len, uint64_t offset,
		struct upd_error *reterr)
{
	struct upd_range *range = next_range(direct, UPD_RANGE_TAGGED, offset, len);
	int status = upd_extent_write(direct->fd, buf, len, offset, reterr);

	if (status == 0 && direct->reads_back &&
	    upd_tally_tag(&direct->tally, buf, len, range->tag) != 0)
		status = upd_fail(reterr, UPD_RESOURCES, "libcrypto failed");
	return status;
}

static int send_zeros(struct upd_direct *direct, const unsigned char *buf, size_t len,
		      uint64_t offset, struct upd_error *reterr)
{
	int status = direct->ops->zero(direct, offset, len, reterr);

	if (status == UPD_MORE) {
		direct->can_zero = 0;
		return send(direct, buf, len, offset, reterr);
	}
	if (status == 0) {
		next_range(direct, UPD_RANGE_ZERO, offset, len);
		direct->base.zeroed += len;
	}
	return status;
}

/* held: what the medium has there, or NULL if it was not asked. */
static enum upd_range_kind kind_of(const struct upd_direct *direct, const unsigned char *buf,
				   const unsigned char *held, size_t len)
{
	if (held && memcmp(buf, held, len) == 0)
		return UPD_RANGE_PROVEN;
	if (direct->can_zero && len >= PIECE_SIZE && upd_extent_is_zero(buf, len))
		return UPD_RANGE_ZERO;
	return UPD_RANGE_TAGGED;
}

static int store_run(struct upd_direct *direct, enum upd_range_kind kind, const unsigned char *buf,
		     size_t len, uint64_t offset, struct upd_error *reterr)
{
	switch (kind) {
	case UPD_RANGE_PROVEN:
		next_range(direct, kind, offset, len);
		direct->base.identical += len;
		return 0;
	case UPD_RANGE_ZERO:
		return send_zeros(direct, buf, len, offset, reterr);
	default:
		return send(direct, buf, len, offset, reterr);
	}
}

/* Store len bytes (whole sectors), in runs of pieces that are treated alike. */
static int store(struct upd_direct *direct, const unsigned char *buf, size_t len, uint64_t offset,
		 struct upd_error *reterr)
{
	const unsigned char *held = NULL;
	enum upd_range_kind kind = UPD_RANGE_TAGGED;
	struct upd_error ignored = { 0 };
	size_t start = 0, at = 0;
	int status = 0;

	/* what cannot be read is written: a sector that a cut has torn is mended by that */
	if (direct->skips_identical &&
	    upd_extent_read(direct->fd, direct->scratch, len, offset, &ignored) == 0)
		held = direct->scratch;
	while (status == 0 && at < len) {
		size_t piece = len - at < PIECE_SIZE ? len - at : PIECE_SIZE;
		enum upd_range_kind now = kind_of(direct, buf + at, held ? held + at : NULL, piece);

		if (at > start && now != kind) {
			status = store_run(direct, kind, buf + start, at - start, offset + start,
					   reterr);
			start = at;
		}
		kind = now;
		at += piece;
	}
	if (status == 0)
		status = store_run(direct, kind, buf + start, len - start, offset + start, reterr);
	return status;
}

int upd_direct_write(struct upd_sink *base, unsigned char *buf, size_t len,
		     struct upd_error *reterr)
{
	struct upd_direct *direct = (struct upd_direct *)base;
	size_t in_head = 0;
	int status = 0;

	if (direct->offset < base->head_size) {
		size_t room = base->head_size - (size_t)direct->offset;

		in_head = len < room ? len : room;
		memcpy(base->head + direct->offset, buf, in_head);
	}
	if (len > in_head) {
		size_t whole = rounded(len - in_head, direct->sector);

		memset(buf + len, 0, whole - (len - in_head));
		status = store(direct, buf + in_head, whole, direct->offset + in_head, reterr);
	}
	if (status != 0)
		return status;
	direct->offset += len;
	base->written = direct->offset;
	return direct->group.bytes >= GROUP_SIZE ? hand_over(direct, reterr) : 0;
}

int upd_direct_settle(struct upd_sink *base, struct upd_error *reterr)
{
	struct upd_direct *direct = (struct upd_direct *)base;
	int status = hand_over(direct, reterr);

	return status ? status : upd_prover_wait(direct, reterr);
}

/* --- going on --------------------------------------------------------------------------------- */

int upd_direct_read(struct upd_sink *base, unsigned char *buf, size_t len, uint64_t offset,
		    struct upd_error *reterr)
{
	const struct upd_direct *direct = (const struct upd_direct *)base;

	return upd_extent_read(direct->fd, buf, len, offset, reterr);
}

int upd_direct_resume(struct upd_sink *base, uint64_t offset, const unsigned char *head,
		      struct upd_error *reterr)
{
	struct upd_direct *direct = (struct upd_direct *)base;

	(void)reterr;
	memcpy(base->head, head, base->head_size);
	direct->offset = offset;
	base->written = base->settled = offset;
	base->verified = offset - base->head_size;
	return 0;
}

/* --- life ------------------------------------------------------------------------------------- */

int upd_direct_open(struct upd_direct *direct, const struct upd_options *options,
		    struct upd_error *reterr)
{
	const size_t buffer = options->buffer_size;
	size_t largest = buffer > HEAD_SIZE ? buffer : HEAD_SIZE;

	direct->buffer_size = buffer;
	direct->reads_back = options->read_back;
	direct->skips_identical = options->skip_identical;
	direct->can_zero = direct->ops->zero != NULL;
	direct->base.head_size =
		direct->base.capacity < HEAD_SIZE ? (size_t)direct->base.capacity : HEAD_SIZE;
	direct->base.head = aligned_alloc(UPD_ALIGNMENT, HEAD_SIZE);
	direct->scratch = aligned_alloc(UPD_ALIGNMENT, largest);
	direct->range_limit = (unsigned)((GROUP_SIZE / buffer + 2) * (buffer / PIECE_SIZE + 2));
	direct->group.ranges = calloc(direct->range_limit, sizeof(struct upd_range));
	if (!direct->base.head || !direct->scratch || !direct->group.ranges ||
	    upd_tally_open(&direct->tally) != 0 || upd_prover_open(direct, largest) != 0)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	memset(direct->base.head, 0, HEAD_SIZE);
	return 0;
}

void upd_direct_close(struct upd_direct *direct)
{
	upd_prover_close(direct);
	if (direct->fd >= 0)
		close(direct->fd);
	upd_tally_close(&direct->tally);
	free(direct->base.head);
	free(direct->scratch);
	free(direct->group.ranges);
	free(direct);
}
