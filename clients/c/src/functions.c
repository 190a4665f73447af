/* ListFunctions, as far as streams need it: which inputs stay. */
#include "internal.h"

static lossd_code copy_kept(lossd_client *client, const lossd_call *call, char ***names, size_t *count,
                            lossd_error *error) {
  arena_reset(&client->arena);
  Lossd__V1__ListFunctionsResponse *list = lossd__v1__list_functions_response__unpack(
      &client->arena.allocator, call->answer.length, call->answer.base);
  if (list == NULL) return fail(error, LOSSD_INTERNAL, "the daemon's list of functions does not decode");
  if (list->n_functions != 1 || strcmp(list->functions[0]->name, call->listed) != 0) {
    return fail(error, LOSSD_INTERNAL, "the daemon's list of functions has others than the one asked for");
  }
  const Lossd__V1__Function *function = list->functions[0];
  *names = calloc(function->n_inputs + 1, sizeof **names);
  *count = 0;
  for (size_t index = 0; *names != NULL && index < function->n_inputs; index++) {
    if (!function->inputs[index]->kept) continue;
    if (((*names)[*count] = strdup(function->inputs[index]->name)) == NULL) break;
    (*count)++;
  }
  return *names == NULL ? fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for a list of inputs") : LOSSD_OK;
}

lossd_code functions_kept(lossd_client *client, const char *function, uint64_t timeout_us, char ***names,
                          size_t *count, lossd_error *error) {
  lossd_call *call = lossd_call_new(client, NULL);
  if (call == NULL || (call->listed = strdup(function)) == NULL) {
    lossd_call_free(call);
    return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for a call");
  }
  call->method = "/lossd.v1.Evaluator/ListFunctions";
  call->timeout_us = timeout_us;
  lossd_code code = lossd_call_run(call, error);
  if (code == LOSSD_OK) code = copy_kept(client, call, names, count, error);
  lossd_call_free(call);
  return code;
}
