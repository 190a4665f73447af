/* Calls against a daemon: values, types, memory, errors, pipelining, deadlines, cancellation. */
#include <lossd.h>
#include <math.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static double seconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static const float logits[9] = {1, 2, 3, 1, 2, 0, 0, 2, 1};
static const int64_t labels[3] = {2, 0, 1};
static const int64_t square[2] = {3, 3};
static const int64_t three[1] = {3};


static lossd_call *cross_entropy(lossd_client *client) {
  lossd_call *call = lossd_call_new(client, "cross_entropy");
  lossd_call_input(call, "input", LOSSD_FLOAT32, 2, square, logits);
  lossd_call_input(call, "target", LOSSD_INT64, 1, three, labels);
  return call;
}

TEST("a loss and its gradient come into the caller's memory") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_call *call = cross_entropy(client);
  float loss = -1, gradient[9];
  lossd_call_output(call, "loss", &loss, sizeof loss);
  lossd_call_output(call, "grad.input", gradient, sizeof gradient);
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  /* Row by row: the softmax's logarithm at the label. */
  double truth = 0;
  for (int row = 0; row < 3; row++) {
    double sum = 0;
    for (int column = 0; column < 3; column++) sum += exp(logits[3 * row + column]);
    truth += log(sum) - logits[3 * row + labels[row]];
    for (int column = 0; column < 3; column++) {
      double slope = (exp(logits[3 * row + column]) / sum - (column == labels[row])) / 3;
      CHECK_NEAR(gradient[3 * row + column], slope, 1e-7);
    }
  }
  CHECK_NEAR(loss, truth / 3, 1e-6);
  lossd_tensor tensor;
  CHECK_CODE(LOSSD_OK, lossd_call_result(call, "grad.input", &tensor, &error));
  CHECK(tensor.data == gradient && tensor.rank == 2 && tensor.shape[0] == 3 && tensor.shape[1] == 3);
  CHECK(tensor.type == LOSSD_FLOAT32 && tensor.bytes == sizeof gradient);
  lossd_call_free(call);
  lossd_client_free(client);
}

TEST("without outputs the function's own result comes, in the library's memory") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_call *call = cross_entropy(client);
  lossd_tensor tensor;
  double loss;
  CHECK_CODE(LOSSD_FAILED_PRECONDITION, lossd_call_result(call, NULL, &tensor, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_result(call, NULL, &tensor, &error));
  CHECK(tensor.rank == 0 && tensor.bytes == 4 && (uintptr_t)tensor.data % 64 == 0);
  CHECK_CODE(LOSSD_OK, lossd_call_result_double(call, "loss", &loss, &error));
  CHECK_NEAR(loss, *(const float *)tensor.data, 0);
  CHECK_CODE(LOSSD_NOT_FOUND, lossd_call_result(call, "output", &tensor, &error));
  lossd_call_free(call);
  lossd_client_free(client);
}

TEST("attributes of every kind, inputs taken away and exchanged, between runs of one call") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_call *call = cross_entropy(client);
  double mean, other;
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_result_double(call, NULL, &mean, &error));
  lossd_call_set_string(call, "reduction", "sum");
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_result_double(call, NULL, &other, &error));
  CHECK_NEAR(other, 3 * mean, 1e-6);
  lossd_call_set_string(call, "reduction", "mean");
  lossd_call_set_int(call, "ignore_index", 0);
  lossd_call_set_double(call, "label_smoothing", 0.5);
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_result_double(call, NULL, &other, &error));
  CHECK(fabs(other - mean) > 1e-3);
  lossd_call_set_int(call, "ignore_index", -100);
  lossd_call_set_int(call, "label_smoothing", 0); /* an int where it is a float */
  const float weight[3] = {2, 2, 2};
  lossd_call_input(call, "weight", LOSSD_FLOAT32, 1, three, weight);
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_result_double(call, NULL, &other, &error));
  CHECK_NEAR(other, mean, 1e-6);
  lossd_call_input(call, "weight", LOSSD_FLOAT32, 1, NULL, NULL);
  const int64_t two[2] = {2, 3};
  lossd_call_input(call, "input", LOSSD_FLOAT32, 2, two, logits + 3);
  lossd_call_input(call, "target", LOSSD_INT64, 1, two, labels + 1);
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  lossd_call_set_bool(call, "reduction", 1);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, lossd_call_run(call, &error));
  lossd_call_free(call);
  lossd_client_free(client);
}

