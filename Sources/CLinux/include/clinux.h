/* CLinux: Linux calls that Swift's Glibc module does not show, because it is built without _GNU_SOURCE. */
#ifndef CLINUX_H
#define CLINUX_H

#include <stddef.h>
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

/* Whether Intel made the processor. */
int clinux_is_intel(void);

/* An anonymous file for a copy of a library; -1 with errno set. */
int clinux_memory_file(const char *name);

/* openat with O_PATH: a place in the tree of files, for fstat and further openat, without access to what is there. */
int clinux_open_place(int folder, const char *name, int flags);

/* Seals it: it can no longer be written, grown or shrunk. 0, or -1 with errno set. */
int clinux_seal(int fd);

/* ---- Threads that run code of plugins (crash.c) ---- */

/* The floating-point mode of the calling thread (rounding, flush to zero), and back to it. */
uint64_t clinux_float_mode(void);
void clinux_set_float_mode(uint64_t mode);

/* What the calling thread is just calling, for the line that a crash leaves behind; NULL: nothing. The
 * text must live as long as it is set. Returns what was set before. */
const char *clinux_set_activity(const char *text);
const char *clinux_activity(void);

/* From now on a crash, or an exit, in the middle of an activity writes a line that names it, and adds one to `file`
 * unless that is empty: seconds since 1970 with nine decimals, what happened, the activity. Lines begin with `line_begin`, which must live
 * for ever. 0, or the errno of the file's opening. */
int clinux_report_crashes(const char *file, const char *line_begin);

/* What a crash outside of any activity may have been caused by; the text must live for ever. */
void clinux_set_suspects(const char *text);

/* Makes the calling thread one whose crashes are reported, by a stack of its own for it; with ALL, for good, also one
 * that cannot fork, execute, change the working directory or end the process without a report. Whether it had no such
 * stack before. */
#define CLINUX_WATCH_CRASHES 1
#define CLINUX_WATCH_ALL 2
int clinux_watch_thread(int what);
/* Puts back the signal mask that it had then. */
void clinux_restore_thread(void);
/* Puts the environment back that the process began with, where something has been put into it since. */
void clinux_restore_environment(void);
/* To be called by a watched thread before it ends. */
void clinux_unwatch_thread(void);

/* ---- Other processes (process.c) ---- */

#define CLINUX_SPAWN_FDS_MAX 8
#define CLINUX_MESSAGE_FDS_MAX 40

/* Starts a program with the given descriptors as 2, 3, ..., /dev/null as 0 and 1, nothing else open, no signal
 * blocked or ignored, as a process group of its own. 0 and its id in *pid, or an errno. */
int clinux_spawn(int32_t *pid, const char *path, char *const argv[], char *const envp[],
                 const int *fds, int count);

/* From now on this process is killed when the thread that started it ends, which may have happened before. 0, or -1
 * with errno set. */
int clinux_end_with_parent(void);

/* The first two arguments of a process that runs a plugin; the third is the plugin's name. */
#define CLINUX_PROCESS_PROGRAM "lossd"
#define CLINUX_PROCESS_COMMAND "plugin-host"

/* Names this process, whose arguments are the above, and the calling thread after a plugin: in the list of processes by
 * the first 15 bytes, in the third argument where there is room. */
void clinux_name_process(const char *name);

/* Whether a child has ended, and then the signal that ended it, or 0 and its status. Does not wait. */
int clinux_wait(int32_t pid, int *signal_number, int *exit_status);

/* `SEGV`, `KILL`. */
const char *clinux_signal_name(int number);

/* Two connected Unix sockets that keep messages apart (SOCK_SEQPACKET), close-on-exec, for messages of at most
 * `bytes`. Where the kernel can see to that (Linux 6.16), the first receives no descriptors: the sender of one gets EPERM.
 * 0, or -1 with errno set. */
int clinux_message_pair(int fds[2], int bytes);

/* A pipe, close-on-exec, whose reading end (the first) never waits. 0, or -1 with errno set. */
int clinux_pipe(int fds[2]);

/* One message and the descriptors that go with it. The bytes sent or received (0: the peer is gone), or -1 with
 * errno set: EAGAIN where it would have to wait, EMSGSIZE where it is too long. Descriptors received are
 * close-on-exec and the caller's. */
long clinux_send_message(int fd, const void *bytes, size_t count, const int *fds, int fd_count,
                         int wait);
long clinux_receive_message(int fd, void *bytes, size_t count, int *fds, int *fd_count, int wait);

/* Anonymous memory of a fixed size, mapped here for reading and writing, zeroed, its pages allocated when they are
 * first used. Others who get the descriptor can map it, with `read_only_for_others` for reading alone. -1 with errno
 * set. */
