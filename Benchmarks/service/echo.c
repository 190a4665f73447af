/* The least that a server on libuv can do: reads as many bytes as a call has, answers with as many as its answer has.
 *
 *   echo ADDRESS GREETING-BYTES CALL-BYTES ANSWER STREAM-OFFSET
 *
 * ANSWER is a file; in every copy of it the 4 bytes at offset 8 are those at STREAM-OFFSET of the call, so that a
 * client takes it for a frame of its stream. A greeting is answered with an empty frame of type 1. What is read at
 * once is answered with one write. Prints "ready" once it listens, and ends with its standard input. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* Beyond COPIED an answer is written from where it lies, but for its header. */
enum { READ = 64 << 10, COPIED = 64 << 10, HEADER = 16, STREAM = 8 };

static size_t greeting_size, call_size, answer_size, stream_offset;
static char *answer;

struct connection {
  union {
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  } handle;
  size_t skipped;   /* of the greeting */
  size_t part;      /* of a call */
  char number[4];   /* its stream's */
  char *input;
  size_t input_size;
  char *output;
  size_t output_size, output_room;
};

struct pending {
  uv_write_t request;
  char bytes[];
};

static void closed(uv_handle_t *handle) {
  struct connection *connection = handle->data;
  free(connection->input);
  free(connection->output);
  free(connection);
}

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
  (void)suggested;
  struct connection *connection = handle->data;
  *buffer = uv_buf_init(connection->input, (unsigned)connection->input_size);
}

static void written(uv_write_t *request, int status) {
  (void)status;
  free(request);
}

static void append(struct connection *connection, const char *bytes, size_t size) {
  if (connection->output_size + size > connection->output_room) {
    connection->output_room = 2 * (connection->output_size + size);
    connection->output = realloc(connection->output, connection->output_room);
    if (!connection->output) abort();
  }
  memcpy(connection->output + connection->output_size, bytes, size);
  connection->output_size += size;
}

static void flush(struct connection *connection) {
  if (connection->output_size == 0) return;
  size_t done = 0;
  uv_buf_t buffer = uv_buf_init(connection->output, (unsigned)connection->output_size);
  int n = uv_try_write(&connection->handle.stream, &buffer, 1);
  if (n > 0) done = (size_t)n;
  if (done < connection->output_size) {
    size_t rest = connection->output_size - done;
    struct pending *pending = malloc(sizeof *pending + rest);
    if (!pending) abort();
    memcpy(pending->bytes, connection->output + done, rest);
    buffer = uv_buf_init(pending->bytes, (unsigned)rest);
    uv_write(&pending->request, &connection->handle.stream, &buffer, 1, written);
  }
  connection->output_size = 0;
}

static void respond(struct connection *connection) {
  if (answer_size <= COPIED) {
    append(connection, answer, answer_size);
    memcpy(connection->output + connection->output_size - answer_size + STREAM, connection->number, 4);
    return;
  }
  flush(connection);
  struct pending *pending = malloc(sizeof *pending + HEADER);
  if (!pending) abort();
  memcpy(pending->bytes, answer, HEADER);
  memcpy(pending->bytes + STREAM, connection->number, 4);
  uv_buf_t buffers[] = {uv_buf_init(pending->bytes, HEADER),
                        uv_buf_init(answer + HEADER, (unsigned)(answer_size - HEADER))};
  uv_write(&pending->request, &connection->handle.stream, buffers, 2, written);
}

static void arrived(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
  struct connection *connection = stream->data;
  if (count < 0) {
    uv_close((uv_handle_t *)stream, closed);
    return;
  }
  const char *at = buffer->base;
  size_t left = (size_t)count;
  if (connection->skipped < greeting_size) {
    size_t size = greeting_size - connection->skipped < left ? greeting_size - connection->skipped : left;
    connection->skipped += size;
    at += size;
    left -= size;
    if (connection->skipped == greeting_size) {
      char hello[16] = {0};
      hello[12] = 1;
      append(connection, hello, sizeof hello);
    }
  }
  while (left > 0) {
    size_t size = call_size - connection->part < left ? call_size - connection->part : left;
    for (size_t i = 0; i < 4; i++) {
      size_t place = stream_offset + i;
      if (place >= connection->part && place < connection->part + size)
        connection->number[i] = at[place - connection->part];
    }
    connection->part += size;
    at += size;
    left -= size;
    if (connection->part < call_size) break;
    connection->part = 0;
    respond(connection);
  }
  flush(connection);
}

static void connected(uv_stream_t *server, int status) {
  if (status < 0) return;
  struct connection *connection = calloc(1, sizeof *connection);
  if (!connection) abort();
  connection->input_size = call_size > READ ? 1 << 20 : READ;
  connection->input = malloc(connection->input_size);
  if (!connection->input) abort();
  if (server->type == UV_TCP) {
    uv_tcp_init(server->loop, &connection->handle.tcp);
  } else {
    uv_pipe_init(server->loop, &connection->handle.pipe, 0);
  }
  connection->handle.stream.data = connection;
  uv_accept(server, &connection->handle.stream);
  if (server->type == UV_TCP) uv_tcp_nodelay(&connection->handle.tcp, 1);
  uv_read_start(&connection->handle.stream, allocate, arrived);
}

static char *file(const char *path, size_t *size) {
  FILE *stream = fopen(path, "rb");
  if (!stream) abort();
  fseek(stream, 0, SEEK_END);
  *size = (size_t)ftell(stream);
  rewind(stream);
  char *bytes = malloc(*size + 1);
  if (!bytes || fread(bytes, 1, *size, stream) != *size) abort();
  fclose(stream);
  return bytes;
}

static void ended(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
  (void)buffer;
  if (count < 0) uv_stop(stream->loop);
}

static void small(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
  static char bytes[64];
  (void)handle;
  (void)suggested;
  *buffer = uv_buf_init(bytes, sizeof bytes);
}

int main(int argc, char **argv) {
  if (argc != 6) return 2;
  greeting_size = strtoul(argv[2], 0, 10);
  call_size = strtoul(argv[3], 0, 10);
  answer = file(argv[4], &answer_size);
  stream_offset = strtoul(argv[5], 0, 10);
  uv_loop_t *loop = uv_default_loop();
  union {
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  } server;
  if (!strncmp(argv[1], "unix:", 5)) {
    uv_pipe_init(loop, &server.pipe, 0);
    if (uv_pipe_bind(&server.pipe, argv[1] + 5)) return 1;
  } else {
    struct sockaddr_in address;
    const char *port = strrchr(argv[1], ':');
    if (!port || uv_ip4_addr("127.0.0.1", atoi(port + 1), &address)) return 1;
    uv_tcp_init(loop, &server.tcp);
    if (uv_tcp_bind(&server.tcp, (struct sockaddr *)&address, 0)) return 1;
  }
  if (uv_listen(&server.stream, 128, connected)) return 1;
  uv_pipe_t input;
  uv_pipe_init(loop, &input, 0);
  uv_pipe_open(&input, 0);
  uv_read_start((uv_stream_t *)&input, small, ended);
  puts("ready");
  fflush(stdout);
  uv_run(loop, UV_RUN_DEFAULT);
  return 0;
}
