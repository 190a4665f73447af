#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clinux.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

/* ---- Starting a process ---- */

int clinux_spawn(int32_t *pid, const char *path, char *const argv[], char *const envp[],
                 const int *fds, int count) {
  /* Out of the way of the numbers that the process will see. */
  int moved[CLINUX_SPAWN_FDS_MAX];
  if (count > CLINUX_SPAWN_FDS_MAX) return EINVAL;
  int made = 0, code = 0;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  for (; made < count; made++) {
    moved[made] = fcntl(fds[made], F_DUPFD_CLOEXEC, 64);
    if (moved[made] < 0) {
      code = errno;
      goto out;
    }
  }
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  for (int i = 0; i < count; i++) posix_spawn_file_actions_adddup2(&actions, moved[i], 2 + i);
  posix_spawn_file_actions_addclosefrom_np(&actions, 2 + count);
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setsigmask(&attributes, &none);
  /* A group of its own: an interrupt from the daemon's terminal is for the daemon, which lets calls end. */
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(
      &attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  pid_t child = -1;
  code = posix_spawn(&child, path, &actions, &attributes, argv, envp);
  *pid = child;
out:
  for (int i = 0; i < made; i++) close(moved[i]);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  return code;
}

int clinux_end_with_parent(void) { return prctl(PR_SET_PDEATHSIG, SIGKILL); }

void clinux_name_process(const char *name) {
  /* The arguments lie one behind another where the kernel put them, for /proc/PID/cmdline to show. */
  char *place = program_invocation_name;
  prctl(PR_SET_NAME, name, 0, 0, 0);
  if (strcmp(place, CLINUX_PROCESS_PROGRAM) != 0) return;
  place += sizeof CLINUX_PROCESS_PROGRAM;
  if (strcmp(place, CLINUX_PROCESS_COMMAND) != 0) return;
  place += sizeof CLINUX_PROCESS_COMMAND;
  size_t room = strlen(place), count = strlen(name);
  if (count > room) return;
  memcpy(place, name, count);
  memset(place + count, 0, room - count);
}

int clinux_wait(int32_t pid, int *signal_number, int *exit_status) {
  int status = 0;
  *signal_number = 0;
  *exit_status = 0;
  pid_t done;
  do done = waitpid(pid, &status, WNOHANG);
  while (done < 0 && errno == EINTR);
  if (done == 0) return 0;
  if (done == pid) {
    if (WIFSIGNALED(status)) *signal_number = WTERMSIG(status);
    if (WIFEXITED(status)) *exit_status = WEXITSTATUS(status);
  }
  return 1;
}

const char *clinux_signal_name(int number) {
  const char *name = sigabbrev_np(number);
  return name ? name : "a signal without a name";
}

/* ---- Messages with descriptors ---- */

int clinux_message_pair(int fds[2], int bytes) {
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) return -1;
  for (int i = 0; i < 2; i++) setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  /* The first end takes no descriptors, where the kernel can refuse them: closing one can take any time. */
  int none = 0;
  setsockopt(fds[0], SOL_SOCKET, SO_PASSRIGHTS, &none, sizeof none);
  return 0;
}

long clinux_send_message(int fd, const void *bytes, size_t count, const int *fds, int fd_count,
                         int wait) {
  struct iovec vector = {.iov_base = (void *)bytes, .iov_len = count};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int) * CLINUX_MESSAGE_FDS_MAX)];
  } control;
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (fd_count > CLINUX_MESSAGE_FDS_MAX) {
    errno = EINVAL;
    return -1;
  }
  if (fd_count > 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fd_count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)fd_count);
    memcpy(CMSG_DATA(header), fds, sizeof(int) * (size_t)fd_count);
  }
  ssize_t sent;
  do sent = sendmsg(fd, &message, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT));
  while (sent < 0 && errno == EINTR);
  return sent;
}

