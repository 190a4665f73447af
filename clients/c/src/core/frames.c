/* What the daemon's frames mean for a connection's calls. What breaks the protocol is the connection's end; what is wrong
 * inside of an answer ends that call alone. */
#include "frames.h"
#include "core.h"
#include "response.h"
#include "leg.h"
#include "life.h"

static void *decode(struct connection *connection, const struct frame *frame, const unsigned char *message,
                    const ProtobufCMessageDescriptor *descriptor) {
  struct arena *arena = &connection->core->arena;
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
  source_raise(&connection->core->sources, &connection->source, CORE_HELLO);
  for (size_t index = 0; index < hello->n_features && connection->core->is_local; index++) {
    if (strcmp(hello->features[index], "shm") == 0) connection->has_shared_memory = 1;
  }
  for (lossd_stream *stream = connection->core->streams; stream != NULL; stream = stream->next) {
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
  source_raise(&connection->core->sources, &connection->source, CORE_GOAWAY);
  core_drained(connection->core);
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
  struct bytes *kept = flight.kind == FLIGHT_CALL     ? &((lossd_call *)flight.owner)->answer
                       : flight.kind == FLIGHT_STREAM ? &((lossd_stream *)flight.owner)->status
                                                      : NULL;
  if (kept != NULL) bytes_set(kept, message, frame->message_length); /* without memory there is the text alone */
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
    connection_pong(connection);
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

static lossd_code take_raw(lossd_call *call, const struct frame *frame, const unsigned char *message,
                            lossd_error *error) {
  return bytes_set(&call->answer, message, frame->message_length)
             ? LOSSD_OK
             : fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for the answer");
}

/* A part's results, or its Summary, which is kept as it is. */
static lossd_code take_part(lossd_call *call, const Lossd__V1__EvaluateResponse *response, int is_last,
                            struct reader *reader, lossd_error *error) {
  if (response->summary == NULL) {
    if (is_last || call->has_results || call->input_count == 0) {
      return fail(error, LOSSD_INTERNAL, "the daemon answered a batch that was not sent");
    }
    call->has_results = 1;
    lossd_code code = response_place(call, response, reader, error);
    return code == LOSSD_OK ? response_check(call, call, error) : code;
  }
  reader_discard(reader);
  if (!is_last || call->has_results != (call->input_count > 0)) {
    return fail(error, LOSSD_INTERNAL, "the daemon ended the stream before all batches were answered");
  }
  return bytes_pack(&call->answer, &response->summary->base)
             ? LOSSD_OK
             : fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for the stream's summary");
}

/* A response: of a call that has one, or of a stream. What is wrong inside of it ends that call alone. */
static lossd_code take_response(struct connection *connection, const struct frame *frame,
                                const unsigned char *message, lossd_error *error) {
  struct flight *flight = flight_of(connection, frame->stream);
  int is_last = frame->flags & FLAG_END_STREAM;
  if (flight == NULL || flight->kind == FLIGHT_ABANDONED) return LOSSD_OK;
  lossd_call *call = flight->kind == FLIGHT_CALL ? flight->owner : NULL;
  if (call != NULL && call->kind != CALL_PART && !is_last) {
    return fail(error, LOSSD_INTERNAL, "a response without END_STREAM to a call that has one response");
  }
  int is_raw = call != NULL && call->kind == CALL_RAW;
  Lossd__V1__EvaluateResponse *response =
      is_raw ? NULL : decode(connection, frame, message, &lossd__v1__evaluate_response__descriptor);
  lossd_error problem;
  lossd_code code;
  if (is_raw) {
    code = take_raw(call, frame, message, &problem);
  } else if (response == NULL) {
    code = fail(&problem, LOSSD_INTERNAL, "the daemon's answer does not decode");
  } else if (flight->kind == FLIGHT_STREAM) {
    code = stream_take(flight->owner, response, is_last, &connection->reader, &problem);
  } else if (call->kind == CALL_PART) {
    code = take_part(call, response, is_last, &connection->reader, &problem);
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
  if (flight.kind == FLIGHT_CALL && frame->flags & FLAG_END_STREAM) call_finish(flight.owner, LOSSD_OK, "%s", "");
}
