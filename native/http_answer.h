/* SPDX-License-Identifier: MIT */
/* What a server's headers say, as far as going on in the middle of an object needs it. Pure: text
 * in, numbers out; the text is hostile. All return 0, or -1 if it makes no sense. */
#ifndef UPD_HTTP_ANSWER_H
#define UPD_HTTP_ANSWER_H

#include <stddef.h>
#include <stdint.h>

struct upd_content_range {
	int is_unsatisfied; /* "bytes * / total": what was asked for is not there */
	uint64_t first;
	uint64_t last;
	uint64_t total; /* of the object; 0: not told */
};

/* Content-Range (RFC 9110, 14.4). */
int upd_parse_content_range(const char *text, size_t len, struct upd_content_range *ret);

/* Retry-After (RFC 9110, 10.2.3): seconds, or a date that is now_s or later, in milliseconds. */
int upd_parse_retry_after(const char *text, size_t len, int64_t now_s, uint64_t *ret_ms);

/* A strong ETag as it is given back in If-Range; ret has room for `room` chars. */
int upd_parse_etag(const char *text, size_t len, char *ret, size_t room);

/* A Last-Modified date, likewise. */
int upd_parse_last_modified(const char *text, size_t len, char *ret, size_t room);

#endif
