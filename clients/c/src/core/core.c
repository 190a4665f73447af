/* The core: what waits for a connection, when something is late, and what its driver is told. */
#include "core.h"

#include "encode.h"
#include "leg.h"
#include "life.h"
#include "placement.h"

void core_init(struct core *core, const char *name, int is_local, const struct core_memory *memory) {
  memset(core, 0, sizeof *core);
  core->name = name;
  core->is_local = is_local;
  core->memory = memory;
  core->connect_timeout_us = CONNECT_TIMEOUT_US;
  core->shared_min = SHARED_MIN;
  core->shared_max = SEGMENT_BYTES_MAX;
  core->earliest = NEVER;
  arena_init(&core->arena);
}

void core_free(struct core *core) {
  while (core->connections != NULL) {
    connection_close(core->connections, LOSSD_CANCELLED, "the client was freed");
    connection_free(core->connections);
  }
  segments_free(core);
  arena_free(&core->arena);
}

int core_next_event(struct core *core, struct core_event *event) { return sources_next(&core->sources, event); }

/* ---- Time ---- */

static uint64_t earlier(uint64_t left, uint64_t right) { return left < right ? left : right; }

void core_set_time(struct core *core, uint64_t now) { core->now = now; }

uint64_t core_after(const struct core *core, uint64_t timeout_us) {
  return timeout_us == 0 || timeout_us > NEVER - 1 - core->now ? NEVER : core->now + timeout_us;
}

static uint64_t with_grace(uint64_t deadline) {
  return deadline > NEVER - DEADLINE_GRACE_US ? NEVER : deadline + DEADLINE_GRACE_US;
}

void core_late_at(struct core *core, uint64_t deadline) {
  if (deadline != NEVER) core->earliest = earlier(core->earliest, with_grace(deadline));
}

/* Whether it was; if not, `earliest` heeds it. */
static int end_late_call(struct core *core, lossd_call *call) {
  if (with_grace(call->deadline) <= core->now) {
    call_abandon(call, LOSSD_DEADLINE_EXCEEDED, "the daemon did not answer within the call's timeout");
    return 1;
  }
  core_late_at(core, call->deadline);
  return 0;
}

static void end_late(struct core *core) {
  if (core->now < core->earliest || core->earliest == NEVER) return;
  core->earliest = NEVER;
  for (lossd_call *call = core->pending, *next; call != NULL; call = next) {
    next = call->next;
    end_late_call(core, call);
  }
  for (struct connection *item = core->connections; item != NULL; item = item->next) {
    for (lossd_call *call = item->pings, *next; call != NULL; call = next) {
      next = call->next;
      end_late_call(core, call);
    }
    for (size_t index = 0; index < FLIGHTS_MAX && item->flight_count > 0; index++) {
      if (item->flights[index].kind == FLIGHT_CALL) end_late_call(core, item->flights[index].owner);
    }
  }
  for (lossd_stream *stream = core->streams; stream != NULL; stream = stream->next) {
    if (stream->is_complete || stream->failure.code != LOSSD_OK) continue;
    if (with_grace(stream->deadline) <= core->now) {
      stream_fail(stream, LOSSD_DEADLINE_EXCEEDED, "the daemon did not answer within the stream's timeout");
    } else {
      core_late_at(core, stream->deadline);
    }
  }
}

static int wants_connection(const struct core *core) {
  if (core->pending != NULL || core->wants_connection) return 1;
  for (const lossd_stream *stream = core->streams; stream != NULL; stream = stream->next) {
    if (stream_wants_connection(stream)) return 1;
  }
  return 0;
}

/* Whether another one is to be had, once it is time. */
static int may_connect(const struct core *core) {
  size_t count = 0;
  for (const struct connection *item = core->connections; item != NULL; item = item->next) count++;
  return core->current == NULL && !core->is_connecting && count < CONNECTIONS_MAX && wants_connection(core);
}

uint64_t core_deadline(const struct core *core) {
  uint64_t result = core->earliest;
  for (const struct connection *item = core->connections; item != NULL; item = item->next) {
    if (!item->is_closed && !item->has_hello && item->hello_deadline != NEVER) {
      result = earlier(result, item->hello_deadline + 1);
    }
  }
  if (may_connect(core)) result = earlier(result, core->retry_at);
  return result;
}

void core_turn(struct core *core) {
  for (struct connection *item = core->connections; item != NULL; item = item->next) {
    if (!item->has_hello && core->now > item->hello_deadline) {
      connection_close(item, LOSSD_UNAVAILABLE, "%s: the daemon did not say HELLO in time", core->name);
    } else if (item->is_draining && item->flight_count == 0 && item->output.pending == 0) {
      connection_close(item, LOSSD_OK, "%s", "");
    }
  }
  end_late(core);
  core_feed(core);
}

/* ---- What is pending ---- */

static void link_call(struct core *core, lossd_call *call, lossd_call *before) {
  call->next = before;
  call->previous = before == NULL ? core->pending_last : before->previous;
  *(call->previous == NULL ? &core->pending : &call->previous->next) = call;
  *(before == NULL ? &core->pending_last : &before->previous) = call;
  core->pending_count++;
  call->state = CALL_PENDING;
}

void core_enqueue(struct core *core, lossd_call *call) { link_call(core, call, NULL); }

void core_dequeue(struct core *core, lossd_call *call) {
  *(call->previous == NULL ? &core->pending : &call->previous->next) = call->next;
  *(call->next == NULL ? &core->pending_last : &call->next->previous) = call->previous;
  call->next = call->previous = NULL;
  core->pending_count--;
}

