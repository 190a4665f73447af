/* What is to be written to a connection: our own bytes (headers, messages), which are kept in one block, and
 * tensors, which stay where they lie until they have been written. */
#include "output.h"

#include <assert.h>

/* Stands for memory that was taken back while its frame was on the way. */
static const unsigned char output_zeros[16384];

void output_init(struct output *output) { memset(output, 0, sizeof *output); }

void output_free(struct output *output) {
  bytes_free(&output->bytes);
  free(output->items);
  output_init(output);
}

int output_reserve(struct output *output, size_t bytes, size_t items) {
  /* What has been written makes room, once that is worth moving the rest. */
  if (output->taken > 4096 && output->taken > output->bytes.length / 2) {
    output->bytes.length -= output->taken;
    memmove(output->bytes.base, output->bytes.base + output->taken, output->bytes.length);
    output->taken = 0;
  }
  if (output->first > 64 && output->first > output->count / 2) {
    output->count -= output->first;
    memmove(output->items, output->items + output->first, output->count * sizeof *output->items);
    output->first = 0;
  }
  if (!bytes_reserve(&output->bytes, bytes)) return 0;
  if (output->capacity - output->count < items) {
    size_t capacity = output->count + items + output->count / 2;
    struct output_item *larger = realloc(output->items, capacity * sizeof *larger);
    if (larger == NULL) return 0;
    output->items = larger;
    output->capacity = capacity;
  }
  return 1;
}

static struct output_item *add_item(struct output *output) {
  assert(output->count < output->capacity);
  struct output_item *item = &output->items[output->count++];
  memset(item, 0, sizeof *item);
  return item;
}

unsigned char *output_append(struct output *output, size_t count) {
  assert(output->bytes.capacity - output->bytes.length >= count);
  struct output_item *last = output->count > output->first ? &output->items[output->count - 1] : NULL;
  if (last == NULL || last->base != NULL) last = add_item(output);
  last->length += count;
  output->pending += count;
  unsigned char *result = output->bytes.base + output->bytes.length;
  output->bytes.length += count;
  return result;
}

void output_borrow(struct output *output, const void *base, size_t length, const void *owner) {
  if (length == 0) return;
  struct output_item *item = add_item(output);
  item->base = base;
  item->length = length;
  item->owner = owner;
  output->pending += length;
}

void output_abandon(struct output *output, const void *owner, uint64_t until) {
  if (output->written >= until) return;
  for (size_t index = output->first; index < output->count; index++) {
    struct output_item *item = &output->items[index];
    if (item->owner != owner || item->base == NULL) continue;
    item->base = output_zeros;
    item->owner = NULL;
  }
}

size_t output_vectors(const struct output *output, struct iovec *vectors, size_t max) {
  size_t used = 0;
  const unsigned char *own = output->bytes.base + output->taken;
  for (size_t index = output->first; index < output->count && used < max; index++) {
    const struct output_item *item = &output->items[index];
    const unsigned char *base = item->base;
    size_t length = item->length;
    if (base == NULL) {
      base = own;
      own += length;
    }
    int is_cut = base == output_zeros && length > sizeof output_zeros;
    vectors[used].iov_base = (void *)(uintptr_t)base;
    vectors[used++].iov_len = is_cut ? sizeof output_zeros : length;
    if (is_cut) break; /* the rest comes with the next write */
  }
  return used;
}

void output_advance(struct output *output, size_t written) {
  assert(written <= output->pending);
  output->pending -= written;
  output->written += written;
  while (written > 0) {
    struct output_item *item = &output->items[output->first];
    size_t part = written < item->length ? written : item->length;
    if (item->base == NULL) {
      output->taken += part;
    } else if (item->base != output_zeros) {
      item->base += part;
    }
    item->length -= part;
    written -= part;
    if (item->length == 0) output->first++;
  }
  if (output->first == output->count) {
    output->first = output->count = 0;
    output->bytes.length = output->taken = 0;
    if (output->bytes.capacity > 4 * OUTPUT_HIGH) bytes_free(&output->bytes);
  }
}
