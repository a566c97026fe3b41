/* SPDX-License-Identifier: MIT */
/*
 * A checkpoint's record, fed with anything, as it is and under a sum that is right. What is
 * accepted makes sense, comes out of build and parse again as it was, and is refused as soon as one
 * bit differs.
 */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint.h"

#define CONTENT_SIZE (UPD_RECORD_SIZE - UPD_RECORD_MD5_SIZE)
#define MOST_HEAD ((uint64_t)16 << 20)

static void demand(int is_kept)
{
	if (!is_kept)
		abort();
}

static void make_sense(const struct upd_record *record)
{
	const struct upd_image_id *id = &record->id;

	demand(id->head_size > 0 && id->head_size <= MOST_HEAD);
	demand(record->offset >= id->head_size && record->offset < id->size);
	demand(record->offset % id->head_size == 0 && id->size <= id->capacity);
	demand(memchr(record->validator, '\0', sizeof(record->validator)) != NULL);
}

static void be_the_same(const struct upd_record *a, const struct upd_record *b)
{
	demand(a->id.medium == b->id.medium && a->id.capacity == b->id.capacity);
	demand(a->id.size == b->id.size && a->id.head_size == b->id.head_size);
	demand(a->sequence == b->sequence && a->offset == b->offset);
	demand(memcmp(a->id.md5, b->id.md5, sizeof(a->id.md5)) == 0);
	demand(memcmp(a->id.version, b->id.version, sizeof(a->id.version)) == 0);
	demand(memcmp(a->prefix_md5, b->prefix_md5, sizeof(a->prefix_md5)) == 0);
	demand(memcmp(a->head_md5, b->head_md5, sizeof(a->head_md5)) == 0);
	demand(strcmp(a->validator, b->validator) == 0);
}

static int check(const unsigned char *bytes, unsigned bit)
{
	unsigned char *built = malloc(UPD_RECORD_SIZE); /* so that a byte too far is seen */
	struct upd_record record, again;
	int status = upd_record_parse(bytes, &record);

	if (status == 0) {
		make_sense(&record);
		upd_record_build(&record, built);
		demand(upd_record_parse(built, &again) == 0);
		be_the_same(&record, &again);
		built[bit / 8 % UPD_RECORD_SIZE] ^= (unsigned char)(1U << bit % 8);
		demand(upd_record_parse(built, &again) != 0);
	}
	free(built);
	return status;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	unsigned char *bytes;
	unsigned bit;

	if (size < 2)
		return -1;
	bit = data[0] + 256U * data[1];
	data += 2;
	size -= 2;
	bytes = calloc(1, UPD_RECORD_SIZE);
	memcpy(bytes, data, size < UPD_RECORD_SIZE ? size : UPD_RECORD_SIZE);
	check(bytes, bit);
	EVP_Digest(bytes, CONTENT_SIZE, bytes + CONTENT_SIZE, NULL, EVP_md5(), NULL);
	check(bytes, bit);
	free(bytes);
	return 0;
}
