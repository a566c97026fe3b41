/* SPDX-License-Identifier: MIT */
/*
 * A bounded ring of aligned buffers between the receiving, the hashing and the writing thread.
 *
 * Each buffer goes round: filled by the receiver, hashed, written, free again. A stage waits for
 * the stage before it; the receiver waits for the writer. `stop` wakes everybody, and every wait
 * then returns NULL: threads end by themselves and nobody is cancelled.
 */
#ifndef UPD_RING_H
#define UPD_RING_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define UPD_ALIGNMENT 4096U /* enough for O_DIRECT on every sector size in use */

enum upd_stage { UPD_FILL, UPD_HASH, UPD_WRITE, UPD_STAGES };

struct upd_buffer {
	unsigned char *bytes;
	size_t used;
	uint64_t offset; /* of the first byte in the image */
	int is_last;
};

struct upd_ring {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	struct upd_buffer *buffers;
	unsigned count;
	uint64_t passed[UPD_STAGES]; /* buffers that each stage is done with */
	int is_stopped;
	unsigned char *memory;
	size_t buffer_size;
};

int upd_ring_open(struct upd_ring *ring, unsigned count, size_t buffer_size);

/* Wait for the stage's next buffer; NULL once the ring is stopped. */
struct upd_buffer *upd_ring_take(struct upd_ring *ring, enum upd_stage stage);

/* Hand the stage's buffer to the next stage. */
void upd_ring_pass(struct upd_ring *ring, enum upd_stage stage);

void upd_ring_stop(struct upd_ring *ring);
void upd_ring_close(struct upd_ring *ring);

#endif
