/* What waits for a connection, the connecting, and what a fork does to both. */
#include "internal.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- What is pending ---- */

static void link_call(lossd_client *client, lossd_call *call, lossd_call *before) {
  call->next = before;
  call->previous = before == NULL ? client->pending_last : before->previous;
  *(call->previous == NULL ? &client->pending : &call->previous->next) = call;
  *(before == NULL ? &client->pending_last : &before->previous) = call;
  client->pending_count++;
  call->state = CALL_PENDING;
}

void client_enqueue(lossd_client *client, lossd_call *call) { link_call(client, call, NULL); }

void client_dequeue(lossd_client *client, lossd_call *call) {
  *(call->previous == NULL ? &client->pending : &call->previous->next) = call->next;
  *(call->next == NULL ? &client->pending_last : &call->next->previous) = call->previous;
  call->next = call->previous = NULL;
  client->pending_count--;
}

void client_requeue(lossd_client *client, lossd_call *call) {
  call_detach(call);
  if (call->is_cancelled) {
    call->state = CALL_IDLE;
    call_finish(call, LOSSD_CANCELLED, "the call was cancelled before it began");
  } else {
    link_call(client, call, client->pending);
  }
}

void client_drained(lossd_client *client) {
  uint64_t now = now_us();
  if (client->retry_until == 0) {
    client->retry_until = deadline_after(client->connect_timeout_us);
    client->retry_at = now;
  } else {
    client->retry_at = now + RETRY_PAUSE_US;
  }
}

static void fail_pending(lossd_client *client, const lossd_error *error) {
  while (client->pending != NULL) {
    lossd_call *call = client->pending;
    int is_late = call->deadline != NEVER && now_us() >= call->deadline;
    call_finish(call, is_late ? LOSSD_DEADLINE_EXCEEDED : error->code, "%s", error->text);
  }
  for (lossd_stream *stream = client->streams; stream != NULL; stream = stream->next) {
    if (stream_wants_connection(stream)) stream_fail(stream, error->code, "%s", error->text);
  }
  client->refusal = *error;
  client->retry_until = client->retry_at = 0;
}

void client_refused(lossd_client *client, const lossd_error *error) {
  if (client->retry_until == 0) {
    fail_pending(client, error);
  } else {
    client->retry_at = now_us() + RETRY_PAUSE_US;
  }
}

/* ---- Connecting ---- */

int client_wants_connection(const lossd_client *client) {
  if (client->pending != NULL || client->wants_connection) return 1;
  for (const lossd_stream *stream = client->streams; stream != NULL; stream = stream->next) {
    if (stream_wants_connection(stream)) return 1;
  }
  return 0;
}

static uint64_t earliest_deadline(const lossd_client *client) {
  uint64_t result = NEVER;
  for (const lossd_call *call = client->pending; call != NULL; call = call->next) {
    result = earlier(result, call->deadline);
  }
  for (const lossd_stream *stream = client->streams; stream != NULL; stream = stream->next) {
    result = earlier(result, stream->deadline);
  }
  return result;
}

static size_t connection_count(const lossd_client *client) {
  size_t count = 0;
  for (const struct connection *item = client->connections; item != NULL; item = item->next) count++;
  return count;
}

void client_connect(lossd_client *client) {
  uint64_t now = now_us();
  lossd_error error;
  if (now < client->retry_at || connection_count(client) >= CONNECTIONS_MAX) return;
  if (client->retry_until != 0 && now > client->retry_until) {
    fail(&error, LOSSD_UNAVAILABLE, "%s: the daemon keeps shutting down", client->address.text);
    fail_pending(client, &error);
    return;
  }
  uint64_t until = earlier(deadline_after(client->connect_timeout_us), earliest_deadline(client));
  int descriptor = address_connect(&client->address, until, client->interrupt, &error);
  if (descriptor < 0) {
    if (error.code == LOSSD_CANCELLED) return; /* who waits finds out */
    client_refused(client, &error);
    return;
  }
  struct connection *connection = connection_new(client, descriptor);
  if (connection == NULL) {
    close(descriptor);
    fail(&error, LOSSD_RESOURCE_EXHAUSTED, "no memory for a connection");
    fail_pending(client, &error);
    return;
  }
  connection->next = client->connections;
  client->connections = client->current = connection;
}

/* ---- Forks ---- */

/* A page that is empty in a child costs nothing to look at, unlike getpid(). */
volatile int *client_make_mark(void) {
  size_t size = (size_t)sysconf(_SC_PAGESIZE);
  void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return NULL;
  if (madvise(page, size, MADV_WIPEONFORK) != 0) {
    munmap(page, size);
    return NULL;
  }
  *(volatile int *)page = 1;
  return page;
}

int client_has_forked(const lossd_client *client) {
  return client->mark != NULL ? *client->mark == 0 : client->process != getpid();
}

void client_check_fork(lossd_client *client) {
  static const char text[] = "the process has forked: the call is its parent's";
  if (!client_has_forked(client)) return;
  client->process = getpid();
  if (client->mark != NULL) *client->mark = 1;
  while (client->pending != NULL) call_finish(client->pending, LOSSD_UNAVAILABLE, text);
  for (struct connection *item = client->connections; item != NULL; item = item->next) {
    connection_close(item, LOSSD_UNAVAILABLE, text);
  }
  for (lossd_stream *stream = client->streams; stream != NULL; stream = stream->next) {
    if (stream_wants_connection(stream)) stream_fail(stream, LOSSD_UNAVAILABLE, text);
  }
  client->retry_at = client->retry_until = 0;
  /* Interrupts of the parent are not ours either. */
  int descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (descriptor >= 0) {
    close(client->interrupt);
    client->interrupt = descriptor;
  }
}
