/* Streams against a daemon: order, the summary, inputs that stay, errors, cancellation. */
#include <lossd.h>
#include <math.h>

#include "check.h"

enum { ROWS = 1000, CLASSES = 5, BATCH = 30, BATCHES = (ROWS + BATCH - 1) / BATCH };

static float rows[ROWS * CLASSES], weight[CLASSES] = {0.5f, 1, 2, 0.25f, 3};
static int64_t labels[ROWS];
static const int64_t classes[1] = {CLASSES};

static void fill(void) {
  uint32_t state = 12345;
  for (int row = 0; row < ROWS; row++) {
    for (int column = 0; column < CLASSES; column++) {
      state = state * 1664525u + 1013904223u;
      rows[row * CLASSES + column] = (float)(state >> 16) / 8192.0f - 4.0f;
    }
    labels[row] = row % 7 == 0 ? -100 : row % CLASSES;
  }
}

/* The sums behind torch's weighted mean, in float64. */
static void truth(const float *weights, int first, int last, double *loss_sum, double *weight_sum) {
  *loss_sum = *weight_sum = 0;
  for (int row = first; row < last; row++) {
    double sum = 0;
    if (labels[row] < 0) continue;
    for (int column = 0; column < CLASSES; column++) sum += exp(rows[row * CLASSES + column]);
    *loss_sum += weights[labels[row]] * (log(sum) - rows[row * CLASSES + labels[row]]);
    *weight_sum += weights[labels[row]];
  }
}

/* `count` rows from `first` on. */
static void set_batch(lossd_call *batch, int first, int count) {
  const int64_t shape[2] = {count, CLASSES};
  lossd_call_input(batch, "input", LOSSD_FLOAT32, 2, shape, rows + first * CLASSES);
  lossd_call_input(batch, "target", LOSSD_INT64, 1, shape, labels + first);
}

static lossd_stream *weighted_stream(lossd_client *client, const char *reduction, lossd_error *error) {
  lossd_call *first = lossd_call_new(client, "cross_entropy");
  lossd_call_set_string(first, "reduction", reduction);
  lossd_call_input(first, "weight", LOSSD_FLOAT32, 1, classes, weight);
  lossd_call_output(first, "loss", NULL, 0);
  lossd_call_output(first, "grad.input", NULL, 0);
  lossd_stream *stream = lossd_stream_new(first, error);
  lossd_call_free(first);
  return stream;
}

/* Sends all rows with at most `window` batches under way. */
static lossd_code run_stream(lossd_client *client, lossd_stream *stream, int window, lossd_error *error) {
  lossd_call *batches[16], *done;
  lossd_code code = LOSSD_OK;
  for (int index = 0; index < window; index++) batches[index] = lossd_call_new(client, NULL);
  for (int number = 0; number < BATCHES && code == LOSSD_OK; number++) {
    lossd_call *batch = batches[number % window];
    int first = number * BATCH, count = first + BATCH > ROWS ? ROWS - first : BATCH;
    if (number >= window) {
      code = lossd_stream_next(stream, &done, error);
      if (code == LOSSD_OK && done != batch) return LOSSD_DATA_LOSS; /* not the oldest one */
    }
    set_batch(batch, first, count);
    if (code == LOSSD_OK) code = lossd_stream_send(stream, batch, error);
  }
  if (code == LOSSD_OK) code = lossd_stream_finish(stream, error);
  do {
    if (code == LOSSD_OK) code = lossd_stream_next(stream, &done, error);
  } while (code == LOSSD_OK && done != NULL);
  for (int index = 0; index < window; index++) lossd_call_free(batches[index]);
  return code;
}

TEST("a data set's summary is that of one call, weights and ignored targets rightly counted") {
  lossd_error error;
  double loss_sum, weight_sum;
  truth(weight, 0, ROWS, &loss_sum, &weight_sum);
  const int windows[3] = {1, 2, 16};
  for (int index = 0; index < 6; index++) {
    lossd_client *client = lossd_client_new(address, &error);
    lossd_stream *stream = weighted_stream(client, index % 2 ? "sum" : "mean", &error);
    CHECK(stream != NULL);
    lossd_summary summary;
    CHECK_CODE(LOSSD_FAILED_PRECONDITION, lossd_stream_summary(stream, &summary, &error));
    CHECK_CODE(LOSSD_OK, run_stream(client, stream, windows[index / 2], &error));
    CHECK_CODE(LOSSD_OK, lossd_stream_summary(stream, &summary, &error));
    CHECK(summary.batches == BATCHES && summary.rows == ROWS && summary.has_loss);
    CHECK_NEAR(summary.loss_sum / loss_sum, 1, 1e-7);
    CHECK_NEAR(summary.weight_sum, weight_sum, 1e-9);
    CHECK_NEAR(summary.loss / (index % 2 ? loss_sum : loss_sum / weight_sum), 1, 1e-7);
    lossd_stream_free(stream);
    lossd_client_free(client);
  }
}

