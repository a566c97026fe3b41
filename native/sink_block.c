/* SPDX-License-Identifier: MIT */
/*
 * A block device as a sink: opened exclusively, written past the page cache, read back (direct.h).
 * Runs of zeros go by BLKZEROOUT, which the kernel never turns into a discard.
 */
#define _GNU_SOURCE /* O_DIRECT */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "direct.h"
#include "number.h"
#include "ring.h"

static int block_zero(struct upd_direct *direct, uint64_t offset, uint64_t len,
		      struct upd_error *reterr)
{
	uint64_t range[2] = { offset, len };

	while (ioctl(direct->fd, BLKZEROOUT, range) != 0) {
		if (errno == EOPNOTSUPP || errno == EINVAL || errno == ENOTTY)
			return UPD_MORE;
		if (errno != EINTR)
			return upd_fail_errno(reterr, UPD_IO, errno, offset,
					      "zeroing the medium failed");
	}
	return 0;
}

static const struct upd_direct_ops zeroing = { .zero = block_zero };

static void block_close(struct upd_sink *base)
{
	upd_direct_close((struct upd_direct *)base);
}

static const struct upd_sink_ops block_ops = {
	.blank = upd_direct_blank,
	.write = upd_direct_write,
	.settle = upd_direct_settle,
	.commit = upd_direct_commit,
	.close = block_close,
	.read = upd_direct_read,
	.resume = upd_direct_resume,
};

/* Open exclusively: a device that is mounted, or held by another writer, answers EBUSY. */
static int open_device(struct upd_direct *direct, const struct upd_options *options,
		       struct upd_error *reterr)
{
	struct stat st;
	uint64_t held = 0;
	int sector = 0, is_read_only = 0;

	direct->fd = open(options->device, O_RDWR | O_DIRECT | O_EXCL | O_CLOEXEC);
	if (direct->fd < 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0,
				      errno == EBUSY ? "the device is mounted or in use"
						     : "the device cannot be opened");
	if (fstat(direct->fd, &st) != 0 || !S_ISBLK(st.st_mode))
		return upd_fail(reterr, UPD_OPEN, "the device is no block device");
	if (upd_number_check(st.st_rdev, options->device_number, reterr) != 0)
		return reterr->status;
	/* the kernel opens a write-protected device for writing and refuses the first write */
	if (ioctl(direct->fd, BLKROGET, &is_read_only) != 0 || is_read_only)
		return upd_fail(reterr, UPD_OPEN, "the device is write-protected");
	if (ioctl(direct->fd, BLKGETSIZE64, &held) != 0 ||
	    ioctl(direct->fd, BLKSSZGET, &sector) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the device has no size");
	if (sector <= 0 || (unsigned)sector > UPD_ALIGNMENT)
		return upd_fail(reterr, UPD_OPEN, "sectors of %d bytes are not supported", sector);
	if (held == 0)
		return upd_fail(reterr, UPD_OPEN, "the device is empty: no medium is in it");
	direct->sector = (size_t)sector;
	direct->base.capacity = held;
	direct->base.identity = st.st_rdev ^ held << 16; /* another card may be in it now */
	return 0;
}

int upd_sink_block_open(const struct upd_options *options, struct upd_sink **ret,
			struct upd_error *reterr)
{
	struct upd_direct *direct = calloc(1, sizeof(*direct));
	int status;

	if (!direct)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	direct->base.ops = &block_ops;
	direct->ops = &zeroing;
	direct->fd = -1;
	status = open_device(direct, options, reterr);
	if (status == 0)
		status = upd_direct_open(direct, options, reterr);
	if (status != 0) {
		upd_direct_close(direct);
		return status;
	}
	*ret = &direct->base;
	return 0;
}