TEST("every floating type, scalars and empty tensors") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  const double wide = 1;
  const float single = 1;
  const uint16_t half = 0x3C00, brain = 0x3F80;
  const struct {
    lossd_type type;
    const void *data;
    double tolerance;
  } kinds[] = {{LOSSD_FLOAT64, &wide, 1e-15}, {LOSSD_FLOAT32, &single, 1e-7}, {LOSSD_FLOAT16, &half, 5e-4},
               {LOSSD_BFLOAT16, &brain, 4e-3}};
  for (size_t index = 0; index < 4; index++) {
    lossd_call *call = lossd_call_new(client, "sigmoid");
    lossd_tensor tensor;
    double value;
    lossd_call_input(call, "input", kinds[index].type, 0, NULL, kinds[index].data);
    CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
    CHECK_CODE(LOSSD_OK, lossd_call_result_double(call, "output", &value, &error));
    CHECK_NEAR(value, 1 / (1 + exp(-1)), kinds[index].tolerance);
    CHECK_CODE(LOSSD_OK, lossd_call_result(call, "output", &tensor, &error));
    CHECK(tensor.type == kinds[index].type && tensor.rank == 0);
    const int64_t nothing[3] = {2, 0, 5};
    lossd_call_input(call, "input", kinds[index].type, 3, nothing, NULL);
    CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
    CHECK_CODE(LOSSD_OK, lossd_call_result(call, "output", &tensor, &error));
    CHECK(tensor.rank == 3 && tensor.shape[0] == 2 && tensor.shape[1] == 0 && tensor.bytes == 0);
    CHECK_CODE(LOSSD_FAILED_PRECONDITION, lossd_call_result_double(call, "output", &value, &error));
    lossd_call_free(call);
  }
  lossd_client_free(client);
}

TEST("half values are widened exactly") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  /* log_softmax of one class is 0; sigmoid of -20 a subnormal half, of NaN a NaN. */
  const uint16_t bits[2] = {0xCD00, 0x7E00};
  for (int index = 0; index < 2; index++) {
    lossd_call *call = lossd_call_new(client, "sigmoid");
    double value;
    lossd_call_input(call, "input", LOSSD_FLOAT16, 0, NULL, &bits[index]);
    CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
    CHECK_CODE(LOSSD_OK, lossd_call_result_double(call, NULL, &value, &error));
    if (index == 1) CHECK(isnan(value));
    if (index == 0) CHECK_NEAR(value, 0, 0); /* 2e-9 is less than half of 2^-24 */
    lossd_call_free(call);
  }
  lossd_client_free(client);
}

TEST("errors have the daemon's codes and texts, and the client goes on") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  const int64_t bad[3] = {2, 17, 1};
  lossd_call *call = cross_entropy(client);
  lossd_call_input(call, "target", LOSSD_INT64, 1, three, bad);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, lossd_call_run(call, &error));
  CHECK(strstr(error.text, "target[1] is 17, outside [0, 3)") != NULL);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, lossd_call_wait(call, NULL));
  lossd_call_input(call, "target", LOSSD_INT64, 1, three, labels);
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  lossd_call_output(call, "grad.weight", NULL, 0);
  CHECK_CODE(LOSSD_UNIMPLEMENTED, lossd_call_run(call, &error));
  lossd_call_free(call);
  call = lossd_call_new(client, "sigmoyd");
  CHECK_CODE(LOSSD_NOT_FOUND, lossd_call_run(call, &error));
  lossd_call_free(call);
  lossd_client_free(client);
}

