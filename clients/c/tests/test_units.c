/* The parts of liblossd that need no daemon. */
#include "offline.h"

#include <math.h>

#include "check.h"

/* HELLO, the answers to calls 1 and 2 with a gap in the payload, the two batches, the summary: as the fuzzer's seed
 * "all" has them, read from the file that the test is given. */
static unsigned char *said;
static size_t said_count;

TEST("answers are the same in whatever pieces they come") {
  for (size_t piece = 1; piece <= said_count; piece += piece < 40 ? 1 : 37) {
    struct offline offline;
    lossd_error error;
    lossd_tensor tensor;
    lossd_call *batch;
    lossd_summary summary;
    CHECK(offline_begin(&offline));
    offline_feed(&offline, said, said_count, piece);
    CHECK(!offline.connection->is_closed && offline.connection->flight_count == 1); /* the big one */
    CHECK_CODE(LOSSD_OK, lossd_call_wait(offline.into, &error));
    CHECK_CODE(LOSSD_OK, lossd_call_wait(offline.owned, &error));
    CHECK_CODE(LOSSD_OK, lossd_call_wait(offline.list, &error));
    CHECK_NEAR(offline.buffer[0], 0.5, 0);
    CHECK_NEAR(offline.buffer[2], 0.269f, 0);
    CHECK_CODE(LOSSD_OK, lossd_call_result(offline.owned, "output", &tensor, &error));
    CHECK_NEAR(((const float *)tensor.data)[1], 0.731f, 0);
    for (int index = 0; index < 2; index++) {
      CHECK_CODE(LOSSD_OK, lossd_stream_next(offline.stream, &batch, &error));
      CHECK(batch == offline.batches[index]);
    }
    CHECK_CODE(LOSSD_OK, lossd_stream_next(offline.stream, &batch, &error));
    CHECK_CODE(LOSSD_OK, lossd_stream_summary(offline.stream, &summary, &error));
    CHECK(batch == NULL && summary.batches == 2 && summary.loss == 0.5);
    offline_end(&offline);
  }
}

TEST("a connection that ends anywhere ends every call with a text") {
  for (size_t count = 0; count < said_count; count += 3) {
    struct offline offline;
    lossd_error error;
    lossd_call *batch;
    CHECK(offline_begin(&offline));
    offline_feed(&offline, said, count, 64);
    connection_close(offline.connection, LOSSD_UNAVAILABLE, "gone");
    int well = lossd_call_wait(offline.owned, &error) == LOSSD_OK;
    CHECK(well || (error.code == LOSSD_UNAVAILABLE && strcmp(error.text, "gone") == 0));
    while (lossd_stream_next(offline.stream, &batch, &error) == LOSSD_OK && batch != NULL) {}
    CHECK(error.code == LOSSD_OK || (error.code == LOSSD_UNAVAILABLE && strcmp(error.text, "gone") == 0));
    offline_end(&offline);
  }
}

TEST("memory that is taken back while it is being written is replaced by zeros, however much") {
  struct output output;
  struct iovec vectors[4];
  static unsigned char memory[100000];
  memset(memory, 7, sizeof memory);
  output_init(&output);
  CHECK(output_reserve(&output, 10, 3));
  memset(output_append(&output, 10), 1, 10);
  output_borrow(&output, memory, sizeof memory, &vectors);
  CHECK(output.pending == 10 + sizeof memory);
  size_t used = output_vectors(&output, vectors, 4);
  CHECK(used == 2 && vectors[0].iov_len == 10 && vectors[1].iov_base == memory);
  output_advance(&output, 30);
  output_abandon(&output, &vectors, output.written + output.pending);
  size_t left = 0;
  while (output.pending > 0) {
    CHECK(output_vectors(&output, vectors, 4) == 1);
    const unsigned char *bytes = vectors[0].iov_base;
    CHECK(vectors[0].iov_len > 0 && bytes[0] == 0 && bytes[vectors[0].iov_len - 1] == 0);
    left += vectors[0].iov_len;
    output_advance(&output, vectors[0].iov_len);
  }
  CHECK(left == sizeof memory - 20);
  output_free(&output);
}

