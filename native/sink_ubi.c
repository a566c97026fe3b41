/* SPDX-License-Identifier: MIT */
/*
 * A UBI volume as a sink, by the kernel's own update of a volume (UBI_IOCVOLUP).
 *
 * The kernel is told the image's exact size and takes that many bytes, front to back. Until it has
 * the last one it neither seeks nor reads, and a mark on the flash makes every read of the volume
 * fail with EBADF, also after a reboot: that is this medium's blank head. So here it is the tail
 * that is kept until the digests match. Order of writes, and what a power cut leaves:
 *
 *     UBI_IOCVOLUP: mark, erase         the old image, or a marked volume
 *     all but the tail                  a marked volume
 *     digests and length match          the same
 *     the tail; the mark is removed     before: marked. After: the complete image, its digest right
 *     read the whole volume back        complete, but not proven: nobody was told that it is done
 *     a difference: UBI_IOCVOLUP        marked again
 *
 * An update begins by erasing the volume, so that an interrupted one starts over, and nothing that
 * the volume held can be kept because it is identical.
 */
#include <errno.h>
#include <fcntl.h>
#include <mtd/ubi-user.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "extent.h"
#include "number.h"
#include "ring.h"
#include "sink.h"
#include "tally.h"
#include "sysfs.h"

#define MARK_TRIES 50
#define MARK_PAUSE_NS 20000000L

/* What one call of write has brought. */
struct part {
	size_t len;
	unsigned char tag[UPD_TAG_SIZE];
};

struct ubi_sink {
	struct upd_sink base;
	char *path;
	dev_t number;
	int fd;
	int reads_back;
	uint64_t size;	 /* promised to the kernel; 0: no update has begun */
	uint64_t offset; /* of the caller's next byte */
	unsigned char tail[UPD_ALIGNMENT];
	size_t tail_len;
	unsigned char *scratch;
	struct upd_tally tally;
	struct part *parts;
	size_t part_count;
	size_t part_room;
};

/* --- the volume ------------------------------------------------------------------------------- */

/* Read a number that sysfs tells about the volume, or with ../ about its UBI device; 0 or -1. */
static int read_attribute(const struct ubi_sink *ubi, const char *name, uint64_t *ret)
{
	return upd_sysfs_read(ret, "/sys/dev/char/%u:%u/%s", major(ubi->number), minor(ubi->number),
			      name);
}

/* Before it is opened: to open what is no volume, a watchdog say, may do harm. */
static int examine(struct ubi_sink *ubi, struct upd_error *reterr)
{
	uint64_t blocks = 0, block_size = 0, is_read_only = 0;
	struct stat st;

	if (stat(ubi->path, &st) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the volume cannot be examined");
	ubi->number = st.st_rdev;
	if (!S_ISCHR(st.st_mode) || read_attribute(ubi, "reserved_ebs", &blocks) != 0 ||
	    read_attribute(ubi, "usable_eb_size", &block_size) != 0 ||
	    read_attribute(ubi, "../ro_mode", &is_read_only) != 0)
		return upd_fail(reterr, UPD_OPEN, "the device is no UBI volume");
	if (is_read_only)
		return upd_fail_errno(reterr, UPD_OPEN, EROFS, 0, "the UBI device is read-only");
	ubi->base.identity = st.st_rdev;
	ubi->base.capacity = blocks * block_size; /* data_bytes is what a static volume holds now */
	return 0;
}

/* A volume that somebody writes to or has mounted for writing answers EBUSY. */
static int open_node(struct ubi_sink *ubi, struct upd_error *reterr)
{
	struct stat st;

	ubi->fd = open(ubi->path, O_RDWR | O_CLOEXEC);
	if (ubi->fd < 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0,
				      errno == EBUSY ? "the volume is mounted or in use"
						     : "the volume cannot be opened");
	if (fstat(ubi->fd, &st) != 0 || st.st_rdev != ubi->number)
		return upd_fail_errno(reterr, UPD_OPEN, ENODEV, 0, "the volume has gone");
	return 0;
}

/* 0 or the errno. From here on the volume is marked. One that is only read answers EBUSY too. */
static int begin_update(const struct ubi_sink *ubi, uint64_t size)
{
	const int64_t bytes = (int64_t)size;
	int status;

	do
		status = ioctl(ubi->fd, UBI_IOCVOLUP, &bytes);
	while (status != 0 && errno == EINTR);
	return status == 0 ? 0 : errno;
}

/* Whether the kernel has refused the update before it did anything. */
static int is_refusal(int error)
{
	return error == EBUSY || error == EPERM || error == EROFS || error == EINVAL ||
	       error == ENOTTY;
}

static const char *why_not(int error)
{
	switch (error) {
	case EBUSY:
		return "the volume is mounted or in use";
	case EPERM:
		return "the volume cannot be updated without CAP_SYS_RESOURCE";
	default:
		return "the volume cannot be updated";
	}
}

/* --- blank, write, settle --------------------------------------------------------------------- */

static int ubi_blank(struct upd_sink *base, uint64_t size, struct upd_error *reterr)
{
	struct ubi_sink *ubi = (struct ubi_sink *)base;
	int error;

	if (size == 0)
		return upd_fail(reterr, UPD_OPEN,
				"a UBI volume needs to know the image's exact size beforehand");
	if (size > base->capacity) {
		reterr->offset = base->capacity;
		return upd_fail(reterr, UPD_SPACE, "image needs %llu bytes, the volume holds %llu",
				(unsigned long long)size, (unsigned long long)base->capacity);
	}
	error = begin_update(ubi, size);
	if (error != 0)
		return upd_fail_errno(reterr, is_refusal(error) ? UPD_OPEN : UPD_IO, error, 0,
				      why_not(error));
	ubi->size = size;
	return 0;
}

static int send(const struct ubi_sink *ubi, const unsigned char *buf, size_t len, uint64_t offset,
		struct upd_error *reterr)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(ubi->fd, buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return upd_fail_errno(reterr, UPD_IO, n < 0 ? errno : ENOSPC, offset + done,
					      "write to the volume failed");
		done += (size_t)n;
	}
	return 0;
}

