/* What is to be written: our own bytes, and tensors where they lie. */
#ifndef LOSSD_OUTPUT_H
#define LOSSD_OUTPUT_H

#include <sys/uio.h>

#include "memory.h"

#define OUTPUT_HIGH (256u << 10) /* bytes queued for a connection beyond which calls wait */

struct output_item {
  const unsigned char *base; /* NULL: of `bytes`; the constant zeros: zeros, however many */
  size_t length;
  const void *owner; /* of borrowed memory */
};

struct output {
  struct bytes bytes;
  size_t taken; /* of `bytes`, already written */
  struct output_item *items;
  size_t first;
  size_t count;
  size_t capacity;
  size_t pending;    /* bytes of all items */
  uint64_t written;  /* bytes since the beginning */
};

void output_init(struct output *output);
void output_free(struct output *output);
/* After it, appending so many bytes and items cannot fail. */
int output_reserve(struct output *output, size_t bytes, size_t items);
/* The next `count` bytes of our own, to be filled in; they have been reserved. */
unsigned char *output_append(struct output *output, size_t count);
void output_borrow(struct output *output, const void *base, size_t length, const void *owner);
/* The owner's memory, queued up to the mark `until` (`written` plus `pending` of then), is not touched any more:
 * zeros go in its place, since a frame has to be whole. */
void output_abandon(struct output *output, const void *owner, uint64_t until);
/* What comes next. */
size_t output_vectors(const struct output *output, struct iovec *vectors, size_t max);
void output_advance(struct output *output, size_t written);

#endif
