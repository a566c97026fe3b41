/* SPDX-License-Identifier: MIT */
/*
 * An http(s) object as a source, by libcurl's multi interface: read() runs the transfer only while
 * bytes are wanted, so that a slow medium slows the network down and is not mistaken for a stall.
 *
 * What breaks off is made good: after a pause (http_retry.c) the rest of the object is asked for,
 * and taken only if it is the rest of the same object (http_judge.c).
 *
 * Bytes beyond the announced size are an error as soon as the first of them arrives. The URL is
 * secret and stays out of every message, and so does every word of the server's.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "http_source.h"

#define SPILL_SIZE ((size_t)256 << 10)
#define POLL_MS 100 /* bounds how long a cancel goes unnoticed */
#define MAX_NAP_US 50000L
#define MAX_HEADER_BYTES ((size_t)128 << 10)

/* --- libcurl's callbacks ---------------------------------------------------------------------- */

/* libcurl keeps every header, and by itself it would keep any number. */
static size_t take_header(char *bytes, size_t one, size_t len, void *context)
{
	struct http_source *http = context;

	(void)one;
	if (len > 0 && (bytes[0] == '\r' || bytes[0] == '\n'))
		http->has_headers = 1; /* and if trailers follow, it still has */
	else if (len >= 5 && memcmp(bytes, "HTTP/", 5) == 0)
		http->has_headers = 0;
	if (len > MAX_HEADER_BYTES - http->header_bytes) {
		upd_fail(&http->refusal, UPD_TRANSPORT, "the server sends headers without end");
		return 0;
	}
	http->header_bytes += len;
	return len;
}

