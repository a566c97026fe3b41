/* SPDX-License-Identifier: MIT */
/*
 * What the kernel makes of flash.c's flash, put between the sink and the real kernel by the linker
 * (--wrap); what it tells of it is in flash_sysfs.c. NAND keeps NAND's rules: whole pages, in
 * order, once between two erasures, and nothing is asked of a bad block; NOR can only clear bits,
 * and not where it is locked. A rule that is broken ends the program.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "flash.h"

#define CHECK(what) ((what) ? (void)0 : broken(#what))

static void broken(const char *rule)
{
	fprintf(stderr, "rule of the flash broken: %s\n", rule);
	abort();
}

static unsigned char *block_at(unsigned block)
{
	return flash.chips->bytes + (size_t)block * flash.erase_size;
}

static void cut_power(void)
{
	flash.at_cut();
	puts("cut 1");
	fflush(stdout);
	_exit(0);
}

/* --- operations ------------------------------------------------------------------------------- */

/* Count one operation and say what is to become of it; sets errno if it is to fail. */
enum flash_action flash_visit(enum flash_operation operation)
{
	if (operation != flash.planned || flash.countdown == 0 || --flash.countdown > 0)
		return FLASH_PASS;
	flash.has_happened = 1;
	if (flash.action == FLASH_DIE)
		cut_power();
	errno = flash.error;
	return flash.action;
}

int flash_refuse(int error)
{
	errno = error;
	return -1;
}

static int said(enum flash_action action, int done)
{
	if (action == FLASH_DEAD || action == FLASH_TEAR)
		cut_power();
	return done;
}

static int erase(uint64_t start, uint64_t len)
{
	const unsigned block = (unsigned)(start / flash.erase_size);
	enum flash_action action = flash_visit(FLASH_ERASE);
	size_t done = len;

	if (action == FLASH_FAIL)
		return -1;
	CHECK(flash.is_writable);
	CHECK(start % flash.erase_size == 0 && len == flash.erase_size && block < flash.blocks);
	CHECK(!flash.chips->is_bad[block]);
	if (flash.chips->is_locked[block])
		return flash_refuse(EROFS);
	flash.chips->erasures[block]++;
	if (flash.weak_erase[block])
		return said(action, flash_refuse(EIO));
	flash.has_lied |= action == FLASH_LOSE;
	if (action == FLASH_LOSE)
		return 0;
	if (action == FLASH_TEAR)
		done /= 2;
	memset(block_at(block), 0xff, done);
	for (uint64_t at = start; at < start + len; at += flash_page_size())
		*flash_page_of(at) = at < start + done ? FLASH_BLANK : FLASH_TORN;
	return said(action, 0);
}

static int lock_or_unlock(const struct erase_info_user *range, int is_locked)
{
	if (flash_visit(FLASH_LOCK) == FLASH_FAIL)
		return -1;
	if (flash_is_nand())
		return flash_refuse(EOPNOTSUPP);
	for (uint64_t at = range->start; at < (uint64_t)range->start + range->length;
	     at += flash.erase_size)
		flash.chips->is_locked[at / flash.erase_size] = (unsigned char)is_locked;
	flash.locks += (unsigned)is_locked;
	flash.unlocks += (unsigned)!is_locked;
	return 0;
}

static int tell_lock(const struct erase_info_user *range)
{
	if (flash_visit(FLASH_LOCK) == FLASH_FAIL)
		return -1;
	if (flash_is_nand() || flash.tells_no_locks)
		return flash_refuse(EOPNOTSUPP);
	return flash.chips->is_locked[range->start / flash.erase_size];
}

static int mark_bad(const loff_t *place)
{
	enum flash_action action = flash_visit(FLASH_MARK);

	if (action == FLASH_FAIL)
		return -1;
	CHECK(flash_is_nand() && *place % flash.erase_size == 0);
	if (!flash.takes_no_marks && action != FLASH_LOSE)
		flash.chips->is_bad[*place / flash.erase_size] = 1;
	return said(action, 0);
}

static int tell_info(struct mtd_info_user *ret)
{
	if (flash_visit(FLASH_INFO) == FLASH_FAIL)
		return -1;
	*ret = (struct mtd_info_user){ .type = (unsigned char)flash.type,
				       .flags = flash.is_read_only ? 0 : MTD_WRITEABLE,
				       .size = flash.blocks * flash.erase_size,
				       .erasesize = flash.claims ? flash.claims : flash.erase_size,
				       .writesize = flash.write_size };
	return 0;
}

static int tell_lost(struct mtd_ecc_stats *ret)
{
	enum flash_action action = flash_visit(FLASH_ECC);

	flash.failed += action == FLASH_STRAY;
	ret->failed = flash.failed;
	return action == FLASH_FAIL ? -1 : 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	const struct erase_info_user64 *wide;
	const struct erase_info_user *narrow;
	va_list args;
	void *ret;

	va_start(args, request);
	ret = va_arg(args, void *);
	va_end(args);
	wide = ret;
	narrow = ret;
	if (fd != FLASH_FD || flash.open_count == 0 || flash.is_foreign)
		return flash_refuse(ENOTTY);
	switch (request) {
	case MEMGETINFO:
		return tell_info(ret);
	case MEMGETBADBLOCK:
		return flash_visit(FLASH_BAD) == FLASH_FAIL
			       ? -1
			       : flash.chips->is_bad[*(loff_t *)ret / flash.erase_size];
	case MEMSETBADBLOCK:
		return mark_bad(ret);
	case MEMERASE64:
		return flash.is_old ? flash_refuse(ENOTTY) : erase(wide->start, wide->length);
	case MEMERASE:
		return erase(narrow->start, narrow->length);
	case MEMLOCK:
	case MEMUNLOCK:
		return lock_or_unlock(ret, request == MEMLOCK);
	case MEMISLOCKED:
		return tell_lock(ret);
	case ECCGETSTATS:
		return tell_lost(ret);
	default:
		return flash_refuse(ENOTTY);
	}
}

