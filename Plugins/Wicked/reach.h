/* Attempts to reach out of the process, for a constructor and for a callback alike: each answers 0 where it worked,
 * else its errno, which is EPERM where a filter of system calls or a missing privilege stands in its way. Those that
 * would end the process are not among them. */
#ifndef REACH_H
#define REACH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the kernel does not look at in an argument that it takes as an int. */
#define REACH_HIGH (INT64_C(1) << 32)
#define REACH_DESCRIPTORS 5 /* 0 to 4, which every process of a plugin has */

static int reach_call(long number, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e) {
  return syscall(number, a, b, c, d, e) == -1 ? errno : 0;
}

#define REACH(name, a, b, c, d, e) reach_call(SYS_##name, (int64_t)(a), (int64_t)(b), (int64_t)(c), (int64_t)(d), (int64_t)(e))

typedef struct reach_attempt {
  const char *name;
  int (*attempt)(int variant);
  int variants;
} reach_attempt;

/* Who is told when something comes at a descriptor, by which signal, and that somebody is. */
static int reach_owner(int v) {
  int64_t who[] = {getppid(), -getpgid(getppid()), getppid() | REACH_HIGH, -getppid()};
  return REACH(fcntl, v % REACH_DESCRIPTORS, F_SETOWN | (v & 1 ? REACH_HIGH : 0), who[v / REACH_DESCRIPTORS], 0, 0);
}

static int reach_owner_ex(int v) {
  struct f_owner_ex owner = {(int)(v / REACH_DESCRIPTORS), getppid()};
  if (owner.type == F_OWNER_PGRP) owner.pid = getpgid(getppid());
  return REACH(fcntl, v % REACH_DESCRIPTORS, F_SETOWN_EX | (v & 1 ? REACH_HIGH : 0), &owner, 0, 0);
}

static int reach_signal(int v) {
  return REACH(fcntl, v % REACH_DESCRIPTORS, F_SETSIG | (v & 1 ? REACH_HIGH : 0), v < REACH_DESCRIPTORS ? SIGKILL : SIGIO, 0, 0);
}

static int reach_async(int v) {
  int64_t flags[] = {O_ASYNC, O_ASYNC | O_RDWR, O_ASYNC | O_NONBLOCK | REACH_HIGH};
  return REACH(fcntl, v % REACH_DESCRIPTORS, F_SETFL | (v & 1 ? REACH_HIGH : 0), flags[v / REACH_DESCRIPTORS], 0, 0);
}

static int reach_lease(int v) {
  return REACH(fcntl, v % REACH_DESCRIPTORS, v < REACH_DESCRIPTORS ? F_SETLEASE : F_NOTIFY, F_RDLCK, 0, 0);
}

static int reach_fcntl(int v) {
  static const int commands[] = {F_SETPIPE_SZ, F_ADD_SEALS, F_SETLK, F_SETLKW, 37 /* F_OFD_SETLK */, 1037 /* F_GET_RW_HINT's */};
  struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
  int64_t argument = commands[v] == F_SETPIPE_SZ ? 4096 : commands[v] == F_ADD_SEALS ? 0 : (int64_t)&lock;
  return REACH(fcntl, commands[v] == F_SETPIPE_SZ ? 2 : 4, commands[v], argument, 0, 0);
}

static int reach_ioctl(int v) {
  /* FIOSETOWN, SIOCSPGRP, FIOASYNC, TIOCSTI, FIONBIO */
  static const int64_t requests[] = {0x8901, 0x8902, 0x5452, 0x5412, 0x5421};
  int value = getppid();
  return REACH(ioctl, 3, requests[v % 5] | (v < 5 ? 0 : REACH_HIGH), &value, 0, 0);
}

