/* Segments: memory that the daemon makes and maps too, each a region of one connection. They are used again and again,
 * since new pages cost more than copying into old ones; one that the daemon may still be at is not. Some time after a
 * connection's end the daemon frees their pages, and they read as zeros: what the user has is made ordinary memory before
 * that, in its place. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Before a segment's memory, in its region: the daemon frees a region from its beginning, so that who finds this word still
 * there knows that nothing has been freed. A page, so that the memory is at a multiple of one. */
#define MARK_BYTES ((size_t)4096)
const char segment_lost[] =
    "its memory, of lossd_client_alloc or of a result, was lost: the daemon had ended the connection and freed it before "
    "this library was called";
static const uint64_t mark = 0x6c6f7373642d6f6bu;

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

/* The daemon need not keep it. */
static void release(struct segment *segment) {
  struct connection *connection = segment->connection;
  if (connection != NULL && segment->state != SEGMENT_ASKED && !connection->is_closed && !connection->cannot_write) {
    put_region(&connection->output, FRAME_RELEASE, segment->number, 0);
  }
  segment->connection = NULL;
}

static void destroy(lossd_client *client, struct segment *segment) {
  release(segment);
  unlink_segment(client, segment);
  if (segment->descriptor >= 0) close(segment->descriptor);
  if (segment->is_mapped) {
    munmap(segment->base - MARK_BYTES, segment->size + MARK_BYTES);
  } else {
    free(segment->base);
  }
  free(segment);
}

static struct segment *add(lossd_client *client, size_t size, enum segment_state state) {
  struct segment *segment = calloc(1, sizeof *segment);
  if (segment == NULL) return NULL;
  segment->size = size;
  segment->descriptor = -1;
  segment->state = state;
  segment->number = ++client->next_segment;
  segment->next = client->segments;
  client->segments = segment;
  client->segment_count++;
  client->segment_bytes += size;
  return segment;
}

/* Asks the daemon for one; NULL where it has refused such sizes, or without memory. */
static struct segment *ask(struct connection *connection, size_t size) {
  if (connection->region_refused != 0 && size >= connection->region_refused) return NULL;
  if (!connection_takes_calls(connection)) return NULL;
  struct segment *segment = add(connection->client, size, SEGMENT_ASKED);
  if (segment == NULL) return NULL;
  if (!put_region(&connection->output, FRAME_REGION, segment->number, size + MARK_BYTES)) {
    destroy(connection->client, segment);
    return NULL;
  }
  segment->connection = connection;
  return segment;
}

/* Maps what the daemon has sent, if it is what it was asked for; else it is the caller's to close. Sealed first, then
 * measured: from then on it cannot become shorter, and touching it is never a SIGBUS. */
static int map_segment(struct segment *segment, int descriptor) {
  struct stat file;
  int seals = fcntl(descriptor, F_GET_SEALS);
  if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(descriptor, &file) != 0 ||
      (uint64_t)file.st_size < segment->size + MARK_BYTES) {
    return 0;
  }
  unsigned char *base =
      mmap(NULL, segment->size + MARK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (base == MAP_FAILED) return 0;
  memcpy(base, &mark, sizeof mark);
  segment->base = base + MARK_BYTES;
  segment->is_mapped = 1;
  segment->descriptor = descriptor;
  segment->state = SEGMENT_THERE;
  return 1;
}

/* Every page of a private mapping becomes this process's own, as it is, also where other threads write there. */
static int own_pages(unsigned char *base, size_t size) {
  if (madvise(base, size, MADV_POPULATE_WRITE) == 0) return 1;
  if (errno != EINVAL) return 0;
  /* Linux before 5.14. Locking a private page also makes it one's own. */
  for (size_t at = 0; at < size; at += 65536) {
    size_t piece = size - at < 65536 ? size - at : 65536;
    if (mlock(base + at, piece) != 0) return 0;
    munlock(base + at, piece);
  }
  return 1;
}

