/* SPDX-License-Identifier: MIT */
#include "http_answer.h"

#include <curl/curl.h>
#include <string.h>
#include <strings.h>

#define MAX_DATE 64U

struct text {
	const char *at;
	size_t len;
};

static void skip_blanks(struct text *text)
{
	while (text->len > 0 && (*text->at == ' ' || *text->at == '\t')) {
		text->at++;
		text->len--;
	}
}

static int skip_char(struct text *text, char wanted)
{
	if (text->len == 0 || *text->at != wanted)
		return -1;
	text->at++;
	text->len--;
	return 0;
}

/* Digits only: no sign, no blank, nothing over 63 bits. */
static int take_number(struct text *text, uint64_t *ret)
{
	uint64_t number = 0;
	int is_empty = 1;

	while (text->len > 0 && *text->at >= '0' && *text->at <= '9') {
		const uint64_t digit = (uint64_t)(*text->at - '0');

		if (number > (INT64_MAX - digit) / 10)
			return -1;
		number = number * 10 + digit;
		is_empty = 0;
		text->at++;
		text->len--;
	}
	*ret = number;
	return is_empty ? -1 : 0;
}

static int take_total(struct text *text, uint64_t *ret)
{
	*ret = 0;
	if (skip_char(text, '/') != 0)
		return -1;
	if (skip_char(text, '*') != 0 && (take_number(text, ret) != 0 || *ret == 0))
		return -1;
	skip_blanks(text);
	return text->len == 0 ? 0 : -1;
}

int upd_parse_content_range(const char *text, size_t len, struct upd_content_range *ret)
{
	struct text rest = { text, len };

	*ret = (struct upd_content_range){ 0 };
	skip_blanks(&rest);
	if (rest.len < 6 || strncasecmp(rest.at, "bytes", 5) != 0 ||
	    (rest.at[5] != ' ' && rest.at[5] != '\t'))
		return -1;
	rest.at += 5;
	rest.len -= 5;
	skip_blanks(&rest);
	if (skip_char(&rest, '*') == 0) {
		ret->is_unsatisfied = 1;
		return take_total(&rest, &ret->total) == 0 && ret->total > 0 ? 0 : -1;
	}
	if (take_number(&rest, &ret->first) != 0 || skip_char(&rest, '-') != 0 ||
	    take_number(&rest, &ret->last) != 0 || take_total(&rest, &ret->total) != 0)
		return -1;
	return ret->first <= ret->last && (ret->total == 0 || ret->last < ret->total) ? 0 : -1;
}

/* A date as a string of its own; -1 if libcurl knows no such date. */
static int take_date(struct text text, char *ret, size_t room, int64_t *ret_s)
{
	skip_blanks(&text);
	while (text.len > 0 && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t'))
		text.len--;
	if (text.len == 0 || text.len >= room || text.len >= MAX_DATE)
		return -1;
	for (size_t i = 0; i < text.len; i++)
		if (text.at[i] < ' ' || text.at[i] > '~')
			return -1;
	memcpy(ret, text.at, text.len);
	ret[text.len] = '\0';
	*ret_s = curl_getdate(ret, NULL);
	return *ret_s < 0 ? -1 : 0;
}

int upd_parse_retry_after(const char *text, size_t len, int64_t now_s, uint64_t *ret_ms)
{
	struct text rest = { text, len };
	char date[MAX_DATE];
	uint64_t seconds;
	int64_t then_s;

	skip_blanks(&rest);
	if (take_number(&rest, &seconds) == 0) {
		skip_blanks(&rest);
		if (rest.len > 0 || seconds > INT64_MAX / 1000)
			return -1;
	} else {
		if (take_date((struct text){ text, len }, date, sizeof(date), &then_s) != 0)
			return -1;
		seconds = then_s > now_s ? (uint64_t)then_s - (uint64_t)now_s : 0;
		if (seconds > INT64_MAX / 1000)
			return -1;
	}
	*ret_ms = seconds * 1000;
	return 0;
}

int upd_parse_etag(const char *text, size_t len, char *ret, size_t room)
{
	struct text rest = { text, len };

	skip_blanks(&rest);
	while (rest.len > 0 && (rest.at[rest.len - 1] == ' ' || rest.at[rest.len - 1] == '\t'))
		rest.len--;
	/* a weak one, W/"...", promises nothing about bytes */
	if (rest.len < 2 || rest.len >= room || rest.at[0] != '"' || rest.at[rest.len - 1] != '"')
		return -1;
	for (size_t i = 1; i < rest.len - 1; i++)
		if (rest.at[i] <= ' ' || rest.at[i] > '~' || rest.at[i] == '"')
			return -1;
	memcpy(ret, rest.at, rest.len);
	ret[rest.len] = '\0';
	return 0;
}

int upd_parse_last_modified(const char *text, size_t len, char *ret, size_t room)
{
	int64_t ignored;

	return take_date((struct text){ text, len }, ret, room, &ignored);
}