TEST("what the library itself refuses says why") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_call *call = cross_entropy(client);
  float loss, small;
  lossd_call_output(call, "loss", &loss, sizeof loss);
  lossd_call_output(call, "grad.input", &small, sizeof small);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, lossd_call_run(call, &error));
  CHECK(strstr(error.text, "grad.input: the result takes 36 bytes, the buffer has 4") != NULL);
  lossd_call_free(call);
  call = lossd_call_new(client, "sigmoid");
  CHECK_CODE(LOSSD_FAILED_PRECONDITION, lossd_call_wait(call, &error));
  const int64_t negative[1] = {-1};
  lossd_call_input(call, "input", LOSSD_FLOAT32, 1, negative, logits);
  lossd_call_set_string(call, NULL, "x"); /* the first error stands */
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, lossd_call_run(call, &error));
  CHECK(strstr(error.text, "input: a size is negative") != NULL);
  lossd_call_free(call);
  call = lossd_call_new(client, NULL);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, lossd_call_run(call, &error));
  lossd_call_free(call);
  CHECK_CODE(LOSSD_RESOURCE_EXHAUSTED, lossd_call_run(NULL, &error));
  CHECK(lossd_client_new("udp:1", &error) == NULL && error.code == LOSSD_INVALID_ARGUMENT);
  CHECK(lossd_client_new("tcp:[::1", &error) == NULL && lossd_client_new("tcp:host:70000", NULL) == NULL);
  lossd_client_free(client);
}

TEST("nobody there is UNAVAILABLE") {
  lossd_error error;
  lossd_client *client = lossd_client_new("unix:/nonexistent/lossd.sock", &error);
  lossd_call *call = cross_entropy(client);
  CHECK_CODE(LOSSD_UNAVAILABLE, lossd_call_run(call, &error));
  CHECK(strstr(error.text, "/nonexistent/lossd.sock") != NULL);
  CHECK_CODE(LOSSD_UNAVAILABLE, lossd_client_ping(client, 0, NULL, &error));
  lossd_call_free(call);
  lossd_client_free(client);
}

enum { MANY = 3000 };

TEST("thousands of calls under way at once each get their own answer") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_call **calls = calloc(MANY, sizeof *calls);
  double *inputs = calloc(MANY, sizeof *inputs), *outputs = calloc(MANY, sizeof *outputs);
  for (int index = 0; index < MANY; index++) {
    inputs[index] = index * 0.01 - 10;
    calls[index] = lossd_call_new(client, "sigmoid");
    lossd_call_input(calls[index], "input", LOSSD_FLOAT64, 0, NULL, &inputs[index]);
    lossd_call_output(calls[index], "output", &outputs[index], sizeof *outputs);
    CHECK_CODE(LOSSD_OK, lossd_call_submit(calls[index], &error));
    CHECK_CODE(LOSSD_FAILED_PRECONDITION, lossd_call_submit(calls[index], NULL));
  }
  for (int index = MANY - 1; index >= 0; index -= 7) CHECK_CODE(LOSSD_OK, lossd_call_wait(calls[index], &error));
  for (int index = 0; index < MANY; index++) {
    CHECK_CODE(LOSSD_OK, lossd_call_wait(calls[index], &error));
    CHECK(lossd_call_is_done(calls[index]));
    CHECK_NEAR(outputs[index], 1 / (1 + exp(-inputs[index])), 1e-15);
    lossd_call_free(calls[index]);
  }
  free(calls);
  free(inputs);
  free(outputs);
  lossd_client_free(client);
}

