/* sleeper: an activation of one float32 that takes 10 ms. */
#define _POSIX_C_SOURCE 200809L
#include <lossd/plugin.h>
#include <time.h>

static int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
  (void)error;
  plan->outputs[0].data_type = call->inputs[0].data_type;
  plan->rows = 1;
  plan->pass_count = 1;
  plan->passes[0].units = 1;
  plan->passes[0].unit_cost_ns = 1;
  return LOSSD_OK;
}

static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
  const struct timespec time = {0, 10000000};
  (void)chunk, (void)error;
  nanosleep(&time, 0);
  *(float *)call->outputs[0].data = *(const float *)call->inputs[0].data;
  return LOSSD_OK;
}

static const lossd_input inputs[] = {
  {.name = "input", .help = "anything", .data_types = LOSSD_TYPE_BIT(LOSSD_FLOAT32), .flags = LOSSD_INPUT_REQUIRED}};
static const lossd_output outputs[] = {{.name = "output", .help = "none", .flags = LOSSD_OUTPUT_DEFAULT, .may_overwrite = -1}};
static const lossd_function function = {
  .struct_size = sizeof function, .kind = LOSSD_KIND_ACTIVATION, .name = "sleep_a_while", .summary = "takes its time", .inputs = inputs, .input_count = 1,
  .outputs = outputs, .output_count = 1, .plan = plan, .run = run};
static const lossd_function *const functions[] = {&function};
static const lossd_plugin plugin = {
  .struct_size = sizeof plugin, .abi_major = LOSSD_ABI_MAJOR, .abi_minor = LOSSD_ABI_MINOR, .name = "sleeper",
  .version = "1.0", .function_count = 1, .functions = functions};

const lossd_plugin *lossd_plugin_entry(const lossd_host *host) {
  (void)host;
  return &plugin;
}
