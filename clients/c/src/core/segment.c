/* Segments: memory that the daemon makes and maps too, each a region of one connection. They are used again and again,
 * since new pages cost more than copying into old ones; one that the daemon may still be at is not. Some time after a
 * connection's end the daemon frees their pages, and they read as zeros: what the user has is made ordinary memory before
 * that, in its place. */
#include "core.h"

/* Before a segment's memory, in its region: the daemon frees a region from its beginning, so that who finds this word still
 * there knows that nothing has been freed. A page, so that the memory is at a multiple of one. */
#define MARK_BYTES ((size_t)4096)
const char segment_lost[] =
    "its memory, of lossd_client_alloc or of a result, was lost: the daemon had ended the connection and freed it before "
    "this library was called";
static const uint64_t mark = 0x6c6f7373642d6f6bu;

/* Sizes in steps of an eighth, so that a segment fits again when shapes change a little. */
size_t segment_rounded(size_t size) {
  size_t step = 65536;
  while (step < size / 8) step *= 2;
  return size > SIZE_MAX - step ? size : (size + step - 1) / step * step;
}

static void unlink_segment(struct core *core, struct segment *segment) {
  struct segment **link = &core->segments;
  while (*link != segment) link = &(*link)->next;
  *link = segment->next;
  core->segment_count--;
  core->segment_bytes -= segment->size;
}

/* The daemon need not keep it. */
static void give_back(struct segment *segment) {
  struct connection *connection = segment->connection;
  if (connection != NULL && segment->state != SEGMENT_ASKED && !connection->is_closed && !connection->cannot_write) {
    put_region(&connection->output, FRAME_RELEASE, segment->number, 0);
  }
  segment->connection = NULL;
}

static void destroy(struct core *core, struct segment *segment) {
  give_back(segment);
  unlink_segment(core, segment);
  source_drop(&core->sources, &segment->source);
  if (segment->descriptor >= 0) core->memory->close(segment->descriptor);
  if (segment->is_mapped) {
    core->memory->unmap(segment->base - MARK_BYTES, segment->size + MARK_BYTES);
  } else {
    free(segment->base);
  }
  free(segment);
}

static struct segment *add(struct core *core, size_t size, enum segment_state state) {
  struct segment *segment = calloc(1, sizeof *segment);
  if (segment == NULL) return NULL;
  segment->size = size;
  segment->descriptor = -1;
  segment->state = state;
  segment->number = ++core->next_segment;
  segment->next = core->segments;
  core->segments = segment;
  core->segment_count++;
  core->segment_bytes += size;
  return segment;
}

/* Asks the daemon for one; NULL where it has refused such sizes, or without memory. */
static struct segment *ask(struct connection *connection, size_t size) {
  if (connection->region_refused != 0 && size >= connection->region_refused) return NULL;
  if (!connection_takes_calls(connection)) return NULL;
  struct segment *segment = add(connection->core, size, SEGMENT_ASKED);
  if (segment == NULL) return NULL;
  if (!put_region(&connection->output, FRAME_REGION, segment->number, size + MARK_BYTES)) {
    destroy(connection->core, segment);
    return NULL;
  }
  segment->connection = connection;
  return segment;
}

/* Maps what the daemon has sent, if it is what it was asked for; else it is the caller's to close. */
static int map_segment(const struct core *core, struct segment *segment, int descriptor) {
  unsigned char *base = core->memory->map(descriptor, segment->size + MARK_BYTES);
  if (base == NULL) return 0;
  memcpy(base, &mark, sizeof mark);
  segment->base = base + MARK_BYTES;
  segment->is_mapped = 1;
  segment->descriptor = descriptor;
  segment->state = SEGMENT_THERE;
  return 1;
}

/* Its connection has ended, or is about to: what lies there stays, in ordinary memory. */
static void keep(struct core *core, struct segment *segment) {
  if (!core->memory->keep(segment->base - MARK_BYTES, segment->size + MARK_BYTES, segment->descriptor, mark)) {
    segment->is_lost = core->has_lost = 1;
  }
  core->memory->close(segment->descriptor);
  segment->descriptor = -1;
}

