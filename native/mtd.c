/* SPDX-License-Identifier: MIT */
/* The geometry of an MTD partition, and its blocks: read, erase, program, mark bad. */
#include "mtd.h"
#include "number.h"
#include "sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <mtd/mtd-user.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CHAR_MAJOR 90U
#define BLOCK_MAJOR 31U
#define ERASE_SIZE_LIMIT ((uint32_t)16 << 20)
#define KNOWN_SIZE 512U	 /* in it begins whatever is looked for on flash */
#define PIECE_SIZE 4096U /* of NOR flash, which is looked at for 0xFF; NAND has its pages */

int upd_mtd_control(const struct upd_mtd *mtd, unsigned long request, void *argument)
{
	int status;

	do
		status = ioctl(mtd->fd, request, argument);
	while (status < 0 && errno == EINTR);
	return status;
}

static uint64_t place_of(const struct upd_mtd *mtd, uint32_t block)
{
	return (uint64_t)mtd->map[block] * mtd->erase_size;
}

uint64_t upd_mtd_capacity(const struct upd_mtd *mtd)
{
	return (uint64_t)mtd->good * mtd->erase_size;
}

int upd_mtd_is_blank(const unsigned char *buf, size_t len)
{
	/* if the first byte is 0xFF and each equals the one before, all are */
	return len == 0 || (buf[0] == 0xff && memcmp(buf, buf + 1, len - 1) == 0);
}

/* --- open ------------------------------------------------------------------------------------- */

/* Read a number that sysfs tells of the partition; 0 or -1. */
static int read_attribute(const struct upd_mtd *mtd, const char *name, uint64_t *ret)
{
	return upd_sysfs_read(ret, "/sys/class/mtd/mtd%u/%s", mtd->number, name);
}

/* Before it is opened: to open what is no flash, a watchdog say, may do harm. */
static int examine(struct upd_mtd *mtd, const char *path, uint64_t number, struct upd_error *reterr)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the flash cannot be examined");
	if (!S_ISCHR(st.st_mode) || major(st.st_rdev) != CHAR_MAJOR)
		return upd_fail(reterr, UPD_OPEN, "the device is no MTD partition");
	mtd->number = minor(st.st_rdev) / 2; /* the odd ones can only be read */
	return upd_number_check(makedev(BLOCK_MAJOR, mtd->number), number, reterr);
}

static int open_node(struct upd_mtd *mtd, const char *path, int flags, struct upd_error *reterr)
{
	mtd->fd = open(path, flags | O_CLOEXEC);
	if (mtd->fd >= 0)
		return 0;
	return upd_fail_errno(reterr, UPD_OPEN, errno, 0,
			      errno == EACCES && (flags & O_ACCMODE) != O_RDONLY
				      ? "the partition is read-only"
				      : "the flash cannot be opened");
}

static int check_kind(struct upd_mtd *mtd, const struct mtd_info_user *info,
		      struct upd_error *reterr)
{
	switch (info->type) {
	case MTD_NANDFLASH:
	case MTD_MLCNANDFLASH:
		mtd->is_nand = 1;
		return 0;
	case MTD_NORFLASH:
	case MTD_DATAFLASH:
	case MTD_RAM:
		return 0;
	default:
		return upd_fail(reterr, UPD_OPEN, "MTD of type %u is not supported", info->type);
	}
}

static int check_geometry(struct upd_mtd *mtd, const struct mtd_info_user *info,
			  struct upd_error *reterr)
{
	mtd->erase_size = info->erasesize;
	mtd->write_size = info->writesize;
	if (mtd->erase_size == 0 || mtd->erase_size > ERASE_SIZE_LIMIT || mtd->write_size == 0 ||
	    mtd->erase_size % mtd->write_size != 0)
		return upd_fail(reterr, UPD_OPEN,
				"erase blocks of %u bytes in pages of %u are not supported",
				mtd->erase_size, mtd->write_size);
	/* what the call tells of it has 32 bits */
	if (read_attribute(mtd, "size", &mtd->size) != 0 || (uint32_t)mtd->size != info->size)
		mtd->size = info->size;
	if (mtd->size / mtd->erase_size == 0 || mtd->size / mtd->erase_size > UINT32_MAX)
		return upd_fail(reterr, UPD_OPEN, "a flash of %llu bytes is not supported",
				(unsigned long long)mtd->size);
	return 0;
}

