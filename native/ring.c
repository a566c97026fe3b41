/* SPDX-License-Identifier: MIT */
#include "ring.h"

#include <errno.h>
#include <stdlib.h>

int upd_ring_open(struct upd_ring *ring, unsigned count, size_t buffer_size, unsigned stages)
{
	*ring = (struct upd_ring){ .count = count, .buffer_size = buffer_size, .stages = stages };
	ring->buffers = calloc(count, sizeof(*ring->buffers));
	ring->memory = aligned_alloc(UPD_ALIGNMENT, (size_t)count * buffer_size);
	if (!ring->buffers || !ring->memory)
		goto no_memory;
	if (pthread_mutex_init(&ring->lock, NULL) != 0)
		goto no_memory;
	if (pthread_cond_init(&ring->moved, NULL) != 0)
		goto no_cond;
	for (unsigned i = 0; i < count; i++)
		ring->buffers[i].bytes = ring->memory + (size_t)i * buffer_size;
	return 0;

no_cond:
	pthread_mutex_destroy(&ring->lock);
no_memory:
	free(ring->memory);
	free(ring->buffers);
	*ring = (struct upd_ring){ 0 };
	return -ENOMEM;
}

static int is_ready(const struct upd_ring *ring, unsigned stage)
{
	if (stage == 0)
		return ring->passed[0] - ring->passed[ring->stages - 1] < ring->count;
	return ring->passed[stage - 1] > ring->passed[stage];
}

struct upd_buffer *upd_ring_take(struct upd_ring *ring, unsigned stage)
{
	struct upd_buffer *buffer = NULL;

	pthread_mutex_lock(&ring->lock);
	while (!ring->is_stopped && !is_ready(ring, stage))
		pthread_cond_wait(&ring->moved, &ring->lock);
	if (!ring->is_stopped)
		buffer = &ring->buffers[ring->passed[stage] % ring->count];
	pthread_mutex_unlock(&ring->lock);
	return buffer;
}

void upd_ring_pass(struct upd_ring *ring, unsigned stage)
{
	pthread_mutex_lock(&ring->lock);
	ring->passed[stage]++;
	pthread_cond_broadcast(&ring->moved);
	pthread_mutex_unlock(&ring->lock);
}

void upd_ring_stop(struct upd_ring *ring)
{
	if (!ring->memory)
		return;
	pthread_mutex_lock(&ring->lock);
	ring->is_stopped = 1;
	pthread_cond_broadcast(&ring->moved);
	pthread_mutex_unlock(&ring->lock);
}

void upd_ring_close(struct upd_ring *ring)
{
	if (!ring->memory)
		return;
	pthread_cond_destroy(&ring->moved);
	pthread_mutex_destroy(&ring->lock);
	free(ring->memory);
	free(ring->buffers);
	*ring = (struct upd_ring){ 0 };
}
