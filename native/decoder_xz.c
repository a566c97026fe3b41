/* SPDX-License-Identifier: MIT */
/*
 * xz by liblzma, with its memory limit, in one thread. open decodes the first bytes without room
 * for output, so that a dictionary which is too large is met before anything is written. Several
 * streams are one image, with zero bytes between them and behind them as the format allows.
 */
#ifdef UPD_WITH_XZ
#include <lzma.h>
#include <stdlib.h>

#include "decoder.h"

struct xz_decoder {
	struct upd_decoder base;
	lzma_stream lzma;
	uint64_t memory;
	uint64_t taken;
};

/* What liblzma says, in our words; 0 if nothing is wrong. */
static int judge(const struct xz_decoder *xz, lzma_ret code, struct upd_error *reterr)
{
	switch (code) {
	case LZMA_OK:
	case LZMA_STREAM_END:
	case LZMA_BUF_ERROR: /* no more input, or no more room */
		return 0;
	case LZMA_MEMLIMIT_ERROR:
		return upd_fail(reterr, UPD_FORMAT,
				"unpacking xz needs %llu bytes of memory, %llu are allowed",
				(unsigned long long)lzma_memusage(&xz->lzma),
				(unsigned long long)xz->memory);
	case LZMA_MEM_ERROR:
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	case LZMA_OPTIONS_ERROR:
	case LZMA_UNSUPPORTED_CHECK: /* it would decode, and prove nothing */
		return upd_fail(reterr, UPD_FORMAT,
				"the xz data uses a filter or a check that liblzma lacks");
	default:
		reterr->offset = xz->taken;
		return upd_fail(reterr, UPD_FORMAT, "the xz data is damaged near byte %llu",
				(unsigned long long)xz->taken);
	}
}

/* As much as goes. LZMA_BUF_ERROR tells that nothing more does; LZMA_OK may mean the same. */
static lzma_ret code_some(struct xz_decoder *xz, struct upd_decoder_io *io, lzma_action action)
{
	lzma_stream *lzma = &xz->lzma;
	lzma_ret code;

	lzma->next_in = io->in;
	lzma->avail_in = io->in_len;
	lzma->next_out = io->out;
	lzma->avail_out = io->out_room;
	do
		code = lzma_code(lzma, action);
	while (code == LZMA_OK && lzma->avail_out > 0);
	xz->taken += io->in_len - lzma->avail_in;
	io->in = lzma->next_in;
	io->in_len = lzma->avail_in;
	io->out = lzma->next_out;
	io->out_room = lzma->avail_out;
	return code;
}

static int xz_decode(struct upd_decoder *decoder, struct upd_decoder_io *io, int is_last,
		     struct upd_error *reterr)
{
	struct xz_decoder *xz = (struct xz_decoder *)decoder;
	lzma_ret code = code_some(xz, io, is_last ? LZMA_FINISH : LZMA_RUN);
	int status = judge(xz, code, reterr);

	if (status != 0)
		return status;
	if (code == LZMA_STREAM_END)
		return UPD_DONE;
	if (is_last && io->in_len == 0 && io->out_room > 0)
		return upd_fail(reterr, UPD_FORMAT, "the xz data ends too soon, after %llu bytes",
				(unsigned long long)xz->taken);
	return UPD_MORE;
}

static void xz_close(struct upd_decoder *decoder)
{
	struct xz_decoder *xz = (struct xz_decoder *)decoder;

	lzma_end(&xz->lzma);
	free(xz);
}

static const struct upd_decoder_ops xz_ops = { .decode = xz_decode, .close = xz_close };

static int start(struct xz_decoder *xz, struct upd_error *reterr)
{
	const lzma_stream fresh = LZMA_STREAM_INIT;
	lzma_ret code;

	lzma_end(&xz->lzma);
	xz->lzma = fresh;
	xz->taken = 0;
	code = lzma_stream_decoder(&xz->lzma, xz->memory,
				   LZMA_CONCATENATED | LZMA_TELL_UNSUPPORTED_CHECK);
	return judge(xz, code, reterr);
}

/* Look at the headers in the first bytes; then begin anew, as liblzma cannot step back. */
static int look(struct xz_decoder *xz, const unsigned char *buf, size_t len,
		struct upd_error *reterr)
{
	struct upd_decoder_io io = { .in = buf, .in_len = len };
	int status = start(xz, reterr);

	if (status == 0)
		status = judge(xz, code_some(xz, &io, LZMA_RUN), reterr);
	return status ? status : start(xz, reterr);
}

int upd_decoder_xz_open(uint64_t memory, const unsigned char *buf, size_t len,
			struct upd_decoder **ret, struct upd_error *reterr)
{
	struct xz_decoder *xz = calloc(1, sizeof(*xz));
	int status;

	if (!xz)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	xz->base.ops = &xz_ops;
	xz->memory = memory ? memory : 1; /* 0 is no limit that liblzma knows */
	status = look(xz, buf, len, reterr);
	if (status != 0) {
		xz_close(&xz->base);
		return status;
	}
	*ret = &xz->base;
	return 0;
}
#endif
