/* SPDX-License-Identifier: MIT */
/*
 * The pump: three threads around a ring of buffers.
 *
 *     receive  source -> buffer          \
 *     digest   buffer -> MD5              > one ring, each buffer passes the three in this order
 *     write    buffer -> sink            /
 *
 * Order of writes, and what a power cut leaves:
 *
 *     blank head, flush, read back       nothing that boots: the slot's head is zeros
 *     all but the head, read back        the same
 *     digest and length match            the same; a mismatch ends here
 *     flush, read back the rest          the same
 *     head, flush, read back             before: zeros. After: the complete, verified image
 *
 * The receiver starts beside the blanking but no byte is written before the head is proven blank,
 * as blanking is the first thing that the writing thread does. The digest is judged by the hashing
 * thread before it passes the last buffer on, so the writer cannot commit what did not match.
 *
 * The first failure is kept, stops the ring and ends every thread; the pump counts as ended only
 * when all three are gone, so that nobody still writes when the caller hears of the failure.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "ring.h"
#include "sink.h"
#include "source.h"

#define MD5_SIZE 16
#define THREADS 3
#define MAX_RING ((size_t)1 << 30) /* of memory; fits a size_t of 32 bits */

struct upd_pump {
	struct upd_ring ring;
	struct upd_source *source;
	struct upd_sink *sink; /* NULL: digest only */
	EVP_MD_CTX *md5;
	char wanted_md5[2 * MD5_SIZE + 1]; /* empty: not compared */
	char md5_hex[2 * MD5_SIZE + 1];
	uint64_t size;
	size_t buffer_size;
	int eventfd;
	pthread_t threads[THREADS];
	unsigned thread_count;

	atomic_int is_cancelled;
	atomic_int phase;
	_Atomic uint64_t received;
	_Atomic uint64_t hashed;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t ended;
	unsigned running;
	struct upd_error failure;
};

/* Keep the first failure and stop everybody. */
static void fail(struct upd_pump *pump, const struct upd_error *error)
{
	pthread_mutex_lock(&pump->lock);
	if (pump->failure.status == 0)
		pump->failure = *error;
	pthread_mutex_unlock(&pump->lock);
	pump->is_cancelled = 1;
	upd_ring_stop(&pump->ring);
}

