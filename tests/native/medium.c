/* SPDX-License-Identifier: MIT */
/*
 * A medium, a memory and a libcrypto that fail on demand, put between the engine and the real ones
 * by the linker (--wrap): the engine's own objects are tested as they are.
 *
 * A regular file plays the block device. Each operation is counted by its name, and the n-th can be
 * made to
 *
 *     an errno's number   fail with it (libcrypto and pthread: just fail)
 *     lose                be a write or a flush that says it was done, and was not; or a lock whose
 *                         holder has just given NAME.part its name
 *     flip                be a read with one bit changed
 *     short               stop half-way, as the kernel may
 *     nap                 take a second
 *     die                 be the last thing that the process does, half done
 *     wait                not begin before medium_release(), which is when the caller cancels
 *
 * A record of the device's writes, flushes and reads, in the order of their ends, lets a test judge
 * that order, and rebuild what the medium holds after a power cut at any of them.
 */
#define _GNU_SOURCE
#include "medium.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum operation {
	OPEN,
	STAT,
	IOCTL,
	WRITE,
	ZERO,
	READ,
	SOURCE,
	FLUSH,
	LOCK,
	MEMORY,
	THREAD,
	CRYPTO,
	OPERATIONS
};
enum action { PASS, FAIL, LOSE, FLIP, SHORT, NAP, DIE, WAIT };

static const char *const names[OPERATIONS] = { "open", "stat",	 "ioctl",  "write",
					       "zero", "read",	 "source", "flush",
					       "lock", "memory", "thread", "crypto" };
static const char *const actions[] = {
	"pass", "fail", "lose", "flip", "short", "nap", "die", "wait"
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t released;
	char path[256];
	unsigned long sector;
	int fd; /* of the device, while it is open */
	FILE *record;
	enum operation planned;
	enum action action;
	int error;
	unsigned countdown; /* 0: nothing is planned any more */
	int has_happened;
	int is_released;
} medium = { .lock = PTHREAD_MUTEX_INITIALIZER, .released = PTHREAD_COND_INITIALIZER, .fd = -1 };

void medium_play(const char *path, unsigned long sector)
{
	snprintf(medium.path, sizeof(medium.path), "%s", path);
	medium.sector = sector;
}

int medium_plan(const char *fault)
{
	char operation[16], what[16];

	if (sscanf(fault, "%15[a-z]:%u:%15s", operation, &medium.countdown, what) != 3)
		return 0;
	medium.action = FAIL;
	medium.error = atoi(what);
	for (unsigned i = LOSE; i <= WAIT; i++)
		if (strcmp(what, actions[i]) == 0)
			medium.action = (enum action)i;
	for (unsigned i = 0; i < OPERATIONS; i++) {
		medium.planned = (enum operation)i;
		if (strcmp(operation, names[i]) == 0)
			return 1;
	}
	return 0;
}

void medium_record(const char *path)
{
	medium.record = fopen(path, "wb");
}

int medium_has_happened(void)
{
	int has_happened;

	pthread_mutex_lock(&medium.lock);
	has_happened = medium.has_happened;
	pthread_mutex_unlock(&medium.lock);
	return has_happened;
}

void medium_release(void)
{
	pthread_mutex_lock(&medium.lock);
	medium.is_released = 1;
	pthread_cond_broadcast(&medium.released);
	pthread_mutex_unlock(&medium.lock);
}

/* Count one operation and say what is to become of it; sets errno if it is to fail. */
static enum action visit(enum operation operation)
{
	enum action action = PASS;

	pthread_mutex_lock(&medium.lock);
	if (operation == medium.planned && medium.countdown > 0 && --medium.countdown == 0) {
		action = medium.action;
		medium.has_happened = 1;
		while (action == WAIT && !medium.is_released)
			pthread_cond_wait(&medium.released, &medium.lock);
	}
	pthread_mutex_unlock(&medium.lock);
	if (action == NAP)
		sleep(1);
	if (action == DIE && operation != WRITE)
		kill(getpid(), SIGKILL);
	errno = action == FAIL ? medium.error : 0;
	return action;
}

static void write_down(const char *what, const void *bytes, uint64_t offset, uint64_t len)
{
	const uint64_t numbers[2] = { offset, len };

	if (!medium.record)
		return;
	pthread_mutex_lock(&medium.lock);
	fwrite(what, 1, 1, medium.record);
	fwrite(numbers, sizeof(numbers), 1, medium.record);
	if (bytes)
		fwrite(bytes, 1, len, medium.record);
	fflush(medium.record);
	pthread_mutex_unlock(&medium.lock);
}

