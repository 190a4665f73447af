/* Which tensors of a call lie in shared memory. */
#include "placement.h"
#include "core.h"
#include "encode.h"

/* ---- Tensors ---- */

static int is_floating(lossd_type type) { return type >= LOSSD_FLOAT32 && type <= LOSSD_BFLOAT16; }

static int has_attribute(const lossd_call *call, const char *name) {
  for (size_t index = 0; index < call->attribute_count; index++) {
    if (strcmp(call->attributes[index].name, name) == 0) return 1;
  }
  return 0;
}

/* Bytes of a result whose size is thought to be known beforehand: a gradient is like its input, and `output` is like
 * `input` unless the request asks for another type. The daemon refuses a place of another size, and the call is then
 * sent again without places. 0: it is not known. */
static size_t expected_bytes(const lossd_call *call, const char *name) {
  const char *like = strncmp(name, "grad.", 5) == 0 ? name + 5 : NULL;
  if (strcmp(name, "output") == 0 && !has_attribute(call, "dtype")) like = "input";
  const struct input *input = like == NULL ? NULL : call_find_input(call, like);
  return input != NULL && is_floating(input->type) ? input->bytes : 0;
}

/* Where each input lies: in the user's shared memory, or at an offset of the call's own segment. */
static size_t lay_out(struct connection *connection, lossd_call *call, struct place_in *places, int *has_shared) {
  size_t size = 0;
  for (size_t index = 0; index < call->input_count; index++) {
    const struct input *input = &call->inputs[index];
    const struct segment *segment =
        input->bytes == 0 ? NULL : segment_find(call->core, connection, input->data, input->bytes);
    if (segment != NULL) {
      places[index].region = segment->number;
      places[index].offset = segment_offset(segment, input->data);
      *has_shared = 1;
      continue;
    }
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    places[index].region = 0;
    places[index].offset = size;
    size += input->bytes;
  }
  return size;
}

static struct segment *fitting(struct connection *connection, struct segment *segment, size_t size) {
  if (segment != NULL && (segment->connection != connection || segment->size < size || segment->is_tainted ||
                          segment->uses > 0)) {
    segment_leave(connection->core, segment);
    segment = NULL;
  }
  return segment != NULL ? segment : segment_take(connection, size);
}

/* Where results go: to the user's shared memory, or to segments of their own. */
static void place_results(struct connection *connection, lossd_call *call, int has_results, size_t min) {
  for (size_t index = 0; index < call->result_count; index++) {
    struct result *result = &call->results[index];
    result->into_bytes = 0;
    if (!has_results || !result->is_asked) continue;
    size_t bytes = expected_bytes(call, result->name);
    struct segment *users = result->given == NULL ? NULL
                                                  : segment_find(call->core, connection, result->given,
                                                                 bytes != 0 ? bytes : result->given_bytes);
    if (users != NULL && bytes == 0) bytes = result->given_bytes;
    if (bytes == 0 || (result->given != NULL && bytes > result->given_bytes)) continue;
    if (users != NULL) {
      if (result->segment != NULL) segment_leave(call->core, result->segment);
      result->segment = NULL;
      result->place = users;
      users->is_written = 1;
      result->into = (size_t)((unsigned char *)result->given - users->base);
      result->into_bytes = bytes;
    } else if (bytes >= min / 2) { /* a call that is shared is not quick with a payload */
      result->segment = fitting(connection, result->segment, bytes);
      result->place = result->segment;
      result->into = 0;
      result->into_bytes = result->segment == NULL ? 0 : bytes;
      if (result->segment != NULL) result->segment->has_result = result->given == NULL;
    }
  }
}

/* All that the call uses; 0 without memory. */
static int collect(lossd_call *call, const struct place_in *places) {
  for (size_t index = 0; index < call->input_count; index++) {
    const struct input *input = &call->inputs[index];
    if (input->bytes == 0) continue;
    struct segment *segment =
        places[index].region == 0 ? call->segment : segment_find(call->core, NULL, input->data, input->bytes);
    if (!uses_add(&call->uses, segment)) return 0;
  }
  for (size_t index = 0; index < call->result_count; index++) {
    const struct result *result = &call->results[index];
    if (result->into_bytes > 0 && !uses_add(&call->uses, result->place)) return 0;
  }
  return 1;
}

static void copy_inputs(lossd_call *call, struct place_in *places) {
  for (size_t index = 0; index < call->input_count; index++) {
    const struct input *input = &call->inputs[index];
    if (places[index].region != 0) continue;
    if (call->segment == NULL) continue; /* of inputs without elements */
    unsigned char *to = call->segment->base + places[index].offset;
    if (input->bytes > 0) memcpy(to, input->data, input->bytes);
    places[index].region = call->segment->number;
    places[index].offset = segment_offset(call->segment, to);
  }
}

enum placement place_call(struct connection *connection, lossd_call *call, int has_results) {
  struct core *core = call->core;
  struct place_in places[SHARED_INPUTS_MAX];
  call->is_shared = 0;
  if (!core->is_local || call->input_count > SHARED_INPUTS_MAX || call->kind == CALL_RAW) {
    return PLACED_IN_PAYLOAD;
  }
  int has_shared = 0;
  size_t size = lay_out(connection, call, places, &has_shared);
  /* What need not be copied is worth it sooner. */
  size_t min = has_shared ? core->shared_min / 2 : core->shared_min;
  if (call->input_bytes < min) return PLACED_IN_PAYLOAD;
  if (!connection->has_hello) return PLACED_LATER;
  if (!connection->has_shared_memory) return PLACED_IN_PAYLOAD;
  if (size > 0) {
    call->segment = fitting(connection, call->segment, size);
    if (call->segment == NULL) return PLACED_IN_PAYLOAD;
  }
  place_results(connection, call, has_results && !call->has_no_into, min);
  enum placement placement = collect(call, places) ? PLACED_SHARED : PLACED_IN_PAYLOAD;
  for (size_t index = 0; index < call->uses.count; index++) {
    if (placement == PLACED_SHARED && call->uses.list[index]->state == SEGMENT_ASKED) placement = PLACED_LATER;
  }
  if (placement == PLACED_SHARED) {
    copy_inputs(call, places);
    if (!call_encode_shared(call, places)) placement = PLACED_IN_PAYLOAD;
  }
  call->is_shared = placement == PLACED_SHARED;
  if (!call->is_shared) {
    uses_end(core, &call->uses, 1);
    for (size_t index = 0; index < call->result_count; index++) call->results[index].into_bytes = 0;
  }
  return placement;
}
