/* SPDX-License-Identifier: MIT */
/*
 * What a server's headers say, fed with anything: the first byte chooses the header, the second the
 * room for what is kept of it, the rest is its value. What is accepted makes sense, and so does its
 * own text when it is read again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_answer.h"

#define MOST_ROOM 256U
#define NOW_S 1700000000

static void demand(int is_kept)
{
	if (!is_kept)
		abort();
}

static void content_range(const char *text, size_t len)
{
	struct upd_content_range range, again;
	char written[100];

	if (upd_parse_content_range(text, len, &range) != 0)
		return;
	demand(range.total <= INT64_MAX);
	if (range.is_unsatisfied) {
		demand(range.total > 0);
		snprintf(written, sizeof(written), "bytes */%" PRIu64, range.total);
	} else if (range.total > 0) {
		demand(range.first <= range.last && range.last < range.total);
		snprintf(written, sizeof(written), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
			 range.first, range.last, range.total);
	} else {
		demand(range.first <= range.last && range.last <= INT64_MAX);
		snprintf(written, sizeof(written), "bytes %" PRIu64 "-%" PRIu64 "/*", range.first,
			 range.last);
	}
	demand(upd_parse_content_range(written, strlen(written), &again) == 0);
	demand(again.is_unsatisfied == range.is_unsatisfied && again.first == range.first);
	demand(again.last == range.last && again.total == range.total);
}

static void retry_after(const char *text, size_t len)
{
	uint64_t wait_ms = 0, again_ms = 0;
	char written[40];

	if (upd_parse_retry_after(text, len, NOW_S, &wait_ms) != 0)
		return;
	demand(wait_ms % 1000 == 0 && wait_ms <= INT64_MAX);
	snprintf(written, sizeof(written), "%" PRIu64, wait_ms / 1000);
	demand(upd_parse_retry_after(written, strlen(written), NOW_S, &again_ms) == 0);
	demand(again_ms == wait_ms);
}

/* What goes back to the server as it is must not bring a header of its own. */
static void validator(int (*parse)(const char *, size_t, char *, size_t), const char *text,
		      size_t len, size_t room)
{
	char *kept = malloc(room); /* exact, so that a byte too far is seen */
	char again[MOST_ROOM];

	if (parse(text, len, kept, room) == 0) {
		const size_t kept_len = strnlen(kept, room);

		demand(kept_len < room && kept_len > 0);
		for (size_t i = 0; i < kept_len; i++)
			demand(kept[i] >= ' ' && kept[i] <= '~');
		demand(parse(kept, kept_len, again, sizeof(again)) == 0);
		demand(strcmp(kept, again) == 0);
	}
	free(kept);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	size_t len, room;
	char *text;

	if (size < 2)
		return -1;
	room = data[1] + 1U;
	len = size - 2;
	text = malloc(len); /* an exact copy, which no zero byte ends */
	memcpy(text, data + 2, len);
	switch (data[0] % 4) {
	case 0:
		content_range(text, len);
		break;
	case 1:
		retry_after(text, len);
		break;
	case 2:
		validator(upd_parse_etag, text, len, room);
		break;
	default:
		validator(upd_parse_last_modified, text, len, room);
		break;
	}
	free(text);
	return 0;
}
