/* SPDX-License-Identifier: MIT */
/* The proving half of direct.h: a thread that flushes the medium and reads groups back. */
#ifndef UPD_PROVER_H
#define UPD_PROVER_H

#include "direct.h"

/* scratch_size: the longest range, or the head. 0 or -1. */
int upd_prover_open(struct upd_direct *direct, size_t scratch_size);
int upd_prover_start(struct upd_direct *direct, struct upd_error *reterr);

/* Wait until the group before is proven, then hand over direct->group and begin a new one. */
int upd_prover_give(struct upd_direct *direct, struct upd_error *reterr);

/* Wait until everything that was given is proven. */
int upd_prover_wait(struct upd_direct *direct, struct upd_error *reterr);

void upd_prover_close(struct upd_direct *direct);

#endif