long clinux_receive_message(int fd, void *bytes, size_t count, int *fds, int *fd_count, int wait) {
  struct iovec vector = {.iov_base = bytes, .iov_len = count};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int) * CLINUX_MESSAGE_FDS_MAX)];
  } control;
  struct msghdr message = {.msg_iov = &vector,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof control};
  *fd_count = 0;
  ssize_t received;
  do received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
  while (received < 0 && errno == EINTR);
  if (received < 0) return received;
  for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
    int here = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < here; i++) {
      int number;
      memcpy(&number, CMSG_DATA(h) + sizeof(int) * (size_t)i, sizeof number);
      if (*fd_count < CLINUX_MESSAGE_FDS_MAX) {
        fds[(*fd_count)++] = number;
      } else {
        close(number);
      }
    }
  }
  if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
    for (int i = 0; i < *fd_count; i++) close(fds[i]);
    *fd_count = 0;
    errno = EMSGSIZE;
    return -1;
  }
  return received;
}

/* ---- Memory that two processes share ---- */

int clinux_shared_memory(const char *name, size_t bytes, int read_only_for_others, void **base) {
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  int code = 0;
  if (fd < 0) return -1;
  if (ftruncate(fd, (off_t)bytes) != 0) {
    code = errno;
    close(fd);
    errno = code;
    return -1;
  }
  void *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  int seals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  /* Writable by this mapping alone, which is there already. */
  if (read_only_for_others) seals |= F_SEAL_FUTURE_WRITE;
  if (memory == MAP_FAILED || fcntl(fd, F_ADD_SEALS, seals) != 0) {
    code = errno;
    if (memory != MAP_FAILED) munmap(memory, bytes);
    close(fd);
    errno = code;
    return -1;
  }
  *base = memory;
  return fd;
}

void *clinux_map(int fd, size_t bytes) {
  void *memory = mmap(0, bytes, PROT_NONE, MAP_SHARED, fd, 0);
  return memory == MAP_FAILED ? 0 : memory;
}

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

int clinux_populate(void *memory, size_t bytes, int writable) {
  return madvise(memory, bytes, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

int clinux_allocate(int fd, void *memory, size_t offset, size_t bytes) {
  size_t begin = offset & ~(size_t)4095;
  bytes += offset - begin;
  if (clinux_populate((char *)memory + begin, bytes, 1) == 0) return 0;
  /* Linux before 5.14. */
  if (errno == EINVAL) errno = posix_fallocate(fd, (off_t)begin, (off_t)bytes);
  return errno == 0 ? 0 : -1;
}

/* ---- What a plugin must leave as it was ---- */

struct clinux_habits {
  struct sigaction actions[65];
  sigset_t mask;
  char *locale;
  char *folder;
};

struct clinux_habits *clinux_habits_save(void) {
  struct clinux_habits *habits = calloc(1, sizeof *habits);
  if (!habits) return 0;
  for (int number = 1; number < 65; number++) sigaction(number, 0, &habits->actions[number]);
  pthread_sigmask(SIG_SETMASK, 0, &habits->mask);
  const char *locale = setlocale(LC_ALL, 0);
  habits->locale = locale ? strdup(locale) : 0;
  habits->folder = getcwd(0, 0);
  return habits;
}

static int same_action(const struct sigaction *a, const struct sigaction *b) {
  return a->sa_flags == b->sa_flags &&
         ((a->sa_flags & SA_SIGINFO) ? a->sa_sigaction == b->sa_sigaction
                                     : a->sa_handler == b->sa_handler);
}

const char *clinux_habits_restore(struct clinux_habits *habits) {
  const char *changed = 0;
  if (!habits) return 0;
  for (int number = 1; number < 65; number++) {
    struct sigaction now;
    if (sigaction(number, 0, &now) != 0 || same_action(&now, &habits->actions[number])) continue;
    sigaction(number, &habits->actions[number], 0);
    changed = "a signal's handler";
  }
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, &habits->mask, &mask);
  for (int number = 1; number < 65; number++)
    if (sigismember(&mask, number) != sigismember(&habits->mask, number)) changed = "the signal mask";
  const char *locale = setlocale(LC_ALL, 0);
  if (locale && habits->locale && strcmp(locale, habits->locale) != 0) {
    changed = "the locale";
    setlocale(LC_ALL, habits->locale);
  }
  char *folder = getcwd(0, 0);
  if (habits->folder && (!folder || strcmp(folder, habits->folder) != 0)) {
    changed = "the working directory";
    if (chdir(habits->folder) != 0) changed = "the working directory, for good";
  }
  free(folder);
  free(habits->locale);
  free(habits->folder);
  free(habits);
  return changed;
}

/* ---- Confinement of a process ---- */

int clinux_drop_capabilities(void) {
  /* linux/capability.h's, version 3. */
  struct {
    uint32_t version;
    int pid;
  } header = {0x20080522, 0};
  struct {
    uint32_t effective, permitted, inheritable;
  } none[2] = {{0, 0, 0}, {0, 0, 0}};
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  return (int)syscall(SYS_capset, &header, none);
}

int clinux_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }

