/* SPDX-License-Identifier: MIT */
/*
 * An MTD partition that fails on demand: what it is, and what it holds.
 *
 * Blocks can be worn: `weak_erase`, `weak_write` (its third page does not program), `grave` (it
 * takes everything and gives it back with more bits wrong than ECC corrects), `liar` (the same, but
 * ECC sees nothing). Lists of block numbers, joined by commas.
 *
 * Each operation is counted by its name, and the n-th can be made to
 *
 *     an errno's number   fail with it
 *     lose                be a program, an erase or a mark that is said to be done, and is not
 *     short               do half of it
 *     stray               find the count of lost bits raised by somebody else's read
 *     die, tear, dead     be where the power is cut: before it, in the middle of it, after it
 */
#include "flash.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KNOWN_SIZE 512U

static const char *const names[FLASH_OPERATIONS] = { "open", "stat", "sysfs", "info",
						     "bad",  "mark", "erase", "write",
						     "read", "ecc",  "lock",  "memory" };
static const char *const actions[] = { "pass", "fail", "lose", "short",
				       "die",  "tear", "dead", "stray" };

struct flash flash = {
	.type = MTD_NANDFLASH, .blocks = 12, .erase_size = 16384, .write_size = 2048
};

int __real_open64(const char *path, int flags, ...);

int flash_is_nand(void)
{
	return flash.type == MTD_NANDFLASH || flash.type == MTD_MLCNANDFLASH;
}

/* --- orders ----------------------------------------------------------------------------------- */

static int plan(const char *fault)
{
	char operation[16], what[16];

	if (sscanf(fault, "%15[a-z]:%u:%15s", operation, &flash.countdown, what) != 3)
		return 0;
	flash.action = FLASH_FAIL;
	flash.error = atoi(what);
	for (unsigned i = FLASH_LOSE; i <= FLASH_STRAY; i++)
		if (strcmp(what, actions[i]) == 0)
			flash.action = (enum flash_action)i;
	for (unsigned i = 0; i < FLASH_OPERATIONS; i++) {
		flash.planned = (enum flash_operation)i;
		if (strcmp(operation, names[i]) == 0)
			return 1;
	}
	return 0;
}

static int take_list(const char *key, const char *value)
{
	const struct {
		const char *key;
		unsigned char *at;
	} rows[] = {
		{ "weak_erase", flash.weak_erase }, { "weak_write", flash.weak_write },
		{ "grave", flash.grave },	    { "liar", flash.liar },
		{ "bad", flash.first_bad },	    { "locked", flash.first_locked },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(key, rows[i].key) == 0) {
			for (const char *at = value; at && *at; at = strchr(at, ',')) {
				at += *at == ',';
				rows[i].at[strtoul(at, NULL, 10) % FLASH_MAX_BLOCKS] = 1;
			}
			return 1;
		}
	return 0;
}

int flash_take(const char *key, const char *value)
{
	const struct {
		const char *key;
		unsigned *at;
	} rows[] = {
		{ "type", &flash.type },
		{ "read_only", &flash.is_read_only },
		{ "narrow", &flash.is_narrow },
		{ "old", &flash.is_old },
		{ "tells_no_locks", &flash.tells_no_locks },
		{ "takes_no_marks", &flash.takes_no_marks },
		{ "blocks", &flash.blocks },
		{ "erase_size", &flash.erase_size },
		{ "write_size", &flash.write_size },
		{ "foreign", &flash.is_foreign },
		{ "no_device", &flash.has_no_device },
		{ "held", &flash.is_held },
		{ "ubi", &flash.ubi },
		{ "chip", &flash.chip },
		{ "ubi_image", &flash.is_ubi },
		{ "claims", &flash.claims },
		{ "late", &flash.late },
	};

	if (strcmp(key, "fault") == 0)
		return plan(value);
	if (strcmp(key, "mounts") == 0)
		return snprintf(flash.mounts, sizeof(flash.mounts), "%s", value);
	if (strcmp(key, "file") == 0)
		return snprintf(flash.file, sizeof(flash.file), "%s", value);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(key, rows[i].key) == 0)
			return *rows[i].at = (unsigned)atoi(value), 1;
	return take_list(key, value);
}

