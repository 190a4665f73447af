/* measure [ADDRESS]: calls of cross_entropy of 1 x 10 on one connection: how many a second when 256 are under way, how
 * long one takes alone; and of 256 x 50257 with gradient, by the socket and in shared memory, turn by turn. */
#include <lossd.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { WINDOW = 256, CALLS = 1000000, SINGLES = 20000 };

static double seconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int compare(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

static lossd_call *calls[WINDOW];
static float logits[10] = {0, 1, 2, 3, 4, 5, 6, 0, 1, 2}, losses[WINDOW];
static double times[SINGLES];

static void check(lossd_code code, const lossd_error *error) {
  if (code == LOSSD_OK) return;
  fprintf(stderr, "%s: %s\n", lossd_code_name(code), error->text);
  exit(1);
}

enum { ROWS = 256, CLASSES = 50257, ROUNDS = 15, WAYS = 3 };

static lossd_call *big_call(lossd_client *client, const float *input, const int64_t *labels, float *gradient) {
  static const int64_t shape[2] = {ROWS, CLASSES};
  lossd_call *call = lossd_call_new(client, "cross_entropy");
  lossd_call_input(call, "input", LOSSD_FLOAT32, 2, shape, input);
  lossd_call_input(call, "target", LOSSD_INT64, 1, shape, labels);
  lossd_call_output(call, "loss", NULL, 0);
  lossd_call_output(call, "grad.input", gradient, sizeof(float) * ROWS * CLASSES);
  return call;
}

static void measure_big(const char *address) {
  static const char *const names[WAYS] = {"socket", "shared, copied there and back", "shared, in place"};
  static int64_t targets[ROWS];
  size_t bytes = sizeof(float) * ROWS * CLASSES;
  lossd_error error;
  lossd_client *plain = lossd_client_new(address, &error), *client = lossd_client_new(address, &error);
  lossd_client_set_shared_min(plain, SIZE_MAX);
  float *input = malloc(bytes), *gradient = malloc(bytes), *there = lossd_client_alloc(client, bytes);
  for (int at = 0; at < ROWS * CLASSES; at++) input[at] = there[at] = (float)(at * 7919LL % 1000) / 1000;
  lossd_call *ways[WAYS] = {big_call(plain, input, targets, gradient), big_call(client, input, targets, gradient),
                            big_call(client, there, targets, lossd_client_alloc(client, bytes))};
  double took[WAYS][ROUNDS];
  for (int round = -2; round < ROUNDS; round++) {
    for (int way = 0; way < WAYS; way++) {
      double begin = seconds();
      check(lossd_call_run(ways[way], &error), &error);
      if (round >= 0) took[way][round] = seconds() - begin;
    }
  }
  for (int way = 0; way < WAYS; way++) {
    qsort(took[way], ROUNDS, sizeof **took, compare);
    printf("%d x %d with gradient, %s: median %.1f ms, best %.1f ms\n", ROWS, CLASSES, names[way],
           took[way][ROUNDS / 2] * 1e3, took[way][0] * 1e3);
    lossd_call_free(ways[way]);
  }
  free(input);
  free(gradient);
  lossd_client_free(plain);
  lossd_client_free(client);
}

int main(int count, char **arguments) {
  const int64_t shape[2] = {1, 10}, label = 3;
  lossd_error error;
  lossd_client *client = lossd_client_new(count > 1 ? arguments[1] : NULL, &error);
  check(client == NULL ? error.code : LOSSD_OK, &error);
  for (int index = 0; index < WINDOW; index++) {
    calls[index] = lossd_call_new(client, "cross_entropy");
    lossd_call_input(calls[index], "input", LOSSD_FLOAT32, 2, shape, logits);
    lossd_call_input(calls[index], "target", LOSSD_INT64, 1, shape, &label);
    lossd_call_output(calls[index], "loss", &losses[index], sizeof losses[index]);
    check(lossd_call_submit(calls[index], &error), &error);
  }
  double begin = seconds();
  for (int number = 0; number < CALLS; number++) {
    check(lossd_call_wait(calls[number % WINDOW], &error), &error);
    check(lossd_call_submit(calls[number % WINDOW], &error), &error);
  }
  double rate = CALLS / (seconds() - begin);
  for (int index = 0; index < WINDOW; index++) check(lossd_call_wait(calls[index], &error), &error);
  for (int number = 0; number < SINGLES; number++) {
    begin = seconds();
    check(lossd_call_run(calls[0], &error), &error);
    times[number] = seconds() - begin;
  }
  qsort(times, SINGLES, sizeof *times, compare);
  printf("%.0f calls/s pipelined; alone p50 %.1f us, p99 %.1f us\n", rate, times[SINGLES / 2] * 1e6,
         times[SINGLES * 99 / 100] * 1e6);
  for (int index = 0; index < WINDOW; index++) lossd_call_free(calls[index]);
  lossd_client_free(client);
  measure_big(count > 1 ? arguments[1] : NULL);
  return 0;
}