int clinux_forbid_inspection(void) { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }

uint64_t clinux_processor_time(int32_t pid) {
  clockid_t clock;
  struct timespec time;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

int clinux_set_limit(int resource, uint64_t value) {
  struct rlimit limit = {value, value}, now;
  if (getrlimit((__rlimit_resource_t)resource, &now) == 0 && now.rlim_max < value)
    limit.rlim_cur = limit.rlim_max = now.rlim_max;
  return setrlimit((__rlimit_resource_t)resource, &limit);
}

/* linux/landlock.h's of version 6, which Debian 12's header does not know whole. */
struct landlock_rules {
  uint64_t files, network, scope;
};
#define LANDLOCK_FILES_1 ((UINT64_C(1) << 13) - 1)    /* EXECUTE to MAKE_SYM */
#define LANDLOCK_REFER (UINT64_C(1) << 13)            /* since 2 */
#define LANDLOCK_TRUNCATE (UINT64_C(1) << 14)         /* since 3 */
#define LANDLOCK_NETWORK_4 UINT64_C(3)                /* BIND_TCP, CONNECT_TCP */
#define LANDLOCK_IOCTL_DEV (UINT64_C(1) << 15)        /* since 5 */
#define LANDLOCK_SCOPE_ABSTRACT_SOCKETS UINT64_C(1)   /* since 6 */
#define LANDLOCK_SCOPE_SIGNALS UINT64_C(2)

static void landlock_allow(int ruleset, const char *path) {
  struct landlock_path_beneath_attr rule = {
      .allowed_access = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE |
                        LANDLOCK_ACCESS_FS_READ_DIR,
      .parent_fd = open(path, O_PATH | O_CLOEXEC)};
  if (rule.parent_fd < 0) return;
  if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
    /* A file knows no READ_DIR. */
    rule.allowed_access &= ~(uint64_t)LANDLOCK_ACCESS_FS_READ_DIR;
    syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
  }
  close(rule.parent_fd);
}

int clinux_confine_files(const char *const *readable) {
  int version = (int)syscall(SYS_landlock_create_ruleset, (void *)0, (size_t)0, 1 /* VERSION */);
  if (version < 1) return 0;
  struct landlock_rules rules = {LANDLOCK_FILES_1, 0, 0};
  if (version >= 2) rules.files |= LANDLOCK_REFER;
  if (version >= 3) rules.files |= LANDLOCK_TRUNCATE;
  if (version >= 4) rules.network = LANDLOCK_NETWORK_4;
  if (version >= 5) rules.files |= LANDLOCK_IOCTL_DEV;
  if (version >= 6) rules.scope = LANDLOCK_SCOPE_ABSTRACT_SOCKETS | LANDLOCK_SCOPE_SIGNALS;
  size_t size = version >= 6 ? sizeof rules : version >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
  int ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
  if (ruleset < 0) return 0;
  for (; *readable; readable++) landlock_allow(ruleset, *readable);
  int code = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
  close(ruleset);
  return code == 0 ? version : 0;
}

int clinux_pipe(int fds[2]) {
  if (pipe2(fds, O_CLOEXEC) != 0) return -1;
  /* The reader never waits. */
  fcntl(fds[0], F_SETFL, O_NONBLOCK);
  return 0;
}
