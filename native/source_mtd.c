/* SPDX-License-Identifier: MIT */
/*
 * What an MTD partition holds as a source: its good blocks in order, as a bootloader reads them.
 * The announced size decides how much of it belongs to the image; without one it is all of them.
 * What ECC cannot correct ends it: half-right bytes are nobody's firmware.
 */
#include <fcntl.h>
#include <stdlib.h>

#include "mtd.h"
#include "source.h"

struct mtd_source {
	struct upd_source base;
	struct upd_mtd mtd;
	uint64_t offset;
	uint64_t end;
};

static int mtd_read(struct upd_source *base, unsigned char *buf, size_t len, size_t *ret,
		    struct upd_error *reterr)
{
	struct mtd_source *source = (struct mtd_source *)base;
	const uint64_t left = source->end - source->offset;
	const size_t wanted = left < len ? (size_t)left : len;

	if (upd_mtd_read(&source->mtd, buf, wanted, source->offset, reterr) != 0) {
		reterr->status = UPD_SOURCE;
		return UPD_SOURCE;
	}
	source->offset += wanted;
	*ret = wanted;
	return 0;
}

/* What is there is there: no validator is needed. */
static int mtd_seek(struct upd_source *base, uint64_t offset, const char *validator,
		    struct upd_error *reterr)
{
	struct mtd_source *source = (struct mtd_source *)base;

	(void)validator;
	if (offset > source->end)
		return upd_fail(reterr, UPD_AGAIN, "the flash ends before byte %llu",
				(unsigned long long)offset);
	source->offset = offset;
	return 0;
}

static void mtd_close(struct upd_source *base)
{
	struct mtd_source *source = (struct mtd_source *)base;

	upd_mtd_close(&source->mtd);
	free(source);
}

static const struct upd_source_ops mtd_ops = {
	.read = mtd_read,
	.close = mtd_close,
	.seek = mtd_seek,
};

static int open_flash(struct mtd_source *source, const struct upd_options *options,
		      struct upd_error *reterr)
{
	int status = upd_mtd_open(&source->mtd, options->source, O_RDONLY, 0, reterr);
	uint64_t held;

	if (status != 0)
		return status;
	held = upd_mtd_capacity(&source->mtd);
	if (options->size > held)
		return upd_fail(reterr, UPD_LENGTH,
				"the flash has %llu bytes in good blocks, %llu were announced",
				(unsigned long long)held, (unsigned long long)options->size);
	source->end = options->size ? options->size : held;
	source->base.size = source->end;
	return 0;
}

int upd_source_mtd_open(const struct upd_options *options, const atomic_int *is_cancelled,
			struct upd_source **ret, struct upd_error *reterr)
{
	struct mtd_source *source = calloc(1, sizeof(*source));
	int status;

	if (!source)
		return upd_fail(reterr, UPD_RESOURCES, "no memory");
	source->base.ops = &mtd_ops;
	source->base.is_cancelled = is_cancelled;
	status = open_flash(source, options, reterr);
	if (status != 0) {
		mtd_close(&source->base);
		return status;
	}
	*ret = &source->base;
	return 0;
}
