/* SPDX-License-Identifier: MIT */
/* What happens to each buffer before it is stored: it is filled, and it is hashed. */
#include <stdio.h>
#include <string.h>

#include "pump.h"

/* --- digests ---------------------------------------------------------------------------------- */

static void want(struct upd_digest *digest, const char *name, const char *wanted)
{
	digest->name = name;
	if (wanted)
		snprintf(digest->wanted, sizeof(digest->wanted), "%s", wanted);
}

void upd_digest_open_md5(struct upd_digest *digest, const char *wanted)
{
	want(digest, "MD5", wanted);
	upd_md5_init(&digest->md5);
}

int upd_digest_open_sha256(struct upd_digest *digest, const char *wanted)
{
	want(digest, "SHA-256", wanted);
	digest->sha256 = EVP_MD_CTX_new();
	return digest->sha256 && EVP_DigestInit_ex(digest->sha256, EVP_sha256(), NULL) == 1 ? 0
											    : -1;
}

int upd_digest_update(struct upd_digest *digest, const unsigned char *buf, size_t len,
		      struct upd_error *reterr)
{
	if (!digest->sha256)
		upd_md5_update(&digest->md5, buf, len);
	else if (EVP_DigestUpdate(digest->sha256, buf, len) != 1)
		return upd_fail(reterr, UPD_RESOURCES, "libcrypto failed");
	return 0;
}

static int end_digest(struct upd_digest *digest, struct upd_error *error)
{
	unsigned char bytes[EVP_MAX_MD_SIZE];
	unsigned len = UPD_MD5_SIZE;

	if (!digest->sha256)
		upd_md5_final(&digest->md5, bytes);
	else if (EVP_DigestFinal_ex(digest->sha256, bytes, &len) != 1)
		return upd_fail(error, UPD_RESOURCES, "libcrypto failed");
	for (unsigned i = 0; i < len; i++)
		snprintf(digest->hex + (size_t)2 * i, 3, "%02x", bytes[i]);
	return 0;
}

/* The firmware is complete: is it the one that was announced? */
static int finish(struct upd_pump *pump, struct upd_digest *digest, struct upd_error *error)
{
	int status = end_digest(digest, error);

	if (status != 0)
		return status;
	if (digest->wanted[0] == '\0' || strcmp(digest->hex, digest->wanted) == 0)
		return 0;
	/* pieces of two objects, perhaps: only what came in one piece is judged */
	if (pump->resumed > 0 || pump->source->pieces > 1)
		return upd_fail(error, UPD_AGAIN, "%s of what came in pieces is not as announced",
				digest->name);
	return upd_fail(error, UPD_DIGEST, "%s is %s, announced was %s", digest->name, digest->hex,
			digest->wanted);
}

/* --- receive ---------------------------------------------------------------------------------- */

/* The firmware must end where its announced size does. */
static int check_end(struct upd_pump *pump, struct upd_error *error)
{
	const uint64_t size = pump->source->size;
	unsigned char more[UPD_ALIGNMENT] __attribute__((aligned(UPD_ALIGNMENT)));
	size_t len = 0;
	int status;

	if (pump->received < size)
		return upd_fail(error, UPD_LENGTH, "the object ended after %llu of %llu bytes",
				(unsigned long long)pump->received, (unsigned long long)size);
	if (pump->received == 0)
		return upd_fail(error, UPD_LENGTH, "the source is empty");
	if (size == 0)
		return 0; /* nobody has said where it ends */
	status = pump->source->ops->read(pump->source, more, 1, &len, error);
	if (status == 0 && len > 0)
		status = upd_fail(error, UPD_LENGTH, "the object is longer than announced");
	return status;
}

static int receive_one(struct upd_pump *pump, struct upd_buffer *buffer, struct upd_error *error)
{
	uint64_t size = pump->source->size;
	uint64_t left = size ? size - pump->received : UINT64_MAX;
	size_t wanted = pump->firmware.buffer_size;
	size_t len = 0;
	int status;

	if (left < wanted)
		wanted = (size_t)left;
	status = pump->source->ops->read(pump->source, buffer->bytes, wanted, &len, error);
	if (status != 0)
		return status;
	size = pump->source->size; /* the first answer may have brought it */
	buffer->used = len;
	buffer->offset = pump->received;
	pump->received += len;
	buffer->is_last = len < wanted || (size && pump->received >= size);
	return buffer->is_last ? check_end(pump, error) : 0;
}

/* Until it is decided where to begin; 0 if it never will be. */
static int is_begun(struct upd_pump *pump)
{
	int is_begun;

	pthread_mutex_lock(&pump->lock);
	while (!pump->is_begun && !pump->is_cancelled)
		pthread_cond_wait(&pump->ended, &pump->lock);
	is_begun = pump->is_begun;
	pthread_mutex_unlock(&pump->lock);
	return is_begun;
}

void *upd_receive_thread(void *context)
{
	struct upd_pump *pump = context;
	struct upd_buffer *buffer;
	struct upd_error error = { 0 };

	upd_pump_enter(pump, "upd-receive");
	if (!is_begun(pump))
		return upd_pump_leave(pump);
	while ((buffer = upd_ring_take(&pump->firmware, 0)) != NULL) {
		int is_last;

		if (receive_one(pump, buffer, &error) != 0) {
			upd_pump_fail(pump, &error);
			break;
		}
		is_last = buffer->is_last;
		upd_ring_pass(&pump->firmware, 0);
		if (is_last)
			break;
	}
	return upd_pump_leave(pump);
}

/* --- hash ------------------------------------------------------------------------------------- */

static int hash_one(struct upd_pump *pump, struct upd_digest *digest,
		    const struct upd_buffer *buffer, struct upd_error *error)
{
	int status = upd_digest_update(digest, buffer->bytes, buffer->used, error);

	if (status == 0 && buffer->is_last)
		status = finish(pump, digest, error);
	if (status == 0 && digest == &pump->md5) {
		pump->hashed += buffer->used;
		if (!buffer->is_last)
			upd_mark(pump, buffer->offset + buffer->used);
	}
	return status;
}

static void *hash(struct upd_pump *pump, struct upd_ring *ring, unsigned stage,
		  struct upd_digest *digest)
{
	struct upd_buffer *buffer;
	struct upd_error error = { 0 };

	while ((buffer = upd_ring_take(ring, stage)) != NULL) {
		const int is_last = buffer->is_last;

		if (hash_one(pump, digest, buffer, &error) != 0) {
			upd_pump_fail(pump, &error);
			break;
		}
		upd_ring_pass(ring, stage);
		if (is_last)
			break;
	}
	return upd_pump_leave(pump);
}

void *upd_md5_thread(void *context)
{
	struct upd_pump *pump = context;

	upd_pump_enter(pump, "upd-md5");
	return hash(pump, &pump->firmware, 1, &pump->md5);
}

void *upd_sha256_thread(void *context)
{
	struct upd_pump *pump = context;

	upd_pump_enter(pump, "upd-sha256");
	return hash(pump, &pump->firmware, 2, &pump->sha256);
}

void *upd_image_md5_thread(void *context)
{
	struct upd_pump *pump = context;

	upd_pump_enter(pump, "upd-image-md5");
	return hash(pump, &pump->image, 1, &pump->image_md5);
}
