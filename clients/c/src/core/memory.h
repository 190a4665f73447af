/* Bytes that grow, and the memory that decoding takes. */
#ifndef LOSSD_MEMORY_H
#define LOSSD_MEMORY_H

#include <protobuf-c/protobuf-c.h>

#include "error.h"

#define ARENA_MAX (64u << 20) /* bytes that decoding one message may take */

struct bytes {
  unsigned char *base;
  size_t length;
  size_t capacity;
};

/* Makes room for `more` bytes; 0 without memory. */
int bytes_reserve(struct bytes *bytes, size_t more);
/* In place of what it has; 0 without memory. */
int bytes_set(struct bytes *bytes, const void *from, size_t length);
/* The message, encoded, in place of what it has; 0 without memory. */
int bytes_pack(struct bytes *bytes, const ProtobufCMessage *message);
void bytes_free(struct bytes *bytes);
/* An array of `count` with room for one more: grown by half where it is full; NULL without memory. */
void *grown(void *array, size_t count, size_t *capacity, size_t element);

/* Memory for one message at a time: reset, then decode. It keeps one block and says no beyond ARENA_MAX. */
struct arena {
  ProtobufCAllocator allocator;
  unsigned char *block;
  size_t used;
  size_t capacity;
  struct arena_extra *extra; /* what did not fit into the block */
  size_t extra_bytes;
};

void arena_init(struct arena *arena);
void arena_reset(struct arena *arena);
void arena_free(struct arena *arena);
void *arena_take(struct arena *arena, size_t size);

#endif
