/* A client with calls under way on a connection whose other end says what a test feeds it, byte by byte. */
#ifndef OFFLINE_H
#define OFFLINE_H

#include "internal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct offline {
  lossd_client *client;
  struct connection *connection;
  int other_end;
  lossd_call *into;   /* stream 1: sigmoid, results into the 12 bytes at `buffer` */
  lossd_call *owned;  /* stream 2: sigmoid, results in its own memory */
  lossd_call *list;   /* stream 3: ListFunctions of sigmoid */
  lossd_stream *stream; /* stream 4: sigmoid, batches 0 and 1 sent */
  lossd_call *batches[2];
  lossd_call *big;    /* waits for HELLO: softmax of what goes by shared memory, its result too */
  float *buffer;
  float *big_input;
};

enum { OFFLINE_BIG = 300 };

static const float offline_input[3] = {0, 1, -1};
static const int64_t offline_shape[1] = {3};

static lossd_call *offline_call(lossd_client *client, const char *function) {
  lossd_call *call = lossd_call_new(client, function);
  lossd_call_input(call, "input", LOSSD_FLOAT32, 1, offline_shape, offline_input);
  return call;
}

static int offline_begin(struct offline *offline) {
  int ends[2];
  memset(offline, 0, sizeof *offline);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return 0;
  offline->other_end = ends[1];
  lossd_client *client = offline->client = lossd_client_new("unix:/nowhere", NULL);
  lossd_client_set_payload_max(client, 1 << 20);
  lossd_client_set_shared_min(client, 1000);
  offline->connection = connection_new(client, ends[0]);
  client->connections = client->current = offline->connection;
  client->retry_at = NEVER; /* no second connection */
  client->retry_until = NEVER;
  offline->buffer = malloc(12);
  offline->into = offline_call(client, "sigmoid");
  lossd_call_output(offline->into, "output", offline->buffer, 12);
  lossd_call_submit(offline->into, NULL);
  offline->owned = offline_call(client, "sigmoid");
  lossd_call_submit(offline->owned, NULL);
  offline->list = lossd_call_new(client, NULL);
  offline->list->listed = strdup("sigmoid");
  offline->list->method = "/lossd.v1.Evaluator/ListFunctions";
  lossd_call_submit(offline->list, NULL);
  client_feed(client);
  lossd_stream *stream = offline->stream = calloc(1, sizeof *stream);
  stream->client = client;
  client_retain(client);
  stream->deadline = NEVER;
  stream->head = lossd_call_new(client, "sigmoid");
  call_encode(stream->head, NULL);
  client->streams = stream;
  offline->connection->stream_credit = 8; /* as if HELLO had come */
  for (int index = 0; index < 2; index++) {
    offline->batches[index] = offline_call(client, NULL);
    lossd_stream_send(stream, offline->batches[index], NULL);
  }
  lossd_stream_finish(stream, NULL);
  const int64_t shape[1] = {OFFLINE_BIG};
  offline->big_input = calloc(OFFLINE_BIG, sizeof *offline->big_input);
  offline->big = lossd_call_new(client, "softmax");
  lossd_call_input(offline->big, "input", LOSSD_FLOAT32, 1, shape, offline->big_input);
  lossd_call_output(offline->big, "output", NULL, 0);
  lossd_call_submit(offline->big, NULL);
  client_feed(client);
  return offline->connection->flight_count == 4;
}

static void offline_end(struct offline *offline) {
  lossd_call_free(offline->into);
  lossd_call_free(offline->owned);
  lossd_call_free(offline->list);
  lossd_stream_free(offline->stream);
  lossd_call_free(offline->batches[0]);
  lossd_call_free(offline->batches[1]);
  lossd_call_free(offline->big);
  lossd_client_free(offline->client);
  close(offline->other_end);
  free(offline->buffer);
  free(offline->big_input);
}

/* The descriptors of all regions that have been asked for, as if they had come with their answers. */
static void offline_give_descriptors(struct offline *offline) {
  struct connection *connection = offline->connection;
  while (connection->descriptor_count < segments_asked(connection) && connection->descriptor_count < DESCRIPTORS_MAX) {
    int descriptor = memfd_create("offline", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (ftruncate(descriptor, 1 << 20) != 0 || fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK) != 0) abort();
    connection_give_descriptor(connection, descriptor);
  }
}

/* The daemon's bytes, in pieces of at most `piece`; stops where the connection ends. */
static void offline_feed(struct offline *offline, const unsigned char *bytes, size_t count, size_t piece) {
  struct connection *connection = offline->connection;
  while (count > 0 && !connection->is_closed) {
    struct iovec vectors[16];
    offline_give_descriptors(offline);
    size_t used = reader_vectors(&connection->reader, vectors, 16), taken = 0;
    for (size_t index = 0; index < used && taken < piece && taken < count; index++) {
      size_t part = vectors[index].iov_len;
      if (part > piece - taken) part = piece - taken;
      if (part > count - taken) part = count - taken;
      memcpy(vectors[index].iov_base, bytes + taken, part);
      taken += part;
    }
    lossd_error error;
    lossd_code code = reader_advance(&connection->reader, connection, taken, &error);
    if (code != LOSSD_OK) connection_close(connection, LOSSD_UNAVAILABLE, "%s", error.text);
    if (!connection->is_closed) client_feed(offline->client);
    bytes += taken;
    count -= taken;
  }
}

#endif
