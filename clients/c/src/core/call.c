/* A call as its caller builds it and reads it. Nothing here sends anything. */
#include "core.h"
#include "leg.h"
#include "life.h"

#include <math.h>

size_t lossd_type_size(lossd_type type) {
  static const unsigned char sizes[] = {0, 4, 8, 2, 2, 8, 4, 2, 1, 1, 1};
  unsigned number = (unsigned)type;
  return number < sizeof sizes ? sizes[number] : 0;
}

lossd_call *call_new(struct core *core, const char *function) {
  lossd_call *call = calloc(1, sizeof *call);
  if (call == NULL) return NULL;
  call->method = "/lossd.v1.Evaluator/Evaluate";
  if (function != NULL && (call->function = strdup(function)) == NULL) {
    free(call);
    return NULL;
  }
  call->core = core;
  return call;
}

lossd_call *call_new_raw(struct core *core, const char *method, const void *message, size_t length) {
  lossd_call *call = call_new(core, NULL);
  if (call == NULL || !bytes_set(&call->message, message, length)) {
    free(call);
    return NULL;
  }
  call->method = method;
  call->kind = CALL_RAW;
  call->is_encoded = 1;
  return call;
}

lossd_call *call_new_part(struct core *core, const char *function, uint64_t number, const void *summaries,
                          size_t length) {
  lossd_call *call = call_new(core, function);
  if (call == NULL || !bytes_set(&call->before, summaries, length)) {
    call_free(call);
    return NULL;
  }
  call->method = stream_method;
  call->kind = CALL_PART;
  call->number = number;
  return call;
}

lossd_call *call_new_ping(struct core *core) {
  lossd_call *call = call_new(core, NULL);
  if (call == NULL) return NULL;
  call->kind = CALL_PING;
  call->is_encoded = 1;
  return call;
}

void call_free(lossd_call *call) {
  if (call == NULL) return;
  if (call->state == CALL_IN_STREAM) {
    stream_forget(call->stream, call);
  } else if (call_is_under_way(call)) {
    call_abandon(call, LOSSD_CANCELLED, "the call was freed");
  }
  source_drop(&call->core->sources, &call->source);
  for (size_t index = 0; index < call->input_count; index++) {
    free(call->inputs[index].name);
    free(call->inputs[index].shape);
  }
  for (size_t index = 0; index < call->attribute_count; index++) {
    struct attribute *attribute = &call->attributes[index];
    free(attribute->name);
    if (attribute->value.kind_case == LOSSD__V1__VALUE__KIND_STRING_VALUE) free(attribute->value.string_value);
  }
  for (size_t index = 0; index < call->result_count; index++) {
    free(call->results[index].name);
    free(call->results[index].owned);
    if (call->results[index].segment != NULL) segment_leave(call->core, call->results[index].segment);
  }
  if (call->segment != NULL) segment_leave(call->core, call->segment);
  uses_free(&call->uses);
  notes_free(&call->notes);
  bytes_free(&call->shared_message);
  free(call->inputs);
  free(call->attributes);
  free(call->results);
  free(call->function);
  bytes_free(&call->message);
  bytes_free(&call->before);
  bytes_free(&call->answer);
  free(call);
}

/* ---- Setters: each returns where it may not or cannot, and leaves a note ---- */

static int may_change(lossd_call *call, enum note_kind kind, const char *name) {
  if (call == NULL) return 0;
  if (name == NULL) {
    notes_add(&call->notes, kind, NULL, LOSSD_INVALID_ARGUMENT, "a name is NULL");
    return 0;
  }
  if (call_is_under_way(call)) {
    notes_add(&call->notes, kind, name, LOSSD_FAILED_PRECONDITION, "changed while the call was under way");
    return 0;
  }
  return 1;
}

static void no_memory(lossd_call *call, enum note_kind kind, const char *name) {
  notes_add(&call->notes, kind, name, LOSSD_RESOURCE_EXHAUSTED, "no memory");
}

struct input *call_find_input(const lossd_call *call, const char *name) {
  for (size_t index = 0; index < call->input_count; index++) {
    if (strcmp(call->inputs[index].name, name) == 0) return &call->inputs[index];
  }
  return NULL;
}

static void remove_input(lossd_call *call, struct input *input) {
  free(input->name);
  free(input->shape);
  size_t after = (size_t)(call->inputs + call->input_count - (input + 1));
  memmove(input, input + 1, after * sizeof *input);
  call->input_count--;
  call->is_encoded = 0;
}

/* The tensor's bytes, -1 where they are too many to count or a size is negative. */
static int64_t tensor_bytes(lossd_type type, size_t rank, const int64_t *shape) {
  int64_t bytes = (int64_t)lossd_type_size(type), all = bytes;
  int is_empty = 0;
  for (size_t index = 0; index < rank; index++) {
    if (shape[index] < 0) return -1;
    if (shape[index] == 0) {
      is_empty = 1;
    } else if (all > INT64_MAX / shape[index]) {
      return -1;
    } else {
      all *= shape[index];
    }
  }
  return is_empty ? 0 : all;
}

