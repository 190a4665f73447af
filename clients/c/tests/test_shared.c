/* Big tensors by shared memory: the same results, whoever's memory it is, and nobody's memory touched too late. */
#include <lossd.h>
#include <math.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { ROWS = 300, CLASSES = 1000, COUNT = ROWS * CLASSES, BYTES = COUNT * 4 };

static float *logits, *plain_gradient;
static int64_t labels[ROWS];
static float plain_loss;
static const int64_t shape[2] = {ROWS, CLASSES};

static lossd_call *cross_entropy(lossd_client *client, const float *input) {
  lossd_call *call = lossd_call_new(client, "cross_entropy");
  lossd_call_input(call, "input", LOSSD_FLOAT32, 2, shape, input);
  lossd_call_input(call, "target", LOSSD_INT64, 1, shape, labels);
  return call;
}

/* What comes by the socket. */
static int prepare(void) {
  lossd_error error;
  logits = malloc(BYTES);
  plain_gradient = malloc(BYTES);
  uint32_t state = 1;
  for (int at = 0; at < COUNT; at++) {
    state = state * 1664525u + 1013904223u;
    logits[at] = (float)(state >> 16) / 8192.0f - 4.0f;
  }
  for (int row = 0; row < ROWS; row++) labels[row] = row * 7 % CLASSES;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_client_set_shared_min(client, SIZE_MAX);
  lossd_call *call = cross_entropy(client, logits);
  lossd_call_output(call, "loss", &plain_loss, sizeof plain_loss);
  lossd_call_output(call, "grad.input", plain_gradient, BYTES);
  lossd_code code = lossd_call_run(call, &error);
  if (code != LOSSD_OK) printf("%s\n", error.text);
  lossd_call_free(call);
  lossd_client_free(client);
  return code == LOSSD_OK;
}

TEST("results are the same in the caller's memory, the library's, and shared memory") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  float *there = lossd_client_alloc(client, BYTES), *result = lossd_client_alloc(client, BYTES);
  float *mine = malloc(BYTES), loss;
  CHECK(there != NULL && result != NULL && (uintptr_t)there % 4096 == 0 && there[COUNT - 1] == 0);
  memcpy(there, logits, BYTES);
  const float *inputs[2] = {logits, there};
  float *results[3] = {mine, NULL, result};
  for (int round = 0; round < 12; round++) {
    lossd_call *call = cross_entropy(client, inputs[round % 2]);
    float *into = results[round % 3];
    lossd_tensor tensor;
    if (into != NULL) memset(into, 0xFF, BYTES);
    lossd_call_output(call, "loss", &loss, sizeof loss);
    lossd_call_output(call, "grad.input", into, into == NULL ? 0 : BYTES);
    for (int again = 0; again < 2; again++) {
      CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
      CHECK_CODE(LOSSD_OK, lossd_call_result(call, "grad.input", &tensor, &error));
      CHECK(loss == plain_loss && tensor.bytes == BYTES && tensor.rank == 2 && tensor.shape[1] == CLASSES);
      CHECK(into == NULL || tensor.data == into);
      CHECK(memcmp(tensor.data, plain_gradient, BYTES) == 0);
      CHECK(memcmp(there, logits, BYTES) == 0);
    }
    lossd_call_free(call);
  }
  lossd_client_dealloc(client, there);
  lossd_client_dealloc(client, result);
  lossd_client_dealloc(client, NULL);
  free(mine);
  lossd_client_free(client);
}

TEST("a call that is run again takes what lies there now, also of another shape") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_call *call = lossd_call_new(client, "softmax");
  float *input = malloc(BYTES);
  for (int rows = ROWS; rows > 0; rows -= 37) {
    const int64_t part[2] = {rows, CLASSES};
    lossd_tensor tensor;
    for (int at = 0; at < rows * CLASSES; at++) input[at] = (float)((at + rows) % 13);
    lossd_call_input(call, "input", LOSSD_FLOAT32, 2, part, input);
    CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
    CHECK_CODE(LOSSD_OK, lossd_call_result(call, NULL, &tensor, &error));
    CHECK(tensor.shape[0] == rows);
    const float *output = tensor.data;
    for (int row = 0; row < rows; row += 13) {
      double sum = 0;
      for (int at = 0; at < CLASSES; at++) sum += exp(input[row * CLASSES + at]);
      CHECK_NEAR(output[row * CLASSES + 5], exp(input[row * CLASSES + 5]) / sum, 1e-7);
    }
    lossd_call_output(call, "output", NULL, 0);
  }
  lossd_call_free(call);
  free(input);
  lossd_client_free(client);
}

