/* A data set as its caller sees it; leg.c has what goes over the wire. */
#include "stream.h"
#include "core.h"
#include "encode.h"
#include "functions.h"
#include "leg.h"
#include "life.h"

#include <math.h>

int stream_keeps(const lossd_stream *stream, const char *name) {
  for (size_t index = 0; index < stream->kept_count; index++) {
    if (strcmp(stream->kept[index], name) == 0) return 1;
  }
  return 0;
}

/* ---- Beginning and end ---- */

/* The first call's function, attributes, outputs and inputs. */
static lossd_code copy_first(lossd_call *head, const lossd_call *first, lossd_error *error) {
  for (size_t index = 0; index < first->input_count; index++) {
    const struct input *input = &first->inputs[index];
    lossd_call_input(head, input->name, input->type, input->rank, input->shape, input->data);
  }
  for (size_t index = 0; index < first->attribute_count; index++) {
    const struct attribute *attribute = &first->attributes[index];
    switch (attribute->value.kind_case) {
      case LOSSD__V1__VALUE__KIND_BOOL_VALUE:
        lossd_call_set_bool(head, attribute->name, attribute->value.bool_value);
        break;
      case LOSSD__V1__VALUE__KIND_INT_VALUE:
        lossd_call_set_int(head, attribute->name, attribute->value.int_value);
        break;
      case LOSSD__V1__VALUE__KIND_FLOAT_VALUE:
        lossd_call_set_double(head, attribute->name, attribute->value.float_value);
        break;
      default: lossd_call_set_string(head, attribute->name, attribute->value.string_value);
    }
  }
  for (size_t index = 0; index < first->result_count; index++) {
    if (first->results[index].is_asked) lossd_call_output(head, first->results[index].name, NULL, 0);
  }
  lossd_code code = call_check(head, error);
  return code == LOSSD_OK ? call_encode(head, error) : code;
}

/* NULL: no memory. */
static lossd_stream *make(struct core *core, const char *function) {
  lossd_stream *stream = calloc(1, sizeof *stream);
  if (stream == NULL) return NULL;
  stream->core = core;
  stream->head = call_new(core, function);
  stream->description = stream->head == NULL ? NULL : functions_ask(stream);
  stream->next = core->streams;
  core->streams = stream;
  if (stream->description != NULL) return stream;
  stream_free(stream);
  return NULL;
}

lossd_stream *stream_new(const lossd_call *first, lossd_error *error) {
  /* It changes nothing but what has been told of setters that failed. */
  lossd_code code = call_check((lossd_call *)(uintptr_t)first, error);
  if (code == LOSSD_OK && first->function == NULL) {
    code = fail(error, LOSSD_INVALID_ARGUMENT, "a stream's first call names its function");
  }
  if (code != LOSSD_OK) return NULL;
  lossd_stream *stream = make(first->core, first->function);
  if (stream == NULL) {
    fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for a stream");
    return NULL;
  }
  stream->deadline = core_after(stream->core, first->timeout_us);
  core_late_at(stream->core, stream->deadline);
  stream->description->stream = stream;
  stream->description->timeout_us = first->timeout_us;
  code = copy_first(stream->head, first, error);
  if (code == LOSSD_OK) code = call_start(stream->description, error);
  if (code == LOSSD_OK) return stream;
  stream_free(stream);
  return NULL;
}

void stream_described(lossd_stream *stream, lossd_call *description) {
  lossd_error error = description->outcome;
  if (error.code == LOSSD_OK) functions_read(stream, &description->answer, &error);
  bytes_free(&description->answer);
  for (size_t index = 0; error.code == LOSSD_OK && index < stream->head->input_count; index++) {
    const char *name = stream->head->inputs[index].name;
    if (stream_keeps(stream, name)) continue;
    fail(&error, LOSSD_INVALID_ARGUMENT, "%s: %s does not stay, it belongs to the batches", stream->head->function,
         name);
  }
  if (error.code != LOSSD_OK) {
    stream_fail(stream, error.code, "%s", error.text);
  } else {
    stream->is_ready = 1;
    source_raise(&stream->core->sources, &stream->source, CORE_READY);
  }
}

void stream_free(lossd_stream *stream) {
  if (stream == NULL) return;
  if (!stream->is_complete) stream_fail(stream, LOSSD_CANCELLED, "the stream was freed");
  for (size_t index = 0; index < stream->batch_count; index++) {
    call_finish(stream->batches[index].call, LOSSD_OK, "%s", ""); /* answered, and never taken */
  }
  lossd_stream **link = &stream->core->streams;
  while (*link != stream) link = &(*link)->next;
  *link = stream->next;
  source_drop(&stream->core->sources, &stream->source);
  if (stream->description != NULL) stream->description->stream = NULL;
  call_free(stream->description);
  call_free(stream->head);
  for (size_t index = 0; index < stream->kept_count; index++) free(stream->kept[index]);
  free(stream->kept);
  free(stream->batches);
  bytes_free(&stream->summary_message);
  bytes_free(&stream->status);
  free(stream);
}

void stream_fail(lossd_stream *stream, lossd_code code, const char *format, ...) {
  if (stream->failure.code != LOSSD_OK || stream->is_complete) return;
  char *text = stream->failure.text;
  va_list arguments;
  va_start(arguments, format);
  write_text(text, sizeof stream->failure.text, format, arguments);
  va_end(arguments);
  stream->failure.code = code;
  stream_leave(stream);
  while (stream->batch_count > stream->answered) {
    call_finish(stream->batches[--stream->batch_count].call, code, "%s", text);
  }
  source_raise(&stream->core->sources, &stream->source, CORE_FAILED);
}