void lossd_call_input(lossd_call *call, const char *name, lossd_type type, size_t rank, const int64_t *shape,
                      const void *data) {
  static const int64_t none[1];
  if (!may_change(call, NOTE_INPUT, name)) return;
  struct input *input = call_find_input(call, name);
  if (shape == NULL && rank > 0) {
    notes_remove(&call->notes, NOTE_INPUT, name);
    if (input != NULL) remove_input(call, input);
    return;
  }
  if (shape == NULL) shape = none;
  if (lossd_type_size(type) == 0) {
    notes_add(&call->notes, NOTE_INPUT, name, LOSSD_INVALID_ARGUMENT, "no such type");
    return;
  }
  int64_t bytes = rank > LOSSD_RANK_MAX ? -1 : tensor_bytes(type, rank, shape);
  if (bytes < 0 || (bytes > 0 && data == NULL)) {
    notes_add(&call->notes, NOTE_INPUT, name, LOSSD_INVALID_ARGUMENT,
              bytes >= 0 ? "the data is NULL"
              : rank > LOSSD_RANK_MAX ? "more than 64 dimensions" : "a size is negative or the tensor too large");
    return;
  }
  if (input == NULL) {
    struct input *larger = grown(call->inputs, call->input_count, &call->input_capacity, sizeof *larger);
    if (larger == NULL) {
      no_memory(call, NOTE_INPUT, name);
      return;
    }
    call->inputs = larger;
    input = &larger[call->input_count];
    memset(input, 0, sizeof *input);
    input->name = strdup(name);
    input->rank = SIZE_MAX;
    if (input->name == NULL) {
      no_memory(call, NOTE_INPUT, name);
      return;
    }
    call->input_count++;
  }
  input->data = data;
  /* What the message says of it is often the same as before. */
  if (input->type == type && input->rank == rank && memcmp(input->shape, shape, rank * sizeof *shape) == 0) {
    notes_remove(&call->notes, NOTE_INPUT, name);
    return;
  }
  int64_t *copy = malloc((rank + 1) * sizeof *copy);
  if (copy == NULL) {
    no_memory(call, NOTE_INPUT, name);
    return;
  }
  memcpy(copy, shape, rank * sizeof *copy);
  free(input->shape);
  input->shape = copy;
  input->type = type;
  input->rank = rank;
  input->bytes = (size_t)bytes;
  call->is_encoded = 0;
  notes_remove(&call->notes, NOTE_INPUT, name);
}

static Lossd__V1__Value *attribute_value(lossd_call *call, const char *name) {
  if (!may_change(call, NOTE_ATTRIBUTE, name)) return NULL;
  struct attribute *attribute = NULL;
  for (size_t index = 0; index < call->attribute_count; index++) {
    if (strcmp(call->attributes[index].name, name) == 0) attribute = &call->attributes[index];
  }
  if (attribute == NULL) {
    struct attribute *larger =
        grown(call->attributes, call->attribute_count, &call->attribute_capacity, sizeof *larger);
    char *copy = larger == NULL ? NULL : strdup(name);
    if (larger != NULL) call->attributes = larger;
    if (copy == NULL) {
      no_memory(call, NOTE_ATTRIBUTE, name);
      return NULL;
    }
    attribute = &larger[call->attribute_count++];
    attribute->name = copy;
  } else if (attribute->value.kind_case == LOSSD__V1__VALUE__KIND_STRING_VALUE) {
    free(attribute->value.string_value);
  }
  lossd__v1__value__init(&attribute->value);
  call->is_encoded = 0;
  notes_remove(&call->notes, NOTE_ATTRIBUTE, name);
  return &attribute->value;
}

void lossd_call_set_bool(lossd_call *call, const char *name, int value) {
  Lossd__V1__Value *to = attribute_value(call, name);
  if (to == NULL) return;
  to->kind_case = LOSSD__V1__VALUE__KIND_BOOL_VALUE;
  to->bool_value = value != 0;
}

void lossd_call_set_int(lossd_call *call, const char *name, int64_t value) {
  Lossd__V1__Value *to = attribute_value(call, name);
  if (to == NULL) return;
  to->kind_case = LOSSD__V1__VALUE__KIND_INT_VALUE;
  to->int_value = value;
}

void lossd_call_set_double(lossd_call *call, const char *name, double value) {
  Lossd__V1__Value *to = attribute_value(call, name);
  if (to == NULL) return;
  to->kind_case = LOSSD__V1__VALUE__KIND_FLOAT_VALUE;
  to->float_value = value;
}

void lossd_call_set_string(lossd_call *call, const char *name, const char *value) {
  char *copy = value == NULL ? NULL : strdup(value);
  Lossd__V1__Value *to = copy == NULL ? NULL : attribute_value(call, name);
  if (to == NULL) {
    if (copy == NULL && may_change(call, NOTE_ATTRIBUTE, name)) {
      notes_add(&call->notes, NOTE_ATTRIBUTE, name, value == NULL ? LOSSD_INVALID_ARGUMENT : LOSSD_RESOURCE_EXHAUSTED,
                value == NULL ? "the value is NULL" : "no memory");
    }
    free(copy);
    return;
  }
  to->kind_case = LOSSD__V1__VALUE__KIND_STRING_VALUE;
  to->string_value = copy;
}

