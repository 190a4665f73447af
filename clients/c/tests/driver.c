/* driver ADDRESS ACTION [NUMBER]: does one thing and prints how it ended, "CODE text", for servers that a test
 * plays, and for daemons that it restarts. */
#include <lossd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static lossd_client *client;
static const float input[3] = {0, 1, -1};
static const int64_t three[1] = {3};

static int report(const lossd_error *error) {
  printf("%s %s\n", lossd_code_name(error->code), error->text);
  return 0;
}

static lossd_call *sigmoid(float *output) {
  lossd_call *call = lossd_call_new(client, "sigmoid");
  lossd_call_input(call, "input", LOSSD_FLOAT32, 1, three, input);
  if (output != NULL) lossd_call_output(call, "output", output, 3 * sizeof *output);
  return call;
}

/* So many calls at once, their results in the library's memory or in ours. */
static int calls(int count, uint64_t timeout_us, int is_ours) {
  lossd_error error;
  lossd_call *all[600];
  static float outputs[600][3];
  for (int index = 0; index < count; index++) {
    all[index] = sigmoid(is_ours ? outputs[index] : NULL);
    lossd_call_set_timeout(all[index], timeout_us);
    if (lossd_call_submit(all[index], &error) != LOSSD_OK) report(&error);
  }
  for (int index = 0; index < count; index++) {
    lossd_tensor tensor;
    lossd_call_wait(all[index], &error);
    if (error.code == LOSSD_OK && lossd_call_result(all[index], NULL, &tensor, NULL) == LOSSD_OK) {
      printf("OK rank %zu bytes %zu first %g\n", tensor.rank, tensor.bytes,
             tensor.bytes >= 4 ? (double)*(const float *)tensor.data : 0.0);
    } else {
      report(&error);
    }
  }
  for (int index = 0; index < count; index++) lossd_call_free(all[index]);
  return 0;
}

/* A call whose input and result are big, and a small one after it. */
static int big(void) {
  static float tensor[100000];
  static const int64_t shape[1] = {100000};
  lossd_error error;
  lossd_call *call = lossd_call_new(client, "sigmoid");
  lossd_call_input(call, "input", LOSSD_FLOAT32, 1, shape, tensor);
  lossd_call_output(call, "output", NULL, 0);
  lossd_call_run(call, &error);
  report(&error);
  lossd_call_free(call);
  return calls(1, 0, 0);
}

/* A stream of so many batches of 3 elements, two under way at a time; the second brings another weight. */
static int stream(const char *function, int count) {
  static const float weights[2][3] = {{1, 2, 3}, {4, 5, 6}};
  lossd_error error;
  lossd_call *first = lossd_call_new(client, function), *batches[2], *done = NULL;
  int has_weight = strcmp(function, "sigmoid") != 0;
  if (has_weight) lossd_call_input(first, "weight", LOSSD_FLOAT32, 1, three, weights[0]);
  lossd_stream *stream = lossd_stream_new(first, &error);
  lossd_call_free(first);
  if (stream == NULL) return report(&error);
  lossd_code code = LOSSD_OK;
  for (int index = 0; index < 2; index++) batches[index] = lossd_call_new(client, NULL);
  for (int number = 0; number < count && code == LOSSD_OK; number++) {
    lossd_call *batch = batches[number % 2];
    if (number >= 2) code = lossd_stream_next(stream, &done, &error);
    lossd_call_input(batch, "input", LOSSD_FLOAT32, 1, three, input);
    lossd_call_input(batch, "weight", LOSSD_FLOAT32, 1, has_weight && number == 1 ? three : NULL, weights[1]);
    if (code == LOSSD_OK) code = lossd_stream_send(stream, batch, &error);
  }
  if (code == LOSSD_OK) code = lossd_stream_finish(stream, &error);
  do {
    if (code == LOSSD_OK) code = lossd_stream_next(stream, &done, &error);
  } while (code == LOSSD_OK && done != NULL);
  lossd_summary summary;
  if (code == LOSSD_OK && lossd_stream_summary(stream, &summary, &error) == LOSSD_OK) {
    printf("OK batches %llu rows %llu loss %.17g loss_sum %.17g\n", (unsigned long long)summary.batches,
           (unsigned long long)summary.rows, summary.loss, summary.loss_sum);
  } else {
    report(&error);
  }
  lossd_stream_free(stream);
  lossd_call_free(batches[0]);
  lossd_call_free(batches[1]);
  return 0;
}