void stream_forget(lossd_stream *stream, lossd_call *call) {
  size_t index = 0;
  while (stream->batches[index].call != call) index++;
  if (index >= stream->answered) {
    stream_fail(stream, LOSSD_FAILED_PRECONDITION, "a batch was freed while it was under way");
    return;
  }
  struct batch *batch = &stream->batches[index];
  memmove(batch, batch + 1, (--stream->batch_count - index) * sizeof *batch);
  stream->answered--;
  call_finish(call, LOSSD_OK, "%s", "");
}

/* ---- Batches ---- */

static lossd_code check_batch(const lossd_stream *stream, lossd_call *batch, lossd_error *error) {
  lossd_code code = call_check(batch, error);
  int has_input = 0;
  if (code != LOSSD_OK) return code;
  if (batch->core != stream->core) return fail(error, LOSSD_INVALID_ARGUMENT, "the batch is another client's");
  if (batch->function != NULL || batch->attribute_count > 0) {
    return fail(error, LOSSD_INVALID_ARGUMENT, "function and attributes are the stream's: a batch has inputs alone");
  }
  for (size_t index = 0; index < batch->input_count; index++) {
    has_input |= !stream_keeps(stream, batch->inputs[index].name);
  }
  if (!has_input) return fail(error, LOSSD_INVALID_ARGUMENT, "a batch brings an input that does not stay");
  int is_asked = 0;
  for (size_t index = 0; index < stream->head->result_count; index++) is_asked |= stream->head->results[index].is_asked;
  for (size_t index = 0; is_asked && index < batch->result_count; index++) {
    const struct result *result = &batch->results[index];
    const struct result *asked = result->is_asked ? call_find_result(stream->head, result->name) : NULL;
    if (result->is_asked && (asked == NULL || !asked->is_asked)) {
      return fail(error, LOSSD_INVALID_ARGUMENT, "%s: the stream's first call does not ask for it", result->name);
    }
  }
  return LOSSD_OK;
}

lossd_code stream_add(lossd_stream *stream, lossd_call *batch, uint64_t number, lossd_error *error) {
  if (stream->failure.code != LOSSD_OK) return fail(error, stream->failure.code, "%s", stream->failure.text);
  if (stream->is_finishing) return fail(error, LOSSD_FAILED_PRECONDITION, "the stream has been finished");
  if (!stream->is_ready) return fail(error, LOSSD_FAILED_PRECONDITION, "the stream is not ready yet");
  lossd_code code = check_batch(stream, batch, error);
  if (code == LOSSD_OK) code = call_encode(batch, error);
  if (code != LOSSD_OK) return code;
  struct batch *larger = grown(stream->batches, stream->batch_count, &stream->batch_capacity, sizeof *larger);
  if (larger == NULL) return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for a batch");
  struct batch item = {batch, number, 0};
  stream->next_number = number + 1;
  stream->batches = larger;
  larger[stream->batch_count++] = item;
  call_forget_results(batch);
  source_drop(&batch->core->sources, &batch->source);
  batch->state = CALL_IN_STREAM;
  batch->stream = stream;
  return succeed(error);
}

int stream_has_unsent(const lossd_stream *stream) {
  return stream->batch_count > stream->answered && !stream->batches[stream->batch_count - 1].is_sent;
}

lossd_call *stream_take_answered(lossd_stream *stream) {
  if (stream->answered == 0) return NULL;
  lossd_call *call = stream->batches[0].call;
  stream->answered--;
  stream->batch_count--;
  memmove(stream->batches, stream->batches + 1, stream->batch_count * sizeof *stream->batches);
  call_finish(call, LOSSD_OK, "%s", "");
  return call;
}

/* ---- The Summary ---- */

int stream_keep_summary(lossd_stream *stream, const Lossd__V1__Summary *summary) {
  lossd_summary *kept = &stream->summary;
  stream->has_summary = 1;
  kept->batches = summary->batches;
  kept->rows = summary->rows;
  kept->has_loss = 0;
  kept->loss = kept->loss_sum = kept->weight_sum = NAN;
  for (size_t index = 0; index < summary->n_values; index++) {
    if (strcmp(summary->values[index]->key, "loss") != 0) continue;
    kept->has_loss = 1;
    kept->loss = summary->values[index]->value;
  }
  for (size_t index = 0; index < summary->n_state; index++) {
    if (strcmp(summary->state[index]->key, "loss_sum") == 0) kept->loss_sum = summary->state[index]->value;
    if (strcmp(summary->state[index]->key, "weight_sum") == 0) kept->weight_sum = summary->state[index]->value;
  }
  return bytes_pack(&stream->summary_message, &summary->base) && call_encode_before(stream->head, summary);
}

lossd_code lossd_stream_summary(const lossd_stream *stream, lossd_summary *summary, lossd_error *error) {
  if (stream == NULL || summary == NULL) return fail(error, LOSSD_INVALID_ARGUMENT, "no stream, or no summary");
  if (!stream->is_complete) {
    return stream->failure.code != LOSSD_OK
               ? fail(error, stream->failure.code, "%s", stream->failure.text)
               : fail(error, LOSSD_FAILED_PRECONDITION, "the stream has not come to its end");
  }
  *summary = stream->summary;
  return succeed(error);
}
