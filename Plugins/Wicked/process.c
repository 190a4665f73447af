/* What changes the process, or ends it. */
#include "wicked.h"
#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

void deed_pid(moment *at) { answer(at, (double)getpid()); }

void deed_calls(moment *at) {
  static int calls;
  answer(at, (double)__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED));
}

/* -- Ends */

void deed_exits(moment *at) { exit((int)argument(at, 3)); }
void deed_exits_at_once(moment *at) { _exit((int)argument(at, 3)); }

void deed_exits_thread(moment *at) {
  (void)at;
  pthread_exit(0);
}

void deed_executes(moment *at) {
  char *const arguments[] = {(char *)"true", 0};
  execv("/bin/true", arguments);
  answer(at, 0);
}

/* -- State */

void deed_float_mode(moment *at) {
  (void)at;
  fesetround(FE_UPWARD);
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
#elif defined(__aarch64__)
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  mode |= 1u << 24;
  __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#endif
}

void deed_signals(moment *at) {
  static const int ignored[] = {SIGTERM, SIGINT, SIGHUP};
  static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
  (void)at;
  for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
  for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++) signal(crashes[i], SIG_DFL);
}

void deed_signal_mask(moment *at) {
  sigset_t all;
  (void)at;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, 0);
}

void deed_locale(moment *at) {
  (void)at;
  if (!setlocale(LC_ALL, "de_DE.UTF-8")) setlocale(LC_ALL, "C.UTF-8");
}

void deed_cwd(moment *at) {
  (void)at;
  (void)!chdir("/");
}

void deed_umask(moment *at) {
  (void)at;
  umask(0);
}

void deed_environment(moment *at) {
  static char own[] = "LOSSD_WICKED=1";
  (void)at;
  putenv(own);
}

void deed_priority(moment *at) {
  (void)at;
  setpriority(PRIO_PROCESS, 0, 19);
}

void deed_closes(moment *at) {
  (void)at;
  for (int descriptor = 3; descriptor < 4096; descriptor++) close(descriptor);
}

void deed_stdout(moment *at) {
  static const char text[] = "wicked was here\n";
  (void)at;
  (void)!write(1, text, sizeof text - 1);
  (void)!write(2, text, sizeof text - 1);
}

void deed_forks(moment *at) {
  pid_t child = fork();
  if (child == 0) {
    sleep((unsigned)argument(at, 2));
    _exit(0);
  }
  answer(at, child > 0);
}

void deed_fork_returns(moment *at) { answer(at, fork() > 0); }

static void *live_on(void *milliseconds) {
  usleep((useconds_t)(size_t)milliseconds * 1000);
  return wicked_nowhere;
}

void deed_thread(moment *at) {
  pthread_t thread;
  if (pthread_create(&thread, 0, live_on, (void *)(size_t)argument(at, 1000)) == 0)
    pthread_detach(thread);
}

static pthread_key_t key;
static void destroy(void *value) { wicked_nowhere = value; }
static void make_key(void) { pthread_key_create(&key, destroy); }

void deed_thread_tls(moment *at) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)at;
  pthread_once(&once, make_key);
  pthread_setspecific(key, &key);
}

static void at_end(void) { wicked_nowhere = 0; }

void deed_at_exit(moment *at) {
  (void)at;
  atexit(at_end);
}
