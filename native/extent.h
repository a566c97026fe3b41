/* SPDX-License-Identifier: MIT */
/* Whole reads, writes and flushes of a medium that can be written anywhere. */
#ifndef UPD_EXTENT_H
#define UPD_EXTENT_H

#include <stddef.h>

#include "error.h"

int upd_extent_write(int fd, const unsigned char *buf, size_t len, uint64_t offset,
		     struct upd_error *reterr);
int upd_extent_read(int fd, unsigned char *buf, size_t len, uint64_t offset,
		    struct upd_error *reterr);

/* is_cached: also forget what the page cache holds, so that the next read is of the medium. offset
 * is for the message. */
int upd_extent_flush(int fd, int is_cached, uint64_t offset, struct upd_error *reterr);

int upd_extent_is_zero(const unsigned char *buf, size_t len);

/* Say that the medium at offset does not hold what was written: UPD_READ_BACK. */
int upd_extent_differs(struct upd_error *reterr, uint64_t offset);

#endif