TEST("a result of another size than its place comes by the socket") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  float *there = lossd_client_alloc(client, BYTES), *losses = lossd_client_alloc(client, 8192);
  memcpy(there, logits, BYTES);
  lossd_call *call = cross_entropy(client, there);
  lossd_tensor tensor;
  lossd_call_set_string(call, "reduction", "none");
  const size_t sizes[3] = {ROWS * 4, 8192, 64};
  for (int index = 0; index < 3; index++) {
    lossd_call_output(call, "loss", losses, sizes[index]);
    lossd_code code = lossd_call_run(call, &error);
    if (index == 2) {
      CHECK_CODE(LOSSD_INVALID_ARGUMENT, code);
      CHECK(strstr(error.text, "the buffer has 64") != NULL);
      continue;
    }
    CHECK_CODE(LOSSD_OK, code);
    CHECK_CODE(LOSSD_OK, lossd_call_result(call, "loss", &tensor, &error));
    CHECK(tensor.bytes == ROWS * 4 && tensor.data == losses);
    double sum = 0;
    for (int row = 0; row < ROWS; row++) sum += losses[row];
    CHECK_NEAR(sum / ROWS, plain_loss, 1e-4);
  }
  /* A result in its input's own place overlaps it. */
  lossd_call_free(call);
  call = lossd_call_new(client, "sigmoid");
  lossd_call_input(call, "input", LOSSD_FLOAT32, 2, shape, there);
  lossd_call_output(call, "output", there, BYTES);
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  for (int at = 0; at < COUNT; at += 997) CHECK_NEAR(there[at], 1 / (1 + exp(-logits[at])), 1e-6);
  lossd_call_free(call);
  lossd_client_free(client);
}

TEST("what lies at no multiple of 64 in shared memory is copied") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  float *there = lossd_client_alloc(client, BYTES + 4);
  memcpy(there + 1, logits, BYTES);
  lossd_call *call = cross_entropy(client, there + 1);
  double loss;
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_result_double(call, NULL, &loss, &error));
  CHECK_NEAR(loss, plain_loss, 0);
  /* One end of it is not in there. */
  lossd_call_input(call, "input", LOSSD_FLOAT32, 2, shape, there);
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  lossd_call_free(call);
  lossd_client_free(client);
}

TEST("many calls at once have memory of their own") {
  enum { MANY = 40 };
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_call *calls[MANY];
  for (int index = 0; index < MANY; index++) {
    calls[index] = lossd_call_new(client, "sigmoid");
    lossd_call_input(calls[index], "input", LOSSD_FLOAT32, 2, shape, logits);
    lossd_call_output(calls[index], "output", NULL, 0);
  }
  for (int round = 0; round < 3; round++) {
    for (int index = 0; index < MANY; index++) CHECK_CODE(LOSSD_OK, lossd_call_submit(calls[index], &error));
    for (int index = MANY - 1; index >= 0; index--) {
      lossd_tensor tensor;
      CHECK_CODE(LOSSD_OK, lossd_call_wait(calls[index], &error));
      CHECK_CODE(LOSSD_OK, lossd_call_result(calls[index], NULL, &tensor, &error));
      for (int at = index; at < COUNT; at += 9973) {
        CHECK_NEAR(((const float *)tensor.data)[at], 1 / (1 + exp(-logits[at])), 1e-6);
      }
    }
  }
  for (int index = 0; index < MANY; index++) lossd_call_free(calls[index]);
  lossd_client_free(client);
}

