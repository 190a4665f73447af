/* A call on its way: started, cancelled, ended. */
#include "life.h"

#include "core.h"
#include "encode.h"

int call_is_under_way(const lossd_call *call) {
  return call->state == CALL_PENDING || call->state == CALL_SENT || call->state == CALL_IN_STREAM;
}

lossd_code call_check(lossd_call *call, lossd_error *error) {
  if (call == NULL) return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for the call");
  if (call_is_under_way(call)) return fail(error, LOSSD_FAILED_PRECONDITION, "the call is under way already");
  lossd_code code = notes_check(&call->notes, error);
  if (code != LOSSD_OK) return code;
  for (size_t index = 0; call->core->has_lost && index < call->input_count; index++) {
    if (!segment_is_lost(call->core, call->inputs[index].data)) continue;
    return fail(error, LOSSD_DATA_LOSS, "%s: %s", call->inputs[index].name, segment_lost);
  }
  return succeed(error);
}

lossd_code call_start(lossd_call *call, lossd_error *error) {
  lossd_code code = call_check(call, error);
  if (code != LOSSD_OK) return code;
  if (call->function == NULL && call->kind == CALL_EVALUATE) {
    return fail(error, LOSSD_INVALID_ARGUMENT, "a call without a function is a stream's batch");
  }
  code = call_encode(call, error);
  if (code != LOSSD_OK) return code;
  call_forget_results(call);
  source_drop(&call->core->sources, &call->source);
  call->deadline = core_after(call->core, call->timeout_us);
  core_late_at(call->core, call->deadline);
  call->is_cancelled = call->has_results = 0;
  call->answer.length = 0;
  /* Where that was it, the next time is like the last. */
  if (call->outcome.code != LOSSD_OK) call->has_no_into = 0;
  core_enqueue(call->core, call);
  return succeed(error);
}

void call_cancel(lossd_call *call) {
  if (call->state == CALL_PENDING) {
    call_finish(call, LOSSD_CANCELLED, "the call was cancelled");
  } else if (call->state == CALL_SENT && !call->is_cancelled) {
    call->is_cancelled = 1;
    connection_cancel(call->connection, call->id, call, 0);
  }
}

void call_abandon(lossd_call *call, lossd_code code, const char *text) {
  if (call->connection != NULL) connection_cancel(call->connection, call->id, call, 1);
  call_finish(call, code, "%s", text);
}

void call_detach(lossd_call *call) {
  uses_end(call->core, &call->uses, 1);
  if (call->connection == NULL) return;
  if (call->kind == CALL_PING) connection_forget_ping(call->connection, call);
  output_abandon(&call->connection->output, call, call->queued_until);
  reader_abandon(&call->connection->reader, call);
  call->connection = NULL;
}

void call_finish(lossd_call *call, lossd_code code, const char *format, ...) {
  if (call->state == CALL_PENDING) core_dequeue(call->core, call);
  call_detach(call);
  lossd_stream *described = call->kind == CALL_RAW ? call->stream : NULL;
  int is_batch = call->state == CALL_IN_STREAM;
  call->state = CALL_DONE;
  call->stream = NULL;
  call->outcome.code = code;
  call->outcome.text[0] = 0;
  if (code != LOSSD_OK) {
    va_list arguments;
    va_start(arguments, format);
    write_text(call->outcome.text, sizeof call->outcome.text, format, arguments);
    va_end(arguments);
    call_forget_results(call);
  } else {
    call->core->retry_until = 0; /* there is a daemon that works */
  }
  if (!is_batch) source_raise(&call->core->sources, &call->source, CORE_RESPONSE);
  if (described != NULL) stream_described(described, call);
}
