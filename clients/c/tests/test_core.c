/* The core, driven in memory: no socket, a clock that the test turns, and every byte split wherever it can be. */
#include "core.h"
#include "life.h"
#include "wire.h"

#include "check.h"

/* ---- Shared memory without a system call ---- */

enum { FILES = 16, FIRST_FILE = 1000 };
static void *files[FILES]; /* what a descriptor's memory is; it is one's own as long as it is mapped */
static int open_files, mapped_files;

static void *fake_map(int descriptor, size_t bytes) {
  void *memory = NULL;
  if (posix_memalign(&memory, 4096, bytes) != 0) return NULL;
  memset(memory, 0, bytes);
  mapped_files++;
  return files[descriptor - FIRST_FILE] = memory;
}

static int fake_keep(void *base, size_t bytes, int descriptor, uint64_t mark) {
  (void)bytes;
  return base == files[descriptor - FIRST_FILE] && memcmp(base, &mark, sizeof mark) == 0;
}

static void fake_unmap(void *base, size_t bytes) {
  (void)bytes;
  mapped_files--;
  free(base);
}

static void fake_close(int descriptor) {
  (void)descriptor;
  open_files--;
}

static const struct core_memory fake_memory = {fake_map, fake_keep, fake_unmap, fake_close};

/* ---- A driver ---- */

struct driver {
  struct core core;
  struct connection *connection; /* the newest */
  unsigned char said[1 << 16];   /* what the core has written to it */
  size_t said_count;
  size_t write_max;              /* bytes that are taken at a time */
  unsigned told[16];             /* events by kind */
  size_t told_count;
  lossd_error end; /* of the connection that closed last */
  int is_refusing; /* nobody is there to connect to */
};

static void driver_begin(struct driver *driver, int is_local) {
  memset(driver, 0, sizeof *driver);
  driver->write_max = SIZE_MAX;
  core_init(&driver->core, "nowhere", is_local, &fake_memory);
  core_set_time(&driver->core, 1000000);
}

static void driver_write(struct driver *driver) {
  struct iovec vectors[3];
  for (struct connection *item = driver->core.connections; item != NULL; item = item->next) {
    size_t used;
    while ((used = connection_vectors(item, vectors, 3)) > 0) {
      size_t taken = 0;
      for (size_t index = 0; index < used && taken < driver->write_max; index++) {
        size_t part = vectors[index].iov_len;
        if (part > driver->write_max - taken) part = driver->write_max - taken;
        if (item == driver->connection && driver->said_count + part <= sizeof driver->said) {
          memcpy(driver->said + driver->said_count, vectors[index].iov_base, part);
          driver->said_count += part;
        }
        taken += part;
      }
      connection_sent(item, taken);
    }
  }
}

/* Connects wherever that is asked for. */
static void driver_turn(struct driver *driver) {
  struct core_event event;
  core_turn(&driver->core);
  while (core_next_event(&driver->core, &event)) {
    driver->told[event.kind]++;
    driver->told_count++;
    if (event.kind == CORE_CONNECT && driver->is_refusing) {
      lossd_error error;
      fail(&error, LOSSD_UNAVAILABLE, "nobody there");
      core_refused(&driver->core, &error);
    } else if (event.kind == CORE_CONNECT) {
      driver->said_count = 0;
      driver->connection = core_connected(&driver->core, -1);
    } else if (event.kind == CORE_CLOSED) {
      struct connection *connection = event.subject;
      driver->end = connection->error;
      if (driver->connection == connection) driver->connection = NULL;
      connection_free(connection);
    }
  }
  driver_write(driver);
}

static void driver_end(struct driver *driver) { core_free(&driver->core); }

/* ---- What a daemon says ---- */

static struct output script; /* frames, built with the library's own encoder */

static void say(uint32_t stream, uint8_t type, uint8_t flags, const ProtobufCMessage *message) {
  unsigned char bytes[1024];
  size_t length = message == NULL ? 0 : protobuf_c_message_pack(message, bytes);
  if (!put_control(&script, stream, type, flags, bytes, length)) abort();
}

static void say_hello(void) {
  Lossd__V1__Hello hello = LOSSD__V1__HELLO__INIT;
  char *features[] = {(char *)"shm"};
  hello.max_streams = 64;
  hello.stream_credit = 4;
  hello.n_features = 1;
  hello.features = features;
  say(0, FRAME_HELLO, 0, &hello.base);
}

