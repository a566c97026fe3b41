/* SPDX-License-Identifier: MIT */
/*
 * Short digests of the ranges that entered the sink and were not read back yet.
 *
 * Read-back must notice a medium that lies; it need not keep up with MD5. Poly1305 under a key
 * drawn for each pump misses a difference with a chance of about 2^-100 whatever the medium does,
 * and costs a fraction of MD5 on every machine, also on ARM without crypto instructions.
 */
#ifndef UPD_TALLY_H
#define UPD_TALLY_H

#include <openssl/evp.h>
#include <stddef.h>

#define UPD_TAG_SIZE 16U

struct upd_tally {
	EVP_MAC *mac;
	EVP_MAC_CTX *context;
	unsigned char key[32];
};

int upd_tally_open(struct upd_tally *tally);

/* The same with another's key: for a thread of its own. */
int upd_tally_open_as(struct upd_tally *tally, const struct upd_tally *other);

/* Compute the tag of buf; 0, or -1 if libcrypto fails. */
int upd_tally_tag(struct upd_tally *tally, const unsigned char *buf, size_t len,
		  unsigned char ret[UPD_TAG_SIZE]);

void upd_tally_close(struct upd_tally *tally);

#endif
