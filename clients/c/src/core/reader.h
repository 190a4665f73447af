/* Frames out of bytes. */
#ifndef LOSSD_READER_H
#define LOSSD_READER_H

#include "wire.h"

#define READ_BUFFER (64u << 10) /* bytes read with one call, beside what goes to its place directly */
#define RESULTS_MAX 64u         /* tensors in a response */

/* A part of the payload and where it goes; NULL: nowhere. */
struct place {
  unsigned char *to;
  size_t length;
};

struct connection;

struct reader {
  unsigned char *buffer;
  size_t capacity;
  size_t begin;
  size_t end;
  enum { READ_HEADER, READ_MESSAGE, READ_PAYLOAD } phase;
  struct frame frame;
  int has_hello;
  uint32_t payload_max;
  /* Filled in by whoever takes the message; in order, and exactly the payload's length together. */
  struct place places[2 * RESULTS_MAX + 1];
  size_t place_count;
  size_t place;
  const void *owner; /* whose memory the places are */
};

int reader_init(struct reader *reader);
void reader_free(struct reader *reader);
/* Where the next bytes may be read to: at most `max` vectors, two or more; 0 without memory. */
size_t reader_vectors(struct reader *reader, struct iovec *vectors, size_t max);
/* So many bytes have been read there. Not OK, with a text: the daemon broke the protocol. */
lossd_code reader_advance(struct reader *reader, struct connection *connection, size_t count, lossd_error *error);
/* The whole payload goes nowhere. */
void reader_discard(struct reader *reader);
/* The owner's memory is not touched any more. */
void reader_abandon(struct reader *reader, const void *owner);

#endif