/* An answer whose tensor, of so many floats, is its payload; `batch`: -1, or the batch's id. */
static void say_answer(uint32_t stream, const char *name, const float *numbers, size_t count, int64_t batch) {
  Lossd__V1__EvaluateResponse response = LOSSD__V1__EVALUATE_RESPONSE__INIT;
  Lossd__V1__Tensor tensor = LOSSD__V1__TENSOR__INIT, *tensors[] = {&tensor};
  Lossd__V1__Range range = LOSSD__V1__RANGE__INIT;
  int64_t shape[] = {(int64_t)count};
  unsigned char bytes[256];
  range.length = count * sizeof *numbers;
  tensor.name = (char *)name;
  tensor.data_type = LOSSD__V1__DATA_TYPE__FLOAT32;
  tensor.n_shape = 1;
  tensor.shape = shape;
  tensor.storage_case = LOSSD__V1__TENSOR__STORAGE_PAYLOAD;
  tensor.payload = &range;
  response.n_outputs = 1;
  response.outputs = tensors;
  response.id = batch < 0 ? 0 : (uint64_t)batch;
  size_t length = protobuf_c_message_pack(&response.base, bytes);
  struct frame frame = {(uint32_t)range.length, (uint32_t)length, stream, FRAME_MESSAGE,
                        batch < 0 ? FLAG_END_STREAM : 0};
  if (!output_reserve(&script, FRAME_HEADER + length + range.length, 1)) abort();
  unsigned char *to = output_append(&script, FRAME_HEADER + length + range.length);
  frame_write(to, &frame);
  memcpy(to + FRAME_HEADER, bytes, length);
  memcpy(to + FRAME_HEADER + length, numbers, range.length);
}

/* That `function` has an input that stays, `weight`, and that its sums make a mean. */
static void say_list(uint32_t stream, const char *function) {
  Lossd__V1__ListFunctionsResponse list = LOSSD__V1__LIST_FUNCTIONS_RESPONSE__INIT;
  Lossd__V1__Function item = LOSSD__V1__FUNCTION__INIT, *items[] = {&item};
  Lossd__V1__FunctionInput weight = LOSSD__V1__FUNCTION_INPUT__INIT, *inputs[] = {&weight};
  Lossd__V1__FunctionAttribute reduction = LOSSD__V1__FUNCTION_ATTRIBUTE__INIT, *attributes[] = {&reduction};
  Lossd__V1__Value mean = LOSSD__V1__VALUE__INIT;
  mean.kind_case = LOSSD__V1__VALUE__KIND_STRING_VALUE;
  mean.string_value = (char *)"mean";
  weight.name = (char *)"weight";
  weight.kept = 1;
  reduction.name = reduction.role = (char *)"reduction";
  reduction.default_ = &mean;
  item.name = (char *)function;
  item.n_inputs = item.n_attributes = 1;
  item.inputs = inputs;
  item.attributes = attributes;
  list.n_functions = 1;
  list.functions = items;
  say(stream, FRAME_MESSAGE, FLAG_END_STREAM, &list.base);
}

static void say_summary(uint32_t stream, uint64_t batches, double loss_sum, double weight_sum, int is_last) {
  Lossd__V1__EvaluateResponse response = LOSSD__V1__EVALUATE_RESPONSE__INIT;
  Lossd__V1__Summary summary = LOSSD__V1__SUMMARY__INIT;
  Lossd__V1__Summary__ValuesEntry value = LOSSD__V1__SUMMARY__VALUES_ENTRY__INIT, *values[] = {&value};
  Lossd__V1__Summary__StateEntry state[2];
  Lossd__V1__Summary__StateEntry *states[] = {&state[0], &state[1]};
  value.key = (char *)"loss";
  value.value = loss_sum / weight_sum;
  lossd__v1__summary__state_entry__init(&state[0]);
  lossd__v1__summary__state_entry__init(&state[1]);
  state[0].key = (char *)"loss_sum";
  state[0].value = loss_sum;
  state[1].key = (char *)"weight_sum";
  state[1].value = weight_sum;
  summary.batches = summary.rows = batches;
  summary.n_values = 1;
  summary.values = values;
  summary.n_state = 2;
  summary.state = states;
  response.summary = &summary;
  say(stream, FRAME_MESSAGE, is_last ? FLAG_END_STREAM : 0, &response.base);
}

