/* Evaluates the cross entropy of a data set that need not fit into memory, streamed from .npy files.
 *
 *     cc -std=c99 evaluate_rows.c -o evaluate_rows $(pkg-config --cflags --libs lossd)
 *     python examples/make_rows.py --rows 10000000 /tmp/rows
 *     LOSSD_ADDRESS=unix:/run/lossd/lossd.sock ./evaluate_rows /tmp/rows/logits.npy /tmp/rows/labels.npy */
#define _GNU_SOURCE
#include <fcntl.h>
#include <lossd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { WINDOW = 8 }; /* batches under way at once */

/* A .npy file of this type and rank, mapped; the shape is read from its header. NULL: it is another. */
static const char *map_npy(const char *path, const char *type, int rank, int64_t *shape) {
  struct stat status;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0 || fstat(file, &status) != 0 || status.st_size < 128) {
    fprintf(stderr, "%s: cannot be read\n", path);
    return NULL;
  }
  const char *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (bytes == MAP_FAILED || memcmp(bytes, "\x93NUMPY\x01\x00", 8) != 0) {
    fprintf(stderr, "%s: not a .npy file\n", path);
    return NULL;
  }
  char header[1024], order[64];
  size_t length = (unsigned char)bytes[8] | (size_t)(unsigned char)bytes[9] << 8;
  if (length >= sizeof header || 10 + length > (size_t)status.st_size) length = 0;
  memcpy(header, bytes + 10, length);
  header[length] = 0;
  snprintf(order, sizeof order, "{'descr': '%s', 'fortran_order': False, 'shape': (", type);
  char *at = header + strlen(order);
  if (strncmp(header, order, strlen(order)) != 0) length = 0;
  for (int index = 0; index < rank && length > 0; index++) shape[index] = strtoll(at, &at, 10), at += strspn(at, ", ");
  size_t elements = length > 0 && *at == ')' ? (size_t)shape[0] * (size_t)(rank > 1 ? shape[1] : 1) : SIZE_MAX;
  if (elements > ((size_t)status.st_size - 10 - length) / (size_t)atoi(type + 2)) {
    fprintf(stderr, "%s: expected %d dimensions of type %s\n", path, rank, type);
    return NULL;
  }
  return bytes + 10 + length;
}

static lossd_code stream_rows(lossd_client *client, const char *logits, const int64_t *shape, const char *labels,
                              int64_t batch_rows, lossd_summary *summary, lossd_error *error) {
  lossd_call *first = lossd_call_new(client, "cross_entropy"), *batches[WINDOW], *done;
  lossd_stream *stream = lossd_stream_new(first, error);
  lossd_code code = stream == NULL ? error->code : LOSSD_OK;
  for (int index = 0; index < WINDOW; index++) batches[index] = lossd_call_new(client, NULL);
  int64_t number = 0;
  for (int64_t row = 0; row < shape[0] && code == LOSSD_OK; row += batch_rows, number++) {
    lossd_call *batch = batches[number % WINDOW];
    int64_t rows = shape[0] - row < batch_rows ? shape[0] - row : batch_rows;
    /* The oldest batch comes back first; its own loss could be read now. */
    if (number >= WINDOW) code = lossd_stream_next(stream, &done, error);
    lossd_call_input(batch, "input", LOSSD_FLOAT32, 2, (int64_t[]){rows, shape[1]}, logits + row * shape[1] * 4);
    lossd_call_input(batch, "target", LOSSD_INT64, 1, (int64_t[]){rows}, labels + row * 8);
    if (code == LOSSD_OK) code = lossd_stream_send(stream, batch, error);
  }
  if (code == LOSSD_OK) code = lossd_stream_finish(stream, error);
  do {
    if (code == LOSSD_OK) code = lossd_stream_next(stream, &done, error);
  } while (code == LOSSD_OK && done != NULL);
  if (code == LOSSD_OK) code = lossd_stream_summary(stream, summary, error);
  lossd_stream_free(stream);
  lossd_call_free(first);
  for (int index = 0; index < WINDOW; index++) lossd_call_free(batches[index]);
  return code;
}

/* What of the files is mapped is the page cache's, and goes when others want it. */
static long own_kib(void) {
  char line[256];
  long kib = 0;
  FILE *status = fopen("/proc/self/status", "r");
  while (status != NULL && fgets(line, sizeof line, status) != NULL) sscanf(line, "RssAnon: %ld", &kib);
  if (status != NULL) fclose(status);
  return kib;
}

int main(int count, char **arguments) {
  int64_t shape[2], labelled[1];
  lossd_error error;
  lossd_summary summary;
  if (count < 3) {
    fprintf(stderr, "usage: %s LOGITS.npy LABELS.npy [BATCH-SIZE]\n", arguments[0]);
    return 2;
  }
  const char *logits = map_npy(arguments[1], "<f4", 2, shape), *labels = map_npy(arguments[2], "<i8", 1, labelled);
  int64_t batch_rows = count > 3 ? atoll(arguments[3]) : 8192;
  if (logits == NULL || labels == NULL || shape[0] != labelled[0] || batch_rows < 1) return 1;
  struct timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  lossd_client *client = lossd_client_new(NULL, &error);
  if (client == NULL ||
      stream_rows(client, logits, shape, labels, batch_rows, &summary, &error) != LOSSD_OK) {
    fprintf(stderr, "%s: %s\n", lossd_code_name(error.code), error.text);
    return 1;
  }
  lossd_client_free(client);
  clock_gettime(CLOCK_MONOTONIC, &end);
  double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) * 1e-9;
  printf("loss %.9f of %llu rows\n", summary.loss, (unsigned long long)summary.rows);
  printf("%.0f rows/s, %ld MiB of memory beside the files\n", (double)summary.rows / seconds, own_kib() / 1024);
  return 0;
}
