/* Frames out of bytes: a state machine without a socket. It holds one header or one message; a payload goes to
 * where the message says, straight from the socket except for what was read along with the header. */
#include "reader.h"
#include "frames.h"

#include <assert.h>

int reader_init(struct reader *reader) {
  memset(reader, 0, sizeof *reader);
  reader->payload_max = PAYLOAD_MAX;
  reader->buffer = malloc(READ_BUFFER);
  reader->capacity = reader->buffer == NULL ? 0 : READ_BUFFER;
  return reader->buffer != NULL;
}

void reader_free(struct reader *reader) {
  free(reader->buffer);
  reader->buffer = NULL;
}

/* ---- Where bytes go ---- */

/* Room at the buffer's end, also for a header or message that is longer than what is left of it. */
static int make_room(struct reader *reader) {
  if (reader->begin == reader->end) {
    reader->begin = reader->end = 0;
    /* A long message made it large. */
    if (reader->capacity > READ_BUFFER) {
      unsigned char *smaller = realloc(reader->buffer, READ_BUFFER);
      if (smaller != NULL) {
        reader->buffer = smaller;
        reader->capacity = READ_BUFFER;
      }
    }
  }
  size_t needed = reader->phase == READ_MESSAGE ? reader->frame.message_length : FRAME_HEADER;
  if (reader->capacity - reader->begin < needed || reader->end == reader->capacity) {
    memmove(reader->buffer, reader->buffer + reader->begin, reader->end - reader->begin);
    reader->end -= reader->begin;
    reader->begin = 0;
  }
  if (reader->phase == READ_MESSAGE && reader->capacity < needed) {
    unsigned char *larger = realloc(reader->buffer, needed);
    if (larger == NULL) return 0;
    reader->buffer = larger;
    reader->capacity = needed;
  }
  return 1;
}

size_t reader_vectors(struct reader *reader, struct iovec *vectors, size_t max) {
  assert(max >= 2);
  size_t used = 0;
  int is_direct = reader->phase == READ_PAYLOAD;
  if (is_direct) {
    /* The buffer is empty: all of it had to be used before this phase could last. */
    for (size_t index = reader->place; index < reader->place_count && used < max - 1; index++) {
      struct place place = reader->places[index];
      if (place.to == NULL) {
        is_direct = 0; /* nowhere: by way of the buffer */
        break;
      }
      vectors[used].iov_base = place.to;
      vectors[used++].iov_len = place.length;
    }
    if (is_direct && reader->place_count - reader->place > used) return used;
  }
  if (!make_room(reader)) return 0;
  vectors[used].iov_base = reader->buffer + reader->end;
  vectors[used++].iov_len = reader->capacity - reader->end;
  return used;
}

/* ---- Rules, docs/protocol.md's table of frames ---- */

static lossd_code check_header(struct reader *reader, lossd_error *error) {
  const struct frame *frame = &reader->frame;
  unsigned type = frame->type;
  unsigned allowed = type == FRAME_MESSAGE ? FLAG_END_STREAM : type == FRAME_PING ? FLAG_ACK : 0;
  int is_known = type == FRAME_HELLO || type == FRAME_MESSAGE || type == FRAME_STATUS || type == FRAME_CREDIT ||
                 type == FRAME_PING || type == FRAME_GOAWAY || type == FRAME_REGION || type == FRAME_RELEASE;
  int is_connections = type == FRAME_HELLO || type == FRAME_PING || type >= FRAME_GOAWAY;
  if (!is_known) return fail(error, LOSSD_INTERNAL, "a frame of type 0x%02x", type);
  if (frame->flags & ~allowed) return fail(error, LOSSD_INTERNAL, "flags 0x%02x on a frame of type %u", frame->flags, type);
  if ((frame->stream == 0) != is_connections) {
    return fail(error, LOSSD_INTERNAL, "a frame of type %u on stream %u", type, frame->stream);
  }
  if ((type == FRAME_HELLO) == reader->has_hello) {
    return fail(error, LOSSD_INTERNAL, reader->has_hello ? "a second HELLO" : "the first frame is no HELLO");
  }
  reader->has_hello = 1;
  if (frame->message_length > (type == FRAME_PING ? PING_MAX : MESSAGE_MAX)) {
    return fail(error, LOSSD_INTERNAL, "a message of %u bytes in a frame of type %u", frame->message_length, type);
  }
  if (frame->payload_length > (type == FRAME_MESSAGE ? reader->payload_max : 0)) {
    return fail(error, LOSSD_INTERNAL, "a payload of %u bytes in a frame of type %u", frame->payload_length, type);
  }
  return LOSSD_OK;
}

