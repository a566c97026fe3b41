/* SPDX-License-Identifier: MIT */
/*
 * A source gives the bytes of one firmware, front to back.
 *
 *     upd_source_<kind>_open()  ->  [seek]  ->  read ... until it gives less than asked  ->  close
 *
 * read fills the whole buffer unless the firmware ends; it never gives more than was announced, and
 * finds out at the end that there would have been more. It makes good what an interruption broke
 * off, or says UPD_AGAIN where that cannot be done. One thread calls; is_cancelled is set by
 * others.
 */
#ifndef UPD_SOURCE_H
#define UPD_SOURCE_H

#include <stdatomic.h>
#include <stddef.h>

#include "error.h"

#define UPD_VALIDATOR_SIZE 256U

struct upd_source;

struct upd_source_ops {
	/* Fill buf (aligned, with room up to the next multiple of UPD_ALIGNMENT). */
	int (*read)(struct upd_source *source, unsigned char *buf, size_t len, size_t *ret,
		    struct upd_error *reterr);
	void (*close)(struct upd_source *source); /* any state; cannot fail */

	/* Before the first read: begin at offset, in the object that gave this validator. NULL if
	 * the source can only begin at the front. */
	int (*seek)(struct upd_source *source, uint64_t offset, const char *validator,
		    struct upd_error *reterr);
};

struct upd_source {
	const struct upd_source_ops *ops;
	const atomic_int *is_cancelled;
	_Atomic uint64_t size; /* of the firmware; 0: not known yet */
	_Atomic unsigned retries;
	_Atomic unsigned pieces; /* connections that gave bytes of it; a local source counts none */
	/* What the server calls this version of the object, as a header's value for If-Range (ETag,
	 * else Last-Modified); "": nothing. Set when the first read returns. */
	char validator[UPD_VALIDATOR_SIZE];
};

int upd_source_http_open(const struct upd_options *options, const atomic_int *is_cancelled,
			 struct upd_source **ret, struct upd_error *reterr);
/* A regular file, a block device or a UBI volume; "-" is standard input. */
int upd_source_file_open(const struct upd_options *options, const atomic_int *is_cancelled,
			 struct upd_source **ret, struct upd_error *reterr);
/* What an MTD partition holds, bad blocks left out. */
int upd_source_mtd_open(const struct upd_options *options, const atomic_int *is_cancelled,
			struct upd_source **ret, struct upd_error *reterr);

#endif
