/* Answers that the process's own code has not made. */
#include "wicked.h"
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET 3
#define ANSWER 18
#define COMPUTED 2

typedef struct message {
  size_t count;
  char bytes[64 << 10];
} message;

static void put(message *m, const void *value, size_t size) {
  if (m->count + size > sizeof m->bytes) return;
  memcpy(m->bytes + m->count, value, size);
  m->count += size;
}
static void put32(message *m, uint32_t value) { put(m, &value, sizeof value); }
static void put64(message *m, uint64_t value) { put(m, &value, sizeof value); }

/* As Orders.swift has them: data type, flags, value index, rank, shape. */
static void put_output(message *m, uint32_t type, uint32_t flags, uint32_t rank, uint64_t size) {
  put32(m, type);
  put32(m, flags);
  put32(m, 0);
  put32(m, rank);
  if (rank) put64(m, size);
}

void deed_forges(moment *at) {
  static message m;
  int64_t bytes = argument(at, 264);
  int64_t rows = (int64_t)((uint64_t)1 << (at->attributes[HIGH].as.integer & 63));
  /* A process of its own may not even ask. */
  if (kill(getpid(), 0) == 0 || errno != EPERM) return;
  m.count = 0;
  put32(&m, ANSWER);
  put32(&m, 0);
  put64(&m, (uint64_t)at->attributes[LOW].as.integer);
  put32(&m, COMPUTED);
  put32(&m, 1);
  put64(&m, (uint64_t)rows);
  put64(&m, 64);
  put64(&m, 64);
  put64(&m, 0x3FF0000000000000u); /* 1.0 ns */
  put32(&m, 2);
  put_output(&m, LOSSD_FLOAT32, 0, 1, 4);
  put_output(&m, LOSSD_FLOAT64, LOSSD_PLANNED_REDUCED, 0, 0);
  put32(&m, 2); /* the sums of a function that merges by itself, and none of the host's */
  put64(&m, 0);
  put64(&m, 0);
  put32(&m, 0);
  put32(&m, (uint32_t)bytes);
  while (m.count % 64) put(&m, "", 1);
  for (int64_t i = 0; i < bytes; i++) put(&m, "\xAA", 1);
  (void)!write(SOCKET, m.bytes, m.count);
}
