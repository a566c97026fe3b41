/* SPDX-License-Identifier: MIT */
/* See checkpoint.h. The file: record 0, record 1, each in a block of its own, then the head. */
#include "checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "extent.h"
#include "md5.h"

#define BLOCK_SIZE 4096
#define RECORDS 2U
#define HEAD_OFFSET (RECORDS * BLOCK_SIZE)
#define MAX_HEAD ((uint64_t)16 << 20)
#define MAGIC "UPDCKPT1"
#define MAGIC_SIZE 8U
#define CHECK_SIZE UPD_RECORD_MD5_SIZE /* of the rest, at the record's end */

struct upd_checkpoint {
	int fd;
	struct upd_record record; /* what was written last */
};

static void md5_of(const unsigned char *buf, size_t len, unsigned char ret[UPD_RECORD_MD5_SIZE])
{
	struct upd_md5 md5;

	upd_md5_init(&md5);
	upd_md5_update(&md5, buf, len);
	upd_md5_final(&md5, ret);
}

/* --- the record ------------------------------------------------------------------------------- */

/* Little-endian, so that a card that moves between machines is not misread. */
static unsigned char *put(unsigned char *at, uint64_t number)
{
	for (unsigned i = 0; i < 8; i++)
		*at++ = (unsigned char)(number >> 8 * i);
	return at;
}

static const unsigned char *get(const unsigned char *at, uint64_t *ret)
{
	*ret = 0;
	for (unsigned i = 0; i < 8; i++)
		*ret |= (uint64_t)*at++ << 8 * i;
	return at;
}

static unsigned char *put_bytes(unsigned char *at, const void *bytes, size_t len)
{
	memcpy(at, bytes, len);
	return at + len;
}

static const unsigned char *get_bytes(const unsigned char *at, void *ret, size_t len)
{
	memcpy(ret, at, len);
	return at + len;
}

void upd_record_build(const struct upd_record *record, unsigned char *ret)
{
	unsigned char *at = ret;

	memset(ret, 0, UPD_RECORD_SIZE);
	at = put_bytes(at, MAGIC, MAGIC_SIZE);
	at = put(at, record->id.medium);
	at = put(at, record->id.capacity);
	at = put(at, record->id.size);
	at = put(at, record->id.head_size);
	at = put_bytes(at, record->id.md5, sizeof(record->id.md5));
	at = put(at, record->sequence);
	at = put(at, record->offset);
	at = put_bytes(at, record->prefix_md5, sizeof(record->prefix_md5));
	at = put_bytes(at, record->head_md5, sizeof(record->head_md5));
	put_bytes(at, record->validator, strnlen(record->validator, UPD_VALIDATOR_SIZE - 1));
	at += UPD_VALIDATOR_SIZE;
	put_bytes(at, record->id.version, sizeof(record->id.version));
	md5_of(ret, UPD_RECORD_SIZE - CHECK_SIZE, ret + UPD_RECORD_SIZE - CHECK_SIZE);
}

/* What a record claims must make sense before anything is allocated or read by it. */
static int is_sane(const struct upd_record *record)
{
	const struct upd_image_id *id = &record->id;

	return id->head_size > 0 && id->head_size <= MAX_HEAD &&
	       record->offset % id->head_size == 0 && record->offset >= id->head_size &&
	       record->offset < id->size && id->size <= id->capacity &&
	       record->validator[UPD_VALIDATOR_SIZE - 1] == '\0';
}

int upd_record_parse(const unsigned char *buf, struct upd_record *ret)
{
	unsigned char check[CHECK_SIZE];
	const unsigned char *at = buf + MAGIC_SIZE;

	md5_of(buf, UPD_RECORD_SIZE - CHECK_SIZE, check);
	if (memcmp(buf, MAGIC, MAGIC_SIZE) != 0 ||
	    memcmp(check, buf + UPD_RECORD_SIZE - CHECK_SIZE, CHECK_SIZE) != 0)
		return -1;
	at = get(at, &ret->id.medium);
	at = get(at, &ret->id.capacity);
	at = get(at, &ret->id.size);
	at = get(at, &ret->id.head_size);
	at = get_bytes(at, ret->id.md5, sizeof(ret->id.md5));
	at = get(at, &ret->sequence);
	at = get(at, &ret->offset);
	at = get_bytes(at, ret->prefix_md5, sizeof(ret->prefix_md5));
	at = get_bytes(at, ret->head_md5, sizeof(ret->head_md5));
	at = get_bytes(at, ret->validator, UPD_VALIDATOR_SIZE);
	get_bytes(at, ret->id.version, sizeof(ret->id.version));
	return is_sane(ret) ? 0 : -1;
}

/* --- the file --------------------------------------------------------------------------------- */

static int read_at(const struct upd_checkpoint *checkpoint, unsigned char *buf, size_t len,
		   uint64_t offset)
{
	struct upd_error nobody_asks = { 0 };

	return upd_extent_read(checkpoint->fd, buf, len, offset, &nobody_asks) ? -1 : 0;
}

