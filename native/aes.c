/* SPDX-License-Identifier: MIT */
/* AES-128-CBC backwards, as the cloud hides a device's secret: libcrypto does the work. */
#include <limits.h>

#include <openssl/evp.h>

#include "updater_native.h"

#define BLOCK 16

int upd_aes128_cbc_decrypt(const unsigned char *key, const unsigned char *iv,
			   const unsigned char *from, size_t len, unsigned char *ret)
{
	EVP_CIPHER_CTX *context;
	int decrypted = 0, rest = 0, is_done;

	if (len == 0 || len % BLOCK != 0 || len > INT_MAX - BLOCK)
		return UPD_OPTIONS;
	context = EVP_CIPHER_CTX_new();
	if (context == NULL)
		return UPD_RESOURCES;
	is_done = EVP_DecryptInit_ex(context, EVP_aes_128_cbc(), NULL, key, iv) == 1 &&
		  EVP_CIPHER_CTX_set_padding(context, 0) == 1 &&
		  EVP_DecryptUpdate(context, ret, &decrypted, from, (int)len) == 1 &&
		  EVP_DecryptFinal_ex(context, ret + decrypted, &rest) == 1;
	EVP_CIPHER_CTX_free(context);
	return is_done ? UPD_DONE : UPD_RESOURCES;
}
