/* Counts what a process does that costs: LD_PRELOAD it, with CALL_COUNT naming a file of 24 bytes for whoever maps it.
 * The first eight bytes are the number of its allocations, the second that of its waits, reads and writes on sockets;
 * as many allocations as the third says are followed by their call stack on standard error. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static uint64_t here[3];
static volatile uint64_t *count = here;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static __thread int inside;

static void note(void) {
  __atomic_fetch_add(&count[0], 1, __ATOMIC_RELAXED);
  if (count[2] && !inside) {
    inside = 1;
    void *frames[24];
    int depth = backtrace(frames, 24);
    count[2]--;
    ssize_t ignored = write(2, "--- allocation\n", 15);
    (void)ignored;
    backtrace_symbols_fd(frames + 2, depth - 2, 2);
    inside = 0;
  }
}

__attribute__((constructor)) static void start(void) {
  const char *file = getenv("CALL_COUNT");
  int fd = file ? open(file, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *memory = mmap(0, 24, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  /* Loads what backtrace needs, which allocates. */
  void *frames[2];
  backtrace(frames, 2);
  if (memory != MAP_FAILED) count = memory;
}

void *malloc(size_t size) {
  note();
  return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
  note();
  return __libc_calloc(number, size);
}

void *realloc(void *memory, size_t size) {
  note();
  return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size) {
  note();
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  note();
  return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
  note();
  *memory = __libc_memalign(alignment, size);
  return *memory ? 0 : 12;
}

#define SYSTEM_CALL(result, name, declared, given)                              \
  result name declared {                                                        \
    static result(*real) declared;                                              \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);                       \
    __atomic_fetch_add(&count[1], 1, __ATOMIC_RELAXED);                         \
    return real given;                                                          \
  }

SYSTEM_CALL(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
SYSTEM_CALL(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
SYSTEM_CALL(ssize_t, recv, (int fd, void *bytes, size_t size, int flags), (fd, bytes, size, flags))
SYSTEM_CALL(ssize_t, send, (int fd, const void *bytes, size_t size, int flags), (fd, bytes, size, flags))
SYSTEM_CALL(ssize_t, readv, (int fd, const struct iovec *parts, int number), (fd, parts, number))
SYSTEM_CALL(ssize_t, writev, (int fd, const struct iovec *parts, int number), (fd, parts, number))
SYSTEM_CALL(int, epoll_pwait,
            (int fd, struct epoll_event *events, int number, int timeout, const sigset_t *mask),
            (fd, events, number, timeout, mask))
SYSTEM_CALL(int, epoll_wait, (int fd, struct epoll_event *events, int number, int timeout),
            (fd, events, number, timeout))
SYSTEM_CALL(int, epoll_ctl, (int fd, int what, int other, struct epoll_event *event),
            (fd, what, other, event))
