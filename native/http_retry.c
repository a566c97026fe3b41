/* SPDX-License-Identifier: MIT */
/*
 * Whether there is another attempt, and when.
 *
 * Pauses grow and are random, so that a fleet does not come back all at once. A server that asks
 * for time gets it, with the same random pause behind it; one that asks for more than there is time
 * for ends it at once. Attempts in a row that bring nothing are counted and timed; a trickle counts
 * as nothing, or a server could hold the device with it for ever.
 */
#define _GNU_SOURCE /* getrandom */
#include <sys/random.h>

#include "http_source.h"

#define PROGRESS_BYTES (64U << 10)
#define MAX_PAUSE_MS ((uint64_t)24 * 3600 * 1000)

/* Exponential, with full jitter. */
static uint64_t backoff_ms(const struct http_source *http)
{
	uint64_t longest = http->backoff_ms, random = 0;

	for (unsigned i = 1; i < http->failures && longest < http->backoff_limit_ms; i++)
		longest *= 2;
	if (longest > http->backoff_limit_ms)
		longest = http->backoff_limit_ms;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		random = (uint64_t)upd_http_now_ms(); /* it spreads load and guards nothing */
	return random % (longest + 1);
}

/* Count a failure; ret_ms is how long others may be waited for, negative status: no more. */
static int count_failure(struct http_source *http, uint64_t *ret_ms, const struct upd_error *error)
{
	const int64_t now_ms = upd_http_now_ms();
	const int has_brought = http->received - http->failures_at >= PROGRESS_BYTES;
	uint64_t passed_ms;

	if (has_brought)
		http->failures = 0;
	if (http->failures++ == 0)
		http->failing_since_ms = has_brought ? now_ms : http->asked_ms;
	http->failures_at = http->received;
	passed_ms = (uint64_t)(now_ms - http->failing_since_ms);
	*ret_ms = MAX_PAUSE_MS;
	if (http->failures >= http->attempts ||
	    (http->retry_time_ms && passed_ms >= http->retry_time_ms))
		return error->status;
	if (http->retry_time_ms && http->retry_time_ms - passed_ms < *ret_ms)
		*ret_ms = http->retry_time_ms - passed_ms;
	return 0;
}

int upd_http_next_pause(struct http_source *http, uint64_t *ret_ms, struct upd_error *error)
{
	uint64_t left_ms;
	int status = count_failure(http, &left_ms, error);

	if (status != 0)
		return status;
	if (http->retry_after_ms > left_ms)
		return upd_fail(error, UPD_TRANSPORT,
				"the server answered with status %ld and asks to wait %llu s: "
				"%llu s are left",
				error->http_status, (unsigned long long)http->retry_after_ms / 1000,
				(unsigned long long)left_ms / 1000);
	*ret_ms = http->retry_after_ms + backoff_ms(http);
	if (*ret_ms > left_ms)
		*ret_ms = left_ms;
	return 0;
}
