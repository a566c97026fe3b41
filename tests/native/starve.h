/* SPDX-License-Identifier: MIT */
/* What unpack.c knows of every allocation while a decoder works, those of libraries included:
 * AddressSanitizer tells of each, or starve.c lets one fail. */
#ifndef STARVE_H
#define STARVE_H

#include <stddef.h>

/* AddressSanitizer's; gcc ships no header for them. */
int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void *, size_t),
					      void (*free_hook)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *block);

extern _Thread_local int is_counting; /* a decoder works */
extern long starve_after; /* how many allocations of it succeed before one fails; negative: all */

#endif