int clinux_shared_memory(const char *name, size_t bytes, int read_only_for_others, void **base);

/* A word that two processes share. */
static inline uint64_t clinux_load(const uint64_t *word) {
  return __atomic_load_n(word, __ATOMIC_RELAXED);
}
static inline void clinux_store(uint64_t *word, uint64_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/* Maps `bytes` of it, without access until mprotect gives it; NULL with errno set. */
void *clinux_map(int fd, size_t bytes);

/* Enters pages that can be accessed into the page table at once; what fails costs a fault a page. -1 with errno set. */
int clinux_populate(void *memory, size_t bytes, int writable);

/* Allocates the pages of a piece of shared memory, mapped at `memory`: one that cannot be had is an error here, and
 * a SIGBUS for who writes to it first. -1 with errno set. */
int clinux_allocate(int fd, void *memory, size_t offset, size_t bytes);

/* ---- Clients' shared memory and descriptors (region.c) ---- */

struct iovec;

/* Memory of a fixed size for a client: a memfd that can neither shrink, grow nor be sealed otherwise, mapped here for
 * reading and writing and in no child. Its pages are allocated when they are first used. The descriptor, close-on-exec,
 * or -1 with errno set. */
int clinux_region(size_t bytes, void **base);

/* Frees the pages of a piece of such memory, at multiples of a page, in every process: what is read there later is 0.
 * 0, or -1 with errno set. */
int clinux_free_pages(void *memory, size_t bytes);

/* From now on nobody can send descriptors to this socket, nor to those that will be accepted from it
 * (SO_PASSRIGHTS 0). 0, or -1 with errno set where the kernel is older than 6.16. */
int clinux_refuse_descriptors(int fd);

/* Whether descriptors may have been sent to it: it has never refused them. */
int clinux_may_hold_descriptors(int fd);

/* As many as Linux lets a message have (SCM_MAX_FD): with room for all of them the kernel closes none in the receiver,
 * where that may take as long as the sender likes. */
#define CLINUX_DESCRIPTORS_MAX 253

/* recvmsg that never waits, and takes all descriptors that came along, close-on-exec: the caller's. The bytes received
 * (0: end of file), or -1 with errno set. */
long clinux_receive(int fd, struct iovec *vectors, size_t count, int32_t *descriptors,
                    size_t *descriptor_count);

/* recvmsg of a client's, which waits where the socket does, and takes the descriptor that its server has sent along,
 * close-on-exec: the caller's; -1 in *descriptor: none. In *is_lost whether one could not be had, because this process has
 * no room for more. The bytes received (0: end of file), or -1 with errno set. */
long clinux_receive_one(int fd, struct iovec *vectors, size_t count, int32_t *descriptor, int *is_lost);

/* Maps memory of a server's making for reading and writing, `bytes` of it from the beginning: only what is sealed against
 * becoming shorter and is that long, so that touching it is never a SIGBUS. NULL with errno set, EINVAL where it is not. */
void *clinux_map_sealed(int fd, size_t bytes);

/* Signal handlers and mask, locale and working directory as they are. `restore` puts back what has changed
 * since, frees, and returns the name of a thing that had; NULL: nothing had. */
struct clinux_habits;
struct clinux_habits *clinux_habits_save(void);
const char *clinux_habits_restore(struct clinux_habits *habits);

int clinux_no_new_privileges(void);
/* Of the calling thread, and of those that it starts; root's too. */
int clinux_drop_capabilities(void);

/* This process makes no core files, and others of its user cannot look into it (PR_SET_DUMPABLE). 0, or -1 with errno
 * set. */
int clinux_forbid_inspection(void);

/* Processor time that a process has used, all threads together, nanoseconds; 0 where it is not there. */
uint64_t clinux_processor_time(int32_t pid);

/* Sets a resource limit, soft and hard, to `value` or what the hard limit is already. 0, or -1 with errno set. */
int clinux_set_limit(int resource, uint64_t value);

/* From now on the calling thread, and those that it starts, can open no file but beneath these (NULL-terminated), for
 * reading and executing. By the version of Landlock they can besides: from 4 (Linux 6.7) on reach no TCP port, from 6
 * (Linux 6.12) on send no signal to another process, by SIGIO either, and reach no abstract Unix socket. Returns the
 * version that is in force; 0: nothing is, since the kernel has no Landlock or refuses it. */
int clinux_confine_files(const char *const *readable);

/* Makes the calling thread nicer by so many steps; what fails changes speed at most. */
void clinux_lower_priority(int steps);

#endif