/* Limits of another, and one's own made larger. */
static int reach_limit(int v) {
  static const int resources[] = {RLIMIT_NOFILE, RLIMIT_CPU, RLIMIT_CORE, RLIMIT_AS, RLIMIT_NPROC, RLIMIT_FSIZE, RLIMIT_STACK};
  struct rlimit limit = {1, 1}, large = {RLIM_INFINITY, RLIM_INFINITY}, one_more;
  int64_t parent = getppid();
  switch (v / 7) {
    case 0: return REACH(prlimit64, parent, resources[v % 7], &limit, 0, 0);
    case 1: return REACH(prlimit64, parent | REACH_HIGH, resources[v % 7] | REACH_HIGH, &limit, 0, 0);
    case 2: return REACH(prlimit64, 0, resources[v % 7], &large, 0, 0);
    case 3: return REACH(prlimit64, REACH_HIGH, resources[v % 7], &limit, &one_more, 0);
    case 4: return REACH(prlimit64, parent, resources[v % 7], 0, &one_more, 0);
    case 5: return REACH(prlimit64, getpid(), resources[v % 7], &large, 0, 0);
    default: return REACH(prlimit64, -parent, resources[v % 7], &limit, 0, 0);
  }
}

static int reach_setrlimit(int v) {
  struct rlimit large = {RLIM_INFINITY, RLIM_INFINITY};
  return REACH(setrlimit, v, &large, 0, 0, 0);
}

static int reach_priority(int v) {
  int64_t parent = getppid(), high = v & 1 ? REACH_HIGH : 0;
  switch (v / 2) {
    case 0: return REACH(setpriority, PRIO_PROCESS | high, parent | high, 19, 0, 0);
    case 1: return REACH(setpriority, PRIO_PGRP | high, getpgid((pid_t)parent), 19, 0, 0);
    case 2: return REACH(setpriority, PRIO_PGRP | high, high, 19, 0, 0);
    case 3: return REACH(setpriority, PRIO_USER | high, getuid(), 19, 0, 0);
    case 4: return REACH(setpriority, PRIO_USER | high, high, 19, 0, 0);
    default: return REACH(setpriority, PRIO_PROCESS, -parent | high, 19, 0, 0);
  }
}

static int reach_schedule(int v) {
  struct { int priority; } parameter = {0};
  struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t rest[4]; } attributes = {48, 5, 0, 19, 0, {0}};
  uint64_t first = 1;
  int64_t who = v & 1 ? getppid() | REACH_HIGH : getppid();
  switch (v / 2) {
    case 0: return REACH(sched_setscheduler, who, 5 /* IDLE */, &parameter, 0, 0);
    case 1: return REACH(sched_setparam, who, &parameter, 0, 0, 0);
    case 2: return REACH(sched_setaffinity, who, sizeof first, &first, 0, 0);
    case 3: return REACH(sched_setattr, who, &attributes, 0, 0, 0);
    case 4: return REACH(ioprio_set, 1, who, 3 << 13, 0, 0);
    default: return REACH(ioprio_set, v & 1 ? 2 : 3, v & 1 ? 0 : getuid(), 3 << 13, 0, 0);
  }
}

/* Signals, by every way that there is. */
static int reach_kill(int v) {
  int64_t parent = getppid();
  siginfo_t info = {.si_code = SI_QUEUE};
  info.si_signo = SIGCONT;
  switch (v) {
    case 0: return REACH(kill, parent, 0, 0, 0, 0);
    case 1: return REACH(kill, parent | REACH_HIGH, SIGCONT, 0, 0, 0);
    case 2: return REACH(kill, -getpgid((pid_t)parent), 0, 0, 0, 0);
    case 3: return REACH(kill, -1, 0, 0, 0, 0);
    case 4: return REACH(tgkill, parent, parent, SIGCONT, 0, 0);
    case 5: return REACH(tgkill, parent | REACH_HIGH, parent, 0, 0, 0);
    case 6: return REACH(tkill, parent, SIGCONT, 0, 0, 0);
    case 7: return REACH(rt_sigqueueinfo, parent, SIGCONT, &info, 0, 0);
    case 8: return REACH(rt_tgsigqueueinfo, parent, parent, SIGCONT, &info, 0);
    case 9: return REACH(pidfd_open, parent, 0, 0, 0, 0);
    case 10: return REACH(pidfd_send_signal, 3, SIGCONT, 0, 0, 0);
    default: return REACH(tgkill, -1, getpid(), 0, 0, 0);
  }
}

