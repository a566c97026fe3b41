/* SPDX-License-Identifier: MIT */
/*
 * A local file, a block device, a UBI volume or standard input as a source.
 *
 * A device is read past the page cache, and so is a file when nothing is written: then the question
 * is what the medium holds. The announced size decides how much of a device belongs to the
 * firmware; a file must have exactly that size, and have it still at its end. Standard input can be
 * read once, from its front.
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

#define LEAST_BLOCK 512
#define POLL_MS 100 /* bounds how long a cancel goes unnoticed */

struct file_source {
	struct upd_source base;
	int fd;
	int is_borrowed; /* whoever started us closes it */
	int is_regular;
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

static int read_failed(const struct file_source *file, size_t have, struct upd_error *reterr)
{
	return upd_fail_errno(reterr, UPD_SOURCE, errno, file->offset + have,
			      "read of the source failed");
}

static int stream_read(struct upd_source *source, unsigned char *buf, size_t len, size_t *ret,
		       struct upd_error *reterr)
{
	struct file_source *file = (struct file_source *)source;
	size_t have = 0;

	while (have < len) {
		ssize_t n;

		if (wait_for(file, reterr) != 0)
			return UPD_SOURCE;
		n = read(file->fd, buf + have, len - have);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return read_failed(file, have, reterr);
		if (n == 0)
			break;
		if (n > 0)
			have += (size_t)n;
	}
	file->offset += have;
	*ret = have;
	return 0;
}

/* Only a file can have changed its length; of a device the rest is nobody's business. */
static int check_end(const struct file_source *file, struct upd_error *reterr)
{
	off_t end;

	if (!file->is_regular)
		return 0;
	end = lseek(file->fd, 0, SEEK_END);
	if (end < 0)
		return read_failed(file, 0, reterr);
	if ((uint64_t)end <= file->base.size)
		return 0;
	return upd_fail(reterr, UPD_LENGTH, "the source has grown from %llu to %llu bytes",
			(unsigned long long)file->base.size, (unsigned long long)end);
}

static int file_read(struct upd_source *source, unsigned char *buf, size_t len, size_t *ret,
		     struct upd_error *reterr)
{
	struct file_source *file = (struct file_source *)source;
	uint64_t left = source->size - file->offset;
	size_t wanted = left < len ? (size_t)left : len;
	size_t have = 0;

	while (have < wanted) {
		/* whole blocks, as reading past the page cache wants: there is room for them */
		ssize_t n = pread(file->fd, buf + have, rounded(wanted - have),
				  (off_t)(file->offset + have));

		if (n < 0 && errno == EINTR)
			continue;
		/* past the page cache nothing can be asked for behind an end at an odd place */
		if (n == 0 || (n < 0 && errno == EINVAL && have % LEAST_BLOCK != 0))
			break;
		if (n < 0)
			return read_failed(file, have, reterr);
		have += (size_t)n;
	}
	if (have > wanted)
		have = wanted;
	file->offset += have;
	*ret = have;
	/* more than there is is asked for by whoever wants to see the end */
	return wanted < len ? check_end(file, reterr) : 0;
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

	if (file->fd >= 0 && !file->is_borrowed)
		close(file->fd);
	free(file);
}

static const struct upd_source_ops file_ops = { .read = file_read,
						.close = file_close,
						.seek = file_seek };
static const struct upd_source_ops stream_ops = { .read = stream_read, .close = file_close };

/* How much a file or device holds; 0 if that is nobody's to say. */
static int measure(struct file_source *file, const struct stat *st, uint64_t *ret,
		   struct upd_error *reterr)
{
	off_t end;

	*ret = 0;
	if (S_ISREG(st->st_mode)) {
		*ret = (uint64_t)st->st_size;
	} else if (S_ISBLK(st->st_mode)) {
		if (ioctl(file->fd, BLKGETSIZE64, ret) != 0)
			return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the source has no size");
	} else if (S_ISCHR(st->st_mode)) {
		end = lseek(file->fd, 0, SEEK_END); /* a UBI volume knows it, others do not */
		if (end > 0)
			*ret = (uint64_t)end;
	}
	if (*ret == 0 && !S_ISREG(st->st_mode))
		return upd_fail(reterr, UPD_OPEN, "the source is neither a file nor a medium");
	return 0;
}

/* A regular file must have exactly the announced size; a device at least that. */
static int take_size(struct file_source *file, const struct stat *st, uint64_t size,
		     struct upd_error *reterr)
{
	uint64_t held = 0;
	int status = measure(file, st, &held, reterr);

	if (status != 0)
		return status;
	file->is_regular = S_ISREG(st->st_mode);
	if (file->is_regular ? size && held != size : held < size)
		return upd_fail(reterr, UPD_LENGTH,
				"the source has %llu bytes, %llu were announced",
				(unsigned long long)held, (unsigned long long)size);
	file->base.size = size ? size : held;
	return 0;
}

static void become_stream(struct file_source *file, uint64_t size)
{
	file->base.ops = &stream_ops;
	file->base.size = size;
}

static int open_path(struct file_source *file, const struct upd_options *options,
		     struct upd_error *reterr)
{
	const int flags = O_RDONLY | O_CLOEXEC;
	struct stat st;
	int is_direct;

	if (stat(options->source, &st) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the source cannot be opened");
	if (S_ISFIFO(st.st_mode)) /* opening it would wait for whoever writes to it */
		return upd_fail(reterr, UPD_OPEN, "the source is a named pipe: try standard input");
	is_direct = S_ISBLK(st.st_mode) || (S_ISREG(st.st_mode) && !options->device);
	file->fd = open(options->source, is_direct ? flags | O_DIRECT : flags);
	if (file->fd < 0 && is_direct && errno == EINVAL)
		file->fd = open(options->source, flags); /* a file system in memory, say */
	if (file->fd < 0 || fstat(file->fd, &st) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the source cannot be opened");
	if (!S_ISREG(st.st_mode) || st.st_size != 0 || options->size != 0)
		return take_size(file, &st, options->size, reterr);
	/* what the kernel makes up while it is read says that it has no bytes */
	become_stream(file, 0);
	return 0;
}

static int open_stdin(struct file_source *file, const struct upd_options *options,
		      struct upd_error *reterr)
{
	struct stat st;

	if (fstat(STDIN_FILENO, &st) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "there is no standard input");
	/* if it was closed, its number has gone to something that is no file at all */
	if ((st.st_mode & S_IFMT) == 0 || S_ISDIR(st.st_mode))
		return upd_fail(reterr, UPD_OPEN, "there is no standard input");
	file->fd = STDIN_FILENO;
	file->is_borrowed = 1;
	become_stream(file, options->size);
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
	status = strcmp(options->source, "-") == 0 ? open_stdin(file, options, reterr)
						   : open_path(file, options, reterr);
	if (status != 0) {
		file_close((struct upd_source *)file);
		return status;
	}
	*ret = (struct upd_source *)file;
	return 0;
}
