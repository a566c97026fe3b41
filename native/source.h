/* SPDX-License-Identifier: MIT */
/*
 * A source gives the bytes of one image, front to back.
 *
 *     upd_source_<kind>_open()  ->  read ... until it gives less than asked  ->  close
 *
 * read fills the whole buffer unless the image ends; it never gives more than was announced, and
 * finds out at the end that there would have been more. cancel may be called from another thread.
 */
#ifndef UPD_SOURCE_H
#define UPD_SOURCE_H

#include <stdatomic.h>
#include <stddef.h>

#include "error.h"

struct upd_source;

struct upd_source_ops {
	int (*read)(struct upd_source *source, unsigned char *buf, size_t len, size_t *ret,
		    struct upd_error *reterr);
	void (*close)(struct upd_source *source); /* any state; cannot fail */
};

struct upd_source {
	const struct upd_source_ops *ops;
	const atomic_int *is_cancelled;
};

int upd_source_http_open(const struct upd_options *options, const atomic_int *is_cancelled,
			 struct upd_source **ret, struct upd_error *reterr);
int upd_source_file_open(const struct upd_options *options, const atomic_int *is_cancelled,
			 struct upd_source **ret, struct upd_error *reterr);

#endif
