/* sleeper: an activation of one float32 that takes 10 ms. */
#define _POSIX_C_SOURCE 200809L
#include <time.h>

#define PLUGIN "sleeper"
#define FUNCTION "sleep_a_while"
#define SUMMARY "takes its time"
#include "one_activation.h"

static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
  const struct timespec time = {0, 10000000};
  (void)chunk, (void)error;
  nanosleep(&time, 0);
  *(float *)call->outputs[0].data = *(const float *)call->inputs[0].data;
  return LOSSD_OK;
}
