/* Drives a server with copies of one call and measures: how many are answered a second, how long each takes.
 *
 *   drive ADDRESS GREETING CALLS VARIANTS OFFSETS DEPTH SECONDS WARM-UP
 *
 * ADDRESS is unix:PATH or tcp:HOST:PORT. GREETING and CALLS are files; the server answers the greeting with one frame,
 * each call with one frame, and all of these have one length. CALLS has VARIANTS of one call, of one length, which are
 * made in turn. OFFSETS, with commas, are where each has its stream's number, 4 bytes, little-endian. DEPTH calls are
 * under way at once. Prints one line of JSON.
 *
 * Calls are answered in order; a server that answers out of order has its latencies mixed up, not their mean. */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 16, MESSAGE = 3, END_STREAM = 1, OFFSETS_MAX = 8, INPUT = 1 << 20 };

static void fail(const char *what) {
  fprintf(stderr, "drive: %s: %s\n", what, errno ? strerror(errno) : "unexpected");
  exit(1);
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static double processor_time(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- Latencies: buckets a sixty-fourth of a power of two wide ---- */

static uint64_t buckets[59 * 64], count, longest;

static void add(uint64_t value) {
  int octave = value < 64 ? 0 : 63 - __builtin_clzll(value);
  int index = value < 64 ? (int)value : (octave - 5) * 64 + (int)((value >> (octave - 6)) & 63);
  buckets[index]++;
  count++;
  if (value > longest) longest = value;
}

/* Microseconds. */
static double percentile(double share) {
  uint64_t rank = (uint64_t)(share * (double)count + 0.999999), seen = 0;
  for (unsigned i = 0; i < sizeof buckets / sizeof *buckets; i++) {
    seen += buckets[i];
    if (seen < rank || !seen) continue;
    uint64_t end = i < 64 ? i : (((uint64_t)(64 + i % 64) + 1) << (i / 64 - 1)) - 1;
    return (double)(end < longest ? end : longest) / 1000;
  }
  return (double)longest / 1000;
}

/* ---- The connection ---- */

static int open_connection(const char *address) {
  int fd = -1;
  if (!strncmp(address, "unix:", 5)) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strncpy(name.sun_path, address + 5, sizeof name.sun_path - 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&name, sizeof name)) fail(address);
    return fd;
  }
  char host[256];
  const char *port = strrchr(address, ':');
  if (strncmp(address, "tcp:", 4) || !port || port < address + 5) fail("address");
  snprintf(host, sizeof host, "%.*s", (int)(port - address - 4), address + 4);
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
  if (getaddrinfo(host, port + 1, &hints, &found)) fail(host);
  fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, found->ai_addr, found->ai_addrlen)) fail(address);
  freeaddrinfo(found);
  int yes = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  return fd;
}

static char *file(const char *path, size_t *size) {
  FILE *stream = fopen(path, "rb");
  if (!stream) fail(path);
  fseek(stream, 0, SEEK_END);
  *size = (size_t)ftell(stream);
  rewind(stream);
  char *bytes = malloc(*size + 1);
  if (!bytes || fread(bytes, 1, *size, stream) != *size) fail(path);
  fclose(stream);
  return bytes;
}

static void read_whole(int fd, char *to, size_t size) {
  while (size > 0) {
    ssize_t n = recv(fd, to, size, 0);
    if (n <= 0) fail("reading");
    to += n;
    size -= (size_t)n;
  }
}

/* Reads one frame; its length, its type and flags. */
static size_t frame(int fd, char **buffer, unsigned char kind[2]) {
  char header[HEADER];
  uint32_t payload, message;
  read_whole(fd, header, HEADER);
  memcpy(&payload, header, 4);
  memcpy(&message, header + 4, 4);
  memcpy(kind, header + 12, 2);
  size_t rest = (size_t)payload + message;
  *buffer = realloc(*buffer, rest + 1);
  if (!*buffer) fail("memory");
  read_whole(fd, *buffer, rest);
  return HEADER + rest;
}

/* ---- The run ---- */

struct call_template {
  char *bytes;
  size_t size;
  size_t variants;
  size_t offsets[OFFSETS_MAX];
  int offset_count;
};

static uint32_t next_stream = 1;

static void stamp(char *at, const struct call_template *call) {
  for (int i = 0; i < call->offset_count; i++) memcpy(at + call->offsets[i], &next_stream, 4);
  next_stream++;
}

