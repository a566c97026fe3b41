/* SPDX-License-Identifier: MIT */
/* Lets one allocation fail, for libraries too: linked in AddressSanitizer's place, as there can be
 * only one malloc. */
#include "starve.h"

#include <errno.h>

/* the C library's own */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);

static int fails(void)
{
	if (!is_counting || starve_after < 0 || starve_after-- > 0)
		return 0;
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
	return fails() ? NULL : __libc_realloc(block, size);
}

int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void *, size_t),
					      void (*free_hook)(const volatile void *))
{
	(void)malloc_hook;
	(void)free_hook;
	return 0;
}

size_t __sanitizer_get_allocated_size(const volatile void *block)
{
	(void)block;
	return 0;
}