void core_requeue(struct core *core, lossd_call *call) {
  call_detach(call);
  if (call->is_cancelled) {
    call->state = CALL_IDLE;
    call_finish(call, LOSSD_CANCELLED, "the call was cancelled before it began");
  } else {
    link_call(core, call, core->pending);
  }
}

void core_drained(struct core *core) {
  if (core->retry_until == 0) {
    core->retry_until = core_after(core, core->connect_timeout_us);
    core->retry_at = core->now;
  } else {
    core->retry_at = core->now + RETRY_PAUSE_US;
  }
}

static void fail_pending(struct core *core, const lossd_error *error) {
  while (core->pending != NULL) {
    lossd_call *call = core->pending;
    call_finish(call, call->deadline <= core->now ? LOSSD_DEADLINE_EXCEEDED : error->code, "%s", error->text);
  }
  for (lossd_stream *stream = core->streams; stream != NULL; stream = stream->next) {
    if (stream_wants_connection(stream)) stream_fail(stream, error->code, "%s", error->text);
  }
  core->refusal = *error;
  core->retry_until = core->retry_at = 0;
}

/* Whether the next one can be looked at. */
static int send_call(struct connection *connection, lossd_call *call) {
  lossd_error error;
  uint64_t now = connection->core->now;
  if (call->deadline != NEVER && now >= call->deadline) {
    call_finish(call, LOSSD_DEADLINE_EXCEEDED, "the timeout was over before the call could be sent");
    return 1;
  }
  if (call->kind == CALL_PING) return connection_ping(connection, call);
  if (place_call(connection, call, call->kind == CALL_EVALUATE) == PLACED_LATER) return 0;
  int fits = connection_fits(connection, call, NULL, &error);
  if (fits < 0) call_finish(call, error.code, "%s", error.text);
  if (fits <= 0) return fits < 0;
  uint32_t id = connection_open_flight(connection, FLIGHT_CALL, call);
  if (id == 0) {
    uses_end(call->core, &call->uses, 1);
    return 0;
  }
  struct output *output = &connection->output;
  if (!put_open(output, id, call->method, call->deadline == NEVER ? 0 : call->deadline - now)) {
    connection_drop_flight(connection, id);
    call_finish(call, LOSSD_RESOURCE_EXHAUSTED, "no memory to send the call");
  } else if (!put_request(output, id, call, NULL, call->kind == CALL_PART ? call->number : UINT64_MAX, 1)) {
    connection_cancel(connection, id, call, 1);
    call_finish(call, LOSSD_RESOURCE_EXHAUSTED, "no memory to send the call");
  } else {
    core_dequeue(call->core, call);
    call->state = CALL_SENT;
    call->connection = connection;
    call->id = id;
  }
  return 1;
}

void core_abandon(struct core *core, lossd_code code, const char *text) {
  while (core->pending != NULL) call_finish(core->pending, code, "%s", text);
  for (struct connection *item = core->connections; item != NULL; item = item->next) {
    connection_close(item, code, "%s", text);
  }
  for (lossd_stream *stream = core->streams; stream != NULL; stream = stream->next) {
    if (stream_wants_connection(stream)) stream_fail(stream, code, "%s", text);
  }
  core->retry_at = core->retry_until = 0;
  if (core->source.untold == 0) return;
  source_drop(&core->sources, &core->source);
  core->is_connecting = 0;
}

/* ---- Connecting ---- */

static void ask_to_connect(struct core *core) {
  if (!may_connect(core) || core->now < core->retry_at) return;
  if (core->retry_until != 0 && core->now > core->retry_until) {
    lossd_error error;
    fail(&error, LOSSD_UNAVAILABLE, "%s: the daemon keeps shutting down", core->name);
    fail_pending(core, &error);
    return;
  }
  core->is_connecting = 1;
  source_raise(&core->sources, &core->source, CORE_CONNECT);
}

uint64_t core_connect_until(const struct core *core) {
  uint64_t result = core_after(core, core->connect_timeout_us);
  for (const lossd_call *call = core->pending; call != NULL; call = call->next) {
    result = earlier(result, call->deadline);
  }
  for (const lossd_stream *stream = core->streams; stream != NULL; stream = stream->next) {
    result = earlier(result, stream->deadline);
  }
  return result;
}

struct connection *core_connected(struct core *core, int descriptor) {
  struct connection *connection = connection_new(core, descriptor);
  core->is_connecting = 0;
  if (connection == NULL) {
    lossd_error error;
    fail(&error, LOSSD_RESOURCE_EXHAUSTED, "no memory for a connection");
    fail_pending(core, &error);
    return NULL;
  }
  connection->next = core->connections;
  core->connections = core->current = connection;
  core_feed(core);
  return connection;
}

void core_no_word(struct core *core, const lossd_error *error) {
  if (error->code == LOSSD_CANCELLED) return;
  if (core->retry_until == 0) {
    fail_pending(core, error);
  } else {
    core->retry_at = core->now + RETRY_PAUSE_US;
  }
}

void core_refused(struct core *core, const lossd_error *error) {
  core->is_connecting = 0;
  core_no_word(core, error);
}

void core_feed(struct core *core) {
  if (core->current != NULL && !connection_takes_calls(core->current)) core->current = NULL;
  ask_to_connect(core);
  struct connection *current = core->current;
  for (lossd_stream *stream = core->streams; stream != NULL; stream = stream->next) stream_feed(stream, current);
  while (current != NULL && core->pending != NULL && current->output.pending < OUTPUT_HIGH) {
    if (!send_call(current, core->pending)) break;
  }
}