/* --- programming and reading ------------------------------------------------------------------ */

/* Bits go from 1 to 0. */
static void clear_bits(uint64_t place, const unsigned char *buf, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char *byte = &flash.chips->bytes[place + i];

		CHECK(flash.has_lied || (*byte & buf[i]) == buf[i]);
		*byte &= buf[i];
	}
	flash.programmed += (unsigned)len;
}

static void program_page(uint64_t place, const unsigned char *buf)
{
	const unsigned block = (unsigned)(place / flash.erase_size);

	for (uint64_t at = place; at < (block + 1ULL) * flash.erase_size; at += flash.write_size)
		CHECK(flash.has_lied || *flash_page_of(at) == FLASH_BLANK);
	clear_bits(place, buf, flash.write_size);
	*flash_page_of(place) = flash.grave[block] ? FLASH_TORN : FLASH_FULL;
}

static void program(uint64_t place, const unsigned char *buf, size_t len)
{
	const unsigned block = (unsigned)(place / flash.erase_size);

	if (!flash_is_nand())
		clear_bits(place, buf, len);
	for (size_t at = 0; flash_is_nand() && at < len; at += flash.write_size)
		program_page(place + at, buf + at);
	if (len > 0 && (flash.grave[block] || flash.liar[block]))
		flash.chips->bytes[place + len / 2] ^= 0x10;
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t offset)
{
	const uint64_t place = (uint64_t)offset;
	const unsigned block = (unsigned)(place / flash.erase_size);
	const uint64_t third = (uint64_t)block * flash.erase_size + 2 * flash_page_size();
	enum flash_action action = flash_visit(FLASH_WRITE);

	if (action == FLASH_FAIL)
		return flash.error ? -1 : 0;
	CHECK(fd == FLASH_FD && flash.is_writable && len > 0);
	CHECK(place % flash.write_size == 0 && len % flash.write_size == 0);
	CHECK(block < flash.blocks && place % flash.erase_size + len <= flash.erase_size);
	CHECK(!flash.chips->is_bad[block]);
	if (flash.chips->is_locked[block])
		return flash_refuse(EROFS);
	if (action == FLASH_LOSE)
		return (ssize_t)len;
	if (action == FLASH_TEAR || (action == FLASH_SHORT && len > flash.write_size))
		len = len / flash.write_size / 2 * flash.write_size;
	if (flash.weak_write[block] && place + len > third) {
		if (place < third)
			program(place, buf, (size_t)(third - place));
		return said(action, flash_refuse(EIO));
	}
	program(place, buf, len);
	if (action == FLASH_TEAR && flash_is_nand())
		*flash_page_of(place + len) = FLASH_TORN;
	said(action, 0);
	return (ssize_t)len;
}

ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t offset)
{
	const uint64_t place = (uint64_t)offset;
	enum flash_action action = flash_visit(FLASH_READ);

	flash.reads++;
	if (action == FLASH_FAIL)
		return flash.error ? -1 : 0;
	CHECK(fd == FLASH_FD);
	CHECK(place + len <= (uint64_t)flash.blocks * flash.erase_size);
	CHECK(!flash.chips->is_bad[place / flash.erase_size]);
	if (action == FLASH_SHORT)
		len /= 2;
	memcpy(buf, flash.chips->bytes + place, len);
	for (uint64_t at = place; flash_is_nand() && at < place + len; at += flash_page_size())
		flash.failed += *flash_page_of(at) == FLASH_TORN;
	return said(action, 0) == 0 ? (ssize_t)len : -1;
}

/* --- opening, memory ---------------------------------------------------------------------------
 */

int __wrap_open64(const char *path, int flags, ...)
{
	if (strncmp(path, "/sys/", 5) == 0)
		return flash_open_attribute(path);
	if (flash_visit(FLASH_OPEN) == FLASH_FAIL)
		return -1;
	CHECK(strcmp(path, FLASH_PATH) == 0 && (flags & O_CLOEXEC) && !flash.has_no_device);
	flash.is_writable = (flags & O_ACCMODE) == O_RDWR;
	flash.open_count++;
	return FLASH_FD;
}

int __real_close(int fd);

int __wrap_close(int fd)
{
	if (fd != FLASH_FD && fd != FLASH_ATTRIBUTE_FD)
		return __real_close(fd);
	CHECK(flash.open_count > 0);
	flash.open_count--;
	return 0;
}

int __wrap_flock(int fd, int operation)
{
	CHECK(fd == FLASH_FD && operation == (LOCK_EX | LOCK_NB));
	if (flash_visit(FLASH_OPEN) == FLASH_FAIL)
		return -1;
	return flash.is_held ? flash_refuse(EWOULDBLOCK) : 0;
}

void *__real_malloc(size_t len);
void *__real_calloc(size_t count, size_t len);

void *__wrap_malloc(size_t len)
{
	return flash_visit(FLASH_MEMORY) == FLASH_FAIL ? NULL : __real_malloc(len);
}

void *__wrap_calloc(size_t count, size_t len)
{
	return flash_visit(FLASH_MEMORY) == FLASH_FAIL ? NULL : __real_calloc(count, len);
}
