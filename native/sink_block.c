/* SPDX-License-Identifier: MIT */
/*
 * A block device as a sink: opened exclusively, written past the page cache, read back.
 *
 * The head is the first MiB: the place of every file system's superblock and of every boot header,
 * so that a slot whose head is blank boots nowhere. It is blanked and stored whole even where the
 * image is shorter, or the end of an old head would outlive the blanking. Ranges are flushed and
 * read back 16 MiB at a time, while the next ones are still being received.
 */
#define _GNU_SOURCE /* O_DIRECT */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ring.h"
#include "sink.h"
#include "tally.h"

#define HEAD_SIZE ((size_t)1 << 20)
#define FLUSH_SIZE ((size_t)16 << 20)

struct range {
	uint64_t offset;
	size_t len;
	unsigned char tag[UPD_TAG_SIZE];
};

struct block_sink {
	struct upd_sink base;
	int fd;
	int reads_back;
	uint64_t offset; /* of the next byte of the image */
	size_t sector;
	size_t head_len; /* HEAD_SIZE, or the device if that is smaller */
	unsigned char *head;
	unsigned char *scratch; /* what was read back; as large as a buffer or the head */
	struct upd_tally tally;
	struct range *ranges; /* written, not yet read back */
	unsigned range_count;
	unsigned range_limit;
};

static size_t rounded(size_t len, size_t unit)
{
	return (len + unit - 1) / unit * unit;
}

static int write_all(int fd, const unsigned char *buf, size_t len, uint64_t offset,
		     struct upd_error *reterr)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return upd_fail_errno(reterr, UPD_IO, n < 0 ? errno : ENOSPC, offset + done,
					      "write to the slot failed");
		done += (size_t)n;
	}
	return 0;
}

static int read_all(int fd, unsigned char *buf, size_t len, uint64_t offset,
		    struct upd_error *reterr)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return upd_fail_errno(reterr, UPD_IO, n < 0 ? errno : EIO, offset + done,
					      "read-back of the slot failed");
		done += (size_t)n;
	}
	return 0;
}

static int flush(const struct block_sink *sink, struct upd_error *reterr)
{
	/* not tried again on failure: the kernel may have dropped what it could not write */
	if (fdatasync(sink->fd) != 0)
		return upd_fail_errno(reterr, UPD_IO, errno, sink->offset,
				      "flush of the slot failed");
	return 0;
}

static int differs(struct upd_error *reterr, uint64_t offset)
{
	reterr->offset = offset;
	return upd_fail(reterr, UPD_READ_BACK,
			"the slot does not hold what was written, near byte %llu",
			(unsigned long long)offset);
}

/* Write, flush and read back the first head_len bytes. */
static int store_head(struct block_sink *sink, const unsigned char *bytes, struct upd_error *reterr)
{
	int status = write_all(sink->fd, bytes, sink->head_len, 0, reterr);

	if (status == 0)
		status = flush(sink, reterr);
	if (status == 0)
		status = read_all(sink->fd, sink->scratch, sink->head_len, 0, reterr);
	if (status == 0 && memcmp(bytes, sink->scratch, sink->head_len) != 0)
		status = differs(reterr, 0);
	return status;
}

static int block_blank(struct upd_sink *base, struct upd_error *reterr)
{
	struct block_sink *sink = (struct block_sink *)base;

	memset(sink->head, 0, sink->head_len);
	return store_head(sink, sink->head, reterr);
}

/* Compare everything that was written since the last time with what the medium holds. */
static int read_back(struct block_sink *sink, struct upd_error *reterr)
{
	unsigned char tag[UPD_TAG_SIZE];
	int status = flush(sink, reterr);

	for (unsigned i = 0; status == 0 && i < sink->range_count; i++) {
		const struct range *range = &sink->ranges[i];

		status = read_all(sink->fd, sink->scratch, range->len, range->offset, reterr);
		if (status == 0 && upd_tally_tag(&sink->tally, sink->scratch, range->len, tag) != 0)
			status = upd_fail(reterr, UPD_RESOURCES, "libcrypto failed");
		if (status == 0 && memcmp(tag, range->tag, sizeof(tag)) != 0)
			status = differs(reterr, range->offset);
		if (status == 0)
			sink->base.verified += range->len;
	}
	sink->range_count = 0;
	return status;
}

/* Store len bytes (whole sectors) and remember their tag. */
static int store_range(struct block_sink *sink, const unsigned char *buf, size_t len,
		       uint64_t offset, struct upd_error *reterr)
{
	struct range *range = &sink->ranges[sink->range_count];
	int status = write_all(sink->fd, buf, len, offset, reterr);

	if (status != 0 || !sink->reads_back)
		return status;
	if (upd_tally_tag(&sink->tally, buf, len, range->tag) != 0)
		return upd_fail(reterr, UPD_RESOURCES, "libcrypto failed");
	range->offset = offset;
	range->len = len;
	if (++sink->range_count < sink->range_limit)
		return 0;
	return read_back(sink, reterr);
}

