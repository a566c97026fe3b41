/* SPDX-License-Identifier: MIT */
#include "number.h"

#include <errno.h>
#include <sys/sysmacros.h>

int upd_number_check(uint64_t found, uint64_t wanted, struct upd_error *reterr)
{
	if (wanted == 0 || wanted == found)
		return 0;
	reterr->os_errno = ENODEV;
	return upd_fail(reterr, UPD_OPEN,
			"another device has this name now: its number is %u:%u, expected was %u:%u",
			major(found), minor(found), major(wanted), minor(wanted));
}
