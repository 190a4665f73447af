/* A stream's calls of EvaluateStream: one, or one after another when daemons come and go. Every batch that has no
 * answer yet is sent again on the next; those that have one are in the Summary with which the last daemon ended. */
#include "leg.h"
#include "core.h"
#include "encode.h"
#include "life.h"
#include "placement.h"
#include "response.h"

const char stream_method[] = "/lossd.v1.Evaluator/EvaluateStream";
#define FRUITLESS_MAX 100 /* calls in a row that end without having answered a batch */

int stream_wants_connection(const lossd_stream *stream) {
  return stream->connection == NULL && stream->is_ready && !stream->is_complete && stream->failure.code == LOSSD_OK &&
         (stream->batch_count > stream->answered || stream->is_finishing);
}

/* ---- Sending ---- */

static int open_leg(lossd_stream *stream, struct connection *connection) {
  uint64_t now = stream->deadline == NEVER ? 0 : stream->core->now;
  if (stream->deadline != NEVER && now >= stream->deadline) {
    stream_fail(stream, LOSSD_DEADLINE_EXCEEDED, "the timeout was over before the stream could be sent");
    return 0;
  }
  uint32_t id = connection_open_flight(connection, FLIGHT_STREAM, stream);
  if (id == 0) return 0;
  if (!put_open(&connection->output, id, stream_method, stream->deadline == NEVER ? 0 : stream->deadline - now)) {
    connection_drop_flight(connection, id);
    stream_fail(stream, LOSSD_RESOURCE_EXHAUSTED, "no memory to send the stream");
    return 0;
  }
  stream->connection = connection;
  stream->id = id;
  stream->credit = connection->stream_credit;
  stream->is_credit_early = !connection->has_hello;
  stream->is_head_sent = stream->is_half_closed = 0;
  stream->arriving = ARRIVES_NOTHING;
  stream->has_summary = 0;
  return 1;
}

/* Whether it was sent; if not, it waits for credit, HELLO or the socket, or the stream has failed. `head`: see
 * put_request. */
static int send_request(lossd_stream *stream, lossd_call *call, const lossd_call *head, uint64_t number) {
  struct connection *connection = stream->connection;
  lossd_error error;
  if (stream->credit == 0 || connection->output.pending >= OUTPUT_HIGH) return 0;
  if (place_call(connection, call, 0) == PLACED_LATER) return 0;
  int fits = connection_fits(connection, call, head, &error);
  if (fits < 0) stream_fail(stream, error.code, "batch %llu: %s", (unsigned long long)number, error.text);
  if (fits <= 0) return 0;
  if (!put_request(&connection->output, stream->id, call, head, number, 0)) {
    stream_fail(stream, LOSSD_RESOURCE_EXHAUSTED, "no memory to send a batch");
    return 0;
  }
  call->connection = connection;
  stream->credit--;
  return 1;
}

void stream_feed(lossd_stream *stream, struct connection *current) {
  if (stream->connection == NULL) {
    if (current == NULL || !stream_wants_connection(stream) || !open_leg(stream, current)) return;
  }
  if (stream->connection->cannot_write || stream->is_complete) return;
  const lossd_call *head = NULL;
  if (!stream->is_head_sent) {
    if (call_encode(stream->head, NULL) != LOSSD_OK) {
      stream_fail(stream, LOSSD_RESOURCE_EXHAUSTED, "no memory for the stream's first request");
      return;
    }
    /* It goes with the first batch where it brings nothing that counts for that. */
    if (stream->head->input_count == 0 && stream->head->before.length == 0 && stream_has_unsent(stream)) {
      head = stream->head;
    } else if (!send_request(stream, stream->head, NULL, 0)) {
      return;
    }
    stream->is_head_sent = head == NULL;
  }
  for (size_t index = stream->answered; index < stream->batch_count; index++) {
    struct batch *batch = &stream->batches[index];
    if (batch->is_sent) continue;
    if (!send_request(stream, batch->call, head, batch->number)) return;
    stream->is_head_sent = 1;
    head = NULL;
    batch->is_sent = 1;
    source_raise(&stream->core->sources, &stream->source, CORE_CREDIT);
  }
  if (stream->is_finishing && !stream->is_half_closed) {
    stream->is_half_closed =
        put_control(&stream->connection->output, stream->id, FRAME_MESSAGE, FLAG_END_STREAM, NULL, 0);
  }
}

void stream_hello(lossd_stream *stream, const struct connection *connection) {
  if (stream->connection != connection || !stream->is_credit_early) return;
  stream->is_credit_early = 0;
  stream_credit(stream, connection->stream_credit - EARLY_CREDIT);
}