static void say_goaway(uint32_t last) {
  Lossd__V1__GoAway goaway = LOSSD__V1__GO_AWAY__INIT;
  goaway.last_stream_id = last;
  say(0, FRAME_GOAWAY, 0, &goaway.base);
}

static void say_status(uint32_t stream, uint32_t code, const char *text) {
  Lossd__V1__Status status = LOSSD__V1__STATUS__INIT;
  status.code = code;
  status.message = (char *)text;
  say(stream, FRAME_STATUS, 0, &status.base);
}

static void say_region(uint64_t number) {
  Lossd__V1__RegionResult region = LOSSD__V1__REGION_RESULT__INIT;
  region.region = number;
  say(0, FRAME_REGION, 0, &region.base);
}

/* Where in all that is fed a connection's bytes are split in two. */
static size_t fed, split;

/* Feeds what has been said, with descriptors in front, and turns. */
static void hear(struct driver *driver, const int *descriptors, size_t descriptor_count) {
  struct iovec vector;
  while (output_vectors(&script, &vector, 1) > 0) {
    const unsigned char *bytes = vector.iov_base;
    size_t count = vector.iov_len, first = split > fed && split < fed + count ? split - fed : count;
    if (driver->connection != NULL) connection_feed(driver->connection, bytes, first, descriptors, descriptor_count);
    driver_turn(driver);
    if (driver->connection != NULL && count > first) {
      connection_feed(driver->connection, bytes + first, count - first, NULL, 0);
    }
    driver_turn(driver);
    fed += count;
    output_advance(&script, count);
    descriptor_count = 0;
  }
}

/* ---- Calls ---- */

static const float three[3] = {0.5f, 0.25f, 0.125f};
static const int64_t shape[1] = {3};

static lossd_call *call_of(struct driver *driver, const char *function) {
  lossd_call *call = call_new(&driver->core, function);
  lossd_call_input(call, "input", LOSSD_FLOAT32, 1, shape, three);
  return call;
}

/* One of everything: a call into the caller's memory, a raw one, a data set that a second daemon goes on with. 0, or the
 * line where something is not as expected; the number of bytes that were fed is in `fed`. */
static int everything(struct driver *driver) {
  static const float answer[3] = {1, 2, 3};
  float output[3] = {0};
  lossd_error error;
  fed = 0;
  driver_begin(driver, 0);
  lossd_call *call = call_of(driver, "sigmoid");
  lossd_call *raw = call_new_raw(&driver->core, "/lossd.v1.Any/Thing", "\x0a\x01x", 3);
  lossd_call_output(call, "output", output, sizeof output);
  if (call_start(call, &error) != LOSSD_OK || call_start(raw, &error) != LOSSD_OK) return __LINE__;
  driver_turn(driver);
  if (driver->told[CORE_CONNECT] != 1 || driver->connection == NULL) return __LINE__;
  say_hello();
  say_answer(1, "output", answer, 3, -1);
  say(2, FRAME_MESSAGE, FLAG_END_STREAM, NULL);
  hear(driver, NULL, 0);
  if (driver->told[CORE_HELLO] != 1 || driver->told[CORE_RESPONSE] != 2) return __LINE__;
  if (call->outcome.code != LOSSD_OK || memcmp(output, answer, sizeof answer) != 0) return __LINE__;
  if (raw->outcome.code != LOSSD_OK || raw->answer.length != 0) return __LINE__;

  lossd_call *first = call_new(&driver->core, "mse_loss");
  lossd_stream *stream = stream_new(first, &error);
  if (stream == NULL) return __LINE__;
  driver_turn(driver);
  lossd_call *batches[3] = {call_of(driver, NULL), call_of(driver, NULL), call_of(driver, NULL)};
  if (stream_add(stream, batches[0], 0, &error) != LOSSD_FAILED_PRECONDITION) return __LINE__;
  say_list(3, "mse_loss");
  hear(driver, NULL, 0);
  if (driver->told[CORE_READY] != 1) return __LINE__;
  for (int index = 0; index < 2; index++) {
    if (stream_add(stream, batches[index], (uint64_t)index, &error) != LOSSD_OK) return __LINE__;
  }
  driver_turn(driver);
  if (driver->told[CORE_CREDIT] == 0 || stream_has_unsent(stream)) return __LINE__;
  say_answer(4, "output", answer, 3, 0);
  say_answer(4, "output", answer, 3, 1);
  hear(driver, NULL, 0);
  if (driver->told[CORE_BATCH] == 0 || stream_take_answered(stream) != batches[0]) return __LINE__;
  if (stream_take_answered(stream) != batches[1] || stream_take_answered(stream) != NULL) return __LINE__;

  /* The daemon is shut down: it says how far it came, and another one has the rest. */
  say_goaway(4);
  say_summary(4, 2, 6, 2, 0);
  say_status(4, LOSSD_UNAVAILABLE, "drained");
  hear(driver, NULL, 0);
  if (driver->told[CORE_GOAWAY] != 1 || stream->failure.code != LOSSD_OK) return __LINE__;
  if (stream_add(stream, batches[2], 2, &error) != LOSSD_OK) return __LINE__;
  stream->is_finishing = 1;
  driver_turn(driver);
  if (driver->told[CORE_CONNECT] != 2 || driver->connection == NULL || driver->told[CORE_CLOSED] != 1) return __LINE__;
  if (driver->end.code != LOSSD_OK) return __LINE__;
  say_hello(); /* before it the credit is for the head alone, which brings a Summary */
  hear(driver, NULL, 0);
  say_answer(1, "output", answer, 3, 2);
  say_summary(1, 3, 12, 3, 1);
  hear(driver, NULL, 0);
  lossd_summary summary;
  if (driver->told[CORE_SUMMARY] != 1 || stream_take_answered(stream) != batches[2]) return __LINE__;
  if (lossd_stream_summary(stream, &summary, &error) != LOSSD_OK) return __LINE__;
  if (summary.batches != 3 || summary.loss_sum != 12 || summary.loss != 4) return __LINE__;

  lossd_call *ping = call_new_ping(&driver->core);
  if (call_start(ping, &error) != LOSSD_OK) return __LINE__;
  driver_turn(driver);
  core_set_time(&driver->core, driver->core.now + 70);
  say(0, FRAME_PING, FLAG_ACK, NULL);
  hear(driver, NULL, 0);
  if (ping->outcome.code != LOSSD_OK || ping->round_trip != 70 || driver->told[CORE_FAILED] != 0) return __LINE__;
  call_free(ping);
  stream_free(stream);
  call_free(first);
  call_free(call);
  call_free(raw);
  for (int index = 0; index < 3; index++) call_free(batches[index]);
  driver_end(driver);
  return 0;
}

