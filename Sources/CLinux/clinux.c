#define _GNU_SOURCE
#include "clinux.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clinux_accept(int fd) { return accept4(fd, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC); }

int clinux_peer_credentials(int fd, int32_t *pid, uint32_t *uid, uint32_t *gid) {
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -1;
  *pid = credentials.pid;
  *uid = credentials.uid;
  *gid = credentials.gid;
  return 0;
}

void clinux_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

void clinux_lower_priority(int steps) {
  /* On Linux a thread has its own nice value, under its own id. */
  id_t thread = (id_t)syscall(SYS_gettid);
  int now = getpriority(PRIO_PROCESS, thread);
  setpriority(PRIO_PROCESS, thread, now + steps > 19 ? 19 : now + steps);
}

int clinux_has_avx2(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
#else
  return 0;
#endif
}

int clinux_has_avx512(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return clinux_has_avx2() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
#else
  return 0;
#endif
}

int clinux_memory_file(const char *name) {
  return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

int clinux_seal(int fd) {
  return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
}

#if defined(__x86_64__)
uint32_t clinux_float_mode(void) { return __builtin_ia32_stmxcsr() & ~0x3Fu; }
void clinux_set_float_mode(uint32_t mode) { __builtin_ia32_ldmxcsr(mode); }
#elif defined(__aarch64__)
uint32_t clinux_float_mode(void) {
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  return (uint32_t)mode;
}
void clinux_set_float_mode(uint32_t mode) {
  uint64_t wide = mode;
  __asm__ volatile("msr fpcr, %0" : : "r"(wide));
}
#else
uint32_t clinux_float_mode(void) { return 0; }
void clinux_set_float_mode(uint32_t mode) { (void)mode; }
#endif

static __thread const char *activity;

const char *clinux_set_activity(const char *text) {
  const char *before = activity;
  activity = text;
  return before;
}

const char *clinux_activity(void) { return activity; }

static int record = -1;

/* Only what a signal handler may do: write, clock_gettime. */
static void say(const char *what) {
  if (!activity) return;
  char line[600];
  size_t count = 0;
#define PUT(text) \
  for (const char *c = (text); *c && count < sizeof line - 2; c++) line[count++] = *c
  PUT("<2>lossd: ");
  PUT(what);
  PUT(" in ");
  PUT(activity);
  line[count++] = '\n';
  ssize_t ignored = write(2, line, count);
  if (record >= 0) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char digits[24];
    int place = sizeof digits - 1;
    digits[place] = 0;
    long seconds = now.tv_sec;
    do digits[--place] = (char)('0' + seconds % 10);
    while ((seconds /= 10) > 0);
    count = 0;
    PUT(digits + place);
    PUT(" ");
    PUT(what);
    PUT(" ");
    PUT(activity);
    line[count++] = '\n';
    ignored = write(record, line, count);
  }
#undef PUT
  (void)ignored;
}

static void crashed(int number) {
  say(number == SIGSEGV   ? "SIGSEGV"
      : number == SIGBUS  ? "SIGBUS"
      : number == SIGILL  ? "SIGILL"
      : number == SIGFPE  ? "SIGFPE"
                          : "SIGABRT");
  /* No handler returns from a crash: the default action comes next. */
  signal(number, SIG_DFL);
  raise(number);
}

static void exited(void) { say("exit"); }

void clinux_report_crashes(const char *file) {
  if (file && *file)
    record = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  /* A stack of its own, for a crash by a stack that is full; of the calling thread alone. */
  static char stack[1 << 16];
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&alternate, 0);
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = crashed;
  action.sa_flags = SA_ONSTACK | SA_NODEFER;
  const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sigaction(numbers[i], &action, 0);
  atexit(exited);
}
