/* SPDX-License-Identifier: MIT */
/* The header of a zstd frame, fed with anything: what is read from it is what libzstd reads, and no
 * byte behind it is touched. */
#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_getFrameHeader */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "decoder.h"
#include "zstd_frame.h"

static void demand(int is_kept)
{
	if (!is_kept)
		abort();
}

static void compare(const unsigned char *bytes, size_t len)
{
	ZSTD_frameHeader theirs;
	struct upd_zstd_frame ours;
	const int wanted = upd_zstd_frame_parse(bytes, len, &ours);
	const size_t code = ZSTD_getFrameHeader(&theirs, bytes, len);

	demand(wanted <= 0 || ((size_t)wanted > len && wanted <= (int)UPD_ZSTD_HEADER_MAX));
	if (wanted != 0)
		return;
	demand(ours.header_size <= len && ours.header_size <= UPD_ZSTD_HEADER_MAX);
	if (code != 0) /* a window that libzstd does not take at all */
		return demand(!ours.is_skippable && ours.window > (uint64_t)1 << 31);
	demand(ours.is_skippable == (theirs.frameType == ZSTD_skippableFrame));
	if (ours.is_skippable)
		return demand(ours.skip == theirs.frameContentSize);
	demand(ours.header_size == theirs.headerSize);
	demand(ours.window == theirs.windowSize);
	demand(ours.content == theirs.frameContentSize);
	demand(ours.dictionary == theirs.dictID);
}

/* What libzstd accepts as a header of today's format is accepted here too. */
static void miss_nothing(const unsigned char *bytes, size_t len)
{
	ZSTD_frameHeader theirs;
	struct upd_zstd_frame ours;

	if (len >= 4 && ZSTD_getFrameHeader(&theirs, bytes, len) == 0)
		demand(upd_zstd_frame_parse(bytes, len, &ours) == 0);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	unsigned char *bytes = malloc(size); /* an exact copy, so that a byte too far is seen */
	enum upd_format format;

	if (size > 0)
		memcpy(bytes, data, size);
	compare(bytes, size);
	miss_nothing(bytes, size);
	format = upd_decoder_sniff(bytes, size);
	demand(format == UPD_FORMAT_RAW || size >= 3);
	free(bytes);
	return 0;
}