static int write_at(const struct upd_checkpoint *checkpoint, const unsigned char *buf, size_t len,
		    uint64_t offset)
{
	struct upd_error nobody_asks = { 0 };

	return upd_extent_write(checkpoint->fd, buf, len, offset, &nobody_asks) ? -1 : 0;
}

/* The capacity may differ: the try before may have marked a block bad. */
static int is_same(const struct upd_image_id *a, const struct upd_image_id *b)
{
	return a->medium == b->medium && a->size == b->size && a->head_size == b->head_size &&
	       memcmp(a->md5, b->md5, sizeof(a->md5)) == 0 &&
	       memcmp(a->version, b->version, sizeof(a->version)) == 0;
}

static int load_record(const struct upd_checkpoint *checkpoint, unsigned number,
		       struct upd_record *ret)
{
	unsigned char buf[UPD_RECORD_SIZE];

	if (read_at(checkpoint, buf, sizeof(buf), (uint64_t)number * BLOCK_SIZE) != 0 ||
	    upd_record_parse(buf, ret) != 0)
		return -1;
	return is_same(&ret->id, &checkpoint->record.id) ? 0 : -1;
}

int upd_checkpoint_load(struct upd_checkpoint *checkpoint, struct upd_record *ret,
			unsigned char *ret_head)
{
	const size_t head_size = (size_t)checkpoint->record.id.head_size;
	unsigned char md5[UPD_RECORD_MD5_SIZE];
	struct upd_record record;
	int is_found = 0;

	for (unsigned i = 0; i < RECORDS; i++) {
		if (load_record(checkpoint, i, &record) != 0 ||
		    (is_found && record.sequence < ret->sequence))
			continue;
		*ret = record;
		is_found = 1;
	}
	if (!is_found || read_at(checkpoint, ret_head, head_size, HEAD_OFFSET) != 0)
		return -1;
	md5_of(ret_head, head_size, md5);
	if (memcmp(md5, ret->head_md5, sizeof(md5)) != 0)
		return -1;
	checkpoint->record = *ret;
	return 0;
}

int upd_checkpoint_void(struct upd_checkpoint *checkpoint)
{
	/* the length first: whatever the flush does, no record is whole any more */
	if (ftruncate(checkpoint->fd, 0) != 0 || fsync(checkpoint->fd) != 0)
		return -1;
	return 0;
}

int upd_checkpoint_keep_head(struct upd_checkpoint *checkpoint, const unsigned char *head,
			     const char *validator)
{
	struct upd_record *record = &checkpoint->record;
	const size_t head_size = (size_t)record->id.head_size;

	md5_of(head, head_size, record->head_md5);
	if (upd_checkpoint_void(checkpoint) != 0 ||
	    write_at(checkpoint, head, head_size, HEAD_OFFSET) != 0)
		return -1;
	memset(record->validator, 0, sizeof(record->validator));
	memcpy(record->validator, validator, strnlen(validator, UPD_VALIDATOR_SIZE - 1));
	return fsync(checkpoint->fd) == 0 ? 0 : -1; /* the length too, not only the bytes */
}

int upd_checkpoint_mark(struct upd_checkpoint *checkpoint, uint64_t offset,
			const unsigned char prefix_md5[UPD_RECORD_MD5_SIZE])
{
	struct upd_record *record = &checkpoint->record;
	unsigned char buf[UPD_RECORD_SIZE];

	record->sequence++;
	record->offset = offset;
	memcpy(record->prefix_md5, prefix_md5, sizeof(record->prefix_md5));
	upd_record_build(record, buf);
	/* the older record is overwritten: a cut in the middle leaves the newer one */
	if (write_at(checkpoint, buf, sizeof(buf), record->sequence % RECORDS * BLOCK_SIZE) != 0)
		return -1;
	return fdatasync(checkpoint->fd) == 0 ? 0 : -1;
}

int upd_checkpoint_open(const char *path, const struct upd_image_id *id,
			struct upd_checkpoint **ret, struct upd_error *reterr)
{
	struct upd_checkpoint *checkpoint;
	struct stat st;

	if (id->head_size == 0 || id->head_size > MAX_HEAD)
		return upd_fail(reterr, UPD_OPTIONS, "the head has a size that is not supported");
	checkpoint = calloc(1, sizeof(*checkpoint));
	if (!checkpoint)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	checkpoint->record.id = *id;
	/* the head is firmware: nobody else's business */
	checkpoint->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (checkpoint->fd < 0 || fstat(checkpoint->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		upd_checkpoint_close(checkpoint);
		return upd_fail_errno(reterr, UPD_OPEN, errno, 0,
				      "the checkpoint cannot be opened");
	}
	*ret = checkpoint;
	return 0;
}

void upd_checkpoint_close(struct upd_checkpoint *checkpoint)
{
	if (!checkpoint)
		return;
	if (checkpoint->fd >= 0)
		close(checkpoint->fd);
	free(checkpoint);
}
