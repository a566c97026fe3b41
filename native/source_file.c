/* SPDX-License-Identifier: MIT */
/*
 * A local file or block device as a source. Read past the page cache when a slot's medium is what
 * is asked about; the announced size decides how much of a device belongs to the image.
 */
#define _GNU_SOURCE /* O_DIRECT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ring.h"
#include "source.h"

struct file_source {
	struct upd_source base;
	int fd;
	uint64_t offset;
	uint64_t size;
};

static size_t rounded(size_t len)
{
	return (len + UPD_ALIGNMENT - 1) / UPD_ALIGNMENT * UPD_ALIGNMENT;
}

static int file_read(struct upd_source *source, unsigned char *buf, size_t len, size_t *ret,
		     struct upd_error *reterr)
{
	struct file_source *file = (struct file_source *)source;
	uint64_t left = file->size - file->offset;
	size_t wanted = left < len ? (size_t)left : len;
	size_t have = 0;

	while (have < wanted) {
		/* an O_DIRECT read must be whole blocks; the buffer is, the image need not be */
		ssize_t n = pread(file->fd, buf + have, rounded(wanted - have),
				  (off_t)(file->offset + have));
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

static void file_close(struct upd_source *source)
{
	struct file_source *file = (struct file_source *)source;

	close(file->fd);
	free(file);
}

static const struct upd_source_ops file_ops = { .read = file_read, .close = file_close };

/* A regular file must have exactly the announced size; a device at least that. */
static int check_size(int fd, uint64_t size, struct upd_error *reterr)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the source cannot be examined");
	if (S_ISREG(st.st_mode) && (uint64_t)st.st_size != size)
		return upd_fail(reterr, UPD_LENGTH,
				"the source has %llu bytes, %llu were announced",
				(unsigned long long)st.st_size, (unsigned long long)size);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return upd_fail(reterr, UPD_OPEN,
				"the source is neither a file nor a block device");
	return 0;
}

int upd_source_file_open(const struct upd_options *options, const atomic_int *is_cancelled,
			 struct upd_source **ret, struct upd_error *reterr)
{
	int flags = O_RDONLY | O_CLOEXEC | (options->source_is_direct ? O_DIRECT : 0);
	struct file_source *file;
	int fd, status;

	fd = open(options->source, flags);
	if (fd < 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the source cannot be opened");
	status = check_size(fd, options->size, reterr);
	file = status ? NULL : calloc(1, sizeof(*file));
	if (!file) {
		close(fd);
		return status ? status : upd_fail(reterr, UPD_RESOURCES, "no memory");
	}
	file->base = (struct upd_source){ .ops = &file_ops, .is_cancelled = is_cancelled };
	file->fd = fd;
	file->size = options->size;
	*ret = (struct upd_source *)file;
	return 0;
}
