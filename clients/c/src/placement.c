/* Which tensors of a call lie in shared memory, and what its daemon knows of that memory. */
#include "internal.h"

#include <fcntl.h>
#include <unistd.h>

/* ---- Regions ---- */

static struct region *find_region(struct connection *connection, uint64_t number) {
  for (size_t index = 0; index < connection->region_count; index++) {
    if (connection->regions[index].number == number) return &connection->regions[index];
  }
  return NULL;
}

/* Whether the daemon knows the segment; LATER: it has been told just now. */
static enum placement ask_region(struct connection *connection, const struct segment *segment) {
  struct region *region = find_region(connection, segment->number);
  if (region != NULL) return region->is_known ? PLACED_SHARED : PLACED_LATER;
  if (connection->region_refused != 0 && segment->size >= connection->region_refused) return PLACED_IN_PAYLOAD;
  struct region *larger =
      grown(connection->regions, connection->region_count, &connection->region_capacity, sizeof *larger);
  if (larger == NULL) return PLACED_IN_PAYLOAD;
  connection->regions = larger;
  /* The segment may be gone before this is written. */
  int descriptor = fcntl(segment->descriptor, F_DUPFD_CLOEXEC, 3);
  if (descriptor < 0) return PLACED_IN_PAYLOAD;
  if (!put_region(&connection->output, FRAME_REGION, segment->number, segment->size, descriptor)) {
    close(descriptor);
    return PLACED_IN_PAYLOAD;
  }
  struct region added = {segment->number, segment->size, 0};
  larger[connection->region_count++] = added;
  return PLACED_LATER;
}

lossd_code region_answered(struct connection *connection, uint64_t number, int is_taken, lossd_error *error) {
  struct region *region = find_region(connection, number);
  if (region == NULL || region->is_known) {
    return fail(error, LOSSD_INTERNAL, "an answer to a REGION that was not sent");
  }
  const struct segment *segment = connection->client->segments;
  while (segment != NULL && segment->number != number) segment = segment->next;
  if (is_taken) {
    region->is_known = 1;
    if (segment == NULL) region_forget(connection, number); /* it went meanwhile */
  } else {
    size_t size = region->size;
    if (connection->region_refused == 0 || size < connection->region_refused) connection->region_refused = size;
    *region = connection->regions[--connection->region_count];
  }
  return LOSSD_OK;
}

void region_forget(struct connection *connection, uint64_t number) {
  struct region *region = find_region(connection, number);
  if (region == NULL || !region->is_known) return; /* one that is not answered goes with the connection */
  *region = connection->regions[--connection->region_count];
  if (!connection->is_closed && !connection->cannot_write) {
    put_region(&connection->output, FRAME_RELEASE, number, 0, -1);
  }
}

/* ---- Tensors ---- */

static int is_floating(lossd_type type) { return type >= LOSSD_FLOAT32 && type <= LOSSD_BFLOAT16; }

static int has_attribute(const lossd_call *call, const char *name) {
  for (size_t index = 0; index < call->attribute_count; index++) {
    if (strcmp(call->attributes[index].name, name) == 0) return 1;
  }
  return 0;
}

/* Bytes of a result whose size is known beforehand: gradients are like their inputs, the activations' output is like
 * theirs. 0: it is not known. */
static size_t expected_bytes(const lossd_call *call, const char *name) {
  const char *like = strncmp(name, "grad.", 5) == 0 ? name + 5 : NULL;
  if (strcmp(name, "output") == 0 && call->function != NULL && !has_attribute(call, "dtype") &&
      (strcmp(call->function, "sigmoid") == 0 || strcmp(call->function, "softmax") == 0 ||
       strcmp(call->function, "log_softmax") == 0)) {
    like = "input";
  }
  const struct input *input = like == NULL ? NULL : call_find_input(call, like);
  return input != NULL && is_floating(input->type) ? input->bytes : 0;
}

