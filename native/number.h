/* SPDX-License-Identifier: MIT */
/* Whether a device is the one that was looked at before it was opened: see upd_options.number. */
#ifndef UPD_NUMBER_H
#define UPD_NUMBER_H

#include "error.h"

/* 0 or UPD_OPEN; wanted is as in the options. */
int upd_number_check(uint64_t found, uint64_t wanted, struct upd_error *reterr);

#endif