/* Keep what the volume must hold in the end, as a short digest. */
static int remember(struct ubi_sink *ubi, const unsigned char *buf, size_t len,
		    struct upd_error *reterr)
{
	struct part *part;

	if (ubi->part_count == ubi->part_room) {
		size_t room = ubi->part_room ? 2 * ubi->part_room : 64;
		struct part *parts = realloc(ubi->parts, room * sizeof(*parts));

		if (!parts)
			return upd_fail(reterr, UPD_RESOURCES, "no memory");
		ubi->parts = parts;
		ubi->part_room = room;
	}
	part = &ubi->parts[ubi->part_count];
	if (upd_tally_tag(&ubi->tally, buf, len, part->tag) != 0)
		return upd_fail(reterr, UPD_RESOURCES, "libcrypto failed");
	part->len = len;
	ubi->part_count++;
	return 0;
}

static int ubi_write(struct upd_sink *base, unsigned char *buf, size_t len,
		     struct upd_error *reterr)
{
	struct ubi_sink *ubi = (struct ubi_sink *)base;
	const uint64_t left = ubi->size - ubi->offset;
	int status = 0;

	if (len == 0)
		return 0;
	if (len > left)
		return upd_fail(reterr, UPD_LENGTH,
				"the image is longer than the %llu bytes it was to have",
				(unsigned long long)ubi->size);
	if (len == left) { /* whole multiples came before: the tail is in this one */
		ubi->tail_len = (len - 1) % UPD_ALIGNMENT + 1;
		memcpy(ubi->tail, buf + len - ubi->tail_len, ubi->tail_len);
	}
	if (ubi->reads_back)
		status = remember(ubi, buf, len, reterr);
	if (status == 0)
		status = send(ubi, buf, len - ubi->tail_len, ubi->offset, reterr);
	if (status != 0)
		return status;
	ubi->offset += len;
	base->written = ubi->offset - ubi->tail_len;
	return 0;
}

static int flush(const struct ubi_sink *ubi, struct upd_error *reterr)
{
	/* flash takes it at once; what only plays flash (block2mtd) may keep it in a cache */
	if (fsync(ubi->fd) != 0)
		return upd_fail_errno(reterr, UPD_IO, errno, ubi->offset,
				      "flush of the volume failed");
	return 0;
}

static int ubi_settle(struct upd_sink *base, struct upd_error *reterr)
{
	struct ubi_sink *ubi = (struct ubi_sink *)base;

	if (ubi->offset != ubi->size)
		return upd_fail(reterr, UPD_LENGTH, "the image has %llu bytes, it was to have %llu",
				(unsigned long long)ubi->offset, (unsigned long long)ubi->size);
	return flush(ubi, reterr);
}

/* --- commit ----------------------------------------------------------------------------------- */

