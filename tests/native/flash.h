/* SPDX-License-Identifier: MIT */
/* A flash that fails on demand: flash.c is what it is and holds, flash_kernel.c what the kernel
 * makes of it, flash_sysfs.c what it tells of it, and burn.c the one who gives orders. */
#ifndef UPD_TEST_FLASH_H
#define UPD_TEST_FLASH_H

#include <mtd/mtd-user.h>
#include <stddef.h>
#include <stdint.h>

#define FLASH_PATH "/dev/mtd5"
#define FLASH_NUMBER 5
#define FLASH_START 65536U /* on its chip */
#define FLASH_MAX_BLOCKS 64U
#define FLASH_MAX_PAGES 4096U
#define FLASH_MAX_BYTES (4U << 20)

enum { FLASH_FD = 1000, FLASH_ATTRIBUTE_FD = 2000 };
enum flash_sysfs { FLASH_AROUND, FLASH_BESIDE, FLASH_HIDDEN }; /* where the chip is shown */

enum flash_page { FLASH_BLANK, FLASH_FULL, FLASH_TORN };

enum flash_operation {
	FLASH_OPEN,
	FLASH_STAT,
	FLASH_SYSFS,
	FLASH_INFO,
	FLASH_BAD,
	FLASH_MARK,
	FLASH_ERASE,
	FLASH_WRITE,
	FLASH_READ,
	FLASH_ECC,
	FLASH_LOCK,
	FLASH_MEMORY,
	FLASH_OPERATIONS
};

enum flash_action {
	FLASH_PASS,
	FLASH_FAIL,
	FLASH_LOSE,
	FLASH_SHORT,
	FLASH_DIE,
	FLASH_TEAR,
	FLASH_DEAD,
	FLASH_STRAY
};

/* What outlives the process, in a file if there is one. */
struct flash_chips {
	unsigned char is_made;
	unsigned char is_bad[FLASH_MAX_BLOCKS];
	unsigned char is_locked[FLASH_MAX_BLOCKS];
	unsigned erasures[FLASH_MAX_BLOCKS];
	unsigned char pages[FLASH_MAX_PAGES]; /* enum flash_page */
	unsigned char bytes[FLASH_MAX_BYTES];
};

struct flash {
	/* as ordered */
	unsigned type, is_read_only, is_narrow, is_old, tells_no_locks, takes_no_marks;
	unsigned blocks, erase_size, write_size;
	unsigned is_foreign, has_no_device, is_held;
	unsigned claims; /* what it says its erase blocks have; 0: the truth */
	unsigned ubi;	 /* 1 + the partition that a UBI device is attached to */
	unsigned chip;	 /* enum flash_sysfs */
	char mounts[128];
	unsigned is_ubi; /* the new image */
	unsigned late;	 /* mounted after the first look */
	char file[256];
	unsigned char weak_erase[FLASH_MAX_BLOCKS], weak_write[FLASH_MAX_BLOCKS];
	unsigned char grave[FLASH_MAX_BLOCKS], liar[FLASH_MAX_BLOCKS];
	unsigned char first_bad[FLASH_MAX_BLOCKS], first_locked[FLASH_MAX_BLOCKS];
	enum flash_operation planned;
	enum flash_action action;
	int error;
	unsigned countdown;
	/* as it is */
	struct flash_chips *chips;
	void (*at_cut)(void);
	unsigned failed; /* reads, by ECC */
	unsigned open_count, locks, unlocks;
	unsigned programmed; /* bytes */
	unsigned reads;
	int is_writable;
	int has_happened;
	int has_lied; /* an erasure was lost: what is programmed next mixes with what was there */
};

extern struct flash flash;

/* One order, key and value; 0 if there is no such key. */
int flash_take(const char *key, const char *value);

/* Bring it up as ordered: from its file if that is not new, else full of an old image. at_cut is
 * called, before the process ends, if a fault cuts the power. */
void flash_begin(void (*at_cut)(void));

/* Count one operation and say what is to become of it; sets errno if it is to fail. */
enum flash_action flash_visit(enum flash_operation operation);
int flash_refuse(int error); /* set errno; -1 */

int flash_open_attribute(const char *path);

int flash_is_nand(void);
unsigned flash_page_size(void); /* NOR has none: a block */
unsigned char *flash_page_of(uint64_t place);

/* Byte `offset` of the new image; the old one is made of others. Some pages, and some whole blocks,
 * are all 0xFF. */
unsigned char flash_image(uint64_t offset);

/* Print what the flash is now, and whether its good blocks hold the first `size` bytes of the new
 * image. Nothing of the sink's is asked. */
void flash_tell(uint64_t size);

#endif
