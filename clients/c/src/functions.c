/* ListFunctions, as far as streams need it: which inputs stay, and how sums make a loss. */
#include "internal.h"

/* The value of an attribute that `first` gives; NULL where it gives none, or one that is no string. */
static const char *given_string(const lossd_call *first, const char *name) {
  for (size_t index = 0; index < first->attribute_count; index++) {
    const struct attribute *attribute = &first->attributes[index];
    if (strcmp(attribute->name, name) == 0) {
      return attribute->value.kind_case == LOSSD__V1__VALUE__KIND_STRING_VALUE ? attribute->value.string_value : NULL;
    }
  }
  return NULL;
}

static enum reduction reduction_of(const Lossd__V1__Function *function, const lossd_call *first) {
  for (size_t index = 0; index < function->n_attributes; index++) {
    const Lossd__V1__FunctionAttribute *attribute = function->attributes[index];
    if (strcmp(attribute->role, "reduction") != 0) continue;
    const char *value = given_string(first, attribute->name);
    const Lossd__V1__Value *own = attribute->default_;
    if (value == NULL && own != NULL && own->kind_case == LOSSD__V1__VALUE__KIND_STRING_VALUE) {
      value = own->string_value;
    }
    if (value != NULL && strcmp(value, "mean") == 0) return REDUCTION_MEAN;
    return value != NULL && strcmp(value, "sum") == 0 ? REDUCTION_SUM : REDUCTION_OTHER;
  }
  return REDUCTION_UNKNOWN;
}

static lossd_code copy_description(lossd_client *client, const lossd_call *call, const lossd_call *first,
                                   char ***names, size_t *count, enum reduction *reduction, lossd_error *error) {
  arena_reset(&client->arena);
  Lossd__V1__ListFunctionsResponse *list = lossd__v1__list_functions_response__unpack(
      &client->arena.allocator, call->answer.length, call->answer.base);
  if (list == NULL) return fail(error, LOSSD_INTERNAL, "the daemon's list of functions does not decode");
  if (list->n_functions != 1 || strcmp(list->functions[0]->name, call->listed) != 0) {
    return fail(error, LOSSD_INTERNAL, "the daemon's list of functions has others than the one asked for");
  }
  const Lossd__V1__Function *function = list->functions[0];
  *reduction = reduction_of(function, first);
  *names = calloc(function->n_inputs + 1, sizeof **names);
  *count = 0;
  for (size_t index = 0; *names != NULL && index < function->n_inputs; index++) {
    if (!function->inputs[index]->kept) continue;
    if (((*names)[*count] = strdup(function->inputs[index]->name)) == NULL) break;
    (*count)++;
  }
  return *names == NULL ? fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for a list of inputs") : LOSSD_OK;
}

lossd_code functions_describe(const lossd_call *first, char ***names, size_t *count, enum reduction *reduction,
                              lossd_error *error) {
  lossd_call *call = lossd_call_new(first->client, NULL);
  if (call == NULL || (call->listed = strdup(first->function)) == NULL) {
    lossd_call_free(call);
    return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for a call");
  }
  call->method = "/lossd.v1.Evaluator/ListFunctions";
  call->timeout_us = first->timeout_us;
  lossd_code code = lossd_call_run(call, error);
  if (code == LOSSD_OK) code = copy_description(first->client, call, first, names, count, reduction, error);
  lossd_call_free(call);
  return code;
}