TEST("addresses") {
  const struct {
    const char *text, *path, *host, *port;
  } good[] = {{"unix:/a/b", "/a/b", NULL, NULL}, {"tcp:example", NULL, "example", "5677"},
              {"tcp:10.0.0.1:80", NULL, "10.0.0.1", "80"}, {"tcp:[::1]", NULL, "::1", "5677"},
              {"tcp:[fe80::1%lo]:65535", NULL, "fe80::1%lo", "65535"}};
  const char *const bad[] = {"unix:", "tcp:", "tcp::1", "tcp:a:", "tcp:a:x", "tcp:a:65536", "tcp:::1", "tcp:[::1",
                             "tcp:[]:1", "tcp:[::1]x", "http://a", "/run/lossd.sock"};
  struct address parsed;
  lossd_error error;
  for (size_t index = 0; index < sizeof good / sizeof *good; index++) {
    CHECK_CODE(LOSSD_OK, address_parse(good[index].text, &parsed, &error));
    CHECK(good[index].path == NULL ? parsed.path == NULL : strcmp(parsed.path, good[index].path) == 0);
    CHECK(good[index].host == NULL ? parsed.host == NULL
                                   : strcmp(parsed.host, good[index].host) == 0 &&
                                         strcmp(parsed.port, good[index].port) == 0);
    address_free(&parsed);
  }
  for (size_t index = 0; index < sizeof bad / sizeof *bad; index++) {
    CHECK_CODE(LOSSD_INVALID_ARGUMENT, address_parse(bad[index], &parsed, &error));
    CHECK(strstr(error.text, bad[index]) != NULL && strstr(error.text, "expected") != NULL);
    address_free(&parsed);
  }
  char path[200] = "unix:/";
  memset(path + 6, 'x', 150);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, address_parse(path, &parsed, &error));
  CHECK(strstr(error.text, "at most 107") != NULL);
  address_free(&parsed);
}

TEST("texts are cut between two characters") {
  lossd_error error;
  char text[2000];
  for (int shift = 0; shift < 4; shift++) {
    memset(text, 'x', sizeof text);
    for (size_t at = (size_t)shift; at + 4 < sizeof text; at += 4) memcpy(text + at, "\xF0\x9F\x98\x80", 4);
    text[sizeof text - 1] = 0;
    fail(&error, LOSSD_UNKNOWN, "%s", text);
    size_t length = strlen(error.text);
    CHECK((length - (size_t)shift) % 4 == 0 && length > sizeof error.text - 6);
  }
  CHECK(fail(NULL, LOSSD_ABORTED, "nobody reads it") == LOSSD_ABORTED);
}

TEST("names and sizes of what is no code or type") {
  CHECK(strcmp(lossd_code_name(LOSSD_OK), "OK") == 0);
  CHECK(strcmp(lossd_code_name(LOSSD_UNAUTHENTICATED), "UNAUTHENTICATED") == 0);
  CHECK(strcmp(lossd_code_name((lossd_code)99), "UNKNOWN") == 0);
  CHECK(lossd_type_size(LOSSD_INT64) == 8 && lossd_type_size(LOSSD_BOOL) == 1);
  CHECK(lossd_type_size((lossd_type)0) == 0 && lossd_type_size((lossd_type)-1) == 0);
  CHECK(strcmp(lossd_version(), LOSSD_VERSION) == 0);
}

TEST("every half value is widened exactly") {
  struct offline offline;
  CHECK(offline_begin(&offline));
  offline_feed(&offline, said, said_count, 1000);
  lossd_call *call = offline.owned;
  struct result *result = &call->results[0];
  result->tensor.bytes = 2;
  for (unsigned bits = 0; bits < 65536; bits++) {
    uint16_t half = (uint16_t)bits;
    double value, truth = ldexp(bits & 1023, -24);
    unsigned exponent = bits >> 10 & 31;
    result->tensor.data = &half;
    result->tensor.type = LOSSD_FLOAT16;
    CHECK(lossd_call_result_double(call, NULL, &value, NULL) == LOSSD_OK);
    if (exponent == 31) {
      CHECK(bits & 1023 ? isnan(value) : isinf(value) && (value < 0) == (bits >> 15));
    } else {
      if (exponent > 0) truth = ldexp((bits & 1023) + 1024, (int)exponent - 25);
      CHECK_NEAR(value, bits >> 15 ? -truth : truth, 0);
    }
    float narrow;
    uint32_t wide = bits << 16;
    memcpy(&narrow, &wide, 4);
    result->tensor.type = LOSSD_BFLOAT16;
    CHECK(lossd_call_result_double(call, NULL, &value, NULL) == LOSSD_OK);
    CHECK(isnan(narrow) ? isnan(value) : value == narrow);
  }
  offline_end(&offline);
}

