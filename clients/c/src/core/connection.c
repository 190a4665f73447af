/* One connection: its bytes and its calls under way. */
#include "connection.h"
#include "core.h"
#include "leg.h"
#include "life.h"
#include "wire.h"

struct connection *connection_new(struct core *core, int descriptor) {
  struct connection *connection = calloc(1, sizeof *connection);
  if (connection == NULL) return NULL;
  connection->core = core;
  connection->descriptor = descriptor;
  connection->message_max = EARLY_MESSAGE;
  connection->payload_max = EARLY_PAYLOAD;
  connection->streams_max = EARLY_STREAMS;
  connection->stream_credit = EARLY_CREDIT;
  connection->next_id = 1;
  connection->hello_deadline = core_after(core, core->connect_timeout_us);
  output_init(&connection->output);
  if (!reader_init(&connection->reader) || !put_preface(&connection->output, core->payload_max, core->is_local)) {
    connection_free(connection);
    return NULL;
  }
  if (core->payload_max != 0 && core->payload_max < PAYLOAD_MAX) {
    connection->reader.payload_max = (uint32_t)core->payload_max;
  }
  return connection;
}

void connection_free(struct connection *connection) {
  struct core *core = connection->core;
  for (struct connection **link = &core->connections; *link != NULL; link = &(*link)->next) {
    if (*link != connection) continue;
    *link = connection->next;
    break;
  }
  source_drop(&core->sources, &connection->source);
  while (connection->descriptor_count > 0) {
    int descriptor = connection_next_descriptor(connection);
    if (descriptor >= 0) core->memory->close(descriptor);
  }
  reader_free(&connection->reader);
  output_free(&connection->output);
  free(connection);
}

/* ---- Calls under way ---- */

struct flight *flight_of(struct connection *connection, uint32_t id) {
  struct flight *flight = &connection->flights[id % FLIGHTS_MAX];
  return flight->kind != FLIGHT_NONE && flight->id == id ? flight : NULL;
}

void end_flight(struct connection *connection, struct flight *flight) {
  /* Where the connection broke, the daemon may still be at what its calls use. */
  uses_end(connection->core, &flight->uses, !connection->is_closed);
  uses_free(&flight->uses);
  flight->kind = FLIGHT_NONE;
  flight->owner = NULL;
  connection->flight_count--;
}

int connection_takes_calls(const struct connection *connection) {
  return !connection->is_closed && !connection->is_draining && !connection->cannot_write;
}

uint32_t connection_open_flight(struct connection *connection, enum flight_kind kind, void *owner) {
  uint32_t max = connection->streams_max < FLIGHTS_MAX ? connection->streams_max : FLIGHTS_MAX;
  if (!connection_takes_calls(connection) || connection->flight_count >= max) return 0;
  /* Ids rise; one whose place an old call still has is left out. */
  while (connection->flights[connection->next_id % FLIGHTS_MAX].kind != FLIGHT_NONE) {
    if (connection->next_id++ == UINT32_MAX) break;
  }
  if (connection->next_id >= UINT32_MAX - FLIGHTS_MAX) {
    connection->is_draining = 1; /* out of ids: what follows goes by another connection */
    return 0;
  }
  struct flight *flight = &connection->flights[connection->next_id % FLIGHTS_MAX];
  flight->id = connection->highest_id = connection->next_id++;
  flight->kind = kind;
  flight->owner = owner;
  connection->flight_count++;
  return flight->id;
}

void connection_drop_flight(struct connection *connection, uint32_t id) {
  struct flight *flight = flight_of(connection, id);
  if (flight != NULL) end_flight(connection, flight);
}

