/* SPDX-License-Identifier: MIT */
/*
 * The life of a pump: threads around a ring of buffers.
 *
 *     receive  source -> buffer           \
 *     digest   buffer -> MD5, [SHA-256]    > one ring, each buffer passes them in this order
 *     store    buffer -> sink             /
 *
 * A compressed firmware has a second ring behind the first: there the storing thread decodes from
 * one into the other, and the image's digest and its storing are threads of the second.
 *
 * Order of writes (store.c), and what a power cut leaves:
 *
 *     blank head, flush, read back       nothing that boots: the slot's head is blank
 *     all but the head, read back        the same; the checkpoint says how far it is proven
 *     digests and length match           the same; a mismatch ends here
 *     flush, read back the rest          the same
 *     head, flush, read back             before: blank. After: the complete, verified image
 *
 * The digests are judged before the last buffer is passed on, so that the storing thread cannot
 * commit what did not match. The first failure is kept, stops the rings and ends every thread; the
 * pump counts as ended only when all are gone, so that nobody still writes when the caller hears.
 */
#define _GNU_SOURCE /* syscall */
#include "pump.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define MAX_RING ((size_t)1 << 30) /* of memory; fits a size_t of 32 bits */
#define MTD_CHAR_MAJOR 90U

/* linux/ioprio.h is younger than the C libraries in use */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_CLASS_SHIFT 13
#define IOPRIO_BEST_EFFORT 2
#define IOPRIO_IDLE 3
#define IO_PRIORITY_IDLE 8

void upd_pump_fail(struct upd_pump *pump, const struct upd_error *error)
{
	pthread_mutex_lock(&pump->lock);
	if (pump->failure.status == 0)
		pump->failure = *error;
	pump->is_cancelled = 1;
	pthread_cond_broadcast(&pump->ended);
	upd_ring_stop(&pump->firmware);
	upd_ring_stop(&pump->image); /* under the lock, as it may be about to open */
	pthread_mutex_unlock(&pump->lock);
}

/* Of this thread alone. A priority that is refused is no reason not to install. */
static void take_place(const struct upd_pump *pump)
{
	const struct upd_options *options = &pump->options;
	int class = options->io_priority == IO_PRIORITY_IDLE ? IOPRIO_IDLE : IOPRIO_BEST_EFFORT;
	int level = options->io_priority == IO_PRIORITY_IDLE ? 0 : options->io_priority;

	if (options->nice > 0)
		setpriority(PRIO_PROCESS, 0, pump->niceness);
	if (options->io_priority >= 0)
		syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, class << IOPRIO_CLASS_SHIFT | level);
}

void upd_pump_enter(const struct upd_pump *pump, const char *name)
{
	prctl(PR_SET_NAME, name);
	take_place(pump);
}

void *upd_pump_leave(struct upd_pump *pump)
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
	return NULL;
}

/* With signals blocked: they belong to the caller's threads. */
int upd_pump_start(struct upd_pump *pump, void *(*body)(void *), struct upd_error *reterr)
{
	sigset_t all, before;
	int status;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_mutex_lock(&pump->lock);
	status = pthread_create(&pump->threads[pump->thread_count], NULL, body, pump);
	if (status == 0) {
		pump->thread_count++;
		pump->running++;
	}
	pthread_mutex_unlock(&pump->lock);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return status ? upd_fail(reterr, UPD_RESOURCES, "no thread: error %d", status) : 0;
}

/* --- open ------------------------------------------------------------------------------------- */

static int is_hex_wrong(const char *text, size_t digits)
{
	return text && (strlen(text) != digits || strspn(text, "0123456789abcdef") != digits);
}

static int check_options(const struct upd_options *options, struct upd_error *reterr)
{
	const char *sha256 = options->sha256 && options->sha256[0] ? options->sha256 : NULL;

	if (!options->source || options->buffers < 3 || options->buffer_size == 0 ||
	    options->buffer_size % UPD_ALIGNMENT != 0 ||
	    options->buffer_size > MAX_RING / options->buffers || options->size > INT64_MAX ||
	    options->image_size > INT64_MAX || options->stall_timeout_ms == 0 ||
	    options->attempts == 0 || options->nice < 0 || options->nice > 19 ||
	    options->io_priority < -1 || options->io_priority > IO_PRIORITY_IDLE ||
	    (options->version && strlen(options->version) > UPD_RECORD_VERSION_SIZE) ||
	    is_hex_wrong(options->md5, 32) || is_hex_wrong(sha256, 64))
		return upd_fail(reterr, UPD_OPTIONS, "options make no sense");
	return 0;
}

