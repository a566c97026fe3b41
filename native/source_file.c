/* SPDX-License-Identifier: MIT */
/*
 * A local file, a block device, a UBI volume or standard input as a source.
 *
 * A device is read past the page cache, and so is a file when nothing is written: then the question
 * is what the medium holds. The announced size decides how much of a device belongs to the
 * firmware; a file must have exactly that size. Standard input can be read once, from its front.
 */
#define _GNU_SOURCE /* O_DIRECT */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ring.h"
#include "source.h"

#define POLL_MS 100 /* bounds how long a cancel goes unnoticed */

struct file_source {
	struct upd_source base;
	int fd;
	int is_stream; /* no offsets, and it may keep us waiting */
	uint64_t offset;
};

static size_t rounded(size_t len)
{
	return (len + UPD_ALIGNMENT - 1) / UPD_ALIGNMENT * UPD_ALIGNMENT;
}

/* Until there is something to read, or the stream has ended. */
static int wait_for(const struct file_source *file, struct upd_error *reterr)
{
	struct pollfd fd = { .fd = file->fd, .events = POLLIN };

	for (;;) {
		int n;

		if (*file->base.is_cancelled)
			return upd_fail(reterr, UPD_SOURCE, "cancelled");
		n = poll(&fd, 1, POLL_MS);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return upd_fail_errno(reterr, UPD_SOURCE, errno, file->offset,
					      "waiting for the source failed");
	}
}

/* Like read(2), of whole blocks where that is asked for: the buffer is, the firmware need not be.
 */
static ssize_t read_some(const struct file_source *file, unsigned char *buf, size_t len,
			 uint64_t offset)
{
	if (file->is_stream)
		return read(file->fd, buf, len);
	return pread(file->fd, buf, rounded(len), (off_t)offset);
}

static int file_read(struct upd_source *source, unsigned char *buf, size_t len, size_t *ret,
		     struct upd_error *reterr)
{
	struct file_source *file = (struct file_source *)source;
	const uint64_t size = source->size;
	size_t wanted = len;
	size_t have = 0;

	/* one byte more than announced is asked for by whoever wants to see the end */
	if (size && !file->is_stream && size - file->offset < wanted)
		wanted = (size_t)(size - file->offset);
	while (have < wanted) {
		ssize_t n = file->is_stream ? wait_for(file, reterr) : 0;

		if (n != 0)
			return UPD_SOURCE;
		n = read_some(file, buf + have, wanted - have, file->offset + have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return upd_fail_errno(reterr, UPD_SOURCE, errno, file->offset + have,
					      "read of the source failed");
		if (n == 0)
			break;
		have += (size_t)n;
	}
	if (have > wanted)
		have = wanted;
	file->offset += have;
	*ret = have;
	return 0;
}

static int file_seek(struct upd_source *source, uint64_t offset, const char *validator,
		     struct upd_error *reterr)
{
	(void)validator;
	(void)reterr;
	((struct file_source *)source)->offset = offset;
	return 0;
}

static void file_close(struct upd_source *source)
{
	struct file_source *file = (struct file_source *)source;

	if (file->fd > STDIN_FILENO)
		close(file->fd);
	free(file);
}

static const struct upd_source_ops file_ops = { .read = file_read,
						.close = file_close,
						.seek = file_seek };
static const struct upd_source_ops stream_ops = { .read = file_read, .close = file_close };

/* A regular file must have exactly the announced size; a device at least that. */
static int take_size(struct file_source *file, uint64_t size, struct upd_error *reterr)
{
	struct stat st;
	uint64_t held = 0;

	if (fstat(file->fd, &st) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the source cannot be examined");
	if (S_ISREG(st.st_mode))
		held = (uint64_t)st.st_size;
	if (S_ISREG(st.st_mode) && size && held != size)
		return upd_fail(reterr, UPD_LENGTH,
				"the source has %llu bytes, %llu were announced",
				(unsigned long long)held, (unsigned long long)size);
	if (S_ISBLK(st.st_mode) && !size && ioctl(file->fd, BLKGETSIZE64, &held) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the source has no size");
	if (S_ISCHR(st.st_mode)) /* a UBI volume knows its end, others are endless or empty */
		held = (uint64_t)lseek(file->fd, 0, SEEK_END);
	if (S_ISFIFO(st.st_mode) || S_ISDIR(st.st_mode) || S_ISSOCK(st.st_mode) ||
	    (S_ISCHR(st.st_mode) && held - 1 >= INT64_MAX))
		return upd_fail(reterr, UPD_OPEN,
				"the source is neither a file nor a device of blocks");
	file->base.size = size ? size : held;
	return 0;
}

static int open_path(struct file_source *file, const struct upd_options *options,
		     struct upd_error *reterr)
{
	const int flags = O_RDONLY | O_CLOEXEC;
	struct stat st;
	int is_direct;

	if (stat(options->source, &st) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the source cannot be opened");
	is_direct = S_ISBLK(st.st_mode) || (S_ISREG(st.st_mode) && !options->device);
	file->fd = open(options->source, is_direct ? flags | O_DIRECT : flags);
	if (file->fd < 0 && is_direct && errno == EINVAL)
		file->fd = open(options->source, flags); /* a file system in memory, say */
	if (file->fd < 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the source cannot be opened");
	return take_size(file, options->size, reterr);
}

static int open_any(struct file_source *file, const struct upd_options *options,
		    struct upd_error *reterr)
{
	if (strcmp(options->source, "-") != 0)
		return open_path(file, options, reterr);
	file->base.ops = &stream_ops;
	file->base.size = options->size;
	file->fd = STDIN_FILENO;
	file->is_stream = 1;
	return 0;
}

int upd_source_file_open(const struct upd_options *options, const atomic_int *is_cancelled,
			 struct upd_source **ret, struct upd_error *reterr)
{
	struct file_source *file = calloc(1, sizeof(*file));
	int status;

	if (!file)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	file->base = (struct upd_source){ .ops = &file_ops, .is_cancelled = is_cancelled };
	file->fd = -1;
	status = open_any(file, options, reterr);
	if (status != 0) {
		file_close((struct upd_source *)file);
		return status;
	}
	*ret = (struct upd_source *)file;
	return 0;
}
