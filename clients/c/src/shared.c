/* Segments: memory that the daemon maps too. They are used again and again, since new pages cost more than copying
 * into old ones; one that the daemon may still be at is not. */
#include "internal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Sizes in steps of an eighth, so that a segment fits again when shapes change a little. */
static size_t rounded(size_t size) {
  size_t step = 65536;
  while (step < size / 8) step *= 2;
  return size > SIZE_MAX - step ? size : (size + step - 1) / step * step;
}

static void unlink_segment(lossd_client *client, struct segment *segment) {
  struct segment **link = &client->segments;
  while (*link != segment) link = &(*link)->next;
  *link = segment->next;
  client->segment_count--;
  client->segment_bytes -= segment->size;
}

static void destroy(lossd_client *client, struct segment *segment) {
  for (struct connection *item = client->connections; item != NULL; item = item->next) {
    if (segment->descriptor >= 0) region_forget(item, segment->number);
  }
  unlink_segment(client, segment);
  if (segment->descriptor >= 0) {
    munmap(segment->base, segment->size);
    close(segment->descriptor);
  } else {
    free(segment->base);
  }
  free(segment);
}

/* A memfd that cannot shrink, mapped; 0: there is none. */
static int map_segment(struct segment *segment) {
  segment->descriptor = memfd_create("lossd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (segment->descriptor < 0) return 0;
  void *base = MAP_FAILED;
  if (ftruncate(segment->descriptor, (off_t)segment->size) == 0 &&
      fcntl(segment->descriptor, F_ADD_SEALS, F_SEAL_SHRINK) == 0) {
    base = mmap(NULL, segment->size, PROT_READ | PROT_WRITE, MAP_SHARED, segment->descriptor, 0);
  }
  if (base != MAP_FAILED) {
    segment->base = base;
    return 1;
  }
  close(segment->descriptor);
  segment->descriptor = -1;
  return 0;
}

static struct segment *make(lossd_client *client, size_t size, int may_be_ordinary) {
  struct segment *segment = calloc(1, sizeof *segment);
  if (segment == NULL) return NULL;
  segment->size = size;
  segment->descriptor = -1;
  int is_shared = client->address.path != NULL && map_segment(segment);
  void *memory = NULL;
  if (!is_shared && (!may_be_ordinary || posix_memalign(&memory, 4096, size) != 0)) {
    free(segment);
    return NULL;
  }
  if (!is_shared) segment->base = memory;
  segment->number = ++client->next_segment;
  segment->next = client->segments;
  client->segments = segment;
  client->segment_count++;
  client->segment_bytes += size;
  return segment;
}

/* Lets go of what is idle until no more than `max` bytes are. */
static void trim(lossd_client *client, size_t max) {
  size_t idle = 0;
  struct segment *next;
  /* The newest first: what is over the limit then is what has been idle longest, about. */
  for (struct segment *segment = client->segments; segment != NULL; segment = next) {
    next = segment->next;
    if (segment->owner != SEGMENT_IDLE) continue;
    if (segment->size > max - idle) {
      destroy(client, segment);
    } else {
      idle += segment->size;
    }
  }
}

struct segment *segment_take(lossd_client *client, size_t size) {
  struct segment *best = NULL;
  size = rounded(size == 0 ? 1 : size);
  for (struct segment *segment = client->segments; segment != NULL; segment = segment->next) {
    if (segment->owner != SEGMENT_IDLE || segment->size < size || segment->size / 2 > size) continue;
    if (best == NULL || segment->size < best->size) best = segment;
  }
  if (best == NULL) {
    if (client->segment_count >= SEGMENTS_MAX || size > SEGMENT_BYTES_MAX ||
        client->segment_bytes > SEGMENT_BYTES_MAX - size) {
      trim(client, 0);
    }
    if (client->segment_count >= SEGMENTS_MAX || size > SEGMENT_BYTES_MAX ||
        client->segment_bytes > SEGMENT_BYTES_MAX - size) {
      return NULL;
    }
    best = make(client, size, 0);
  }
  if (best != NULL) best->owner = SEGMENT_CALLS;
  return best;
}

/* Nobody uses it: to be used again, or not. */
static void settle(lossd_client *client, struct segment *segment) {
  if (segment->uses > 0 || segment->owner != SEGMENT_LEFT) return;
  segment->owner = SEGMENT_IDLE;
  if (segment->is_tainted || segment->descriptor < 0) {
    destroy(client, segment);
  } else {
    trim(client, SEGMENT_IDLE_MAX);
  }
}

void segment_leave(lossd_client *client, struct segment *segment) {
  segment->owner = SEGMENT_LEFT;
  settle(client, segment);
}

struct segment *segment_find(const lossd_client *client, const void *address, size_t bytes) {
  const unsigned char *begin = address;
  for (struct segment *segment = client->segments; segment != NULL; segment = segment->next) {
    if (segment->owner != SEGMENT_USERS || segment->descriptor < 0) continue;
    if (begin < segment->base || begin >= segment->base + segment->size) continue;
    size_t offset = (size_t)(begin - segment->base);
    return offset % ALIGNMENT == 0 && bytes <= segment->size - offset && !segment->is_tainted ? segment : NULL;
  }
  return NULL;
}

void segments_free(lossd_client *client) {
  while (client->segments != NULL) destroy(client, client->segments);
}

void segments_forked(lossd_client *client) {
  struct segment *next;
  for (struct segment *segment = client->segments; segment != NULL; segment = next) {
    next = segment->next;
    segment->is_tainted = 1;
    segment->uses = 0;
    if (segment->owner == SEGMENT_IDLE) segment->owner = SEGMENT_LEFT;
    settle(client, segment);
  }
}

/* ---- Uses ---- */

int uses_add(struct uses *uses, struct segment *segment) {
  for (size_t index = 0; index < uses->count; index++) {
    if (uses->list[index] == segment) return 1;
  }
  struct segment **larger = grown(uses->list, uses->count, &uses->capacity, sizeof *larger);
  if (larger == NULL) return 0;
  uses->list = larger;
  larger[uses->count++] = segment;
  segment->uses++;
  return 1;
}

void uses_move(struct uses *to, struct uses *from) {
  for (size_t index = 0; index < from->count; index++) {
    struct segment *segment = from->list[index];
    if (uses_add(to, segment)) {
      segment->uses--;
    } else {
      segment->is_tainted = 1;
    }
  }
  from->count = 0;
}

void uses_free(struct uses *uses) {
  free(uses->list);
  memset(uses, 0, sizeof *uses);
}

void uses_end(lossd_client *client, struct uses *uses, int is_safe) {
  for (size_t index = 0; index < uses->count; index++) {
    struct segment *segment = uses->list[index];
    /* The user's own memory is used again by the user's own leave. */
    if (!is_safe && segment->owner != SEGMENT_USERS) segment->is_tainted = 1;
    if (segment->uses > 0) segment->uses--;
    settle(client, segment);
  }
  uses->count = 0;
}

/* ---- The user's ---- */

void *lossd_client_alloc(lossd_client *client, size_t bytes) {
  if (client == NULL || client->is_freed || bytes > SIZE_MAX / 2) return NULL;
  struct segment *segment = make(client, rounded(bytes == 0 ? 1 : bytes), 1);
  if (segment == NULL) return NULL;
  segment->owner = SEGMENT_USERS;
  if (segment->descriptor < 0) memset(segment->base, 0, segment->size);
  return segment->base;
}

void lossd_client_dealloc(lossd_client *client, void *memory) {
  if (client == NULL || memory == NULL) return;
  for (struct segment *segment = client->segments; segment != NULL; segment = segment->next) {
    if (segment->base != memory || segment->owner != SEGMENT_USERS) continue;
    segment_leave(client, segment);
    return;
  }
}

void lossd_client_set_shared_min(lossd_client *client, size_t bytes) {
  if (client != NULL) client->shared_min = bytes;
}
