/* wicked: for tests alone. Its attribute says what it does wrong. */
#include <lossd/plugin.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *volatile nowhere = 0;

static int does(const lossd_call *call, const char *what) {
  return strcmp(call->attributes[0].as.string, what) == 0;
}

static int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
  (void)error;
  plan->outputs[0].data_type = does(call, "type") ? 99 : LOSSD_FLOAT32;
  plan->outputs[0].rank = does(call, "rank") ? 1000 : 1;
  plan->outputs[0].shape[0] = does(call, "shape") ? -5 : does(call, "huge") ? INT64_MAX / 8 : 4;
  plan->rows = does(call, "rows") ? -1 : 1;
  plan->pass_count = does(call, "passes") ? 1000 : 1;
  plan->passes[0].units = does(call, "units") ? -1 : 4;
  plan->passes[0].unit_cost_ns = does(call, "cost") ? 0.0 / 0.0 : 1;
  plan->workspace_bytes = does(call, "memory") ? (size_t)1 << 60 : 0;
  return does(call, "code") ? 77 : LOSSD_OK;
}

static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
  float *y = call->outputs[0].data;
  for (int64_t i = chunk->begin; i < chunk->end; i++) y[i] = (float)i;
  if (does(call, "crash")) *(volatile int *)nowhere = 1;
  if (does(call, "abort")) abort();
  if (does(call, "exit")) exit(3);
  if (does(call, "hang")) sleep(3);
  if (does(call, "text")) memset(error->text, 'x', sizeof error->text);
  return does(call, "text") ? LOSSD_INTERNAL : LOSSD_OK;
}

static const lossd_input inputs[] = {
    {"input", "anything", LOSSD_TYPE_BIT(LOSSD_FLOAT32), 0, {0, 0}}};
static const lossd_output outputs[] = {{"output", "four numbers", LOSSD_OUTPUT_DEFAULT, -1, {0, 0}}};
static const lossd_attribute attributes[] = {
    {"does", "what", LOSSD_VALUE_STRING, LOSSD_ATTRIBUTE_REQUIRED, {0, 0, {0}}, {0, 0, {0}},
     {0, 0, {0}}, 0, {0, 0}}};
static const lossd_function wicked = {
    sizeof wicked, LOSSD_KIND_ACTIVATION, "wicked", "does wrong", inputs, outputs, attributes, 0, 0,
    1, 1, 1, 0, 0, 0, 0, plan, run, 0, 0};
static const lossd_function *const functions[] = {&wicked};
static const lossd_plugin plugin = {sizeof plugin, LOSSD_ABI_MAJOR, LOSSD_ABI_MINOR, "wicked", "1.0",
                                    functions, 1, 0, 0, 0};

const lossd_plugin *lossd_plugin_entry(const lossd_host *host) {
  (void)host;
  return &plugin;
}
