/* SPDX-License-Identifier: MIT */
/*
 * A UBI volume and a libcrypto that fail on demand, put between the sink and the real ones by the
 * linker (--wrap). The volume keeps the kernel's rules, as drivers/mtd/ubi/cdev.c and upd.c have
 * them: one writer; an update needs to be alone and marks the volume; then bytes only come in, in
 * order, neither seeks nor reads; the last one removes the mark; a marked volume cannot be read.
 *
 * Each operation is counted by its name, and the n-th can be made to
 *
 *     an errno's number   fail with it
 *     lose                be a write that is taken and not stored
 *     flip                be a read or a write with one bit changed
 *     short               take or give half
 *     late                be done, and say EIO
 *     die                 be where the power is cut, before it is done
 *     dead                the same, after it is done
 */
#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <mtd/ubi-user.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BLOCK_SIZE 5000U /* no multiple of anything that the sink works in */
#define BLOCKS 13U
#define ROOM (BLOCKS * (uint64_t)BLOCK_SIZE)
#define OLD 0xA5

enum { FD_VOLUME = 1000, FD_ATTRIBUTE = 2000 };
enum operation { OPEN, STAT, ATTRIBUTE, UPDATE, WRITE, READ, FLUSH, MEMORY, CRYPTO, OPERATIONS };
enum action { PASS, FAIL, LOSE, FLIP, SHORT, LATE, DIE, DEAD };

static const char *const names[OPERATIONS] = { "open", "stat",	"attribute", "update", "write",
					       "read", "flush", "memory",    "crypto" };
static const char *const actions[] = { "pass",	"fail", "lose", "flip",
				       "short", "late", "die",	"dead" };

static struct {
	/* as it was set up */
	uint64_t image_size;
	unsigned is_static, is_read_only, is_no_volume, is_no_device, is_another;
	unsigned readers;      /* that somebody else is */
	unsigned late_readers; /* updates that meet one, once an image is complete */
	/* as it is */
	unsigned char held[ROOM];
	uint64_t used_bytes;
	int is_marked, is_updating, is_corrupted, is_open, was_completed;
	uint64_t promised, received;
	char attribute[32];
	unsigned attributes_open;
	/* what is planned */
	enum operation planned;
	enum action action;
	int error;
	unsigned countdown;
	int has_happened;
} volume;

static int plan(const char *fault)
{
	char operation[16], what[16];

	if (sscanf(fault, "%15[a-z]:%u:%15s", operation, &volume.countdown, what) != 3)
		return 0;
	volume.action = FAIL;
	volume.error = atoi(what);
	for (unsigned i = LOSE; i <= DEAD; i++)
		if (strcmp(what, actions[i]) == 0)
			volume.action = (enum action)i;
	for (unsigned i = 0; i < OPERATIONS; i++) {
		volume.planned = (enum operation)i;
		if (strcmp(operation, names[i]) == 0)
			return 1;
	}
	return 0;
}

int volume_take(const char *key, const char *value)
{
	const struct {
		const char *key;
		unsigned *at;
	} rows[] = {
		{ "static", &volume.is_static },	  { "read_only", &volume.is_read_only },
		{ "no_volume", &volume.is_no_volume },	  { "no_device", &volume.is_no_device },
		{ "another", &volume.is_another },	  { "readers", &volume.readers },
		{ "late_readers", &volume.late_readers },
	};

	if (strcmp(key, "fault") == 0)
		return plan(value);
	if (strcmp(key, "size") == 0) {
		volume.image_size = strtoull(value, NULL, 10);
		memset(volume.held, OLD, sizeof(volume.held));
		volume.used_bytes = ROOM;
		return 1;
	}
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(key, rows[i].key) == 0) {
			*rows[i].at = (unsigned)atoi(value);
			return 1;
		}
	return 0;
}

unsigned char volume_image(uint64_t offset)
{
	unsigned char byte = (unsigned char)((offset * 2654435761U) >> 13);

	return byte == OLD ? 0 : byte;
}

void volume_tell(void)
{
	int is_new = 1, is_old = 1;

	for (uint64_t i = 0; i < ROOM; i++) {
		if (volume.held[i] != OLD)
			is_old = 0;
		if (i < volume.image_size && volume.held[i] != volume_image(i))
			is_new = 0;
	}
	printf("marked %d\nnew %d\nold %d\nused %llu\nleft_open %d\nhappened %d\n",
	       volume.is_marked, is_new, is_old, (unsigned long long)volume.used_bytes,
	       volume.is_open || volume.attributes_open > 0, volume.has_happened);
}

