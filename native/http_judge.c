/* SPDX-License-Identifier: MIT */
/*
 * What an answer means.
 *
 *     status               asked from the front        asked for the rest
 *     200                  the object                  another object, or no ranges: start over
 *     206                  nobody asked: broken        the rest, if it fits to the byte
 *     416                  broken                      the end was reached, or another object
 *     408, 429, 5xx        try again                   try again
 *     other 4xx            final                       final
 *     all else             try again                   try again
 */
#include <string.h>
#include <strings.h>
#include <time.h>

#include "http_answer.h"
#include "http_source.h"

static int is_permanent(long status)
{
	return status >= 400 && status < 500 && status != 408 && status != 416 && status != 429;
}

int upd_http_has_scheme(const char *url, const char *scheme)
{
	return strncasecmp(url, scheme, strlen(scheme)) == 0;
}

/* The value of the last answer's header; NULL if it has none. */
static const char *header(const struct http_source *http, const char *name)
{
	struct curl_header *found;

	if (curl_easy_header(http->easy, name, 0, CURLH_HEADER, -1, &found) != CURLHE_OK)
		return NULL;
	return found->value;
}

static void read_validator(const struct http_source *http, char *ret)
{
	const char *etag = header(http, "ETag");
	const char *modified = header(http, "Last-Modified");

	ret[0] = '\0';
	if (etag && upd_parse_etag(etag, strlen(etag), ret, UPD_VALIDATOR_SIZE) == 0)
		return;
	if (!modified ||
	    upd_parse_last_modified(modified, strlen(modified), ret, UPD_VALIDATOR_SIZE) != 0)
		ret[0] = '\0';
}

/* Tag with tag, date with date: a part may come without either. A weak tag names the object too; it
 * only does not promise enough to be asked with. */
static int has_changed(const struct http_source *http)
{
	const char *ours = http->base.validator;
	const char *theirs = header(http, ours[0] == '"' ? "ETag" : "Last-Modified");

	if (theirs && strncmp(theirs, "W/", 2) == 0)
		theirs += 2;
	return ours[0] && theirs && strcmp(ours, theirs) != 0;
}

static int start_over(struct upd_error *reterr, const char *why)
{
	return upd_fail(reterr, UPD_AGAIN, "the object cannot be gone on with: %s", why);
}

/*
 * Whether the protocol says where the object ends. HTTP/1 may leave that to the connection's end,
 * and then an object that broke off looks like one that is whole.
 */