TEST("calls, raw calls, a data set over two daemons and a ping are the same wherever their bytes are split") {
  static struct driver driver;
  split = 0;
  int line = everything(&driver);
  if (line != 0) printf("  line %d\n", line);
  CHECK(line == 0);
  size_t count = fed;
  CHECK(count > 300);
  for (split = 1; split < count; split++) {
    line = everything(&driver);
    if (line != 0) printf("  split at %zu: line %d\n", split, line);
    CHECK(line == 0);
  }
  split = 0;
}

TEST("what is written is the same in whatever pieces it is taken") {
  static struct driver whole, pieces;
  static float big[3000];
  const int64_t sizes[1] = {3000};
  for (size_t index = 0; index < 3000; index++) big[index] = (float)index;
  size_t maxima[] = {1, 7, 16, 4096};
  for (size_t index = 0; index < 4; index++) {
    struct driver *both[] = {&whole, &pieces};
    for (int which = 0; which < 2; which++) {
      struct driver *driver = both[which];
      driver_begin(driver, 0);
      if (which == 1) driver->write_max = maxima[index];
      lossd_call *call = call_new(&driver->core, "softmax");
      lossd_call_input(call, "input", LOSSD_FLOAT32, 1, sizes, big);
      CHECK(call_start(call, NULL) == LOSSD_OK);
      driver_turn(driver);
      call_free(call);
      driver_write(driver);
      driver_end(driver);
    }
    CHECK(whole.said_count > sizeof big && whole.said_count == pieces.said_count);
    CHECK(memcmp(whole.said, pieces.said, whole.said_count) == 0);
  }
}

TEST("big tensors are written from where they lie") {
  static struct driver driver;
  static float big[3000];
  const int64_t sizes[1] = {3000};
  struct iovec vectors[8];
  int is_there = 0;
  driver_begin(&driver, 0);
  lossd_call *call = call_new(&driver.core, "softmax");
  lossd_call_input(call, "input", LOSSD_FLOAT32, 1, sizes, big);
  CHECK(call_start(call, NULL) == LOSSD_OK);
  core_feed(&driver.core);
  driver.connection = core_connected(&driver.core, -1);
  size_t used = connection_vectors(driver.connection, vectors, 8);
  for (size_t index = 0; index < used; index++) is_there |= vectors[index].iov_base == (void *)big;
  CHECK(is_there);
  call_free(call);
  used = connection_vectors(driver.connection, vectors, 8);
  for (size_t index = 0; index < used; index++) CHECK(vectors[index].iov_base != (void *)big);
  driver_end(&driver);
}

