/* SPDX-License-Identifier: MIT */
/*
 * An http(s) object as a source, by libcurl's multi interface: read() runs the transfer only while
 * bytes are wanted, so that a slow medium slows the network down and is not mistaken for a stall.
 *
 * Refused before a byte is given: a status other than 200, a Content-Length other than announced, a
 * scheme that was not allowed, also by a redirect. Bytes beyond the announced size are an error as
 * soon as the first of them arrives. The URL is secret and stays out of every message, and so does
 * every word of the server's.
 *
 * A server cannot hold the device for ever: the time spent waiting for it is cut into windows, each
 * of which ends when enough bytes have come and fails when they have not in stall_timeout_ms. Name
 * look-up, redirects and headers belong to the first window, the end of the object to the last.
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
#define MIN_BYTES_PER_S 256U /* a modem on a bad day gives more */
#define MAX_HEADER_BYTES ((size_t)128 << 10)

struct http_source {
	struct upd_source base;
	CURL *easy;
	CURLM *multi;
	uint64_t size;
	size_t header_bytes; /* of all answers, with interim ones, redirects and trailers */
	uint64_t received;
	uint64_t window_start; /* what had been received when the window began */
	int64_t window_ms;     /* waited in it */
	unsigned stall_timeout_ms;
	unsigned char *want; /* where bytes go now */
	size_t room;
	unsigned char *spill; /* what came beyond the wanted bytes */
	size_t spilled;
	int allows_plaintext; /* once on https a transfer stays there, whatever was allowed */
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

/* libcurl's header callback: libcurl keeps every header, and by itself it would keep any number. */
static size_t take_header(char *bytes, size_t one, size_t len, void *context)
{
	struct http_source *http = context;

	(void)bytes;
	(void)one;
	if (len > MAX_HEADER_BYTES - http->header_bytes) {
		upd_fail(&http->refusal, UPD_TRANSPORT, "the server sends headers without end");
		return 0;
	}
	http->header_bytes += len;
	return len;
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

/*
 * Whether the protocol says where the object ends. HTTP/1 may leave that to the connection's end,
 * and then an object that broke off looks like one that is whole.
 */
static int has_end(struct http_source *http)
{
	struct curl_header *header;
	curl_off_t length = -1;
	long version = 0;

	curl_easy_getinfo(http->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	curl_easy_getinfo(http->easy, CURLINFO_HTTP_VERSION, &version);
	return length >= 0 || version >= CURL_HTTP_VERSION_2_0 ||
	       curl_easy_header(http->easy, "Transfer-Encoding", 0, CURLH_HEADER, -1, &header) ==
		       CURLHE_OK;
}

static int has_scheme(const char *url, const char *scheme)
{
	return strncasecmp(url, scheme, strlen(scheme)) == 0;
}

/* libcurl has one code for a URL of a refused kind and for an answer that is no HTTP. */
static int is_url_refused(struct http_source *http)
{
	const char *url = NULL; /* the one that a redirect led to, if one did */

	curl_easy_getinfo(http->easy, CURLINFO_EFFECTIVE_URL, &url);
	return !url || (!has_scheme(url, "https:") &&
			!(http->allows_plaintext && has_scheme(url, "http:")));
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
	case CURLE_HTTP_RETURNED_ERROR:
		break;
	case CURLE_UNSUPPORTED_PROTOCOL:
		if (!is_url_refused(http))
			return upd_fail(reterr, UPD_TRANSPORT, "the server does not speak HTTP");
		/* fall through */
	case CURLE_URL_MALFORMAT:
		return upd_fail(reterr, UPD_SCHEME,
				"the URL or a redirect is of a kind that is refused");
	default: /* also CURLE_OUT_OF_MEMORY, which is what a header that is too long is called */
		return upd_fail(reterr, UPD_TRANSPORT, "the transfer failed: %s",
				curl_easy_strerror(http->result));
	}
	if (http->received == 0 && check_status(http, reterr) != 0)
		return reterr->status;
	if (http->received != http->size)
		return upd_fail(reterr, has_end(http) ? UPD_LENGTH : UPD_TRANSPORT,
				"the object ended after %llu of %llu bytes",
				(unsigned long long)http->received, (unsigned long long)http->size);
	return 0;
}

/* Count ms of waiting, and end the window or fail. */
static int check_pace(struct http_source *http, int64_t ms, struct upd_error *reterr)
{
	uint64_t came = http->received - http->window_start;
	uint64_t enough = (uint64_t)http->stall_timeout_ms * MIN_BYTES_PER_S / 1000 + 1;

	http->window_ms += ms;
	if (came >= enough || (came > 0 && http->window_start == 0)) {
		http->window_start = http->received;
		http->window_ms = 0;
	} else if (http->window_ms > http->stall_timeout_ms) {
		return upd_fail(reterr, UPD_TRANSPORT, "only %llu bytes arrived in %u ms",
				(unsigned long long)came, http->stall_timeout_ms);
	}
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
	return http->is_done || http->refusal.status ? judge(http, reterr) : 0;
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

/* Let the transfer run until what is wanted is there, or the object has ended. */
static int fill(struct http_source *http, struct upd_error *reterr)
{
	int64_t before_ms = now_ms(), at_ms;
	int status = 0;

	while (status == 0 && http->room > 0 && !http->is_done) {
		if (*http->base.is_cancelled)
			return upd_fail(reterr, UPD_TRANSPORT, "cancelled");
		if (http->is_paused) {
			http->is_paused = 0;
			curl_easy_pause(http->easy, CURLPAUSE_CONT);
		}
		status = turn(http, reterr);
		at_ms = now_ms();
		if (status == 0)
			status = check_pace(http, at_ms - before_ms, reterr);
		before_ms = at_ms;
	}
	return status;
}

static int http_read(struct upd_source *source, unsigned char *buf, size_t len, size_t *ret,
		     struct upd_error *reterr)
{
	struct http_source *http = (struct http_source *)source;
	int status;

	http->want = buf;
	http->room = len;
	drain_spill(http);
	status = fill(http, reterr);
	if (status != 0)
		curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &reterr->http_status);
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

static CURLcode configure(struct http_source *http, const struct upd_options *options)
{
	const char *schemes = http->allows_plaintext ? "http,https" : "https";
	CURL *easy = http->easy;
	CURLcode code = curl_easy_setopt(easy, CURLOPT_URL, options->source);

#define SET(option, value) code = code ? code : curl_easy_setopt(easy, option, value)
	SET(CURLOPT_PROTOCOLS_STR, schemes); /* of redirects too */
	SET(CURLOPT_FOLLOWLOCATION, 1L);
	SET(CURLOPT_MAXREDIRS, MAX_REDIRECTS);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_FAILONERROR, 1L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_ACCEPT_ENCODING, "identity");
	SET(CURLOPT_HTTP_CONTENT_DECODING, 0L); /* the digest covers what was sent */
	SET(CURLOPT_USERAGENT, "updater");
	SET(CURLOPT_BUFFERSIZE, (long)SPILL_SIZE);
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
	http->allows_plaintext = options->allow_plaintext && has_scheme(options->source, "http:");
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
