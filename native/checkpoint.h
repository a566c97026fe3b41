/* SPDX-License-Identifier: MIT */
/*
 * What is needed to go on with an image after a cut: how far the medium is proven, what the bytes
 * up to there were, and the head, which is not on the medium yet.
 *
 * A file of two records, written in turn, and the head behind them; never renamed, so that keeping
 * a checkpoint costs the data partition one small write and one flush. A record counts only if it
 * is whole and names this medium and this firmware; and what it claims is read again from the
 * medium before it is believed, so that a stale one costs time and nothing else.
 */
#ifndef UPD_CHECKPOINT_H
#define UPD_CHECKPOINT_H

#include <stddef.h>

#include "error.h"
#include "source.h"

#define UPD_RECORD_SIZE 512U /* of the file: one sector */
#define UPD_RECORD_MD5_SIZE 16U
#define UPD_RECORD_VERSION_SIZE 32U

/* Which image on which medium. */
struct upd_image_id {
	uint64_t medium;   /* upd_sink.identity */
	uint64_t capacity; /* upd_sink.capacity */
	uint64_t size;
	uint64_t head_size;
	unsigned char md5[UPD_RECORD_MD5_SIZE]; /* announced */
	char version[UPD_RECORD_VERSION_SIZE];	/* the same; zeros behind it */
};

struct upd_record {
	struct upd_image_id id;
	uint64_t sequence;
	uint64_t offset;			       /* settled */
	unsigned char prefix_md5[UPD_RECORD_MD5_SIZE]; /* of the bytes up to offset */
	unsigned char head_md5[UPD_RECORD_MD5_SIZE];
	char validator[UPD_VALIDATOR_SIZE];
};

/* Read one record from its UPD_RECORD_SIZE bytes; 0, or -1 if it is no whole record. */
int upd_record_parse(const unsigned char *buf, struct upd_record *ret);
void upd_record_build(const struct upd_record *record, unsigned char *ret);

struct upd_checkpoint;

/* Open or create the file. It may fail: the image can be installed without it. */
int upd_checkpoint_open(const char *path, const struct upd_image_id *id,
			struct upd_checkpoint **ret, struct upd_error *reterr);

/* The newest whole record of this image, with its head_size bytes of head; 0, or -1: none. */
int upd_checkpoint_load(struct upd_checkpoint *checkpoint, struct upd_record *ret,
			unsigned char *ret_head);

/* Forget what the file says, durably. 0 or -1, as the following two. */
int upd_checkpoint_void(struct upd_checkpoint *checkpoint);
int upd_checkpoint_keep_head(struct upd_checkpoint *checkpoint, const unsigned char *head,
			     const char *validator);
int upd_checkpoint_mark(struct upd_checkpoint *checkpoint, uint64_t offset,
			const unsigned char prefix_md5[UPD_RECORD_MD5_SIZE]);

void upd_checkpoint_close(struct upd_checkpoint *checkpoint);

#endif
