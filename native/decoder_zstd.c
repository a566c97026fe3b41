/* SPDX-License-Identifier: MIT */
/*
 * zstd by libzstd. What a frame needs is its window and what libzstd keeps beside it; libzstd is
 * told the largest window that fits the limit, so that a later frame cannot ask for more.
 */
#ifdef UPD_WITH_ZSTD
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "decoder.h"

#define BESIDE_BYTES ((uint64_t)448 << 10) /* two blocks of 128 KiB and libzstd's own tables */
#define MIN_WINDOW_LOG 10

struct zstd_decoder {
	struct upd_decoder base;
	ZSTD_DStream *zstd;
	uint64_t memory;
	size_t hint; /* 0: a frame has just ended */
};

/* The largest window, as a power of two, that fits; 0: none does. */
static int window_log(uint64_t memory)
{
	int log = 0;

	while (log < 31 && memory >= BESIDE_BYTES &&
	       (uint64_t)1 << (log + 1) <= memory - BESIDE_BYTES)
		log++;
	return log < MIN_WINDOW_LOG ? 0 : log;
}

static int judge(const struct zstd_decoder *zstd, size_t code, struct upd_error *reterr)
{
	if (!ZSTD_isError(code))
		return 0;
	switch (ZSTD_getErrorCode(code)) {
	case ZSTD_error_frameParameter_windowTooLarge:
		return upd_fail(reterr, UPD_FORMAT,
				"unpacking zstd needs more than the %llu bytes of memory allowed",
				(unsigned long long)zstd->memory);
	case ZSTD_error_memory_allocation:
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	case ZSTD_error_dictionary_wrong:
		return upd_fail(reterr, UPD_FORMAT, "the zstd data needs a dictionary");
	default:
		return upd_fail(reterr, UPD_FORMAT, "the zstd data is damaged");
	}
}

static int zstd_decode(struct upd_decoder *decoder, struct upd_decoder_io *io, int is_last,
		       struct upd_error *reterr)
{
	struct zstd_decoder *zstd = (struct zstd_decoder *)decoder;
	int is_stuck = 0;

	while (!is_stuck && (io->in_len > 0 || zstd->hint > 0)) {
		ZSTD_inBuffer in = { io->in, io->in_len, 0 };
		ZSTD_outBuffer out = { io->out, io->out_room, 0 };
		size_t code = ZSTD_decompressStream(zstd->zstd, &out, &in);

		if (ZSTD_isError(code))
			return judge(zstd, code, reterr);
		zstd->hint = code;
		is_stuck = in.pos == 0 && out.pos == 0;
		io->in += in.pos;
		io->in_len -= in.pos;
		io->out += out.pos;
		io->out_room -= out.pos;
	}
	if (io->in_len > 0 || !is_last || (zstd->hint > 0 && io->out_room == 0))
		return UPD_MORE;
	if (zstd->hint > 0)
		return upd_fail(reterr, UPD_FORMAT, "the zstd data ends too soon");
	return UPD_DONE;
}

static void zstd_close(struct upd_decoder *decoder)
{
	struct zstd_decoder *zstd = (struct zstd_decoder *)decoder;

	ZSTD_freeDStream(zstd->zstd);
	free(zstd);
}

static const struct upd_decoder_ops zstd_ops = { .decode = zstd_decode, .close = zstd_close };

static uint64_t claimed_size(const unsigned char *buf, size_t len)
{
	unsigned long long size = ZSTD_getFrameContentSize(buf, len);

	return size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR ? 0 : size;
}

/* Decode the first bytes without room for output, so that a window too large is met now. */
static int look(struct zstd_decoder *zstd, const unsigned char *buf, size_t len,
		struct upd_error *reterr)
{
	unsigned char nothing;
	ZSTD_inBuffer in = { buf, len, 0 };
	ZSTD_outBuffer out = { &nothing, 0, 0 };
	int log = window_log(zstd->memory);
	int status;

	status = judge(zstd, ZSTD_DCtx_setParameter(zstd->zstd, ZSTD_d_windowLogMax, log), reterr);
	if (status == 0)
		status = judge(zstd, ZSTD_decompressStream(zstd->zstd, &out, &in), reterr);
	zstd->base.image_size = claimed_size(buf, len);
	if (status == 0)
		status = judge(zstd, ZSTD_DCtx_reset(zstd->zstd, ZSTD_reset_session_only), reterr);
	return status;
}

int upd_decoder_zstd_open(uint64_t memory, const unsigned char *buf, size_t len,
			  struct upd_decoder **ret, struct upd_error *reterr)
{
	struct zstd_decoder *zstd;
	ZSTD_DStream *stream;
	int status;

	if (window_log(memory) == 0)
		return upd_fail(reterr, UPD_FORMAT,
				"unpacking zstd needs more than the %llu bytes of memory allowed",
				(unsigned long long)memory);
	stream = ZSTD_createDStream();
	zstd = calloc(1, sizeof(*zstd));
	if (!stream || !zstd) {
		ZSTD_freeDStream(stream);
		free(zstd);
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	}
	zstd->base.ops = &zstd_ops;
	zstd->zstd = stream;
	zstd->memory = memory;
	zstd->hint = 1; /* the first frame is due */
	status = look(zstd, buf, len, reterr);
	if (status != 0) {
		zstd_close(&zstd->base);
		return status;
	}
	*ret = &zstd->base;
	return 0;
}
#endif
