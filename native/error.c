/* SPDX-License-Identifier: MIT */
#include "error.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int upd_fail(struct upd_error *reterr, int status, const char *format, ...)
{
	va_list args;

	reterr->status = status;
	va_start(args, format);
	vsnprintf(reterr->message, sizeof(reterr->message), format, args);
	va_end(args);
	return status;
}

int upd_fail_errno(struct upd_error *reterr, int status, int os_errno, uint64_t offset,
		   const char *what)
{
	char text[80] = "unknown error";

	/* the XSI form; the GNU one is chosen by _GNU_SOURCE, which this file does not define */
	if (strerror_r(os_errno, text, sizeof(text)) != 0)
		snprintf(text, sizeof(text), "error %d", os_errno);
	reterr->os_errno = os_errno;
	reterr->offset = offset;
	if (status == UPD_OPEN) /* it never came to a byte */
		return upd_fail(reterr, status, "%s: %s", what, text);
	return upd_fail(reterr, status, "%s at byte %" PRIu64 ": %s", what, offset, text);
}
