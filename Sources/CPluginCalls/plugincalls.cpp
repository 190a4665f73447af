#include "plugincalls.h"

#include <cxxabi.h>

#include <cstdio>
#include <exception>

namespace {

/* Runs `body`; what it throws becomes `result` and a text. A thread that is cancelled goes on unwinding. */
template <typename Result, typename Body>
Result guarded(const char *step, lossd_error *error, Result result, Body body) {
  const char *text = "of a type of its own";
  try {
    return body();
  } catch (abi::__forced_unwind &) {
    throw;
  } catch (const std::exception &exception) {
    text = exception.what();
    if (error) std::snprintf(error->text, sizeof error->text, "an exception left %s: %s", step, text);
  } catch (...) {
    if (error) std::snprintf(error->text, sizeof error->text, "an exception left %s: %s", step, text);
  }
  return result;
}

}  // namespace

extern "C" {

int32_t plugincalls_plan(const lossd_call *call, lossd_plan *plan, lossd_error *error) {
  return guarded<int32_t>("plan", error, LOSSD_INTERNAL,
                          [&] { return call->function->plan(call, plan, error); });
}

int32_t plugincalls_run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
  return guarded<int32_t>("run", error, LOSSD_INTERNAL,
                          [&] { return call->function->run(call, chunk, error); });
}

int32_t plugincalls_merge(const lossd_function *function, double *into, const double *from,
                          lossd_error *error) {
  return guarded<int32_t>("merge", error, LOSSD_INTERNAL, [&] {
    function->merge(function, into, from);
    return LOSSD_OK;
  });
}

int32_t plugincalls_finish(const lossd_function *function, const lossd_value *attributes,
                           const double *accumulator, double *values, uint64_t *present,
                           lossd_error *error) {
  return guarded<int32_t>("finish", error, LOSSD_INTERNAL, [&] {
    return function->finish(function, attributes, accumulator, values, present, error);
  });
}

int32_t plugincalls_start(const lossd_plugin *plugin, const lossd_host *host, lossd_error *error) {
  return guarded<int32_t>("start", error, LOSSD_INTERNAL,
                          [&] { return plugin->start(host, error); });
}

void plugincalls_stop(const lossd_plugin *plugin) {
  guarded<int>("stop", nullptr, 0, [&] {
    plugin->stop();
    return 0;
  });
}

const lossd_plugin *plugincalls_entry(void *entry, const lossd_host *host, lossd_error *error) {
  using Entry = const lossd_plugin *(*)(const lossd_host *);
  return guarded<const lossd_plugin *>("lossd_plugin_entry", error, nullptr, [&] {
    return reinterpret_cast<Entry>(entry)(host);
  });
}
}
