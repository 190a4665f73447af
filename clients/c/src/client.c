/* The client: its connections, what waits for one, and the turning of it all. */
#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

lossd_client *lossd_client_new(const char *address, lossd_error *error) {
  struct address parsed;
  if (address_parse(address, &parsed, error) != LOSSD_OK) {
    address_free(&parsed);
    return NULL;
  }
  lossd_client *client = calloc(1, sizeof *client);
  int descriptor = client == NULL ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (descriptor < 0) {
    fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory or descriptor for a client: %s", strerror(errno));
    address_free(&parsed);
    free(client);
    return NULL;
  }
  client->references = 1;
  client->interrupt = descriptor;
  client->process = getpid();
  client->mark = client_make_mark();
  client->address = parsed;
  client->connect_timeout_us = CONNECT_TIMEOUT_US;
  client->shared_min = SHARED_MIN;
  arena_init(&client->arena);
  succeed(error);
  return client;
}

void client_retain(lossd_client *client) { client->references++; }

void client_release(lossd_client *client) {
  if (--client->references > 0) return;
  segments_free(client);
  close(client->interrupt);
  if (client->mark != NULL) munmap((void *)(uintptr_t)client->mark, (size_t)sysconf(_SC_PAGESIZE));
  address_free(&client->address);
  arena_free(&client->arena);
  free(client);
}

void lossd_client_free(lossd_client *client) {
  if (client == NULL || client->is_freed) return;
  client->is_freed = 1;
  while (client->pending != NULL) call_finish(client->pending, LOSSD_CANCELLED, "the client was freed");
  for (lossd_stream *stream = client->streams; stream != NULL; stream = stream->next) {
    if (!stream->is_complete) stream_fail(stream, LOSSD_CANCELLED, "the client was freed");
  }
  while (client->connections != NULL) {
    struct connection *connection = client->connections;
    if (!client_has_forked(client)) {
      segments_end(connection);
      connection_flush(connection); /* says that the daemon need not wait for anything */
    }
    connection_close(connection, LOSSD_CANCELLED, "the client was freed");
    client->connections = connection->next;
    connection_free(connection);
  }
  client->current = NULL;
  client_release(client);
}

void lossd_client_set_connect_timeout(lossd_client *client, uint64_t timeout_us) {
  if (client != NULL) client->connect_timeout_us = timeout_us;
}

void lossd_client_set_payload_max(lossd_client *client, uint64_t bytes) {
  if (client != NULL) client->payload_max = bytes;
}

void lossd_client_interrupt(lossd_client *client) {
  uint64_t one = 1;
  int number = errno; /* in a signal handler it is another's */
  if (client != NULL && write(client->interrupt, &one, sizeof one) < 0) {
    /* The counter is full: it is interrupted already. */
  }
  errno = number;
}

/* Connections that have ended, or have nothing left to wait for. */
static void reap(lossd_client *client) {
  uint64_t now = now_us();
  struct connection **link = &client->connections;
  while (*link != NULL) {
    struct connection *connection = *link;
    if (!connection->is_closed && !connection->has_hello && now > connection->hello_deadline) {
      connection_close(connection, LOSSD_UNAVAILABLE, "%s: the daemon did not say HELLO in time",
                       client->address.text);
    }
    int is_idle = connection->is_draining && connection->flight_count == 0 && connection->output.pending == 0;
    if (!connection->is_closed && !is_idle) {
      link = &connection->next;
      continue;
    }
    if (client->current == connection) client->current = NULL;
    *link = connection->next;
    connection_free(connection);
  }
}

/* ---- Turning ---- */

uint64_t earlier(uint64_t left, uint64_t right) { return left < right ? left : right; }

/* Whether the next one can be looked at. */
static int send_call(struct connection *connection, lossd_call *call) {
  lossd_error error;
  uint64_t now = call->deadline == NEVER ? 0 : now_us();
  if (call->deadline != NEVER && now >= call->deadline) {
    call_finish(call, LOSSD_DEADLINE_EXCEEDED, "the timeout was over before the call could be sent");
    return 1;
  }
  if (place_call(connection, call, 1) == PLACED_LATER) return 0;
  int fits = connection_fits(connection, call, &error);
  if (fits < 0) call_finish(call, error.code, "%s", error.text);
  if (fits <= 0) return fits < 0;
  uint32_t id = connection_open_flight(connection, FLIGHT_CALL, call);
  if (id == 0) {
    uses_end(call->client, &call->uses, 1);
    return 0;
  }
  struct output *output = &connection->output;
  if (!put_open(output, id, call->method, call->deadline == NEVER ? 0 : call->deadline - now)) {
    connection_drop_flight(connection, id);
    call_finish(call, LOSSD_RESOURCE_EXHAUSTED, "no memory to send the call");
  } else if (!put_request(output, id, call, UINT64_MAX, 1)) {
    connection_cancel(connection, id, call, 1);
    call_finish(call, LOSSD_RESOURCE_EXHAUSTED, "no memory to send the call");
  } else {
    client_dequeue(call->client, call);
    call->state = CALL_SENT;
    call->connection = connection;
    call->id = id;
  }
  return 1;
}

