/* The core: a client without I/O. It has calls, streams, connections and shared memory. It makes no system call, starts
 * no thread and looks at no clock: those are its driver's. There may be several kinds of drivers. Each does this, in one
 * thread:
 *
 *     core_init, core_set_time
 *     call_new, lossd_call_input, ..., call_start, or stream_new, stream_add, ...
 *     for ever:
 *       core_feed                        what waits goes to connections
 *       while (core_next_event(...))     CORE_CONNECT: connect, then core_connected or core_refused;
 *                                        CORE_CLOSED: close the descriptor, connection_free;
 *                                        the others say what calls and streams came to
 *       for each of core->connections    write connection_vectors, say connection_sent
 *       wait                             until one can be read, or written where it has something, or core_deadline
 *       core_set_time
 *       for each that can be read        read to connection_room, say connection_received; at its end, connection_close
 *       core_turn                        ends what is late; after what has come was read, since that may be in time
 */
#ifndef LOSSD_CORE_H
#define LOSSD_CORE_H

#include "connection.h"
#include "stream.h"

#define NEVER UINT64_MAX
#define CONNECTIONS_MAX 8u          /* one, and those that are being drained */
#define RETRY_PAUSE_US 100000u      /* between two attempts to reach a daemon that is being restarted */
#define CONNECT_TIMEOUT_US 10000000u

struct core {
  struct source source;
  uint64_t now; /* microseconds of whatever clock */
  const struct core_memory *memory;
  const char *name; /* the daemon's, for texts */
  int is_local;     /* the daemon can give shared memory */
  uint64_t connect_timeout_us;
  uint64_t payload_max;
  size_t shared_min; /* bytes of inputs from which on they lie in shared memory; half of it where one lies there already */
  size_t shared_max; /* bytes of all segments, see SEGMENT_ALONE */
  int tries_unheard; /* the daemon comes and goes: where one closes before its first word, the next one is asked */
  struct connection *current; /* takes new calls; one of `connections` */
  struct connection *connections;
  lossd_call *pending; /* not sent yet, in order */
  lossd_call *pending_last;
  size_t pending_count;
  lossd_stream *streams;
  int wants_connection; /* the driver does */
  int is_connecting;
  struct segment *segments;
  size_t segment_count;
  size_t segment_bytes;
  uint64_t next_segment;
  int has_lost; /* some segment is */
  lossd_error refusal;  /* why connecting failed last */
  uint64_t retry_at;    /* no attempt to connect before that */
  uint64_t retry_until; /* a daemon that has drained is waited for until then; 0: it has not */
  uint64_t earliest;    /* no call and no stream is late before that */
  struct arena arena;
  struct sources sources;
};

/* `name` and `memory` live as long as the core does. */
void core_init(struct core *core, const char *name, int is_local, const struct core_memory *memory);
/* Its calls and streams have been freed. */
void core_free(struct core *core);

void core_set_time(struct core *core, uint64_t now);
/* So much later than now, saturating; 0, which is no timeout, gives NEVER. */
uint64_t core_after(const struct core *core, uint64_t timeout_us);
/* When core_turn has something to do though nothing happens. */
uint64_t core_deadline(const struct core *core);
/* Moves what waits to connections; asks for one where that is necessary. */
void core_feed(struct core *core);
/* Ends what is late, then the same. */
void core_turn(struct core *core);
int core_next_event(struct core *core, struct core_event *event);

/* A driver has connected. NULL without memory: the descriptor is still the driver's. */
struct connection *core_connected(struct core *core, int descriptor);
/* It could not: what waits fails, or waits for the next attempt. CANCELLED: it gave up, and is asked again. */
void core_refused(struct core *core, const lossd_error *error);
/* How long connecting may take. */
uint64_t core_connect_until(const struct core *core);
/* Ends all connections, and what is under way or waits for one, with this. */
void core_abandon(struct core *core, lossd_code code, const char *text);

/* ---- For its parts ---- */

/* A call or a stream is late from then on. */
void core_late_at(struct core *core, uint64_t deadline);
void core_enqueue(struct core *core, lossd_call *call);
void core_requeue(struct core *core, lossd_call *call); /* it never began */
void core_dequeue(struct core *core, lossd_call *call);
/* A connection ended before the daemon's first word: what waits fails, or waits for the next attempt. */
void core_no_word(struct core *core, const lossd_error *error);
/* The daemon goes: whatever never began there waits for the next one. */
void core_drained(struct core *core);

#endif