TEST("big tensors both ways at once do not block each other") {
  /* More than all socket buffers: a client that only wrote would wait for a daemon that only writes. */
  enum { CALLS = 6, COUNT = 1000000 };
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  float *input = malloc(COUNT * sizeof *input), *outputs[CALLS];
  lossd_call *calls[CALLS];
  const int64_t shape[1] = {COUNT};
  for (int index = 0; index < COUNT; index++) input[index] = (float)(index % 41 - 20);
  for (int index = 0; index < CALLS; index++) {
    outputs[index] = malloc(COUNT * sizeof *input);
    calls[index] = lossd_call_new(client, "sigmoid");
    lossd_call_input(calls[index], "input", LOSSD_FLOAT32, 1, shape, input);
    lossd_call_output(calls[index], "output", outputs[index], COUNT * sizeof *input);
    CHECK_CODE(LOSSD_OK, lossd_call_submit(calls[index], &error));
  }
  for (int index = CALLS - 1; index >= 0; index--) CHECK_CODE(LOSSD_OK, lossd_call_wait(calls[index], &error));
  for (int index = 0; index < CALLS; index++) {
    for (int at = 0; at < COUNT; at += 997) {
      CHECK_NEAR(outputs[index][at], 1 / (1 + exp(-input[at])), 1e-6);
    }
    lossd_call_free(calls[index]);
    free(outputs[index]);
  }
  free(input);
  lossd_client_free(client);
}

TEST("a payload over the daemon's limit is refused before it is sent") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_call *call = lossd_call_new(client, "sigmoid");
  const int64_t shape[1] = {(int64_t)600 << 20}; /* 2.4 GiB of address space that is never touched */
  lossd_call_input(call, "input", LOSSD_FLOAT32, 1, shape, logits);
  CHECK_CODE(LOSSD_RESOURCE_EXHAUSTED, lossd_call_run(call, &error));
  CHECK(strstr(error.text, "the daemon takes payloads up to") != NULL);
  const int64_t huge[1] = {(int64_t)2 << 30};
  lossd_call_input(call, "input", LOSSD_FLOAT64, 1, huge, logits);
  CHECK_CODE(LOSSD_RESOURCE_EXHAUSTED, lossd_call_run(call, &error));
  lossd_call_free(call);
  lossd_client_free(client);
}

/* A call that takes milliseconds: 8 MB there and back. */
enum { SLOW_ROWS = 100, SLOW_COLUMNS = 20000, SLOW_COUNT = SLOW_ROWS * SLOW_COLUMNS };

static lossd_call *slow_call(lossd_client *client, float **memory) {
  const int64_t shape[2] = {SLOW_ROWS, SLOW_COLUMNS};
  lossd_call *call = lossd_call_new(client, "softmax");
  *memory = calloc(SLOW_COUNT, sizeof **memory);
  lossd_call_input(call, "input", LOSSD_FLOAT32, 2, shape, *memory);
  return call;
}

TEST("a deadline ends a call, and one that is over before it is sent at once") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  float *memory;
  lossd_call *call = slow_call(client, &memory);
  lossd_call_set_timeout(call, 300);
  CHECK_CODE(LOSSD_DEADLINE_EXCEEDED, lossd_call_run(call, &error));
  lossd_call_free(call);
  free(memory);
  call = cross_entropy(client);
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  lossd_call_free(call);
  lossd_client_free(client);
}

TEST("a cancelled call ends as CANCELLED, and others go on") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  float *memory;
  lossd_call *slow = slow_call(client, &memory), *other = cross_entropy(client);
  lossd_code code = LOSSD_OK;
  /* The daemon may have been quicker. */
  for (int round = 0; code == LOSSD_OK && round < 20; round++) {
    CHECK_CODE(LOSSD_OK, lossd_call_submit(slow, &error));
    lossd_call_cancel(slow);
    code = lossd_call_wait(slow, &error);
  }
  CHECK_CODE(LOSSD_CANCELLED, code);
  CHECK_CODE(LOSSD_OK, lossd_call_run(other, &error));
  lossd_call_cancel(other); /* too late: nothing happens */
  CHECK_CODE(LOSSD_OK, lossd_call_wait(other, &error));
  lossd_call_free(slow);
  lossd_call_free(other);
  free(memory);
  lossd_client_free(client);
}

