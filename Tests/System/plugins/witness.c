/* witness: a loss for tests whose bits tell where it ran if anything differed. Two passes, the second of which needs the
 * first one's sums; a merge that is no addition; state, workspace and scratch; an input that stays in a stream; texts
 * of any length; thirty inputs; outputs of every kind.
 *
 *   output[i] = scale * input[i] * weight[i % W] + largest(|input|)
 *   loss      = sum(output) / largest(|input|), float64; the order of the additions is the host's
 *   text      = sum of the bytes of the attribute `text`, and its length
 *   many      = sum over the others' first elements, each times its place */
#include <lossd/plugin.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#define OTHERS 30

typedef struct state {
  double text_sum, text_length, scale;
  int64_t weights;
} state;

enum { SUM, LARGEST };

static int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
  const lossd_tensor *x = &call->inputs[0], *w = &call->inputs[1];
  state *s = call->state;
  const lossd_value *text = &call->attributes[1];
  (void)error;
  s->scale = call->attributes[0].as.floating;
  s->weights = w->data_type == LOSSD_ABSENT ? 0 : w->element_count;
  for (uint32_t i = 0; i < text->length; i++) s->text_sum += (unsigned char)text->as.string[i];
  s->text_length = text->length;
  if (call->wanted & 1) {
    plan->outputs[0].data_type = x->data_type;
    plan->outputs[0].rank = x->rank;
    for (uint32_t i = 0; i < x->rank; i++) plan->outputs[0].shape[i] = x->shape[i];
  }
  if (call->wanted & 2) {
    plan->outputs[1].data_type = LOSSD_FLOAT64;
    plan->outputs[1].flags = LOSSD_PLANNED_REDUCED;
  }
  for (int output = 2; output < 4; output++) {
    if (!(call->wanted & (1u << output))) continue;
    plan->outputs[output].data_type = LOSSD_FLOAT64;
    plan->outputs[output].rank = 1;
    plan->outputs[output].shape[0] = output == 2 ? 2 : 1;
  }
  plan->rows = x->rank ? x->shape[0] : 1;
  plan->workspace_bytes = (size_t)x->element_count * 4;
  plan->scratch_bytes = 4096;
  plan->pass_count = 2;
  plan->passes[0].units = plan->passes[1].units = (x->element_count + 1023) / 1024 + 1;
  plan->passes[0].unit_cost_ns = plan->passes[1].unit_cost_ns = 500;
  return LOSSD_OK;
}

/* The small outputs. */
static void tell(const lossd_call *call) {
  const state *s = call->state;
  if (call->wanted & 4) {
    double *text = call->outputs[2].data;
    text[0] = s->text_sum;
    text[1] = s->text_length;
  }
  if (call->wanted & 8) {
    double sum = 0;
    for (int i = 0; i < OTHERS; i++) {
      const lossd_tensor *other = &call->inputs[2 + i];
      if (other->data_type != LOSSD_ABSENT && other->element_count > 0)
        sum += (i + 1) * (double)((const float *)other->data)[0];
    }
    *(double *)call->outputs[3].data = sum;
  }
}

static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
  const state *s = call->state;
  const float *x = call->inputs[0].data, *w = call->inputs[1].data;
  float *kept = call->workspace, *piece = chunk->scratch, *y = call->wanted & 1 ? call->outputs[0].data : NULL;
  int64_t count = call->inputs[0].element_count;
  (void)error;
  if (chunk->pass == 1 && chunk->begin == 0) tell(call);
  for (int64_t unit = chunk->begin; unit < chunk->end; unit++) {
    int64_t begin = unit * 1024, end = begin + 1024 < count ? begin + 1024 : count;
    if (begin >= end) continue;
    if (chunk->pass == 0) {
      for (int64_t i = begin; i < end; i++) {
        float weight = s->weights ? w[i % s->weights] : 1;
        kept[i] = (float)s->scale * x[i] * weight;
        if (fabs(x[i]) > chunk->accumulator[LARGEST]) chunk->accumulator[LARGEST] = fabs(x[i]);
      }
    } else {
      for (int64_t i = begin; i < end; i++) piece[i - begin] = kept[i] + (float)call->totals[LARGEST];
      for (int64_t i = begin; i < end; i++) {
        if (y) y[i] = piece[i - begin];
        chunk->accumulator[SUM] += piece[i - begin];
      }
    }
  }
  return LOSSD_OK;
}

static void merge(const lossd_function *function, double *into, const double *from) {
  (void)function;
  into[SUM] += from[SUM];
  if (from[LARGEST] > into[LARGEST]) into[LARGEST] = from[LARGEST];
}

static int32_t finish(const lossd_function *function, const lossd_value *attributes,
                      const double *sums, double *values, uint64_t *present, lossd_error *error) {
  (void)function, (void)attributes, (void)error;
  values[0] = sums[LARGEST] > 0 ? sums[SUM] / sums[LARGEST] : 0;
  *present = 1;
  return LOSSD_OK;
}

#define NONE {LOSSD_VALUE_NONE, 0, {0}}
#define F32 LOSSD_TYPE_BIT(LOSSD_FLOAT32)
#define OTHER(n) {"other" #n, "its first element counts", F32, 0, {0, 0}}
static const lossd_input inputs[] = {
    {"input", "anything", F32, LOSSD_INPUT_REQUIRED, {0, 0}},
    {"weight", "repeated over the input", F32, LOSSD_INPUT_KEPT, {0, 0}},
    OTHER(0),  OTHER(1),  OTHER(2),  OTHER(3),  OTHER(4),  OTHER(5),  OTHER(6),  OTHER(7),
    OTHER(8),  OTHER(9),  OTHER(10), OTHER(11), OTHER(12), OTHER(13), OTHER(14), OTHER(15),
    OTHER(16), OTHER(17), OTHER(18), OTHER(19), OTHER(20), OTHER(21), OTHER(22), OTHER(23),
    OTHER(24), OTHER(25), OTHER(26), OTHER(27), OTHER(28), OTHER(29)};
static const lossd_output outputs[] = {
    {"output", "like the input", LOSSD_OUTPUT_DEFAULT, -1, {0, 0}},
    {"loss", "a scalar", 0, -1, {0, 0}},
    {"text", "what `text` sums up to, and its length", 0, -1, {0, 0}},
    {"many", "what the others sum up to", 0, -1, {0, 0}}};
static const lossd_attribute attributes[] = {
    {"scale", "a factor", LOSSD_VALUE_FLOAT, 0, {LOSSD_VALUE_FLOAT, 0, {.floating = 1}}, NONE, NONE, 0, {0, 0}},
    {"text", "anything", LOSSD_VALUE_STRING, 0, {LOSSD_VALUE_STRING, 0, {.string = ""}}, NONE, NONE, 0, {0, 0}}};
static const char *const sums[] = {"sum", "largest"}, *const values[] = {"loss"};
static const lossd_function witness = {
    sizeof witness, LOSSD_KIND_LOSS, NAME, "for tests", inputs, outputs, attributes, sums, values,
    2 + OTHERS, 4, 2, 2, 1, sizeof(state), 0, plan, run, merge, .finish = finish};
static const lossd_function *const functions[] = {&witness};
#ifndef VERSION
#define VERSION "1.0"
#endif
static const lossd_plugin plugin = {sizeof plugin, LOSSD_ABI_MAJOR, LOSSD_ABI_MINOR, NAME, VERSION,
                                    functions, 1, 0, 0, 0};

const lossd_plugin *lossd_plugin_entry(const lossd_host *host) {
  (void)host;
  return &plugin;
}
