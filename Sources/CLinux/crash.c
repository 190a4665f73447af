/* Threads that run code of plugins: what is put back after it, and what is said when it ends the process. */
#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* ---- The floating-point mode ---- */

#if defined(__x86_64__)
/* MXCSR without its sticky flags; above it the x87's control word, which libc's conversions of numbers heed. */
uint64_t clinux_float_mode(void) {
  uint16_t word;
  __asm__ volatile("fnstcw %0" : "=m"(word));
  return (__builtin_ia32_stmxcsr() & ~0x3Fu) | (uint64_t)word << 32;
}
void clinux_set_float_mode(uint64_t mode) {
  uint16_t now, word = (uint16_t)(mode >> 32);
  __builtin_ia32_ldmxcsr((uint32_t)mode);
  __asm__ volatile("fnstcw %0" : "=m"(now));
  if (now != word) __asm__ volatile("fldcw %0" : : "m"(word));
}
#elif defined(__aarch64__)
uint64_t clinux_float_mode(void) {
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
void clinux_set_float_mode(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
uint64_t clinux_float_mode(void) { return 0; }
void clinux_set_float_mode(uint64_t mode) { (void)mode; }
#endif

/* ---- What a thread is doing ---- */

static __thread const char *activity;

const char *clinux_set_activity(const char *text) {
  const char *before = activity;
  activity = text;
  return before;
}

const char *clinux_activity(void) { return activity; }

/* ---- What is said at the end ---- */

static int record = -1;
static const char *prefix = "";
static const char *suspects;
/* One line an end: exit, whose handlers say it, comes to exit_group as well. */
static int is_said;

void clinux_set_suspects(const char *text) { __atomic_store_n(&suspects, text, __ATOMIC_RELEASE); }

typedef struct line {
  char text[600];
  size_t count;
} line;

static void put(line *line, const char *text) {
  /* The last byte is the line end's. */
  for (; *text && line->count < sizeof line->text - 1; text++) line->text[line->count++] = *text;
}

static void put_number(line *line, long number) {
  char digits[24];
  int place = sizeof digits - 1;
  digits[place] = 0;
  do digits[--place] = (char)('0' + number % 10);
  while ((number /= 10) > 0);
  put(line, digits + place);
}

static void write_line(int file, line *line) {
  line->text[line->count++] = '\n';
  ssize_t ignored = write(file, line->text, line->count);
  (void)ignored;
}

/* Only what a signal handler may do: write, clock_gettime. */
static void say(const char *what) {
  const char *others = __atomic_load_n(&suspects, __ATOMIC_ACQUIRE);
  line said = {.count = 0}, recorded = {.count = 0};
  if (__atomic_exchange_n(&is_said, 1, __ATOMIC_RELAXED)) return;
  put(&said, prefix);
  put(&said, "lossd: ");
  put(&said, what);
  if (!activity) {
    /* Which of them has spoilt what the daemon stumbled over, if any, nobody can tell. */
    if (!others || !*others) return;
    put(&said, " outside of any plugin's callback; in the daemon are the plugins ");
    put(&said, others);
    return write_line(2, &said);
  }
  put(&said, " in ");
  put(&said, activity);
  write_line(2, &said);
  if (record < 0) return;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  put_number(&recorded, now.tv_sec);
  put(&recorded, " ");
  put(&recorded, what);
  put(&recorded, " ");
  put(&recorded, activity);
  write_line(record, &recorded);
}

static const struct {
  int number;
  const char *name;
} signals[] = {{SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGILL, "SIGILL"}, {SIGFPE, "SIGFPE"},
               {SIGABRT, "SIGABRT"}, {SIGTRAP, "SIGTRAP"}};

static void crashed(int number, siginfo_t *info, void *context) {
  (void)context;
  /* What another process has sent, a watchdog's SIGABRT for one, is no plugin's doing. */
  if (info->si_code > 0 || info->si_pid == getpid()) {
    const char *name = "a signal";
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
      if (signals[i].number == number) name = signals[i].name;
    say(name);
  }
  /* No handler returns from a crash: SA_RESETHAND has made this the default action. */
  raise(number);
}

static void exited(void) {
  if (activity) say("exit");
}

/* exit_group with this in its upper half is the handler's own, which the filter lets pass; the kernel takes the
 * lowest byte alone. */
#define EXIT_MARK 0x4C530000u

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* of linux/siginfo.h, which libc's header does not go with */
#endif

static void trapped(int number, siginfo_t *info, void *raw) {
  ucontext_t *context = raw;
  long status = 3;
#if defined(__x86_64__)
  status = (long)context->uc_mcontext.gregs[REG_RDI];
#elif defined(__aarch64__)
  status = (long)context->uc_mcontext.regs[0];
#else
  (void)context;
#endif
  if (info->si_code != SYS_SECCOMP || info->si_syscall != __NR_exit_group) {
    if (info->si_code > 0) say("SIGSYS");
    raise(number);
    return;
  }
  if (activity) say("exit");
  syscall(SYS_exit_group, EXIT_MARK | (unsigned)(status & 0xFF));
}

/* ---- The environment ---- */

static char **own_environment;
static size_t own_count;

static void keep_environment(void) {
  while (environ && environ[own_count]) own_count++;
  own_environment = malloc((own_count + 1) * sizeof *own_environment);
  if (own_environment) memcpy(own_environment, environ, (own_count + 1) * sizeof *own_environment);
}

void clinux_restore_environment(void) {
  size_t i = 0;
  if (!own_environment || !environ) return;
  while (i <= own_count && environ[i] == own_environment[i]) i++;
  if (i <= own_count) environ = own_environment;
}

int clinux_report_crashes(const char *file, const char *line_begin) {
  int code = 0;
  keep_environment();
  prefix = line_begin;
  if (file && *file) {
    record = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (record < 0) code = errno;
  }
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = crashed;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESETHAND;
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
    sigaction(signals[i].number, &action, 0);
  action.sa_sigaction = trapped;
  sigaction(SIGSYS, &action, 0);
  atexit(exited);
  clinux_watch_thread(CLINUX_WATCH_CRASHES);
  return code;
}

/* ---- A thread's own ---- */

#define STACK_BYTES (64u << 10)

static __thread void *stack;
static __thread sigset_t mask;
static __thread int has_mask;

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW 4
#endif
#ifndef CLONE_THREAD
#define CLONE_THREAD 0x00010000
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)
#define REFUSE(number) RETURN(SECCOMP_RET_ERRNO | (number))

#define IF_SET(bits, yes, no) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, yes, no)
#define REFUSE_CALL(number, error) IF(number, 0, 1), REFUSE(error)

/* A thread that runs plugins' callbacks goes without the system calls that make another process of this one, move it
 * elsewhere, or end it without a word. What cannot be installed, on an old kernel, only makes it less safe. */
static void install_filter(void) {
#if defined(ARCHITECTURE)
  static const struct sock_filter program[] = {
      LOAD(arch),
      IF(ARCHITECTURE, 1, 0),
      RETURN(SECCOMP_RET_ALLOW),
      LOAD(nr),
      IF(__NR_exit_group, 0, 5),
      LOAD(args[0]),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xFFFF0000u),
      IF(EXIT_MARK, 0, 1),
      RETURN(SECCOMP_RET_ALLOW),
      RETURN(SECCOMP_RET_TRAP),
      REFUSE_CALL(__NR_execve, EPERM),
      REFUSE_CALL(__NR_execveat, EPERM),
      /* Who handles a signal is asked, not changed. */
      IF(__NR_rt_sigaction, 0, 5),
      LOAD(args[1]),
      IF(0, 0, 2),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]) + 4),
      IF(0, 1, 0),
      REFUSE(EPERM),
      LOAD(nr),
      REFUSE_CALL(__NR_chdir, EPERM),
      REFUSE_CALL(__NR_fchdir, EPERM),
