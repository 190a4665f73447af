/* A call as bytes: the EvaluateRequest, and the tensors behind it. */
#include "encode.h"
#include "core.h"

/* protobuf-c's form of the parts, in the core's arena. */
struct parts {
  Lossd__V1__Tensor *tensors;
  Lossd__V1__Tensor **tensor_list;
  Lossd__V1__Range *ranges;
  Lossd__V1__EvaluateRequest__AttributesEntry *entries;
  Lossd__V1__EvaluateRequest__AttributesEntry **entry_list;
  Lossd__V1__Output *outputs;
  Lossd__V1__Output **output_list;
};

static int take_parts(struct arena *arena, const lossd_call *call, struct parts *parts) {
  size_t inputs = call->input_count, attributes = call->attribute_count, outputs = call->result_count;
  parts->tensors = arena_take(arena, inputs * sizeof *parts->tensors);
  parts->tensor_list = arena_take(arena, inputs * sizeof *parts->tensor_list);
  parts->ranges = arena_take(arena, inputs * sizeof *parts->ranges);
  parts->entries = arena_take(arena, attributes * sizeof *parts->entries);
  parts->entry_list = arena_take(arena, attributes * sizeof *parts->entry_list);
  parts->outputs = arena_take(arena, outputs * sizeof *parts->outputs);
  parts->output_list = arena_take(arena, outputs * sizeof *parts->output_list);
  return parts->tensors && parts->tensor_list && parts->ranges && parts->entries && parts->entry_list &&
         parts->outputs && parts->output_list;
}