int connection_fits(const struct connection *connection, const lossd_call *call, const lossd_call *head,
                    lossd_error *error) {
  size_t length = (call->is_shared ? call->shared_message.length : call->message.length) + call->before.length;
  if (head != NULL) length += head->message.length;
  uint64_t payload = call->is_shared ? 0 : call->payload_length;
  if (length + 16 <= connection->message_max && payload <= connection->payload_max) return 1; /* 16: a batch's id */
  if (!connection->has_hello) return 0;
  if (payload > connection->payload_max) {
    fail(error, LOSSD_RESOURCE_EXHAUSTED,
         "the tensors take %llu bytes, the daemon takes payloads up to %llu (%s); shared memory has no such ceiling: on a "
         "Unix socket it serves while limits.connection_bytes has room",
         (unsigned long long)payload, (unsigned long long)connection->payload_max,
         connection->payload_max == PAYLOAD_MAX ? "the most that the protocol has" : "limits.payload_bytes");
  } else {
    fail(error, LOSSD_RESOURCE_EXHAUSTED, "the request's message takes %zu bytes, the daemon takes %u (limits.message_bytes)",
         length, connection->message_max);
  }
  return -1;
}

void connection_cancel(struct connection *connection, uint32_t id, const void *owner, int abandon) {
  struct flight *flight = flight_of(connection, id);
  if (flight == NULL || flight->owner != owner) return;
  /* Without memory the daemon finds out when it answers. */
  if (!connection->cannot_write) put_control(&connection->output, id, FRAME_CANCEL, 0, NULL, 0);
  if (abandon) {
    if (flight->kind == FLIGHT_CALL) uses_move(&flight->uses, &((lossd_call *)flight->owner)->uses);
    if (flight->kind == FLIGHT_STREAM) stream_move_uses(flight->owner, &flight->uses);
    flight->kind = FLIGHT_ABANDONED;
    flight->owner = NULL;
  }
}

/* Perhaps a result has another size than was thought: the call is sent again, and they come in the payload. */
static int goes_without_into(lossd_call *call) {
  int has_into = 0;
  for (size_t index = 0; index < call->result_count; index++) has_into |= call->results[index].into_bytes > 0;
  if (!call->is_shared || !has_into || call->has_no_into) return 0;
  call->has_no_into = 1;
  return 1;
}

/* How a call ended without its results. */
void end_owner(struct flight *flight, lossd_code code, const char *text, int never_began) {
  enum flight_kind kind = flight->kind;
  void *owner = flight->owner;
  if (kind == FLIGHT_STREAM) {
    stream_ended(owner, code, text, never_began);
  } else if (kind == FLIGHT_CALL && never_began) {
    lossd_call *call = owner;
    core_requeue(call->core, call);
  } else if (kind == FLIGHT_CALL && code == LOSSD_INVALID_ARGUMENT && goes_without_into(owner)) {
    lossd_call *call = owner;
    core_requeue(call->core, call);
  } else if (kind == FLIGHT_CALL) {
    call_finish(owner, code, "%s", text);
  }
}

void connection_close(struct connection *connection, lossd_code code, const char *format, ...) {
  struct core *core = connection->core;
  va_list arguments;
  if (connection->is_closed) return;
  va_start(arguments, format);
  write_text(connection->error.text, sizeof connection->error.text, format, arguments);
  va_end(arguments);
  connection->error.code = code;
  connection->is_closed = 1;
  if (core->current == connection) core->current = NULL;
  /* Before the daemon knows: it then frees what lies in its memory. */
  segments_end(connection);
  int is_unheard = !connection->has_hello && code == LOSSD_UNAVAILABLE && core->tries_unheard;
  for (size_t index = 0; index < FLIGHTS_MAX; index++) {
    struct flight flight = connection->flights[index];
    if (flight.kind == FLIGHT_NONE) continue;
    end_flight(connection, &connection->flights[index]);
    if (flight.kind == FLIGHT_CALL) uses_end(core, &((lossd_call *)flight.owner)->uses, 0);
    end_owner(&flight, code, connection->error.text, is_unheard);
  }
  while (connection->pings != NULL) {
    call_finish(connection->pings, code == LOSSD_OK ? LOSSD_UNAVAILABLE : code, "%s",
                code == LOSSD_OK ? "the daemon is shutting down" : connection->error.text);
  }
  source_raise(&core->sources, &connection->source, CORE_CLOSED);
  if (is_unheard) {
    core_drained(core);
    return;
  }
  if (!connection->has_hello) core_no_word(core, &connection->error);
}

/* ---- Bytes ---- */

size_t connection_room(struct connection *connection, struct iovec *vectors, size_t max) {
  if (connection->is_closed) return 0;
  size_t used = reader_vectors(&connection->reader, vectors, max);
  if (used == 0) connection_close(connection, LOSSD_UNAVAILABLE, "no memory to read a message");
  return used;
}

