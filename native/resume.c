/* SPDX-License-Identifier: MIT */
/*
 * Going on after a cut. While an image is written, the MD5 stage leaves marks: the digest of all
 * bytes up to an offset. When the sink has proven the medium up to a mark, the mark goes to the
 * checkpoint. The next pump for the same image on the same medium reads the medium up to the newest
 * mark again, and goes on there only if the digest is the same: no promise of an earlier process,
 * kernel or device is believed.
 *
 * A kill costs the ring, what the sink is proving, and what waits in the socket: marks are close
 * enough that wherever the sink's proof ends there is one.
 */
#include <stdlib.h>
#include <string.h>

#include "decoder.h"
#include "pump.h"

#define MARK_SIZE ((uint64_t)1 << 20)

void upd_mark(struct upd_pump *pump, uint64_t offset)
{
	struct upd_md5 md5 = pump->md5.md5;
	struct upd_mark mark = { .offset = offset };

	if (!pump->checkpoint || offset - pump->marked < MARK_SIZE ||
	    offset % pump->sink->head_size != 0)
		return;
	upd_md5_final(&md5, mark.md5);
	pump->marked = offset;
	pthread_mutex_lock(&pump->lock);
	if (pump->mark_count < UPD_MARKS) /* else the next checkpoint is some MiB further on */
		pump->marks[pump->mark_count++] = mark;
	pthread_mutex_unlock(&pump->lock);
}

/* Take the newest mark that the sink has proven; 0 if there is none. */
static int take_mark(struct upd_pump *pump, struct upd_mark *ret)
{
	const uint64_t settled = pump->sink->settled;
	unsigned count = 0;

	pthread_mutex_lock(&pump->lock);
	while (count < pump->mark_count && pump->marks[count].offset <= settled)
		*ret = pump->marks[count++];
	pump->mark_count -= count;
	memmove(pump->marks, pump->marks + count, pump->mark_count * sizeof(*ret));
	pthread_mutex_unlock(&pump->lock);
	return count > 0;
}

void upd_keep(struct upd_pump *pump)
{
	struct upd_mark mark;

	if (!pump->checkpoint || pump->format != UPD_FORMAT_RAW || !take_mark(pump, &mark))
		return;
	if (!pump->is_head_kept)
		pump->is_head_kept = upd_checkpoint_keep_head(pump->checkpoint, pump->sink->head,
							      pump->source->validator) == 0;
	/* a checkpoint that cannot be kept costs a repeated download after a cut */
	if (pump->is_head_kept)
		upd_checkpoint_mark(pump->checkpoint, mark.offset, mark.md5);
}

void upd_forget(struct upd_pump *pump)
{
	if (pump->checkpoint)
		upd_checkpoint_void(pump->checkpoint);
}

/* Hash the head, then what the medium holds up to the mark. */
static int hash_prefix(struct upd_pump *pump, struct upd_digest *digest,
		       const struct upd_record *record, const unsigned char *head,
		       struct upd_error *error)
{
	unsigned char *buf = pump->firmware.memory; /* nobody fills it yet */
	uint64_t offset = record->id.head_size;
	int status = upd_digest_update(digest, head, (size_t)offset, error);

	while (status == 0 && offset < record->offset) {
		uint64_t left = record->offset - offset;
		size_t len = pump->firmware.buffer_size;

		if (pump->is_cancelled)
			return UPD_MORE;
		if (left < len)
			len = (size_t)left;
		status = pump->sink->ops->read(pump->sink, buf, len, offset, error);
		if (status == 0)
			status = upd_digest_update(digest, buf, len, error);
		offset += len;
		pump->reread = offset;
	}
	return status;
}

/* A medium that cannot be read there has to be written anew, which may mend it. */
static int is_prefix_right(struct upd_pump *pump, const struct upd_record *record,
			   const unsigned char *head)
{
	struct upd_error ignored = { 0 };
	unsigned char digest[UPD_MD5_SIZE];
	struct upd_md5 md5;

	if (hash_prefix(pump, &pump->md5, record, head, &ignored) != 0)
		return 0;
	md5 = pump->md5.md5;
	upd_md5_final(&md5, digest);
	return memcmp(digest, record->prefix_md5, sizeof(digest)) == 0;
}

/* What stands there was stored as it came: a try that did not decode, if it is compressed. */
static int is_wanted(const struct upd_pump *pump, const unsigned char *head)
{
	return !pump->options.decode ||
	       upd_decoder_sniff(head, pump->sink->head_size) == UPD_FORMAT_RAW;
}

/* Bring everybody to the record's offset. */
static int go_on(struct upd_pump *pump, const struct upd_record *record, const unsigned char *head,
		 struct upd_error *error)
{
	int status = 0;

	if (pump->sha256.sha256)
		status = hash_prefix(pump, &pump->sha256, record, head, error);
	if (status == 0)
		status = pump->sink->ops->resume(pump->sink, record->offset, head, error);
	if (status == 0)
		status = pump->source->ops->seek(pump->source, record->offset, record->validator,
						 error);
	if (status != 0)
		return status;
	pump->is_head_kept = 1;
	pump->resumed = pump->marked = record->offset;
	pump->received = pump->hashed = record->offset;
	return 0;
}

/* From the first byte: as if there had been no checkpoint. */
static int start_over(struct upd_pump *pump)
{
	upd_forget(pump);
	upd_md5_init(&pump->md5.md5);
	return 0;
}

/* What cannot be asked for in the middle is not gone on with. */
static int keep_none(struct upd_pump *pump)
{
	start_over(pump);
	upd_checkpoint_close(pump->checkpoint);
	pump->checkpoint = NULL;
	return 0;
}

int upd_resume(struct upd_pump *pump, struct upd_error *reterr)
{
	struct upd_record record;
	unsigned char *head;
	int status;

	if (!pump->checkpoint)
		return 0;
	if (!pump->source->ops->seek)
		return keep_none(pump);
	head = malloc(pump->sink->head_size);
	if (!head)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	if (upd_checkpoint_load(pump->checkpoint, &record, head) == 0 && is_wanted(pump, head) &&
	    is_prefix_right(pump, &record, head))
		status = go_on(pump, &record, head, reterr);
	else
		status = pump->is_cancelled ? UPD_MORE : start_over(pump);
	free(head);
	return status;
}