/* Fill what is wanted, spill the rest, pause when the spill is full. */
static size_t take(char *bytes, size_t one, size_t len, void *context)
{
	struct http_source *http = context;
	size_t now;

	(void)one;
	if (!http->is_judged && upd_http_judge_answer(http, &http->refusal) != 0)
		return 0;
	if (http->is_ended)
		return len; /* the words that go with status 416 */
	if (http->spilled > 0 || http->room == 0 || upd_http_early_us(http) > 0) {
		http->is_paused = 1;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (http->base.size && len > http->base.size - http->received) {
		upd_fail(&http->refusal, UPD_LENGTH,
			 "the object is longer than the %llu bytes announced",
			 (unsigned long long)http->base.size);
		return 0;
	}
	if (http->answer_end && len > http->answer_end - http->received) {
		upd_fail(&http->refusal, UPD_AGAIN, "the server sends more than the part it told");
		return 0;
	}
	now = len < http->room ? len : http->room;
	if (len - now > SPILL_SIZE)
		return 0; /* libcurl's buffer is smaller; never reached */
	memcpy(http->want, bytes, now);
	memcpy(http->spill, bytes + now, len - now);
	http->want += now;
	http->room -= now;
	http->spilled = len - now;
	http->base.pieces += len > 0 && http->received == http->asked;
	http->received += len;
	upd_http_pay(http, len);
	return len;
}

/* Once a request has gone by https, none for the same object goes in the open. */
static int before_request(void *context, char *peer, char *own, int peer_port, int own_port)
{
	struct http_source *http = context;
	const char *scheme = NULL;

	(void)peer;
	(void)own;
	(void)peer_port;
	(void)own_port;
	curl_easy_getinfo(http->easy, CURLINFO_SCHEME, &scheme);
	if (!scheme || strcasecmp(scheme, "https") == 0)
		http->is_secure = 1;
	else if (http->is_secure)
		upd_fail(&http->refusal, UPD_SCHEME, "a redirect leads from https to http");
	return http->refusal.status ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

/* --- one connection --------------------------------------------------------------------------- */

/* Ask for the object from http->received on. */
static int ask(struct http_source *http, struct upd_error *reterr)
{
	char range[32];
	char condition[UPD_VALIDATOR_SIZE + 16];
	struct curl_slist *headers = NULL;

	snprintf(range, sizeof(range), "%llu-", (unsigned long long)http->received);
	if (http->received > 0 && http->base.validator[0]) {
		snprintf(condition, sizeof(condition), "If-Range: %s", http->base.validator);
		headers = curl_slist_append(NULL, condition);
		if (!headers)
			return upd_fail(reterr, UPD_RESOURCES, "no memory");
	}
	http->asked = http->received;
	http->asked_ms = upd_http_now_ms();
	http->answer_end = 0;
	http->is_judged = http->is_paused = http->is_done = http->is_secure = 0;
	http->has_headers = 0;
	http->header_bytes = 0;
	http->retry_after_ms = 0;
	http->refusal = (struct upd_error){ 0 };
	http->window_start = http->received;
	http->window_ms = 0;
	if (curl_easy_setopt(http->easy, CURLOPT_RANGE, http->received ? range : NULL) !=
		    CURLE_OK ||
	    curl_easy_setopt(http->easy, CURLOPT_HTTPHEADER, headers) != CURLE_OK ||
	    curl_multi_add_handle(http->multi, http->easy) != CURLM_OK) {
		curl_slist_free_all(headers);
		return upd_fail(reterr, UPD_RESOURCES, "libcurl cannot be set up");
	}
	curl_slist_free_all(http->headers);
	http->headers = headers;
	return 0;
}

/* Let libcurl work once, for at most POLL_MS. */
static int turn(struct http_source *http, struct upd_error *reterr)
{
	int running = 0, left = 0;
	CURLMsg *message;
	CURLMcode code = curl_multi_perform(http->multi, &running);

	while ((message = curl_multi_info_read(http->multi, &left)) != NULL) {
		if (message->msg == CURLMSG_DONE) {
			http->is_done = 1;
			http->result = message->data.result;
		}
	}
	if (code == CURLM_OK && !http->is_done && http->room > 0 && !http->is_paused)
		code = curl_multi_poll(http->multi, NULL, 0, POLL_MS, NULL);
	if (code != CURLM_OK)
		return upd_fail(reterr, UPD_RESOURCES, "libcurl: %s", curl_multi_strerror(code));
	/* a refusal while a pause ends is told to nobody but us */
	return http->is_done || http->refusal.status ? upd_http_judge_end(http, reterr) : 0;
}

static void drain_spill(struct http_source *http)
{
	size_t now = http->spilled < http->room ? http->spilled : http->room;

	memcpy(http->want, http->spill, now);
	memmove(http->spill, http->spill + now, http->spilled - now);
	http->want += now;
	http->room -= now;
	http->spilled -= now;
}

/* Sleep a little where the bandwidth wants it; that is no waiting for the server. */
static int slow_down(const struct http_source *http)
{
	int64_t us = upd_http_early_us(http);
	struct timespec nap = { 0 };

	if (us == 0)
		return 0;
	nap.tv_nsec = (us < MAX_NAP_US ? us : MAX_NAP_US) * 1000;
	nanosleep(&nap, NULL);
	return 1;
}

/* Let the transfer run until what is wanted is there, or the object has ended. */
static int run(struct http_source *http, struct upd_error *reterr)
{
	int64_t before_ms = upd_http_now_ms(), at_ms;
	int status = 0;

	while (status == 0 && http->room > 0 && !http->is_ended) {
		if (*http->base.is_cancelled)
			return upd_fail(reterr, UPD_RESOURCES, "cancelled");
		if (http->is_paused && slow_down(http)) {
			before_ms = upd_http_now_ms();
			continue;
		}
		if (http->is_paused) {
			http->is_paused = 0;
			http->result = curl_easy_pause(http->easy, CURLPAUSE_CONT);
			http->is_done = http->result != CURLE_OK;
		}
		status = turn(http, reterr);
		at_ms = upd_http_now_ms();
		if (status == 0 && !http->is_ended)
			status = upd_http_check_pace(http, at_ms - before_ms, reterr);
		before_ms = at_ms;
	}
	return status;
}

/* --- again ------------------------------------------------------------------------------------ */

static int wait_ms(const struct http_source *http, uint64_t ms, struct upd_error *reterr)
{
	const int64_t end_ms = upd_http_now_ms() + (int64_t)ms;
	const struct timespec nap = { .tv_nsec = MAX_NAP_US * 1000 };

	while (upd_http_now_ms() < end_ms) {
		if (*http->base.is_cancelled)
			return upd_fail(reterr, UPD_RESOURCES, "cancelled");
		nanosleep(&nap, NULL);
	}
	return 0;
}

/* After a failure: begin another attempt, or keep the failure as the last one. */
static int again(struct http_source *http, struct upd_error *reterr)
{
	uint64_t pause_ms = 0;
	int status = upd_http_next_pause(http, &pause_ms, reterr);

	if (status != 0)
		return status;
	/* a connection that stands still is of no use to anybody meanwhile */
	curl_multi_remove_handle(http->multi, http->easy);
	status = wait_ms(http, pause_ms, reterr);
	if (status != 0)
		return status;
	*reterr = (struct upd_error){ 0 };
	http->base.retries++;
	return ask(http, reterr);
}

static int http_read(struct upd_source *source, unsigned char *buf, size_t len, size_t *ret,
		     struct upd_error *reterr)
{
	struct http_source *http = (struct http_source *)source;
	int status = 0;

	if (!http->is_begun) {
		http->is_begun = 1;
		status = ask(http, reterr);
	}
	http->want = buf;
	http->room = len;
	drain_spill(http);
	while (status == 0 && http->room > 0 && !http->is_ended) {
		status = run(http, reterr);
		if (status == UPD_TRANSPORT && !http->is_hopeless)
			status = again(http, reterr);
	}
	if (status != 0 && reterr->http_status == 0)
		curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &reterr->http_status);
	*ret = len - http->room;
	return status;
}

static int http_seek(struct upd_source *source, uint64_t offset, const char *validator,
		     struct upd_error *reterr)
{
	struct http_source *http = (struct http_source *)source;

	(void)reterr;
	http->received = http->failures_at = offset;
	snprintf(http->base.validator, sizeof(http->base.validator), "%s", validator);
	return 0;
}

/* --- life ------------------------------------------------------------------------------------- */

static void http_close(struct upd_source *source)
{
	struct http_source *http = (struct http_source *)source;

	if (http->multi && http->easy)
		curl_multi_remove_handle(http->multi, http->easy);
	if (http->easy)
		curl_easy_cleanup(http->easy);
	if (http->multi)
		curl_multi_cleanup(http->multi);
	curl_slist_free_all(http->headers);
	free(http->spill);
	free(http);
}

static const struct upd_source_ops http_ops = { .read = http_read,
						.close = http_close,
						.seek = http_seek };

static void initialise(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

/*
 * What waits in the kernel has been paid for and is lost by a kill. Left alone, its buffer grows to
 * what the system allows, 6 MiB and more; the kernel doubles what is asked for here, and what half
 * of that holds is enough for 15 MiB/s over a round trip of 100 ms. Only with CAP_NET_ADMIN is it
 * given regardless of net.core.rmem_max, which is less; without it the kernel goes on as it likes.
 */
static int bound_socket(void *context, curl_socket_t fd, curlsocktype purpose)
{
	const int buffer = 3 << 19;

	(void)context;
	fcntl(fd, F_SETFD, FD_CLOEXEC); /* a program that Python starts has no business with it */
	if (purpose == CURLSOCKTYPE_IPCXN)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
	return CURL_SOCKOPT_OK;
}

static CURLcode configure(struct http_source *http, const struct upd_options *options)
{
	CURL *easy = http->easy;
	CURLcode code = curl_easy_setopt(easy, CURLOPT_URL, options->source);

#define SET(option, value) code = code ? code : curl_easy_setopt(easy, option, value)
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, http->allows_plaintext ? "http,https" : "https");
#else
	SET(CURLOPT_PROTOCOLS,
	    (long)CURLPROTO_HTTPS | (http->allows_plaintext ? (long)CURLPROTO_HTTP : 0L));
#endif
	SET(CURLOPT_PREREQFUNCTION, before_request); /* of redirects too, like the line before */
	SET(CURLOPT_PREREQDATA, http);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* a later one wins nothing here */
	SET(CURLOPT_FOLLOWLOCATION, 1L);
	SET(CURLOPT_MAXREDIRS, (long)options->max_redirects);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_SOCKOPTFUNCTION, bound_socket);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_ACCEPT_ENCODING, "identity");
	SET(CURLOPT_HTTP_CONTENT_DECODING, 0L); /* the digest covers what was sent */
	SET(CURLOPT_USERAGENT, "updater");
	SET(CURLOPT_BUFFERSIZE, upd_http_buffer_size(options->bandwidth, SPILL_SIZE));
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)options->connect_timeout_ms);
	SET(CURLOPT_HEADERFUNCTION, take_header);
	SET(CURLOPT_HEADERDATA, http);
	SET(CURLOPT_WRITEFUNCTION, take);
	SET(CURLOPT_WRITEDATA, http);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
	if (options->ca_file) {
		SET(CURLOPT_CAINFO, options->ca_file);
		SET(CURLOPT_CAPATH, NULL); /* or the system's folder would be trusted beside it */
	}
	SET(CURLOPT_SSLCERT, options->client_cert);
	SET(CURLOPT_SSLKEY, options->client_key);
	SET(CURLOPT_KEYPASSWD, ""); /* or libcrypto would ask for it at the terminal, for ever */