TEST("a call that is freed while its tensors are on the way leaves their memory alone") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  for (int round = 0; round < 3; round++) {
    float *memory;
    lossd_call *slow = slow_call(client, &memory), *other = cross_entropy(client);
    float *result = malloc(SLOW_COUNT * sizeof *result);
    lossd_call_output(slow, "output", result, SLOW_COUNT * sizeof *result);
    CHECK_CODE(LOSSD_OK, lossd_call_submit(slow, &error));
    for (int turn = 0; turn < 200 * round; turn++) lossd_client_flush(client);
    lossd_call_free(slow);
    free(memory); /* valgrind and the address sanitizer see who touches it */
    free(result);
    CHECK_CODE(LOSSD_OK, lossd_call_run(other, &error));
    lossd_call_free(other);
  }
  lossd_client_free(client);
}

TEST("a client that is freed ends its calls") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  float *memory;
  lossd_call *call = slow_call(client, &memory), *idle = cross_entropy(client);
  CHECK_CODE(LOSSD_OK, lossd_call_submit(call, &error));
  lossd_client_free(client);
  CHECK_CODE(LOSSD_CANCELLED, lossd_call_wait(call, &error));
  CHECK_CODE(LOSSD_FAILED_PRECONDITION, lossd_call_run(idle, &error));
  lossd_call_free(call);
  lossd_call_free(idle);
  free(memory);
}

static void *interrupt_soon(void *client) {
  usleep(30000);
  lossd_client_interrupt(client);
  return NULL;
}

TEST("another thread interrupts a wait") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  float *memory;
  lossd_call *slow = slow_call(client, &memory), *call = cross_entropy(client);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, interrupt_soon, client) == 0);
  lossd_code code = LOSSD_OK;
  for (double begin = seconds(); code == LOSSD_OK && seconds() - begin < 20;) code = lossd_call_run(slow, &error);
  pthread_join(thread, NULL);
  CHECK_CODE(LOSSD_CANCELLED, code);
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  lossd_call_free(slow);
  lossd_call_free(call);
  free(memory);
  lossd_client_free(client);
}

TEST("parent and child go on after a fork") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  float *memory;
  lossd_call *call = cross_entropy(client), *running = slow_call(client, &memory);
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_submit(running, &error));
  pid_t child = fork();
  if (child == 0) {
    int code = lossd_call_run(call, NULL) == LOSSD_OK ? 0 : 1;
    if (lossd_call_wait(running, NULL) != LOSSD_UNAVAILABLE) code |= 2;
    lossd_call_free(call);
    lossd_call_free(running);
    lossd_client_free(client);
    free(memory);
    _exit(code);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK_CODE(LOSSD_OK, lossd_call_wait(running, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
  lossd_call_free(call);
  lossd_call_free(running);
  free(memory);
  lossd_client_free(client);
}

static void *work(void *argument) {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_call *call = cross_entropy(client);
  intptr_t bad = 0;
  for (int index = 0; index < 200; index++) bad += lossd_call_run(call, &error) != LOSSD_OK;
  lossd_call_free(call);
  lossd_client_free(client);
  (void)argument;
  return (void *)bad;
}

TEST("clients in several threads have nothing in common") {
  pthread_t threads[4];
  for (int index = 0; index < 4; index++) CHECK(pthread_create(&threads[index], NULL, work, NULL) == 0);
  for (int index = 0; index < 4; index++) {
    void *bad;
    CHECK(pthread_join(threads[index], &bad) == 0 && bad == NULL);
  }
}

TEST("a ping tells the round trip") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  uint64_t elapsed = 0;
  for (int index = 0; index < 3; index++) {
    CHECK_CODE(LOSSD_OK, lossd_client_ping(client, 10000000, &elapsed, &error));
    CHECK(elapsed < 5000000);
  }
  lossd_client_free(client);
}

TEST("the address comes from the environment where none is given") {
  lossd_error error;
  CHECK(setenv("LOSSD_ADDRESS", address, 1) == 0);
  lossd_client *client = lossd_client_new(NULL, &error);
  CHECK_CODE(LOSSD_OK, lossd_client_ping(client, 0, NULL, &error));
  lossd_client_free(client);
}

int main(int count, char **arguments) { return run_tests(count, arguments); }
