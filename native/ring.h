/* SPDX-License-Identifier: MIT */
/*
 * A bounded ring of aligned buffers that pass through stages, each a thread of its own.
 *
 * Each buffer goes round: filled by the first stage, passed on from stage to stage, free again
 * behind the last. A stage waits for the stage before it; the first waits for the last. `stop`
 * wakes everybody, and every wait then returns NULL: threads end by themselves and nobody is
 * cancelled.
 */
#ifndef UPD_RING_H
#define UPD_RING_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define UPD_ALIGNMENT 4096U /* enough for O_DIRECT on every sector size in use */
#define UPD_RING_STAGES 4U

struct upd_buffer {
	unsigned char *bytes;
	size_t used;
	uint64_t offset; /* of the first byte in the stream */
	int is_last;
};

struct upd_ring {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	struct upd_buffer *buffers;
	unsigned count;
	unsigned stages;
	uint64_t passed[UPD_RING_STAGES]; /* buffers that each stage is done with */
	int is_stopped;
	unsigned char *memory;
	size_t buffer_size;
};

/* 0 or -ENOMEM; at most UPD_RING_STAGES stages. */
int upd_ring_open(struct upd_ring *ring, unsigned count, size_t buffer_size, unsigned stages);

/* Wait for the stage's next buffer; NULL once the ring is stopped. The same one until it is passed
 * on. */
struct upd_buffer *upd_ring_take(struct upd_ring *ring, unsigned stage);

/* Hand the stage's buffer to the next stage. */
void upd_ring_pass(struct upd_ring *ring, unsigned stage);

/* Also on a ring that was never opened or is closed. */
void upd_ring_stop(struct upd_ring *ring);
void upd_ring_close(struct upd_ring *ring);

#endif
