/* CPluginCalls: calls into a plugin that end here whatever happens: a C++ exception that leaves a callback
 * would otherwise unwind into code that cannot catch it, and end the process. C++ for that alone. */
#ifndef LOSSD_PLUGIN_CALLS_H
#define LOSSD_PLUGIN_CALLS_H

#include "lossd/plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Each calls what its name says and returns what that returned; after an exception LOSSD_INTERNAL, with its text in
 * `error`. */
int32_t plugincalls_plan(const lossd_call *call, lossd_plan *plan, lossd_error *error);
int32_t plugincalls_run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error);
int32_t plugincalls_merge(const lossd_function *function, double *into, const double *from, lossd_error *error);
int32_t plugincalls_finish(const lossd_function *function, const lossd_value *attributes,
                           const double *accumulator, double *values, uint64_t *present,
                           lossd_error *error);
int32_t plugincalls_start(const lossd_plugin *plugin, const lossd_host *host, lossd_error *error);
void plugincalls_stop(const lossd_plugin *plugin);

/* `entry` is lossd_plugin_entry's address. NULL after an exception, with its text in `error`. */
const lossd_plugin *plugincalls_entry(void *entry, const lossd_host *host, lossd_error *error);

#ifdef __cplusplus
}
#endif
#endif
