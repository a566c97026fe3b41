/* SPDX-License-Identifier: MIT */
/*
 * The native pipeline: source -> digests -> decoder -> sink, driven from outside.
 *
 *     upd_pump_open()  ->  upd_pump_step() ... until UPD_DONE or negative  ->  upd_pump_close()
 *
 * This header is also what Python sees: native/build.py hands it to cffi as it stands, so it holds
 * declarations only. All sizes and offsets are in bytes and 64 bits wide on every machine. The
 * firmware is what the source gives; the image is what the slot gets: the same bytes unless the
 * firmware is compressed.
 */

enum upd_status {
	/* Every byte was read back from the medium and matched; the slot may become primary. */
	UPD_DONE = 0,
	/* Work goes on; call step again. */
	UPD_MORE = 1,
	/* The source could not be reached or broke off, and every try that was allowed has been
	 * made: DNS, connection, TLS, time-out, 5xx, an early end. http_status is set if the server
	 * answered. */
	UPD_TRANSPORT = -1,
	/* The server answered with a status that trying again does not cure: see http_status. 401
	 * and 403 ask for a fresh URL, other 4xx mean that there is no such object. */
	UPD_HTTP = -2,
	/* The URL, or a redirect, is of a scheme that was not allowed. Nothing was fetched from it.
	 */
	UPD_SCHEME = -3,
	/* The object is complete and has another length than announced. The slot cannot boot. */
	UPD_LENGTH = -4,
	/* The object is complete and has another digest than announced. The slot cannot boot. */
	UPD_DIGEST = -5,
	/* The image is larger than the medium, which holds offset bytes, or than image_limit. If
	 * the size was announced, nothing was written, unless it is a file and its file system
	 * reserves no room. */
	UPD_SPACE = -6,
	/* The device or the local source cannot be opened: missing, mounted, held, no permission;
	 * or it holds no image of this kind. Nothing was written. os_errno says which. */
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
	/* What was written so far is of no use: the object changed on the server, the server cannot
	 * go on in the middle, a resumed image has a wrong digest, or the block kept for the head
	 * has worn out. The slot cannot boot, and there is no checkpoint any more: open a new pump,
	 * which begins at the first byte. */
	UPD_AGAIN = -13,
	/* The compressed firmware is damaged, or needs more memory than decoder_memory. Before the
	 * first byte of the image nothing was written. */
	UPD_FORMAT = -14,
};

/* What went wrong; the message is one ASCII sentence and never holds the URL, which is secret. */
struct upd_error {
	int status;
	int os_errno;
	long http_status;
	uint64_t offset;
	char message[200];
};

/* In this order; any but the last may be left out. */
enum upd_phase {
	UPD_PHASE_RESUMING = 0,	  /* what an earlier try left on the medium is read again */
	UPD_PHASE_CONNECTING = 1, /* until the source gives its first bytes */
	UPD_PHASE_BLANKING = 2,	  /* from here on the slot cannot boot */
	UPD_PHASE_RECEIVING = 3,
	UPD_PHASE_VERIFYING = 4, /* the last byte is there */
	UPD_PHASE_DONE = 5,
};

enum upd_format {
	UPD_FORMAT_RAW = 0,
	UPD_FORMAT_GZIP = 1,
	UPD_FORMAT_XZ = 2,
	UPD_FORMAT_ZSTD = 3,
};

struct upd_progress {
	int phase;
	int format;	   /* enum upd_format; RAW until it is known */
	uint64_t size;	   /* of the firmware; 0: not known yet */
	uint64_t resumed;  /* bytes of it that an earlier try brought and that still hold; while
			    * RESUMING: that were looked at so far */
	uint64_t received; /* bytes of it, resumed ones included; so are hashed and written */
	uint64_t hashed;
	uint64_t written;    /* bytes of the image that the sink is done with, skipped or not */
	uint64_t verified;   /* bytes of the image that were read back and matched */
	uint64_t identical;  /* bytes that were not written because the medium held them */
	uint64_t zeroed;     /* bytes of zeros that the device was told of and not sent */
	unsigned retries;    /* connections that broke off and were made anew */
	unsigned bad_blocks; /* erase blocks that this pump has marked bad */
};