/* Lets go of what is idle until no more than `max` bytes are. */
static void trim(struct core *core, size_t max) {
  size_t idle = 0;
  struct segment *next;
  /* The newest first: what is over the limit then is what has been idle longest, about. */
  for (struct segment *segment = core->segments; segment != NULL; segment = next) {
    next = segment->next;
    if (segment->owner != SEGMENT_IDLE) continue;
    if (segment->size > max - idle) {
      destroy(core, segment);
    } else {
      idle += segment->size;
    }
  }
}

static int has_room(const struct core *core, size_t size) {
  return core->segment_count < SEGMENTS_MAX && size <= core->shared_max && core->segment_bytes <= core->shared_max - size;
}

struct segment *segment_take(struct connection *connection, size_t size) {
  struct core *core = connection->core;
  struct segment *best = NULL;
  size = segment_rounded(size == 0 ? 1 : size);
  for (struct segment *segment = core->segments; segment != NULL; segment = segment->next) {
    if (segment->owner != SEGMENT_IDLE || segment->connection != connection) continue;
    if (segment->size < size || segment->size / 2 > size) continue;
    if (best == NULL || segment->size < best->size) best = segment;
  }
  if (best == NULL) {
    if (!has_room(core, size)) trim(core, 0);
    if (!has_room(core, size) && (size < SEGMENT_ALONE || core->segment_count >= SEGMENTS_MAX)) return NULL;
    best = ask(connection, size);
  }
  if (best != NULL) best->owner = SEGMENT_CALLS;
  return best;
}

/* The user's becomes ordinary memory, while its connection goes on. */
static void part_with(struct core *core, struct segment *segment) {
  keep(core, segment);
  give_back(segment);
  segment->is_tainted = 1;
  segment->is_due = 0;
  segment->state = SEGMENT_GONE;
}

/* Nobody uses it: to be used again, or not. */
static void settle(struct core *core, struct segment *segment) {
  if (segment->uses == 0) segment->is_written = 0;
  if (segment->is_due && !segment->is_written && segment->state == SEGMENT_THERE) part_with(core, segment);
  /* One that is asked for has an answer to come. */
  if (segment->uses > 0 || segment->owner != SEGMENT_LEFT || segment->state == SEGMENT_ASKED) return;
  segment->owner = SEGMENT_IDLE;
  if (segment->is_tainted || segment->connection == NULL) {
    destroy(core, segment);
  } else {
    trim(core, SEGMENT_IDLE_MAX);
  }
}

void segment_leave(struct core *core, struct segment *segment) {
  segment->owner = SEGMENT_LEFT;
  segment->has_result = 0;
  settle(core, segment);
}

lossd_code region_answered(struct connection *connection, uint64_t number, int is_made, lossd_error *error) {
  struct segment *segment = connection->core->segments;
  while (segment != NULL && (segment->number != number || segment->connection != connection)) segment = segment->next;
  if (segment == NULL || segment->state != SEGMENT_ASKED) {
    return fail(error, LOSSD_INTERNAL, "an answer to a REGION that was not sent");
  }
  int descriptor = is_made ? connection_next_descriptor(connection) : -1;
  segment->state = SEGMENT_GONE;
  if (descriptor < 0 || !map_segment(connection->core, segment, descriptor)) {
    /* Refused, lost since this process has too many descriptors, or no such memory: the socket then. */
    if (descriptor >= 0) connection->core->memory->close(descriptor);
    if (is_made) give_back(segment);
    segment->connection = NULL;
    if (connection->region_refused == 0 || segment->size < connection->region_refused) {
      connection->region_refused = segment->size;
    }
  }
  if (segment->owner == SEGMENT_USERS) source_raise(&connection->core->sources, &segment->source, CORE_MEMORY);
  settle(connection->core, segment);
  return LOSSD_OK;
}