TEST("calls that are left, cancelled or late do not lend their memory to others too soon") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  for (int round = 0; round < 30; round++) {
    lossd_call *left = lossd_call_new(client, "softmax"), *call = cross_entropy(client, logits);
    float *mine = malloc(BYTES), loss;
    memcpy(mine, logits, BYTES);
    lossd_call_input(left, "input", LOSSD_FLOAT32, 2, shape, mine);
    lossd_call_output(left, "output", NULL, 0);
    if (round % 3 == 2) lossd_call_set_timeout(left, 1 + (uint64_t)round * 50);
    CHECK_CODE(LOSSD_OK, lossd_call_submit(left, &error));
    for (int turn = 0; turn < round % 5; turn++) lossd_client_flush(client);
    if (round % 3 == 0) lossd_call_free(left);
    if (round % 3 == 1) lossd_call_cancel(left);
    if (round % 3 == 2) lossd_call_wait(left, NULL);
    memset(mine, 0, BYTES);
    free(mine);
    lossd_call_output(call, "loss", &loss, sizeof loss);
    lossd_call_output(call, "grad.input", NULL, 0);
    CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
    lossd_tensor tensor;
    CHECK_CODE(LOSSD_OK, lossd_call_result(call, "grad.input", &tensor, &error));
    CHECK(loss == plain_loss && memcmp(tensor.data, plain_gradient, BYTES) == 0);
    if (round % 3 != 0) {
      lossd_call_wait(left, NULL);
      lossd_call_free(left);
    }
    lossd_call_free(call);
  }
  lossd_client_free(client);
}

TEST("memory is given back at any time, also under way and after its client") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  for (int round = 0; round < 6; round++) {
    float *there = lossd_client_alloc(client, BYTES);
    memcpy(there, logits, BYTES);
    lossd_call *call = cross_entropy(client, there);
    CHECK_CODE(LOSSD_OK, lossd_call_submit(call, &error));
    for (int turn = 0; turn < round; turn++) lossd_client_flush(client);
    lossd_call_free(call);
    lossd_client_dealloc(client, there);
    lossd_client_dealloc(client, there); /* it is nobody's any more */
  }
  float *there = lossd_client_alloc(client, BYTES);
  lossd_call *call = cross_entropy(client, there);
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  lossd_client_free(client);
  there[0] = 1; /* the call is still there */
  lossd_call_free(call);
}

TEST("streams send big batches that way") {
  enum { BATCHES = 20 };
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_call *first = lossd_call_new(client, "cross_entropy"), *batches[4], *done;
  lossd_call_output(first, "loss", NULL, 0);
  lossd_call_output(first, "grad.input", NULL, 0);
  lossd_stream *stream = lossd_stream_new(first, &error);
  float *there = lossd_client_alloc(client, BYTES);
  memcpy(there, logits, BYTES);
  for (int index = 0; index < 4; index++) {
    batches[index] = lossd_call_new(client, NULL);
    lossd_call_input(batches[index], "input", LOSSD_FLOAT32, 2, shape, index % 2 ? there : logits);
    lossd_call_input(batches[index], "target", LOSSD_INT64, 1, shape, labels);
  }
  for (int number = 0; number < BATCHES; number++) {
    if (number >= 4) CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
    CHECK_CODE(LOSSD_OK, lossd_stream_send(stream, batches[number % 4], &error));
  }
  CHECK_CODE(LOSSD_OK, lossd_stream_finish(stream, &error));
  for (;;) {
    lossd_tensor tensor;
    CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
    if (done == NULL) break;
    CHECK_CODE(LOSSD_OK, lossd_call_result(done, "grad.input", &tensor, &error));
    CHECK(memcmp(tensor.data, plain_gradient, BYTES) == 0);
  }
  lossd_summary summary;
  CHECK_CODE(LOSSD_OK, lossd_stream_summary(stream, &summary, &error));
  CHECK(summary.batches == BATCHES && summary.rows == BATCHES * ROWS);
  CHECK_NEAR(summary.loss, plain_loss, 1e-6);
  lossd_stream_free(stream);
  /* And one that is left in the middle. */
  stream = lossd_stream_new(first, &error);
  for (int index = 0; index < 4; index++) CHECK_CODE(LOSSD_OK, lossd_stream_send(stream, batches[index], &error));
  lossd_stream_free(stream);
  for (int index = 0; index < 4; index++) lossd_call_free(batches[index]);
  lossd_call_free(first);
  lossd_call *call = cross_entropy(client, logits);
  double loss;
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_result_double(call, NULL, &loss, &error));
  CHECK_NEAR(loss, plain_loss, 0);
  lossd_call_free(call);
  lossd_client_free(client);
}

/* Ends every connection of this process, as the daemon would. */
static void cut_connections(void) {
  for (int descriptor = 3; descriptor < 256; descriptor++) {
    struct stat file;
    if (fstat(descriptor, &file) == 0 && S_ISSOCK(file.st_mode)) shutdown(descriptor, SHUT_RDWR);
  }
}

