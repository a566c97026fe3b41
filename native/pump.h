/* SPDX-License-Identifier: MIT */
/* What the files of the pump share: pump.c is its life, stages.c what happens to each buffer before
 * it is stored, store.c the order of writes, resume.c how it goes on after a cut. */
#ifndef UPD_PUMP_H
#define UPD_PUMP_H

#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>

#include "checkpoint.h"
#include "decoder.h"
#include "md5.h"
#include "ring.h"
#include "sink.h"
#include "source.h"

#define UPD_THREADS 6U
#define UPD_MARKS 32U

/* One running digest; judged when the last byte is in. */
struct upd_digest {
	const char *name;
	struct upd_md5 md5; /* unless there is a context */
	EVP_MD_CTX *sha256; /* NULL: this is MD5 */
	char wanted[65];    /* empty: not compared */
	char hex[65];
};

/* MD5 of the firmware up to an offset at which the sink could take it up again. */
struct upd_mark {
	uint64_t offset;
	unsigned char md5[UPD_RECORD_MD5_SIZE];
};

struct upd_pump {
	struct upd_options options; /* its strings are the caller's, and gone after open */
	struct upd_ring firmware;   /* receive, MD5, [SHA-256], store */
	struct upd_ring image;	    /* decode, MD5, store; only if the firmware is compressed */
	struct upd_source *source;
	struct upd_sink *sink; /* NULL: digests only */
	struct upd_decoder *decoder;
	struct upd_checkpoint *checkpoint; /* NULL: none is kept */
	struct upd_digest md5;
	struct upd_digest sha256; /* its context is NULL if it is not asked for */
	struct upd_digest image_md5;
	uint64_t resumed; /* where the first buffer begins */
	uint64_t marked;  /* offset of the last mark */
	int is_head_kept;
	int niceness; /* of each thread */
	int eventfd;
	pthread_t threads[UPD_THREADS];
	unsigned thread_count;

	atomic_int is_cancelled;
	atomic_int phase;
	atomic_int format;
	_Atomic uint64_t reread; /* of what an earlier try left */
	_Atomic uint64_t received;
	_Atomic uint64_t hashed;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t ended;
	unsigned running;
	int is_begun; /* the receiver may read: it is decided where it begins */
	struct upd_error failure;
	struct upd_mark marks[UPD_MARKS];
	unsigned mark_count;
};

/* pump.c */

/* Keep the first failure and stop everybody. */
void upd_pump_fail(struct upd_pump *pump, const struct upd_error *error);

/* Start one more thread of the pump; it ends with upd_pump_leave. 0 or a negative status. */
int upd_pump_start(struct upd_pump *pump, void *(*body)(void *), struct upd_error *reterr);

/* What each thread does first and last. */
void upd_pump_enter(const struct upd_pump *pump, const char *name);
void *upd_pump_leave(struct upd_pump *pump);

/* stages.c */

/* 0 or -1. wanted: in hexadecimal, or NULL. */
int upd_digest_open_sha256(struct upd_digest *digest, const char *wanted);
void upd_digest_open_md5(struct upd_digest *digest, const char *wanted);
int upd_digest_update(struct upd_digest *digest, const unsigned char *buf, size_t len,
		      struct upd_error *reterr);

void *upd_receive_thread(void *pump);
void *upd_md5_thread(void *pump);
void *upd_sha256_thread(void *pump);
void *upd_image_md5_thread(void *pump);

/* store.c */

void *upd_store_thread(void *pump);

/* resume.c */

/* Find out where to begin, and bring digests, sink and source there. */
int upd_resume(struct upd_pump *pump, struct upd_error *reterr);
/* Called by the MD5 stage: remember the digest of the first `offset` bytes. */
void upd_mark(struct upd_pump *pump, uint64_t offset);
/* Called by the storing stage: write down how far the medium is proven. */
void upd_keep(struct upd_pump *pump);
/* The image is complete, or of no use. */
void upd_forget(struct upd_pump *pump);

#endif