static void leave(struct upd_pump *pump)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&pump->lock);
	if (--pump->running == 0) {
		/* cannot block: the counter is far from full */
		while (write(pump->eventfd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
		pthread_cond_broadcast(&pump->ended);
	}
	pthread_mutex_unlock(&pump->lock);
}

/* The object must end where the announced size does. */
static int check_end(struct upd_pump *pump, struct upd_error *error)
{
	unsigned char more;
	size_t len = 0;
	int status;

	if (pump->received < pump->size)
		return upd_fail(error, UPD_LENGTH, "the object ended after %llu of %llu bytes",
				(unsigned long long)pump->received, (unsigned long long)pump->size);
	status = pump->source->ops->read(pump->source, &more, 1, &len, error);
	if (status == 0 && len > 0)
		status = upd_fail(error, UPD_LENGTH, "the object is longer than announced");
	return status;
}

static int receive_one(struct upd_pump *pump, struct upd_buffer *buffer, struct upd_error *error)
{
	uint64_t left = pump->size - pump->received;
	size_t wanted = left < pump->buffer_size ? (size_t)left : pump->buffer_size;
	size_t len = 0;
	int status = pump->source->ops->read(pump->source, buffer->bytes, wanted, &len, error);

	if (status != 0)
		return status;
	buffer->used = len;
	buffer->offset = pump->received;
	pump->received += len;
	buffer->is_last = len < wanted || pump->received == pump->size;
	return buffer->is_last ? check_end(pump, error) : 0;
}

static void *receive_thread(void *context)
{
	struct upd_pump *pump = context;
	struct upd_buffer *buffer;
	struct upd_error error = { 0 };

	prctl(PR_SET_NAME, "upd-receive");
	while ((buffer = upd_ring_take(&pump->ring, UPD_FILL)) != NULL) {
		int is_last;

		if (receive_one(pump, buffer, &error) != 0) {
			fail(pump, &error);
			break;
		}
		is_last = buffer->is_last;
		upd_ring_pass(&pump->ring, UPD_FILL);
		if (is_last)
			break;
	}
	leave(pump);
	return NULL;
}

static int finish_digest(struct upd_pump *pump, struct upd_error *error)
{
	unsigned char md5[MD5_SIZE];

	if (EVP_DigestFinal_ex(pump->md5, md5, NULL) != 1)
		return upd_fail(error, UPD_RESOURCES, "libcrypto failed");
	for (unsigned i = 0; i < MD5_SIZE; i++)
		snprintf(pump->md5_hex + 2 * i, 3, "%02x", md5[i]);
	if (pump->wanted_md5[0] != '\0' && strcmp(pump->md5_hex, pump->wanted_md5) != 0)
		return upd_fail(error, UPD_DIGEST, "MD5 is %s, announced was %s", pump->md5_hex,
				pump->wanted_md5);
	return 0;
}

static int digest_one(struct upd_pump *pump, const struct upd_buffer *buffer,
		      struct upd_error *error)
{
	if (EVP_DigestUpdate(pump->md5, buffer->bytes, buffer->used) != 1)
		return upd_fail(error, UPD_RESOURCES, "libcrypto failed");
	pump->hashed += buffer->used;
	return buffer->is_last ? finish_digest(pump, error) : 0;
}

static void *digest_thread(void *context)
{
	struct upd_pump *pump = context;
	struct upd_buffer *buffer;
	struct upd_error error = { 0 };

	prctl(PR_SET_NAME, "upd-digest");
	while ((buffer = upd_ring_take(&pump->ring, UPD_HASH)) != NULL) {
		int is_last;

		if (digest_one(pump, buffer, &error) != 0) {
			fail(pump, &error);
			break;
		}
		is_last = buffer->is_last;
		upd_ring_pass(&pump->ring, UPD_HASH);
		if (is_last)
			break;
	}
	leave(pump);
	return NULL;
}

/* Everything from the blank head to the stored one. */
static int write_image(struct upd_pump *pump, struct upd_error *error)
{
	struct upd_sink *sink = pump->sink;
	struct upd_buffer *buffer;
	int is_last = 0;
	int status = sink ? sink->ops->blank(sink, error) : 0;

	pump->phase = UPD_PHASE_RECEIVING;
	while (status == 0 && !is_last) {
		buffer = upd_ring_take(&pump->ring, UPD_WRITE);
		if (!buffer)
			return UPD_MORE; /* another thread has failed and said why */
		if (sink)
			status = sink->ops->write(sink, buffer->bytes, buffer->used, error);
		is_last = buffer->is_last;
		upd_ring_pass(&pump->ring, UPD_WRITE);
	}
	pump->phase = UPD_PHASE_VERIFYING;
	if (status == 0 && sink)
		status = sink->ops->settle(sink, error);
	if (status == 0 && pump->is_cancelled)
		return UPD_MORE;
	if (status == 0 && sink)
		status = sink->ops->commit(sink, error);
	return status;
}

static void *write_thread(void *context)
{
	struct upd_pump *pump = context;
	struct upd_error error = { 0 };
	int status;

	prctl(PR_SET_NAME, "upd-write");
	status = write_image(pump, &error);
	if (status < 0)
		fail(pump, &error);
	else if (status == UPD_DONE)
		pump->phase = UPD_PHASE_DONE;
	leave(pump);
	return NULL;
}

/* Start all threads with signals blocked: they belong to the caller's. */
static int start(struct upd_pump *pump, struct upd_error *reterr)
{
	static void *(*const bodies[THREADS])(void *) = { write_thread, digest_thread,
							  receive_thread };
	sigset_t all, before;
	int status = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pump->running = THREADS;
	for (unsigned i = 0; i < THREADS && status == 0; i++) {
		status = pthread_create(&pump->threads[i], NULL, bodies[i], pump);
		if (status == 0)
			pump->thread_count++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return status ? upd_fail(reterr, UPD_RESOURCES, "no thread: error %d", status) : 0;
}

static int check_options(const struct upd_options *options, struct upd_error *reterr)
{
	if (!options->source || options->size == 0 || options->buffers < 3 ||
	    options->buffer_size == 0 || options->buffer_size % UPD_ALIGNMENT != 0 ||
	    options->buffer_size > MAX_RING / options->buffers || options->size > INT64_MAX ||
	    options->stall_timeout_ms == 0 ||
	    (options->md5 && strlen(options->md5) != 2 * MD5_SIZE))
		return upd_fail(reterr, UPD_OPTIONS, "options make no sense");
	return 0;
}

static int open_source(struct upd_pump *pump, const struct upd_options *options,
		       struct upd_error *reterr)
{
	if (strstr(options->source, "://"))
		return upd_source_http_open(options, &pump->is_cancelled, &pump->source, reterr);
	return upd_source_file_open(options, &pump->is_cancelled, &pump->source, reterr);
}

static int open_parts(struct upd_pump *pump, const struct upd_options *options,
		      struct upd_error *reterr)
{
	int status = 0;

	pump->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pump->md5 = EVP_MD_CTX_new();
	if (pump->eventfd < 0 || !pump->md5 || EVP_DigestInit_ex(pump->md5, EVP_md5(), NULL) != 1 ||
	    upd_ring_open(&pump->ring, options->buffers, options->buffer_size) != 0)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	if (options->device)
		status = upd_sink_block_open(options, &pump->sink, reterr);
	if (status == 0)
		status = open_source(pump, options, reterr);
	return status;
}

/* On the clock that nobody sets: a device's time of day jumps by years when it learns the date. */
static void init_waiting(struct upd_pump *pump)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&pump->lock, NULL);
	pthread_cond_init(&pump->ended, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

int upd_pump_open(const struct upd_options *options, struct upd_pump **ret,
		  struct upd_error *reterr)
{
	struct upd_pump *pump;
	int status = check_options(options, reterr);

	if (status != 0)
		return status;
	pump = calloc(1, sizeof(*pump));
	if (!pump)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	init_waiting(pump);
	pump->eventfd = -1;
	pump->size = options->size;
	pump->buffer_size = options->buffer_size;
	if (options->md5)
		memcpy(pump->wanted_md5, options->md5, sizeof(pump->wanted_md5));
	status = open_parts(pump, options, reterr);
	if (status == 0)
		status = start(pump, reterr);
	if (status != 0) {
		upd_pump_close(pump);
		return status;
	}
	*ret = pump;
	return 0;
}

int upd_pump_fd(const struct upd_pump *pump)
{
	return pump->eventfd;
}

static struct timespec after_ms(int timeout_ms)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += timeout_ms / 1000;
	at.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (at.tv_nsec >= 1000000000) {
		at.tv_sec++;
		at.tv_nsec -= 1000000000;
	}
	return at;
}

int upd_pump_step(struct upd_pump *pump, int timeout_ms, struct upd_progress *ret,
		  struct upd_error *reterr)
{
	struct timespec at = after_ms(timeout_ms);
	int status = UPD_MORE;

	pthread_mutex_lock(&pump->lock);
	while (pump->running > 0 && timeout_ms > 0 &&
	       pthread_cond_timedwait(&pump->ended, &pump->lock, &at) == 0)
		;
	if (pump->running == 0 && pump->failure.status != 0) {
		*reterr = pump->failure;
		status = pump->failure.status;
	} else if (pump->running == 0) {
		status = UPD_DONE;
	}
	pthread_mutex_unlock(&pump->lock);
	*ret = (struct upd_progress){
		.phase = pump->phase,
		.received = pump->received,
		.hashed = pump->hashed,
		.written = pump->sink ? pump->sink->written : 0,
		.verified = pump->sink ? pump->sink->verified : 0,
	};
	if (ret->verified > pump->size) /* whole sectors are, and a whole head */
		ret->verified = pump->size;
	return status;
}

void upd_pump_hexdigest(const struct upd_pump *pump, char *ret)
{
	memcpy(ret, pump->md5_hex, sizeof(pump->md5_hex));
}

void upd_pump_close(struct upd_pump *pump)
{
	if (!pump)
		return;
	pump->is_cancelled = 1;
	if (pump->ring.memory)
		upd_ring_stop(&pump->ring);
	for (unsigned i = 0; i < pump->thread_count; i++)
		pthread_join(pump->threads[i], NULL);
	if (pump->source)
		pump->source->ops->close(pump->source);
	if (pump->sink)
		pump->sink->ops->close(pump->sink);
	EVP_MD_CTX_free(pump->md5);
	upd_ring_close(&pump->ring);
	if (pump->eventfd >= 0)
		close(pump->eventfd);
	pthread_cond_destroy(&pump->ended);
	pthread_mutex_destroy(&pump->lock);
	free(pump);
}
