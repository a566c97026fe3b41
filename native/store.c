/* SPDX-License-Identifier: MIT */
/*
 * The last stage, and with it the order of writes: decide where to begin, look at the first bytes,
 * blank the slot, store all but its head, settle, and store the head.
 *
 * Nothing is written before the source has given its first bytes and they were found acceptable:
 * a URL that is dead, an image that is too large or a decoder that wants too much memory leave the
 * slot as it was.
 */
#include <string.h>

#include "pump.h"

#define MIN_BUFFERS 3U

static unsigned last_stage(const struct upd_ring *ring)
{
	return ring->stages - 1;
}

/* The largest image that is accepted; 0: any. */
static uint64_t limit_of(const struct upd_pump *pump)
{
	uint64_t limit = pump->options.image_limit;

	if (pump->sink && (limit == 0 || pump->sink->capacity < limit))
		limit = pump->sink->capacity;
	return limit;
}

static int check_room(const struct upd_pump *pump, uint64_t size, struct upd_error *error)
{
	const uint64_t limit = limit_of(pump);

	if (limit == 0 || size <= limit)
		return 0;
	error->offset = limit;
	return upd_fail(error, UPD_SPACE, "image needs %llu bytes, there is room for %llu",
			(unsigned long long)size, (unsigned long long)limit);
}

/* --- store ------------------------------------------------------------------------------------ */

static int write_one(struct upd_pump *pump, const struct upd_buffer *buffer,
		     struct upd_error *error)
{
	struct upd_sink *sink = pump->sink;
	int status = check_room(pump, buffer->offset + buffer->used, error);

	if (status == 0 && sink && buffer->used > 0)
		status = sink->ops->write(sink, buffer->bytes, buffer->used, error);
	if (status == 0)
		upd_keep(pump);
	return status;
}

static int write_all(struct upd_pump *pump, struct upd_ring *ring, uint64_t *ret_size,
		     struct upd_error *error)
{
	int is_last = 0;

	while (!is_last) {
		struct upd_buffer *buffer = upd_ring_take(ring, last_stage(ring));
		int status;

		if (!buffer)
			return UPD_MORE; /* another thread has failed and said why */
		status = write_one(pump, buffer, error);
		if (status != 0)
			return status;
		is_last = buffer->is_last;
		*ret_size = buffer->offset + buffer->used;
		upd_ring_pass(ring, last_stage(ring));
	}
	return 0;
}

/* What the slot's owner was promised about the image, now that its end is seen. */
static int check_size(const struct upd_pump *pump, uint64_t size, struct upd_error *error)
{
	const uint64_t wanted = pump->options.image_size;

	if (wanted == 0 || size == wanted)
		return 0;
	return upd_fail(error, UPD_LENGTH, "the image has %llu bytes, announced were %llu",
			(unsigned long long)size, (unsigned long long)wanted);
}

/* Everything from the blank head to the stored one; size is 0 if nobody knows it. */
static int write_image(struct upd_pump *pump, struct upd_ring *ring, uint64_t size,
		       struct upd_error *error)
{
	struct upd_sink *sink = pump->sink;
	int status = check_room(pump, size, error);

	if (status == 0 && sink) {
		pump->phase = UPD_PHASE_BLANKING;
		status = sink->ops->blank(sink, size, error);
	}
	if (status != 0)
		return status; /* the phase tells whether the medium was touched */
	pump->phase = UPD_PHASE_RECEIVING;
	status = write_all(pump, ring, &size, error);
	if (status != 0)
		return status;
	pump->phase = UPD_PHASE_VERIFYING;
	status = check_size(pump, size, error);
	if (status == 0 && sink)
		status = sink->ops->settle(sink, error);
	if (status == 0 && pump->is_cancelled)
		return UPD_MORE;
	if (status == 0 && sink)
		status = sink->ops->commit(sink, error);
	return status;
}

static void end(struct upd_pump *pump, int status, const struct upd_error *error)
{
	if (status < 0)
		upd_pump_fail(pump, error);
	else if (status == UPD_DONE)
		pump->phase = UPD_PHASE_DONE;
}

/* --- decode ----------------------------------------------------------------------------------- */

/* Pass on what is decoded so far and get the next buffer; NULL: stop. */
static struct upd_buffer *turn_over(struct upd_pump *pump, struct upd_buffer *full, size_t used)
{
	const uint64_t next = full->offset + used;
	struct upd_buffer *buffer;

	full->used = used;
	full->is_last = 0;
	upd_ring_pass(&pump->image, 0);
	buffer = upd_ring_take(&pump->image, 0);
	if (buffer)
		buffer->offset = next;
	return buffer;
}

/* Decode one buffer of firmware into as many buffers of image as it takes. */
static int decode_one(struct upd_pump *pump, const struct upd_buffer *in, struct upd_buffer **out,
		      struct upd_decoder_io *io, struct upd_error *error)
{
	const size_t room = pump->image.buffer_size;
	int status = UPD_MORE;