TEST("each batch brings its own results back, in order") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_stream *stream = weighted_stream(client, "mean", &error);
  lossd_call *batches[4], *done;
  float gradients[4][BATCH * CLASSES];
  for (int index = 0; index < 4; index++) {
    batches[index] = lossd_call_new(client, NULL);
    set_batch(batches[index], index * 7, BATCH - index);
    if (index % 2) lossd_call_output(batches[index], "grad.input", gradients[index], sizeof gradients[index]);
    CHECK_CODE(LOSSD_OK, lossd_stream_send(stream, batches[index], &error));
  }
  for (int index = 0; index < 4; index++) {
    lossd_tensor tensor;
    double loss, loss_sum, weight_sum;
    CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
    CHECK(done == batches[index]);
    CHECK_CODE(LOSSD_OK, lossd_call_result_double(done, "loss", &loss, &error));
    CHECK_CODE(LOSSD_OK, lossd_call_result(done, "grad.input", &tensor, &error));
    truth(weight, index * 7, index * 7 + BATCH - index, &loss_sum, &weight_sum);
    CHECK_NEAR(loss, loss_sum / weight_sum, 1e-6);
    CHECK(tensor.shape[0] == BATCH - index && (tensor.data == gradients[index]) == index % 2);
    float sum = 0; /* a softmax's gradients of a row add up to 0 */
    for (int column = 0; column < CLASSES; column++) sum += ((const float *)tensor.data)[column];
    CHECK_NEAR(sum, 0, 1e-6);
  }
  CHECK_CODE(LOSSD_FAILED_PRECONDITION, lossd_stream_next(stream, &done, &error));
  CHECK_CODE(LOSSD_OK, lossd_stream_finish(stream, &error));
  CHECK_CODE(LOSSD_FAILED_PRECONDITION, lossd_stream_send(stream, batches[0], &error));
  CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
  CHECK(done == NULL);
  lossd_stream_free(stream);
  for (int index = 0; index < 4; index++) lossd_call_free(batches[index]);
  lossd_client_free(client);
}

TEST("a weight that a batch brings counts from that batch on") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_stream *stream = weighted_stream(client, "sum", &error);
  const float other[CLASSES] = {1, 4, 1, 2, 1};
  lossd_call *batch = lossd_call_new(client, NULL), *done;
  double sums[3], ignored;
  truth(weight, 0, 300, &sums[0], &ignored);
  truth(other, 300, 1000, &sums[1], &ignored);
  for (int first = 0; first < ROWS; first += 100) {
    set_batch(batch, first, 100);
    lossd_call_input(batch, "weight", LOSSD_FLOAT32, 1, first == 300 ? classes : NULL, other);
    CHECK_CODE(LOSSD_OK, lossd_stream_send(stream, batch, &error));
    CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
  }
  lossd_summary summary;
  CHECK_CODE(LOSSD_OK, lossd_stream_finish(stream, &error));
  CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
  CHECK_CODE(LOSSD_OK, lossd_stream_summary(stream, &summary, &error));
  CHECK_NEAR(summary.loss / (sums[0] + sums[1]), 1, 1e-7);
  lossd_stream_free(stream);
  lossd_call_free(batch);
  lossd_client_free(client);
}

TEST("a bad batch ends the stream after those before it, by its number") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_stream *stream = weighted_stream(client, "mean", &error);
  lossd_call *batches[5], *done;
  int64_t bad[BATCH] = {0, 99};
  for (int index = 0; index < 5; index++) {
    batches[index] = lossd_call_new(client, NULL);
    set_batch(batches[index], 0, BATCH);
    if (index == 3) lossd_call_input(batches[index], "target", LOSSD_INT64, 1, (int64_t[]){BATCH}, bad);
    lossd_code code = lossd_stream_send(stream, batches[index], &error);
    CHECK(code == LOSSD_OK || index == 4);
  }
  for (int index = 0; index < 3; index++) {
    CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
    CHECK(done == batches[index]);
  }
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, lossd_stream_next(stream, &done, &error));
  CHECK(strstr(error.text, "batch 3") != NULL && strstr(error.text, "target[1] is 99") != NULL && done == NULL);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, lossd_stream_finish(stream, &error));
  lossd_stream_free(stream);
  for (int index = 0; index < 5; index++) lossd_call_free(batches[index]);
  lossd_client_free(client);
}

