/* Addresses: "unix:PATH", "tcp:HOST[:PORT]", "tcp:[IPV6][:PORT]". */
#include "address.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"

#define DEFAULT_ADDRESS "unix:/run/lossd/lossd.sock"
#define DEFAULT_PORT "5677"
#define PATH_BYTES_MAX (sizeof ((struct sockaddr_un *)0)->sun_path - 1)

void address_free(struct address *address) {
  free(address->path);
  free(address->host);
  free(address->port);
  free(address->text);
  memset(address, 0, sizeof *address);
}

static lossd_code malformed(const char *text, lossd_error *error) {
  return fail(error, LOSSD_INVALID_ARGUMENT,
              "address \"%s\": expected unix:PATH, tcp:HOST, tcp:HOST:PORT or tcp:[IPV6]:PORT", text);
}

static lossd_code parse_tcp(const char *rest, struct address *address, lossd_error *error) {
  const char *host = rest, *end;
  if (*rest == '[') {
    host = rest + 1;
    end = strchr(rest, ']');
    if (end == NULL) return malformed(address->text, error);
    rest = end + 1;
  } else {
    end = rest + strcspn(rest, ":");
    rest = end;
  }
  if (end == host || (*rest != 0 && *rest != ':')) return malformed(address->text, error);
  const char *port = *rest == ':' ? rest + 1 : DEFAULT_PORT;
  size_t digits = strspn(port, "0123456789");
  if (digits == 0 || digits > 5 || port[digits] != 0 || atol(port) > 65535) return malformed(address->text, error);
  address->host = strndup(host, (size_t)(end - host));
  address->port = strdup(port);
  return address->host == NULL || address->port == NULL
             ? fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for the address")
             : LOSSD_OK;
}

lossd_code address_parse(const char *text, struct address *address, lossd_error *error) {
  memset(address, 0, sizeof *address);
  if (text == NULL || *text == 0) text = getenv("LOSSD_ADDRESS");
  if (text == NULL || *text == 0) text = DEFAULT_ADDRESS;
  address->text = strdup(text);
  if (address->text == NULL) return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for the address");
  if (strncmp(text, "tcp:", 4) == 0) return parse_tcp(text + 4, address, error);
  if (strncmp(text, "unix:", 5) != 0 || text[5] == 0) return malformed(text, error);
  if (strlen(text + 5) > PATH_BYTES_MAX) {
    return fail(error, LOSSD_INVALID_ARGUMENT, "address \"%s\": the path has %zu bytes, at most %zu are possible",
                text, strlen(text + 5), (size_t)PATH_BYTES_MAX);
  }
  address->path = strdup(text + 5);
  return address->path == NULL ? fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for the address") : LOSSD_OK;
}

/* Waits for `events` on the descriptor; 0, or why not. A pause where `events` is 0. */
static int wait_for(int descriptor, short events, uint64_t until, int interrupt) {
  struct pollfd items[2] = {{descriptor, events, 0}, {interrupt, POLLIN, 0}};
  for (;;) {
    uint64_t now = now_us();
    if (now >= until) return ETIMEDOUT;
    uint64_t left_ms = (until - now + 999) / 1000;
    int count = poll(items, 2, left_ms > INT_MAX ? INT_MAX : (int)left_ms);
    if (count < 0 && errno != EINTR) return errno;
    if (count > 0 && items[1].revents != 0) return ECANCELED;
    if (count > 0) return 0;
  }
}

/* Connects a new socket to one address; -1 with errno. */
static int connect_one(const struct sockaddr *name, socklen_t length, int family, uint64_t until, int interrupt) {
  int descriptor = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return -1;
  int number;
  for (;;) {
    number = connect(descriptor, name, length) == 0 ? 0 : errno;
    if (number == 0) break;
    if (number == EAGAIN) {
      /* A Unix socket's queue is full. */
      uint64_t pause = now_us() + 10000;
      number = wait_for(-1, 0, pause < until ? pause : until, interrupt);
      if (number == ECANCELED || now_us() >= until) break;
      continue;
    }
    if (number != EINPROGRESS && number != EINTR && number != EALREADY) break;
    number = wait_for(descriptor, POLLOUT, until, interrupt);
    socklen_t size = sizeof number;
    if (number == 0) getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &number, &size);
    break;
  }
  if (number == 0 || number == EISCONN) return descriptor;
  close(descriptor);
  errno = number;
  return -1;
}

static int connect_unix(const struct address *address, uint64_t until, int interrupt) {
  struct sockaddr_un name;
  memset(&name, 0, sizeof name);
  name.sun_family = AF_UNIX;
  memcpy(name.sun_path, address->path, strlen(address->path) + 1);
  return connect_one((struct sockaddr *)&name, sizeof name, AF_UNIX, until, interrupt);
}

/* Each of the host's addresses in turn. */
static int connect_tcp(const struct address *address, uint64_t until, int interrupt, const char **problem) {
  struct addrinfo hints, *found = NULL;
  memset(&hints, 0, sizeof hints);
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  int result = getaddrinfo(address->host, address->port, &hints, &found);
  if (result != 0) {
    *problem = gai_strerror(result);
    return -1;
  }
  int descriptor = -1;
  for (struct addrinfo *item = found; item != NULL && descriptor < 0; item = item->ai_next) {
    descriptor = connect_one(item->ai_addr, item->ai_addrlen, item->ai_family, until, interrupt);
    if (descriptor < 0 && errno == ECANCELED) break;
  }
  int number = errno;
  freeaddrinfo(found);
  errno = number;
  if (descriptor < 0) return -1;
  int on = 1;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  return descriptor;
}

int address_connect(const struct address *address, uint64_t until, int interrupt, lossd_error *error) {
  const char *problem = NULL;
  int descriptor = address->path != NULL ? connect_unix(address, until, interrupt)
                                         : connect_tcp(address, until, interrupt, &problem);
  if (descriptor < 0) {
    lossd_code code = problem == NULL && errno == ECANCELED ? LOSSD_CANCELLED : LOSSD_UNAVAILABLE;
    fail(error, code, "%s: %s", address->text, problem != NULL ? problem : strerror(errno));
  }
  return descriptor;
}
