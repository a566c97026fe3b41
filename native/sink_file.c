/* SPDX-License-Identifier: MIT */
/*
 * A plain file as a sink. The image goes to NAME.part beside it, which takes the file's name only
 * when every byte was read back and matched: until then the old file stands, and a cut leaves one
 * of the two whole. Room for a known size is reserved before the first byte; without one the file
 * system may turn out to be full, which is as if a device were too small.
 *
 * NAME.part stays behind only if a later try can go on with it, and then it takes no more room than
 * what is proven. Whoever holds its lock is the only one who writes, renames or removes it.
 */
#define _GNU_SOURCE /* O_DIRECT, fallocate */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "direct.h"
#include "extent.h"
#include "ring.h"

#define LOCK_TRIES 100

struct file_sink {
	struct upd_direct direct;
	char path[PATH_MAX]; /* of the file itself, symbolic links resolved */
	char part[PATH_MAX + 8];
	int folder;
	mode_t mode;
	uint64_t length; /* of the part, as far as zeros count */
	int is_ours;	 /* the part: it is there, and locked */
	int was_there;	 /* and an earlier try's, which a checkpoint may be about */
	int is_begun;
};

/* The part is new, or ends where it was proven: behind its end there are zeros. */
static int file_zero(struct upd_direct *direct, uint64_t offset, uint64_t len,
		     struct upd_error *reterr)
{
	struct file_sink *file = (struct file_sink *)direct;

	if (offset + len <= file->length)
		return 0;
	if (ftruncate(direct->fd, (off_t)(offset + len)) != 0)
		return upd_fail_errno(reterr, UPD_IO, errno, offset, "the file cannot grow");
	file->length = offset + len;
	return 0;
}

static const struct upd_direct_ops zeroing = { .zero = file_zero };

/* What could be had of the room has been taken, and is given back first. */
static int no_room(const struct file_sink *file, uint64_t size, struct upd_error *reterr)
{
	struct statvfs room = { 0 };

	if (ftruncate(file->direct.fd, 0) == 0 && fstatvfs(file->direct.fd, &room) == 0)
		reterr->offset = (uint64_t)room.f_bavail * room.f_frsize;
	return upd_fail(reterr, UPD_SPACE, "image needs %llu bytes, the file system has %llu left",
			(unsigned long long)size, (unsigned long long)reterr->offset);
}

static int is_full(int os_errno)
{
	return os_errno == ENOSPC || os_errno == EFBIG || os_errno == EDQUOT;
}

static int reserve(struct file_sink *file, uint64_t size, struct upd_error *reterr)
{
	int fd = file->direct.fd;

	while (size > 0 && fallocate(fd, 0, 0, (off_t)size) != 0) {
		if (is_full(errno))
			return no_room(file, size, reterr);
		if (errno == EOPNOTSUPP)
			return 0; /* the write that finds no room will say so */
		if (errno != EINTR)
			return upd_fail_errno(reterr, UPD_IO, errno, 0, "no room can be reserved");
	}
	if (size > 0)
		file->length = size;
	return 0;
}

/* Where no room was reserved a write, or its flush, finds none: that is no fault of the medium. */
static int judged(int status, struct upd_error *reterr)
{
	if (status != UPD_IO || !is_full(reterr->os_errno))
		return status;
	return upd_fail(reterr, UPD_SPACE, "the file system has no room behind byte %llu",
			(unsigned long long)reterr->offset);
}

static int file_blank(struct upd_sink *base, uint64_t size, struct upd_error *reterr)
{
	struct file_sink *file = (struct file_sink *)base;
	int status;

	file->is_begun = 1;
	/* what an earlier try left behind the proven part would be taken for zeros */
	if (ftruncate(file->direct.fd, (off_t)file->direct.offset) != 0)
		return upd_fail_errno(reterr, UPD_IO, errno, 0, "the file cannot be cut");
	file->length = file->direct.offset;
	status = reserve(file, size, reterr);
	return status ? status : judged(upd_direct_blank(base, size, reterr), reterr);
}

