/* One connection: its calls under way, and what the daemon's frames mean for them. */
#include "internal.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

struct connection *connection_new(lossd_client *client, int descriptor) {
  struct connection *connection = calloc(1, sizeof *connection);
  if (connection == NULL) return NULL;
  connection->client = client;
  connection->descriptor = descriptor;
  connection->message_max = EARLY_MESSAGE;
  connection->payload_max = EARLY_PAYLOAD;
  connection->streams_max = EARLY_STREAMS;
  connection->stream_credit = EARLY_CREDIT;
  connection->next_id = 1;
  connection->hello_deadline = deadline_after(client->connect_timeout_us);
  output_init(&connection->output);
  if (!reader_init(&connection->reader) || !put_preface(&connection->output, client->payload_max, client->address.path != NULL)) {
    connection->descriptor = -1; /* still the caller's */
    connection_free(connection);
    return NULL;
  }
  if (client->payload_max != 0 && client->payload_max < PAYLOAD_MAX) {
    connection->reader.payload_max = (uint32_t)client->payload_max;
  }
  return connection;
}

void connection_free(struct connection *connection) {
  segments_end(connection);
  while (connection->descriptor_count > 0) {
    int descriptor = connection_next_descriptor(connection);
    if (descriptor >= 0) close(descriptor);
  }
  if (connection->descriptor >= 0) close(connection->descriptor);
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
  uses_end(connection->client, &flight->uses, !connection->is_closed);
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

int connection_fits(const struct connection *connection, const lossd_call *call, lossd_error *error) {
  size_t length = call->is_shared ? call->shared_message.length : call->message.length;
  uint64_t payload = call->is_shared ? 0 : call->payload_length;
  if (length + 16 <= connection->message_max && payload <= connection->payload_max) return 1; /* 16: a batch's id */
  if (!connection->has_hello) return 0;
  if (payload > connection->payload_max) {
    fail(error, LOSSD_RESOURCE_EXHAUSTED, "the tensors take %llu bytes, the daemon takes payloads up to %llu",
         (unsigned long long)call->payload_length, (unsigned long long)connection->payload_max);
  } else {
    fail(error, LOSSD_RESOURCE_EXHAUSTED, "the request's message takes %zu bytes, the daemon takes %u",
         call->message.length, connection->message_max);
  }
  return -1;
}

void connection_cancel(struct connection *connection, uint32_t id, const void *owner, int abandon) {
  struct flight *flight = flight_of(connection, id);
  if (flight == NULL || flight->owner != owner) return;
  if (!connection->cannot_write && put_control(&connection->output, id, FRAME_CANCEL, 0, NULL, 0)) {
    connection_flush(connection);
  }
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
    client_requeue(call->client, call);
  } else if (kind == FLIGHT_CALL && code == LOSSD_INVALID_ARGUMENT && goes_without_into(owner)) {
    lossd_call *call = owner;
    client_requeue(call->client, call);
  } else if (kind == FLIGHT_CALL) {
    call_finish(owner, code, "%s", text);
  }
}

void connection_close(struct connection *connection, lossd_code code, const char *format, ...) {
  lossd_error error;
  va_list arguments;
  if (connection->is_closed) return;
  va_start(arguments, format);
  write_text(error.text, sizeof error.text, format, arguments);
  va_end(arguments);
  error.code = code;
  connection->is_closed = 1;
  /* Before the daemon knows: it then frees what lies in its memory. */
  segments_end(connection);
  for (size_t index = 0; index < FLIGHTS_MAX; index++) {
    struct flight flight = connection->flights[index];
    if (flight.kind == FLIGHT_NONE) continue;
    end_flight(connection, &connection->flights[index]);
    if (flight.kind == FLIGHT_CALL) uses_end(connection->client, &((lossd_call *)flight.owner)->uses, 0);
    end_owner(&flight, code, error.text, 0);
  }
  if (connection->descriptor >= 0) close(connection->descriptor);
  connection->descriptor = -1;
  if (!connection->has_hello) client_refused(connection->client, &error);
}

/* ---- The socket ---- */

#define VECTORS_MAX 256
#define READS_MAX 16 /* at a turn, so that one connection does not keep the others waiting */

void connection_flush(struct connection *connection) {
  struct iovec vectors[VECTORS_MAX];
  struct output *output = &connection->output;
  if (client_has_forked(connection->client)) return; /* it is the parent's socket */
  while (output->pending > 0 && !connection->is_closed && !connection->cannot_write) {
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = vectors;
    message.msg_iovlen = output_vectors(output, vectors, VECTORS_MAX);
    ssize_t written = sendmsg(connection->descriptor, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written >= 0) {
      output_advance(output, (size_t)written);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return;
    } else if (errno != EINTR) {
      /* It may have said why before it went: that is still to be read. */
      connection->cannot_write = 1;
      output_free(output);
    }
  }
}

int connection_give_descriptor(struct connection *connection, int descriptor) {
  if (connection->descriptor_count < DESCRIPTORS_MAX && connection->descriptor_count < segments_asked(connection)) {
    connection->descriptors[connection->descriptor_count++] = descriptor;
    return 1;
  }
  if (descriptor >= 0) close(descriptor);
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

/* Takes the descriptors that came along; 0 where nobody asked for them. */
static int take_descriptors(struct connection *connection, struct msghdr *message) {
  int is_good = 1, count = 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < here; index++, count++) {
      int descriptor;
      memcpy(&descriptor, CMSG_DATA(header) + index * sizeof descriptor, sizeof descriptor);
      is_good &= connection_give_descriptor(connection, descriptor);
    }
  }
  /* This process has no room for another one. */
  if ((message->msg_flags & MSG_CTRUNC) && count == 0) is_good &= connection_give_descriptor(connection, -1);
  return is_good;
}

void connection_read(struct connection *connection) {
  struct iovec vectors[16];
  union {
    struct cmsghdr header; /* aligns the bytes */
    char bytes[CMSG_SPACE(sizeof(int) * DESCRIPTORS_MAX)];
  } control;
  for (int turn = 0; turn < READS_MAX && !connection->is_closed; turn++) {
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = vectors;
    message.msg_iovlen = reader_vectors(&connection->reader, vectors, 16);
    if (message.msg_iovlen == 0) {
      connection_close(connection, LOSSD_UNAVAILABLE, "no memory to read a message");
      return;
    }
    size_t room = 0;
    for (size_t index = 0; index < message.msg_iovlen; index++) room += vectors[index].iov_len;
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    ssize_t count = recvmsg(connection->descriptor, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (count <= 0) {
      connection_close(connection, LOSSD_UNAVAILABLE, "%s",
                       count == 0 ? "the daemon closed the connection" : strerror(errno));
      return;
    }
    lossd_error error;
    if ((message.msg_controllen > 0 || (message.msg_flags & MSG_CTRUNC)) && !take_descriptors(connection, &message)) {
      connection_close(connection, LOSSD_UNAVAILABLE, "the daemon broke the protocol: a descriptor that nobody asked for");
      return;
    }
    lossd_code code = reader_advance(&connection->reader, connection, (size_t)count, &error);
    if (code == LOSSD_UNAVAILABLE) connection_close(connection, code, "%s", error.text);
    if (code == LOSSD_INTERNAL) {
      connection_close(connection, LOSSD_UNAVAILABLE, "the daemon broke the protocol: %s", error.text);
    }
    if ((size_t)count < room) return;
  }
}