/* FNV-1a over what tells this partition from others. */
static void identify(struct upd_mtd *mtd)
{
	uint64_t facts[3] = { mtd->number, mtd->size, 0 };

	read_attribute(mtd, "offset", &facts[2]); /* a whole flash has none */
	mtd->identity = 0xcbf29ce484222325U;
	for (size_t i = 0; i < 3; i++)
		for (unsigned shift = 0; shift < 64; shift += 8) {
			mtd->identity ^= facts[i] >> shift & 0xff;
			mtd->identity *= 0x100000001b3U;
		}
}

static int make_map(struct upd_mtd *mtd, struct upd_error *reterr)
{
	const uint32_t blocks = (uint32_t)(mtd->size / mtd->erase_size);

	mtd->map = malloc(blocks * sizeof(*mtd->map));
	if (!mtd->map)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	for (uint32_t i = 0; i < blocks; i++) {
		loff_t place = (loff_t)i * mtd->erase_size;
		int is_bad = mtd->is_nand ? upd_mtd_control(mtd, MEMGETBADBLOCK, &place) : 0;

		if (is_bad < 0)
			return upd_fail_errno(reterr, UPD_OPEN, errno, (uint64_t)place,
					      "the flash does not tell its bad blocks");
		if (!is_bad)
			mtd->map[mtd->good++] = i;
	}
	if (mtd->good == 0)
		return upd_fail(reterr, UPD_OPEN, "all %u blocks of the flash are bad", blocks);
	return 0;
}

int upd_mtd_open(struct upd_mtd *mtd, const char *path, int flags, uint64_t number,
		 struct upd_error *reterr)
{
	struct mtd_info_user info = { 0 };
	int status;

	*mtd = (struct upd_mtd){ .fd = -1 };
	status = examine(mtd, path, number, reterr);
	if (status == 0)
		status = open_node(mtd, path, flags, reterr);
	if (status != 0)
		return status;
	if (upd_mtd_control(mtd, MEMGETINFO, &info) != 0)
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0, "the flash has no geometry");
	if ((flags & O_ACCMODE) != O_RDONLY && !(info.flags & MTD_WRITEABLE))
		return upd_fail_errno(reterr, UPD_OPEN, EROFS, 0, "the partition is read-only");
	status = check_kind(mtd, &info, reterr);
	if (status == 0)
		status = check_geometry(mtd, &info, reterr);
	if (status == 0)
		status = make_map(mtd, reterr);
	if (status == 0)
		identify(mtd);
	return status;
}

void upd_mtd_close(struct upd_mtd *mtd)
{
	if (mtd->fd >= 0)
		close(mtd->fd);
	free(mtd->map);
	free(mtd->was_locked);
	free(mtd->scratch);
}

/* --- read ------------------------------------------------------------------------------------- */

static int read_bytes(const struct upd_mtd *mtd, unsigned char *buf, size_t len, uint64_t place,
		      struct upd_error *reterr)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(mtd->fd, buf + done, len - done, (off_t)(place + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return upd_fail_errno(reterr, UPD_IO, n < 0 ? errno : EIO, place + done,
					      "read of the flash failed");
		done += (size_t)n;
	}
	return 0;
}

static int count_lost(const struct upd_mtd *mtd, uint32_t *ret, struct upd_error *reterr)
{
	struct mtd_ecc_stats stats = { 0 };

	if (upd_mtd_control(mtd, ECCGETSTATS, &stats) != 0)
		return upd_fail_errno(reterr, UPD_IO, errno, 0, "the flash does not tell of ECC");
	*ret = stats.failed;
	return 0;
}

/* UPD_MORE if bits were lost meanwhile. */
static int read_once(const struct upd_mtd *mtd, unsigned char *buf, size_t len, uint64_t place,
		     struct upd_error *reterr)
{
	uint32_t before = 0, after = 0;
	int status = count_lost(mtd, &before, reterr);

	if (status == 0)
		status = read_bytes(mtd, buf, len, place, reterr);
	if (status == 0)
		status = count_lost(mtd, &after, reterr);
	return status == 0 && before != after ? UPD_MORE : status;
}

/* Within one block. Twice, for others who read the same chip may have lost them: see mtd_store.c */
static int read_part(const struct upd_mtd *mtd, unsigned char *buf, size_t len, uint64_t place,
		     struct upd_error *reterr)
{
	int status = read_once(mtd, buf, len, place, reterr);

	if (status == UPD_MORE)
		status = read_once(mtd, buf, len, place, reterr);
	if (status != UPD_MORE)
		return status;
	reterr->os_errno = EBADMSG;
	reterr->offset = place;
	return upd_fail(reterr, UPD_READ_BACK,
			"more bits of the flash are wrong than ECC corrects, behind byte %llu",
			(unsigned long long)place);
}