static void lay_out_inputs(lossd_call *call, struct parts *parts, Lossd__V1__EvaluateRequest *request) {
  uint64_t offset = 0;
  for (size_t index = 0; index < call->input_count; index++) {
    struct input *input = &call->inputs[index];
    Lossd__V1__Tensor *tensor = &parts->tensors[index];
    Lossd__V1__Range *range = &parts->ranges[index];
    offset = (offset + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    lossd__v1__range__init(range);
    range->offset = offset;
    range->length = input->bytes;
    offset += input->bytes;
    lossd__v1__tensor__init(tensor);
    tensor->name = input->name;
    tensor->data_type = (Lossd__V1__DataType)input->type;
    tensor->n_shape = input->rank;
    tensor->shape = input->shape;
    tensor->storage_case = LOSSD__V1__TENSOR__STORAGE_PAYLOAD;
    tensor->payload = range;
    parts->tensor_list[index] = tensor;
  }
  request->n_inputs = call->input_count;
  request->inputs = parts->tensor_list;
  call->payload_length = offset;
  call->input_bytes = 0;
  for (size_t index = 0; index < call->input_count; index++) call->input_bytes += call->inputs[index].bytes;
}

/* A batch of a stream names its inputs alone. */
static void lay_out_rest(lossd_call *call, struct parts *parts, Lossd__V1__EvaluateRequest *request) {
  request->function = call->function;
  for (size_t index = 0; index < call->attribute_count; index++) {
    lossd__v1__evaluate_request__attributes_entry__init(&parts->entries[index]);
    parts->entries[index].key = call->attributes[index].name;
    parts->entries[index].value = &call->attributes[index].value;
    parts->entry_list[index] = &parts->entries[index];
  }
  request->n_attributes = call->attribute_count;
  request->attributes = parts->entry_list;
  for (size_t index = 0; index < call->result_count; index++) {
    if (!call->results[index].is_asked) continue;
    Lossd__V1__Output *output = &parts->outputs[request->n_outputs];
    lossd__v1__output__init(output);
    output->name = call->results[index].name;
    parts->output_list[request->n_outputs++] = output;
  }
  request->outputs = parts->output_list;
}

/* Where results go is said by region, offset and length; an empty tensor is nowhere. */
int call_encode_shared(lossd_call *call, const struct place_in *places) {
  struct arena *arena = &call->core->arena;
  struct parts parts;
  Lossd__V1__EvaluateRequest request = LOSSD__V1__EVALUATE_REQUEST__INIT;
  arena_reset(arena);
  Lossd__V1__SharedRange *ranges = arena_take(arena, (call->input_count + call->result_count) * sizeof *ranges);
  if (ranges == NULL || !take_parts(arena, call, &parts)) return 0;
  lay_out_inputs(call, &parts, &request);
  for (size_t index = 0; index < call->input_count; index++) {
    Lossd__V1__Tensor *tensor = &parts.tensors[index];
    lossd__v1__shared_range__init(&ranges[index]);
    ranges[index].region = places[index].region;
    ranges[index].offset = places[index].offset;
    ranges[index].length = call->inputs[index].bytes;
    tensor->storage_case = LOSSD__V1__TENSOR__STORAGE__NOT_SET;
    if (ranges[index].length == 0) continue;
    tensor->storage_case = LOSSD__V1__TENSOR__STORAGE_SHARED;
    tensor->shared = &ranges[index];
  }
  if (call->function != NULL) lay_out_rest(call, &parts, &request);
  ranges += call->input_count;
  for (size_t index = 0, output = 0; call->function != NULL && index < call->result_count; index++) {
    const struct result *result = &call->results[index];
    if (!result->is_asked) continue;
    Lossd__V1__Output *wanted = parts.output_list[output++];
    if (result->into_bytes == 0) continue;
    const struct segment *segment = result->place;
    lossd__v1__shared_range__init(&ranges[index]);
    ranges[index].region = segment->number;
    ranges[index].offset = segment_offset(segment, segment->base + result->into);
    ranges[index].length = result->into_bytes;
    wanted->into = &ranges[index];
  }
  return bytes_pack(&call->shared_message, &request.base);
}

lossd_code call_encode(lossd_call *call, lossd_error *error) {
  if (call->is_encoded) return LOSSD_OK;
  struct arena *arena = &call->core->arena;
  struct parts parts;
  Lossd__V1__EvaluateRequest request = LOSSD__V1__EVALUATE_REQUEST__INIT;
  arena_reset(arena);
  if (!take_parts(arena, call, &parts)) return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for the request");
  lay_out_inputs(call, &parts, &request);
  if (call->function != NULL) lay_out_rest(call, &parts, &request);
  call->is_encoded = bytes_pack(&call->message, &request.base);
  if (!call->is_encoded) return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for the request");
  return LOSSD_OK;
}

int call_encode_before(lossd_call *call, const Lossd__V1__Summary *summary) {
  Lossd__V1__EvaluateRequest request = LOSSD__V1__EVALUATE_REQUEST__INIT;
  Lossd__V1__Summary part = *summary, *parts[] = {&part};
  part.n_values = 0; /* the next daemon says its own */
  request.n_summaries = 1;
  request.summaries = parts;
  return bytes_pack(&call->before, &request.base);
}

int put_request(struct output *output, uint32_t stream, lossd_call *call, const lossd_call *head, uint64_t batch,
                int is_last) {
  /* The batch's id is field 5, a varint, behind the message that is kept. */
  unsigned char id[11];
  size_t id_length = 0;
  if (batch != UINT64_MAX && batch != 0) {
    id[id_length++] = 5 << 3;
    do {
      id[id_length++] = (unsigned char)((batch & 127) | (batch > 127 ? 128 : 0));
      batch >>= 7;
    } while (batch > 0);
  }
  const struct bytes *message = call->is_shared ? &call->shared_message : &call->message;
  size_t borrowed = call->is_shared ? 0 : call->input_count;
  size_t head_length = head == NULL ? 0 : head->message.length;
  size_t length = head_length + message->length + call->before.length + id_length;
  if (!output_reserve(output, FRAME_HEADER + length + borrowed * ALIGNMENT, 1 + 2 * borrowed)) return 0;
  struct frame frame = {call->is_shared ? 0 : (uint32_t)call->payload_length, (uint32_t)length, stream, FRAME_MESSAGE,
                        is_last ? FLAG_END_STREAM : 0};
  unsigned char *to = output_append(output, FRAME_HEADER + length);
  frame_write(to, &frame);
  to += FRAME_HEADER;
  if (head_length > 0) memcpy(to, head->message.base, head_length);
  to += head_length;
  memcpy(to, message->base, message->length);
  to += message->length;
  memcpy(to, id, id_length);
  if (call->before.length > 0) memcpy(to + id_length, call->before.base, call->before.length);
  uint64_t offset = 0;
  for (size_t index = 0; index < borrowed; index++) {
    size_t gap = (size_t)(-offset % ALIGNMENT);
    if (gap > 0) memset(output_append(output, gap), 0, gap);
    output_borrow(output, call->inputs[index].data, call->inputs[index].bytes, call);
    offset += gap + call->inputs[index].bytes;
  }
  call->queued_until = output->written + output->pending;
  return 1;
}