	io->in = in->bytes;
	io->in_len = in->used;
	while (status == UPD_MORE) {
		status = pump->decoder->ops->decode(pump->decoder, io, in->is_last, error);
		if (status != UPD_MORE || io->out_room > 0)
			break;
		status = check_room(pump, (*out)->offset + room, error);
		if (status != 0)
			return status;
		*out = turn_over(pump, *out, room);
		if (!*out)
			return UPD_MORE;
		io->out = (*out)->bytes;
		io->out_room = room;
		status = UPD_MORE;
	}
	if (status == UPD_MORE && in->is_last)
		status = upd_fail(error, UPD_FORMAT, "the compressed firmware ends too soon");
	return status < 0 ? status : 0;
}

static int decode_all(struct upd_pump *pump, struct upd_error *error)
{
	struct upd_ring *ring = &pump->firmware;
	struct upd_buffer *out = upd_ring_take(&pump->image, 0);
	struct upd_decoder_io io = { 0 };
	int is_last = 0;

	if (!out)
		return UPD_MORE;
	out->offset = 0;
	io.out = out->bytes;
	io.out_room = pump->image.buffer_size;
	while (!is_last) {
		struct upd_buffer *in = upd_ring_take(ring, last_stage(ring));
		int status;

		if (!in)
			return UPD_MORE;
		status = decode_one(pump, in, &out, &io, error);
		if (status != 0 || !out)
			return status ? status : UPD_MORE;
		is_last = in->is_last;
		upd_ring_pass(ring, last_stage(ring));
	}
	/* the firmware ended and matched, and so did the image, or decode would have said so */
	out->used = pump->image.buffer_size - io.out_room;
	out->is_last = 1;
	upd_ring_pass(&pump->image, 0);
	return 0;
}

static void *image_thread(void *context)
{
	struct upd_pump *pump = context;
	struct upd_error error = { 0 };
	uint64_t size = pump->options.image_size;

	upd_pump_enter(pump, "upd-write");
	if (size == 0)
		size = pump->decoder->image_size;
	/* nothing is blanked for a firmware of which nothing can be unpacked */
	if (upd_ring_take(&pump->image, last_stage(&pump->image)))
		end(pump, write_image(pump, &pump->image, size, &error), &error);
	return upd_pump_leave(pump);
}

static int open_image(struct upd_pump *pump, unsigned buffers, struct upd_error *error)
{
	int status =
		UPD_MORE; /* another thread has failed meanwhile, and stops nothing but rings */

	pthread_mutex_lock(&pump->lock);
	if (!pump->is_cancelled)
		status = upd_ring_open(&pump->image, buffers, pump->options.buffer_size, 3);
	pthread_mutex_unlock(&pump->lock);
	return status < 0 ? upd_fail(error, UPD_RESOURCES, "no memory") : status;
}

/* From here on this thread decodes, and two others hash the image and store it. */
static int unpack(struct upd_pump *pump, const struct upd_buffer *first, struct upd_error *error)
{
	unsigned buffers = pump->options.buffers / 2;
	int status = upd_decoder_open((enum upd_format)pump->format, pump->options.decoder_memory,
				      first->bytes, first->used, &pump->decoder, error);

	if (status == 0)
		status = open_image(pump, buffers < MIN_BUFFERS ? MIN_BUFFERS : buffers, error);
	if (status == 0)
		status = upd_pump_start(pump, image_thread, error);
	if (status == 0)
		status = upd_pump_start(pump, upd_image_md5_thread, error);
	return status ? status : decode_all(pump, error);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void begin(struct upd_pump *pump)
{
	pthread_mutex_lock(&pump->lock);
	pump->is_begun = 1;
	pthread_cond_broadcast(&pump->ended);
	pthread_mutex_unlock(&pump->lock);
}

static int store(struct upd_pump *pump, struct upd_error *error)
{
	struct upd_ring *ring = &pump->firmware;
	struct upd_buffer *first;
	uint64_t size;
	int status = upd_resume(pump, error);

	if (status != 0)
		return status;
	pump->phase = UPD_PHASE_CONNECTING;
	begin(pump);
	first = upd_ring_take(ring, last_stage(ring));
	if (!first)
		return UPD_MORE;
	if (pump->options.decode && pump->resumed == 0)
		pump->format = (int)upd_decoder_sniff(first->bytes, first->used);
	size = pump->source->size;
	if (size == 0 && first->is_last)
		size = first->used;
	if (pump->format == UPD_FORMAT_RAW)
		return write_image(pump, ring, size, error);
	status = unpack(pump, first, error);
	return status ? status : UPD_MORE; /* the image's thread says when it is done */
}

void *upd_store_thread(void *context)
{
	struct upd_pump *pump = context;
	struct upd_error error = { 0 };

	upd_pump_enter(pump, "upd-store");
	end(pump, store(pump, &error), &error);
	return upd_pump_leave(pump);
}