TEST("what lies in memory stays when its connection ends, and is copied from then on") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  float *there = lossd_client_alloc(client, BYTES), *unwritten = lossd_client_alloc(client, BYTES), loss;
  memcpy(there, logits, BYTES);
  lossd_call *call = cross_entropy(client, there);
  lossd_call_output(call, "loss", &loss, sizeof loss);
  lossd_call_output(call, "grad.input", unwritten, BYTES);
  lossd_call *other = cross_entropy(client, there);
  lossd_tensor tensor;
  lossd_call_output(other, "grad.input", NULL, 0);
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_run(other, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_result(other, "grad.input", &tensor, &error));
  for (int round = 0; round < 3; round++) {
    cut_connections();
    lossd_client_flush(client);
    /* What this process wrote, and what the daemon did. */
    CHECK(memcmp(there, logits, BYTES) == 0 && memcmp(unwritten, plain_gradient, BYTES) == 0);
    if (round == 0) CHECK(memcmp(tensor.data, plain_gradient, BYTES) == 0);
    memset(unwritten, 0, BYTES);
    loss = 0;
    CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
    CHECK(loss == plain_loss && memcmp(unwritten, plain_gradient, BYTES) == 0);
    CHECK(memcmp(there, logits, BYTES) == 0);
  }
  lossd_call_free(call);
  lossd_call_free(other);
  lossd_client_dealloc(client, there);
  lossd_client_dealloc(client, unwritten);
  lossd_client_free(client);
}

TEST("without room for another descriptor tensors go by the socket") {
  struct rlimit limit, low;
  getrlimit(RLIMIT_NOFILE, &limit);
  for (rlim_t spare = 0; spare < 4; spare++) {
    lossd_error error;
    lossd_client *client = lossd_client_new(address, &error);
    CHECK_CODE(LOSSD_OK, lossd_client_ping(client, 0, NULL, &error));
    int next = dup(0);
    close(next);
    low = limit;
    low.rlim_cur = (rlim_t)next + spare;
    setrlimit(RLIMIT_NOFILE, &low);
    lossd_call *call = cross_entropy(client, logits);
    float loss;
    lossd_call_output(call, "loss", &loss, sizeof loss);
    lossd_call_output(call, "grad.input", NULL, 0);
    for (int round = 0; round < 3; round++) {
      lossd_tensor tensor;
      loss = 0;
      CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
      CHECK_CODE(LOSSD_OK, lossd_call_result(call, "grad.input", &tensor, &error));
      CHECK(loss == plain_loss && memcmp(tensor.data, plain_gradient, BYTES) == 0);
    }
    float *there = lossd_client_alloc(client, BYTES);
    CHECK(there != NULL && there[0] == 0);
    setrlimit(RLIMIT_NOFILE, &limit);
    lossd_call_free(call);
    lossd_client_free(client);
  }
}

TEST("a child has memory of its own") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_call *call = cross_entropy(client, logits);
  float loss;
  lossd_call_output(call, "loss", &loss, sizeof loss);
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_submit(call, &error));
  pid_t child = fork();
  if (child == 0) {
    int bad = lossd_call_wait(call, NULL) != LOSSD_UNAVAILABLE;
    float *other = calloc(COUNT, sizeof *other);
    lossd_call *mine = cross_entropy(client, other);
    for (int round = 0; round < 5; round++) bad |= lossd_call_run(mine, NULL) != LOSSD_OK;
    double value = 0;
    lossd_call_result_double(mine, NULL, &value, NULL);
    bad |= fabs(value - log(CLASSES)) > 1e-5;
    lossd_call_free(mine);
    lossd_call_free(call);
    lossd_client_free(client);
    free(other);
    free(logits);
    free(plain_gradient);
    _exit(bad);
  }
  CHECK_CODE(LOSSD_OK, lossd_call_wait(call, &error));
  for (int round = 0; round < 5; round++) {
    CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
    CHECK(loss == plain_loss);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  lossd_call_free(call);
  lossd_client_free(client);
}

int main(int count, char **arguments) {
  address = count > 1 ? arguments[1] : "";
  int result = prepare() ? run_tests(count, arguments) : 1;
  free(logits);
  free(plain_gradient);
  return result;
}
