/* SPDX-License-Identifier: MIT */
/*
 * Who else has an MTD partition, and what protects it.
 *
 * The kernel lets anybody write to a partition that UBI is attached to or a file system is mounted
 * from, so we look before the first erasure. Write protection of NOR flash is lifted for as long as
 * the image takes and set again where it was; a kill or a power cut in between leaves it lifted,
 * and nobody remembers.
 */
#include <errno.h>
#include <fcntl.h>
#include <mtd/mtd-user.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
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

/* The partition that a UBI device is attached to, or -1 if there is no such UBI device. */
static long attached_by(unsigned ubi)
{
	uint64_t number;

	return upd_sysfs_read(&number, "/sys/class/ubi/ubi%u/mtd_num", ubi) == 0 ? (long)number
										 : -1;
}

/* 1, 0, or -1 if that cannot be told. */
static int is_mounted(unsigned number)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	unsigned major = 0, minor = 0;
	char *line = NULL;
	size_t room = 0;
	int is_found = 0, is_whole;

	if (!mounts)
		return -1;
	while (!is_found && getline(&line, &room, mounts) >= 0)
		is_found = sscanf(line, "%*u %*u %u:%u", &major, &minor) == 2 &&
			   major == BLOCK_MAJOR && minor == number;
	is_whole = is_found || feof(mounts);
	free(line);
	fclose(mounts);
	return is_whole ? is_found : -1;
}

int upd_mtd_refuse_used(const struct upd_mtd *mtd, struct upd_error *reterr)
{
	int mounted;

	for (unsigned i = 0; i < UBI_DEVICES; i++)
		if (attached_by(i) == (long)mtd->number)
			return in_use(reterr, "the flash is attached to UBI");
	mounted = is_mounted(mtd->number);
	if (mounted < 0)
		return upd_fail(reterr, UPD_OPEN, "it cannot be told whether the flash is mounted");
	return mounted ? in_use(reterr, "the flash is mounted") : 0;
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
