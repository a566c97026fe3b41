/* SPDX-License-Identifier: MIT */
/* See prover.h. A failure is kept and told to the caller at its next call. */
#include "prover.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "extent.h"
#include "ring.h"

static int is_stopped(struct upd_prover *prover)
{
	int is_stopped;

	pthread_mutex_lock(&prover->lock);
	is_stopped = prover->is_stopped;
	pthread_mutex_unlock(&prover->lock);
	return is_stopped;
}

/* Compare one range with what the medium holds. */
static int prove_range(struct upd_direct *direct, const struct upd_range *range,
		       struct upd_error *error)
{
	unsigned char tag[UPD_TAG_SIZE];
	unsigned char *held = direct->proof;
	int is_same;
	int status = upd_extent_read(direct->fd, held, range->len, range->offset, error);

	if (status != 0)
		return status;
	if (range->kind == UPD_RANGE_ZERO) {
		is_same = upd_extent_is_zero(held, range->len);
	} else {
		if (upd_tally_tag(&direct->prover_tally, held, range->len, tag) != 0)
			return upd_fail(error, UPD_RESOURCES, "libcrypto failed");
		is_same = memcmp(tag, range->tag, sizeof(tag)) == 0;
	}
	return is_same ? 0 : upd_extent_differs(error, range->offset);
}

static int prove(struct upd_direct *direct, const struct upd_group *group, struct upd_error *error)
{
	int status = upd_extent_flush(direct->fd, direct->is_cached, group->end, error);

	for (unsigned i = 0; status == 0 && direct->reads_back && i < group->count; i++) {
		const struct upd_range *range = &group->ranges[i];

		if (is_stopped(&direct->prover))
			return UPD_MORE;
		/* what was not written because it was there has been read already */
		if (range->kind != UPD_RANGE_PROVEN)
			status = prove_range(direct, range, error);
		if (status == 0)
			direct->base.verified += range->len;
	}
	if (status == 0)
		direct->base.settled = group->end;
	return status;
}

static void *prove_thread(void *context)
{
	struct upd_direct *direct = context;
	struct upd_prover *prover = &direct->prover;
	struct upd_error error = { 0 };

	prctl(PR_SET_NAME, "upd-prove");
	pthread_mutex_lock(&prover->lock);
	while (!prover->is_stopped) {
		if (!prover->is_due) {
			pthread_cond_wait(&prover->moved, &prover->lock);
			continue;
		}
		pthread_mutex_unlock(&prover->lock);
		prove(direct, &prover->group, &error); /* nobody touches it while it is due */
		pthread_mutex_lock(&prover->lock);
		if (error.status < 0) {
			prover->failure = error;
			prover->is_stopped = 1;
		}
		prover->is_due = 0;
		pthread_cond_broadcast(&prover->moved);
	}
	pthread_mutex_unlock(&prover->lock);
	return NULL;
}

int upd_prover_wait(struct upd_direct *direct, struct upd_error *reterr)
{
	struct upd_prover *prover = &direct->prover;
	int status;

	pthread_mutex_lock(&prover->lock);
	while (prover->is_due && !prover->is_stopped)
		pthread_cond_wait(&prover->moved, &prover->lock);
	status = prover->failure.status;
	if (status != 0)
		*reterr = prover->failure;
	pthread_mutex_unlock(&prover->lock);
	return status;
}

int upd_prover_give(struct upd_direct *direct, struct upd_error *reterr)
{
	struct upd_prover *prover = &direct->prover;
	struct upd_group proven;
	int status = upd_prover_wait(direct, reterr);

	if (status != 0)
		return status;
	pthread_mutex_lock(&prover->lock);
	proven = prover->group;
	prover->group = direct->group;
	prover->is_due = 1;
	pthread_cond_broadcast(&prover->moved);
	pthread_mutex_unlock(&prover->lock);
	direct->group = (struct upd_group){ .ranges = proven.ranges };
	return 0;
}

int upd_prover_open(struct upd_direct *direct, size_t scratch_size)
{
	struct upd_prover *prover = &direct->prover;

	pthread_mutex_init(&prover->lock, NULL);
	pthread_cond_init(&prover->moved, NULL);
	prover->group.ranges = calloc(direct->range_limit, sizeof(struct upd_range));
	if (!prover->group.ranges)
		return -1;
	if (!direct->reads_back)
		return 0;
	direct->proof = aligned_alloc(UPD_ALIGNMENT, scratch_size);
	return direct->proof && upd_tally_open_as(&direct->prover_tally, &direct->tally) == 0 ? 0
											      : -1;
}

/* With signals blocked: they belong to the caller's threads. */
int upd_prover_start(struct upd_direct *direct, struct upd_error *reterr)
{
	sigset_t all, before;
	int status;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	status = pthread_create(&direct->prover.thread, NULL, prove_thread, direct);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	direct->prover.is_running = status == 0;
	return status ? upd_fail(reterr, UPD_RESOURCES, "no thread: error %d", status) : 0;
}

void upd_prover_close(struct upd_direct *direct)
{
	struct upd_prover *prover = &direct->prover;

	if (prover->is_running) {
		pthread_mutex_lock(&prover->lock);
		prover->is_stopped = 1;
		pthread_cond_broadcast(&prover->moved);
		pthread_mutex_unlock(&prover->lock);
		pthread_join(prover->thread, NULL);
	}
	pthread_cond_destroy(&prover->moved);
	pthread_mutex_destroy(&prover->lock);
	upd_tally_close(&direct->prover_tally);
	free(prover->group.ranges);
	free(direct->proof);
}
