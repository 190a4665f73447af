/* fast_math: a plugin built with -ffast-math, which by GCC up to 12 also sets flush-to-zero in the thread that
 * loads it; a constructor does the same here whatever the compiler's age. Its own results may be anything it
 * likes; those of every other function, denormal ones too, must have the same bits as before it was loaded,
 * in threads that were there and in threads started later.
 *
 * Its output `output` is the input twice; `flushes` is 1 where the thread flushes denormals, else 0. */
#include <lossd/plugin.h>

__attribute__((constructor)) static void constructor(void) {
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
#elif defined(__aarch64__)
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  mode |= 1u << 24;
  __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#endif
}

static int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
  const lossd_tensor *x = &call->inputs[0];
  (void)error;
  if (call->wanted & 1) {
    plan->outputs[0].data_type = LOSSD_FLOAT32;
    plan->outputs[0].rank = 1;
    plan->outputs[0].shape[0] = x->element_count;
  }
  if (call->wanted & 2) {
    plan->outputs[1].data_type = LOSSD_FLOAT64;
    plan->outputs[1].flags = LOSSD_PLANNED_REDUCED;
  }
  plan->rows = 1;
  plan->pass_count = 1;
  plan->passes[0].units = x->element_count;
  plan->passes[0].unit_cost_ns = 1;
  return LOSSD_OK;
}

static int flushes(void) {
  volatile float tiny = 1e-38f, half = 0.5f;
  volatile float product = tiny * half;
  const unsigned char *bytes = (const unsigned char *)&product;
  return !(bytes[0] | bytes[1] | bytes[2] | bytes[3]);
}

static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
  const float *x = call->inputs[0].data;
  float *y = call->wanted & 1 ? call->outputs[0].data : 0;
  (void)error;
  for (int64_t i = chunk->begin; y && i < chunk->end; i++) y[i] = 2 * x[i];
  if (flushes()) chunk->accumulator[0] = 1;
  return LOSSD_OK;
}

static void merge(const lossd_function *function, double *into, const double *from) {
  (void)function;
  if (from[0] > into[0]) into[0] = from[0];
}

static int32_t finish(const lossd_function *function, const lossd_value *attributes,
                      const double *sums, double *values, uint64_t *present, lossd_error *error) {
  (void)function, (void)attributes, (void)error;
  values[0] = sums[0];
  *present = 1;
  return LOSSD_OK;
}

static const lossd_input inputs[] = {
    {"input", "anything", LOSSD_TYPE_BIT(LOSSD_FLOAT32), LOSSD_INPUT_REQUIRED, {0, 0}}};
static const lossd_output outputs[] = {
    {"output", "input twice", LOSSD_OUTPUT_DEFAULT, -1, {0, 0}},
    {"flushes", "1 where a thread that ran it flushes denormals to zero", 0, -1, {0, 0}}};
static const char *const sums[] = {"flushes"}, *const values[] = {"flushes"};
static const lossd_function fast_math = {
    sizeof fast_math, LOSSD_KIND_ACTIVATION, "fast_math", "2 * input", inputs, outputs, 0, sums, values,
    1, 2, 0, 1, 1, 0, 0, plan, run, merge, .finish = finish};
static const lossd_function *const functions[] = {&fast_math};
static const lossd_plugin plugin = {sizeof plugin, LOSSD_ABI_MAJOR, LOSSD_ABI_MINOR, "fast_math", "1.0",
                                    functions, 1, 0, 0, 0};

const lossd_plugin *lossd_plugin_entry(const lossd_host *host) {
  (void)host;
  return &plugin;
}