/* ---- Time ---- */

TEST("calls, streams and connections are late when the clock says so, and not before") {
  static struct driver driver;
  lossd_error error;
  driver_begin(&driver, 0);
  CHECK(core_deadline(&driver.core) == NEVER);
  lossd_call *call = call_of(&driver, "sigmoid"), *patient = call_of(&driver, "sigmoid");
  lossd_call_set_timeout(call, 300000);
  CHECK_CODE(LOSSD_OK, call_start(call, &error));
  CHECK_CODE(LOSSD_OK, call_start(patient, &error));
  driver_turn(&driver);
  CHECK(core_deadline(&driver.core) == 1000000 + 300000 + DEADLINE_GRACE_US);
  core_set_time(&driver.core, 1300000 + DEADLINE_GRACE_US - 1);
  driver_turn(&driver);
  CHECK(call_is_under_way(call));
  core_set_time(&driver.core, 1300000 + DEADLINE_GRACE_US);
  driver_turn(&driver);
  CHECK(!call_is_under_way(call) && call->outcome.code == LOSSD_DEADLINE_EXCEEDED && call_is_under_way(patient));
  /* HELLO has not come. */
  uint64_t hello = 1000000 + CONNECT_TIMEOUT_US;
  CHECK(core_deadline(&driver.core) == hello + 1);
  core_set_time(&driver.core, hello);
  driver_turn(&driver);
  CHECK(driver.told[CORE_CLOSED] == 0);
  core_set_time(&driver.core, hello + 1);
  driver_turn(&driver);
  CHECK(driver.told[CORE_CLOSED] == 1 && patient->outcome.code == LOSSD_UNAVAILABLE);
  CHECK(strstr(driver.end.text, "did not say HELLO in time") != NULL);
  CHECK(core_deadline(&driver.core) == NEVER);
  /* A stream, in which a description is under way. */
  lossd_call *first = call_new(&driver.core, "mse_loss");
  lossd_call_set_timeout(first, 100);
  lossd_stream *stream = stream_new(first, &error);
  driver_turn(&driver);
  core_set_time(&driver.core, driver.core.now + 100 + DEADLINE_GRACE_US);
  driver_turn(&driver);
  CHECK(stream->failure.code == LOSSD_DEADLINE_EXCEEDED && driver.told[CORE_FAILED] == 1);
  stream_free(stream);
  call_free(first);
  call_free(call);
  call_free(patient);
  driver_end(&driver);
}

TEST("a driver that cannot connect is asked again only for a daemon that is being restarted") {
  static struct driver driver;
  struct core *core = &driver.core;
  struct core_event event;
  lossd_error error;
  driver_begin(&driver, 0);
  lossd_call *call = call_of(&driver, "sigmoid");
  CHECK_CODE(LOSSD_OK, call_start(call, &error));
  core_feed(core);
  core_feed(core);
  CHECK(core_next_event(core, &event) && event.kind == CORE_CONNECT && !core_next_event(core, &event));
  fail(&error, LOSSD_UNAVAILABLE, "nobody there");
  core_refused(core, &error);
  CHECK(call->outcome.code == LOSSD_UNAVAILABLE && strcmp(call->outcome.text, "nobody there") == 0);
  /* One that drains. */
  CHECK_CODE(LOSSD_OK, call_start(call, &error));
  driver_turn(&driver);
  say_hello();
  say_goaway(0);
  core_set_time(core, 2000000);
  driver.is_refusing = 1;
  hear(&driver, NULL, 0);
  CHECK(call->state == CALL_PENDING && driver.told[CORE_GOAWAY] == 1 && driver.told[CORE_CONNECT] == 2);
  CHECK(core_deadline(core) == 2000000 + RETRY_PAUSE_US);
  driver_turn(&driver);
  CHECK(driver.told[CORE_CONNECT] == 2);
  core_set_time(core, 2000000 + RETRY_PAUSE_US);
  driver.is_refusing = 0;
  driver_turn(&driver);
  CHECK(driver.told[CORE_CONNECT] == 3 && call->state == CALL_SENT);
  /* What was under way when a connection broke is not sent again. */
  connection_close(driver.connection, LOSSD_UNAVAILABLE, "gone");
  CHECK(call->outcome.code == LOSSD_UNAVAILABLE && strcmp(call->outcome.text, "gone") == 0);
  call_free(call);
  driver_end(&driver);
}

