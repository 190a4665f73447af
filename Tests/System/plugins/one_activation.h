/* The frame of a plugin with one activation of float32, for tests. Who includes it defines PLUGIN, FUNCTION and SUMMARY,
 * texts, and then `run`. */
#include <lossd/plugin.h>

static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error);

static int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
  (void)error;
  plan->outputs[0].data_type = call->inputs[0].data_type;
  plan->rows = 1;
  plan->pass_count = 1;
  plan->passes[0].units = 1;
  plan->passes[0].unit_cost_ns = 1;
  return LOSSD_OK;
}

static const lossd_input inputs[] = {
  {.name = "input", .help = "anything", .data_types = LOSSD_TYPE_BIT(LOSSD_FLOAT32), .flags = LOSSD_INPUT_REQUIRED}};
static const lossd_output outputs[] = {
  {.name = "output", .help = "none", .flags = LOSSD_OUTPUT_DEFAULT, .may_overwrite = -1}};
static const lossd_function function = {
  .struct_size = sizeof function, .kind = LOSSD_KIND_ACTIVATION, .name = FUNCTION, .summary = SUMMARY,
  .inputs = inputs, .input_count = 1, .outputs = outputs, .output_count = 1, .plan = plan, .run = run};
static const lossd_function *const functions[] = {&function};
static const lossd_plugin plugin = {
  .struct_size = sizeof plugin, .abi_major = LOSSD_ABI_MAJOR, .abi_minor = LOSSD_ABI_MINOR, .name = PLUGIN,
  .version = "1.0", .function_count = 1, .functions = functions};

const lossd_plugin *lossd_plugin_entry(const lossd_host *host) {
  (void)host;
  return &plugin;
}
