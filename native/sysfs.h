/* SPDX-License-Identifier: MIT */
/* Numbers that the kernel shows as files. */
#ifndef UPD_SYSFS_H
#define UPD_SYSFS_H

#include <stdint.h>

/* Read the decimal number in the file that the format names; 0, or -1 if there is none. */
__attribute__((format(printf, 2, 3))) int upd_sysfs_read(uint64_t *ret, const char *format, ...);

#endif