static void cut_power(void)
{
	volume_tell();
	puts("cut 1");
	fflush(stdout);
	_exit(0);
}

/* Count one operation and say what is to become of it; sets errno if it is to fail. */
static enum action visit(enum operation operation)
{
	if (operation != volume.planned || volume.countdown == 0 || --volume.countdown > 0)
		return PASS;
	volume.has_happened = 1;
	if (volume.action == DIE)
		cut_power();
	errno = volume.error;
	return volume.action;
}

/* What is said of an operation that was done. */
static ssize_t said(enum action action, ssize_t done)
{
	if (action == DEAD)
		cut_power();
	if (action != LATE)
		return done;
	errno = EIO;
	return -1;
}

static int refuse(int error)
{
	errno = error;
	return -1;
}

/* --- sysfs ------------------------------------------------------------------------------------ */

static int open_attribute(const char *path)
{
	const char *name = strrchr(path, '/') + 1;
	int is_above = strstr(path, "/../") != NULL;
	int number = -1;

	if (visit(ATTRIBUTE) == FAIL)
		return -1;
	if (strncmp(path, "/sys/dev/char/250:2/", 20) != 0 || volume.is_no_volume)
		return refuse(ENOENT);
	if (!is_above && strcmp(name, "reserved_ebs") == 0)
		number = BLOCKS;
	if (!is_above && strcmp(name, "usable_eb_size") == 0)
		number = BLOCK_SIZE;
	if (!is_above && strcmp(name, "corrupted") == 0)
		number = volume.is_corrupted;
	if (is_above && strcmp(name, "ro_mode") == 0)
		number = (int)volume.is_read_only;
	if (number < 0)
		return refuse(ENOENT);
	snprintf(volume.attribute, sizeof(volume.attribute), "%d\n", number);
	volume.attributes_open++;
	return FD_ATTRIBUTE;
}

ssize_t __real_read(int fd, void *buf, size_t len);

ssize_t __wrap_read(int fd, void *buf, size_t len)
{
	size_t have = strlen(volume.attribute);

	if (fd != FD_ATTRIBUTE)
		return __real_read(fd, buf, len);
	if (visit(ATTRIBUTE) == FAIL)
		return volume.error ? -1 : 0;
	memcpy(buf, volume.attribute, have < len ? have : len);
	return (ssize_t)(have < len ? have : len);
}

/* --- the device ------------------------------------------------------------------------------- */

static int about(struct stat *ret)
{
	*ret = (struct stat){ .st_mode = S_IFCHR | 0600, .st_rdev = makedev(250, 2) };
	return 0;
}

int __wrap_stat64(const char *path, struct stat *ret)
{
	if (visit(STAT) == FAIL)
		return -1;
	if (strcmp(path, VOLUME_PATH) != 0)
		return refuse(ENOENT);
	about(ret);
	if (volume.is_no_device)
		ret->st_mode = S_IFREG | 0600;
	return 0;
}

int __wrap_fstat64(int fd, struct stat *ret)
{
	if (visit(STAT) == FAIL)
		return -1;
	if (fd != FD_VOLUME || !volume.is_open)
		return refuse(EBADF);
	about(ret);
	if (volume.is_another)
		ret->st_rdev++;
	return 0;
}

int __wrap_open64(const char *path, int flags, ...)
{
	if (strncmp(path, "/sys/", 5) == 0)
		return open_attribute(path);
	if (visit(OPEN) == FAIL)
		return -1;
	if (strcmp(path, VOLUME_PATH) != 0 || (flags & O_ACCMODE) != O_RDWR)
		return refuse(ENOENT);
	if (volume.is_open)
		return refuse(EBUSY);
	volume.is_open = 1;
	return FD_VOLUME;
}

int __real_close(int fd);

int __wrap_close(int fd)
{
	if (fd == FD_ATTRIBUTE)
		volume.attributes_open--;
	if (fd == FD_VOLUME)
		volume.is_open = volume.is_updating = 0; /* a mark stays */
	return fd == FD_ATTRIBUTE || fd == FD_VOLUME ? 0 : __real_close(fd);
}

