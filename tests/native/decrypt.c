/* SPDX-License-Identifier: MIT */
/*
 * Drives the cipher, for the tests:
 *
 *     decrypt [key=HEX] [iv=HEX] [from=HEX] [fails=FUNCTION]
 *
 * Every buffer is as long as it must be and no longer, so that AddressSanitizer sees each byte too
 * many. FUNCTION is libcrypto's, the next call of which fails.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "updater_native.h"

static const char *fails = "";

static int is_failing(const char *function)
{
	return strcmp(fails, function) == 0;
}

EVP_CIPHER_CTX *__real_EVP_CIPHER_CTX_new(void);
EVP_CIPHER_CTX *__wrap_EVP_CIPHER_CTX_new(void);
EVP_CIPHER_CTX *__wrap_EVP_CIPHER_CTX_new(void)
{
	return is_failing("new") ? NULL : __real_EVP_CIPHER_CTX_new();
}

int __real_EVP_DecryptInit_ex(EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, ENGINE *engine,
			      const unsigned char *key, const unsigned char *iv);
int __wrap_EVP_DecryptInit_ex(EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, ENGINE *engine,
			      const unsigned char *key, const unsigned char *iv);
int __wrap_EVP_DecryptInit_ex(EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, ENGINE *engine,
			      const unsigned char *key, const unsigned char *iv)
{
	return is_failing("init") ? 0 : __real_EVP_DecryptInit_ex(context, cipher, engine, key, iv);
}

int __real_EVP_DecryptUpdate(EVP_CIPHER_CTX *context, unsigned char *ret, int *retlen,
			     const unsigned char *from, int len);
int __wrap_EVP_DecryptUpdate(EVP_CIPHER_CTX *context, unsigned char *ret, int *retlen,
			     const unsigned char *from, int len);
int __wrap_EVP_DecryptUpdate(EVP_CIPHER_CTX *context, unsigned char *ret, int *retlen,
			     const unsigned char *from, int len)
{
	return is_failing("update") ? 0 : __real_EVP_DecryptUpdate(context, ret, retlen, from, len);
}

static unsigned char *unhex(const char *text, size_t *retlen)
{
	const size_t len = strlen(text) / 2;
	unsigned char *bytes = malloc(len);
	unsigned byte;

	for (size_t i = 0; i < len; i++)
		bytes[i] = (unsigned char)(sscanf(text + 2 * i, "%2x", &byte) == 1 ? byte : 0);
	*retlen = len;
	return bytes;
}

int main(int argc, char **argv)
{
	unsigned char *given[3] = { NULL }, *ret;
	static const char *const names[3] = { "key=", "iv=", "from=" };
	size_t len = 0;
	int status;

	for (int i = 1; i < argc; i++) {
		for (unsigned n = 0; n < 3; n++)
			if (strncmp(argv[i], names[n], strlen(names[n])) == 0)
				given[n] = unhex(argv[i] + strlen(names[n]), &len);
		if (strncmp(argv[i], "fails=", 6) == 0)
			fails = argv[i] + 6;
	}
	ret = malloc(len); /* of the last one, which is `from` */
	status = upd_aes128_cbc_decrypt(given[0], given[1], given[2], len, ret);
	printf("status %d\ntext ", status);
	for (size_t i = 0; status == UPD_DONE && i < len; i++)
		printf("%02x", ret[i]);
	printf("\n");
	for (unsigned n = 0; n < 3; n++)
		free(given[n]);
	free(ret);
	return 0;
}
