/* hinge: mean or sum of max(0, 1 - input * target), float32, with its gradient. A complete plugin. */
#include <lossd/plugin.h>
#include <stdio.h>
#include <string.h>

static double loss(double x, double y) { return x * y < 1 ? 1 - x * y : 0; }
static double slope(double x, double y) { return x * y < 1 ? -y : 0; }
static int is_sum(const lossd_value *attributes) { return !strcmp(attributes[0].as.string, "sum"); }

static int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
  const lossd_tensor *x = &call->inputs[0], *y = &call->inputs[1];
  size_t bytes = x->rank * sizeof *x->shape;
  if (x->rank != y->rank || memcmp(x->shape, y->shape, bytes) != 0) {
    snprintf(error->text, sizeof error->text, "target has another shape than input");
    return LOSSD_INVALID_ARGUMENT;
  }
  plan->outputs[0].data_type = plan->outputs[1].data_type = LOSSD_FLOAT32;
  plan->outputs[0].flags = LOSSD_PLANNED_REDUCED; /* loss: a scalar that the host fills from finish */
  plan->outputs[1].rank = x->rank;                /* grad.input: like input */
  memcpy(plan->outputs[1].shape, x->shape, bytes);
  plan->rows = x->rank ? x->shape[0] : 1;
  plan->pass_count = 1;
  plan->passes[0].units = x->element_count; /* each element is a unit of work of its own */
  plan->passes[0].unit_cost_ns = 1;
  return LOSSD_OK;
}

static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
  const float *x = call->inputs[0].data, *y = call->inputs[1].data;
  float *gradient = call->wanted & 2 ? call->outputs[1].data : 0;
  double scale = is_sum(call->attributes) ? 1 : 1.0 / (double)call->inputs[0].element_count;
  (void)error;
  for (int64_t i = chunk->begin; i < chunk->end; i++) {
    chunk->accumulator[0] += loss(x[i], y[i]);
    chunk->accumulator[1] += 1;
    if (gradient) gradient[i] = (float)(slope(x[i], y[i]) * scale);
  }
  return LOSSD_OK;
}

static int32_t finish(const lossd_function *function, const lossd_value *attributes, const double *sums,
                      double *values, uint64_t *present, lossd_error *error) {
  (void)function, (void)error;
  values[0] = is_sum(attributes) ? sums[0] : sums[0] / sums[1];
  *present = 1; /* bit 0: value 0 exists */
  return LOSSD_OK;
}

#define FLOAT32 LOSSD_TYPE_BIT(LOSSD_FLOAT32)
#define NONE {LOSSD_VALUE_NONE, 0, {0}}
/* ROWS: a data set may be cut along dimension 0, since each row has its own part of the sums and of the gradient. */
static const lossd_input inputs[] = {
    {"input", "scores", FLOAT32, LOSSD_INPUT_REQUIRED | LOSSD_INPUT_ROWS, {0, 0}},
    {"target", "-1 or 1", FLOAT32, LOSSD_INPUT_REQUIRED | LOSSD_INPUT_ROWS, {0, 0}}};
static const lossd_output outputs[] = {{"loss", "scalar", LOSSD_OUTPUT_DEFAULT | LOSSD_OUTPUT_ROWS, -1, {0, 0}},
                                       {"grad.input", "like input", LOSSD_OUTPUT_ROWS, -1, {0, 0}}};
static const char *const choices[] = {"mean", "sum", 0}, *const sums[] = {"loss_sum", "weight_sum"},
                  *const values[] = {"loss"};
static const lossd_attribute attributes[] = {
    {"reduction", "mean or sum", LOSSD_VALUE_STRING, LOSSD_ATTRIBUTE_REDUCTION,
     {LOSSD_VALUE_STRING, 4, {.string = "mean"}}, NONE, NONE, choices, {0, 0}}};
static const lossd_function hinge = {
    sizeof hinge, LOSSD_KIND_LOSS, "hinge", "max(0, 1 - input * target)", inputs, outputs, attributes, sums,
    values, 2, 2, 1, 2, 1, 0, 0, plan, run, 0, .finish = finish};
static const lossd_function *const functions[] = {&hinge};
#ifndef VERSION
#define VERSION "1.0"
#endif
static const lossd_plugin plugin = {sizeof plugin, LOSSD_ABI_MAJOR, LOSSD_ABI_MINOR, "hinge", VERSION,
                                    functions, 1, 0, 0, 0};
const lossd_plugin *lossd_plugin_entry(const lossd_host *host) { return host ? &plugin : 0; }