static int is_alone(void)
{
	if (volume.readers > 0 && !volume.was_completed)
		return 0;
	if (volume.was_completed && volume.late_readers > 0) {
		volume.late_readers--;
		return 0;
	}
	return 1;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	enum action action = visit(UPDATE);
	const int64_t *bytes;
	va_list args;

	va_start(args, request);
	bytes = va_arg(args, const int64_t *);
	va_end(args);
	if (action == FAIL)
		return -1;
	if (fd != FD_VOLUME || request != UBI_IOCVOLUP)
		return refuse(ENOTTY);
	if (*bytes < 0 || (uint64_t)*bytes > ROOM)
		return refuse(EINVAL);
	if (!is_alone())
		return refuse(EBUSY);
	memset(volume.held, 0xff, sizeof(volume.held));
	volume.is_marked = volume.is_updating = 1;
	volume.promised = (uint64_t)*bytes;
	volume.received = 0;
	return (int)said(action, 0);
}

static void complete(enum action action)
{
	volume.is_marked = volume.is_updating = 0;
	volume.was_completed = 1;
	volume.used_bytes = volume.is_static ? volume.promised : ROOM;
	/* the CRCs of a static volume; what is lost in a dynamic one nobody sees but a reader */
	volume.is_corrupted = volume.is_static && (action == FLIP || action == LOSE);
}

ssize_t __wrap_write(int fd, const void *buf, size_t len)
{
	enum action action = visit(WRITE);
	uint64_t left = volume.promised - volume.received;

	if (action == FAIL)
		return volume.error ? -1 : 0;
	if (fd != FD_VOLUME || !volume.is_updating)
		return refuse(EPERM);
	if (action == SHORT && len > 1)
		len /= 2;
	if (len > left)
		len = (size_t)left;
	if (action != LOSE)
		memcpy(volume.held + volume.received, buf, len);
	if (action == FLIP)
		volume.held[volume.received + len / 2] ^= 1;
	volume.received += len;
	if (volume.received == volume.promised)
		complete(action);
	return said(action, (ssize_t)len);
}

ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t offset)
{
	enum action action = visit(READ);

	if (action == FAIL)
		return volume.error ? -1 : 0;
	if (fd != FD_VOLUME || volume.is_updating || volume.is_marked)
		return refuse(volume.is_updating ? EBUSY : EBADF);
	if ((uint64_t)offset + len > volume.used_bytes)
		len = (size_t)(volume.used_bytes - (uint64_t)offset);
	if (action == SHORT)
		len /= 2;
	memcpy(buf, volume.held + offset, len);
	if (action == FLIP)
		((unsigned char *)buf)[len / 2] ^= 1;
	return said(action, (ssize_t)len);
}

int __wrap_fsync(int fd)
{
	enum action action = visit(FLUSH);

	if (action == FAIL)
		return -1;
	return fd == FD_VOLUME ? (int)said(action, 0) : refuse(EBADF);
}

/* --- memory and libcrypto --------------------------------------------------------------------- */

void *__real_calloc(size_t count, size_t len);
void *__real_realloc(void *old, size_t len);
void *__real_aligned_alloc(size_t alignment, size_t len);
char *__real_strdup(const char *text);
EVP_MAC *__real_EVP_MAC_fetch(OSSL_LIB_CTX *library, const char *name, const char *properties);
int __real_EVP_MAC_init(EVP_MAC_CTX *context, const unsigned char *key, size_t len,
			const OSSL_PARAM params[]);

void *__wrap_calloc(size_t count, size_t len)
{
	return visit(MEMORY) == FAIL ? NULL : __real_calloc(count, len);
}

void *__wrap_realloc(void *old, size_t len)
{
	return visit(MEMORY) == FAIL ? NULL : __real_realloc(old, len);
}

void *__wrap_aligned_alloc(size_t alignment, size_t len)
{
	return visit(MEMORY) == FAIL ? NULL : __real_aligned_alloc(alignment, len);
}

char *__wrap_strdup(const char *text)
{
	return visit(MEMORY) == FAIL ? NULL : __real_strdup(text);
}

EVP_MAC *__wrap_EVP_MAC_fetch(OSSL_LIB_CTX *library, const char *name, const char *properties)
{
	return visit(CRYPTO) == FAIL ? NULL : __real_EVP_MAC_fetch(library, name, properties);
}

int __wrap_EVP_MAC_init(EVP_MAC_CTX *context, const unsigned char *key, size_t len,
			const OSSL_PARAM params[])
{
	return visit(CRYPTO) == FAIL ? 0 : __real_EVP_MAC_init(context, key, len, params);
}
