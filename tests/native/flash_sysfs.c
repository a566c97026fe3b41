/* SPDX-License-Identifier: MIT */
/*
 * What the kernel tells of flash.c's flash and of others: sysfs, the node, the mounts. The flash
 * is a partition, and has neighbours that touch it and others that overlap it; around it, beside it
 * or nowhere stands the chip (CONFIG_MTD_PARTITIONED_MASTER; drivers/mtd/mtdpart.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "flash.h"

#define SIZE (12 * 16384) /* unless it is another flash */
#define WHOLE (-1)
#define FOLDERS 100 /* their numbers begin here */

static const struct device {
	int number, parent; /* another one, or a folder */
	long start, size;
} devices[] = {
	{ 0, FOLDERS, WHOLE, 1 << 20 },	  { 4, 0, 0, FLASH_START },
	{ 5, 0, FLASH_START, SIZE },	  { 6, 0, FLASH_START + SIZE, 65536 },
	{ 7, 0, 0, FLASH_START + 16384 }, { 8, 0, FLASH_START + SIZE - 16384, 65536 },
	{ 9, 5, 16384, 16384 },		  { 10, FOLDERS, WHOLE, 1 << 20 },
	{ 11, 10, FLASH_START, SIZE },	  { 12, FOLDERS + 1, WHOLE, 1 << 20 },
	{ 13, 12, FLASH_START, SIZE },	  { 14, 8, 32768, 16384 },
};

static const struct device *row_of(int number)
{
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		if (devices[i].number == number)
			return &devices[i];
	return NULL;
}

static const struct device *device_of(int number)
{
	const struct device *device = row_of(number);

	return device && device->start == WHOLE && flash.chip == FLASH_HIDDEN ? NULL : device;
}

/* A partition is in the one that it is a part of, and in the chip only if that is so. */
static int parent_of(int number)
{
	const struct device *device = row_of(number);
	const struct device *around = device ? row_of(device->parent) : NULL;

	if (around && around->start == WHOLE && flash.chip != FLASH_AROUND)
		return around->parent;
	return device ? device->parent : FOLDERS + 2;
}

/* Which device or folder a path leads to; *ret is the rest of it. */
static int walk(const char *path, const char **ret)
{
	int number = -1, len = 0;

	if (sscanf(path, "/sys/class/mtd/mtd%d%n", &number, &len) != 1)
		return -1;
	for (path += len; strncmp(path, "/..", 3) == 0; path += 3)
		number = parent_of(number);
	*ret = path;
	return number;
}

static long tell(const char *path)
{
	const char *name = "";
	const struct device *device = device_of(walk(path, &name));
	unsigned ubi = 99;

	if (sscanf(path, "/sys/class/ubi/ubi%u/mtd_num", &ubi) == 1 && ubi == 3)
		return (long)flash.ubi - 1;
	if (!device || (device->number == FLASH_NUMBER && flash.is_narrow))
		return -1;
	if (strcmp(name, "/size") == 0)
		return device->number == FLASH_NUMBER ? (long)flash.blocks * flash.erase_size
						      : device->size;
	if (strcmp(name, "/erasesize") == 0)
		return 16384;
	return strcmp(name, "/offset") == 0 ? device->start : -1;
}

static char attribute[32]; /* what the open one says */

int flash_open_attribute(const char *path)
{
	const long number = tell(path);

	if (flash_visit(FLASH_SYSFS) == FLASH_FAIL)
		return -1;
	if (number < 0)
		return flash_refuse(ENOENT);
	snprintf(attribute, sizeof(attribute), "%ld\n", number);
	flash.open_count++;
	return FLASH_ATTRIBUTE_FD;
}

ssize_t __real_read(int fd, void *buf, size_t len);

ssize_t __wrap_read(int fd, void *buf, size_t len)
{
	const size_t have = strlen(attribute);

	if (fd != FLASH_ATTRIBUTE_FD)
		return __real_read(fd, buf, len);
	if (flash_visit(FLASH_SYSFS) == FLASH_FAIL)
		return flash.error ? -1 : 0;
	memcpy(buf, attribute, have < len ? have : len);
	return (ssize_t)(have < len ? have : len);
}

int __wrap_stat64(const char *path, struct stat *ret)
{
	const char *rest = "";
	const int folder = walk(path, &rest);

	if (flash_visit(FLASH_STAT) == FLASH_FAIL)
		return -1;
	if (folder < 0 && strcmp(path, FLASH_PATH) != 0)
		return flash_refuse(ENOENT);
	*ret = (struct stat){ .st_mode = S_IFCHR | 0600,
			      .st_ino = (ino_t)folder + 1,
			      .st_rdev = makedev(flash.has_no_device ? 10 : 90, 2 * FLASH_NUMBER) };
	return 0;
}

FILE *__wrap_fopen64(const char *path, const char *mode)
{
	static char text[256];

	if (strcmp(path, "/proc/self/mountinfo") != 0)
		abort();
	if (flash_visit(FLASH_SYSFS) == FLASH_FAIL)
		return NULL;
	snprintf(text, sizeof(text), "22 1 0:21 / /proc rw - proc proc rw\n%s\n",
		 flash.late ? "" : flash.mounts);
	flash.late = 0;
	return fmemopen(text, strlen(text), mode);
}