struct upd_options {
	/* What, and where to. device == NULL: nothing is written, the digests are computed. */
	const char *source; /* http(s) URL, path of a file or medium, or "-" for standard input */
	const char *device; /* block device, MTD or UBI volume's character device, or file */
	/* st_rdev that device must have, an MTD partition that of its block device; 0: any */
	uint64_t device_number;
	const char *checkpoint; /* file of what is needed to go on after a cut, or NULL */
	uint64_t size;		/* exact size of the firmware, or 0 if nobody has announced it */
	uint64_t image_size;	/* exact size of the image if that is known and differs, or 0 */
	uint64_t image_limit;	/* largest image that is accepted, or 0: what the medium holds */
	const char *md5;	/* 32 lower-case hexadecimal digits, or NULL if only asked for */
	const char *version;	/* what the firmware is called, at most 32 bytes, or NULL: another
				 * version is another firmware, though its bytes are the same */
	const char *sha256;	/* 64 of them, "" if only asked for, NULL if not even that */

	/* How. */
	size_t buffer_size; /* a multiple of 4096 */
	unsigned buffers;   /* in the ring, at least 3; 1 GiB in all at most */
	int read_back;	    /* compare what the medium holds */
	int skip_identical; /* read first, and write only what differs */
	int decode;	    /* unpack gzip, xz and zstd, told by their magic */
	uint64_t decoder_memory;
	int nice;	 /* of the pump's threads, added to the caller's; 0 to 19 */
	int io_priority; /* -1: the caller's; 0 (most) to 7: best effort; 8: only when idle */

	/* The network. */
	int allow_plaintext; /* http:// too */
	unsigned connect_timeout_ms;
	unsigned stall_timeout_ms; /* not 0; less than 256 bytes/s for so long breaks off */
	unsigned attempts;	   /* connections in a row that bring nothing; at least 1 */
	unsigned backoff_ms;	   /* longest pause before the second attempt; doubles */
	unsigned backoff_limit_ms;
	unsigned retry_time_ms; /* of attempts in a row that bring nothing; 0: no limit */
	unsigned max_redirects;
	uint64_t bandwidth;	 /* bytes/s at most; 0: no limit */
	const char *ca_file;	 /* PEM bundle instead of the system's, or NULL */
	const char *client_cert; /* PEM, or NULL */
	const char *client_key;	 /* PEM, or NULL */
};

struct upd_pump;

int upd_pump_open(const struct upd_options *options, struct upd_pump **ret,
		  struct upd_error *reterr);

/* A descriptor that becomes readable when the pump is done or has failed; owned by the pump. */
int upd_pump_fd(const struct upd_pump *pump);

/* Wait up to timeout_ms for the end and tell how far it is. */
int upd_pump_step(struct upd_pump *pump, int timeout_ms, struct upd_progress *ret,
		  struct upd_error *reterr);

struct upd_hexdigests {
	char md5[33];	    /* of the firmware */
	char sha256[65];    /* of the firmware; "" if not asked for */
	char image_md5[33]; /* of the image: what the slot holds */
};

/* Only after UPD_DONE. */
void upd_pump_hexdigests(const struct upd_pump *pump, struct upd_hexdigests *ret);

/* Stops whatever goes on, in any state; cannot fail. How far it had come when all stood still. */
enum upd_phase upd_pump_close(struct upd_pump *pump);

/* Decrypt AES-128-CBC (NIST SP 800-38A) without padding; beside the pipeline, for the reply to a
 * registration. len is a multiple of 16, else UPD_OPTIONS; key and iv have 16 bytes, ret has room
 * for len. UPD_RESOURCES: libcrypto cannot. */
int upd_aes128_cbc_decrypt(const unsigned char *key, const unsigned char *iv,
			   const unsigned char *from, size_t len, unsigned char *ret);
