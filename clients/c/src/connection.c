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
  if (connection->descriptor >= 0) close(connection->descriptor);
  reader_free(&connection->reader);
  output_free(&connection->output);
  free(connection->regions);
  free(connection);
}

/* ---- Calls under way ---- */

static struct flight *flight_of(struct connection *connection, uint32_t id) {
  struct flight *flight = &connection->flights[id % FLIGHTS_MAX];
  return flight->kind != FLIGHT_NONE && flight->id == id ? flight : NULL;
}

static void end_flight(struct connection *connection, struct flight *flight) {
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
static void end_owner(struct flight *flight, lossd_code code, const char *text, int never_began) {
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

/* ---- Frames ---- */

static void *decode(struct connection *connection, const struct frame *frame, const unsigned char *message,
                    const ProtobufCMessageDescriptor *descriptor) {
  struct arena *arena = &connection->client->arena;
  arena_reset(arena);
  return protobuf_c_message_unpack(descriptor, &arena->allocator, frame->message_length, message);
}

static lossd_code garbled(lossd_error *error, const char *what) {
  return fail(error, LOSSD_INTERNAL, "a %s that does not decode", what);
}

static lossd_code take_hello(struct connection *connection, const struct frame *frame,
                             const unsigned char *message, lossd_error *error) {
  Lossd__V1__Hello *hello = decode(connection, frame, message, &lossd__v1__hello__descriptor);
  if (hello == NULL) return garbled(error, "HELLO");
  connection->message_max = hello->max_message_bytes == 0 ? UINT32_MAX : hello->max_message_bytes;
  connection->payload_max = hello->max_payload_bytes == 0 || hello->max_payload_bytes > PAYLOAD_MAX
                                ? PAYLOAD_MAX
                                : hello->max_payload_bytes;
  if (hello->max_streams == 0 || hello->stream_credit == 0) {
    return fail(error, LOSSD_INTERNAL, "a HELLO that allows no calls");
  }
  connection->streams_max = hello->max_streams;
  connection->stream_credit = hello->stream_credit;
  connection->has_hello = 1;
  for (size_t index = 0; index < hello->n_features && connection->client->address.path != NULL; index++) {
    if (strcmp(hello->features[index], "shm") == 0) connection->has_shared_memory = 1;
  }
  for (lossd_stream *stream = connection->client->streams; stream != NULL; stream = stream->next) {
    stream_hello(stream, connection);
  }
  return LOSSD_OK;
}

static lossd_code take_goaway(struct connection *connection, const struct frame *frame,
                              const unsigned char *message, lossd_error *error) {
  Lossd__V1__GoAway *goaway = decode(connection, frame, message, &lossd__v1__go_away__descriptor);
  if (goaway == NULL) return garbled(error, "GOAWAY");
  if (goaway->status != NULL && goaway->status->code != 0) {
    return fail(error, LOSSD_UNAVAILABLE, "the daemon ended the connection: %s", goaway->status->message);
  }
  uint32_t last = goaway->last_stream_id;
  connection->is_draining = 1;
  client_drained(connection->client);
  for (uint32_t back = 0; back < FLIGHTS_MAX; back++) {
    /* The newest first, so that requeueing them in front keeps their order. */
    struct flight *place = &connection->flights[(connection->highest_id - back) % FLIGHTS_MAX];
    if (place->kind == FLIGHT_NONE || place->id <= last) continue;
    struct flight flight = *place;
    end_flight(connection, place);
    end_owner(&flight, LOSSD_UNAVAILABLE, "the daemon is shutting down", 1);
  }
  return LOSSD_OK;
}

static lossd_code take_status(struct connection *connection, const struct frame *frame,
                              const unsigned char *message, lossd_error *error) {
  Lossd__V1__Status *status = decode(connection, frame, message, &lossd__v1__status__descriptor);
  if (status == NULL) return garbled(error, "STATUS");
  if (status->code == 0) return fail(error, LOSSD_INTERNAL, "a STATUS with code 0");
  struct flight *place = flight_of(connection, frame->stream);
  if (place == NULL) return LOSSD_OK;
  struct flight flight = *place;
  end_flight(connection, place);
  end_owner(&flight, (lossd_code)(status->code > 16 ? LOSSD_UNKNOWN : status->code), status->message, 0);
  return LOSSD_OK;
}

static lossd_code take_credit(struct connection *connection, const struct frame *frame,
                              const unsigned char *message, lossd_error *error) {
  Lossd__V1__Credit *credit = decode(connection, frame, message, &lossd__v1__credit__descriptor);
  if (credit == NULL || credit->messages == 0) return garbled(error, "CREDIT");
  struct flight *flight = flight_of(connection, frame->stream);
  if (flight != NULL && flight->kind == FLIGHT_STREAM) stream_credit(flight->owner, credit->messages);
  return LOSSD_OK;
}

static lossd_code take_ping(struct connection *connection, const struct frame *frame,
                            const unsigned char *message, lossd_error *error) {
  if (frame->flags & FLAG_ACK) {
    /* Ours are answered in order; what they say does not matter. */
    if (connection->pings_answered == connection->pings_sent) {
      return fail(error, LOSSD_INTERNAL, "an answer to a PING that was not sent");
    }
    connection->pings_answered++;
    return LOSSD_OK;
  }
  if (connection->output.bytes.length > CONTROL_MAX && connection->output.pending > CONTROL_MAX) {
    return fail(error, LOSSD_UNAVAILABLE, "the daemon sends PINGs and does not read their answers");
  }
  if (connection->cannot_write ||
      put_control(&connection->output, 0, FRAME_PING, FLAG_ACK, message, frame->message_length)) {
    return LOSSD_OK;
  }
  return fail(error, LOSSD_UNAVAILABLE, "no memory to answer a PING");
}

static lossd_code take_region(struct connection *connection, const struct frame *frame,
                              const unsigned char *message, lossd_error *error) {
  Lossd__V1__RegionResult *result = decode(connection, frame, message, &lossd__v1__region_result__descriptor);
  if (result == NULL) return garbled(error, "REGION");
  /* That one has been given back matters to nobody. */
  if (frame->type == FRAME_RELEASE) return LOSSD_OK;
  return region_answered(connection, result->region, result->status == NULL || result->status->code == 0, error);
}

static lossd_code take_list(lossd_call *call, const struct frame *frame, const unsigned char *message,
                            lossd_error *error) {
  call->answer.length = 0;
  if (!bytes_reserve(&call->answer, frame->message_length + (size_t)1)) {
    return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for the answer");
  }
  memcpy(call->answer.base, message, frame->message_length);
  call->answer.length = frame->message_length;
  return LOSSD_OK;
}

/* A response: of a call that has one, or of a stream. What is wrong inside of it ends that call alone. */
static lossd_code take_response(struct connection *connection, const struct frame *frame,
                                const unsigned char *message, lossd_error *error) {
  struct flight *flight = flight_of(connection, frame->stream);
  int is_last = frame->flags & FLAG_END_STREAM;
  if (flight == NULL || flight->kind == FLIGHT_ABANDONED) return LOSSD_OK;
  if (flight->kind == FLIGHT_CALL && !is_last) {
    return fail(error, LOSSD_INTERNAL, "a response without END_STREAM to a call that has one response");
  }
  lossd_call *call = flight->kind == FLIGHT_CALL ? flight->owner : NULL;
  int is_list = call != NULL && call->listed != NULL;
  Lossd__V1__EvaluateResponse *response =
      is_list ? NULL : decode(connection, frame, message, &lossd__v1__evaluate_response__descriptor);
  lossd_error problem;
  lossd_code code;
  if (is_list) {
    code = take_list(call, frame, message, &problem);
  } else if (response == NULL) {
    code = fail(&problem, LOSSD_INTERNAL, "the daemon's answer does not decode");
  } else if (flight->kind == FLIGHT_STREAM) {
    code = stream_take(flight->owner, response, is_last, &connection->reader, &problem);
  } else {
    code = response_place(call, response, &connection->reader, &problem);
    if (code == LOSSD_OK) code = response_check(call, call, &problem);
  }
  if (code == LOSSD_OK) return LOSSD_OK;
  reader_discard(&connection->reader);
  struct flight ended = *flight;
  if (is_last) {
    end_flight(connection, flight);
  } else {
    connection_cancel(connection, flight->id, flight->owner, 1);
  }
  if (ended.kind == FLIGHT_STREAM) {
    stream_fail(ended.owner, code, "%s", problem.text);
  } else {
    call_finish(ended.owner, code, "%s", problem.text);
  }
  return LOSSD_OK;
}

lossd_code connection_take(struct connection *connection, const struct frame *frame, const unsigned char *message,
                           lossd_error *error) {
  if (frame->stream > connection->highest_id) {
    return fail(error, LOSSD_INTERNAL, "a frame of stream %u, which was never opened", frame->stream);
  }
  switch (frame->type) {
    case FRAME_HELLO: return take_hello(connection, frame, message, error);
    case FRAME_MESSAGE: return take_response(connection, frame, message, error);
    case FRAME_STATUS: return take_status(connection, frame, message, error);
    case FRAME_CREDIT: return take_credit(connection, frame, message, error);
    case FRAME_PING: return take_ping(connection, frame, message, error);
    case FRAME_REGION:
    case FRAME_RELEASE: return take_region(connection, frame, message, error);
    default: return take_goaway(connection, frame, message, error);
  }
}

void connection_payload_ended(struct connection *connection, const struct frame *frame) {
  if (frame->type != FRAME_MESSAGE) return;
  struct flight *place = flight_of(connection, frame->stream);
  if (place == NULL) return;
  struct flight flight = *place;
  if (frame->flags & FLAG_END_STREAM) end_flight(connection, place);
  if (flight.kind == FLIGHT_STREAM) stream_payload_ended(flight.owner);
  if (flight.kind == FLIGHT_CALL) call_finish(flight.owner, LOSSD_OK, "%s", "");
}

/* ---- The socket ---- */

#define VECTORS_MAX 256
#define READS_MAX 16 /* at a turn, so that one connection does not keep the others waiting */

void connection_flush(struct connection *connection) {
  struct iovec vectors[VECTORS_MAX];
  struct output *output = &connection->output;
  if (connection->client->process != getpid()) return; /* a child: it is the parent's socket */
  while (output->pending > 0 && !connection->is_closed && !connection->cannot_write) {
    union {
      struct cmsghdr header; /* aligns the bytes */
      char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message;
    int descriptor;
    memset(&message, 0, sizeof message);
    message.msg_iov = vectors;
    message.msg_iovlen = output_vectors(output, vectors, VECTORS_MAX, &descriptor);
    if (descriptor >= 0) {
      memset(&control, 0, sizeof control);
      message.msg_control = &control;
      message.msg_controllen = sizeof control.bytes;
      control.header.cmsg_level = SOL_SOCKET;
      control.header.cmsg_type = SCM_RIGHTS;
      control.header.cmsg_len = CMSG_LEN(sizeof(int));
      memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
    }
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

void connection_read(struct connection *connection) {
  struct iovec vectors[16];
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
    ssize_t count = recvmsg(connection->descriptor, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (count <= 0) {
      connection_close(connection, LOSSD_UNAVAILABLE, "%s",
                       count == 0 ? "the daemon closed the connection" : strerror(errno));
      return;
    }
    lossd_error error;
    lossd_code code = reader_advance(&connection->reader, connection, (size_t)count, &error);
    if (code == LOSSD_UNAVAILABLE) connection_close(connection, code, "%s", error.text);
    if (code == LOSSD_INTERNAL) {
      connection_close(connection, LOSSD_UNAVAILABLE, "the daemon broke the protocol: %s", error.text);
    }
    if ((size_t)count < room) return;
  }
}