void lossd_call_set_timeout(lossd_call *call, uint64_t timeout_us) {
  if (!may_change(call, NOTE_TIMEOUT, "timeout")) return;
  notes_remove(&call->notes, NOTE_TIMEOUT, "timeout");
  call->timeout_us = timeout_us;
}

/* ---- Results ---- */

struct result *call_find_result(const lossd_call *call, const char *name) {
  for (size_t index = 0; index < call->result_count; index++) {
    if (strcmp(call->results[index].name, name) == 0) return &call->results[index];
  }
  return NULL;
}

struct result *call_make_result(lossd_call *call, const char *name) {
  struct result *result = call_find_result(call, name);
  if (result != NULL) return result;
  struct result *larger = grown(call->results, call->result_count, &call->result_capacity, sizeof *larger);
  if (larger == NULL) return NULL;
  call->results = larger;
  result = &larger[call->result_count];
  memset(result, 0, sizeof *result);
  result->name = strdup(name);
  if (result->name == NULL) return NULL;
  call->result_count++;
  return result;
}

void call_forget_results(lossd_call *call) {
  for (size_t index = 0; index < call->result_count; index++) call->results[index].is_present = 0;
}

void lossd_call_output(lossd_call *call, const char *name, void *buffer, size_t size) {
  if (!may_change(call, NOTE_OUTPUT, name)) return;
  struct result *result = call_make_result(call, name);
  if (result == NULL) {
    no_memory(call, NOTE_OUTPUT, name);
    return;
  }
  if (!result->is_asked) call->is_encoded = 0;
  result->is_asked = 1;
  result->is_present = 0;
  notes_remove(&call->notes, NOTE_OUTPUT, name);
  result->given = buffer;
  result->given_bytes = buffer == NULL ? 0 : size;
}

lossd_code lossd_call_result(const lossd_call *call, const char *name, lossd_tensor *tensor, lossd_error *error) {
  if (call == NULL || tensor == NULL) return fail(error, LOSSD_INVALID_ARGUMENT, "no call, or no tensor");
  if (call->state != CALL_DONE || call->outcome.code != LOSSD_OK) {
    return fail(error, LOSSD_FAILED_PRECONDITION, "the call has not ended well: it has no results");
  }
  for (size_t index = 0; index < call->result_count; index++) {
    const struct result *result = &call->results[index];
    if (!result->is_present || (name != NULL && strcmp(result->name, name) != 0)) continue;
    if (call->core->has_lost && segment_is_lost(call->core, result->tensor.data)) {
      return fail(error, LOSSD_DATA_LOSS, "%s: %s", result->name, segment_lost);
    }
    *tensor = result->tensor;
    tensor->shape = result->shape; /* results move when there are more of them */
    return succeed(error);
  }
  return fail(error, LOSSD_NOT_FOUND, "no result named %s", name == NULL ? "anything" : name);
}

static double widened_half(uint16_t bits) {
  double sign = bits & 0x8000 ? -1 : 1;
  int exponent = bits >> 10 & 31;
  double fraction = (bits & 1023) / 1024.0;
  if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
  double scale = 1;
  for (int at = exponent == 0 ? 1 : exponent; at < 15; at++) scale /= 2;
  for (int at = exponent; at > 15; at--) scale *= 2;
  return sign * scale * ((exponent == 0 ? 0 : 1) + fraction);
}

lossd_code lossd_call_result_double(const lossd_call *call, const char *name, double *value, lossd_error *error) {
  lossd_tensor tensor;
  if (value == NULL) return fail(error, LOSSD_INVALID_ARGUMENT, "no value");
  lossd_code code = lossd_call_result(call, name, &tensor, error);
  if (code != LOSSD_OK) return code;
  if (tensor.bytes != lossd_type_size(tensor.type) || tensor.type > LOSSD_BFLOAT16) {
    return fail(error, LOSSD_FAILED_PRECONDITION, "the result is not one number of a floating type");
  }
  float narrow;
  uint16_t half;
  uint32_t bits;
  switch (tensor.type) {
    case LOSSD_FLOAT64: memcpy(value, tensor.data, sizeof *value); break;
    case LOSSD_FLOAT16:
      memcpy(&half, tensor.data, sizeof half);
      *value = widened_half(half);
      break;
    case LOSSD_BFLOAT16:
      memcpy(&half, tensor.data, sizeof half);
      bits = (uint32_t)half << 16;
      memcpy(&narrow, &bits, sizeof narrow);
      *value = narrow;
      break;
    default:
      memcpy(&narrow, tensor.data, sizeof narrow);
      *value = narrow;
  }
  return LOSSD_OK;
}
