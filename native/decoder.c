/* SPDX-License-Identifier: MIT */
/* Which format a firmware is in, told by its first bytes, and who unpacks it. */
#include "decoder.h"

#include <string.h>

#include "zstd_frame.h"

struct magic {
	enum upd_format format;
	size_t len;
	unsigned char bytes[6];
};

static const struct magic magics[] = {
	{ UPD_FORMAT_GZIP, 3, { 0x1f, 0x8b, 0x08 } },
	{ UPD_FORMAT_XZ, 6, { 0xfd, '7', 'z', 'X', 'Z', 0x00 } },
	{ UPD_FORMAT_ZSTD, 4, { 0x28, 0xb5, 0x2f, 0xfd } },
};

/* How far skippable frames go. Other formats have them too: what is behind them decides. */
static size_t skippable(const unsigned char *buf, size_t len)
{
	struct upd_zstd_frame frame;
	size_t at = 0;

	while (upd_zstd_frame_parse(buf + at, len - at, &frame) == 0 && frame.is_skippable &&
	       frame.skip <= len - at - frame.header_size)
		at += frame.header_size + (size_t)frame.skip;
	return at;
}

enum upd_format upd_decoder_sniff(const unsigned char *buf, size_t len)
{
	const size_t skipped = skippable(buf, len);

	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
		const struct magic *magic = &magics[i];

		if (len - skipped >= magic->len &&
		    memcmp(buf + skipped, magic->bytes, magic->len) == 0 &&
		    (skipped == 0 || magic->format == UPD_FORMAT_ZSTD))
			return magic->format;
	}
	return UPD_FORMAT_RAW;
}

int upd_decoder_open(enum upd_format format, uint64_t memory, const unsigned char *buf, size_t len,
		     struct upd_decoder **ret, struct upd_error *reterr)
{
	const char *name = "that format";

	switch (format) {
	case UPD_FORMAT_GZIP:
		name = "gzip";
#ifdef UPD_WITH_GZIP
		return upd_decoder_gzip_open(memory, buf, len, ret, reterr);
#endif
		break;
	case UPD_FORMAT_XZ:
		name = "xz";
#ifdef UPD_WITH_XZ
		return upd_decoder_xz_open(memory, buf, len, ret, reterr);
#endif
		break;
	case UPD_FORMAT_ZSTD:
		name = "zstd";
#ifdef UPD_WITH_ZSTD
		return upd_decoder_zstd_open(memory, buf, len, ret, reterr);
#endif
		break;
	default:
		break;
	}
	(void)memory;
	(void)buf;
	(void)len;
	(void)ret;
	return upd_fail(reterr, UPD_FORMAT, "this build does not unpack %s", name);
}
