/* SPDX-License-Identifier: MIT */
/*
 * An http(s) object as a source, by libcurl's multi interface: read() runs the transfer only while
 * bytes are wanted, so that a slow medium slows the network down and is not mistaken for a stall.
 *
 * Refused before a byte is given: a status other than 200, a Content-Length other than announced, a
 * scheme that was not allowed, also by a redirect. Bytes beyond the announced size are an error as
 * soon as the first of them arrives. The URL is secret and stays out of every message.
 */
#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "source.h"

#define SPILL_SIZE ((size_t)256 << 10)
#define POLL_MS 100 /* bounds how long a cancel goes unnoticed */
#define MAX_REDIRECTS 5L

struct http_source {
	struct upd_source base;
	CURL *easy;
	CURLM *multi;
	uint64_t size;
	uint64_t received;
	unsigned stall_timeout_ms;
	unsigned char *want; /* where bytes go now */
	size_t room;
	unsigned char *spill; /* what came beyond the wanted bytes */
	size_t spilled;
	int is_paused;
	int is_done;
	CURLcode result;
	struct upd_error refusal; /* set by take(): why it stopped the transfer */
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Statuses that trying again does not cure; 401 and 403 may be cured by a fresh URL. */
static int is_permanent(long status)
{
	return status >= 400 && status < 500 && status != 408 && status != 429;
}

static int check_status(struct http_source *http, struct upd_error *reterr)
{
	long status = 0;
	curl_off_t length = -1;

	curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(http->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	reterr->http_status = status;
	if (status != 200)
		return upd_fail(reterr, is_permanent(status) ? UPD_HTTP : UPD_TRANSPORT,
				"the server answered with status %ld", status);
	if (length >= 0 && (uint64_t)length != http->size)
		return upd_fail(reterr, UPD_LENGTH,
				"the object has %lld bytes, %llu were announced", (long long)length,
				(unsigned long long)http->size);
	return 0;
}

/* libcurl's write callback: fill what is wanted, spill the rest, pause when the spill is full. */
static size_t take(char *bytes, size_t one, size_t len, void *context)
{
	struct http_source *http = context;
	size_t now;

	(void)one;
	if (http->received == 0 && check_status(http, &http->refusal) != 0)
		return 0;
	if (http->spilled > 0 || http->room == 0) {
		http->is_paused = 1;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (len > http->size - http->received) {
		upd_fail(&http->refusal, UPD_LENGTH,
			 "the object is longer than the %llu bytes announced",
			 (unsigned long long)http->size);
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
	http->received += len;
	return len;
}

/* Say why libcurl stopped, or 0 if the object came to its end. */
static int judge(struct http_source *http, struct upd_error *reterr)
{
	if (http->refusal.status != 0) {
		*reterr = http->refusal;
		return reterr->status;
	}
	switch (http->result) {
	case CURLE_OK:
		break;
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
		return upd_fail(reterr, UPD_SCHEME,
				"the URL or a redirect is of a kind that is refused");
	case CURLE_OUT_OF_MEMORY:
		return upd_fail(reterr, UPD_RESOURCES, "no memory for the transfer");
	default:
		return upd_fail(reterr, UPD_TRANSPORT, "the transfer failed: %s",
				curl_easy_strerror(http->result));
	}
	if (http->received == 0 && check_status(http, reterr) != 0)
		return reterr->status;
	if (http->received != http->size)
		return upd_fail(reterr, UPD_LENGTH, "the object ended after %llu of %llu bytes",
				(unsigned long long)http->received, (unsigned long long)http->size);
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
	return http->is_done ? judge(http, reterr) : 0;
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

static int http_read(struct upd_source *source, unsigned char *buf, size_t len, size_t *ret,
		     struct upd_error *reterr)
{
	struct http_source *http = (struct http_source *)source;
	int64_t last_ms = now_ms();
	uint64_t before = http->received;
	int status = 0;

	http->want = buf;
	http->room = len;
	drain_spill(http);
	while (status == 0 && http->room > 0 && !http->is_done) {
		if (*source->is_cancelled)
			return upd_fail(reterr, UPD_TRANSPORT, "cancelled");
		if (http->is_paused && http->spilled == 0) {
			http->is_paused = 0;
			curl_easy_pause(http->easy, CURLPAUSE_CONT);
		}
		status = turn(http, reterr);
		if (http->received != before) {
			before = http->received;
			last_ms = now_ms();
		} else if (status == 0 && now_ms() - last_ms > http->stall_timeout_ms) {
			status = upd_fail(reterr, UPD_TRANSPORT, "no byte arrived for %u ms",
					  http->stall_timeout_ms);
		}
	}
	*ret = len - http->room;
	return status;
}

static void http_close(struct upd_source *source)
{
	struct http_source *http = (struct http_source *)source;

	if (http->multi && http->easy)
		curl_multi_remove_handle(http->multi, http->easy);
	if (http->easy)
		curl_easy_cleanup(http->easy);
	if (http->multi)
		curl_multi_cleanup(http->multi);
	free(http->spill);
	free(http);
}

static const struct upd_source_ops http_ops = { .read = http_read, .close = http_close };

static void initialise(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* Redirects stay on https once there, whatever was allowed for the first hop. */
static const char *redirect_schemes(const struct upd_options *options)
{
	int is_plain = strncasecmp(options->source, "http:", 5) == 0;

	return options->allow_plaintext && is_plain ? "http,https" : "https";
}

static CURLcode configure(struct http_source *http, const struct upd_options *options)
{
	CURL *easy = http->easy;
	CURLcode code = curl_easy_setopt(easy, CURLOPT_URL, options->source);

#define SET(option, value) code = code ? code : curl_easy_setopt(easy, option, value)
	SET(CURLOPT_PROTOCOLS_STR, options->allow_plaintext ? "http,https" : "https");
	SET(CURLOPT_REDIR_PROTOCOLS_STR, redirect_schemes(options));
	SET(CURLOPT_FOLLOWLOCATION, 1L);
	SET(CURLOPT_MAXREDIRS, MAX_REDIRECTS);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_HTTPHEADER, NULL);
	SET(CURLOPT_ACCEPT_ENCODING, NULL); /* identity: the digest covers what was sent */
	SET(CURLOPT_USERAGENT, "updater");
	SET(CURLOPT_BUFFERSIZE, (long)SPILL_SIZE);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)options->connect_timeout_ms);
	SET(CURLOPT_WRITEFUNCTION, take);
	SET(CURLOPT_WRITEDATA, http);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
	if (options->ca_file)
		SET(CURLOPT_CAINFO, options->ca_file);
#undef SET
	return code;
}

int upd_source_http_open(const struct upd_options *options, const atomic_int *is_cancelled,
			 struct upd_source **ret, struct upd_error *reterr)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct http_source *http = calloc(1, sizeof(*http));

	pthread_once(&once, initialise);
	if (!http)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	http->base = (struct upd_source){ .ops = &http_ops, .is_cancelled = is_cancelled };
	http->size = options->size;
	http->stall_timeout_ms = options->stall_timeout_ms;
	http->spill = malloc(SPILL_SIZE);
	http->easy = curl_easy_init();
	http->multi = curl_multi_init();
	if (!http->spill || !http->easy || !http->multi || configure(http, options) != CURLE_OK ||
	    curl_multi_add_handle(http->multi, http->easy) != CURLM_OK) {
		http_close((struct upd_source *)http);
		return upd_fail(reterr, UPD_RESOURCES, "libcurl cannot be set up");
	}
	*ret = (struct upd_source *)http;
	return 0;
}
