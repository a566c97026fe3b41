/* SPDX-License-Identifier: MIT */
/*
 * Who else has an MTD partition, and what protects it.
 *
 * The kernel lets anybody write to a partition that UBI is attached to or a file system is mounted
 * from, or to one that has bytes in common with such a one, so we look before the first erasure.
 * Write protection of NOR flash is lifted for as long as the image takes and set again where it
 * was; a kill or a power cut in between leaves it lifted, and nobody remembers.
 */
#include <errno.h>
#include <fcntl.h>
#include <mtd/mtd-user.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mtd.h"
#include "sysfs.h"

#define BLOCK_MAJOR 31U /* of /dev/mtdblockN; file systems on MTD itself have its numbers too */
#define UBI_DEVICES 32U

/* --- who has it ------------------------------------------------------------------------------- */

static int in_use(struct upd_error *reterr, const char *by)
{
	return upd_fail_errno(reterr, UPD_OPEN, EBUSY, 0, by);
}

int upd_mtd_claim(const struct upd_mtd *mtd, struct upd_error *reterr)
{
	if (flock(mtd->fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return in_use(reterr, "the flash is being written");
	return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the flash cannot be claimed");
}

/* Where a partition lies. A folder of sysfs is told by its inode; 0 is none. */
struct area {
	uint64_t start;
	uint64_t size;
	ino_t chip;   /* the whole flash; 0: the kernel does not show it as a device */
	ino_t folder; /* what the MTD devices of this flash are in, and maybe those of others */
};

static ino_t inode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_ino : 0;
}

/* From a partition up to what it is a part of: to others around it, and to the flash, if that is
 * shown (CONFIG_MTD_PARTITIONED_MASTER; drivers/mtd/mtdpart.c). 0 or -1. */
static int locate(unsigned number, struct area *ret)
{
	char path[72];
	size_t len = (size_t)snprintf(path, sizeof(path), "/sys/class/mtd/mtd%u", number);
	uint64_t fact;

	*ret = (struct area){ 0 };
	if (upd_sysfs_read(&ret->size, "%s/size", path) != 0)
		return -1;
	while (len + sizeof("/..") < sizeof(path) &&
	       upd_sysfs_read(&fact, "%s/offset", path) == 0) {
		ret->start += fact;
		len += (size_t)snprintf(path + len, sizeof(path) - len, "/..");
	}
	if (upd_sysfs_read(&fact, "%s/erasesize", path) == 0) {
		ret->chip = inode_of(path);
		snprintf(path + len, sizeof(path) - len, "/..");
	}
	ret->folder = inode_of(path);
	return 0;
}

/* Whether two partitions are the same or have bytes in common. */
static int shares(unsigned number, unsigned other)
{
	struct area ours, theirs;

	if (number == other)
		return 1;
	if (locate(number, &ours) != 0 || locate(other, &theirs) != 0)
		return 0; /* a kernel that does not tell where they are */
	if (ours.folder != theirs.folder || (ours.chip && theirs.chip && ours.chip != theirs.chip))
		return 0;
	return ours.start < theirs.start + theirs.size && theirs.start < ours.start + ours.size;
}

static int refuse_attached(const struct upd_mtd *mtd, struct upd_error *reterr)
{
	for (unsigned i = 0; i < UBI_DEVICES; i++) {
		uint64_t other;

		if (upd_sysfs_read(&other, "/sys/class/ubi/ubi%u/mtd_num", i) == 0 &&
		    shares(mtd->number, (unsigned)other))
			return in_use(reterr,
				      other == mtd->number
					      ? "the flash is attached to UBI"
					      : "an overlapping partition is attached to UBI");
	}
	return 0;
}

static int refuse_line(const struct upd_mtd *mtd, const char *line, struct upd_error *reterr)
{
	unsigned major = 0, minor = 0;

	if (sscanf(line, "%*u %*u %u:%u", &major, &minor) != 2 || major != BLOCK_MAJOR ||
	    !shares(mtd->number, minor))
		return 0;
	return in_use(reterr, minor == mtd->number ? "the flash is mounted"
						   : "an overlapping partition is mounted");
}

static int refuse_mounted(const struct upd_mtd *mtd, struct upd_error *reterr)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t room = 0;
	int status = 0;

	while (mounts && status == 0 && getline(&line, &room, mounts) >= 0)
		status = refuse_line(mtd, line, reterr);
	if (status == 0 && (!mounts || !feof(mounts)))
		status = upd_fail(reterr, UPD_OPEN,
				  "it cannot be told whether the flash is mounted");
	free(line);
	if (mounts)
		fclose(mounts);
	return status;
}

int upd_mtd_refuse_used(const struct upd_mtd *mtd, struct upd_error *reterr)
{
	int status = refuse_attached(mtd, reterr);

	return status ? status : refuse_mounted(mtd, reterr);
}

/* --- write protection ------------------------------------------------------------------------- */

static uint32_t blocks_of(const struct upd_mtd *mtd)
{
	return (uint32_t)(mtd->size / mtd->erase_size);
}

static int lift(const struct upd_mtd *mtd)
{
	/* all at once: what protects only the first or last so many blocks takes no holes */
	struct erase_info_user all = { .length = blocks_of(mtd) * mtd->erase_size };

	return upd_mtd_control(mtd, MEMUNLOCK, &all);
}

/* Fill was_locked; the number of locked blocks, or -1. */
static long ask(const struct upd_mtd *mtd)
{
	long locked = 0;

	for (uint32_t i = 0; i < blocks_of(mtd); i++) {
		struct erase_info_user block = { .start = i * mtd->erase_size,
						 .length = mtd->erase_size };
		int is_locked = upd_mtd_control(mtd, MEMISLOCKED, &block);

		if (is_locked < 0)
			return -1;
		mtd->was_locked[i] = is_locked > 0;
		locked += is_locked > 0;
	}
	return locked;
}

int upd_mtd_unlock(struct upd_mtd *mtd, struct upd_error *reterr)
{
	long locked;

	if (mtd->is_nand || mtd->size > UINT32_MAX)
		return 0;
	mtd->was_locked = calloc(blocks_of(mtd), 1);
	if (!mtd->was_locked)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	locked = ask(mtd);
	if (locked < 0 && errno != EOPNOTSUPP)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0,
				      "the flash does not tell what is locked");
	/* where nobody can tell it may be locked all the same: then it is not locked again */
	if (locked < 0 && lift(mtd) != 0 && errno != EOPNOTSUPP)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the flash cannot be unlocked");
	if (locked > 0 && lift(mtd) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the flash cannot be unlocked");
	return 0;
}

void upd_mtd_lock_again(struct upd_mtd *mtd)
{
	uint32_t start = 0;

	for (uint32_t i = 0; mtd->was_locked && i < blocks_of(mtd); i++) {
		const int is_last = i + 1 == blocks_of(mtd);

		if (!mtd->was_locked[i]) {
			start = i + 1;
		} else if (is_last || !mtd->was_locked[i + 1]) {
			struct erase_info_user run = { .start = start * mtd->erase_size,
						       .length =
							       (i + 1 - start) * mtd->erase_size };

			upd_mtd_control(mtd, MEMLOCK, &run); /* nobody is left to be told */
		}
	}
}
