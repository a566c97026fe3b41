/* SPDX-License-Identifier: MIT */
/* What the header of a zstd frame says (RFC 8878, 3.1). Pure: bytes in, numbers out; the bytes are
 * hostile. Read here, and not by libzstd, because its interface tells of a window only after it has
 * refused it, and because its older formats must not get in. */
#ifndef UPD_ZSTD_FRAME_H
#define UPD_ZSTD_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define UPD_ZSTD_HEADER_MAX 18U /* bytes */
#define UPD_ZSTD_UNKNOWN UINT64_MAX

struct upd_zstd_frame {
	size_t header_size;
	int is_skippable;
	uint64_t skip;	     /* bytes behind the header, if it is skippable; all else is then 0 */
	uint64_t window;     /* bytes that the decoder must be able to look back */
	uint64_t content;    /* size of what the frame unpacks to, or UPD_ZSTD_UNKNOWN */
	uint32_t dictionary; /* 0: it needs none */
};

/* Returns 0, or -1 if that is no frame of today's format, or how many bytes it takes to say more:
 * more than len, and UPD_ZSTD_HEADER_MAX at most. */
int upd_zstd_frame_parse(const unsigned char *buf, size_t len, struct upd_zstd_frame *ret);

#endif