/* --- the device ------------------------------------------------------------------------------ */

int __real_open64(const char *path, int flags, ...);
int __real_fstat64(int fd, struct stat *ret);
int __real_stat64(const char *path, struct stat *ret);
void *__real_calloc(size_t count, size_t len);
int __real_ioctl(int fd, unsigned long request, ...);
int __real_close(int fd);
ssize_t __real_pwrite64(int fd, const void *buf, size_t len, off_t offset);
ssize_t __real_pread64(int fd, void *buf, size_t len, off_t offset);
int __real_fdatasync(int fd);

int __wrap_open64(const char *path, int flags, ...)
{
	int is_medium = strcmp(path, medium.path) == 0;
	va_list args;
	mode_t mode = 0;

	if (flags & O_CREAT) {
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	if (visit(OPEN) == FAIL)
		return -1;
	if (!is_medium)
		return __real_open64(path, flags, mode);
	medium.fd = __real_open64(path, flags & ~(O_DIRECT | O_EXCL));
	return medium.fd;
}

int __wrap_fstat64(int fd, struct stat *ret)
{
	if (visit(STAT) == FAIL || __real_fstat64(fd, ret) != 0)
		return -1;
	if (fd == medium.fd)
		ret->st_mode = (ret->st_mode & ~(mode_t)S_IFMT) | S_IFBLK;
	return 0;
}

int __wrap_stat64(const char *path, struct stat *ret)
{
	if (__real_stat64(path, ret) != 0)
		return -1;
	if (strcmp(path, medium.path) == 0)
		ret->st_mode = (ret->st_mode & ~(mode_t)S_IFMT) | S_IFBLK;
	return 0;
}

/* A write like others, but that it can be lost, or refused, on its own. */
static int zero_out(int fd, const uint64_t *range)
{
	enum action action = visit(ZERO);
	void *zeros;
	ssize_t done;

	if (action == FAIL || action == LOSE)
		return action == FAIL ? -1 : 0;
	zeros = __real_calloc(1, range[1]);
	done = __real_pwrite64(fd, zeros, range[1], (off_t)range[0]);
	write_down("w", zeros, range[0], range[1]);
	free(zeros);
	return done == (ssize_t)range[1] ? 0 : -1;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	struct stat st;
	va_list args;
	void *ret;

	va_start(args, request);
	ret = va_arg(args, void *);
	va_end(args);
	if (visit(IOCTL) == FAIL)
		return -1;
	if (fd != medium.fd)
		return __real_ioctl(fd, request, ret);
	if (request == BLKSSZGET || request == BLKROGET) {
		*(int *)ret = request == BLKSSZGET ? (int)medium.sector : 0;
		return 0;
	}
	if (request == BLKZEROOUT)
		return zero_out(fd, ret);
	if (request != BLKGETSIZE64 || __real_fstat64(fd, &st) != 0)
		return -1;
	*(uint64_t *)ret = (uint64_t)st.st_size;
	return 0;
}

int __wrap_close(int fd)
{
	if (fd == medium.fd)
		medium.fd = -1;
	return __real_close(fd);
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t offset)
{
	enum action action = visit(WRITE);
	ssize_t done;

	if (action == FAIL)
		return medium.error ? -1 : 0;
	if (action == LOSE)
		return (ssize_t)len;
	done = __real_pwrite64(fd, buf, action == SHORT || action == DIE ? len / 2 : len, offset);
	if (action == DIE)
		kill(getpid(), SIGKILL);
	if (done > 0)
		write_down("w", buf, (uint64_t)offset, (uint64_t)done);
	return done;
}

ssize_t __wrap_pread64(int fd, void *buf, size_t len, off_t offset)
{
	enum action action = visit(fd == medium.fd ? READ : SOURCE);
	ssize_t done;

	if (action == FAIL)
		return medium.error ? -1 : 0;
	done = __real_pread64(fd, buf, action == SHORT ? len / 2 : len, offset);
	if (fd == medium.fd && done > 0)
		write_down("r", NULL, (uint64_t)offset, (uint64_t)done);
	if (action == FLIP && done > 0)
		((unsigned char *)buf)[done / 2] ^= 1;
	return done;
}

int __wrap_fdatasync(int fd)
{
	enum action action = visit(FLUSH);

	if (action == FAIL)
		return -1;
	if (action == LOSE)
		return 0;
	write_down("f", NULL, 0, 0);
	return __real_fdatasync(fd);
}

int __real_flock(int fd, int operation);

static void give_name(int fd)
{
	char link[32], part[256] = "", name[256];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (readlink(link, part, sizeof(part) - 1) < 0)
		abort();
	strcpy(name, part);
	*strrchr(name, '.') = '\0';
	rename(part, name);
}

int __wrap_flock(int fd, int operation)
{
	enum action action = visit(LOCK);

	if (action == LOSE)
		give_name(fd);
	return action == FAIL ? -1 : __real_flock(fd, operation);
}

/* --- memory and threads ---------------------------------------------------------------------- */

void *__real_malloc(size_t len);
void *__real_aligned_alloc(size_t alignment, size_t len);
int __real_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*body)(void *),
			  void *);
