/* Looks for a pattern in the whole address space of this process: whether a worker sees other calls' data.
 *
 * The pattern's halves come complemented and are compared complemented, so that the search itself does not put
 * the pattern into memory. Where /proc/self/maps may be opened it says what there is; else the neighbourhood of
 * all that a plugin knows is probed, with a handler for faults. */
#include "wicked.h"
#include <fcntl.h>
#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((uintptr_t)4096)
#define GAP (64 << 20)               /* probing goes on over holes of this size, bytes */
#define BYTES_MAX ((int64_t)8 << 30) /* and no more than this is looked at */
#define REGIONS_MAX 4096

typedef struct search {
  uint64_t low, high; /* complemented */
  int64_t found, bytes;
  int regions;
  uintptr_t begin[REGIONS_MAX], end[REGIONS_MAX]; /* what was looked at, so that nothing is counted twice */
} search;

static __thread sigjmp_buf fault;
static void on_fault(int number) { siglongjmp(fault, number); }

/* Counts in [begin, end); reads 15 bytes beyond its last position only where `reach` allows. */
static void count(search *s, uintptr_t begin, uintptr_t end) {
  int64_t found = 0;
  for (uintptr_t at = begin; at + 16 <= end; at++) {
    uint64_t word;
    memcpy(&word, (const void *)at, 8);
    if (__builtin_expect(~word == s->low, 0)) {
      memcpy(&word, (const void *)(at + 8), 8);
      found += ~word == s->high;
    }
  }
  s->found += found;
  s->bytes += (int64_t)(end - begin);
}

/* All of a region that can be read. */
static void look(search *s, uintptr_t begin, uintptr_t end) {
  volatile uintptr_t at = begin;
  while (at < end && s->bytes < BYTES_MAX) {
    uintptr_t stop = at + (1 << 20) < end ? at + (1 << 20) : end;
    uintptr_t reach = stop + 15 < end ? stop + 15 : end;
    if (sigsetjmp(fault, 1) == 0) {
      count(s, at, reach);
      at = stop;
      continue;
    }
    /* Page by page through what could not be read as a whole. */
    for (volatile uintptr_t page = at; page < stop; page += PAGE) {
      if (sigsetjmp(fault, 1) == 0) count(s, page, page + PAGE);
    }
    at = stop;
  }
}

static int is_readable(uintptr_t page) {
  if (sigsetjmp(fault, 1) != 0) return 0;
  (void)*(volatile char *)page;
  return 1;
}

/* The region that was looked at and holds this address, or -1. */
static int known(const search *s, uintptr_t at) {
  for (int i = 0; i < s->regions; i++)
    if (at >= s->begin[i] && at < s->end[i]) return i;
  return -1;
}

static void add(search *s, uintptr_t begin, uintptr_t end) {
  if (s->regions == REGIONS_MAX || begin >= end) return;
  s->begin[s->regions] = begin;
  s->end[s->regions++] = end;
  look(s, begin, end);
}

/* Whole neighbourhood of an address: up or down over what can be read and over holes up to GAP. */
static void probe(search *s, uintptr_t anchor, int is_up) {
  uintptr_t at = anchor & ~(PAGE - 1), start = 0;
  int64_t hole = 0;
  while (hole < GAP && at >= 65536 && at < (uintptr_t)1 << 47) {
    int region = known(s, at);
    int is_there = region < 0 && is_readable(at);
    if (is_there && !start) start = at;
    if (!is_there && start) {
      if (is_up) add(s, start, at);
      else add(s, at + PAGE, start + PAGE);
      start = 0;
    }
    hole = region >= 0 || is_there ? 0 : hole + (int64_t)PAGE;
    if (region >= 0) at = is_up ? s->end[region] : s->begin[region] - PAGE;
    else at = is_up ? at + PAGE : at - PAGE;
  }
}

static int add_segments(struct dl_phdr_info *info, size_t size, void *raw) {
  (void)size;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
    probe(raw, info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, 1);
  }
  return 0;
}

static void probe_all(search *s, const moment *at) {
  void *block = malloc(64), *big = malloc(1 << 20);
  void *map = mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const void *anchors[16] = {
      &block, block, big, map, at->call, at->attributes, at->call->inputs, at->call->inputs[0].data,
      at->call->outputs, at->call->outputs[0].data, at->call->host, at->call->state,
      at->chunk ? at->chunk->accumulator : 0, environ, (void *)getauxval(AT_PHDR),
      (void *)getauxval(AT_SYSINFO_EHDR)};
  dl_iterate_phdr(add_segments, s);
  for (int i = 0; i < 16; i++) {
    if (!anchors[i]) continue;
    probe(s, (uintptr_t)anchors[i], 1);
    probe(s, (uintptr_t)anchors[i], 0);
  }
  munmap(map, PAGE);
  free(big);
  free(block);
}

/* Returns whether the kernel said what there is. */
static int search_maps(search *s) {
  static char text[1 << 20];
  size_t length = 0;
  ssize_t part;
  int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  while ((part = read(file, text + length, sizeof text - 1 - length)) > 0) length += (size_t)part;
  close(file);
  text[length] = 0;
  for (char *line = text; line && *line; line = strchr(line, '\n'), line += line != 0) {
    unsigned long begin, end;
    char access[5];
    char *stop = strchr(line, '\n');
    if (sscanf(line, "%lx-%lx %4s", &begin, &end, access) != 3 || access[0] != 'r') continue;
    /* The kernel's own pages are nobody's data, and reading some of them faults. */
    if (stop && (memmem(line, (size_t)(stop - line), "[vvar", 5) ||
                 memmem(line, (size_t)(stop - line), "[vsyscall]", 10)))
      continue;
    add(s, begin, end);
  }
  return 1;
}

void deed_search(moment *at) {
  static search s;
  struct sigaction action, segv, bus;
  int way;
  if (!at->call) return;
  memset(&s, 0, sizeof s);
  memset(&action, 0, sizeof action);
  action.sa_handler = on_fault;
  action.sa_flags = SA_NODEFER;
  sigaction(SIGSEGV, &action, &segv);
  sigaction(SIGBUS, &action, &bus);
  s.low = (uint64_t)at->attributes[LOW].as.integer;
  s.high = (uint64_t)at->attributes[HIGH].as.integer;
  way = search_maps(&s) ? 1 : 2;
  if (way == 2) probe_all(&s, at);
  sigaction(SIGSEGV, &segv, 0);
  sigaction(SIGBUS, &bus, 0);
  answer(at, (double)s.found);
  if (output(at) && output(at)->element_count >= 4) {
    float *y = output(at)->data;
    y[0] = (float)s.found;
    y[1] = (float)(s.bytes >> 20);
    y[2] = (float)way;
    y[3] = (float)s.regions;
  }
}