static int has_end(struct http_source *http)
{
	curl_off_t length = -1;

	curl_easy_getinfo(http->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	return length >= 0 || header(http, "Transfer-Encoding") != NULL;
}

static int check_length(struct http_source *http, struct upd_error *reterr)
{
	curl_off_t length = -1;

	curl_easy_getinfo(http->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	if (length >= 0 && http->base.size == 0)
		http->base.size = (uint64_t)length;
	if (length >= 0 && (uint64_t)length != http->base.size)
		return upd_fail(reterr, UPD_LENGTH,
				"the object has %lld bytes, %llu were announced", (long long)length,
				(unsigned long long)http->base.size);
	if (has_end(http) || http->base.size || http->is_compared)
		return 0;
	http->is_hopeless = 1;
	return upd_fail(reterr, UPD_TRANSPORT,
			"the server does not say where the object ends, and no digest would");
}

static int check_whole(struct http_source *http, struct upd_error *reterr)
{
	int status;

	if (http->asked > 0)
		return start_over(reterr, "the server sends it from its first byte");
	status = check_length(http, reterr);
	if (status == 0 && http->base.validator[0] == '\0')
		read_validator(http, http->base.validator);
	return status;
}

/* Parts with words between them; a server may send so only who asks for several. */
static int is_multipart(const struct http_source *http)
{
	const char *type = header(http, "Content-Type");

	return type && strncasecmp(type, "multipart/", strlen("multipart/")) == 0;
}

static int check_rest(struct http_source *http, struct upd_error *reterr)
{
	const char *text = header(http, "Content-Range");
	struct upd_content_range range;
	curl_off_t length = -1;

	if (http->asked == 0)
		return upd_fail(reterr, UPD_TRANSPORT, "the server sends a part, unasked");
	if (!http->is_compared && http->base.validator[0] == '\0')
		return start_over(reterr, "nothing would tell whether it has changed");
	if (!text || upd_parse_content_range(text, strlen(text), &range) != 0 ||
	    range.is_unsatisfied || is_multipart(http))
		return start_over(reterr, "the server does not say which part it sends");
	if (range.first != http->asked)
		return start_over(reterr, "the server sends another part than asked for");
	if (http->base.size == 0)
		http->base.size = range.total;
	if (http->base.size &&
	    (range.total ? range.total != http->base.size : range.last >= http->base.size))
		return start_over(reterr, "it has another length now");
	curl_easy_getinfo(http->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	if (length >= 0 && (uint64_t)length != range.last - range.first + 1)
		return start_over(reterr, "the part's length contradicts itself");
	if (has_changed(http))
		return start_over(reterr, "it has changed");
	http->answer_end = range.last + 1;
	return 0;
}

static int check_unsatisfied(struct http_source *http, struct upd_error *reterr)
{
	const char *text = header(http, "Content-Range");
	struct upd_content_range range;

	if (http->asked == 0)
		return upd_fail(reterr, UPD_TRANSPORT, "the server answered with status 416");
	if (!text || upd_parse_content_range(text, strlen(text), &range) != 0 ||
	    !range.is_unsatisfied || range.total != http->asked ||
	    (http->base.size && range.total != http->base.size))
		return start_over(reterr, "there is nothing where it broke off");
	http->is_ended = 1; /* it broke off behind its last byte */
	return 0;
}

/* A date is meant by the server's clock: this device's may stand in 1970. */
static void read_retry_after(struct http_source *http)
{
	const char *text = header(http, "Retry-After");
	const char *date = header(http, "Date");
	time_t now_s = date ? curl_getdate(date, NULL) : -1;

	if (now_s < 0)
		now_s = time(NULL);
	if (!text || upd_parse_retry_after(text, strlen(text), now_s, &http->retry_after_ms) != 0)
		http->retry_after_ms = 0;
}

int upd_http_judge_answer(struct http_source *http, struct upd_error *reterr)
{
	long status = 0;

	curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
	reterr->http_status = status;
	http->is_judged = 1;
	switch (status) {
	case 200:
		return check_whole(http, reterr);
	case 206:
		return check_rest(http, reterr);
	case 416:
		return check_unsatisfied(http, reterr);
	default:
		break;
	}
	read_retry_after(http);
	return upd_fail(reterr, is_permanent(status) ? UPD_HTTP : UPD_TRANSPORT,
			"the server answered with status %ld", status);
}

int upd_http_is_refused(const struct http_source *http)
{
	long status = 0;

	curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
	return !http->is_judged && status >= 400;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* libcurl has one code for a URL of a refused kind and for an answer that is no HTTP. */
static int is_url_refused(struct http_source *http)
{
	const char *url = NULL; /* the one that a redirect led to, if one did */

	curl_easy_getinfo(http->easy, CURLINFO_EFFECTIVE_URL, &url);
	return !url || (!upd_http_has_scheme(url, "https:") &&
			!(http->allows_plaintext && upd_http_has_scheme(url, "http:")));
}

/* The numbers are X509_V_ERR_*, which libcurl passes on from libcrypto. */
static const char *certificate_problem(struct http_source *http)
{
	long verdict = 0;

	curl_easy_getinfo(http->easy, CURLINFO_SSL_VERIFYRESULT, &verdict);
	switch (verdict) {
	case 9:
		return "the server's certificate is not valid yet: check this device's clock";
	case 10:
		return "the server's certificate has expired: check this device's clock";
	case 18:
	case 19:
	case 20:
	case 21:
		return "the server's certificate is of an authority that is not trusted here: "
		       "check ca_file";
	case 0:
	case 1: /* what libcurl leaves there when the chain is good and the name is not */
	case 62:
	case 64:
		return "the server's certificate is for another host";
	default:
		return "the server's certificate is refused";
	}
}

static int judge_failure(struct http_source *http, struct upd_error *reterr)
{
	long proxy_status = 0;

	curl_easy_getinfo(http->easy, CURLINFO_HTTP_CONNECTCODE, &proxy_status);
	if (proxy_status >= 300)
		return upd_fail(reterr, UPD_TRANSPORT, "the proxy answered with status %ld",
				proxy_status);
	switch (http->result) {
	case CURLE_UNSUPPORTED_PROTOCOL:
		if (!is_url_refused(http))
			return upd_fail(reterr, UPD_TRANSPORT, "the server does not speak HTTP");
		/* fall through */
	case CURLE_URL_MALFORMAT:
		return upd_fail(reterr, UPD_SCHEME,
				"the URL or a redirect is of a kind that is refused");
	case CURLE_PEER_FAILED_VERIFICATION:
		return upd_fail(reterr, UPD_TRANSPORT, "%s", certificate_problem(http));
	case CURLE_SSL_CERTPROBLEM:
		return upd_fail(reterr, UPD_TRANSPORT,
				"this device's client certificate or its key cannot be used");
	default: /* also CURLE_OUT_OF_MEMORY, which is what a header that is too long is called */
		return upd_fail(reterr, UPD_TRANSPORT, "the transfer failed: %s",
				curl_easy_strerror(http->result));
	}
}

int upd_http_judge_end(struct http_source *http, struct upd_error *reterr)
{
	int status = 0;

	if (http->refusal.status != 0) {
		*reterr = http->refusal;
		return reterr->status;
	}
	if (http->result != CURLE_OK && !upd_http_is_refused(http))
		return judge_failure(http, reterr);
	/* to libcurl an answer that breaks off in its headers is one without the rest of them */
	if (!http->has_headers && !upd_http_is_refused(http))
		return upd_fail(reterr, UPD_TRANSPORT, "the answer broke off in its headers");
	if (!http->is_judged)
		status = upd_http_judge_answer(http, reterr);
	if (status != 0 || http->is_ended)
		return status;
	if (http->base.size ? http->received == http->base.size : http->asked == 0) {
		http->is_ended = 1;
		return 0;
	}
	if (http->base.size == 0) /* a part, and nobody has said of how much */
		return upd_fail(reterr, UPD_TRANSPORT,
				"the object has at least %llu bytes, and its end is not known",
				(unsigned long long)http->received);
	/* a part may be shorter than the rest, and then the next one is asked for */
	return upd_fail(reterr, has_end(http) && http->asked == 0 ? UPD_LENGTH : UPD_TRANSPORT,
			"the object ended after %llu of %llu bytes",
			(unsigned long long)http->received, (unsigned long long)http->base.size);
}
