/* An EvaluateResponse and its payload: checked, and sent to where its tensors shall be. */
#include "response.h"
#include "core.h"

/* The tensor's length in bytes as its type and shape have it; -1: they make no sense. */
static int64_t length_of(const Lossd__V1__Tensor *tensor) {
  int64_t all = (int64_t)lossd_type_size((lossd_type)tensor->data_type);
  int is_empty = 0;
  if (all == 0 || tensor->n_shape > LOSSD_RANK_MAX) return -1;
  for (size_t index = 0; index < tensor->n_shape; index++) {
    int64_t size = tensor->shape[index];
    if (size < 0 || (size > 0 && all > INT64_MAX / size)) return -1;
    if (size == 0) is_empty = 1;
    if (size > 0) all *= size;
  }
  return is_empty ? 0 : all;
}

/* Memory for the result: the caller's, or the call's own. */
static lossd_code find_memory(struct result *result, size_t bytes, unsigned char **to, lossd_error *error) {
  if (result->given != NULL) {
    if (bytes > result->given_bytes) {
      return fail(error, LOSSD_INVALID_ARGUMENT, "%s: the result takes %zu bytes, the buffer has %zu", result->name,
                  bytes, result->given_bytes);
    }
    *to = result->given;
    return LOSSD_OK;
  }
  if (bytes > result->owned_bytes || result->owned == NULL) {
    void *memory;
    if (posix_memalign(&memory, ALIGNMENT, bytes == 0 ? 1 : bytes) != 0) {
      return fail(error, LOSSD_RESOURCE_EXHAUSTED, "%s: no memory for %zu bytes of result", result->name, bytes);
    }
    free(result->owned);
    result->owned = memory;
    result->owned_bytes = bytes;
  }
  *to = result->owned;
  return LOSSD_OK;
}

/* A result that the daemon has written to where it was asked to; brought to the caller's memory where that is other. */
static lossd_code take_shared(lossd_call *call, struct result *result, const Lossd__V1__SharedRange *place,
                              size_t bytes, unsigned char **to, lossd_error *error) {
  const struct segment *segment = call->is_shared && result->into_bytes > 0 ? result->place : NULL;
  if (segment == NULL || place->region != segment->number ||
      place->offset != segment_offset(segment, segment->base + result->into) ||
      place->length != result->into_bytes || bytes != result->into_bytes) {
    return fail(error, LOSSD_INTERNAL, "the daemon's answer has %s in memory that nobody asked for", result->name);
  }
  *to = segment->base + result->into;
  if (result->segment != NULL && result->given != NULL) {
    memcpy(result->given, *to, bytes);
    *to = result->given;
  }
  return LOSSD_OK;
}

struct range {
  uint64_t offset;
  uint64_t length;
  unsigned char *to;
};