#undef SET
	return code;
}

static void take_limits(struct http_source *http, const struct upd_options *options)
{
	http->base.size = options->size;
	http->is_compared = options->md5 || (options->sha256 && options->sha256[0]);
	http->stall_timeout_ms = options->stall_timeout_ms;
	http->bandwidth = options->bandwidth;
	http->attempts = options->attempts;
	http->backoff_ms = options->backoff_ms;
	http->backoff_limit_ms = options->backoff_limit_ms;
	http->retry_time_ms = options->retry_time_ms;
	http->allows_plaintext =
		options->allow_plaintext && upd_http_has_scheme(options->source, "http:");
}

int upd_source_http_open(const struct upd_options *options, const atomic_int *is_cancelled,
			 struct upd_source **ret, struct upd_error *reterr)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct http_source *http = calloc(1, sizeof(*http));

	pthread_once(&once, initialise);
	if (!http)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	http->base.ops = &http_ops;
	http->base.is_cancelled = is_cancelled;
	take_limits(http, options);
	http->spill = malloc(SPILL_SIZE);
	http->easy = curl_easy_init();
	http->multi = curl_multi_init();
	if (!http->spill || !http->easy || !http->multi || configure(http, options) != CURLE_OK) {
		http_close((struct upd_source *)http);
		return upd_fail(reterr, UPD_RESOURCES, "libcurl cannot be set up");
	}
	*ret = (struct upd_source *)http;
	return 0;
}