void stream_credit(lossd_stream *stream, uint32_t count) {
  stream->credit = count > UINT32_MAX - stream->credit ? UINT32_MAX : stream->credit + count;
}

/* ---- Receiving ---- */

static lossd_code take_summary(lossd_stream *stream, const Lossd__V1__Summary *summary, int is_last,
                               lossd_error *error) {
  if (summary->batches != stream->answered_ever) {
    return fail(error, LOSSD_INTERNAL, "the daemon's summary is of %llu batches, %llu have been answered",
                (unsigned long long)summary->batches, (unsigned long long)stream->answered_ever);
  }
  if (!stream_keep_summary(stream, summary)) {
    return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for the stream's summary");
  }
  if (is_last && (!stream->is_half_closed || stream->batch_count > stream->answered)) {
    return fail(error, LOSSD_INTERNAL, "the daemon ended the stream before all batches were answered");
  }
  stream->arriving = is_last ? ARRIVES_END : ARRIVES_NOTHING;
  return LOSSD_OK;
}

lossd_code stream_take(lossd_stream *stream, const Lossd__V1__EvaluateResponse *response, int is_last,
                       struct reader *reader, lossd_error *error) {
  if (response->summary != NULL) {
    reader_discard(reader);
    return take_summary(stream, response->summary, is_last, error);
  }
  if (is_last) return fail(error, LOSSD_INTERNAL, "the daemon ended the stream without a summary");
  const struct batch *batch = &stream->batches[stream->answered];
  if (stream->has_summary || stream->answered == stream->batch_count || !batch->is_sent) {
    return fail(error, LOSSD_INTERNAL, "the daemon answered a batch that was not sent");
  }
  if (response->id != batch->number) {
    return fail(error, LOSSD_INTERNAL, "the daemon answered batch %llu, expected %llu",
                (unsigned long long)response->id, (unsigned long long)batch->number);
  }
  lossd_code code = response_place(batch->call, response, reader, error);
  if (code == LOSSD_OK) code = response_check(batch->call, batch->call, error);
  if (code == LOSSD_OK) code = response_check(batch->call, stream->head, error);
  stream->arriving = code == LOSSD_OK ? ARRIVES_BATCH : ARRIVES_NOTHING;
  return code;
}

void stream_payload_ended(lossd_stream *stream) {
  if (stream->arriving == ARRIVES_END) {
    stream->is_complete = 1;
    stream_leave(stream);
    source_raise(&stream->core->sources, &stream->source, CORE_SUMMARY);
  }
  if (stream->arriving != ARRIVES_BATCH) return;
  stream->arriving = ARRIVES_NOTHING;
  lossd_call *call = stream->batches[stream->answered].call;
  call_detach(call);
  stream->answered++;
  stream->answered_ever++;
  stream->fruitless = 0;
  stream->core->retry_until = 0;
  source_raise(&stream->core->sources, &stream->source, CORE_BATCH);
  /* Inputs that stay count for the batches after it, also on the next daemon. */
  for (size_t index = 0; index < call->input_count; index++) {
    const struct input *input = &call->inputs[index];
    if (!stream_keeps(stream, input->name)) continue;
    lossd_call_input(stream->head, input->name, input->type, input->rank, input->shape, input->data);
  }
}

/* ---- The end of a leg ---- */

void stream_move_uses(lossd_stream *stream, struct uses *uses) {
  uses_move(uses, &stream->head->uses);
  for (size_t index = stream->answered; index < stream->batch_count; index++) {
    uses_move(uses, &stream->batches[index].call->uses);
  }
}

void stream_leave(lossd_stream *stream) {
  if (stream->connection == NULL) return;
  /* Without effect when the daemon has ended it. */
  connection_cancel(stream->connection, stream->id, stream, 1);
  if (stream->connection->is_closed) {
    struct uses broken = {NULL, 0, 0};
    stream_move_uses(stream, &broken);
    uses_end(stream->core, &broken, 0);
    uses_free(&broken);
  }
  stream->head->connection = stream->connection;
  call_detach(stream->head);
  for (size_t index = stream->answered; index < stream->batch_count; index++) {
    call_detach(stream->batches[index].call);
    stream->batches[index].is_sent = 0;
  }
  stream->arriving = ARRIVES_NOTHING;
  stream->connection = NULL;
}

void stream_ended(lossd_stream *stream, lossd_code code, const char *text, int never_began) {
  stream_leave(stream);
  int is_drained = code == LOSSD_UNAVAILABLE && stream->has_summary;
  if (!never_began && !is_drained) {
    stream_fail(stream, code, "%s", text);
    return;
  }
  if (stream->fruitless++ >= FRUITLESS_MAX) {
    stream_fail(stream, LOSSD_UNAVAILABLE, "the daemon keeps ending the stream");
  }
}
