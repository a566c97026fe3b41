/* SPDX-License-Identifier: MIT */
#include "tally.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>

static int allocate(struct upd_tally *tally)
{
	*tally = (struct upd_tally){ 0 };
	tally->mac = EVP_MAC_fetch(NULL, "POLY1305", NULL);
	tally->context = tally->mac ? EVP_MAC_CTX_new(tally->mac) : NULL;
	return tally->context ? 0 : -1;
}

int upd_tally_open(struct upd_tally *tally)
{
	if (allocate(tally) != 0 || RAND_bytes(tally->key, (int)sizeof(tally->key)) != 1) {
		upd_tally_close(tally);
		return -1;
	}
	return 0;
}

int upd_tally_open_as(struct upd_tally *tally, const struct upd_tally *other)
{
	if (allocate(tally) != 0) {
		upd_tally_close(tally);
		return -1;
	}
	memcpy(tally->key, other->key, sizeof(tally->key));
	return 0;
}

int upd_tally_tag(struct upd_tally *tally, const unsigned char *buf, size_t len,
		  unsigned char ret[UPD_TAG_SIZE])
{
	size_t size = 0;

	if (EVP_MAC_init(tally->context, tally->key, sizeof(tally->key), NULL) != 1 ||
	    EVP_MAC_update(tally->context, buf, len) != 1 ||
	    EVP_MAC_final(tally->context, ret, &size, UPD_TAG_SIZE) != 1)
		return -1;
	return size == UPD_TAG_SIZE ? 0 : -1;
}

void upd_tally_close(struct upd_tally *tally)
{
	EVP_MAC_CTX_free(tally->context);
	EVP_MAC_free(tally->mac);
	OPENSSL_cleanse(tally->key, sizeof(tally->key));
	tally->context = NULL;
	tally->mac = NULL;
}
