/* Frames as bytes: docs/protocol.md. */
#ifndef LOSSD_WIRE_H
#define LOSSD_WIRE_H

#include "output.h"

#define MESSAGE_MAX (4u << 20)  /* bytes of a message that the daemon may send */
#define PAYLOAD_MAX 0xFFFFFFFFu /* bytes: the length field of a frame */
#define PING_MAX 64u            /* bytes */
#define ALIGNMENT 64u           /* of tensors in a payload */
#define FRAME_HEADER 16u

/* What every server takes before its HELLO has come. */
#define EARLY_STREAMS 8u
#define EARLY_CREDIT 1u
#define EARLY_MESSAGE (64u << 10)
#define EARLY_PAYLOAD (1u << 20)

enum frame_type {
  FRAME_HELLO = 1, FRAME_OPEN, FRAME_MESSAGE, FRAME_STATUS, FRAME_CANCEL, FRAME_CREDIT, FRAME_PING, FRAME_GOAWAY,
  FRAME_REGION, FRAME_RELEASE
};
enum { FLAG_END_STREAM = 1, FLAG_ACK = 2 };

struct frame {
  uint32_t payload_length;
  uint32_t message_length;
  uint32_t stream;
  uint8_t type;
  uint8_t flags;
};

void frame_write(unsigned char *to, const struct frame *frame);
/* FRAME_HEADER bytes; 0 where the reserved ones are not 0. */
int frame_read(const unsigned char *bytes, struct frame *frame);

/* Queue frames; 0 without memory, and nothing is queued. */
int put_preface(struct output *output, uint64_t payload_max, int has_shared_memory);
int put_open(struct output *output, uint32_t stream, const char *method, uint64_t timeout_us);
int put_region(struct output *output, uint8_t type, uint64_t number, uint64_t length);
int put_control(struct output *output, uint32_t stream, uint8_t type, uint8_t flags, const void *message,
                size_t length);

#endif