static int reach_process(int v) {
  int64_t parent = getppid();
  char byte = 0;
  struct { void *base; size_t count; } here = {&byte, 1}, there = {(void *)environ[0], 1};
  switch (v) {
    case 0: return REACH(ptrace, 16 /* ATTACH */, parent, 0, 0, 0);
    case 1: return REACH(ptrace, 0x4206 /* SEIZE */, parent, 0, 0, 0);
    case 2: return REACH(process_vm_readv, parent, &here, 1, &there, 1);
    case 3: return REACH(process_vm_writev, parent, &here, 1, &there, 1);
    case 4: return REACH(kcmp, parent, getpid(), 0, 3, 3);
    case 5: return REACH(pidfd_getfd, 3, 3, 0, 0, 0);
    case 6: return REACH(move_pages, parent, 0, 0, 0, 0);
    case 7: return REACH(migrate_pages, parent, 0, 0, 0, 0);
    case 8: return REACH(setpgid, 0, getpgid((pid_t)parent), 0, 0, 0);
    case 9: return REACH(setsid, 0, 0, 0, 0, 0);
    case 10: return REACH(process_madvise, 3, &here, 1, 21, 0);
    default: return REACH(get_robust_list, parent, &here.base, &here.count, 0, 0);
  }
}

/* Pages that the daemon shares, and huge ones that all share. */
static int reach_advice(int v) {
  static const int64_t advices[] = {9, 9 | REACH_HIGH, 9 | INT64_MIN, 21, 21 | REACH_HIGH, 12, 100, 101, 100 | REACH_HIGH, -1, 9 | 0xABCD00000000};
  char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int code = REACH(madvise, page, 4096, advices[v], 0, 0);
  munmap(page, 8192);
  return code;
}

