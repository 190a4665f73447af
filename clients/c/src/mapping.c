/* Mappings of what a daemon sends. */
#include "mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Sealed first, then measured: from then on it cannot become shorter, and touching it is never a SIGBUS. */
static void *map(int descriptor, size_t bytes) {
  struct stat file;
  int seals = fcntl(descriptor, F_GET_SEALS);
  if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(descriptor, &file) != 0 || (uint64_t)file.st_size < bytes) {
    return NULL;
  }
  void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  return base == MAP_FAILED ? NULL : base;
}

/* Every page of a private mapping becomes this process's own, as it is, also where other threads write there. */
static int own_pages(unsigned char *base, size_t size) {
  if (madvise(base, size, MADV_POPULATE_WRITE) == 0) return 1;
  if (errno != EINVAL) return 0;
  /* Linux before 5.14. Locking a private page also makes it one's own. */
  for (size_t at = 0; at < size; at += 65536) {
    size_t piece = size - at < 65536 ? size - at : 65536;
    if (mlock(base + at, piece) != 0) return 0;
    munlock(base + at, piece);
  }
  return 1;
}

/* From one mapping to the other: no write is lost in between, since both show the same pages. */
static int keep(void *base, size_t bytes, int descriptor, uint64_t mark) {
  uint64_t found = 0;
  return mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, descriptor, 0) == base &&
         own_pages(base, bytes) && pread(descriptor, &found, sizeof found, 0) == (ssize_t)sizeof found && found == mark;
}

static void unmap(void *base, size_t bytes) { munmap(base, bytes); }

static void close_descriptor(int descriptor) { close(descriptor); }

const struct core_memory *mapping_memory(void) {
  static const struct core_memory memory = {map, keep, unmap, close_descriptor};
  return &memory;
}
