/* SPDX-License-Identifier: MIT */
/*
 * zstd by libzstd. Each frame's header is collected and judged here before libzstd sees it: what
 * the frame needs must fit the limit, and only today's format gets in. libzstd checks the content's
 * checksum where there is one. Several frames are one image; skippable ones are skipped.
 */
#ifdef UPD_WITH_ZSTD
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "decoder.h"
#include "zstd_frame.h"

/* Beside the window: libzstd's context, a block of 128 KiB on its way in and two on theirs out. */
#define BESIDE_BYTES ((uint64_t)512 << 10)

enum place { IN_HEADER, IN_FRAME, IN_SKIPPABLE };

struct zstd_decoder {
	struct upd_decoder base;
	ZSTD_DStream *zstd;
	uint64_t memory;
	uint64_t taken;
	enum place place;
	uint64_t left;	/* of a skippable frame */
	int is_starved; /* all that was taken is unpacked */
	int has_frame;
	unsigned char header[UPD_ZSTD_HEADER_MAX];
	size_t header_len;
};

static int broken(const struct zstd_decoder *zstd, struct upd_error *reterr)
{
	reterr->offset = zstd->taken;
	return upd_fail(reterr, UPD_FORMAT, "the zstd data is damaged near byte %llu",
			(unsigned long long)zstd->taken);
}

static void take(struct zstd_decoder *zstd, struct upd_decoder_io *io, size_t len)
{
	zstd->taken += len;
	io->in += len;
	io->in_len -= len;
}

static int check_memory(uint64_t window, uint64_t memory, struct upd_error *reterr)
{
	const uint64_t most = UINT64_MAX - BESIDE_BYTES;
	const uint64_t needed = BESIDE_BYTES + (window < most ? window : most);

	if (needed <= memory)
		return 0;
	return upd_fail(reterr, UPD_FORMAT,
			"unpacking zstd needs %llu bytes of memory, %llu are allowed",
			(unsigned long long)needed, (unsigned long long)memory);
}

static int check_frame(const struct upd_zstd_frame *frame, uint64_t memory,
		       struct upd_error *reterr)
{
	if (frame->dictionary != 0)
		return upd_fail(reterr, UPD_FORMAT, "the zstd data needs dictionary %u",
				frame->dictionary);
	return check_memory(frame->window < frame->content ? frame->window : frame->content, memory,
			    reterr);
}

static int judge(const struct zstd_decoder *zstd, size_t code, struct upd_error *reterr)
{
	if (!ZSTD_isError(code))
		return 0;
	switch (ZSTD_getErrorCode(code)) {
	case ZSTD_error_memory_allocation:
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	case ZSTD_error_frameParameter_windowTooLarge:
		return upd_fail(reterr, UPD_FORMAT,
				"the zstd data needs a larger window than libzstd takes");
	default:
		return broken(zstd, reterr);
	}
}

static int decompress(struct zstd_decoder *zstd, ZSTD_outBuffer *out, ZSTD_inBuffer *in,
		      struct upd_error *reterr)
{
	const size_t code = ZSTD_decompressStream(zstd->zstd, out, in);

	zstd->is_starved = out->pos < out->size;
	if (code == 0)
		zstd->place = IN_HEADER;
	return judge(zstd, code, reterr);
}

/* The header is complete: judge it, and let libzstd have it. */
static int begin_frame(struct zstd_decoder *zstd, const struct upd_zstd_frame *frame,
		       struct upd_error *reterr)
{
	ZSTD_inBuffer in = { zstd->header, frame->header_size, 0 };
	ZSTD_outBuffer out = { NULL, 0, 0 };
	int status = check_frame(frame, zstd->memory, reterr);

	zstd->header_len = 0;
	if (status != 0)
		return status;
	if (frame->is_skippable) {
		zstd->left = frame->skip;
		zstd->place = frame->skip ? IN_SKIPPABLE : IN_HEADER;
		return 0;
	}
	zstd->has_frame = 1;
	zstd->place = IN_FRAME;
	status = decompress(zstd, &out, &in, reterr);
	return status == 0 && in.pos < in.size ? broken(zstd, reterr) : status;
}

/* One byte more of it. */
static int collect_header(struct zstd_decoder *zstd, struct upd_decoder_io *io,
			  struct upd_error *reterr)
{
	struct upd_zstd_frame frame;
	int wanted;

	zstd->header[zstd->header_len++] = *io->in;
	take(zstd, io, 1);
	wanted = upd_zstd_frame_parse(zstd->header, zstd->header_len, &frame);
	if (wanted > 0)
		return 0;
	return wanted == 0 ? begin_frame(zstd, &frame, reterr) : broken(zstd, reterr);
}

