/* babbler: an activation whose process writes more to its log than the daemon reads in a second, and ends. */
#include <lossd/plugin.h>
#include <string.h>
#include <unistd.h>

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
  /* Short lines, as many as a pipe holds. */
  static char lines[60000];
  (void)call, (void)chunk, (void)error;
  memset(lines, 'x', sizeof lines);
  for (size_t at = 15; at < sizeof lines; at += 16) lines[at] = '\n';
  if (write(2, lines, sizeof lines) < 0) return LOSSD_INTERNAL;
  _exit(3);
}

static const lossd_input inputs[] = {
  {.name = "input", .help = "anything", .data_types = LOSSD_TYPE_BIT(LOSSD_FLOAT32), .flags = LOSSD_INPUT_REQUIRED}};
static const lossd_output outputs[] = {{.name = "output", .help = "none", .flags = LOSSD_OUTPUT_DEFAULT, .may_overwrite = -1}};
static const lossd_function function = {
  .struct_size = sizeof function, .kind = LOSSD_KIND_ACTIVATION, .name = "babble", .summary = "writes and ends", .inputs = inputs, .input_count = 1,
  .outputs = outputs, .output_count = 1, .plan = plan, .run = run};
static const lossd_function *const functions[] = {&function};
static const lossd_plugin plugin = {
  .struct_size = sizeof plugin, .abi_major = LOSSD_ABI_MAJOR, .abi_minor = LOSSD_ABI_MINOR, .name = "babbler",
  .version = "1.0", .function_count = 1, .functions = functions};

const lossd_plugin *lossd_plugin_entry(const lossd_host *host) {
  (void)host;
  return &plugin;
}
