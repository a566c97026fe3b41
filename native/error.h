/* SPDX-License-Identifier: MIT */
/* Filling in struct upd_error: the one way in which a stage says what went wrong. */
#ifndef UPD_ERROR_H
#define UPD_ERROR_H

#include <stddef.h>
#include <stdint.h>

#include "updater_native.h"

/* Set status and message; returns status so that callers can `return upd_fail(...)`. */
__attribute__((format(printf, 3, 4))) int upd_fail(struct upd_error *reterr, int status,
						   const char *format, ...);

/* The same about an errno at an offset of a device; the message gains the errno's text. */
int upd_fail_errno(struct upd_error *reterr, int status, int os_errno, uint64_t offset,
		   const char *what);

#endif