/* What kind of thing a path is decides who reads or writes it. */
enum kind { KIND_FILE, KIND_BLOCK, KIND_MTD, KIND_CHAR };

static enum kind kind_of(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return KIND_FILE; /* whoever opens it says what is wrong, or makes it */
	if (S_ISBLK(st.st_mode))
		return KIND_BLOCK;
	if (S_ISCHR(st.st_mode))
		return major(st.st_rdev) == MTD_CHAR_MAJOR ? KIND_MTD : KIND_CHAR;
	return KIND_FILE;
}

static int open_source(struct upd_pump *pump, const struct upd_options *options,
		       struct upd_error *reterr)
{
	if (strstr(options->source, "://"))
		return upd_source_http_open(options, &pump->is_cancelled, &pump->source, reterr);
	if (kind_of(options->source) == KIND_MTD)
		return upd_source_mtd_open(options, &pump->is_cancelled, &pump->source, reterr);
	return upd_source_file_open(options, &pump->is_cancelled, &pump->source, reterr);
}

static int open_sink(struct upd_pump *pump, const struct upd_options *options,
		     struct upd_error *reterr)
{
	switch (kind_of(options->device)) {
	case KIND_BLOCK:
		return upd_sink_block_open(options, &pump->sink, reterr);
	case KIND_MTD:
		return upd_sink_mtd_open(options, &pump->sink, reterr);
	case KIND_CHAR:
		return upd_sink_ubi_open(options, &pump->sink, reterr);
	default:
		return upd_sink_file_open(options, &pump->sink, reterr);
	}
}

/* A checkpoint that cannot be kept costs a repeated download after a cut, and nothing else. */
static void open_checkpoint(struct upd_pump *pump, const struct upd_options *options)
{
	struct upd_error ignored = { 0 };
	struct upd_image_id id;

	if (!options->checkpoint || !options->md5 || options->size == 0 || !pump->sink ||
	    !pump->sink->ops->resume)
		return;
	id = (struct upd_image_id){ .medium = pump->sink->identity,
				    .capacity = pump->sink->capacity,
				    .size = options->size,
				    .head_size = pump->sink->head_size };
	for (unsigned i = 0; i < sizeof(id.md5); i++) {
		const char digits[3] = { options->md5[2 * i], options->md5[2 * i + 1], '\0' };

		id.md5[i] = (unsigned char)strtoul(digits, NULL, 16);
	}
	if (options->version)
		memcpy(id.version, options->version, strlen(options->version));
	upd_checkpoint_open(options->checkpoint, &id, &pump->checkpoint, &ignored);
}

static int open_digests(struct upd_pump *pump, const struct upd_options *options)
{
	upd_digest_open_md5(&pump->md5, options->md5);
	upd_digest_open_md5(&pump->image_md5, NULL);
	return options->sha256 ? upd_digest_open_sha256(&pump->sha256, options->sha256) : 0;
}

static int open_parts(struct upd_pump *pump, const struct upd_options *options,
		      struct upd_error *reterr)
{
	unsigned stages = options->sha256 ? 4 : 3;
	int status = 0;

	pump->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pump->eventfd < 0 || open_digests(pump, options) != 0 ||
	    upd_ring_open(&pump->firmware, options->buffers, options->buffer_size, stages) != 0)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	if (options->device)
		status = open_sink(pump, options, reterr);
	if (status == 0)
		status = open_source(pump, options, reterr);
	if (status == 0)
		open_checkpoint(pump, options);
	return status;
}

