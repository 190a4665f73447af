/* Counts a process's allocations: LD_PRELOAD it, with ALLOCATION_COUNT naming a file of 8 bytes, which then holds how many
 * there have been, for whoever maps it. With ALLOCATION_TRACE=1 in the second 8 bytes, the next ones are followed by their
 * call stack on standard error. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t here[2];
static volatile uint64_t *count = here;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static __thread int inside;

static void note(void) {
  __atomic_fetch_add(&count[0], 1, __ATOMIC_RELAXED);
  if (count[1] && !inside) {
    inside = 1;
    void *frames[24];
    int depth = backtrace(frames, 24);
    count[1]--;
    ssize_t ignored = write(2, "--- allocation\n", 15);
    (void)ignored;
    backtrace_symbols_fd(frames + 2, depth - 2, 2);
    inside = 0;
  }
}

__attribute__((constructor)) static void start(void) {
  const char *file = getenv("ALLOCATION_COUNT");
  int fd = file ? open(file, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *memory = mmap(0, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
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