TEST("where daemons come and go, one that ends before its first word is followed by the next, for a time") {
  static struct driver driver;
  struct core *core = &driver.core;
  lossd_error error;
  driver_begin(&driver, 0);
  core->tries_unheard = 1;
  lossd_call *call = call_of(&driver, "sigmoid");
  CHECK_CODE(LOSSD_OK, call_start(call, &error));
  driver_turn(&driver);
  CHECK(call->state == CALL_SENT && driver.told[CORE_CONNECT] == 1);
  /* The first is gone: at once; the second, too: after a pause. */
  connection_close(driver.connection, LOSSD_UNAVAILABLE, "gone");
  driver_turn(&driver);
  CHECK(call->state == CALL_SENT && driver.told[CORE_CONNECT] == 2 && driver.told[CORE_CLOSED] == 1);
  connection_close(driver.connection, LOSSD_UNAVAILABLE, "gone");
  driver_turn(&driver);
  CHECK(call->state == CALL_PENDING && driver.told[CORE_CONNECT] == 2);
  core_set_time(core, core->now + RETRY_PAUSE_US);
  driver_turn(&driver);
  CHECK(call->state == CALL_SENT && driver.told[CORE_CONNECT] == 3);
  /* One that has spoken is no such: what was under way there is not sent again. */
  say_hello();
  hear(&driver, NULL, 0);
  connection_close(driver.connection, LOSSD_UNAVAILABLE, "broken");
  CHECK(call->outcome.code == LOSSD_UNAVAILABLE && strcmp(call->outcome.text, "broken") == 0);
  /* Nobody says a word until the time for connecting is over. */
  CHECK_CODE(LOSSD_OK, call_start(call, &error));
  for (int step = 0; step < 1000 && call_is_under_way(call); step++) {
    driver_turn(&driver);
    if (driver.connection != NULL) connection_close(driver.connection, LOSSD_UNAVAILABLE, "gone");
    core_set_time(core, core->now + RETRY_PAUSE_US);
  }
  CHECK(call->outcome.code == LOSSD_UNAVAILABLE && strstr(call->outcome.text, "keeps shutting down") != NULL);
  call_free(call);
  driver_end(&driver);
}

/* ---- Shared memory ---- */

TEST("descriptors come with the bytes, memory is kept when its connection ends, and nothing is left open") {
  static struct driver driver;
  struct core *core = &driver.core;
  lossd_error error;
  driver_begin(&driver, 1);
  core->wants_connection = 1;
  driver_turn(&driver);
  core->wants_connection = 0;
  say_hello();
  hear(&driver, NULL, 0);
  CHECK(driver.connection->has_shared_memory);
  struct segment *segment = segment_ask(driver.connection, segment_rounded(100));
  CHECK(segment != NULL && segment->state == SEGMENT_ASKED);
  driver_turn(&driver);
  int descriptor = FIRST_FILE;
  open_files = 1;
  say_region(segment->number);
  hear(&driver, &descriptor, 1);
  CHECK(driver.told[CORE_MEMORY] == 1 && segment->state == SEGMENT_THERE && mapped_files == 1);
  memcpy(segment->base, three, sizeof three);
  /* A call whose input lies there has no payload, where it is big enough for that. */
  core->shared_min = 2 * sizeof three;
  lossd_call *call = call_new(core, "sigmoid");
  lossd_call_input(call, "input", LOSSD_FLOAT32, 1, shape, segment->base);
  CHECK_CODE(LOSSD_OK, call_start(call, &error));
  driver_turn(&driver);
  CHECK(call->is_shared && segment->uses == 1);
  connection_close(driver.connection, LOSSD_UNAVAILABLE, "gone");
  driver_turn(&driver);
  CHECK(segment->state == SEGMENT_GONE && !segment->is_lost && open_files == 0);
  CHECK(memcmp(segment->base, three, sizeof three) == 0);
  lossd_call_input(call, "input", LOSSD_FLOAT32, 1, shape, three);
  segment_leave(core, segment);
  /* A descriptor that nobody asked for. */
  CHECK_CODE(LOSSD_OK, call_start(call, &error));
  driver_turn(&driver);
  open_files = 1;
  say_hello();
  hear(&driver, &descriptor, 1);
  CHECK(open_files == 0 && strstr(driver.end.text, "a descriptor that nobody asked for") != NULL);
  call_free(call);
  driver_end(&driver);
  CHECK(mapped_files == 0);
}

