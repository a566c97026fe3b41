/* SPDX-License-Identifier: MIT */
/* What the files of the http source share: source_http.c moves bytes and tries again, http_judge.c
 * says what an answer or the end of a transfer means, http_pace.c how fast it goes, http_retry.c
 * when it is tried again. */
#ifndef UPD_HTTP_SOURCE_H
#define UPD_HTTP_SOURCE_H

#include <curl/curl.h>

#include "source.h"

struct http_source {
	struct upd_source base;
	CURL *easy;
	CURLM *multi;
	struct curl_slist *headers; /* If-Range, while it is in use */
	int allows_plaintext;	    /* once on https a transfer stays there, whatever was allowed */
	int is_secure;		    /* this one has been on https */
	int is_compared;	    /* a digest will tell whether all of it came */

	/* How long and how often. */
	unsigned stall_timeout_ms;
	uint64_t bandwidth; /* bytes/s; 0: any */
	unsigned attempts;
	unsigned backoff_ms;
	unsigned backoff_limit_ms;
	unsigned retry_time_ms;

	/* The object. */
	uint64_t received; /* bytes of it so far, also those that wait in the spill */
	int is_ended;	   /* and there are no more */
	int is_begun;	   /* the first request was made */

	/* The connection. */
	uint64_t asked;	     /* where in the object its answer is to begin */
	int is_judged;	     /* its answer is one that bytes may be taken from */
	uint64_t answer_end; /* where in the object its answer ends at the latest; 0: not known */
	int64_t asked_ms;    /* when it was begun */
	int is_hopeless;     /* another attempt would get the same */
	int has_headers;     /* all of its last answer's */
	size_t header_bytes; /* of all its answers, with interim ones, redirects and trailers */
	int is_paused;
	int is_done;
	CURLcode result;
	struct upd_error refusal; /* why we stopped it */
	uint64_t retry_after_ms;

	/* The window of the stall time-out. */
	uint64_t window_start; /* what had been received when it began */
	int64_t window_ms;     /* waited in it */

	int64_t free_at_us; /* when all bytes so far have had their share of the bandwidth */

	/* Attempts in a row that brought nothing. */
	unsigned failures;
	uint64_t failures_at; /* received then */
	int64_t failing_since_ms;

	unsigned char *want; /* where bytes go now */
	size_t room;
	unsigned char *spill; /* what came beyond the wanted bytes */
	size_t spilled;
};

/* Whether bytes may be taken from this answer; sets the object's size and validator. */
int upd_http_judge_answer(struct http_source *http, struct upd_error *reterr);

/* Whether the status alone says no: nobody needs the words that go with it. */
int upd_http_is_refused(const struct http_source *http);

/* The transfer has ended: 0 if the object has too, else why. */
int upd_http_judge_end(struct http_source *http, struct upd_error *reterr);

/* How long to wait after this failure; negative status: there is no other attempt, and why. */
int upd_http_next_pause(struct http_source *http, uint64_t *ret_ms, struct upd_error *error);

int64_t upd_http_now_ms(void);

/* Count ms of waiting for the server, and end the window or fail. */
int upd_http_check_pace(struct http_source *http, int64_t ms, struct upd_error *reterr);

/* Bytes have come; how long it is, by the bandwidth, until the next ones may. */
void upd_http_pay(struct http_source *http, size_t len);
int64_t upd_http_early_us(const struct http_source *http);

/* libcurl's buffer: no more at a time than the bandwidth gives in a moment. */
long upd_http_buffer_size(uint64_t bandwidth, size_t most);

int upd_http_has_scheme(const char *url, const char *scheme);

#endif
