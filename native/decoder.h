/* SPDX-License-Identifier: MIT */
/*
 * A decoder turns a compressed firmware into the image.
 *
 *     upd_decoder_sniff()  ->  upd_decoder_open()  ->  decode ...  ->  close
 *
 * open gets the firmware's first bytes (a whole ring buffer, or all of it) and refuses what needs
 * more memory than allowed before a byte of the image is made. Several streams, one after another,
 * are one image; anything else behind the last one is an error, and so is an early end.
 */
#ifndef UPD_DECODER_H
#define UPD_DECODER_H

#include <stddef.h>

#include "error.h"

struct upd_decoder;

/* What is left to take and where the image's next bytes go; decode moves all four on. */
struct upd_decoder_io {
	const unsigned char *in;
	size_t in_len;
	unsigned char *out;
	size_t out_room;
};

struct upd_decoder_ops {
	/*
	 * Work until the input is used up or the room is. is_last: this input is the firmware's
	 * end. Returns UPD_DONE when the firmware and with it the image have ended, UPD_MORE if it
	 * wants more input (in_len is 0) or more room (out_room is 0), or UPD_FORMAT.
	 */
	int (*decode)(struct upd_decoder *decoder, struct upd_decoder_io *io, int is_last,
		      struct upd_error *reterr);
	void (*close)(struct upd_decoder *decoder); /* any state; cannot fail */
};

struct upd_decoder {
	const struct upd_decoder_ops *ops;
	uint64_t image_size; /* what the format's header says, or 0; only a claim */
};

enum upd_format upd_decoder_sniff(const unsigned char *buf, size_t len);

/* format is not RAW. memory: bytes that the decoder may allocate. */
int upd_decoder_open(enum upd_format format, uint64_t memory, const unsigned char *buf, size_t len,
		     struct upd_decoder **ret, struct upd_error *reterr);

int upd_decoder_gzip_open(uint64_t memory, const unsigned char *buf, size_t len,
			  struct upd_decoder **ret, struct upd_error *reterr);
int upd_decoder_xz_open(uint64_t memory, const unsigned char *buf, size_t len,
			struct upd_decoder **ret, struct upd_error *reterr);
int upd_decoder_zstd_open(uint64_t memory, const unsigned char *buf, size_t len,
			  struct upd_decoder **ret, struct upd_error *reterr);

#endif