size_t segments_asked(const struct connection *connection) {
  size_t count = 0;
  for (const struct segment *segment = connection->core->segments; segment != NULL; segment = segment->next) {
    count += segment->connection == connection && segment->state == SEGMENT_ASKED;
  }
  return count;
}

void segments_end(struct connection *connection) {
  struct segment *next;
  for (struct segment *segment = connection->core->segments; segment != NULL; segment = next) {
    next = segment->next;
    if (segment->connection != connection) continue;
    int is_users = segment->owner == SEGMENT_USERS || segment->has_result;
    if (segment->state == SEGMENT_THERE && is_users) keep(connection->core, segment);
    give_back(segment);
    segment->is_tainted = 1;
    segment->state = SEGMENT_GONE;
    if (segment->owner == SEGMENT_IDLE) segment->owner = SEGMENT_LEFT;
    settle(connection->core, segment);
  }
}

void segments_keep(struct core *core) {
  for (struct segment *segment = core->segments; segment != NULL; segment = segment->next) {
    if (segment->owner != SEGMENT_USERS || segment->state != SEGMENT_THERE) continue;
    if (segment->is_written) {
      segment->is_due = 1;
    } else {
      part_with(core, segment);
    }
  }
}

struct segment *segment_give(struct result *result) {
  struct segment *segment = result->segment;
  if (segment == NULL || result->tensor.data != segment->base) return NULL;
  segment->owner = SEGMENT_USERS;
  segment->has_result = 0;
  result->segment = NULL;
  return segment;
}

struct segment *segment_find(const struct core *core, const struct connection *connection, const void *address,
                             size_t bytes) {
  const unsigned char *begin = address;
  for (struct segment *segment = core->segments; segment != NULL; segment = segment->next) {
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

int segment_is_lost(const struct core *core, const void *address) {
  const unsigned char *begin = address;
  for (const struct segment *segment = core->segments; segment != NULL; segment = segment->next) {
    if (segment->is_lost && begin >= segment->base && begin < segment->base + segment->size) return 1;
  }
  return 0;
}

void segment_unmap(const struct core *core, const struct segment *segment) {
  if (segment->is_mapped) core->memory->unmap(segment->base - MARK_BYTES, segment->size + MARK_BYTES);
}

void segments_free(struct core *core) {
  while (core->segments != NULL) destroy(core, core->segments);
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

void uses_end(struct core *core, struct uses *uses, int is_safe) {
  for (size_t index = 0; index < uses->count; index++) {
    struct segment *segment = uses->list[index];
    /* The user's own memory is used again by the user's own leave. */
    if (!is_safe && segment->owner != SEGMENT_USERS) segment->is_tainted = 1;
    if (segment->uses > 0) segment->uses--;
    settle(core, segment);
  }
  uses->count = 0;
}

/* ---- The user's ---- */

struct segment *segment_ask(struct connection *connection, size_t size) {
  if (!connection->has_shared_memory || connection->core->segment_count >= SEGMENTS_MAX) return NULL;
  struct segment *segment = ask(connection, size);
  if (segment != NULL) segment->owner = SEGMENT_USERS;
  return segment;
}

struct segment *segment_ordinary(struct core *core, size_t size) {
  void *memory = NULL;
  if (posix_memalign(&memory, 4096, size) != 0) return NULL;
  struct segment *segment = add(core, size, SEGMENT_GONE);
  if (segment == NULL) {
    free(memory);
    return NULL;
  }
  memset(memory, 0, size);
  segment->base = memory;
  segment->owner = SEGMENT_USERS;
  return segment;
}

struct segment *segment_of_user(const struct core *core, const void *base) {
  for (struct segment *segment = core->segments; segment != NULL; segment = segment->next) {
    if (segment->base == base && segment->owner == SEGMENT_USERS) return segment;
  }
  return NULL;
}
