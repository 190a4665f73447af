/* Crashes and hangs. */
#include "wicked.h"
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#define WILD ((void *)(uintptr_t)0x00005bad5bad5000u)
#else
#define WILD ((void *)(uintptr_t)0x00000bad5bad5000u)
#endif

void deed_none(moment *at) { (void)at; }

void deed_segv_null(moment *at) {
  (void)at;
  *(volatile int *)wicked_nowhere = 1;
}

void deed_segv_wild(moment *at) {
  wicked_nowhere = WILD;
  answer(at, *(volatile int *)wicked_nowhere);
}

void deed_segv_jump(moment *at) {
  union {
    void *data;
    void (*code)(void);
  } jump;
  (void)at;
  jump.data = wicked_nowhere = WILD;
  jump.code();
}

void deed_segv_readonly(moment *at) {
  static const int constant = 1;
  (void)at;
  wicked_nowhere = (void *)(uintptr_t)&constant;
  *(volatile int *)wicked_nowhere = 2;
}

void deed_bus(moment *at) {
  (void)at;
#if defined(__x86_64__)
  /* An address that is not canonical, reached by the frame pointer, is a stack fault: SIGBUS without a
   * system call, which a sandbox could refuse. */
  __asm__ volatile("push %%rbp\n\tmovabs $0x8000000000000000, %%rbp\n\tmov (%%rbp), %%rax\n\tpop %%rbp"
                   : : : "rax", "memory");
#else
  int file = memfd_create("bus", 0);
  volatile int *page = mmap(0, 4096, PROT_READ, MAP_SHARED, file, 0);
  (void)*page;
#endif
}

void deed_ill(moment *at) {
  (void)at;
#if defined(__x86_64__)
  __asm__ volatile("ud2");
#elif defined(__aarch64__)
  __asm__ volatile(".inst 0");
#else
  raise(SIGILL);
#endif
}

void deed_fpe(moment *at) {
#if defined(__x86_64__)
  volatile int seven = 7, zero = 0;
  answer(at, seven / zero);
#else
  (void)at;
  raise(SIGFPE);
#endif
}

void deed_abrt(moment *at) {
  (void)at;
  abort();
}

void deed_trap(moment *at) {
  (void)at;
#if defined(__x86_64__)
  __asm__ volatile("int3");
#else
  raise(SIGTRAP);
#endif
}

static int deeper(volatile char *above) {
  volatile char frame[4096];
  frame[0] = above[0];
  if (frame[0]) return 1; /* never, but no compiler knows */
  return deeper(frame) + frame[0];
}

void deed_stack(moment *at) {
  volatile char frame[1] = {0};
  answer(at, deeper(frame));
}

void deed_heap(moment *at) {
  char *block = malloc(64);
  (void)at;
  wicked_nowhere = block + 16;
  free(wicked_nowhere);
}

void deed_raise(moment *at) { raise((int)argument(at, SIGKILL)); }

/* -- Hangs */

void deed_hang(moment *at) {
  volatile int for_ever = 1;
  (void)at;
  while (for_ever) {
  }
}

void deed_sleeps(moment *at) {
  unsigned left = (unsigned)argument(at, 3);
  while (left) left = sleep(left);
}

void deed_pauses(moment *at) {
  (void)at;
  for (;;) pause();
}

void deed_lock(moment *at) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  (void)at;
  pthread_mutex_lock(&lock);
  pthread_mutex_lock(&lock);
}

void deed_slow(moment *at) {
  volatile double x = 1;
  if (!at->call) return;
  while (!at->call->host->cancelled(at->call)) {
    for (int i = 0; i < 100000; i++) x = x * 1.0000001;
  }
  at->code = LOSSD_INTERNAL;
}