static int file_write(struct upd_sink *base, unsigned char *buf, size_t len,
		      struct upd_error *reterr)
{
	return judged(upd_direct_write(base, buf, len, reterr), reterr);
}

static int file_settle(struct upd_sink *base, struct upd_error *reterr)
{
	return judged(upd_direct_settle(base, reterr), reterr);
}

static int file_commit(struct upd_sink *base, struct upd_error *reterr)
{
	struct file_sink *file = (struct file_sink *)base;
	int fd = file->direct.fd;
	int status = judged(upd_direct_commit(base, reterr), reterr);

	if (status != 0)
		return status;
	if (ftruncate(fd, (off_t)file->direct.offset) != 0 || fchmod(fd, file->mode) != 0 ||
	    fsync(fd) != 0 || rename(file->part, file->path) != 0)
		return upd_fail_errno(reterr, UPD_IO, errno, 0, "the file cannot take its name");
	file->is_ours = 0; /* there is none any more */
	if (fsync(file->folder) != 0)
		return upd_fail_errno(reterr, UPD_IO, errno, 0, "flush of the folder failed");
	return 0;
}

/* What is not proven is cut off, once this try has begun to write. */
static int is_worth_keeping(const struct file_sink *file)
{
	const struct upd_sink *base = &file->direct.base;

	if (!base->is_resumable || !file->is_begun)
		return base->is_resumable && file->was_there;
	return ftruncate(file->direct.fd, (off_t)base->settled) == 0;
}

static void file_close(struct upd_sink *base)
{
	struct file_sink *file = (struct file_sink *)base;

	if (file->is_ours && !is_worth_keeping(file))
		unlink(file->part);
	if (file->folder >= 0)
		close(file->folder);
	upd_direct_close(&file->direct); /* and with it all of file */
}

static const struct upd_sink_ops file_ops = {
	.blank = file_blank,
	.write = file_write,
	.settle = file_settle,
	.commit = file_commit,
	.close = file_close,
	.read = upd_direct_read,
	.resume = upd_direct_resume,
};

/* A device that was pulled out must not become a file in memory that holds what was meant for it.
 */
static int is_of_devices(const char *folder)
{
	return strcmp(folder, "/dev") == 0 ||
	       (strncmp(folder, "/dev/", 5) == 0 && strncmp(folder, "/dev/shm", 8) != 0);
}

/* The place of a file that is not there yet: its folder must be. */
static int resolve_new(struct file_sink *file, const char *name, struct upd_error *reterr)
{
	const char *slash = strrchr(name, '/');
	const char *base = slash ? slash + 1 : name;
	char folder[PATH_MAX] = ".";
	size_t len;

	if (strlen(name) >= sizeof(folder) || base[0] == '\0')
		return upd_fail(reterr, UPD_OPEN, "the file's name makes no sense");
	if (slash)
		snprintf(folder, sizeof(folder), "%.*s", (int)(slash == name ? 1 : slash - name),
			 name);
	if (!realpath(folder, file->path))
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the folder cannot be opened");
	if (is_of_devices(file->path))
		return upd_fail_errno(reterr, UPD_OPEN, ENOENT, 0, "there is no such device");
	len = strlen(file->path);
	if (len + strlen(base) + 2 > sizeof(file->path))
		return upd_fail(reterr, UPD_OPEN, "the file's name is too long");
	if (len > 1)
		file->path[len++] = '/';
	strcpy(file->path + len, base);
	return 0;
}

