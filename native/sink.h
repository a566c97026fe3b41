/* SPDX-License-Identifier: MIT */
/*
 * A sink takes the bytes of one image, front to back, and stores them in one slot.
 *
 *     upd_sink_<kind>_open()  ->  blank  ->  write ...  ->  settle  ->  commit  ->  close
 *
 * From blank on until commit has returned 0 the slot cannot boot: its head is blank on the medium.
 * write keeps the head's bytes and stores the rest; settle says that all else is on the medium and
 * was read back; commit stores the head. A failure anywhere leaves the head blank.
 */
#ifndef UPD_SINK_H
#define UPD_SINK_H

#include <stdatomic.h>
#include <stddef.h>

#include "error.h"

struct upd_sink;

struct upd_sink_ops {
	int (*blank)(struct upd_sink *sink, struct upd_error *reterr);
	int (*write)(struct upd_sink *sink, unsigned char *buf, size_t len,
		     struct upd_error *reterr);
	int (*settle)(struct upd_sink *sink, struct upd_error *reterr);
	int (*commit)(struct upd_sink *sink, struct upd_error *reterr);
	void (*close)(struct upd_sink *sink); /* any state; cannot fail */
};

struct upd_sink {
	const struct upd_sink_ops *ops;
	_Atomic uint64_t written;
	_Atomic uint64_t verified;
};

int upd_sink_block_open(const struct upd_options *options, struct upd_sink **ret,
			struct upd_error *reterr);

#endif