/* The storing thread first: it says where the receiver begins. */
static int start(struct upd_pump *pump, struct upd_error *reterr)
{
	int status;

	pump->running = 1; /* this one: the pump has not ended before all of them have begun */
	status = upd_pump_start(pump, upd_store_thread, reterr);
	if (status == 0)
		status = upd_pump_start(pump, upd_md5_thread, reterr);
	if (status == 0 && pump->sha256.sha256)
		status = upd_pump_start(pump, upd_sha256_thread, reterr);
	if (status == 0)
		status = upd_pump_start(pump, upd_receive_thread, reterr);
	upd_pump_leave(pump);
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
	pump->options = *options;
	/* once: a thread that starts another one bequeaths its own */
	pump->niceness = getpriority(PRIO_PROCESS, 0) + options->nice;
	status = open_parts(pump, options, reterr);
	pump->phase = pump->checkpoint ? UPD_PHASE_RESUMING : UPD_PHASE_CONNECTING;
	if (status == 0)
		status = start(pump, reterr);
	if (status != 0) {
		upd_pump_close(pump);
		return status;
	}
	*ret = pump;
	return 0;
}

/* --- step, close ------------------------------------------------------------------------------ */

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

static void tell(const struct upd_pump *pump, struct upd_progress *ret)
{
	const struct upd_sink *sink = pump->sink;

	*ret = (struct upd_progress){
		.phase = pump->phase,
		.format = pump->format,
		.size = pump->source->size,
		.received = pump->received,
		.hashed = pump->hashed,
		.retries = pump->source->retries,
	};
	ret->resumed = ret->phase > UPD_PHASE_RESUMING ? pump->resumed : pump->reread;
	if (!sink)
		return;
	ret->written = sink->written;
	ret->verified = sink->verified;
	ret->identical = sink->identical;
	ret->zeroed = sink->zeroed;
	ret->bad_blocks = sink->bad_blocks;
	/* whole sectors are verified, and a whole head, which is looked at after the rest */
	if (ret->phase >= UPD_PHASE_VERIFYING && ret->verified > ret->written)
		ret->verified = ret->written;
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
	tell(pump, ret);
	return status;
}

void upd_pump_hexdigests(const struct upd_pump *pump, struct upd_hexdigests *ret)
{
	const char *image = pump->format == UPD_FORMAT_RAW ? pump->md5.hex : pump->image_md5.hex;

	memcpy(ret->md5, pump->md5.hex, sizeof(ret->md5));
	memcpy(ret->sha256, pump->sha256.hex, sizeof(ret->sha256));
	memcpy(ret->image_md5, image, sizeof(ret->image_md5));
}

static void stop(struct upd_pump *pump)
{
	const struct upd_error nobody_asks = { .status = UPD_TRANSPORT };

	upd_pump_fail(pump, &nobody_asks);
	for (unsigned i = 0;; i++) {
		unsigned count;

		pthread_mutex_lock(&pump->lock);
		count = pump->thread_count; /* the storing thread may have started others */
		pthread_mutex_unlock(&pump->lock);
		if (i >= count)
			break;
		pthread_join(pump->threads[i], NULL);
	}
}

/* Whether what was written so far is of no use to a later try. */
static int is_futile(int status)
{
	return status == UPD_AGAIN || status == UPD_DIGEST || status == UPD_LENGTH ||
	       status == UPD_SPACE;
}

/* Until it is decided where to begin, what an earlier try has left stands. */
static int is_resumable(const struct upd_pump *pump)
{
	return !is_futile(pump->failure.status) && (pump->is_head_kept || !pump->is_begun);
}

enum upd_phase upd_pump_close(struct upd_pump *pump)
{
	enum upd_phase phase;

	if (!pump)
		return UPD_PHASE_CONNECTING;
	stop(pump);
	phase = (enum upd_phase)pump->phase;
	/* not before the caller has written down that the image is there, or a kill in between
	 * would cost all of it */
	if (pump->phase == UPD_PHASE_DONE || is_futile(pump->failure.status))
		upd_forget(pump);
	if (pump->source)
		pump->source->ops->close(pump->source);
	if (pump->decoder)
		pump->decoder->ops->close(pump->decoder);
	if (pump->sink) {
		pump->sink->is_resumable = is_resumable(pump);
		pump->sink->ops->close(pump->sink);
	}
	upd_checkpoint_close(pump->checkpoint);
	EVP_MD_CTX_free(pump->sha256.sha256);
	upd_ring_close(&pump->firmware);
	upd_ring_close(&pump->image);
	if (pump->eventfd >= 0)
		close(pump->eventfd);
	pthread_cond_destroy(&pump->ended);
	pthread_mutex_destroy(&pump->lock);
	free(pump);
	return phase;
}