/* Every way in which a setter fails, and the setter that puts it right. */
static void spoil(lossd_call *call, int way) {
  int64_t negative[] = {-1}, one[] = {1};
  switch (way) {
    case 0: lossd_call_input(call, "input", LOSSD_FLOAT32, 1, negative, NULL); break;
    case 1: lossd_call_input(call, "input", LOSSD_FLOAT32, 1, one, NULL); break;
    case 2: lossd_call_input(call, "input", (lossd_type)77, 0, NULL, NULL); break;
    case 3: lossd_call_input(call, "input", LOSSD_FLOAT32, LOSSD_RANK_MAX + 1, one, one); break;
    case 4: lossd_call_set_string(call, "reduction", NULL); break;
    default: {
      enum call_state before = call->state;
      call->state = CALL_SENT; /* as in the middle of a call */
      if (way == 5) lossd_call_input(call, "input", LOSSD_FLOAT32, 0, NULL, one);
      if (way == 6) lossd_call_set_string(call, "reduction", "sum");
      if (way == 7) lossd_call_output(call, "loss", NULL, 0);
      if (way == 8) lossd_call_set_timeout(call, 7);
      call->state = before;
    }
  }
}

static void mend(lossd_call *call, int way) {
  static const float number = 1;
  int64_t one[] = {1};
  if (way <= 3 || way == 5) lossd_call_input(call, "input", LOSSD_FLOAT32, 1, one, &number);
  if (way == 4) lossd_call_set_bool(call, "reduction", 1);
  if (way == 6) lossd_call_set_string(call, "reduction", "sum");
  if (way == 7) lossd_call_output(call, "loss", NULL, 0);
  if (way == 8) lossd_call_set_timeout(call, 0);
}

TEST("a setter that failed counts until the same thing is set right, and no longer") {
  lossd_error error;
  lossd_client *client = lossd_client_new("unix:/nonexistent", &error);
  for (int way = 0; way <= 8; way++) {
    lossd_call *call = lossd_call_new(client, "cross_entropy");
    spoil(call, way);
    CHECK(call_check(call, &error) != LOSSD_OK && error.text[0] != 0);
    lossd_call_set_double(call, "other", 1); /* another thing puts nothing right */
    CHECK(call_check(call, &error) != LOSSD_OK);
    for (int other = 0; other <= 8; other++) spoil(call, other);
    for (int other = 0; other <= 8; other++) {
      if (other != way) mend(call, other);
    }
    int same_thing = way <= 3 || way == 5 || way == 4 || way == 6;
    CHECK(same_thing || call_check(call, &error) != LOSSD_OK);
    mend(call, way);
    CHECK_CODE(LOSSD_OK, call_check(call, &error));
    CHECK_CODE(LOSSD_OK, call_encode(call, &error));
    spoil(call, way); /* and again, where it was right before */
    CHECK(call_check(call, &error) != LOSSD_OK && call_check(call, &error) != LOSSD_OK);
    mend(call, way);
    CHECK_CODE(LOSSD_OK, call_check(call, &error));
    lossd_call_free(call);
  }
  lossd_client_free(client);
}

TEST("an input that was given wrongly can be taken away, and what has no name is told once") {
  lossd_error error;
  lossd_client *client = lossd_client_new("unix:/nonexistent", &error);
  lossd_call *call = lossd_call_new(client, "cross_entropy");
  spoil(call, 0);
  lossd_call_input(call, "input", LOSSD_FLOAT32, 1, NULL, NULL);
  CHECK_CODE(LOSSD_OK, call_check(call, &error));
  lossd_call_set_string(call, NULL, "sum");
  spoil(call, 1);
  lossd_call_output(call, NULL, NULL, 0);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, call_check(call, &error));
  CHECK(strcmp(error.text, "a name is NULL") == 0);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, call_check(call, &error));
  CHECK(strcmp(error.text, "input: the data is NULL") == 0);
  mend(call, 1);
  CHECK_CODE(LOSSD_INVALID_ARGUMENT, call_check(call, &error));
  CHECK(strcmp(error.text, "a name is NULL") == 0);
  CHECK_CODE(LOSSD_OK, call_check(call, &error));
  for (int index = 0; index < 1000; index++) spoil(call, index % 9);
  CHECK(call->notes.count == 4); /* one for each thing, however often it failed */
  lossd_call_free(call);
  lossd_client_free(client);
}

int main(int count, char **arguments) {
  static unsigned char bytes[1 << 16];
  FILE *file = count > 1 ? fopen(arguments[1], "rb") : NULL;
  if (file == NULL) return 2;
  said_count = fread(bytes, 1, sizeof bytes, file) - 1;
  said = bytes + 1; /* the first byte is the fuzzer's */
  fclose(file);
  return run_tests(count, arguments);
}
