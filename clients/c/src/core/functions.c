/* ListFunctions, as far as streams need it: which inputs stay. */
#include "functions.h"
#include "core.h"

lossd_code functions_read(lossd_stream *stream, const struct bytes *answer, lossd_error *error) {
  struct arena *arena = &stream->core->arena;
  arena_reset(arena);
  Lossd__V1__ListFunctionsResponse *list =
      lossd__v1__list_functions_response__unpack(&arena->allocator, answer->length, answer->base);
  if (list == NULL) return fail(error, LOSSD_INTERNAL, "the daemon's list of functions does not decode");
  if (list->n_functions != 1 || strcmp(list->functions[0]->name, stream->head->function) != 0) {
    return fail(error, LOSSD_INTERNAL, "the daemon's list of functions has others than the one asked for");
  }
  const Lossd__V1__Function *function = list->functions[0];
  stream->kept = calloc(function->n_inputs + 1, sizeof *stream->kept);
  for (size_t index = 0; stream->kept != NULL && index < function->n_inputs; index++) {
    if (!function->inputs[index]->kept) continue;
    if ((stream->kept[stream->kept_count] = strdup(function->inputs[index]->name)) == NULL) break;
    stream->kept_count++;
  }
  return stream->kept == NULL ? fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for a list of inputs") : LOSSD_OK;
}

lossd_call *functions_ask(lossd_stream *stream) {
  Lossd__V1__ListFunctionsRequest list = LOSSD__V1__LIST_FUNCTIONS_REQUEST__INIT;
  list.name = stream->head->function;
  size_t length = lossd__v1__list_functions_request__get_packed_size(&list);
  unsigned char *message = malloc(length + 1);
  if (message == NULL) return NULL;
  lossd__v1__list_functions_request__pack(&list, message);
  lossd_call *call = call_new_raw(stream->core, "/lossd.v1.Evaluator/ListFunctions", message, length);
  free(message);
  return call;
}