static int reach_memory(int v) {
  switch (v) {
    case 0: return REACH(fallocate, 4, 3 /* PUNCH_HOLE, KEEP_SIZE */, 0, 4096, 0);
    case 1: return REACH(ftruncate, 4, 0, 0, 0, 0);
    case 2: return REACH(memfd_create, "wicked", 0, 0, 0, 0);
    case 3: return mmap(0, 2 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | 0x40000, -1, 0) == MAP_FAILED ? errno : 0;
    case 4: return mmap(0, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0;
    case 5: return REACH(shmget, 0, 4096, 01600, 0, 0);
    case 6: return REACH(mlockall, 3, 0, 0, 0, 0);
    default: return REACH(userfaultfd, 0, 0, 0, 0, 0);
  }
}

/* Memory that was written becomes executable. */
static int reach_code(int v) {
  int64_t high = v & 1 ? REACH_HIGH : 0;
  char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int code = ENOSYS;
  switch (v / 2) {
    case 0: code = REACH(mprotect, page, 4096, (PROT_READ | PROT_WRITE | PROT_EXEC) | high, 0, 0); break;
    case 1: code = REACH(mprotect, page, 4096, (PROT_READ | PROT_EXEC) | high, 0, 0); break;
    case 2: code = REACH(mprotect, page, 4096, PROT_EXEC | high, 0, 0); break;
    case 3:
      code = syscall(SYS_mmap, 0, 4096, (PROT_READ | PROT_WRITE | PROT_EXEC) | high, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -1 ? errno : 0;
      break;
    case 4:
      code = syscall(SYS_mmap, 0, 4096, (PROT_READ | PROT_EXEC) | high, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -1 ? errno : 0;
      break;
    case 5:
      code = syscall(SYS_mmap, 0, 4096, (PROT_READ | PROT_WRITE | PROT_EXEC) | high, MAP_PRIVATE, 4, 0) == -1 ? errno : 0;
      break;
    case 6:
      code = syscall(SYS_mmap, 0, 4096, (PROT_READ | PROT_EXEC) | high, MAP_SHARED, 4, 0) == -1 ? errno : 0;
      break;
    case 7: code = REACH(pkey_mprotect, page, 4096, PROT_READ | PROT_EXEC, -1, 0); break;
    default: code = REACH(personality, 0x0400000 /* READ_IMPLIES_EXEC */, 0, 0, 0, 0); break;
  }
  munmap(page, 4096);
  return code;
}

static int reach_prctl(int v) {
  /* PDEATHSIG, DUMPABLE, PTRACER, MM, CHILD_SUBREAPER, SECUREBITS, TIMERSLACK, KEEPCAPS, CAP_AMBIENT, SPECULATION_CTRL,
   * IO_FLUSHER, SCHED_CORE, THP_DISABLE, MCE_KILL, TASK_PERF_EVENTS_DISABLE, SYSCALL_USER_DISPATCH */
  static const int options[] = {1, 4, 0x59616d61, 35, 36, 28, 29, 8, 47, 53, 57, 62, 41, 33, 31, 59};
  int option = options[v / 2];
  return REACH(prctl, option | (v & 1 ? REACH_HIGH : 0), option == 4 ? 1 : option == 0x59616d61 ? getppid() : 0, 0, 0, 0);
}

static int reach_new(int v) {
  switch (v) {
    case 0: return REACH(socket, AF_UNIX, SOCK_STREAM, 0, 0, 0);
    case 1: return REACH(socket, AF_INET | REACH_HIGH, SOCK_DGRAM, 0, 0, 0);
    case 2: return REACH(socketpair, AF_UNIX, SOCK_STREAM, 0, 0, 0);
    case 3: return REACH(connect, 3, 0, 0, 0, 0);
    case 4: return REACH(io_uring_setup, 1, 0, 0, 0, 0);
    case 5: return REACH(bpf, 0, 0, 0, 0, 0);
    case 6: return REACH(perf_event_open, 0, 0, -1, -1, 0);
    case 7: return REACH(unshare, 0x10000000, 0, 0, 0, 0);
    case 8: return REACH(setns, 3, 0, 0, 0, 0);
    case 9: return REACH(keyctl, 0, 0, 0, 0, 0);
    case 10: return REACH(openat, AT_FDCWD, "/tmp/lossd-wicked", O_WRONLY | O_CREAT, 0600, 0);
    case 11: return REACH(chdir, "/", 0, 0, 0, 0);
    case 12: return REACH(setuid, getuid(), 0, 0, 0, 0);
    case 13: return REACH(execve, "/bin/true", 0, 0, 0, 0);
    case 14: return REACH(openat2, AT_FDCWD, "/etc/passwd", 0, 0, 0);
    case 15: return REACH(setsockopt, 3, SOL_SOCKET, SO_SNDBUF, 0, 0);
    /* Processes, not threads; a thread in another namespace, or with a descriptor of its own. */
    case 16: return REACH(clone, SIGCHLD, 0, 0, 0, 0);
    case 17: return REACH(clone, SIGCHLD | REACH_HIGH, 0, 0, 0, 0);
    case 18: return REACH(clone, 0x00010900 | 0x10000000, 0, 0, 0, 0);
    default: return REACH(seccomp, 1 | REACH_HIGH, 8 /* a listener */, 0, 0, 0);
  }
}

static const reach_attempt reach_attempts[] = {
    {"owner", reach_owner, 4 * REACH_DESCRIPTORS},
    {"owner_ex", reach_owner_ex, 3 * REACH_DESCRIPTORS},
    {"signal", reach_signal, 2 * REACH_DESCRIPTORS},
    {"async", reach_async, 3 * REACH_DESCRIPTORS},
    {"lease", reach_lease, 2 * REACH_DESCRIPTORS},
    {"fcntl", reach_fcntl, 6},
    {"ioctl", reach_ioctl, 10},
    {"limit", reach_limit, 7 * 7},
    {"setrlimit", reach_setrlimit, 16},
    {"priority", reach_priority, 12},
    {"schedule", reach_schedule, 12},
    {"kill", reach_kill, 12},
    {"process", reach_process, 12},
    {"advice", reach_advice, 11},
    {"memory", reach_memory, 8},
    {"code", reach_code, 18},
    {"prctl", reach_prctl, 32},
    {"new", reach_new, 20},
};
#define REACH_COUNT ((int)(sizeof reach_attempts / sizeof *reach_attempts))
#define REACH_VARIANTS_MAX 64

static int reach_out(int kind, int variant) {
  if (kind < 0 || kind >= REACH_COUNT || variant < 0 || variant >= reach_attempts[kind].variants) return -1;
  return reach_attempts[kind].attempt(variant);
}

#endif