/* --- what it holds ---------------------------------------------------------------------------- */

unsigned char flash_image(uint64_t offset)
{
	if (flash.is_ubi && offset < 4)
		return (unsigned char)"UBI#"[offset];
	if (offset / 2048 % 5 == 3 || offset / 16384 % 11 == 6)
		return 0xff;
	return (unsigned char)((offset * 2654435761U) >> 13);
}

static unsigned char old_image(uint64_t offset)
{
	return (unsigned char)(flash_image(offset) ^ 0x5a) & 0xfe;
}

static unsigned char *block_at(unsigned block)
{
	return flash.chips->bytes + (size_t)block * flash.erase_size;
}

unsigned flash_page_size(void)
{
	return flash_is_nand() ? flash.write_size : flash.erase_size;
}

unsigned char *flash_page_of(uint64_t place)
{
	return &flash.chips->pages[place / flash_page_size()];
}

void flash_begin(void (*at_cut)(void))
{
	int fd = flash.file[0] ? __real_open64(flash.file, O_RDWR | O_CREAT, 0600) : -1;
	const int kind = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	const size_t size = (size_t)flash.blocks * flash.erase_size;

	if (fd >= 0 && ftruncate(fd, sizeof(struct flash_chips)) != 0)
		abort();
	flash.chips = mmap(NULL, sizeof(struct flash_chips), PROT_READ | PROT_WRITE, kind, fd, 0);
	flash.at_cut = at_cut;
	if (flash.chips == MAP_FAILED || flash.chips->is_made)
		return;
	flash.chips->is_made = 1;
	memcpy(flash.chips->is_bad, flash.first_bad, FLASH_MAX_BLOCKS);
	memcpy(flash.chips->is_locked, flash.first_locked, FLASH_MAX_BLOCKS);
	for (size_t i = 0; i < size; i++) {
		flash.chips->bytes[i] = old_image(i);
		*flash_page_of(i) = FLASH_FULL;
	}
}

/* "unknown": a part of it, but nothing of what it is known by; "ending": that is what is missing */
static const char *head_is(const unsigned char *head, uint64_t size)
{
	int is_old = 1, is_known_new = 1, is_known_blank = 1, is_rest_new = 1, is_rest_blank = 1;

	for (unsigned i = 0; i < flash.erase_size; i++) {
		const int is_new = i >= size || head[i] == flash_image(i);

		is_old &= head[i] == old_image((uint64_t)(head - flash.chips->bytes) + i);
		*(i < KNOWN_SIZE ? &is_known_blank : &is_rest_blank) &= head[i] == 0xff;
		*(i < KNOWN_SIZE ? &is_known_new : &is_rest_new) &= is_new;
	}
	if (is_old)
		return "old";
	if (is_known_blank)
		return is_rest_blank ? "blank" : "unknown";
	if (is_rest_new)
		return is_known_new ? "new" : "ending";
	return "part";
}

static void list(const char *name, const unsigned char *of)
{
	printf("%s", name);
	for (unsigned i = 0; i < flash.blocks; i++)
		if (of[i])
			printf(" %u", i);
	puts("");
}

void flash_tell(uint64_t size)
{
	unsigned good = 0, most = 0;
	const char *head = "none";
	int is_new = 1;

	for (unsigned i = 0; i < flash.blocks; i++) {
		const uint64_t start = (uint64_t)good * flash.erase_size;

		most = flash.chips->erasures[i] > most ? flash.chips->erasures[i] : most;
		if (flash.chips->is_bad[i])
			continue;
		if (good++ == 0)
			head = head_is(block_at(i), size);
		for (uint64_t at = 0; at < flash.erase_size && start + at < size; at++)
			if (block_at(i)[at] != flash_image(start + at))
				is_new = 0;
	}
	is_new &= (uint64_t)good * flash.erase_size >= size;
	list("bad", flash.chips->is_bad);
	list("locked", flash.chips->is_locked);
	printf("head %s\nnew %d\nerased_most %u\nlocks %u\nunlocks %u\nprogrammed %u\nreads %u\n"
	       "left_open %u\nhappened %d\n",
	       head, is_new, most, flash.locks, flash.unlocks, flash.programmed, flash.reads,
	       flash.open_count, flash.has_happened);
}
