/* SPDX-License-Identifier: MIT */
/*
 * The native pipeline: source -> MD5 -> slot, driven from outside.
 *
 *     upd_pump_open()  ->  upd_pump_step() ... until UPD_DONE or negative  ->  upd_pump_close()
 *
 * This header is also what Python sees: native/build.py hands it to cffi as it stands, so it holds
 * declarations only. All sizes and offsets are in bytes and 64 bits wide on every machine.
 */

enum upd_status {
	/* Every byte was read back from the medium and matched; the slot may become primary. */
	UPD_DONE = 0,
	/* Work goes on; call step again. */
	UPD_MORE = 1,
	/* The source could not be reached or broke off: DNS, connection, TLS, time-out, 5xx, an
	 * early end. Trying again may help. http_status is set if the server answered. */
	UPD_TRANSPORT = -1,
	/* The server answered with a status that trying again does not cure: see http_status. 401
	 * and 403 ask for a fresh URL, other 4xx mean that there is no such object. */
	UPD_HTTP = -2,
	/* The URL, or a redirect, is of a scheme that was not allowed. Nothing was fetched from it.
	 */
	UPD_SCHEME = -3,
	/* The object is complete and has another length than announced. The slot cannot boot. */
	UPD_LENGTH = -4,
	/* The object is complete and has another MD5 than announced. The slot cannot boot. */
	UPD_DIGEST = -5,
	/* The image is larger than the device, which holds offset bytes. Nothing was written. */
	UPD_SPACE = -6,
	/* The device or the local source cannot be opened: missing, mounted, held, no permission.
	 * Nothing was written. os_errno says which. */
	UPD_OPEN = -7,
	/* A write or a flush of the medium failed at offset. The slot cannot boot; replace the
	 * medium if this stays. */
	UPD_IO = -8,
	/* What was read back from the medium at offset is not what was written. The slot cannot
	 * boot; the medium lies or dies. */
	UPD_READ_BACK = -9,
	/* The local source could not be read at offset. */
	UPD_SOURCE = -10,
	/* No memory, no thread, or libcurl or libcrypto cannot be set up. */
	UPD_RESOURCES = -11,
	/* The options make no sense: a bug of the caller. */
	UPD_OPTIONS = -12,
};

/* What went wrong; the message is one ASCII sentence and never holds the URL, which is secret. */
struct upd_error {
	int status;
	int os_errno;
	long http_status;
	uint64_t offset;
	char message[200];
};

enum upd_phase {
	UPD_PHASE_BLANKING = 0,
	UPD_PHASE_RECEIVING = 1,
	UPD_PHASE_VERIFYING = 2,
	UPD_PHASE_DONE = 3,
};

/* All counts are in bytes of the image. */
struct upd_progress {
	int phase;
	uint64_t received;
	uint64_t hashed;
	uint64_t written;
	uint64_t verified;
};

/* device == NULL: nothing is written, the digest alone is computed (see upd_pump_hexdigest). */
struct upd_options {
	const char *source;   /* http:// or https:// URL, or a path */
	const char *device;   /* block device or regular file to write, or NULL */
	uint64_t size;	      /* exact size of the image */
	const char *md5;      /* 32 lower-case hexadecimal digits, or NULL if only asked for */
	size_t buffer_size;   /* a multiple of 4096 */
	unsigned buffers;     /* in the ring, at least 3; 1 GiB in all at most */
	int read_back;	      /* compare what the medium holds */
	int source_is_direct; /* read a local source past the page cache */
	int allow_plaintext;  /* http:// too */
	unsigned connect_timeout_ms;
	unsigned stall_timeout_ms; /* not 0; less than 256 bytes/s for so long is an early end */
	const char *ca_file;	   /* PEM bundle instead of the system's, or NULL */
};

struct upd_pump;

int upd_pump_open(const struct upd_options *options, struct upd_pump **ret,
		  struct upd_error *reterr);

/* A descriptor that becomes readable when the pump is done or has failed; owned by the pump. */
int upd_pump_fd(const struct upd_pump *pump);

/* Wait up to timeout_ms for the end and tell how far it is. */
int upd_pump_step(struct upd_pump *pump, int timeout_ms, struct upd_progress *ret,
		  struct upd_error *reterr);

/* The MD5 of all bytes; ret holds 33 chars. Only after UPD_DONE. */
void upd_pump_hexdigest(const struct upd_pump *pump, char *ret);

/* Stops whatever goes on, in any state; cannot fail. */
void upd_pump_close(struct upd_pump *pump);
