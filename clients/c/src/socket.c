/* A connection's socket: bytes, and the descriptors that come along. */
#include "socket.h"

#include <errno.h>
#include <sys/socket.h>

#define VECTORS_MAX 256
#define READS_MAX 16 /* at a turn, so that one connection does not keep the others waiting */

void socket_flush(struct connection *connection) {
  struct iovec vectors[VECTORS_MAX];
  struct msghdr message;
  memset(&message, 0, sizeof message);
  message.msg_iov = vectors;
  while ((message.msg_iovlen = connection_vectors(connection, vectors, VECTORS_MAX)) > 0) {
    ssize_t written = sendmsg(connection->descriptor, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written >= 0) {
      connection_sent(connection, (size_t)written);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return;
    } else if (errno != EINTR) {
      connection_cannot_write(connection);
    }
  }
}

/* The descriptors that came along; at most DESCRIPTORS_MAX, for which there was room. */
static size_t descriptors_of(struct msghdr *message, int *descriptors) {
  size_t count = 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(descriptors + count, CMSG_DATA(header), here * sizeof(int));
    count += here;
  }
  /* This process has no room for another one. */
  if ((message->msg_flags & MSG_CTRUNC) && count == 0) descriptors[count++] = -1;
  return count;
}

void socket_read(struct connection *connection) {
  struct iovec vectors[16];
  union {
    struct cmsghdr header; /* aligns the bytes */
    char bytes[CMSG_SPACE(sizeof(int) * DESCRIPTORS_MAX)];
  } control;
  for (int turn = 0; turn < READS_MAX && !connection->is_closed; turn++) {
    struct msghdr message;
    int descriptors[sizeof control / sizeof(int)];
    size_t room = 0;
    memset(&message, 0, sizeof message);
    message.msg_iov = vectors;
    message.msg_iovlen = connection_room(connection, vectors, 16);
    if (message.msg_iovlen == 0) return;
    for (size_t index = 0; index < message.msg_iovlen; index++) room += vectors[index].iov_len;
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    ssize_t count = recvmsg(connection->descriptor, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (count <= 0) {
      connection_close(connection, LOSSD_UNAVAILABLE, "%s",
                       count == 0 ? "the daemon closed the connection" : strerror(errno));
      return;
    }
    connection_received(connection, (size_t)count, descriptors, descriptors_of(&message, descriptors));
    if ((size_t)count < room) return;
  }
}
