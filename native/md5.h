/* SPDX-License-Identifier: MIT */
/*
 * MD5 (RFC 1321), scheduled for one processor's latency: stages hash with it what they receive.
 *
 * The state is plain data: the digest of a prefix is a copy of the struct, finished.
 */
#ifndef UPD_MD5_H
#define UPD_MD5_H

#include <stddef.h>
#include <stdint.h>

#define UPD_MD5_SIZE 16U
#define UPD_MD5_BLOCK 64U

struct upd_md5 {
	uint32_t state[4];
	uint64_t len; /* of all bytes so far */
	unsigned char tail[UPD_MD5_BLOCK];
};

void upd_md5_init(struct upd_md5 *md5);
void upd_md5_update(struct upd_md5 *md5, const void *buf, size_t len);
void upd_md5_final(struct upd_md5 *md5, unsigned char *ret);

#endif