/* Checks one tensor and finds memory for it; `range` is where it lies in the payload, length 0 when it does not. */
static lossd_code take_tensor(lossd_call *call, const Lossd__V1__Tensor *tensor, uint64_t payload_length,
                              struct range *range, lossd_error *error) {
  int64_t bytes = length_of(tensor);
  if (bytes < 0) return fail(error, LOSSD_INTERNAL, "the daemon's answer has a tensor of no type or shape");
  range->length = 0;
  int is_inline = tensor->storage_case == LOSSD__V1__TENSOR__STORAGE_DATA;
  int is_shared = tensor->storage_case == LOSSD__V1__TENSOR__STORAGE_SHARED;
  if (is_inline && tensor->data.len != (uint64_t)bytes) {
    return fail(error, LOSSD_INTERNAL, "the daemon's answer has a tensor that is not where it should be");
  }
  if (tensor->storage_case == LOSSD__V1__TENSOR__STORAGE_PAYLOAD) {
    uint64_t offset = tensor->payload->offset, length = tensor->payload->length;
    if (offset % ALIGNMENT != 0 || length != (uint64_t)bytes || length > payload_length ||
        offset > payload_length - length) {
      /* An empty tensor may stand anywhere in the payload. */
      if (length != 0 || bytes != 0 || offset > payload_length) {
        return fail(error, LOSSD_INTERNAL, "the daemon's answer has a tensor outside of its payload");
      }
    }
    range->offset = offset;
    range->length = length;
  } else if (!is_inline && !is_shared && bytes > 0) {
    return fail(error, LOSSD_INTERNAL, "the daemon's answer has a tensor without bytes");
  }
  if (call->result_count >= 2 * RESULTS_MAX && call_find_result(call, tensor->name) == NULL) {
    return fail(error, LOSSD_INTERNAL, "the daemon's answers have results of more and more names");
  }
  struct result *result = call_make_result(call, tensor->name);
  if (result == NULL) return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for a result");
  if (result->is_present) return fail(error, LOSSD_INTERNAL, "the daemon's answer has %s twice", result->name);
  lossd_code code = is_shared ? take_shared(call, result, tensor->shared, (size_t)bytes, &range->to, error)
                              : find_memory(result, (size_t)bytes, &range->to, error);
  if (code != LOSSD_OK) return code;
  if (is_inline && bytes > 0) memcpy(range->to, tensor->data.data, (size_t)bytes);
  if (tensor->n_shape > 0) memcpy(result->shape, tensor->shape, tensor->n_shape * sizeof *result->shape);
  result->tensor.type = (lossd_type)tensor->data_type;
  result->tensor.rank = tensor->n_shape;
  result->tensor.data = range->to;
  result->tensor.bytes = (size_t)bytes;
  result->is_present = 1;
  return LOSSD_OK;
}

static void add_place(struct reader *reader, unsigned char *to, uint64_t length) {
  if (length == 0) return;
  reader->places[reader->place_count].to = to;
  reader->places[reader->place_count++].length = (size_t)length;
}

/* Ranges, sorted by insertion, as the payload's places with the gaps between them. */
static lossd_code set_places(struct range *ranges, size_t count, struct reader *reader, lossd_error *error) {
  for (size_t index = 1; index < count; index++) {
    struct range range = ranges[index];
    size_t at = index;
    for (; at > 0 && ranges[at - 1].offset > range.offset; at--) ranges[at] = ranges[at - 1];
    ranges[at] = range;
  }
  uint64_t position = 0;
  for (size_t index = 0; index < count; index++) {
    if (ranges[index].offset < position) {
      return fail(error, LOSSD_INTERNAL, "the daemon's answer has tensors that overlap");
    }
    add_place(reader, NULL, ranges[index].offset - position);
    add_place(reader, ranges[index].to, ranges[index].length);
    position = ranges[index].offset + ranges[index].length;
  }
  add_place(reader, NULL, reader->frame.payload_length - position);
  return LOSSD_OK;
}

lossd_code response_place(lossd_call *call, const Lossd__V1__EvaluateResponse *response, struct reader *reader,
                          lossd_error *error) {
  struct range ranges[RESULTS_MAX];
  size_t count = 0;
  lossd_code code = LOSSD_OK;
  call_forget_results(call);
  reader->place_count = 0;
  if (response->n_outputs > RESULTS_MAX) {
    code = fail(error, LOSSD_INTERNAL, "the daemon's answer has %zu tensors", response->n_outputs);
  }
  for (size_t index = 0; code == LOSSD_OK && index < response->n_outputs; index++) {
    struct range range;
    code = take_tensor(call, response->outputs[index], reader->frame.payload_length, &range, error);
    if (code == LOSSD_OK && range.length > 0) ranges[count++] = range;
  }
  if (code == LOSSD_OK) code = set_places(ranges, count, reader, error);
  if (code != LOSSD_OK) {
    call_forget_results(call);
    reader_discard(reader);
    return code;
  }
  reader->owner = call;
  return LOSSD_OK;
}

lossd_code response_check(const lossd_call *call, const lossd_call *asked, lossd_error *error) {
  for (size_t index = 0; index < asked->result_count; index++) {
    const struct result *wanted = &asked->results[index];
    if (!wanted->is_asked) continue;
    const struct result *result = call == asked ? wanted : call_find_result(call, wanted->name);
    if (result == NULL || !result->is_present) {
      return fail(error, LOSSD_INTERNAL, "the daemon's answer lacks %s", wanted->name);
    }
  }
  return LOSSD_OK;
}
