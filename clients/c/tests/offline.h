/* A client with calls under way on a connection whose other end says what a test feeds it, byte by byte. */
#ifndef OFFLINE_H
#define OFFLINE_H

#include "client.h"
#include "encode.h"
#include "leg.h"
#include "life.h"

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
  struct core *core = &client->core;
  client_enter(client);
  offline->connection = core_connected(core, ends[0]);
  core->is_connecting = 1; /* for ever: no second connection */
  offline->buffer = malloc(12);
  offline->into = offline_call(client, "sigmoid");
  lossd_call_output(offline->into, "output", offline->buffer, 12);
  lossd_call_submit(offline->into, NULL);
  offline->owned = offline_call(client, "sigmoid");
  lossd_call_submit(offline->owned, NULL);
  offline->list = call_new_raw(core, "/lossd.v1.Evaluator/ListFunctions", "\x0a\x07sigmoid", 9);
  client_retain(client);
  lossd_call_submit(offline->list, NULL);
  core_feed(core);
  lossd_stream *stream = offline->stream = calloc(1, sizeof *stream);
  stream->core = core;
  stream->is_ready = 1;
  client_retain(client);
  stream->deadline = NEVER;
  stream->head = call_new(core, "sigmoid");
  call_encode(stream->head, NULL);
  core->streams = stream;
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
  core_feed(core);
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
static size_t offline_descriptors(const struct connection *connection, int *descriptors) {
  size_t count = 0, there = connection->descriptor_count;
  for (; there + count < segments_asked(connection) && there + count < DESCRIPTORS_MAX; count++) {
    descriptors[count] = memfd_create("offline", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (ftruncate(descriptors[count], 1 << 20) != 0) abort();
    if (fcntl(descriptors[count], F_ADD_SEALS, F_SEAL_SHRINK) != 0) abort();
  }
  return count;
}

/* The daemon's bytes, in pieces of at most `piece`; stops where the connection ends. */
static void offline_feed(struct offline *offline, const unsigned char *bytes, size_t count, size_t piece) {
  struct connection *connection = offline->connection;
  while (count > 0 && !connection->is_closed) {
    int descriptors[DESCRIPTORS_MAX];
    size_t taken = piece < count ? piece : count;
    connection_feed(connection, bytes, taken, descriptors, offline_descriptors(connection, descriptors));
    if (!connection->is_closed) core_feed(&offline->client->core);
    bytes += taken;
    count -= taken;
  }
}

#endif
