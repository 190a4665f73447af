/* Bytes that grow, and the arena that messages are decoded into. */
#include "memory.h"

int bytes_reserve(struct bytes *bytes, size_t more) {
  if (bytes->capacity - bytes->length >= more) return 1;
  if (more > SIZE_MAX / 4 - bytes->length) return 0;
  size_t capacity = bytes->capacity + bytes->capacity / 2;
  if (capacity < bytes->length + more) capacity = bytes->length + more;
  if (capacity < 256) capacity = 256;
  unsigned char *base = realloc(bytes->base, capacity);
  if (base == NULL) return 0;
  bytes->base = base;
  bytes->capacity = capacity;
  return 1;
}

int bytes_set(struct bytes *bytes, const void *from, size_t length) {
  bytes->length = 0;
  if (!bytes_reserve(bytes, length + 1)) return 0;
  if (length > 0) memcpy(bytes->base, from, length);
  bytes->length = length;
  return 1;
}

int bytes_pack(struct bytes *bytes, const ProtobufCMessage *message) {
  size_t size = protobuf_c_message_get_packed_size(message);
  bytes->length = 0;
  if (!bytes_reserve(bytes, size + 1)) return 0;
  bytes->length = protobuf_c_message_pack(message, bytes->base);
  return 1;
}

void bytes_free(struct bytes *bytes) {
  free(bytes->base);
  memset(bytes, 0, sizeof *bytes);
}

void *grown(void *array, size_t count, size_t *capacity, size_t element) {
  if (count < *capacity) return array;
  size_t larger = *capacity < 4 ? 4 : *capacity + *capacity / 2;
  if (larger > SIZE_MAX / 4 / element) return NULL;
  void *result = realloc(array, larger * element);
  if (result != NULL) *capacity = larger;
  return result;
}

/* ---- The arena ---- */

#define ARENA_BLOCK (16u << 10)

struct arena_extra {
  struct arena_extra *next;
  union { /* aligns what follows */
    double number;
    void *pointer;
    int64_t integer;
  } memory[];
};

void *arena_take(struct arena *arena, size_t size) {
  size_t rounded = (size + 15) & ~(size_t)15;
  if (size > ARENA_MAX) return NULL;
  if (arena->block == NULL) {
    arena->block = malloc(ARENA_BLOCK);
    if (arena->block == NULL) return NULL;
    arena->capacity = ARENA_BLOCK;
  }
  if (arena->capacity - arena->used >= rounded) {
    void *result = arena->block + arena->used;
    arena->used += rounded;
    return result;
  }
  if (rounded > ARENA_MAX - arena->extra_bytes) return NULL;
  struct arena_extra *extra = malloc(sizeof *extra + rounded);
  if (extra == NULL) return NULL;
  extra->next = arena->extra;
  arena->extra = extra;
  arena->extra_bytes += rounded;
  return extra->memory;
}

static void *arena_allocate(void *data, size_t size) { return arena_take(data, size); }

static void arena_ignore(void *data, void *pointer) {
  (void)data;
  (void)pointer;
}

void arena_init(struct arena *arena) {
  memset(arena, 0, sizeof *arena);
  arena->allocator.alloc = arena_allocate;
  arena->allocator.free = arena_ignore;
  arena->allocator.allocator_data = arena;
}

void arena_reset(struct arena *arena) {
  while (arena->extra != NULL) {
    struct arena_extra *next = arena->extra->next;
    free(arena->extra);
    arena->extra = next;
  }
  arena->extra_bytes = 0;
  arena->used = 0;
}

void arena_free(struct arena *arena) {
  arena_reset(arena);
  free(arena->block);
  arena->block = NULL;
  arena->capacity = 0;
}