static int block_write(struct upd_sink *base, unsigned char *buf, size_t len,
		       struct upd_error *reterr)
{
	struct block_sink *sink = (struct block_sink *)base;
	size_t in_head = 0;
	int status = 0;

	if (sink->offset < sink->head_len) {
		size_t room = sink->head_len - (size_t)sink->offset;

		in_head = len < room ? len : room;
		memcpy(sink->head + sink->offset, buf, in_head);
	}
	if (len > in_head) {
		size_t whole = rounded(len - in_head, sink->sector);

		memset(buf + len, 0, whole - (len - in_head));
		status = store_range(sink, buf + in_head, whole, sink->offset + in_head, reterr);
	}
	if (status == 0) {
		sink->offset += len;
		sink->base.written = sink->offset;
	}
	return status;
}

static int block_settle(struct upd_sink *base, struct upd_error *reterr)
{
	struct block_sink *sink = (struct block_sink *)base;

	return sink->reads_back ? read_back(sink, reterr) : flush(sink, reterr);
}

static int block_commit(struct upd_sink *base, struct upd_error *reterr)
{
	struct block_sink *sink = (struct block_sink *)base;
	struct upd_error ignored = { 0 };
	int status = store_head(sink, sink->head, reterr);

	if (status != 0) {
		/* the head may be there in part: a slot that was not proven must not boot */
		memset(sink->head, 0, sink->head_len);
		store_head(sink, sink->head, &ignored);
		return status;
	}
	sink->base.verified += sink->head_len;
	return 0;
}

static void block_close(struct upd_sink *base)
{
	struct block_sink *sink = (struct block_sink *)base;

	if (sink->fd >= 0)
		close(sink->fd);
	upd_tally_close(&sink->tally);
	free(sink->head);
	free(sink->scratch);
	free(sink->ranges);
	free(sink);
}

static const struct upd_sink_ops block_ops = {
	.blank = block_blank,
	.write = block_write,
	.settle = block_settle,
	.commit = block_commit,
	.close = block_close,
};

/* Open exclusively: a device that is mounted, or held by another writer, answers EBUSY. */
static int open_device(struct block_sink *sink, const struct upd_options *options,
		       struct upd_error *reterr)
{
	struct stat st;
	uint64_t held = 0;
	int sector = 0, is_read_only = 0;

	sink->fd = open(options->device, O_RDWR | O_DIRECT | O_EXCL | O_CLOEXEC);
	if (sink->fd < 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0,
				      errno == EBUSY ? "the device is mounted or in use"
						     : "the device cannot be opened");
	if (fstat(sink->fd, &st) != 0 || !S_ISBLK(st.st_mode))
		return upd_fail(reterr, UPD_OPEN, "the device is no block device");
	/* the kernel opens a write-protected device for writing and refuses the first write */
	if (ioctl(sink->fd, BLKROGET, &is_read_only) != 0 || is_read_only)
		return upd_fail(reterr, UPD_OPEN, "the device is write-protected");
	if (ioctl(sink->fd, BLKGETSIZE64, &held) != 0 || ioctl(sink->fd, BLKSSZGET, &sector) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the device has no size");
	if (sector <= 0 || (unsigned)sector > UPD_ALIGNMENT)
		return upd_fail(reterr, UPD_OPEN, "sectors of %d bytes are not supported", sector);
	if (options->size > held) {
		reterr->offset = held;
		return upd_fail(reterr, UPD_SPACE, "image needs %llu bytes, the device holds %llu",
				(unsigned long long)options->size, (unsigned long long)held);
	}
	sink->sector = (size_t)sector;
	sink->head_len = held < HEAD_SIZE ? (size_t)held : HEAD_SIZE;
	return 0;
}

static int allocate(struct block_sink *sink, const struct upd_options *options,
		    struct upd_error *reterr)
{
	size_t largest = options->buffer_size > HEAD_SIZE ? options->buffer_size : HEAD_SIZE;

	sink->range_limit = (unsigned)(FLUSH_SIZE / options->buffer_size) + 1;
	sink->ranges = calloc(sink->range_limit, sizeof(*sink->ranges));
	sink->head = aligned_alloc(UPD_ALIGNMENT, HEAD_SIZE);
	sink->scratch = aligned_alloc(UPD_ALIGNMENT, largest);
	if (!sink->ranges || !sink->head || !sink->scratch || upd_tally_open(&sink->tally) != 0)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	return 0;
}

int upd_sink_block_open(const struct upd_options *options, struct upd_sink **ret,
			struct upd_error *reterr)
{
	struct block_sink *sink = calloc(1, sizeof(*sink));
	int status;

	if (!sink)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	sink->base.ops = &block_ops;
	sink->fd = -1;
	sink->reads_back = options->read_back;
	status = open_device(sink, options, reterr);
	if (status == 0)
		status = allocate(sink, options, reterr);
	if (status != 0) {
		block_close((struct upd_sink *)sink);
		return status;
	}
	*ret = (struct upd_sink *)sink;
	return 0;
}
