#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clinux.h"

/* Debian 12's headers have none of these. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16; the generic number, which x86 and arm64 have */
#endif

/* ---- Memory that a client asks for ---- */

int clinux_region(size_t bytes, void **base) {
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = memfd_create("lossd-region", flags | MFD_NOEXEC_SEAL);
  /* Linux before 6.3. */
  if (fd < 0 && errno == EINVAL) fd = memfd_create("lossd-region", flags);
  if (fd < 0) return -1;
  void *memory = MAP_FAILED;
  if (ftruncate(fd, (off_t)bytes) == 0 &&
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
    memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  if (memory == MAP_FAILED) {
    int code = errno;
    close(fd);
    errno = code;
    return -1;
  }
  /* A child would keep the pages. */
  madvise(memory, bytes, MADV_DONTFORK);
  *base = memory;
  return fd;
}

int clinux_free_pages(void *memory, size_t bytes) { return madvise(memory, bytes, MADV_REMOVE); }

void *clinux_map_sealed(int fd, size_t bytes) {
  /* Sealed first, then measured: from then on it stays as long. */
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) return NULL;
  struct stat file;
  if (fstat(fd, &file) != 0) return NULL;
  if (!(seals & F_SEAL_SHRINK) || file.st_size < 0 || (uint64_t)file.st_size < bytes) {
    errno = EINVAL;
    return NULL;
  }
  void *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

/* ---- Descriptors that a peer sends ---- */

int clinux_refuse_descriptors(int fd) {
  int off = 0;
  return setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof off);
}

int clinux_may_hold_descriptors(int fd) {
  int value = 1;
  socklen_t size = sizeof value;
  return getsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &value, &size) != 0 || value != 0;
}

long clinux_receive(int fd, struct iovec *vectors, size_t count, int32_t *descriptors,
                    size_t *descriptor_count) {
  union {
    struct cmsghdr header; /* aligns the bytes */
    char space[CMSG_SPACE(sizeof(int32_t) * CLINUX_DESCRIPTORS_MAX)];
  } control;
  struct msghdr message = {.msg_iov = vectors,
                           .msg_iovlen = count,
                           .msg_control = &control,
                           .msg_controllen = sizeof control};
  *descriptor_count = 0;
  long received;
  do received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (received < 0 && errno == EINTR);
  if (received < 0 || message.msg_controllen == 0) return received;
  for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
    size_t here = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int32_t);
    size_t room = CLINUX_DESCRIPTORS_MAX - *descriptor_count;
    if (here > room) here = room;
    memcpy(descriptors + *descriptor_count, CMSG_DATA(h), here * sizeof(int32_t));
    *descriptor_count += here;
  }
  return received;
}

long clinux_receive_one(int fd, struct iovec *vectors, size_t count, int32_t *descriptor, int *is_lost) {
  union {
    struct cmsghdr header; /* aligns the bytes */
    char space[CMSG_SPACE(sizeof(int32_t))];
  } control;
  struct msghdr message = {.msg_iov = vectors,
                           .msg_iovlen = count,
                           .msg_control = &control,
                           /* Not CMSG_SPACE, whose padding has room for a second descriptor. */
                           .msg_controllen = CMSG_LEN(sizeof(int32_t))};
  *descriptor = -1;
  *is_lost = 0;
  long received;
  do received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  while (received < 0 && errno == EINTR);
  if (received < 0) return received;
  *is_lost = (message.msg_flags & MSG_CTRUNC) != 0;
  struct cmsghdr *h = CMSG_FIRSTHDR(&message);
  if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS &&
      h->cmsg_len >= CMSG_LEN(sizeof(int32_t))) {
    memcpy(descriptor, CMSG_DATA(h), sizeof *descriptor);
  }
  return received;
}
