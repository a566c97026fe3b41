/* SPDX-License-Identifier: MIT */
/*
 * How slow a server may be, and how fast we let it.
 *
 * A server cannot hold the device for ever: the time spent waiting for it is cut into windows, each
 * of which ends when enough bytes have come and fails when they have not in stall_timeout_ms. Name
 * look-up, redirects and headers belong to the first window, the end of the object to the last.
 *
 * The bandwidth is kept here and not by libcurl, which lets some 200 KiB through at once and then
 * sleeps them off, so that the server seems to stall. Every byte is paid for with time; what is
 * left unused is lost, but for CREDIT_US.
 */
#include <time.h>

#include "http_source.h"

#define MIN_BYTES_PER_S 256U /* a modem on a bad day gives more */
#define CREDIT_US 100000

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t upd_http_now_ms(void)
{
	return now_us() / 1000;
}

int upd_http_check_pace(struct http_source *http, int64_t ms, struct upd_error *reterr)
{
	uint64_t came = http->received - http->window_start;
	uint64_t enough = (uint64_t)http->stall_timeout_ms * MIN_BYTES_PER_S / 1000 + 1;

	http->window_ms += ms;
	if (came >= enough || (came > 0 && http->window_start == http->asked)) {
		http->window_start = http->received;
		http->window_ms = 0;
	} else if (http->window_ms > http->stall_timeout_ms) {
		if (upd_http_is_refused(http))
			return upd_http_judge_answer(http, reterr);
		return upd_fail(reterr, UPD_TRANSPORT, "only %llu bytes arrived in %u ms",
				(unsigned long long)came, http->stall_timeout_ms);
	}
	return 0;
}

void upd_http_pay(struct http_source *http, size_t len)
{
	const int64_t least_us = now_us() - CREDIT_US;

	if (http->bandwidth == 0)
		return;
	if (http->free_at_us < least_us)
		http->free_at_us = least_us;
	http->free_at_us += (int64_t)((uint64_t)len * 1000000 / http->bandwidth);
}

int64_t upd_http_early_us(const struct http_source *http)
{
	const int64_t early_us = http->free_at_us - now_us();

	return http->bandwidth && early_us > 0 ? early_us : 0;
}

long upd_http_buffer_size(uint64_t bandwidth, size_t most)
{
	const uint64_t quarter = bandwidth / 4; /* of a second */

	if (bandwidth == 0 || quarter > most)
		return (long)most;
	return quarter < 1024 ? 1024 : (long)quarter; /* the least that libcurl takes */
}