/* Where each input lies: in the user's shared memory, or at an offset of the call's own segment. */
static size_t lay_out(lossd_call *call, struct place_in *places, int *has_shared) {
  size_t size = 0;
  for (size_t index = 0; index < call->input_count; index++) {
    const struct input *input = &call->inputs[index];
    const struct segment *segment =
        input->bytes == 0 ? NULL : segment_find(call->client, input->data, input->bytes);
    if (segment != NULL) {
      places[index].region = segment->number;
      places[index].offset = (uint64_t)((const unsigned char *)input->data - segment->base);
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

static struct segment *fitting(lossd_client *client, struct segment *segment, size_t size) {
  if (segment != NULL && (segment->size < size || segment->is_tainted || segment->uses > 0)) {
    segment_leave(client, segment);
    segment = NULL;
  }
  return segment != NULL ? segment : segment_take(client, size);
}

/* Where results go: to the user's shared memory, or to segments of their own. */
static void place_results(lossd_call *call, int has_results) {
  for (size_t index = 0; index < call->result_count; index++) {
    struct result *result = &call->results[index];
    result->into_bytes = 0;
    if (!has_results || !result->is_asked) continue;
    size_t bytes = expected_bytes(call, result->name);
    struct segment *users = result->given == NULL ? NULL
                                                  : segment_find(call->client, result->given,
                                                                 bytes != 0 ? bytes : result->given_bytes);
    if (users != NULL && bytes == 0) bytes = result->given_bytes;
    if (bytes == 0 || (result->given != NULL && bytes > result->given_bytes)) continue;
    if (users != NULL) {
      if (result->segment != NULL) segment_leave(call->client, result->segment);
      result->segment = NULL;
      result->into = (size_t)((unsigned char *)result->given - users->base);
      result->into_bytes = bytes;
    } else if (bytes >= call->client->shared_min) {
      result->segment = fitting(call->client, result->segment, bytes);
      result->into = 0;
      result->into_bytes = result->segment == NULL ? 0 : bytes;
    }
  }
}

/* The segment that a result goes to. */
static struct segment *segment_of(const lossd_call *call, const struct result *result) {
  return result->segment != NULL ? result->segment : segment_find(call->client, result->given, result->into_bytes);
}

/* All that the call uses; 0 without memory. */
static int collect(lossd_call *call, const struct place_in *places) {
  for (size_t index = 0; index < call->input_count; index++) {
    const struct input *input = &call->inputs[index];
    if (input->bytes == 0) continue;
    struct segment *segment =
        places[index].region == 0 ? call->segment : segment_find(call->client, input->data, input->bytes);
    if (!uses_add(&call->uses, segment)) return 0;
  }
  for (size_t index = 0; index < call->result_count; index++) {
    const struct result *result = &call->results[index];
    if (result->into_bytes > 0 && !uses_add(&call->uses, segment_of(call, result))) return 0;
  }
  return 1;
}

static void copy_inputs(lossd_call *call, struct place_in *places) {
  for (size_t index = 0; index < call->input_count; index++) {
    const struct input *input = &call->inputs[index];
    if (places[index].region != 0) continue;
    if (input->bytes > 0) memcpy(call->segment->base + places[index].offset, input->data, input->bytes);
    places[index].region = call->segment == NULL ? 0 : call->segment->number;
  }
}

enum placement place_call(struct connection *connection, lossd_call *call, int has_results) {
  lossd_client *client = call->client;
  struct place_in places[SHARED_INPUTS_MAX];
  call->is_shared = 0;
  if (client->address.path == NULL || call->input_count > SHARED_INPUTS_MAX || call->listed != NULL) {
    return PLACED_IN_PAYLOAD;
  }
  int has_shared = 0;
  size_t size = lay_out(call, places, &has_shared);
  if (!has_shared && call->input_bytes < client->shared_min) return PLACED_IN_PAYLOAD;
  if (!connection->has_hello) return PLACED_LATER;
  if (!connection->has_shared_memory) return PLACED_IN_PAYLOAD;
  if (size > 0) {
    call->segment = fitting(client, call->segment, size);
    if (call->segment == NULL) return PLACED_IN_PAYLOAD;
  }
  place_results(call, has_results && !call->has_no_into);
  enum placement placement = collect(call, places) ? PLACED_SHARED : PLACED_IN_PAYLOAD;
  for (size_t index = 0; index < call->uses.count; index++) {
    enum placement one = ask_region(connection, call->uses.list[index]);
    if (placement == PLACED_SHARED || one == PLACED_IN_PAYLOAD) placement = one;
  }
  if (placement == PLACED_SHARED) {
    copy_inputs(call, places);
    if (!call_encode_shared(call, places)) placement = PLACED_IN_PAYLOAD;
  }
  call->is_shared = placement == PLACED_SHARED;
  if (!call->is_shared) {
    uses_end(client, &call->uses, 1);
    for (size_t index = 0; index < call->result_count; index++) call->results[index].into_bytes = 0;
  }
  return placement;
}
