/* Calls on their way: submitted, waited for, cancelled, ended. */
#include "internal.h"

#define SUBMIT_BATCH 64 /* calls that wait with the client before `submit` sends them, when others are under way */

lossd_code lossd_call_submit(lossd_call *call, lossd_error *error) {
  lossd_code code = call_check(call, error);
  if (code != LOSSD_OK) return code;
  lossd_client *client = call->client;
  if (client->is_freed) return fail(error, LOSSD_FAILED_PRECONDITION, "the client has been freed");
  client_check_fork(client);
  if (call->function == NULL && call->listed == NULL) {
    return fail(error, LOSSD_INVALID_ARGUMENT, "a call without a function is a stream's batch");
  }
  code = call_encode(call, error);
  if (code != LOSSD_OK) return code;
  call_forget_results(call);
  call->deadline = deadline_after(call->timeout_us);
  call->is_cancelled = 0;
  /* Where that was it, the next time is like the last. */
  if (call->outcome.code != LOSSD_OK) call->has_no_into = 0;
  client_enqueue(client, call);
  if (client->current == NULL || client->current->flight_count == 0 || client->pending_count >= SUBMIT_BATCH) {
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
    uint64_t limit = call->deadline == NEVER ? NEVER : call->deadline + DEADLINE_GRACE_US;
    int is_late = limit != NEVER && now_us() >= limit;
    if (!is_late && client_step(call->client, limit) == LOSSD_OK) continue;
    if (!call_is_under_way(call)) break;
    if (call->connection != NULL) connection_cancel(call->connection, call->id, call, 1);
    call_finish(call, is_late ? LOSSD_DEADLINE_EXCEEDED : LOSSD_CANCELLED, "%s",
                is_late ? "the daemon did not answer within the call's timeout" : "interrupted");
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
  if (call->state == CALL_PENDING) {
    call_finish(call, LOSSD_CANCELLED, "the call was cancelled");
  } else if (call->state == CALL_SENT && !call->is_cancelled) {
    call->is_cancelled = 1;
    connection_cancel(call->connection, call->id, call, 0);
    client_turn(call->client);
  }
}

void call_detach(lossd_call *call) {
  uses_end(call->client, &call->uses, 1);
  if (call->connection == NULL) return;
  output_abandon(&call->connection->output, call, call->queued_until);
  reader_abandon(&call->connection->reader, call);
  call->connection = NULL;
}

void call_finish(lossd_call *call, lossd_code code, const char *format, ...) {
  if (call->state == CALL_PENDING) client_dequeue(call->client, call);
  call_detach(call);
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
    call->client->retry_until = 0; /* there is a daemon that works */
  }
  call->client->finished++;
}
