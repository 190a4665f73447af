/* CLinux: Linux calls that Swift's Glibc module does not show, because it is built without _GNU_SOURCE. */
#ifndef CLINUX_H
#define CLINUX_H

#include <stdint.h>

/* accept4(fd) with SOCK_NONBLOCK and SOCK_CLOEXEC; the new descriptor, or -1 with errno set. */
int clinux_accept(int fd);

/* SO_PEERCRED of a Unix socket; 0, or -1 with errno set. */
int clinux_peer_credentials(int fd, int32_t *pid, uint32_t *uid, uint32_t *gid);

/* Names the calling thread, at most 15 bytes, for tools such as top. */
void clinux_name_thread(const char *name);

/* Whether the processor has AVX2, FMA, F16C and BMI2. */
int clinux_has_avx2(void);

/* Whether it has AVX-512 F, DQ, BW and VL besides. */
int clinux_has_avx512(void);

/* An anonymous file for a copy of a library; -1 with errno set. */
int clinux_memory_file(const char *name);

/* Seals it: it can no longer be written, grown or shrunk. 0, or -1 with errno set. */
int clinux_seal(int fd);

/* The floating-point mode of the calling thread (rounding, flush to zero), and back to it. */
uint32_t clinux_float_mode(void);
void clinux_set_float_mode(uint32_t mode);

/* What the calling thread is just calling, for the line that a crash leaves behind; NULL: nothing. The
 * text must live as long as it is set. Returns what was set before. */
const char *clinux_set_activity(const char *text);

/* From now on a crash, or a call of exit in the middle of an activity, writes a line that names it. */
void clinux_report_crashes(void);

/* Makes the calling thread nicer by so many steps; what fails changes speed at most. */
void clinux_lower_priority(int steps);

#endif
