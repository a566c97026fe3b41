/* SPDX-License-Identifier: MIT */
/*
 * Drives the engine once, for the tests: `drive key=value ...`, and what became of it on stdout.
 *
 * Ends with 0 whatever the engine says, unless the engine breaks a promise that every run must
 * keep: progress only grows and stays within the size, a failure has a sentence of ASCII, the
 * descriptor is readable at the end and not before.
 */
#include <inttypes.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "medium.h"
#include "updater_native.h"

#define STEP_MS 2

struct orders {
	struct upd_options options;
	unsigned long sector;
	const char *fault;
	const char *record;
	const char *plays;     /* the regular file that is the device; NULL: it is a real one */
	int closes_on_fault;   /* cancel as soon as the planned fault has happened */
	unsigned closes_at_ms; /* cancel then; 0: never */
};

static void broken(const char *promise)
{
	fprintf(stderr, "the engine broke a promise: %s\n", promise);
	exit(1);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

enum kind { TEXT, INT, UNSIGNED, LONG, SIZE, WIDE };

#define OPTION(kind, name)                                                                         \
	{                                                                                          \
#name, kind, offsetof(struct orders, options.name)                                 \
	}
#define ORDER(kind, name)                                                                          \
	{                                                                                          \
#name, kind, offsetof(struct orders, name)                                         \
	}

static const struct row {
	const char *key;
	enum kind kind;
	size_t offset;
} rows[] = {
	OPTION(TEXT, source),
	OPTION(TEXT, device),
	OPTION(TEXT, checkpoint),
	OPTION(WIDE, size),
	OPTION(WIDE, image_size),
	OPTION(WIDE, image_limit),
	OPTION(TEXT, md5),
	OPTION(TEXT, version),
	OPTION(TEXT, sha256),
	OPTION(SIZE, buffer_size),
	OPTION(UNSIGNED, buffers),
	OPTION(INT, read_back),
	OPTION(INT, skip_identical),
	OPTION(INT, decode),
	OPTION(WIDE, decoder_memory),
	OPTION(INT, nice),
	OPTION(INT, io_priority),
	OPTION(INT, allow_plaintext),
	OPTION(UNSIGNED, connect_timeout_ms),
	OPTION(UNSIGNED, stall_timeout_ms),
	OPTION(UNSIGNED, attempts),
	OPTION(UNSIGNED, backoff_ms),
	OPTION(UNSIGNED, backoff_limit_ms),
	OPTION(UNSIGNED, retry_time_ms),
	OPTION(UNSIGNED, max_redirects),
	OPTION(WIDE, bandwidth),
	OPTION(TEXT, ca_file),
	OPTION(TEXT, client_cert),
	OPTION(TEXT, client_key),
	ORDER(TEXT, fault),
	ORDER(TEXT, record),
	ORDER(TEXT, plays),
	ORDER(INT, closes_on_fault),
	ORDER(UNSIGNED, closes_at_ms),
	ORDER(LONG, sector),
};

static int take(struct orders *orders, const char *key, const char *value)
{
	const uint64_t number = strtoull(value, NULL, 10);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		void *at = (char *)orders + rows[i].offset;

		if (strcmp(rows[i].key, key) != 0)
			continue;
		switch (rows[i].kind) {
		case TEXT:
			*(const char **)at = value;
			break;
		case INT:
			*(int *)at = atoi(value);
			break;
		case UNSIGNED:
			*(unsigned *)at = (unsigned)number;
			break;
		case LONG:
			*(unsigned long *)at = (unsigned long)number;
			break;
		case SIZE:
			*(size_t *)at = (size_t)number;
			break;
		case WIDE:
			*(uint64_t *)at = number;
			break;
		}
		return 1;
	}
	return 0;
}

static void check_progress(const struct upd_progress *before, const struct upd_progress *now,
			   uint64_t size)
{
	if (now->received < before->received || now->hashed < before->hashed ||
	    now->written < before->written || now->verified < before->verified ||
	    now->phase < before->phase)
		broken("progress only grows");
	if (size && (now->received > size || now->hashed > size))
		broken("progress stays within the firmware");
	if (size && now->format == UPD_FORMAT_RAW && now->written > size)
		broken("progress stays within the image");
	if (now->phase == UPD_PHASE_DONE && now->verified > now->written)
		broken("no more is verified than was written");
}