TEST("an empty stream has the summary of an empty data set") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_stream *stream = weighted_stream(client, "sum", &error);
  lossd_call *done;
  lossd_summary summary;
  CHECK_CODE(LOSSD_OK, lossd_stream_finish(stream, &error));
  CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
  CHECK_CODE(LOSSD_OK, lossd_stream_summary(stream, &summary, &error));
  CHECK(done == NULL && summary.batches == 0 && summary.rows == 0 && summary.loss == 0);
  lossd_stream_free(stream);
  lossd_client_free(client);
}

TEST("an activation's summary has no loss") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_call *first = lossd_call_new(client, "softmax"), *batch = lossd_call_new(client, NULL), *done;
  lossd_stream *stream = lossd_stream_new(first, &error);
  lossd_summary summary;
  lossd_tensor tensor;
  lossd_call_input(batch, "input", LOSSD_FLOAT32, 2, (int64_t[]){10, CLASSES}, rows);
  CHECK_CODE(LOSSD_OK, lossd_stream_send(stream, batch, &error));
  CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
  CHECK_CODE(LOSSD_OK, lossd_call_result(done, "output", &tensor, &error));
  CHECK_CODE(LOSSD_OK, lossd_stream_finish(stream, &error));
  CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
  CHECK_CODE(LOSSD_OK, lossd_stream_summary(stream, &summary, &error));
  CHECK(!summary.has_loss && isnan(summary.loss) && isnan(summary.loss_sum) && summary.rows == 10);
  lossd_stream_free(stream);
  lossd_call_free(first);
  lossd_call_free(batch);
  lossd_client_free(client);
}

TEST("what cannot be a stream or a batch is refused with the reason") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error), *other = lossd_client_new(address, &error);
  lossd_call *first = lossd_call_new(client, "cross_entropy");
  set_batch(first, 0, 3);
  CHECK(lossd_stream_new(first, &error) == NULL && strstr(error.text, "input does not stay") != NULL);
  lossd_call_free(first);
  first = lossd_call_new(client, "nope");
  CHECK(lossd_stream_new(first, &error) == NULL && error.code == LOSSD_NOT_FOUND);
  lossd_call_free(first);
  lossd_stream *stream = weighted_stream(client, "mean", &error);
  lossd_call *batch = lossd_call_new(client, "cross_entropy");
  set_batch(batch, 0, 3);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, lossd_stream_send(stream, batch, &error));
  lossd_call_free(batch);
  batch = lossd_call_new(client, NULL);
  lossd_call_input(batch, "weight", LOSSD_FLOAT32, 1, classes, weight);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, lossd_stream_send(stream, batch, &error));
  set_batch(batch, 0, 3);
  lossd_call_output(batch, "grad.target", NULL, 0);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, lossd_stream_send(stream, batch, &error));
  CHECK(strstr(error.text, "grad.target") != NULL);
  lossd_call_free(batch);
  batch = lossd_call_new(other, NULL);
  set_batch(batch, 0, 3);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, lossd_stream_send(stream, batch, &error));
  lossd_call_free(batch);
  CHECK_CODE(LOSSD_RESOURCE_EXHAUSTED, lossd_stream_send(NULL, NULL, &error));
  lossd_stream_free(stream);
  lossd_stream_free(NULL);
  lossd_client_free(client);
  lossd_client_free(other);
}

TEST("a batch that is freed under way ends its stream, and streams can be freed at any time") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  for (int round = 0; round < 4; round++) {
    lossd_stream *stream = weighted_stream(client, "mean", &error);
    lossd_call *batches[3], *done;
    for (int index = 0; index < 3; index++) {
      batches[index] = lossd_call_new(client, NULL);
      set_batch(batches[index], 0, 500);
      CHECK_CODE(LOSSD_OK, lossd_stream_send(stream, batches[index], &error));
    }
    if (round == 0) {
      lossd_call_free(batches[2]);
      batches[2] = NULL;
      while (lossd_stream_next(stream, &done, &error) == LOSSD_OK) {}
      CHECK(error.code == LOSSD_FAILED_PRECONDITION);
    }
    if (round == 1) CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
    if (round == 2) CHECK_CODE(LOSSD_OK, lossd_stream_finish(stream, &error));
    lossd_stream_free(stream);
    /* Batches are the caller's again. */
    for (int index = 0; index < 3; index++) {
      if (batches[index] != NULL) set_batch(batches[index], 0, 3);
      lossd_call_free(batches[index]);
    }
  }
  CHECK_CODE(LOSSD_OK, lossd_client_ping(client, 0, NULL, &error));
  lossd_client_free(client);
}