#if defined(__NR_fork)
      REFUSE_CALL(__NR_fork, EPERM),
      REFUSE_CALL(__NR_vfork, EPERM),
#endif
      /* Its flags are behind a pointer; libc then tries clone. */
      REFUSE_CALL(__NR_clone3, ENOSYS),
      IF(__NR_clone, 0, 4),
      LOAD(args[0]),
      IF_SET(CLONE_THREAD, 0, 1),
      RETURN(SECCOMP_RET_ALLOW),
      REFUSE(EPERM),
      RETURN(SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {sizeof program / sizeof *program, (struct sock_filter *)program};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return;
  /* Without the flag, kernels before 5.16 would make the thread slow besides. */
  syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter);
#endif
}

int clinux_watch_thread(int what) {
  int had_none = !stack;
  if (!stack) {
    void *memory = mmap(0, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t alternate = {.ss_sp = memory, .ss_size = STACK_BYTES};
    if (memory != MAP_FAILED && sigaltstack(&alternate, 0) == 0) stack = memory;
  }
  /* Swift's tasks run with most signals blocked, and so do threads that they start. */
  sigset_t crashes;
  sigemptyset(&crashes);
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaddset(&crashes, signals[i].number);
  sigaddset(&crashes, SIGSYS);
  pthread_sigmask(SIG_UNBLOCK, &crashes, 0);
  has_mask = pthread_sigmask(SIG_SETMASK, 0, &mask) == 0;
  if (what == CLINUX_WATCH_ALL) install_filter();
  return had_none && stack;
}

void clinux_restore_thread(void) {
  if (has_mask) pthread_sigmask(SIG_SETMASK, &mask, 0);
}

void clinux_unwatch_thread(void) {
  stack_t none = {.ss_flags = SS_DISABLE};
  if (!stack) return;
  sigaltstack(&none, 0);
  munmap(stack, STACK_BYTES);
  stack = 0;
}
