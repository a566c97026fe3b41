/* SPDX-License-Identifier: MIT */
#include "zstd_frame.h"

#define MAGIC_SIZE 4U
#define MAGIC 0xfd2fb528U
#define SKIPPABLE_MAGIC 0x184d2a50U /* and the fifteen that follow */
#define SKIPPABLE_SIZE 8U

/* The frame header's descriptor. */
#define DICTIONARY_FLAG(descriptor) ((descriptor)&3U)
#define IS_RESERVED(descriptor) ((descriptor)&8U)
#define IS_SINGLE_SEGMENT(descriptor) ((descriptor)&32U)
#define CONTENT_FLAG(descriptor) ((descriptor) >> 6)

static uint64_t little_endian(const unsigned char *at, size_t size)
{
	uint64_t number = 0;

	for (size_t i = 0; i < size; i++)
		number |= (uint64_t)at[i] << 8 * i;
	return number;
}

static size_t dictionary_size(unsigned descriptor)
{
	static const unsigned char sizes[] = { 0, 1, 2, 4 };

	return sizes[DICTIONARY_FLAG(descriptor)];
}

static size_t content_size(unsigned descriptor)
{
	static const unsigned char sizes[] = { 0, 2, 4, 8 };

	if (CONTENT_FLAG(descriptor) == 0 && IS_SINGLE_SEGMENT(descriptor))
		return 1;
	return sizes[CONTENT_FLAG(descriptor)];
}

/* An exponent of two and eighths: 1 KiB to 3.75 TiB. */
static uint64_t window_of(unsigned char byte)
{
	const uint64_t base = (uint64_t)1 << (10 + (byte >> 3));

	return base + base / 8 * (byte & 7U);
}

static uint64_t content_of(const unsigned char *at, size_t size)
{
	if (size == 0)
		return UPD_ZSTD_UNKNOWN;
	return little_endian(at, size) + (size == 2 ? 256 : 0);
}

static int parse_data_frame(const unsigned char *buf, size_t len, struct upd_zstd_frame *ret)
{
	const unsigned descriptor = len > MAGIC_SIZE ? buf[MAGIC_SIZE] : 0;
	const size_t window_size = IS_SINGLE_SEGMENT(descriptor) ? 0 : 1;
	const unsigned char *at = buf + MAGIC_SIZE + 1;

	if (len <= MAGIC_SIZE)
		return MAGIC_SIZE + 1;
	if (IS_RESERVED(descriptor))
		return -1;
	ret->header_size = MAGIC_SIZE + 1 + window_size + dictionary_size(descriptor) +
			   content_size(descriptor);
	if (len < ret->header_size)
		return (int)ret->header_size;
	ret->dictionary = (uint32_t)little_endian(at + window_size, dictionary_size(descriptor));
	ret->content = content_of(at + window_size + dictionary_size(descriptor),
				  content_size(descriptor));
	ret->window = window_size ? window_of(*at) : ret->content;
	return 0;
}

int upd_zstd_frame_parse(const unsigned char *buf, size_t len, struct upd_zstd_frame *ret)
{
	uint64_t magic;

	*ret = (struct upd_zstd_frame){ 0 };
	if (len < MAGIC_SIZE)
		return MAGIC_SIZE;
	magic = little_endian(buf, MAGIC_SIZE);
	if (magic == MAGIC)
		return parse_data_frame(buf, len, ret);
	if (magic - SKIPPABLE_MAGIC > 0xf)
		return -1;
	if (len < SKIPPABLE_SIZE)
		return SKIPPABLE_SIZE;
	ret->header_size = SKIPPABLE_SIZE;
	ret->is_skippable = 1;
	ret->skip = little_endian(buf + MAGIC_SIZE, SKIPPABLE_SIZE - MAGIC_SIZE);
	return 0;
}
