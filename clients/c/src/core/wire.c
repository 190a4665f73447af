/* Frames as bytes, and those that carry no tensors. */
#include "wire.h"

#include "lossd.pb-c.h"

#define SOFTWARE "lossd-c/" LOSSD_VERSION

/* One store, as compilers see it; a loop is not. */
static void write32(unsigned char *to, uint32_t number) {
  to[0] = (unsigned char)number;
  to[1] = (unsigned char)(number >> 8);
  to[2] = (unsigned char)(number >> 16);
  to[3] = (unsigned char)(number >> 24);
}

void frame_write(unsigned char *to, const struct frame *frame) {
  write32(to, frame->payload_length);
  write32(to + 4, frame->message_length);
  write32(to + 8, frame->stream);
  to[12] = frame->type;
  to[13] = frame->flags;
  to[14] = to[15] = 0;
}

static uint32_t read32(const unsigned char *bytes) {
  return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

int frame_read(const unsigned char *bytes, struct frame *frame) {
  frame->payload_length = read32(bytes);
  frame->message_length = read32(bytes + 4);
  frame->stream = read32(bytes + 8);
  frame->type = bytes[12];
  frame->flags = bytes[13];
  return bytes[14] == 0 && bytes[15] == 0;
}

int put_control(struct output *output, uint32_t stream, uint8_t type, uint8_t flags, const void *message,
                size_t length) {
  struct frame frame = {0, (uint32_t)length, stream, type, flags};
  if (!output_reserve(output, FRAME_HEADER + length, 1)) return 0;
  unsigned char *to = output_append(output, FRAME_HEADER + length);
  frame_write(to, &frame);
  if (length > 0) memcpy(to + FRAME_HEADER, message, length);
  return 1;
}

static int put_message(struct output *output, uint32_t stream, uint8_t type, const ProtobufCMessage *message) {
  size_t length = protobuf_c_message_get_packed_size(message);
  struct frame frame = {0, (uint32_t)length, stream, type, 0};
  if (!output_reserve(output, FRAME_HEADER + length, 1)) return 0;
  unsigned char *to = output_append(output, FRAME_HEADER + length);
  frame_write(to, &frame);
  protobuf_c_message_pack(message, to + FRAME_HEADER);
  return 1;
}

int put_region(struct output *output, uint8_t type, uint64_t number, uint64_t length) {
  Lossd__V1__Region region = LOSSD__V1__REGION__INIT;
  region.region = number;
  region.length = length;
  return put_message(output, 0, type, &region.base);
}

int put_preface(struct output *output, uint64_t payload_max, int has_shared_memory) {
  static const char preface[] = "LOSSD/1\n";
  Lossd__V1__Hello hello = LOSSD__V1__HELLO__INIT;
  hello.software = (char *)(uintptr_t)SOFTWARE;
  hello.max_message_bytes = MESSAGE_MAX;
  hello.max_payload_bytes = payload_max;
  char *feature = (char *)(uintptr_t)"shm";
  hello.n_features = has_shared_memory ? 1 : 0;
  hello.features = &feature;
  if (!output_reserve(output, sizeof preface - 1, 1)) return 0;
  memcpy(output_append(output, sizeof preface - 1), preface, sizeof preface - 1);
  return put_message(output, 0, FRAME_HELLO, &hello.base);
}

int put_open(struct output *output, uint32_t stream, const char *method, uint64_t timeout_us) {
  Lossd__V1__Open open = LOSSD__V1__OPEN__INIT;
  open.method = (char *)(uintptr_t)method;
  open.timeout_us = timeout_us;
  return put_message(output, stream, FRAME_OPEN, &open.base);
}
