/* tversky: 1 - (TP + s) / (TP + alpha FP + beta FN + s) of probabilities and targets in [0, 1], float32
 * (Salehi et al. 2017); alpha = beta = 0.5 is Dice. Its gradient needs the sums of all elements first:
 * a pass for them, and one for the gradient. */
#include <lossd/plugin.h>
#include <stdio.h>
#include <string.h>

enum { INPUT, TARGET, GRAD_LOSS };
enum { LOSS, GRAD_INPUT };
enum { ALPHA, BETA, SMOOTH };
enum { TP, FP, FN }; /* sums of x y, x (1 - y), (1 - x) y */

static int wants(const lossd_call *call, int output) { return call->wanted >> output & 1; }

static int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
  const lossd_tensor *x = &call->inputs[INPUT], *y = &call->inputs[TARGET];
  const lossd_tensor *g = &call->inputs[GRAD_LOSS];
  if (x->rank != y->rank || memcmp(x->shape, y->shape, x->rank * sizeof *x->shape) != 0) {
    snprintf(error->text, sizeof error->text, "target has another shape than input");
    return LOSSD_INVALID_ARGUMENT;
  }
  if (g->data_type != LOSSD_ABSENT && g->rank != 0) {
    snprintf(error->text, sizeof error->text, "grad.loss has %u dimensions, expected a scalar",
             (unsigned)g->rank);
    return LOSSD_INVALID_ARGUMENT;
  }
  if (wants(call, LOSS)) {
    plan->outputs[LOSS].data_type = LOSSD_FLOAT32;
    plan->outputs[LOSS].flags = LOSSD_PLANNED_REDUCED;
  }
  if (wants(call, GRAD_INPUT)) {
    plan->outputs[GRAD_INPUT].data_type = LOSSD_FLOAT32;
    plan->outputs[GRAD_INPUT].rank = x->rank;
    memcpy(plan->outputs[GRAD_INPUT].shape, x->shape, x->rank * sizeof *x->shape);
  }
  plan->rows = x->rank ? x->shape[0] : 1;
  plan->pass_count = wants(call, GRAD_INPUT) ? 2 : 1;
  for (uint32_t pass = 0; pass < plan->pass_count; pass++) {
    plan->passes[pass].units = x->element_count;
    plan->passes[pass].unit_cost_ns = 1.5;
  }
  return LOSSD_OK;
}

static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
  const float *x = call->inputs[INPUT].data, *y = call->inputs[TARGET].data;
  if (chunk->pass == 0) {
    double tp = 0, fp = 0, fn = 0;
    for (int64_t i = chunk->begin; i < chunk->end; i++) {
      if (!(x[i] >= 0 && x[i] <= 1) || !(y[i] >= 0 && y[i] <= 1)) {
        snprintf(error->text, sizeof error->text, "element %lld is %g with target %g, outside [0, 1]",
                 (long long)i, x[i], y[i]);
        return LOSSD_INVALID_ARGUMENT;
      }
      tp += (double)x[i] * y[i];
      fp += x[i] * (1.0 - y[i]);
      fn += (1.0 - x[i]) * y[i];
    }
    chunk->accumulator[TP] += tp;
    chunk->accumulator[FP] += fp;
    chunk->accumulator[FN] += fn;
    return LOSSD_OK;
  }
  const double alpha = call->attributes[ALPHA].as.floating;
  const double beta = call->attributes[BETA].as.floating;
  const double smooth = call->attributes[SMOOTH].as.floating;
  const double up = call->inputs[GRAD_LOSS].data_type == LOSSD_ABSENT
                        ? 1
                        : *(const float *)call->inputs[GRAD_LOSS].data;
  const double a = call->totals[TP] + smooth;
  const double b = a + alpha * call->totals[FP] + beta * call->totals[FN];
  float *gradient = call->outputs[GRAD_INPUT].data;
  for (int64_t i = chunk->begin; i < chunk->end; i++) {
    /* -(a' b - a b') / b^2 with a' = y and b' = y + alpha (1 - y) - beta y */
    double slope = y[i] + alpha * (1.0 - y[i]) - beta * y[i];
    gradient[i] = (float)(-up * (y[i] * b - a * slope) / (b * b));
  }
  return LOSSD_OK;
}

static int32_t finish(const lossd_function *function, const lossd_value *attributes,
                      const double *sums, double *values, uint64_t *present, lossd_error *error) {
  double a = sums[TP] + attributes[SMOOTH].as.floating;
  (void)function, (void)error;
  values[0] = 1 - a / (a + attributes[ALPHA].as.floating * sums[FP] +
                       attributes[BETA].as.floating * sums[FN]);
  *present = 1;
  return LOSSD_OK;
}

#define FLOAT32 LOSSD_TYPE_BIT(LOSSD_FLOAT32)
#define FLOATING(x) {LOSSD_VALUE_FLOAT, 0, {.floating = (x)}}
#define NONE {LOSSD_VALUE_NONE, 0, {0}}
/* ROWS: the loss may be had of a data set that is cut along dimension 0, since it is made of sums over the elements.
 * Its gradient may not: each element's depends on the sums of all of them. */
static const lossd_input inputs[] = {
    {"input", "probabilities in [0, 1], any shape", FLOAT32, LOSSD_INPUT_REQUIRED | LOSSD_INPUT_ROWS, {0, 0}},
    {"target", "in [0, 1], like input", FLOAT32, LOSSD_INPUT_REQUIRED | LOSSD_INPUT_ROWS, {0, 0}},
    {"grad.loss", "upstream gradient, a scalar", FLOAT32, 0, {0, 0}}};
static const lossd_output outputs[] = {
    {"loss", "scalar", LOSSD_OUTPUT_DEFAULT | LOSSD_OUTPUT_ROWS, -1, {0, 0}},
    {"grad.input", "gradient with respect to input", 0, -1, {0, 0}}};
static const lossd_attribute attributes[] = {
    {"alpha", "weight of false positives", LOSSD_VALUE_FLOAT, 0, FLOATING(0.5), FLOATING(0), NONE, 0,
     {0, 0}},
    {"beta", "weight of false negatives", LOSSD_VALUE_FLOAT, 0, FLOATING(0.5), FLOATING(0), NONE, 0,
     {0, 0}},
    {"smooth", "added to both sides of the fraction", LOSSD_VALUE_FLOAT, 0, FLOATING(1), FLOATING(0),
     NONE, 0, {0, 0}}};
static const char *const sums[] = {"true_positive", "false_positive", "false_negative"};
static const char *const values[] = {"loss"};
static const lossd_function tversky = {
    sizeof tversky, LOSSD_KIND_LOSS, "tversky", "1 - the Tversky index; Dice by default", inputs,
    outputs, attributes, sums, values, 3, 2, 3, 3, 1, 0, 0, plan, run, 0, .finish = finish};
static const lossd_function *const functions[] = {&tversky};
static const lossd_plugin plugin = {sizeof plugin, LOSSD_ABI_MAJOR, LOSSD_ABI_MINOR, "tversky",
                                    "1.0", functions, 1, 0, 0, 0};

const lossd_plugin *lossd_plugin_entry(const lossd_host *host) {
  (void)host;
  return &plugin;
}