static int skip_some(struct zstd_decoder *zstd, struct upd_decoder_io *io)
{
	const size_t len = zstd->left < io->in_len ? (size_t)zstd->left : io->in_len;

	take(zstd, io, len);
	zstd->left -= len;
	if (zstd->left == 0)
		zstd->place = IN_HEADER;
	return 0;
}

static int decompress_some(struct zstd_decoder *zstd, struct upd_decoder_io *io,
			   struct upd_error *reterr)
{
	ZSTD_inBuffer in = { io->in, io->in_len, 0 };
	ZSTD_outBuffer out = { io->out, io->out_room, 0 };
	int status = decompress(zstd, &out, &in, reterr);

	take(zstd, io, in.pos);
	io->out += out.pos;
	io->out_room -= out.pos;
	return status;
}

/* libzstd takes it amiss if it is called again and again and can do nothing. */
static int can_go_on(const struct zstd_decoder *zstd, const struct upd_decoder_io *io)
{
	if (zstd->place == IN_FRAME)
		return io->out_room > 0 && (io->in_len > 0 || !zstd->is_starved);
	return io->in_len > 0;
}

static int zstd_decode(struct upd_decoder *decoder, struct upd_decoder_io *io, int is_last,
		       struct upd_error *reterr)
{
	struct zstd_decoder *zstd = (struct zstd_decoder *)decoder;
	int status = 0;

	while (status == 0 && can_go_on(zstd, io)) {
		if (zstd->place == IN_FRAME)
			status = decompress_some(zstd, io, reterr);
		else if (zstd->place == IN_HEADER)
			status = collect_header(zstd, io, reterr);
		else
			status = skip_some(zstd, io);
	}
	if (status != 0)
		return status;
	if (io->in_len > 0 || !is_last || (zstd->place == IN_FRAME && io->out_room == 0))
		return UPD_MORE;
	if (zstd->place == IN_HEADER && zstd->header_len == 0 && zstd->has_frame)
		return UPD_DONE;
	return upd_fail(reterr, UPD_FORMAT, "the zstd data ends too soon, after %llu bytes",
			(unsigned long long)zstd->taken);
}

static void zstd_close(struct upd_decoder *decoder)
{
	struct zstd_decoder *zstd = (struct zstd_decoder *)decoder;

	ZSTD_freeDStream(zstd->zstd);
	free(zstd);
}

static const struct upd_decoder_ops zstd_ops = { .decode = zstd_decode, .close = zstd_close };

/* A frame's size is the image's unless more frames follow, as far as can be seen. */
static uint64_t claimed_size(const struct upd_zstd_frame *frame, const unsigned char *buf,
			     size_t len)
{
	const size_t size = ZSTD_findFrameCompressedSize(buf, len);

	if (frame->content == UPD_ZSTD_UNKNOWN || (!ZSTD_isError(size) && size < len))
		return 0;
	return frame->content;
}

/* Judge the first frame while nothing is written yet. */
static int look(const unsigned char *buf, size_t len, uint64_t memory, uint64_t *ret_size,
		struct upd_error *reterr)
{
	struct upd_zstd_frame frame;
	size_t at = 0;

	*ret_size = 0;
	while (upd_zstd_frame_parse(buf + at, len - at, &frame) == 0) {
		if (!frame.is_skippable) {
			*ret_size = claimed_size(&frame, buf + at, len - at);
			return check_frame(&frame, memory, reterr);
		}
		if (frame.skip > len - at - frame.header_size)
			break;
		at += frame.header_size + (size_t)frame.skip;
	}
	return check_memory(0, memory, reterr); /* what it is, is met when it is decoded */
}

/* Which windows are taken is decided here: libzstd takes all that it can. NULL: no memory. */
static ZSTD_DStream *open_stream(void)
{
	const ZSTD_bounds windows = ZSTD_dParam_getBounds(ZSTD_d_windowLogMax);
	ZSTD_DStream *stream = ZSTD_createDStream();

	if (stream)
		ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, windows.upperBound);
	return stream;
}

int upd_decoder_zstd_open(uint64_t memory, const unsigned char *buf, size_t len,
			  struct upd_decoder **ret, struct upd_error *reterr)
{
	struct zstd_decoder *zstd;
	ZSTD_DStream *stream;
	uint64_t image_size;
	int status = look(buf, len, memory, &image_size, reterr);

	if (status != 0)
		return status;
	stream = open_stream();
	zstd = calloc(1, sizeof(*zstd));
	if (!stream || !zstd) {
		ZSTD_freeDStream(stream);
		free(zstd);
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	}
	zstd->base = (struct upd_decoder){ .ops = &zstd_ops, .image_size = image_size };
	zstd->zstd = stream;
	zstd->memory = memory;
	*ret = (struct upd_decoder *)zstd;
	return 0;
}
#endif
