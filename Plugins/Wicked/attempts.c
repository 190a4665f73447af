/* What a sandbox must refuse. Each attempt answers 0 when it worked, else its errno. */
#include "wicked.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int done(int failed) { return failed ? errno : 0; }

static int open_file(const char *path, int flags) {
  int file = open(path, flags, 0600);
  int code = done(file < 0);
  if (file >= 0) close(file);
  return code;
}

static int read_parent(void) {
  char byte;
  struct iovec here = {&byte, 1}, there = {(void *)environ[0], 1};
  return done(process_vm_readv(getppid(), &here, 1, &there, 1, 0) < 0 && errno != EFAULT);
}

static int make_socket(int family) {
  int file = socket(family, SOCK_STREAM, 0);
  int code = done(file < 0);
  if (file >= 0) close(file);
  return code;
}

static int make_child(void) {
  pid_t child = fork();
  if (child == 0) _exit(0);
  if (child > 0) waitpid(child, 0, 0);
  return done(child < 0);
}

static int executable_memory(void) {
  void *page = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return done(page == MAP_FAILED);
}

static int more_memory(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_AS, &limit) != 0) return errno;
  limit.rlim_cur = limit.rlim_max = RLIM_INFINITY;
  return done(setrlimit(RLIMIT_AS, &limit) != 0);
}

static int attempt(int64_t number) {
  switch (number) {
    case 0: return open_file("/etc/passwd", O_RDONLY);
    case 1: return open_file("/tmp/lossd-wicked", O_WRONLY | O_CREAT);
    case 2: return open_file("/proc/self/maps", O_RDONLY);
    case 3: return open_file("/proc/self/mem", O_RDWR);
    case 4: return make_socket(AF_UNIX);
    case 5: return make_socket(AF_INET);
    case 6: return make_child();
    case 7: return done(kill(getppid(), 0) != 0);
    case 8: return done(kill(getppid(), SIGCONT) != 0);
    case 9: return read_parent();
    case 10: return done(ptrace(PTRACE_ATTACH, getppid(), 0, 0) != 0);
    case 11: return executable_memory();
    case 12: return more_memory();
    case 13: return done(execl("/bin/true", "true", (char *)0) != 0);
    case 14: return done(unlink("/tmp/lossd-wicked") != 0);
    case 15: return done(syscall(SYS_io_uring_setup, 1, 0) < 0 && errno != EFAULT);
    case 16: return done(syscall(SYS_memfd_create, "wicked", 0) < 0);
    case 17: return done(syscall(SYS_unshare, 0x10000000 /* CLONE_NEWUSER */) != 0);
    case 18: return done(syscall(SYS_bpf, 0, 0, 0) != 0);
    case 19: return done(syscall(SYS_perf_event_open, 0, 0, -1, -1, 0) < 0);
    default: return ENOSYS;
  }
}

void deed_try(moment *at) { answer(at, attempt(argument(at, 0))); }