TEST("a result that is given away is the user's, and before a fork it becomes ordinary memory") {
  static struct driver driver;
  struct core *core = &driver.core;
  driver_begin(&driver, 1);
  core->wants_connection = 1;
  driver_turn(&driver);
  core->wants_connection = 0;
  say_hello();
  hear(&driver, NULL, 0);
  struct result result = {.segment = segment_take(driver.connection, sizeof three)};
  struct segment *segment = result.segment;
  CHECK(segment != NULL && segment->state == SEGMENT_ASKED);
  driver_turn(&driver);
  int descriptor = FIRST_FILE;
  open_files = 1;
  say_region(segment->number);
  hear(&driver, &descriptor, 1);
  CHECK(segment_give(&result) == NULL); /* the result lies elsewhere */
  memcpy(segment->base, three, sizeof three);
  result.tensor.data = segment->base;
  CHECK(segment_find(core, driver.connection, segment->base, sizeof three) == NULL);
  CHECK(segment_give(&result) == segment && result.segment == NULL);
  CHECK(segment_find(core, driver.connection, segment->base, sizeof three) == segment);
  /* One that a call writes to follows when the call has ended. */
  struct uses uses = {NULL, 0, 0};
  CHECK(uses_add(&uses, segment));
  segment->is_written = 1;
  segments_keep(core);
  CHECK(segment->state == SEGMENT_THERE && open_files == 1);
  uses_end(core, &uses, 1);
  uses_free(&uses);
  CHECK(segment->state == SEGMENT_GONE && !segment->is_lost && open_files == 0 && mapped_files == 1);
  CHECK(memcmp(segment->base, three, sizeof three) == 0 && !driver.connection->is_closed);
  CHECK(segment_find(core, driver.connection, segment->base, sizeof three) == NULL);
  CHECK(driver.connection->output.pending > 0); /* the daemon is told that it is used no more */
  segment_leave(core, segment);
  CHECK(mapped_files == 0 && core->segment_count == 0);
  driver_end(&driver);
}

TEST("a big segment is asked for beyond the total of the small ones") {
  static struct driver driver;
  struct core *core = &driver.core;
  driver_begin(&driver, 1);
  core->wants_connection = 1;
  driver_turn(&driver);
  core->wants_connection = 0;
  say_hello();
  hear(&driver, NULL, 0);
  core->shared_max = 1 << 20;
  CHECK(segment_take(driver.connection, 900 << 10) != NULL);
  CHECK(segment_take(driver.connection, 900 << 10) == NULL && segment_take(driver.connection, 2 << 20) == NULL);
  CHECK(segment_take(driver.connection, SEGMENT_ALONE) != NULL);
  driver_end(&driver);
}

/* ---- Parts and pings ---- */

TEST("a part has its results and then its Summary, and only those") {
  static const float answer[3] = {1, 2, 3};
  for (int wrong = 0; wrong < 5; wrong++) {
    static struct driver driver;
    lossd_error error;
    driver_begin(&driver, 0);
    lossd_call *part = call_new_part(&driver.core, "mse_loss", 7, "\x32\x02\x08\x03", 4); /* a Summary of 3 batches */
    if (wrong != 4) lossd_call_input(part, "input", LOSSD_FLOAT32, 1, shape, three);
    CHECK_CODE(LOSSD_OK, call_start(part, &error));
    driver_turn(&driver);
    CHECK(memmem(driver.said, driver.said_count, "\x28\x07\x32\x02\x08\x03", 6) != NULL); /* its id, and what was before */
    say_hello();
    if (wrong != 1) say_answer(1, "output", answer, 3, 7);
    if (wrong == 2) say_answer(1, "output", answer, 3, 7);
    say_summary(1, 1, 6, 2, wrong != 3);
    hear(&driver, NULL, 0);
    if (wrong == 0) {
      CHECK(part->outcome.code == LOSSD_OK && part->answer.length > 0);
      CHECK(memcmp(call_find_result(part, "output")->tensor.data, answer, sizeof answer) == 0);
    } else {
      CHECK(part->outcome.code == LOSSD_INTERNAL);
    }
    CHECK(!driver.connection->is_closed);
    call_free(part);
    driver_end(&driver);
  }
}