static int finish(struct ubi_sink *ubi, struct upd_error *reterr)
{
	uint64_t is_corrupted = 0;
	int status = send(ubi, ubi->tail, ubi->tail_len, ubi->size - ubi->tail_len, reterr);

	if (status == 0)
		status = flush(ubi, reterr);
	if (status != 0)
		return status;
	ubi->base.written = ubi->size;
	/* the kernel has checked its CRCs of a static volume, and says only here what it found */
	if (read_attribute(ubi, "corrupted", &is_corrupted) == 0 && is_corrupted)
		return upd_fail(reterr, UPD_READ_BACK, "the kernel calls the volume corrupted");
	return 0;
}

static int read_back(struct ubi_sink *ubi, struct upd_error *reterr)
{
	unsigned char tag[UPD_TAG_SIZE];
	uint64_t offset = 0;

	for (size_t i = 0; i < ubi->part_count; i++) {
		const struct part *part = &ubi->parts[i];
		int status = upd_extent_read(ubi->fd, ubi->scratch, part->len, offset, reterr);

		if (status != 0)
			return status;
		if (upd_tally_tag(&ubi->tally, ubi->scratch, part->len, tag) != 0)
			return upd_fail(reterr, UPD_RESOURCES, "libcrypto failed");
		if (memcmp(tag, part->tag, sizeof(tag)) != 0)
			return upd_extent_differs(reterr, offset);
		offset += part->len;
		ubi->base.verified = offset;
	}
	return 0;
}

/* Begin an update that never gets its last byte. Opened anew: a failed write leaves the old one
 * open, although the kernel may have removed the mark. A reader may look in between. */
static int mark(struct ubi_sink *ubi)
{
	const struct timespec pause = { .tv_nsec = MARK_PAUSE_NS };
	struct upd_error failure = { 0 };
	int error = EBUSY;

	for (int i = 0; i < MARK_TRIES && error == EBUSY; i++) {
		if (i > 0)
			nanosleep(&pause, NULL);
		if (ubi->fd >= 0)
			close(ubi->fd);
		error = open_node(ubi, &failure) ? failure.os_errno : begin_update(ubi, ubi->size);
	}
	return error == 0 ? 0 : -1;
}

static int ubi_commit(struct upd_sink *base, struct upd_error *reterr)
{
	struct ubi_sink *ubi = (struct ubi_sink *)base;
	int status = finish(ubi, reterr);

	if (status == 0 && ubi->reads_back)
		status = read_back(ubi, reterr);
	/* it may look complete, and must not */
	if (status != 0 && mark(ubi) != 0) {
		size_t len = strlen(reterr->message);

		snprintf(reterr->message + len, sizeof(reterr->message) - len,
			 "; and the volume cannot be marked as unusable");
	}
	return status;
}

/* --- open, close ------------------------------------------------------------------------------ */

/* An update that was not finished leaves the mark. */
static void ubi_close(struct upd_sink *base)
{
	struct ubi_sink *ubi = (struct ubi_sink *)base;

	if (ubi->fd >= 0)
		close(ubi->fd);
	upd_tally_close(&ubi->tally);
	free(ubi->parts);
	free(ubi->scratch);
	free(ubi->path);
	free(ubi);
}

static const struct upd_sink_ops ubi_ops = {
	.blank = ubi_blank,
	.write = ubi_write,
	.settle = ubi_settle,
	.commit = ubi_commit,
	.close = ubi_close,
};

static int open_volume(struct ubi_sink *ubi, const struct upd_options *options,
		       struct upd_error *reterr)
{
	int status;

	ubi->path = strdup(options->device); /* the caller's is gone after open */
	ubi->reads_back = options->read_back;
	if (ubi->reads_back)
		ubi->scratch = aligned_alloc(UPD_ALIGNMENT, options->buffer_size);
	if (!ubi->path || (ubi->reads_back && !ubi->scratch))
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	if (upd_tally_open(&ubi->tally) != 0)
		return upd_fail(reterr, UPD_RESOURCES, "libcrypto failed");
	status = examine(ubi, reterr);
	if (status == 0)
		status = upd_number_check(ubi->number, options->device_number, reterr);
	return status ? status : open_node(ubi, reterr);
}

int upd_sink_ubi_open(const struct upd_options *options, struct upd_sink **ret,
		      struct upd_error *reterr)
{
	struct ubi_sink *ubi = calloc(1, sizeof(*ubi));
	int status;

	if (!ubi)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	ubi->base.ops = &ubi_ops;
	ubi->fd = -1;
	status = open_volume(ubi, options, reterr);
	if (status != 0) {
		ubi_close(&ubi->base);
		return status;
	}
	*ret = (struct upd_sink *)ubi;
	return 0;
}