/* 0 where nobody asked for one. */
static int take_descriptor(struct connection *connection, int descriptor) {
  if (!connection->is_closed && connection->descriptor_count < DESCRIPTORS_MAX &&
      connection->descriptor_count < segments_asked(connection)) {
    connection->descriptors[connection->descriptor_count++] = descriptor;
    return 1;
  }
  if (descriptor >= 0) connection->core->memory->close(descriptor);
  return 0;
}

int connection_next_descriptor(struct connection *connection) {
  if (connection->descriptor_count == 0) return -1;
  int first = connection->descriptors[0];
  connection->descriptor_count--;
  memmove(connection->descriptors, connection->descriptors + 1,
          connection->descriptor_count * sizeof connection->descriptors[0]);
  return first;
}

void connection_received(struct connection *connection, size_t count, const int *descriptors,
                         size_t descriptor_count) {
  static const char broken[] = "the daemon broke the protocol: ";
  lossd_error error;
  int is_good = 1;
  for (size_t index = 0; index < descriptor_count; index++) {
    is_good &= take_descriptor(connection, descriptors[index]);
  }
  if (connection->is_closed) return;
  if (!is_good) {
    connection_close(connection, LOSSD_UNAVAILABLE, "%sa descriptor that nobody asked for", broken);
    return;
  }
  lossd_code code = reader_advance(&connection->reader, connection, count, &error);
  if (code != LOSSD_OK) {
    connection_close(connection, LOSSD_UNAVAILABLE, "%s%s", code == LOSSD_INTERNAL ? broken : "", error.text);
  }
}

void connection_feed(struct connection *connection, const void *bytes, size_t count, const int *descriptors,
                     size_t descriptor_count) {
  const unsigned char *from = bytes;
  struct iovec vectors[16];
  do {
    size_t used = connection_room(connection, vectors, 16), taken = 0;
    for (size_t index = 0; index < used && taken < count; index++) {
      size_t part = vectors[index].iov_len < count - taken ? vectors[index].iov_len : count - taken;
      if (part > 0) memcpy(vectors[index].iov_base, from + taken, part);
      taken += part;
    }
    connection_received(connection, taken, descriptors, descriptor_count);
    descriptor_count = 0;
    from += taken;
    count -= taken;
  } while (count > 0 && !connection->is_closed);
}

size_t connection_vectors(const struct connection *connection, struct iovec *vectors, size_t max) {
  return connection->is_closed || connection->cannot_write ? 0 : output_vectors(&connection->output, vectors, max);
}

void connection_sent(struct connection *connection, size_t count) { output_advance(&connection->output, count); }

void connection_cannot_write(struct connection *connection) {
  connection->cannot_write = 1;
  output_free(&connection->output);
}

/* ---- Pings ---- */

int connection_ping(struct connection *connection, lossd_call *call) {
  uint64_t number = connection->pings_sent + 1;
  if (!connection->has_hello) return 0;
  if (!put_control(&connection->output, 0, FRAME_PING, 0, &number, sizeof number)) {
    call_finish(call, LOSSD_RESOURCE_EXHAUSTED, "no memory for a PING");
    return 0;
  }
  core_dequeue(call->core, call);
  connection->pings_sent = number;
  call->state = CALL_SENT;
  call->connection = connection;
  call->id = (uint32_t)number;
  call->round_trip = connection->core->now;
  lossd_call **last = &connection->pings;
  while (*last != NULL) last = &(*last)->next;
  *last = call;
  return 1;
}

void connection_pong(struct connection *connection) {
  lossd_call *call = connection->pings;
  connection->pings_answered++;
  /* One whose call has been given up is answered all the same. */
  if (call == NULL || call->id != (uint32_t)connection->pings_answered) return;
  call->round_trip = connection->core->now - call->round_trip;
  call_finish(call, LOSSD_OK, "%s", "");
}

void connection_forget_ping(struct connection *connection, lossd_call *call) {
  for (lossd_call **link = &connection->pings; *link != NULL; link = &(*link)->next) {
    if (*link != call) continue;
    *link = call->next;
    call->next = NULL;
    return;
  }
}