static lossd_code take_header(struct reader *reader, lossd_error *error) {
  if (!frame_read(reader->buffer + reader->begin, &reader->frame)) {
    return fail(error, LOSSD_INTERNAL, "reserved bytes that are not 0");
  }
  reader->begin += FRAME_HEADER;
  reader->phase = READ_MESSAGE;
  return check_header(reader, error);
}

static lossd_code take_message(struct reader *reader, struct connection *connection, lossd_error *error) {
  const unsigned char *message = reader->buffer + reader->begin;
  reader->begin += reader->frame.message_length;
  reader->place_count = reader->place = 0;
  reader->owner = NULL;
  lossd_code code = connection_take(connection, &reader->frame, message, error);
  if (code != LOSSD_OK) return code;
  if (reader->frame.payload_length == 0) {
    reader->phase = READ_HEADER;
    connection_payload_ended(connection, &reader->frame);
    return LOSSD_OK;
  }
  uint64_t total = 0;
  for (size_t index = 0; index < reader->place_count; index++) total += reader->places[index].length;
  if (reader->place_count == 0) {
    reader_discard(reader);
  } else {
    assert(total == reader->frame.payload_length);
    (void)total;
  }
  reader->phase = READ_PAYLOAD;
  return LOSSD_OK;
}

void reader_discard(struct reader *reader) {
  reader->places[0].to = NULL;
  reader->places[0].length = reader->frame.payload_length;
  reader->place_count = 1;
  reader->place = 0;
  reader->owner = NULL;
}

void reader_abandon(struct reader *reader, const void *owner) {
  if (reader->owner != owner) return;
  for (size_t index = 0; index < reader->place_count; index++) reader->places[index].to = NULL;
  reader->owner = NULL;
}

/* So many bytes of the payload are in their places. */
static void fill_places(struct reader *reader, struct connection *connection, size_t count) {
  while (count > 0) {
    struct place *place = &reader->places[reader->place];
    size_t part = count < place->length ? count : place->length;
    if (place->to != NULL) place->to += part;
    place->length -= part;
    count -= part;
    if (place->length == 0) reader->place++;
  }
  while (reader->place < reader->place_count && reader->places[reader->place].length == 0) reader->place++;
  if (reader->place == reader->place_count) {
    reader->phase = READ_HEADER;
    connection_payload_ended(connection, &reader->frame);
  }
}

/* Payload that was read into the buffer. */
static void take_buffered_payload(struct reader *reader, struct connection *connection) {
  struct place *place = &reader->places[reader->place];
  size_t have = reader->end - reader->begin;
  size_t part = have < place->length ? have : place->length;
  if (place->to != NULL) memcpy(place->to, reader->buffer + reader->begin, part);
  reader->begin += part;
  fill_places(reader, connection, part);
}

lossd_code reader_advance(struct reader *reader, struct connection *connection, size_t count, lossd_error *error) {
  /* What the vectors before the buffer's took. */
  while (count > 0 && reader->phase == READ_PAYLOAD && reader->places[reader->place].to != NULL) {
    size_t part = reader->places[reader->place].length;
    if (part > count) part = count;
    count -= part;
    fill_places(reader, connection, part);
  }
  reader->end += count;
  assert(reader->end <= reader->capacity);
  for (;;) {
    size_t have = reader->end - reader->begin;
    lossd_code code = LOSSD_OK;
    if (reader->phase == READ_HEADER && have >= FRAME_HEADER) {
      code = take_header(reader, error);
    } else if (reader->phase == READ_MESSAGE && have >= reader->frame.message_length) {
      code = take_message(reader, connection, error);
    } else if (reader->phase == READ_PAYLOAD && have > 0) {
      take_buffered_payload(reader, connection);
    } else {
      return LOSSD_OK;
    }
    if (code != LOSSD_OK) return code;
  }
}
