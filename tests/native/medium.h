/* SPDX-License-Identifier: MIT */
/* What drive.c asks of medium.c: to fail, to lie, to wait, to write down. See there. */
#ifndef UPD_TEST_MEDIUM_H
#define UPD_TEST_MEDIUM_H

/* The regular file that plays the block device; every other path stays what it is. */
void medium_play(const char *path, unsigned long sector);

/* Plan one fault, written as `operation:n:what`; 0 if there is no such operation. */
int medium_plan(const char *fault);

/* Write every write, flush and read of the device down in the file at path. */
void medium_record(const char *path);

/* Whether the planned fault has happened, or is waiting to go on. */
int medium_has_happened(void);

/* Let an operation go on that waits. */
void medium_release(void);

#endif
