/* reach: a plugin for tests alone whose constructor makes every attempt of reach.h, and whose function makes the one that
 * it is asked for. Its output has two numbers: what came of that attempt in the constructor, and what in the callback. */
#include "reach.h"
#include <lossd/plugin.h>

static int at_load[REACH_COUNT][REACH_VARIANTS_MAX];

__attribute__((constructor)) static void constructor(void) {
  for (int kind = 0; kind < REACH_COUNT; kind++)
    for (int variant = 0; variant < REACH_VARIANTS_MAX; variant++)
      at_load[kind][variant] = reach_out(kind, variant);
}

static int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
  (void)call, (void)error;
  plan->outputs[0].data_type = LOSSD_FLOAT32;
  plan->outputs[0].rank = 1;
  plan->outputs[0].shape[0] = 2;
  plan->rows = 1;
  plan->pass_count = 1;
  plan->passes[0].units = 1;
  plan->passes[0].unit_cost_ns = 1000;
  return LOSSD_OK;
}

static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
  int64_t kind = call->attributes[0].as.integer, variant = call->attributes[1].as.integer;
  float *y = call->outputs[0].data;
  (void)chunk, (void)error;
  if (kind < 0 || kind >= REACH_COUNT || variant < 0 || variant >= REACH_VARIANTS_MAX) return LOSSD_INVALID_ARGUMENT;
  y[0] = (float)at_load[kind][variant];
  y[1] = (float)reach_out((int)kind, (int)variant);
  return LOSSD_OK;
}

#define NONE {LOSSD_VALUE_NONE, 0, {0}}
static const lossd_output outputs[] = {{"output", "an errno of the constructor's, one of the callback's", LOSSD_OUTPUT_DEFAULT, -1, {0, 0}}};
static const lossd_attribute attributes[] = {
    {"kind", "the place in reach_attempts", LOSSD_VALUE_INT, LOSSD_ATTRIBUTE_REQUIRED, NONE, NONE, NONE, 0, {0, 0}},
    {"variant", "the attempt's variant", LOSSD_VALUE_INT, LOSSD_ATTRIBUTE_REQUIRED, NONE, NONE, NONE, 0, {0, 0}}};
static const lossd_function reach = {
    sizeof reach, LOSSD_KIND_LOSS, "reach", "reaches out of its process", 0, outputs, attributes, 0, 0,
    0, 1, 2, 0, 0, 0, 0, plan, run, 0, .finish = 0};
static const lossd_function *const functions[] = {&reach};
static const lossd_plugin plugin = {sizeof plugin, LOSSD_ABI_MAJOR, LOSSD_ABI_MINOR, "reach", "1.0", functions, 1, 0, 0, 0};

const lossd_plugin *lossd_plugin_entry(const lossd_host *host) {
  (void)host;
  return &plugin;
}
