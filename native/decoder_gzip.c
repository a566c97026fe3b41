/* SPDX-License-Identifier: MIT */
/*
 * gzip by zlib. Several members are one image. Zero bytes behind the last member are padding, as
 * gzip(1) takes them; anything else there is an error.
 */
#ifdef UPD_WITH_GZIP
#include <stdlib.h>
#include <zlib.h>

#include "decoder.h"

#define NEEDED_BYTES 65536U /* a window of 32 KiB and what zlib keeps beside it, rounded up */
#define GZIP_ONLY (16 + MAX_WBITS)

struct gzip_decoder {
	struct upd_decoder base;
	z_stream zlib;
	int is_open;
	int is_between; /* members: the next byte begins one, or is padding */
	int is_padding;
};

static int broken(struct upd_error *reterr)
{
	return upd_fail(reterr, UPD_FORMAT, "the gzip data is damaged");
}

/* Behind a member: skip padding, or begin the next one. */
static int next_member(struct gzip_decoder *gzip, struct upd_decoder_io *io,
		       struct upd_error *reterr)
{
	while (io->in_len > 0 && io->in[0] == 0) {
		gzip->is_padding = 1;
		io->in++;
		io->in_len--;
	}
	if (io->in_len == 0)
		return 0;
	if (gzip->is_padding || inflateReset(&gzip->zlib) != Z_OK)
		return broken(reterr);
	gzip->is_between = 0;
	return 0;
}

static int inflate_some(struct gzip_decoder *gzip, struct upd_decoder_io *io,
			struct upd_error *reterr)
{
	z_stream *zlib = &gzip->zlib;
	int code;

	zlib->next_in = (unsigned char *)io->in; /* zlib does not write there */
	zlib->avail_in = (unsigned)io->in_len;
	zlib->next_out = io->out;
	zlib->avail_out = (unsigned)io->out_room;
	code = inflate(zlib, Z_NO_FLUSH);
	io->in = zlib->next_in;
	io->in_len = zlib->avail_in;
	io->out = zlib->next_out;
	io->out_room = zlib->avail_out;
	if (code == Z_STREAM_END)
		gzip->is_between = 1;
	else if (code == Z_MEM_ERROR)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	else if (code != Z_OK && code != Z_BUF_ERROR)
		return broken(reterr);
	return 0;
}

static int gzip_decode(struct upd_decoder *decoder, struct upd_decoder_io *io, int is_last,
		       struct upd_error *reterr)
{
	struct gzip_decoder *gzip = (struct gzip_decoder *)decoder;
	int status = 0;

	while (status == 0 && io->in_len > 0 && (gzip->is_between || io->out_room > 0))
		status = gzip->is_between ? next_member(gzip, io, reterr)
					  : inflate_some(gzip, io, reterr);
	/* what is still inside comes out without more input */
	if (status == 0 && io->in_len == 0 && io->out_room > 0 && !gzip->is_between)
		status = inflate_some(gzip, io, reterr);
	if (status != 0)
		return status;
	if (io->in_len > 0 || !is_last)
		return UPD_MORE;
	if (gzip->is_between)
		return UPD_DONE;
	if (io->out_room == 0)
		return UPD_MORE;
	return upd_fail(reterr, UPD_FORMAT, "the gzip data ends too soon");
}

static void gzip_close(struct upd_decoder *decoder)
{
	struct gzip_decoder *gzip = (struct gzip_decoder *)decoder;

	if (gzip->is_open)
		inflateEnd(&gzip->zlib);
	free(gzip);
}

static const struct upd_decoder_ops gzip_ops = { .decode = gzip_decode, .close = gzip_close };

int upd_decoder_gzip_open(uint64_t memory, const unsigned char *buf, size_t len,
			  struct upd_decoder **ret, struct upd_error *reterr)
{
	struct gzip_decoder *gzip;

	(void)buf;
	(void)len;
	if (memory < NEEDED_BYTES)
		return upd_fail(reterr, UPD_FORMAT,
				"unpacking gzip needs %u bytes of memory, %llu are allowed",
				NEEDED_BYTES, (unsigned long long)memory);
	gzip = calloc(1, sizeof(*gzip));
	if (!gzip)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	gzip->base.ops = &gzip_ops;
	gzip->is_open = inflateInit2(&gzip->zlib, GZIP_ONLY) == Z_OK;
	if (!gzip->is_open) {
		gzip_close(&gzip->base);
		return upd_fail(reterr, UPD_RESOURCES, "zlib cannot be set up");
	}
	*ret = &gzip->base;
	return 0;
}
#endif
