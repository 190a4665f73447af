/* Calls and streams as blocking functions. */
#include "client.h"
#include "core/encode.h"
#include "core/life.h"

#define SUBMIT_BATCH 64 /* calls that wait with the client before `submit` sends them, when others are under way */

/* ---- Calls ---- */

lossd_call *lossd_call_new(lossd_client *client, const char *function) {
  lossd_call *call = client == NULL ? NULL : call_new(&client->core, function);
  if (call != NULL) client_retain(client);
  return call;
}

void lossd_call_free(lossd_call *call) {
  if (call == NULL) return;
  lossd_client *client = client_of(call->core);
  call_free(call);
  client_write(client);
  client_release(client);
}

lossd_code lossd_call_submit(lossd_call *call, lossd_error *error) {
  if (call == NULL) return call_check(call, error);
  lossd_client *client = client_of(call->core);
  const struct core *core = call->core;
  if (client->is_freed) return fail(error, LOSSD_FAILED_PRECONDITION, "the client has been freed");
  client_enter(client);
  lossd_code code = call_start(call, error);
  if (code != LOSSD_OK) return code;
  if (core->current == NULL || core->current->flight_count == 0 || core->pending_count >= SUBMIT_BATCH) {
    client_turn(client);
  }
  return succeed(error);
}

int lossd_call_is_done(const lossd_call *call) { return call == NULL || !call_is_under_way(call); }

lossd_code lossd_call_wait(lossd_call *call, lossd_error *error) {
  if (call == NULL) return call_check(call, error);
  if (call->state == CALL_IDLE) return fail(error, LOSSD_FAILED_PRECONDITION, "the call has not been submitted");
  if (call->state == CALL_IN_STREAM) {
    return fail(error, LOSSD_FAILED_PRECONDITION, "the call is a batch: lossd_stream_next waits for it");
  }
  while (call_is_under_way(call)) {
    lossd_code code = client_step(client_of(call->core), NEVER);
    if (code == LOSSD_OK || !call_is_under_way(call)) continue;
    call_abandon(call, code, "interrupted");
    client_write(client_of(call->core));
  }
  if (call->outcome.code == LOSSD_OK) return succeed(error);
  return fail(error, call->outcome.code, "%s", call->outcome.text);
}

lossd_code lossd_call_run(lossd_call *call, lossd_error *error) {
  lossd_code code = lossd_call_submit(call, error);
  return code == LOSSD_OK ? lossd_call_wait(call, error) : code;
}

void lossd_call_cancel(lossd_call *call) {
  if (call == NULL) return;
  int was_sent = call->state == CALL_SENT;
  call_cancel(call);
  if (was_sent) client_turn(client_of(call->core));
}

/* ---- Streams ---- */

lossd_stream *lossd_stream_new(const lossd_call *first, lossd_error *error) {
  if (first != NULL && client_of(first->core)->is_freed) {
    fail(error, LOSSD_FAILED_PRECONDITION, "the client has been freed");
    return NULL;
  }
  if (first != NULL) client_enter(client_of(first->core));
  lossd_stream *stream = stream_new(first, error);
  if (stream == NULL) return NULL;
  client_retain(client_of(stream->core));
  lossd_call_wait(stream->description, error);
  if (stream->failure.code == LOSSD_OK) return stream;
  fail(error, stream->failure.code, "%s", stream->failure.text);
  lossd_stream_free(stream);
  return NULL;
}

void lossd_stream_free(lossd_stream *stream) {
  if (stream == NULL) return;
  lossd_client *client = client_of(stream->core);
  stream_free(stream);
  if (!client->is_freed) client_flush(client);
  client_release(client);
}

/* One turn of waiting, after which the stream may have ended. */
static void wait_a_turn(lossd_stream *stream) {
  lossd_client *client = client_of(stream->core);
  if (client_step(client, NEVER) == LOSSD_OK) return;
  stream_fail(stream, LOSSD_CANCELLED, "interrupted");
  client_write(client);
}

lossd_code lossd_stream_send(lossd_stream *stream, lossd_call *batch, lossd_error *error) {
  if (stream == NULL) return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no stream");
  client_enter(client_of(stream->core));
  lossd_code code = stream_add(stream, batch, stream->next_number, error);
  if (code != LOSSD_OK) return code;
  client_flush(client_of(stream->core));
  while (stream->failure.code == LOSSD_OK) {
    if (!stream_has_unsent(stream)) return succeed(error);
    wait_a_turn(stream);
  }
  return fail(error, stream->failure.code, "%s", stream->failure.text);
}

lossd_code lossd_stream_next(lossd_stream *stream, lossd_call **batch, lossd_error *error) {
  if (batch != NULL) *batch = NULL;
  if (stream == NULL) return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no stream");
  while (stream->answered == 0) {
    if (stream->failure.code != LOSSD_OK) return fail(error, stream->failure.code, "%s", stream->failure.text);
    if (stream->is_complete) return succeed(error);
    if (stream->batch_count == 0 && !stream->is_finishing) {
      return fail(error, LOSSD_FAILED_PRECONDITION, "no batch is under way");
    }
    wait_a_turn(stream);
  }
  lossd_call *call = stream_take_answered(stream);
  if (batch != NULL) *batch = call;
  return succeed(error);
}

lossd_code lossd_stream_finish(lossd_stream *stream, lossd_error *error) {
  if (stream == NULL) return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no stream");
  if (stream->failure.code != LOSSD_OK) return fail(error, stream->failure.code, "%s", stream->failure.text);
  stream->is_finishing = 1;
  client_flush(client_of(stream->core));
  return succeed(error);
}
