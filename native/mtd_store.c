/* SPDX-License-Identifier: MIT */
/*
 * One erase block of an MTD partition, stored and proven: erased, programmed, read back.
 *
 * A failure is believed when it comes twice. What the kernel counts as bits that ECC could not
 * correct may be another partition's of the same chip, read at the same moment (mtd_read_oob() in
 * drivers/mtd/mtdcore.c compares the chip's counters and holds no lock), and a block that is marked
 * bad is lost for ever.
 */
#include <stdlib.h>
#include <string.h>

#include "extent.h"
#include "mtd.h"

#define SCRATCH_LIMIT ((size_t)256 << 10)

int upd_mtd_make_scratch(struct upd_mtd *mtd)
{
	mtd->scratch_size = mtd->erase_size < SCRATCH_LIMIT ? mtd->erase_size : SCRATCH_LIMIT;
	mtd->scratch = malloc(mtd->scratch_size);
	return mtd->scratch ? 0 : -1;
}

static size_t rounded(const struct upd_mtd *mtd, size_t len)
{
	const size_t unit = mtd->write_size;

	return (len + unit - 1) / unit * unit;
}

int upd_mtd_compare(const struct upd_mtd *mtd, uint32_t block, const unsigned char *wanted,
		    size_t len, struct upd_error *reterr)
{
	const uint64_t start = (uint64_t)block * mtd->erase_size;
	size_t at = 0;

	while (at < len) {
		const size_t part = len - at < mtd->scratch_size ? len - at : mtd->scratch_size;
		int status = upd_mtd_read(mtd, mtd->scratch, part, start + at, reterr);

		if (status != 0)
			return status;
		if (wanted ? memcmp(mtd->scratch, wanted + at, part) != 0
			   : !upd_mtd_is_blank(mtd->scratch, part))
			return upd_extent_differs(reterr, start + at);
		at += part;
	}
	return 0;
}

static int store_once(const struct upd_mtd *mtd, uint32_t block, const unsigned char *buf,
		      size_t len, int is_erased, struct upd_error *reterr)
{
	const size_t whole = buf ? rounded(mtd, len) : len;
	int status = is_erased ? 0 : upd_mtd_erase(mtd, block, reterr);

	if (status == 0 && buf)
		status = upd_mtd_program(mtd, block, buf, whole, reterr);
	if (status == 0 && (!buf || mtd->reads_back))
		status = upd_mtd_compare(mtd, block, buf, whole, reterr);
	return status;
}

int upd_mtd_store(const struct upd_mtd *mtd, uint32_t block, const unsigned char *buf, size_t len,
		  int is_erased, struct upd_error *reterr)
{
	int status = store_once(mtd, block, buf, len, is_erased, reterr);

	if (status == 0 || !upd_mtd_is_worn(mtd, reterr))
		return status;
	*reterr = (struct upd_error){ 0 };
	return store_once(mtd, block, buf, len, 0, reterr);
}