int __real_eventfd(unsigned count, int flags);

void *__wrap_malloc(size_t len)
{
	return visit(MEMORY) == FAIL ? NULL : __real_malloc(len);
}

void *__wrap_calloc(size_t count, size_t len)
{
	return visit(MEMORY) == FAIL ? NULL : __real_calloc(count, len);
}

void *__wrap_aligned_alloc(size_t alignment, size_t len)
{
	return visit(MEMORY) == FAIL ? NULL : __real_aligned_alloc(alignment, len);
}

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*body)(void *),
			  void *context)
{
	return visit(THREAD) == FAIL ? EAGAIN : __real_pthread_create(ret, attr, body, context);
}

int __wrap_eventfd(unsigned count, int flags)
{
	return visit(MEMORY) == FAIL ? -1 : __real_eventfd(count, flags);
}

/* --- libcrypto ------------------------------------------------------------------------------- */

EVP_MD_CTX *__real_EVP_MD_CTX_new(void);
int __real_EVP_DigestInit_ex(EVP_MD_CTX *context, const EVP_MD *type, ENGINE *engine);
int __real_EVP_DigestUpdate(EVP_MD_CTX *context, const void *bytes, size_t len);
int __real_EVP_DigestFinal_ex(EVP_MD_CTX *context, unsigned char *ret, unsigned *len);
EVP_MAC *__real_EVP_MAC_fetch(OSSL_LIB_CTX *library, const char *name, const char *properties);
EVP_MAC_CTX *__real_EVP_MAC_CTX_new(EVP_MAC *mac);
int __real_EVP_MAC_init(EVP_MAC_CTX *context, const unsigned char *key, size_t len,
			const OSSL_PARAM params[]);
int __real_EVP_MAC_final(EVP_MAC_CTX *context, unsigned char *ret, size_t *len, size_t size);
int __real_RAND_bytes(unsigned char *ret, int len);

EVP_MD_CTX *__wrap_EVP_MD_CTX_new(void)
{
	return visit(MEMORY) == FAIL ? NULL : __real_EVP_MD_CTX_new();
}

int __wrap_EVP_DigestInit_ex(EVP_MD_CTX *context, const EVP_MD *type, ENGINE *engine)
{
	return visit(CRYPTO) == FAIL ? 0 : __real_EVP_DigestInit_ex(context, type, engine);
}

int __wrap_EVP_DigestUpdate(EVP_MD_CTX *context, const void *bytes, size_t len)
{
	return visit(CRYPTO) == FAIL ? 0 : __real_EVP_DigestUpdate(context, bytes, len);
}

int __wrap_EVP_DigestFinal_ex(EVP_MD_CTX *context, unsigned char *ret, unsigned *len)
{
	return visit(CRYPTO) == FAIL ? 0 : __real_EVP_DigestFinal_ex(context, ret, len);
}

EVP_MAC *__wrap_EVP_MAC_fetch(OSSL_LIB_CTX *library, const char *name, const char *properties)
{
	return visit(MEMORY) == FAIL ? NULL : __real_EVP_MAC_fetch(library, name, properties);
}

EVP_MAC_CTX *__wrap_EVP_MAC_CTX_new(EVP_MAC *mac)
{
	return visit(MEMORY) == FAIL ? NULL : __real_EVP_MAC_CTX_new(mac);
}

int __wrap_EVP_MAC_init(EVP_MAC_CTX *context, const unsigned char *key, size_t len,
			const OSSL_PARAM params[])
{
	return visit(CRYPTO) == FAIL ? 0 : __real_EVP_MAC_init(context, key, len, params);
}

int __wrap_EVP_MAC_final(EVP_MAC_CTX *context, unsigned char *ret, size_t *len, size_t size)
{
	return visit(CRYPTO) == FAIL ? 0 : __real_EVP_MAC_final(context, ret, len, size);
}

int __wrap_RAND_bytes(unsigned char *ret, int len)
{
	return visit(CRYPTO) == FAIL ? 0 : __real_RAND_bytes(ret, len);
}