/* Where the calls are few and big, one copy is enough: it is changed only once it has been written. */
struct writer {
  char *bytes;
  size_t size, written;
};

static int write_some(int fd, struct writer *writer) {
  while (writer->written < writer->size) {
    ssize_t n = send(fd, writer->bytes + writer->written, writer->size - writer->written,
                     MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n < 0) fail("writing");
    writer->written += (size_t)n;
  }
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 9) {
    fprintf(stderr, "usage: drive ADDRESS GREETING CALLS VARIANTS OFFSETS DEPTH SECONDS WARM-UP\n");
    return 2;
  }
  struct call_template call = {0};
  size_t greeting_size;
  char *greeting = file(argv[2], &greeting_size);
  call.bytes = file(argv[3], &call.size);
  call.variants = strtoul(argv[4], 0, 10);
  if (call.variants == 0 || call.size % call.variants) fail("variants");
  call.size /= call.variants;
  for (char *at = argv[5]; *at && call.offset_count < OFFSETS_MAX; at += *at == ',')
    call.offsets[call.offset_count++] = strtoul(at, &at, 10);
  size_t depth = strtoul(argv[6], 0, 10);
  uint64_t seconds = (uint64_t)(atof(argv[7]) * 1e9), warm_up = (uint64_t)(atof(argv[8]) * 1e9);

  int fd = open_connection(argv[1]);
  char *buffer = 0;
  unsigned char kind[2];
  struct writer first = {greeting, greeting_size, 0};
  if (!write_some(fd, &first)) fail("greeting");
  frame(fd, &buffer, kind);

  /* The first call, alone: how long an answer is, and whether it is one. */
  stamp(call.bytes, &call);
  first = (struct writer){call.bytes, call.size, 0};
  while (!write_some(fd, &first)) poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 1000);
  size_t answer = frame(fd, &buffer, kind);
  errno = 0;
  if (kind[0] != MESSAGE || kind[1] != END_STREAM) fail("the first call's answer");

  size_t room = answer > INPUT ? answer : INPUT;
  /* Some more than are written at once: the first may be any variant. */
  size_t copies = depth + call.variants - 1;
  char *input = malloc(room), *output = malloc(copies * call.size);
  uint64_t *begun = calloc(depth, sizeof *begun);
  if (!input || !output || !begun) fail("memory");
  for (size_t i = 0; i < copies; i++)
    memcpy(output + i * call.size, call.bytes + i % call.variants * call.size, call.size);

  uint64_t start = now(), from = start + warm_up, end = from + seconds, begin = 0, answered = 0;
  double processor = 0;
  size_t pending = depth, part = 0;
  struct writer writer = {output, 0, 0};
  int measuring = 0;
  for (;;) {
    uint64_t time = now();
    if (!measuring && time >= from) {
      measuring = 1;
      processor = processor_time();
    }
    if (time >= end) break;
    if (pending > 0 && writer.written == writer.size) {
      char *first_of_these = output + begin % call.variants * call.size;
      for (size_t i = 0; i < pending; i++) {
        stamp(first_of_these + i * call.size, &call);
        begun[(begin + i) % depth] = time;
      }
      begin += pending;
      writer = (struct writer){first_of_these, pending * call.size, 0};
      pending = 0;
    }
    int flags = 0;
    if (!write_some(fd, &writer)) {
      struct pollfd entry = {.fd = fd, .events = POLLIN | POLLOUT};
      poll(&entry, 1, 1000);
      flags = MSG_DONTWAIT;
    }
    ssize_t n = recv(fd, input, room, flags);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n <= 0) fail("reading");
    time = now();
    for (part += (size_t)n; part >= answer; part -= answer) {
      uint64_t since = begun[answered++ % depth];
      if (since >= from && time < end) add(time - since);
      pending++;
    }
  }
  processor = processor_time() - processor;
  double whole = (double)seconds / 1e9;
  printf("{\"calls\": %llu, \"seconds\": %.6f, \"rate\": %.3f, \"call_bytes\": %zu, \"answer_bytes\": %zu, "
         "\"client_processors\": %.4f, \"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"p999\": %.3f, \"max\": %.3f}\n",
         (unsigned long long)count, whole, (double)count / whole, call.size, answer, processor / whole,
         percentile(0.5), percentile(0.9), percentile(0.99), percentile(0.999), (double)longest / 1000);
  return 0;
}