/* cross_entropy of rows that differ from batch to batch, while daemons come and go. */
static int data_set(int count) {
  enum { ROWS = 3, CLASSES = 4, WINDOW = 8 };
  static double rows[WINDOW][ROWS * CLASSES];
  static int64_t labels[WINDOW][ROWS];
  static const double weight[CLASSES] = {1, 2, 0.5, 3};
  static const int64_t shape[2] = {ROWS, CLASSES}, classes[1] = {CLASSES};
  lossd_error error;
  lossd_call *first = lossd_call_new(client, "cross_entropy"), *batches[WINDOW], *done;
  lossd_call_input(first, "weight", LOSSD_FLOAT64, 1, classes, weight);
  lossd_stream *stream = lossd_stream_new(first, &error);
  lossd_call_free(first);
  if (stream == NULL) return report(&error);
  lossd_code code = LOSSD_OK;
  for (int index = 0; index < WINDOW; index++) batches[index] = lossd_call_new(client, NULL);
  for (int number = 0; number < count && code == LOSSD_OK; number++) {
    int slot = number % WINDOW;
    if (number >= WINDOW) code = lossd_stream_next(stream, &done, &error);
    for (int row = 0; row < ROWS; row++) {
      for (int column = 0; column < CLASSES; column++) {
        rows[slot][row * CLASSES + column] = (number * ROWS + row) % (3 + 2 * column);
      }
      labels[slot][row] = (number * ROWS + row) % CLASSES;
    }
    lossd_call_input(batches[slot], "input", LOSSD_FLOAT64, 2, shape, rows[slot]);
    lossd_call_input(batches[slot], "target", LOSSD_INT64, 1, shape, labels[slot]);
    if (code == LOSSD_OK) code = lossd_stream_send(stream, batches[slot], &error);
  }
  if (code == LOSSD_OK) code = lossd_stream_finish(stream, &error);
  do {
    if (code == LOSSD_OK) code = lossd_stream_next(stream, &done, &error);
  } while (code == LOSSD_OK && done != NULL);
  lossd_summary summary;
  if (code == LOSSD_OK && lossd_stream_summary(stream, &summary, &error) == LOSSD_OK) {
    printf("OK %llu %llu %.17g %.17g %.17g\n", (unsigned long long)summary.batches, (unsigned long long)summary.rows,
           summary.loss, summary.loss_sum, summary.weight_sum);
  } else {
    report(&error);
  }
  lossd_stream_free(stream);
  for (int index = 0; index < WINDOW; index++) lossd_call_free(batches[index]);
  return 0;
}

/* A call whenever a line comes on standard input. */
static int on_demand(void) {
  char line[16];
  lossd_call *call = sigmoid(NULL);
  lossd_error error;
  while (fgets(line, sizeof line, stdin) != NULL) {
    lossd_call_run(call, &error);
    report(&error);
    fflush(stdout);
  }
  lossd_call_free(call);
  return 0;
}

/* Memory that nobody looks after for longer than the daemon keeps it: what comes of a call with it, then of one with its
 * result, and of one without. */
static int absent(void) {
  const int64_t shape[1] = {100000};
  lossd_error error;
  lossd_tensor tensor;
  float *there = lossd_client_alloc(client, sizeof *there * 100000);
  for (int at = 0; at < 100000; at++) there[at] = 1;
  lossd_call *call = lossd_call_new(client, "sigmoid");
  lossd_call_input(call, "input", LOSSD_FLOAT32, 1, shape, there);
  lossd_call_output(call, "output", NULL, 0);
  lossd_call_run(call, &error);
  report(&error);
  sleep(3); /* the daemon closes, and a second later it is gone */
  lossd_client_flush(client);
  lossd_call_result(call, "output", &tensor, &error);
  report(&error);
  lossd_call_run(call, &error);
  report(&error);
  lossd_call_free(call);
  lossd_client_dealloc(client, there);
  call = sigmoid(NULL);
  lossd_call_run(call, &error);
  report(&error);
  lossd_call_free(call);
  return 0;
}

int main(int count, char **arguments) {
  lossd_error error;
  const char *action = count > 2 ? arguments[2] : "";
  int number = count > 3 ? atoi(arguments[3]) : 1;
  client = lossd_client_new(count > 1 ? arguments[1] : NULL, &error);
  if (client == NULL) return report(&error);
  /* Short, so that tests of what does not come are. */
  lossd_client_set_connect_timeout(client, getenv("PATIENT") != NULL ? 20000000 : 500000);
  if (getenv("PAYLOAD_MAX") != NULL) lossd_client_set_payload_max(client, (uint64_t)atoi(getenv("PAYLOAD_MAX")));
  int result = 2;
  if (strcmp(action, "calls") == 0) result = calls(number, 0, 0);
  if (strcmp(action, "calls_into") == 0) result = calls(number, 0, 1);
  if (strcmp(action, "calls_300ms") == 0) result = calls(number, 300000, 1);
  if (strcmp(action, "stream") == 0) result = stream("sigmoid", number);
  if (strcmp(action, "weighted_stream") == 0) result = stream("binary_cross_entropy", number);
  if (strcmp(action, "data_set") == 0) result = data_set(number);
  if (strcmp(action, "on_demand") == 0) result = on_demand();
  if (strcmp(action, "big") == 0) result = big();
  if (strcmp(action, "absent") == 0) result = absent();
  if (strcmp(action, "ping") == 0) {
    lossd_client_ping(client, 2000000, NULL, &error);
    result = report(&error);
  }
  lossd_client_free(client);
  return result;
}