/* Its connection has ended, or is about to: what lies there stays, in ordinary memory. */
static void keep(struct segment *segment) {
  unsigned char *base = segment->base - MARK_BYTES;
  uint64_t found = 0;
  size_t size = segment->size + MARK_BYTES;
  /* From one mapping to the other: no write is lost in between, since both show the same pages. */
  if (mmap(base, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, segment->descriptor, 0) != base ||
      !own_pages(base, size) || pread(segment->descriptor, &found, sizeof found, 0) != (ssize_t)sizeof found ||
      found != mark) {
    segment->is_lost = segment->connection->client->has_lost = 1;
  }
  close(segment->descriptor);
  segment->descriptor = -1;
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

struct segment *segment_take(struct connection *connection, size_t size) {
  lossd_client *client = connection->client;
  struct segment *best = NULL;
  size = rounded(size == 0 ? 1 : size);
  for (struct segment *segment = client->segments; segment != NULL; segment = segment->next) {
    if (segment->owner != SEGMENT_IDLE || segment->connection != connection) continue;
    if (segment->size < size || segment->size / 2 > size) continue;
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
    best = ask(connection, size);
  }
  if (best != NULL) best->owner = SEGMENT_CALLS;
  return best;
}

/* Nobody uses it: to be used again, or not. */
static void settle(lossd_client *client, struct segment *segment) {
  /* One that is asked for has an answer to come. */
  if (segment->uses > 0 || segment->owner != SEGMENT_LEFT || segment->state == SEGMENT_ASKED) return;
  segment->owner = SEGMENT_IDLE;
  if (segment->is_tainted || segment->connection == NULL) {
    destroy(client, segment);
  } else {
    trim(client, SEGMENT_IDLE_MAX);
  }
}

void segment_leave(lossd_client *client, struct segment *segment) {
  segment->owner = SEGMENT_LEFT;
  segment->has_result = 0;
  settle(client, segment);
}

lossd_code region_answered(struct connection *connection, uint64_t number, int is_made, lossd_error *error) {
  struct segment *segment = connection->client->segments;
  while (segment != NULL && (segment->number != number || segment->connection != connection)) segment = segment->next;
  if (segment == NULL || segment->state != SEGMENT_ASKED) {
    return fail(error, LOSSD_INTERNAL, "an answer to a REGION that was not sent");
  }
  int descriptor = is_made ? connection_next_descriptor(connection) : -1;
  segment->state = SEGMENT_GONE;
  if (descriptor < 0 || !map_segment(segment, descriptor)) {
    /* Refused, lost since this process has too many descriptors, or no such memory: the socket then. */
    if (descriptor >= 0) close(descriptor);
    if (is_made) release(segment);
    segment->connection = NULL;
    if (connection->region_refused == 0 || segment->size < connection->region_refused) {
      connection->region_refused = segment->size;
    }
  }
  settle(connection->client, segment);
  return LOSSD_OK;
}

size_t segments_asked(const struct connection *connection) {
  size_t count = 0;
  for (const struct segment *segment = connection->client->segments; segment != NULL; segment = segment->next) {
    count += segment->connection == connection && segment->state == SEGMENT_ASKED;
  }
  return count;
}

void segments_end(struct connection *connection) {
  struct segment *next;
  for (struct segment *segment = connection->client->segments; segment != NULL; segment = next) {
    next = segment->next;
    if (segment->connection != connection) continue;
    if (segment->state == SEGMENT_THERE && (segment->owner == SEGMENT_USERS || segment->has_result)) keep(segment);
    release(segment);
    segment->is_tainted = 1;
    segment->state = SEGMENT_GONE;
    if (segment->owner == SEGMENT_IDLE) segment->owner = SEGMENT_LEFT;
    settle(connection->client, segment);
  }
}

struct segment *segment_find(const lossd_client *client, const struct connection *connection, const void *address,
                             size_t bytes) {
  const unsigned char *begin = address;
  for (struct segment *segment = client->segments; segment != NULL; segment = segment->next) {
    if (segment->owner != SEGMENT_USERS || segment->connection == NULL) continue;
    if (connection != NULL && segment->connection != connection) continue;
    if (segment->state != SEGMENT_THERE || begin < segment->base || begin >= segment->base + segment->size) continue;
    size_t offset = (size_t)(begin - segment->base);
    return offset % ALIGNMENT == 0 && bytes <= segment->size - offset && !segment->is_tainted ? segment : NULL;
  }
  return NULL;
}

uint64_t segment_offset(const struct segment *segment, const void *address) {
  return (uint64_t)((const unsigned char *)address - segment->base) + MARK_BYTES;
}

int segment_is_lost(const lossd_client *client, const void *address) {
  const unsigned char *begin = address;
  for (const struct segment *segment = client->segments; segment != NULL; segment = segment->next) {
    if (segment->is_lost && begin >= segment->base && begin < segment->base + segment->size) return 1;
  }
  return 0;
}

void segments_free(lossd_client *client) {
  while (client->segments != NULL) destroy(client, client->segments);
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

/* Memory of the connection that there is, or can be made within the time for that; NULL: there is none. */
static struct segment *ask_for_user(lossd_client *client, size_t size) {
  uint64_t until = deadline_after(client->connect_timeout_us);
  struct segment *segment = NULL;
  int is_interrupted = 0;
  if (client->address.path == NULL || client->segment_count >= SEGMENTS_MAX) return NULL;
  client_turn(client);
  client->refusal.code = LOSSD_OK;
  while (!is_interrupted && now_us() < until) {
    struct connection *current = client->current;
    if (segment == NULL && current != NULL && current->has_hello) {
      segment = current->has_shared_memory ? ask(current, size) : NULL;
      if (segment == NULL) break;
      segment->owner = SEGMENT_USERS;
    }
    if (segment != NULL && segment->state != SEGMENT_ASKED) break;
    client->wants_connection = segment == NULL;
    is_interrupted = client_step(client, until) != LOSSD_OK;
    client->wants_connection = 0;
    if (segment == NULL && client->refusal.code != LOSSD_OK) break;
  }
  if (is_interrupted) lossd_client_interrupt(client); /* it was for the next call */
  if (segment == NULL || segment->state == SEGMENT_THERE) return segment;
  segment_leave(client, segment);
  return NULL;
}

void *lossd_client_alloc(lossd_client *client, size_t bytes) {
  if (client == NULL || client->is_freed || bytes > SIZE_MAX / 2) return NULL;
  size_t size = rounded(bytes == 0 ? 1 : bytes);
  struct segment *segment = ask_for_user(client, size);
  if (segment != NULL) return segment->base;
  void *memory = NULL;
  if (posix_memalign(&memory, 4096, size) != 0) return NULL;
  segment = add(client, size, SEGMENT_GONE);
  if (segment == NULL) {
    free(memory);
    return NULL;
  }
  memset(memory, 0, size);
  segment->base = memory;
  segment->owner = SEGMENT_USERS;
  return memory;
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
