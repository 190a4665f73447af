/* measure [ADDRESS]: calls of cross_entropy of 1 x 10 on one connection: how many a second when 256 are under way, how
 * long one takes alone. */
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
  return 0;
}
