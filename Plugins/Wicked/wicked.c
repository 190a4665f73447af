/* The function itself: it behaves well, but for the one deed that it is asked for. */
#include "wicked.h"

#define COUNT 4          /* elements of the output where there is no input */
#define SCRATCH_BYTES 64 /* so that there is an end to write past */

void *volatile wicked_nowhere = 0;

typedef struct deed {
  const char *mode;
  int step;
  void (*act)(moment *at);
} deed;

#define DEED(mode, step) {#mode, step, deed_##mode},
static const deed deeds[] = {
#include "deeds.def"
};
#undef DEED

#define DEED(mode, step) #mode,
static const char *const modes[] = {
#include "deeds.def"
    0};
#undef DEED

static const char *const steps[] = {"plan", "run", "finish", "merge", "usual", 0};

/* The number of the deed that the attributes ask for, and its step. */
static int asked(const lossd_value *attributes, int *step) {
  int index = 0;
  while (strcmp(deeds[index].mode, attributes[MODE].as.string) != 0) index++;
  *step = 0;
  while (strcmp(steps[*step], attributes[WHERE].as.string) != 0) ++*step;
  if (*step > MERGE) *step = deeds[index].step;
  return index;
}

static void act(moment *at) {
  int step, index = asked(at->attributes, &step);
  if (step == at->step || (step == BOTH && at->step <= RUN)) deeds[index].act(at);
}

static int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
  const lossd_tensor *x = &call->inputs[0];
  moment at = {PLAN, call->attributes, call, plan, 0, error, 0, 0, 0, 0, LOSSD_OK};
  int has_input = x->data_type != LOSSD_ABSENT;
  if (call->wanted & 1) {
    plan->outputs[0].data_type = LOSSD_FLOAT32;
    plan->outputs[0].rank = 1;
    plan->outputs[0].shape[0] = has_input ? x->element_count : COUNT;
  }
  if (call->wanted & 2) {
    plan->outputs[1].data_type = LOSSD_FLOAT64;
    plan->outputs[1].flags = LOSSD_PLANNED_REDUCED;
  }
  plan->rows = 1;
  plan->pass_count = 1;
  plan->passes[0].units = has_input ? x->element_count : COUNT;
  plan->passes[0].unit_cost_ns = call->attributes[COST].as.floating;
  plan->scratch_bytes = plan->workspace_bytes = SCRATCH_BYTES;
  act(&at);
  return at.code;
}

static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
  moment at = {RUN, call->attributes, call, 0, chunk, error, 0, 0, 0, 0, LOSSD_OK};
  const float *x = call->inputs[0].data_type == LOSSD_ABSENT ? 0 : call->inputs[0].data;
  float *y = call->wanted & 1 ? call->outputs[0].data : 0;
  const char *mode = call->attributes[MODE].as.string;
  int step, index = asked(call->attributes, &step);
  int64_t stride = !strcmp(mode, "unwritten") ? 0 : !strcmp(mode, "half_written") ? 2 : 1;
  double sum = 0;
  for (int64_t i = chunk->begin; i < chunk->end; i++) {
    float value = x ? x[i] : (float)i;
    sum += value;
    if (y && stride && i % stride == 0) y[i] = value;
  }
  if (step == MERGE) chunk->accumulator[MERGED_MODE] = chunk->begin == 0 ? index + 1 : 0;
  /* Only the chunk with the first unit is wicked: the others show what becomes of good ones. */
  if (chunk->begin == 0) act(&at);
  chunk->accumulator[SUM] += at.has_result ? at.result : sum;
  return at.code;
}

static void merge(const lossd_function *function, double *into, const double *from) {
  int index = (int)from[MERGED_MODE] - 1;
  (void)function;
  into[SUM] += from[SUM];
  if (index >= 0 && index < (int)(sizeof deeds / sizeof *deeds)) {
    moment at;
    memset(&at, 0, sizeof at);
    at.step = MERGE;
    deeds[index].act(&at);
  }
}

static int32_t finish(const lossd_function *function, const lossd_value *attributes,
                      const double *sums, double *values, uint64_t *present, lossd_error *error) {
  moment at = {FINISH, attributes, 0, 0, 0, error, present, values, 0, 0, LOSSD_OK};
  (void)function;
  values[0] = sums[SUM];
  *present = 1;
  act(&at);
  return at.code;
}

#define NONE {LOSSD_VALUE_NONE, 0, {0}}
#define INT(x) {LOSSD_VALUE_INT, 0, {x}}
static const lossd_input inputs[] = {
    {"input", "anything", LOSSD_TYPE_BIT(LOSSD_FLOAT32), 0, {0, 0}},
    {"kept", "stays in a stream, and is not looked at", LOSSD_TYPE_BIT(LOSSD_FLOAT32), LOSSD_INPUT_KEPT,
     {0, 0}}};
static const lossd_output outputs[] = {
    {"output", "the input, or four numbers", LOSSD_OUTPUT_DEFAULT, -1, {0, 0}},
    {"loss", "the output's sum, or what the deed found, float64", 0, -1, {0, 0}}};
static const lossd_attribute attributes[] = {
    {"mode", "the deed", LOSSD_VALUE_STRING, LOSSD_ATTRIBUTE_REQUIRED, NONE, NONE, NONE, modes, {0, 0}},
    {"argument", "the deed's number", LOSSD_VALUE_INT, 0, INT(-1), NONE, NONE, 0, {0, 0}},
    {"where", "the step it is done in", LOSSD_VALUE_STRING, 0,
     {LOSSD_VALUE_STRING, 5, {.string = "usual"}}, NONE, NONE, steps, {0, 0}},
    {"low", "search: the complement of the pattern's first 8 bytes", LOSSD_VALUE_INT, 0, INT(0), NONE,
     NONE, 0, {0, 0}},
    {"high", "search: the complement of its last 8 bytes", LOSSD_VALUE_INT, 0, INT(0), NONE, NONE, 0,
     {0, 0}},
    {"cost", "what plan says a unit costs, nanoseconds: 1e6 makes each unit a chunk", LOSSD_VALUE_FLOAT,
     0, {LOSSD_VALUE_FLOAT, 0, {.floating = 1}}, NONE, NONE, 0, {0, 0}},
    {"text", "anything, and is not looked at", LOSSD_VALUE_STRING, 0, NONE, NONE, NONE, 0, {0, 0}}};
static const char *const sums[] = {"loss_sum", "merged_mode"}, *const values[] = {"loss"};
static const lossd_function wicked = {
    sizeof wicked, LOSSD_KIND_LOSS, "wicked", "does wrong", inputs, outputs, attributes, sums, values,
    2, 2, 7, 2, 1, 64, 0, plan, run, merge, .finish = finish};
static const lossd_function *const functions[] = {&wicked};
#ifndef VERSION
#define VERSION "1.0"
#endif
static const lossd_plugin plugin = {sizeof plugin, LOSSD_ABI_MAJOR, LOSSD_ABI_MINOR, "wicked",
                                    VERSION, functions, 1, 0, 0, 0};

const lossd_plugin *lossd_plugin_entry(const lossd_host *host) {
  (void)host;
  return &plugin;
}