TEST("a ping that is late, or whose connection ends, says so, and the next one is still answered") {
  static struct driver driver;
  struct core *core = &driver.core;
  lossd_error error;
  driver_begin(&driver, 0);
  lossd_call *pings[3] = {call_new_ping(core), call_new_ping(core), call_new_ping(core)};
  pings[0]->timeout_us = 1000;
  CHECK_CODE(LOSSD_OK, call_start(pings[0], &error));
  driver_turn(&driver);
  CHECK(pings[0]->state == CALL_PENDING); /* not before HELLO */
  say_hello();
  hear(&driver, NULL, 0);
  driver_turn(&driver);
  CHECK(pings[0]->state == CALL_SENT);
  CHECK_CODE(LOSSD_OK, call_start(pings[1], &error));
  driver_turn(&driver);
  core_set_time(core, core->now + 1000 + DEADLINE_GRACE_US);
  core_turn(core);
  CHECK(pings[0]->outcome.code == LOSSD_DEADLINE_EXCEEDED && pings[1]->state == CALL_SENT);
  say(0, FRAME_PING, FLAG_ACK, NULL); /* the first one's, late */
  hear(&driver, NULL, 0);
  CHECK(pings[1]->state == CALL_SENT);
  say(0, FRAME_PING, FLAG_ACK, NULL);
  hear(&driver, NULL, 0);
  CHECK(pings[1]->outcome.code == LOSSD_OK && pings[1]->round_trip == 1000 + DEADLINE_GRACE_US);
  CHECK_CODE(LOSSD_OK, call_start(pings[2], &error));
  driver_turn(&driver);
  connection_close(driver.connection, LOSSD_UNAVAILABLE, "gone");
  CHECK(pings[2]->outcome.code == LOSSD_UNAVAILABLE && strcmp(pings[2]->outcome.text, "gone") == 0);
  for (int index = 0; index < 3; index++) call_free(pings[index]);
  driver_end(&driver);
}

/* ---- Hostile bytes ---- */

static uint32_t seed = 12345;

static uint32_t dice(uint32_t sides) {
  seed = seed * 1664525u + 1013904223u;
  return (seed >> 8) % sides;
}

TEST("bytes that are changed anywhere end as answers or errors, with few events, and nothing grows") {
  static struct driver driver;
  static const float answer[3] = {1, 2, 3};
  unsigned char bytes[4096];
  struct iovec vector;
  say_hello();
  say_answer(1, "output", answer, 3, -1);
  say_status(2, LOSSD_NOT_FOUND, "no");
  say_goaway(2);
  CHECK(output_vectors(&script, &vector, 1) == 1 && vector.iov_len <= sizeof bytes);
  size_t count = vector.iov_len;
  for (int round = 0; round < 3000; round++) {
    memcpy(bytes, vector.iov_base, count);
    for (uint32_t change = dice(4); change < 4; change++) bytes[dice((uint32_t)count)] = (unsigned char)dice(256);
    driver_begin(&driver, 1);
    lossd_call *calls[] = {call_of(&driver, "sigmoid"), call_of(&driver, "relu")};
    for (int index = 0; index < 2; index++) CHECK(call_start(calls[index], NULL) == LOSSD_OK);
    driver_turn(&driver);
    struct connection *connection = driver.connection;
    for (size_t at = 0, part; at < count && driver.connection == connection; at += part) {
      part = 1 + dice((uint32_t)(count - at));
      connection_feed(connection, bytes + at, part, NULL, 0);
      driver_turn(&driver);
    }
    if (driver.connection == connection) connection_close(connection, LOSSD_UNAVAILABLE, "over");
    driver_turn(&driver);
    CHECK(driver.told_count < 20);
    for (int index = 0; index < 2; index++) {
      const lossd_error *outcome = &calls[index]->outcome;
      CHECK(call_is_under_way(calls[index]) || outcome->code == LOSSD_OK || outcome->text[0] != 0);
      call_free(calls[index]);
    }
    driver_end(&driver);
  }
  output_advance(&script, count);
}

int main(int count, char **arguments) {
  output_init(&script);
  int result = run_tests(count, arguments);
  output_free(&script);
  return result;
}