int upd_mtd_read(const struct upd_mtd *mtd, unsigned char *buf, size_t len, uint64_t offset,
		 struct upd_error *reterr)
{
	int status = 0;

	while (status == 0 && len > 0) {
		const uint32_t block = (uint32_t)(offset / mtd->erase_size);
		const size_t within = (size_t)(offset % mtd->erase_size);
		const size_t left = mtd->erase_size - within;
		const size_t part = len < left ? len : left;

		if (block >= mtd->good)
			return upd_fail_errno(reterr, UPD_IO, ENXIO, offset,
					      "the flash has no such block");
		status = read_part(mtd, buf, part, place_of(mtd, block) + within, reterr);
		buf += part;
		len -= part;
		offset += part;
	}
	return status;
}

/* --- erase, program, mark --------------------------------------------------------------------- */

int upd_mtd_erase(const struct upd_mtd *mtd, uint32_t block, struct upd_error *reterr)
{
	struct erase_info_user64 wide = { .start = place_of(mtd, block),
					  .length = mtd->erase_size };
	struct erase_info_user narrow = { .start = (uint32_t)wide.start,
					  .length = mtd->erase_size };
	int status = upd_mtd_control(mtd, MEMERASE64, &wide);

	if (status != 0 && errno == ENOTTY && narrow.start == wide.start)
		status = upd_mtd_control(mtd, MEMERASE, &narrow); /* older than 2.6.31 */
	if (status != 0)
		return upd_fail_errno(reterr, UPD_IO, errno, wide.start,
				      "erasing the flash failed");
	return 0;
}

static int write_run(const struct upd_mtd *mtd, const unsigned char *buf, size_t len,
		     uint64_t place, struct upd_error *reterr)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(mtd->fd, buf + done, len - done, (off_t)(place + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return upd_fail_errno(reterr, UPD_IO, n < 0 ? errno : EIO, place + done,
					      "write to the flash failed");
		done += (size_t)n;
	}
	return 0;
}

static int program_part(const struct upd_mtd *mtd, uint32_t block, const unsigned char *buf,
			size_t from, size_t to, struct upd_error *reterr)
{
	const size_t page = mtd->write_size < PIECE_SIZE && !mtd->is_nand
				    ? PIECE_SIZE / mtd->write_size * mtd->write_size
				    : mtd->write_size;
	size_t start = from, at = from;
	int status = 0;

	while (status == 0 && at < to) {
		const size_t rest = page - at % page;
		const size_t piece = to - at < rest ? to - at : rest;
		const int is_blank = upd_mtd_is_blank(buf + at, piece);
		const size_t end = is_blank ? at : at + piece;

		at += piece;
		if (!is_blank && at < to)
			continue; /* the run goes on */
		if (end > start)
			status = write_run(mtd, buf + start, end - start,
					   place_of(mtd, block) + start, reterr);
		start = at;
	}
	return status;
}

int upd_mtd_program(const struct upd_mtd *mtd, uint32_t block, const unsigned char *buf, size_t len,
		    struct upd_error *reterr)
{
	/* what a head is known by comes last; the pages of NAND have an order of their own */
	const size_t first =
		mtd->is_nand || len < KNOWN_SIZE || KNOWN_SIZE % mtd->write_size ? 0 : KNOWN_SIZE;
	int status = program_part(mtd, block, buf, first, len, reterr);

	return status || first == 0 ? status : program_part(mtd, block, buf, 0, first, reterr);
}

int upd_mtd_is_worn(const struct upd_mtd *mtd, const struct upd_error *error)
{
	/* what a controller or a driver says otherwise is no block's fault */
	return mtd->is_nand && (error->status == UPD_READ_BACK || error->os_errno == EIO ||
				error->os_errno == EBADMSG);
}

int upd_mtd_retire(struct upd_mtd *mtd, uint32_t block, struct upd_error *reterr)
{
	const uint64_t place = place_of(mtd, block);
	loff_t argument = (loff_t)place;

	if (upd_mtd_control(mtd, MEMSETBADBLOCK, &argument) != 0)
		return upd_fail_errno(reterr, UPD_IO, errno, place,
				      "a worn block cannot be marked bad");
	/* who reads the slot must skip it as we do */
	argument = (loff_t)place;
	if (upd_mtd_control(mtd, MEMGETBADBLOCK, &argument) <= 0)
		return upd_fail_errno(reterr, UPD_IO, EIO, place,
				      "a worn block does not stay marked bad");
	mtd->good--;
	memmove(mtd->map + block, mtd->map + block + 1, (mtd->good - block) * sizeof(*mtd->map));
	return 0;
}