/* Where a file is to be: NAME, or what NAME links to. */
static int resolve(struct file_sink *file, const char *name, struct upd_error *reterr)
{
	struct stat st;
	int status = 0;

	file->mode = 0644;
	if (stat(name, &st) == 0 && !S_ISREG(st.st_mode))
		return upd_fail(reterr, UPD_OPEN, "the target is neither a device nor a file");
	if (realpath(name, file->path))
		file->mode = st.st_mode & 07777;
	else if (errno == ENOENT)
		status = resolve_new(file, name, reterr);
	else
		status = upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the file cannot be found");
	snprintf(file->part, sizeof(file->part), "%s.part", file->path);
	return status;
}

static int open_folder(struct file_sink *file, struct upd_error *reterr)
{
	char folder[PATH_MAX];
	char *slash;

	strcpy(folder, file->path);
	slash = strrchr(folder, '/'); /* there is one: the path is absolute */
	slash[slash == folder ? 1 : 0] = '\0';
	file->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (file->folder < 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the folder cannot be opened");
	return 0;
}

/* The name as it is now: another may have given the part its own, or removed it, since. */
static int is_named(const struct file_sink *file, const struct stat *st)
{
	struct stat named;

	return lstat(file->part, &named) == 0 && named.st_ino == st->st_ino &&
	       named.st_dev == st->st_dev;
}

static int busy(struct upd_error *reterr)
{
	return upd_fail_errno(reterr, UPD_OPEN, EBUSY, 0, "the file is being written");
}

/* Open the part, or make it, and lock it; UPD_MORE if it has lost its name meanwhile. */
static int lock_part(struct file_sink *file, struct stat *ret, struct upd_error *reterr)
{
	const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
	int fd = open(file->part, flags | O_DIRECT, 0600);

	if (fd < 0 && errno == EINVAL)
		fd = open(file->part, flags, 0600); /* a file system in memory, say */
	file->direct.fd = fd;
	if (fd < 0 || fstat(fd, ret) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the file cannot be written");
	if (!S_ISREG(ret->st_mode))
		return upd_fail(reterr, UPD_OPEN, "the file's .part is no file");
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		return busy(reterr);
	if (is_named(file, ret))
		return 0;
	close(fd);
	file->direct.fd = -1;
	return UPD_MORE;
}

static int open_part(struct file_sink *file, int has_checkpoint, struct upd_error *reterr)
{
	struct upd_error ignored = { 0 };
	struct stat st;
	int status = UPD_MORE;

	for (unsigned i = 0; i < LOCK_TRIES && status == UPD_MORE; i++)
		status = lock_part(file, &st, reterr);
	if (status == UPD_MORE)
		status = busy(reterr);
	if (status != 0)
		return status;
	file->is_ours = 1;
	file->was_there = has_checkpoint && st.st_size > 0;
	file->direct.is_cached = 1; /* some file systems take O_DIRECT and cache all the same */
	if (file->was_there)
		upd_extent_flush(file->direct.fd, file->direct.is_cached, 0, &ignored);
	file->direct.base.identity = st.st_ino ^ (uint64_t)st.st_dev << 32;
	return 0;
}

int upd_sink_file_open(const struct upd_options *options, struct upd_sink **ret,
		       struct upd_error *reterr)
{
	struct file_sink *file = calloc(1, sizeof(*file));
	int status;

	if (!file)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	file->direct.base.ops = &file_ops;
	file->direct.base.capacity = INT64_MAX; /* what there is room for is seen at blank */
	file->direct.ops = &zeroing;
	file->direct.sector = UPD_ALIGNMENT;
	file->direct.fd = file->folder = -1;
	file->direct.base.is_resumable = 1; /* what is there stays, unless the pump knows better */
	status = resolve(file, options->device, reterr);
	if (status == 0)
		status = open_folder(file, reterr);
	if (status == 0)
		status = open_part(file, options->checkpoint != NULL, reterr);
	if (status == 0)
		status = upd_direct_open(&file->direct, options, reterr);
	if (status != 0) {
		file_close(&file->direct.base);
		return status;
	}
	file->direct.skips_identical = 0; /* there is nothing yet that could be the same */
	*ret = &file->direct.base;
	return 0;
}
