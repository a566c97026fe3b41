/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* sync_file_range */
#include "extent.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define IN_PLACE (SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER)

int upd_extent_write(int fd, const unsigned char *buf, size_t len, uint64_t offset,
		     struct upd_error *reterr)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return upd_fail_errno(reterr, UPD_IO, n < 0 ? errno : ENOSPC, offset + done,
					      "write to the medium failed");
		done += (size_t)n;
	}
	return 0;
}

int upd_extent_read(int fd, unsigned char *buf, size_t len, uint64_t offset,
		    struct upd_error *reterr)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return upd_fail_errno(reterr, UPD_IO, n < 0 ? errno : EIO, offset + done,
					      "read-back of the medium failed");
		done += (size_t)n;
	}
	return 0;
}

int upd_extent_flush(int fd, int is_cached, uint64_t offset, struct upd_error *reterr)
{
	/* not tried again on failure: the kernel may have dropped what it could not write */
	if (fdatasync(fd) != 0)
		return upd_fail_errno(reterr, UPD_IO, errno, offset, "flush of the medium failed");
	if (is_cached) {
		/* what a journal holds is durable, but its pages are dirty, and stay, until they
		 * are at their place too */
		sync_file_range(fd, 0, 0, IN_PLACE);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	}
	return 0;
}

int upd_extent_is_zero(const unsigned char *buf, size_t len)
{
	/* if the first byte is zero and each equals the one before, all are */
	return len == 0 || (buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0);
}

int upd_extent_differs(struct upd_error *reterr, uint64_t offset)
{
	reterr->offset = offset;
	return upd_fail(reterr, UPD_READ_BACK,
			"the medium does not hold what was written, near byte %llu",
			(unsigned long long)offset);
}
