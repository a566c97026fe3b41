/* SPDX-License-Identifier: MIT */
/*
 * An MTD partition by the kernel's own calls (mtd/mtd-user.h): what the sink and the source share.
 *
 * Erase blocks are counted over the good ones, in the order in which they stand on the flash, as
 * every bootloader does that skips bad blocks: block 0 is the first good one. So a block that is
 * marked bad moves all behind it, and what lies before it stays where it was. Offsets of the image
 * are turned into blocks here; offsets in errors are the partition's own.
 */
#ifndef UPD_MTD_H
#define UPD_MTD_H

#include <stddef.h>

#include "error.h"

struct upd_mtd {
	int fd;
	unsigned number; /* N of /dev/mtdN */
	int is_nand;	 /* blocks can be bad; whole pages, in order, once between two erasures */
	uint64_t size;
	uint64_t identity;
	uint32_t erase_size;
	uint32_t write_size;
	uint32_t *map;		   /* which erase block of the partition each good one is */
	uint32_t good;		   /* of them */
	unsigned char *was_locked; /* by erase block; NULL: nothing was unlocked */
	int reads_back;		   /* what is programmed */
	unsigned char *scratch;	   /* NULL: nothing is stored or compared */
	size_t scratch_size;
};

/* flags are open's; number is of the options. Refuses what is no flash, and what cannot be written
 * if that is asked for. */
int upd_mtd_open(struct upd_mtd *mtd, const char *path, int flags, uint64_t number,
		 struct upd_error *reterr);

/* Also if it was never opened, with fd -1. */
void upd_mtd_close(struct upd_mtd *mtd);

uint64_t upd_mtd_capacity(const struct upd_mtd *mtd);

/* Read from an offset of the image on, across good blocks; UPD_IO, or UPD_READ_BACK where more bits
 * are wrong than ECC corrects: the kernel then gives the bytes as they are, and only counts. */
int upd_mtd_read(const struct upd_mtd *mtd, unsigned char *buf, size_t len, uint64_t offset,
		 struct upd_error *reterr);

int upd_mtd_erase(const struct upd_mtd *mtd, uint32_t block, struct upd_error *reterr);

/* Program an erased block from its begin on; len is a multiple of write_size. Pages of nothing but
 * 0xFF stay as the erasure has left them. */
int upd_mtd_program(const struct upd_mtd *mtd, uint32_t block, const unsigned char *buf, size_t len,
		    struct upd_error *reterr);

/* Whether the error of erase, program, read or compare is the block's own, and another block may
 * do. */
int upd_mtd_is_worn(const struct upd_mtd *mtd, const struct upd_error *error);

/* Mark a block bad, durably, and take it out of the map. */
int upd_mtd_retire(struct upd_mtd *mtd, uint32_t block, struct upd_error *reterr);

int upd_mtd_is_blank(const unsigned char *buf, size_t len);

/* ioctl, again where a signal has kept it from beginning. */
int upd_mtd_control(const struct upd_mtd *mtd, unsigned long request, void *argument);

/* mtd_store.c */

/* 0, or -1 if there is no memory. Freed by closing. */
int upd_mtd_make_scratch(struct upd_mtd *mtd);

/* Compare with what a block holds; wanted == NULL: it is to be blank. */
int upd_mtd_compare(const struct upd_mtd *mtd, uint32_t block, const unsigned char *wanted,
		    size_t len, struct upd_error *reterr);

/* Erase a block, unless that was just done, program it, and read it back; buf == NULL: len bytes of
 * it are to be blank. Behind len buf is 0xFF up to the next page. What fails is tried twice. */
int upd_mtd_store(const struct upd_mtd *mtd, uint32_t block, const unsigned char *buf, size_t len,
		  int is_erased, struct upd_error *reterr);

/* mtd_guard.c */

/* Keep others like us out; there is no exclusive open on MTD. Freed by closing. */
int upd_mtd_claim(const struct upd_mtd *mtd, struct upd_error *reterr);

/* Refuse a partition that UBI or a file system holds now, or one that has bytes in common. */
int upd_mtd_refuse_used(const struct upd_mtd *mtd, struct upd_error *reterr);

/* Lift the write protection of NOR flash, and set it again where it was. */
int upd_mtd_unlock(struct upd_mtd *mtd, struct upd_error *reterr);
void upd_mtd_lock_again(struct upd_mtd *mtd);

#endif
