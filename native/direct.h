/* SPDX-License-Identifier: MIT */
/*
 * What block devices and files have in common as sinks: any offset can be written and read past the
 * page cache at any time.
 *
 * The head is the first MiB: the place of every file system's superblock and of every boot header,
 * so that a slot whose head is blank boots nowhere. It is blanked and stored whole even where the
 * image is shorter, or the end of an old head would outlive the blanking.
 *
 * All else is cut into groups of ranges. When a group is full a thread of its own, the prover,
 * flushes the medium and reads the group back, while the caller already writes the next one. At
 * most one group waits for its proof, which bounds memory and what a cut costs.
 */
#ifndef UPD_DIRECT_H
#define UPD_DIRECT_H

#include <pthread.h>

#include "sink.h"
#include "tally.h"

struct upd_direct;

/* How the media differ. */
struct upd_direct_ops {
	/* Make len bytes at offset read as zeros without sending them. 0; UPD_MORE if this medium
	 * cannot: then they are sent. */
	int (*zero)(struct upd_direct *direct, uint64_t offset, uint64_t len,
		    struct upd_error *reterr);
};

enum upd_range_kind { UPD_RANGE_TAGGED, UPD_RANGE_ZERO, UPD_RANGE_PROVEN };

struct upd_range {
	enum upd_range_kind kind;
	uint64_t offset;
	size_t len;
	unsigned char tag[UPD_TAG_SIZE];
};

struct upd_group {
	struct upd_range *ranges;
	unsigned count;
	uint64_t bytes;
	uint64_t end; /* everything before is on the medium once this group is proven */
};

struct upd_prover {
	pthread_t thread;
	int is_running;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t moved;
	struct upd_group group; /* count > 0: waits for its proof */
	int is_due;
	int is_stopped;
	struct upd_error failure;
};

struct upd_direct {
	struct upd_sink base;
	const struct upd_direct_ops *ops;
	int fd;
	int is_cached; /* or may be: the page cache is dropped before reading back */
	int reads_back;
	int skips_identical;
	int can_zero;
	size_t sector;
	size_t buffer_size;
	uint64_t offset;	/* of the next byte of the image */
	unsigned char *scratch; /* the caller's */
	unsigned char *proof;	/* the prover's */
	struct upd_tally tally; /* the caller's */
	struct upd_tally prover_tally;
	struct upd_group group; /* being written */
	unsigned range_limit;
	struct upd_prover prover;
};

/* base.capacity, base.identity, fd, sector and ops are set. */
int upd_direct_open(struct upd_direct *direct, const struct upd_options *options,
		    struct upd_error *reterr);

int upd_direct_blank(struct upd_sink *base, uint64_t size, struct upd_error *reterr);
int upd_direct_write(struct upd_sink *base, unsigned char *buf, size_t len,
		     struct upd_error *reterr);
int upd_direct_settle(struct upd_sink *base, struct upd_error *reterr);
int upd_direct_commit(struct upd_sink *base, struct upd_error *reterr);
int upd_direct_read(struct upd_sink *base, unsigned char *buf, size_t len, uint64_t offset,
		    struct upd_error *reterr);
int upd_direct_resume(struct upd_sink *base, uint64_t offset, const unsigned char *head,
		      struct upd_error *reterr);

/* Ends the prover and frees everything, direct itself included; the file descriptor is closed. */
void upd_direct_close(struct upd_direct *direct);

#endif