TEST("a batch that is freed after its answer has come, and before it was taken, is left out") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_stream *stream = weighted_stream(client, "mean", &error);
  lossd_call *batches[3], *done;
  for (int index = 0; index < 3; index++) {
    batches[index] = lossd_call_new(client, NULL);
    set_batch(batches[index], 0, 3);
    CHECK_CODE(LOSSD_OK, lossd_stream_send(stream, batches[index], &error));
  }
  /* A ping goes the same way as the answers, behind them or before: so that they come, some of them. */
  for (int round = 0; round < 200; round++) CHECK_CODE(LOSSD_OK, lossd_client_ping(client, 0, NULL, &error));
  lossd_call_free(batches[1]);
  CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
  CHECK(done == batches[0]);
  CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
  CHECK(done == batches[2]);
  CHECK_CODE(LOSSD_OK, lossd_stream_finish(stream, &error));
  CHECK_CODE(LOSSD_OK, lossd_stream_next(stream, &done, &error));
  lossd_summary summary;
  CHECK_CODE(LOSSD_OK, lossd_stream_summary(stream, &summary, &error));
  CHECK(done == NULL && summary.batches == 3);
  lossd_stream_free(stream);
  lossd_call_free(batches[0]);
  lossd_call_free(batches[2]);
  lossd_client_free(client);
}

TEST("a stream's timeout ends it") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_call *first = lossd_call_new(client, "cross_entropy"), *done;
  lossd_call_set_timeout(first, 50000);
  lossd_stream *stream = lossd_stream_new(first, &error);
  CHECK(stream != NULL);
  lossd_call *batch = lossd_call_new(client, NULL);
  lossd_code code = LOSSD_OK;
  for (int round = 0; code == LOSSD_OK && round < 1000000; round++) {
    set_batch(batch, 0, 100);
    code = lossd_stream_send(stream, batch, &error);
    if (code == LOSSD_OK) code = lossd_stream_next(stream, &done, &error);
  }
  CHECK_CODE(LOSSD_DEADLINE_EXCEEDED, code);
  lossd_stream_free(stream);
  lossd_call_free(first);
  lossd_call_free(batch);
  lossd_client_free(client);
}

TEST("several streams and calls share a client") {
  lossd_error error;
  lossd_client *client = lossd_client_new(address, &error);
  lossd_stream *streams[3];
  lossd_call *batches[3], *call = lossd_call_new(client, "sigmoid"), *done;
  lossd_summary summary;
  lossd_call_input(call, "input", LOSSD_FLOAT32, 1, classes, rows);
  for (int index = 0; index < 3; index++) {
    streams[index] = weighted_stream(client, "sum", &error);
    batches[index] = lossd_call_new(client, NULL);
  }
  for (int first = 0; first < ROWS; first += 100) {
    for (int index = 0; index < 3; index++) {
      set_batch(batches[index], first, 100);
      CHECK_CODE(LOSSD_OK, lossd_stream_send(streams[index], batches[index], &error));
    }
    CHECK_CODE(LOSSD_OK, lossd_call_run(call, &error));
    for (int index = 2; index >= 0; index--) CHECK_CODE(LOSSD_OK, lossd_stream_next(streams[index], &done, &error));
  }
  for (int index = 0; index < 3; index++) {
    CHECK_CODE(LOSSD_OK, lossd_stream_finish(streams[index], &error));
    CHECK_CODE(LOSSD_OK, lossd_stream_next(streams[index], &done, &error));
    CHECK_CODE(LOSSD_OK, lossd_stream_summary(streams[index], &summary, &error));
    CHECK(summary.rows == ROWS);
    lossd_stream_free(streams[index]);
    lossd_call_free(batches[index]);
  }
  lossd_call_free(call);
  lossd_client_free(client);
}

int main(int count, char **arguments) {
  fill();
  return run_tests(count, arguments);
}
