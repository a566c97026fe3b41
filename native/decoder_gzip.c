/* SPDX-License-Identifier: MIT */
/*
 * gzip by zlib, which checks each member's CRC and length. Several members are one image. Zero
 * bytes behind the last member are padding, as gzip(1) takes them; anything else there is an error.
 */
#ifdef UPD_WITH_GZIP
#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

#include "decoder.h"

/* A window of 32 KiB and zlib's state, 40 KiB; successors of zlib take a little more. */
#define NEEDED_BYTES 65536U
#define GZIP_ONLY (16 + MAX_WBITS)

struct gzip_decoder {
	struct upd_decoder base;
	z_stream zlib;
	uint64_t taken;
	int is_open;
	int is_between; /* members: the next byte begins one, or is padding */
	int is_padding;
};

static int broken(const struct gzip_decoder *gzip, struct upd_error *reterr)
{
	reterr->offset = gzip->taken;
	return upd_fail(reterr, UPD_FORMAT, "the gzip data is damaged near byte %llu",
			(unsigned long long)gzip->taken);
}

static unsigned bounded(size_t len)
{
	return len < UINT_MAX ? (unsigned)len : UINT_MAX;
}

/* Behind a member: skip padding, or begin the next one. */
static int next_member(struct gzip_decoder *gzip, struct upd_decoder_io *io,
		       struct upd_error *reterr)
{
	while (io->in_len > 0 && io->in[0] == 0) {
		gzip->is_padding = 1;
		gzip->taken++;
		io->in++;
		io->in_len--;
	}
	if (io->in_len == 0)
		return 0;
	if (gzip->is_padding || inflateReset(&gzip->zlib) != Z_OK)
		return broken(gzip, reterr);
	gzip->is_between = 0;
	return 0;
}

static int inflate_some(struct gzip_decoder *gzip, struct upd_decoder_io *io,
			struct upd_error *reterr)
{
	z_stream *zlib = &gzip->zlib;
	size_t took;
	int code;

	zlib->next_in = (unsigned char *)io->in; /* zlib does not write there */
	zlib->avail_in = bounded(io->in_len);
	zlib->next_out = io->out;
	zlib->avail_out = bounded(io->out_room);
	code = inflate(zlib, Z_NO_FLUSH);
	took = (size_t)(zlib->next_in - io->in);
	gzip->taken += took;
	io->in += took;
	io->in_len -= took;
	io->out_room -= (size_t)(zlib->next_out - io->out);
	io->out = zlib->next_out;
	if (code == Z_STREAM_END)
		gzip->is_between = 1;
	else if (code == Z_MEM_ERROR)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	else if (code != Z_OK && code != Z_BUF_ERROR)
		return broken(gzip, reterr);
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
	return upd_fail(reterr, UPD_FORMAT, "the gzip data ends too soon, after %llu bytes",
			(unsigned long long)gzip->taken);
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