void client_feed(lossd_client *client) {
  if (client->current != NULL && !connection_takes_calls(client->current)) client->current = NULL;
  if (client->current == NULL && client_wants_connection(client)) client_connect(client);
  struct connection *current = client->current;
  for (lossd_stream *stream = client->streams; stream != NULL; stream = stream->next) stream_feed(stream, current);
  while (current != NULL && client->pending != NULL && current->output.pending < OUTPUT_HIGH) {
    if (!send_call(current, client->pending)) break;
  }
}

static void flush_all(lossd_client *client) {
  for (struct connection *item = client->connections; item != NULL; item = item->next) connection_flush(item);
}

void client_flush(lossd_client *client) {
  client_check_fork(client);
  client_feed(client);
  flush_all(client);
}

void client_turn(lossd_client *client) {
  client_check_fork(client);
  for (struct connection *item = client->connections; item != NULL; item = item->next) connection_read(item);
  reap(client);
  client_feed(client);
  flush_all(client);
}

static int poll_until(struct pollfd *items, nfds_t count, uint64_t until) {
  struct timespec wait;
  uint64_t now = until == NEVER ? 0 : now_us();
  uint64_t left = until <= now ? 0 : until - now;
  wait.tv_sec = (time_t)(left / 1000000u);
  wait.tv_nsec = (long)(left % 1000000u) * 1000;
  return ppoll(items, count, until == NEVER ? NULL : &wait, NULL);
}

/* When something is to be done though nothing happens. */
static uint64_t next_timer(const lossd_client *client, uint64_t until) {
  for (const struct connection *item = client->connections; item != NULL; item = item->next) {
    if (!item->has_hello) until = earlier(until, item->hello_deadline + 1);
  }
  if (client->current == NULL && client_wants_connection(client)) until = earlier(until, client->retry_at);
  return until;
}

lossd_code client_step(lossd_client *client, uint64_t until) {
  uint64_t finished = client->finished;
  client_check_fork(client);
  client_feed(client);
  flush_all(client);
  if (client->finished != finished) return LOSSD_OK;
  struct pollfd items[1 + CONNECTIONS_MAX];
  struct connection *polled[1 + CONNECTIONS_MAX];
  nfds_t count = 1;
  items[0].fd = client->interrupt;
  items[0].events = POLLIN;
  for (struct connection *item = client->connections; item != NULL; item = item->next) {
    if (item->is_closed || count > CONNECTIONS_MAX) continue;
    polled[count] = item;
    items[count].fd = item->descriptor;
    items[count++].events = (short)(POLLIN | (item->output.pending > 0 ? POLLOUT : 0));
  }
  int ready = poll_until(items, count, next_timer(client, until));
  if (ready > 0 && items[0].revents != 0) {
    uint64_t times;
    if (read(client->interrupt, &times, sizeof times) > 0) return LOSSD_CANCELLED;
  }
  for (nfds_t index = 1; ready > 0 && index < count; index++) {
    if (items[index].revents & POLLOUT) connection_flush(polled[index]);
    if (items[index].revents & ~POLLOUT) connection_read(polled[index]);
  }
  reap(client);
  return LOSSD_OK;
}

void lossd_client_flush(lossd_client *client) {
  if (client != NULL && !client->is_freed) client_turn(client);
}

/* ---- Ping ---- */

lossd_code lossd_client_ping(lossd_client *client, uint64_t timeout_us, uint64_t *round_trip_us,
                             lossd_error *error) {
  if (client == NULL || client->is_freed) return fail(error, LOSSD_FAILED_PRECONDITION, "no client");
  uint64_t deadline = deadline_after(timeout_us), begin = 0, number = 0;
  struct connection *asked = NULL;
  client_turn(client);
  client->refusal.code = LOSSD_OK;
  for (;;) {
    int is_there = 0; /* connections are freed when they have ended */
    for (struct connection *item = client->connections; item != NULL; item = item->next) is_there |= item == asked;
    if (asked != NULL && !is_there) return fail(error, LOSSD_UNAVAILABLE, "the daemon closed the connection");
    if (asked != NULL && asked->pings_answered >= number) break;
    if (asked == NULL && client->current != NULL && client->current->has_hello) {
      asked = client->current;
      number = ++asked->pings_sent;
      begin = now_us();
      if (!put_control(&asked->output, 0, FRAME_PING, 0, &number, sizeof number)) {
        asked->pings_sent--;
        return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for a PING");
      }
    }
    if (deadline != NEVER && now_us() >= deadline) {
      return fail(error, LOSSD_DEADLINE_EXCEEDED, "%s: no answer in time", client->address.text);
    }
    client->wants_connection = asked == NULL;
    lossd_code code = client_step(client, deadline);
    client->wants_connection = 0;
    if (code != LOSSD_OK) return fail(error, code, "interrupted");
    if (asked == NULL && client->refusal.code != LOSSD_OK) {
      return fail(error, client->refusal.code, "%s", client->refusal.text);
    }
  }
  if (round_trip_us != NULL) *round_trip_us = now_us() - begin;
  return succeed(error);
}