static void check_error(int status, const struct upd_error *error)
{
	if (error->status != status || error->message[0] == '\0' || strlen(error->message) > 199)
		broken("a failure has its code and a sentence");
	for (const char *c = error->message; *c; c++)
		if (*c < ' ' || *c > '~')
			broken("the sentence is ASCII");
}

static void check_descriptor(struct upd_pump *pump, int status)
{
	struct pollfd fd = { .fd = upd_pump_fd(pump), .events = POLLIN };
	int is_readable = poll(&fd, 1, 0) == 1;
	struct upd_progress ignored;
	struct upd_error error;

	if (is_readable && status == UPD_MORE)
		status = upd_pump_step(pump, 0, &ignored, &error);
	if (is_readable ? status == UPD_MORE : status != UPD_MORE)
		broken("the descriptor is readable at the end, and not before");
}

/* Step until the end, or until it is time to cancel: then UPD_MORE. */
static int run(const struct orders *orders, struct upd_pump *pump, struct upd_error *error)
{
	struct upd_progress before = { 0 }, now = { 0 };
	const int64_t began_ms = now_ms();
	int status = UPD_MORE;

	while (status == UPD_MORE) {
		status = upd_pump_step(pump, STEP_MS, &now, error);
		check_progress(&before, &now, orders->options.size);
		check_descriptor(pump, status);
		before = now;
		if ((orders->closes_at_ms && now_ms() - began_ms >= orders->closes_at_ms) ||
		    (orders->closes_on_fault && medium_has_happened()))
			break;
	}
	printf("phase %d\nreceived %" PRIu64 "\nhashed %" PRIu64 "\nwritten %" PRIu64
	       "\nverified %" PRIu64 "\n",
	       now.phase, now.received, now.hashed, now.written, now.verified);
	printf("size %" PRIu64 "\nresumed %" PRIu64 "\nidentical %" PRIu64 "\nzeroed %" PRIu64
	       "\nretries %u\nbad_blocks %u\nformat %d\n",
	       now.size, now.resumed, now.identical, now.zeroed, now.retries, now.bad_blocks,
	       now.format);
	return status;
}

static void tell(int status, const struct upd_error *error)
{
	if (status < 0)
		check_error(status, error);
	printf("status %d\nos_errno %d\nhttp_status %ld\noffset %" PRIu64 "\nmessage %s\n", status,
	       error->os_errno, error->http_status, error->offset, error->message);
	printf("happened %d\n", medium_has_happened());
}

int main(int argc, char **argv)
{
	struct orders orders = { .sector = 512, .options.io_priority = -1 };
	struct upd_error error = { 0 };
	struct upd_pump *pump = NULL;
	struct upd_hexdigests digests = { 0 };
	int64_t began_ms;
	int status;

	for (int i = 1; i < argc; i++) {
		char *value = strchr(argv[i], '=');

		if (value)
			*value++ = '\0';
		if (!value || !take(&orders, argv[i], value))
			broken("drive key=value ...");
	}
	if (orders.plays)
		medium_play(orders.plays, orders.sector);
	if (orders.record)
		medium_record(orders.record);
	if (orders.fault && !medium_plan(orders.fault))
		broken("no such fault");
	status = upd_pump_open(&orders.options, &pump, &error);
	if (status == 0) {
		status = run(&orders, pump, &error);
		if (status == UPD_DONE)
			upd_pump_hexdigests(pump, &digests);
	}
	tell(status, &error);
	printf("md5 %s\nsha256 %s\nimage_md5 %s\n", digests.md5, digests.sha256, digests.image_md5);
	began_ms = now_ms();
	medium_release();
	upd_pump_close(pump);
	printf("close_ms %" PRId64 "\n", now_ms() - began_ms);
	return 0;
}
