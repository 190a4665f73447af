/* wicked_cpp: a plugin in C++ for tests alone: exceptions that leave callbacks, and what keeps glibc from
 * unmapping a library: inline variables (STB_GNU_UNIQUE) and thread_local destructors.
 *
 * A host must not die of an exception: INTERNAL, with the exception's text where it can have it. Where a host
 * cannot catch it, std::terminate is SIGABRT: worker: UNAVAILABLE; daemon: a line and the end.
 * Unloading it must say that the library stays mapped; loading another version must open that one. */
#include <lossd/plugin.h>

#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#ifndef VERSION
#define VERSION "1.0"
#endif

/* An inline variable, and a static of an inline function: one for the whole process, so never unmapped. */
inline int counted = 0;
inline int &counter() {
  static int count = 0;
  return count;
}
template <class T> struct Holder {
  static inline T held{};
};

struct Local {
  std::string text = "a thread's own, destroyed when the thread ends";
  ~Local() { counted += static_cast<int>(text.size()); }
};
static thread_local Local local;

namespace {
const char *const modes[] = {
    "none",        /* OK: loss is 4, by way of all the statics above */
    "throw_plan",  /* std::runtime_error out of plan, on the thread that plans */
    "throw_run",   /* out of run */
    "throw_finish",/* out of finish */
    "throw_merge", /* out of merge, which has no error to say it in */
    "throw_int",   /* 42 out of run: no std::exception, no text */
    "throw_alloc", /* std::bad_alloc out of run: the allocation of 2^62 bytes */
    "terminate",   /* std::terminate: SIGABRT */
    "caught",      /* OK: thrown and caught inside, through frames with destructors */
    nullptr};

bool is(const lossd_value *attributes, const char *mode) {
  return std::strcmp(attributes[0].as.string, mode) == 0;
}

[[noreturn]] void fail(const char *where) {
  throw std::runtime_error(std::string("thrown from ") + where);
}

int32_t plan(const lossd_call *call, lossd_plan *plan, lossd_error *) {
  if (is(call->attributes, "throw_plan")) fail("plan");
  plan->outputs[0].data_type = LOSSD_FLOAT64;
  plan->outputs[0].flags = LOSSD_PLANNED_REDUCED;
  plan->rows = 1;
  plan->pass_count = 1;
  plan->passes[0].units = 4;
  plan->passes[0].unit_cost_ns = 1;
  return LOSSD_OK;
}

int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *) {
  if (is(call->attributes, "throw_run")) fail("run");
  if (is(call->attributes, "throw_int")) throw 42;
  if (is(call->attributes, "throw_alloc")) {
    volatile size_t bytes = size_t(1) << 62;
    counted += *static_cast<char *>(::operator new(bytes));
  }
  if (is(call->attributes, "terminate")) std::terminate();
  if (is(call->attributes, "caught")) {
    try {
      std::string frame(1000, 'x');
      fail(frame.c_str());
    } catch (const std::exception &) {
    }
  }
  local.text += "!";
  counter() += 1;
  Holder<double>::held += 1;
  for (int64_t i = chunk->begin; i < chunk->end; i++) chunk->accumulator[0] += 1;
  if (is(call->attributes, "throw_merge")) chunk->accumulator[1] = 1;
  return LOSSD_OK;
}

void merge(const lossd_function *, double *into, const double *from) {
  if (from[1] != 0) fail("merge");
  into[0] += from[0];
}

int32_t finish(const lossd_function *, const lossd_value *attributes, const double *sums,
               double *values, uint64_t *present, lossd_error *) {
  if (is(attributes, "throw_finish")) fail("finish");
  values[0] = sums[0];
  *present = 1;
  return LOSSD_OK;
}

const lossd_output outputs[] = {
    {"loss", "4", LOSSD_OUTPUT_DEFAULT, -1, {0, 0}}};
const char *const sums[] = {"loss_sum", "throws"};
const char *const values[] = {"loss"};
} // namespace

extern "C" const lossd_plugin *lossd_plugin_entry(const lossd_host *) {
  static lossd_attribute mode;
  static lossd_function function;
  static const lossd_function *functions[] = {&function};
  static lossd_plugin plugin;
  mode.name = "mode";
  mode.help = "the deed";
  mode.type = LOSSD_VALUE_STRING;
  mode.flags = LOSSD_ATTRIBUTE_REQUIRED;
  mode.choices = modes;
  function.struct_size = sizeof function;
  function.kind = LOSSD_KIND_LOSS;
  function.name = "wicked_cpp";
  function.summary = "throws";
  function.outputs = outputs;
  function.output_count = 1;
  function.attributes = &mode;
  function.attribute_count = 1;
  function.accumulators = sums;
  function.accumulator_count = 2;
  function.values = values;
  function.value_count = 1;
  function.plan = plan;
  function.run = run;
  function.merge = merge;
  function.finish = finish;
  plugin.struct_size = sizeof plugin;
  plugin.abi_major = LOSSD_ABI_MAJOR;
  plugin.abi_minor = LOSSD_ABI_MINOR;
  plugin.name = "wicked_cpp";
  plugin.version = VERSION;
  plugin.functions = functions;
  plugin.function_count = 1;
  return &plugin;
}
