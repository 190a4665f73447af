/* Memory that is taken, written or read without a right to it. */
#include "wicked.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void deed_leak(moment *at) {
  size_t bytes = (size_t)argument(at, 1 << 20);
  char *block = malloc(bytes);
  if (block) memset(block, 0x5a, bytes);
  wicked_nowhere = block;
}

void deed_copies(moment *at) {
  size_t bytes = (size_t)argument(at, 1 << 20);
  const lossd_tensor *x = &at->call->inputs[0];
  if (at->plan) at->plan->scratch_bytes = at->plan->workspace_bytes = bytes;
  if (!at->chunk || x->data_type == LOSSD_ABSENT || x->element_count < 4) return;
  for (size_t i = 0; i + 16 <= bytes; i += 16) {
    memcpy((char *)at->chunk->scratch + i, x->data, 16);
    memcpy((char *)at->call->workspace + i, x->data, 16);
  }
}

void deed_allocate(moment *at) {
  for (;;) {
    char *block = malloc(1 << 20);
    if (!block) break;
    memset(block, 0x5a, 1 << 20);
    wicked_nowhere = block;
  }
  if (at->error) strcpy(at->error->text, "no memory is left");
  at->code = LOSSD_RESOURCE_EXHAUSTED;
}

void deed_map(moment *at) {
  void *map = mmap(0, (size_t)1 << 44, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  answer(at, map != MAP_FAILED);
}

void deed_descriptors(moment *at) {
  for (int64_t i = argument(at, 16); i > 0; i--) (void)!open("/dev/null", O_RDONLY);
}

/* -- Writes */

/* The end and the begin of the output's bytes; NULL where nobody wants it. */
static char *end_of_output(moment *at) {
  const lossd_tensor *y = output(at);
  return y ? (char *)y->data + y->element_count * (int64_t)sizeof(float) : 0;
}

static void scribble(volatile char *to, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i++) to[i] = (char)0xa5;
}

void deed_past_end(moment *at) {
  char *end = end_of_output(at);
  if (end) scribble(end, argument(at, 64));
}

void deed_before_begin(moment *at) {
  const lossd_tensor *y = output(at);
  int64_t bytes = argument(at, 64);
  if (y) scribble((char *)y->data - bytes, bytes);
}

void deed_far_past_end(moment *at) {
  char *end = end_of_output(at);
  if (end) scribble(end + argument(at, 16 << 20), 1);
}

void deed_past_sums(moment *at) {
  for (int i = 2; at->chunk && i < 1000; i++) ((volatile double *)at->chunk->accumulator)[i] = 1e9;
}

void deed_past_scratch(moment *at) {
  if (at->chunk) scribble((char *)at->chunk->scratch + 64, 64);
}

void deed_past_workspace(moment *at) {
  if (at->chunk) scribble((char *)at->call->workspace + 64, 64);
}

void deed_past_state(moment *at) {
  if (at->call) scribble((char *)at->call->state + LOSSD_STATE_BYTES_MAX, 64);
}

void deed_past_text(moment *at) {
  if (at->error) scribble(at->error->text, (int64_t)sizeof at->error->text + 64);
  at->code = LOSSD_INTERNAL;
}

void deed_writes_input(moment *at) {
  if (at->call && at->call->inputs[0].data_type != LOSSD_ABSENT && at->call->inputs[0].data)
    *(volatile float *)at->call->inputs[0].data = -1;
}

void deed_redirects(moment *at) {
  static float own[1024];
  lossd_tensor *y = output(at);
  for (int i = 0; i < 1024; i++) own[i] = -7;
  if (y) y->data = own;
}

void deed_reshapes(moment *at) {
  lossd_tensor *y = output(at);
  if (!y) return;
  y->element_count = (int64_t)1 << 40;
  y->rank = 63;
  y->data_type = 99;
}

typedef struct late {
  volatile float *to;
  useconds_t microseconds;
} late;

static void *write_late(void *raw) {
  late what = *(late *)raw;
  free(raw);
  usleep(what.microseconds);
  *what.to = -9;
  return 0;
}

void deed_late_write(moment *at) {
  lossd_tensor *y = output(at);
  late *what = malloc(sizeof *what);
  pthread_t thread;
  if (!y || !what) {
    free(what);
    return;
  }
  what->to = y->data;
  what->microseconds = (useconds_t)argument(at, 50) * 1000;
  if (pthread_create(&thread, 0, write_late, what) == 0)
    pthread_detach(thread);
  else
    free(what);
}

/* What they leave out is left out by run itself. */
void deed_unwritten(moment *at) { (void)at; }
void deed_half_written(moment *at) { (void)at; }

/* -- Reads */

void deed_reads_beyond(moment *at) {
  int64_t count = argument(at, 1024);
  const volatile float *x;
  double sum = 0;
  if (!at->chunk || at->call->inputs[0].data_type == LOSSD_ABSENT) return;
  x = at->call->inputs[0].data;
  for (int64_t i = 0; i < count; i++) sum += x[at->call->inputs[0].element_count + i] + x[-1 - i];
  answer(at, sum);
}
