/* SPDX-License-Identifier: MIT */
/* What fill.c asks of volume.c: to be this or that volume, to fail, to say what it holds. */
#ifndef UPD_TEST_VOLUME_H
#define UPD_TEST_VOLUME_H

#include <stdint.h>

#define VOLUME_PATH "/dev/ubi0_1"

/* One order, key and value; 0 if there is no such key. */
int volume_take(const char *key, const char *value);

/* Byte `offset` of the new image; the old one is made of others. */
unsigned char volume_image(uint64_t offset);

/* Print what the volume is now, and whether it holds the first `size` bytes of the new image. */
void volume_tell(void);

#endif
