/* SPDX-License-Identifier: MIT */
/*
 * A sink takes the bytes of one image, front to back, and stores them on one medium.
 *
 *     upd_sink_<kind>_open()  ->  [resume]  ->  blank  ->  write ...  ->  settle  ->  commit  ->
 * close
 *
 * From blank, or the first write, on until commit has returned 0 the slot cannot boot: its head is
 * blank on the medium, or the medium itself marks it as unusable. write keeps what makes the slot
 * bootable and stores the rest; settle says that all else is on the medium and was read back;
 * commit stores what was kept. A failure anywhere leaves the slot unbootable.
 *
 * One thread calls; the counters may be read by others at any time.
 */
#ifndef UPD_SINK_H
#define UPD_SINK_H

#include <stdatomic.h>
#include <stddef.h>

#include "error.h"

struct upd_sink;

struct upd_sink_ops {
	/* Before the first write: size is the image's if it is known, else 0. */
	int (*blank)(struct upd_sink *sink, uint64_t size, struct upd_error *reterr);

	/* len bytes; all calls but the last give whole multiples of UPD_ALIGNMENT. buf is aligned
	 * and has room up to the next multiple, which the sink may fill with padding. */
	int (*write)(struct upd_sink *sink, unsigned char *buf, size_t len,
		     struct upd_error *reterr);
	int (*settle)(struct upd_sink *sink, struct upd_error *reterr);
	int (*commit)(struct upd_sink *sink, struct upd_error *reterr);
	void (*close)(struct upd_sink *sink); /* any state; cannot fail */

	/*
	 * Both NULL: an interrupted image starts over. read gives what the medium holds from
	 * offset on, at or behind the head; len and offset are as in write. resume takes back a
	 * position that `settled` once had, with the head that was kept then.
	 */
	int (*read)(struct upd_sink *sink, unsigned char *buf, size_t len, uint64_t offset,
		    struct upd_error *reterr);
	int (*resume)(struct upd_sink *sink, uint64_t offset, const unsigned char *head,
		      struct upd_error *reterr);
};

struct upd_sink {
	const struct upd_sink_ops *ops;
	uint64_t capacity; /* largest image */
	uint64_t identity; /* tells this medium from others as far as the kernel can: st_rdev, … */
	/* What is kept until commit; head_size 0 if the sink keeps nothing at the front. */
	size_t head_size;
	unsigned char *head;
	int is_resumable; /* set before close: a checkpoint says how to go on with what is there */

	_Atomic uint64_t written;
	_Atomic uint64_t verified;
	_Atomic uint64_t settled; /* all below, but the head, is on the medium and proven */
	_Atomic uint64_t identical;
	_Atomic uint64_t zeroed;
	_Atomic unsigned bad_blocks;
};

int upd_sink_block_open(const struct upd_options *options, struct upd_sink **ret,
			struct upd_error *reterr);
int upd_sink_file_open(const struct upd_options *options, struct upd_sink **ret,
		       struct upd_error *reterr);
int upd_sink_mtd_open(const struct upd_options *options, struct upd_sink **ret,
		      struct upd_error *reterr);
int upd_sink_ubi_open(const struct upd_options *options, struct upd_sink **ret,
		      struct upd_error *reterr);

#endif
