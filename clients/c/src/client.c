/* The blocking client: its life, its turns, its waiting. */
#include "client.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "core/life.h"
#include "mapping.h"
#include "socket.h"

/* ---- Forks ---- */

/* A page that is empty in a child costs nothing to look at, unlike getpid(). */
static volatile int *make_mark(void) {
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

static int has_forked(const lossd_client *client) {
  return client->mark != NULL ? *client->mark == 0 : client->process != getpid();
}

/* ---- Beginning and end ---- */

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
  core_init(&client->core, parsed.text, parsed.path != NULL, mapping_memory());
  client->references = 1;
  client->interrupt = descriptor;
  client->process = getpid();
  client->mark = make_mark();
  client->address = parsed;
  succeed(error);
  return client;
}

lossd_client *client_of(const struct core *core) { return (lossd_client *)(uintptr_t)core; }

void client_retain(lossd_client *client) { client->references++; }

void client_release(lossd_client *client) {
  if (--client->references > 0) return;
  core_free(&client->core);
  close(client->interrupt);
  if (client->mark != NULL) munmap((void *)(uintptr_t)client->mark, (size_t)sysconf(_SC_PAGESIZE));
  address_free(&client->address);
  free(client);
}

/* ---- Turning ---- */

/* Connects where the core wants it, closes what has ended; how many events there were. */
static int take_events(lossd_client *client) {
  struct core *core = &client->core;
  struct core_event event;
  lossd_error error;
  int count = 0;
  for (; core_next_event(core, &event); count++) {
    struct connection *connection = event.subject;
    if (event.kind == CORE_CLOSED) {
      if (connection->descriptor >= 0) close(connection->descriptor);
      connection_free(connection);
    } else if (event.kind == CORE_CONNECT) {
      int descriptor = address_connect(&client->address, core_connect_until(core), client->interrupt, &error);
      core_set_time(core, now_us());
      if (descriptor < 0) {
        if (error.code == LOSSD_CANCELLED) count--; /* interrupted: who waits finds that out */
        core_refused(core, &error);
      } else if (core_connected(core, descriptor) == NULL) {
        close(descriptor);
      }
    }
  }
  return count;
}

void client_write(lossd_client *client) {
  if (has_forked(client)) return; /* they are the parent's sockets */
  for (struct connection *item = client->core.connections; item != NULL; item = item->next) socket_flush(item);
}

static void leave_to_parent(lossd_client *client) {
  client->process = getpid();
  if (client->mark != NULL) *client->mark = 1;
  core_abandon(&client->core, LOSSD_UNAVAILABLE, "the process has forked: the call is its parent's");
  /* Interrupts of the parent are not ours either. */
  int descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (descriptor >= 0) {
    close(client->interrupt);
    client->interrupt = descriptor;
  }
}

void client_enter(lossd_client *client) {
  core_set_time(&client->core, now_us());
  if (has_forked(client)) leave_to_parent(client);
}

int client_flush(lossd_client *client) {
  client_enter(client);
  core_feed(&client->core);
  int count = take_events(client);
  client_write(client);
  return count > 0;
}

void client_turn(lossd_client *client) {
  client_enter(client);
  for (struct connection *item = client->core.connections; item != NULL; item = item->next) socket_read(item);
  core_turn(&client->core);
  take_events(client);
  client_write(client);
}

static int poll_until(struct pollfd *items, nfds_t count, uint64_t until) {
  struct timespec wait;
  uint64_t now = until == NEVER ? 0 : now_us();
  uint64_t left = until <= now ? 0 : until - now;
  wait.tv_sec = (time_t)(left / 1000000u);
  wait.tv_nsec = (long)(left % 1000000u) * 1000;
  return ppoll(items, count, until == NEVER ? NULL : &wait, NULL);
}

lossd_code client_step(lossd_client *client, uint64_t until) {
  struct core *core = &client->core;
  struct pollfd items[1 + CONNECTIONS_MAX];
  struct connection *polled[1 + CONNECTIONS_MAX];
  nfds_t count = 1;
  if (client_flush(client)) return LOSSD_OK;
  items[0].fd = client->interrupt;
  items[0].events = POLLIN;
  for (struct connection *item = core->connections; item != NULL && count <= CONNECTIONS_MAX; item = item->next) {
    polled[count] = item;
    items[count].fd = item->descriptor;
    items[count++].events = (short)(POLLIN | (item->output.pending > 0 ? POLLOUT : 0));
  }
  uint64_t deadline = core_deadline(core);
  int ready = poll_until(items, count, deadline < until ? deadline : until);
  if (ready > 0 && items[0].revents != 0) {
    uint64_t times;
    if (read(client->interrupt, &times, sizeof times) > 0) return LOSSD_CANCELLED;
  }
  core_set_time(core, now_us());
  for (nfds_t index = 1; ready > 0 && index < count; index++) {
    if (items[index].revents & POLLOUT) socket_flush(polled[index]);
    if (items[index].revents & ~POLLOUT) socket_read(polled[index]);
  }
  core_turn(core);
  take_events(client);
  client_write(client);
  return LOSSD_OK;
}

/* ---- The user's ---- */

void lossd_client_free(lossd_client *client) {
  if (client == NULL || client->is_freed) return;
  client->is_freed = 1;
  struct core *core = &client->core;
  if (!has_forked(client)) {
    for (struct connection *item = core->connections; item != NULL; item = item->next) segments_end(item);
    client_write(client); /* says that the daemon need not wait for anything */
  }
  core_abandon(core, LOSSD_CANCELLED, "the client was freed");
  for (lossd_stream *stream = core->streams; stream != NULL; stream = stream->next) {
    stream_fail(stream, LOSSD_CANCELLED, "the client was freed");
  }
  take_events(client);
  client_release(client);
}

void lossd_client_set_connect_timeout(lossd_client *client, uint64_t timeout_us) {
  if (client != NULL) client->core.connect_timeout_us = timeout_us;
}

void lossd_client_set_payload_max(lossd_client *client, uint64_t bytes) {
  if (client != NULL) client->core.payload_max = bytes;
}

void lossd_client_set_shared_min(lossd_client *client, size_t bytes) {
  if (client != NULL) client->core.shared_min = bytes;
}

void lossd_client_interrupt(lossd_client *client) {
  uint64_t one = 1;
  int number = errno; /* in a signal handler it is another's */
  if (client != NULL && write(client->interrupt, &one, sizeof one) < 0) {
    /* The counter is full: it is interrupted already. */
  }
  errno = number;
}

void lossd_client_flush(lossd_client *client) {
  if (client != NULL && !client->is_freed) client_turn(client);
}

lossd_code lossd_client_ping(lossd_client *client, uint64_t timeout_us, uint64_t *round_trip_us,
                             lossd_error *error) {
  if (client == NULL || client->is_freed) return fail(error, LOSSD_FAILED_PRECONDITION, "no client");
  lossd_call *call = call_new_ping(&client->core);
  if (call == NULL) return fail(error, LOSSD_RESOURCE_EXHAUSTED, "no memory for a PING");
  client_turn(client); /* a daemon that has ended since is found out */
  call->timeout_us = timeout_us;
  lossd_code code = call_start(call, error);
  if (code == LOSSD_OK) code = lossd_call_wait(call, error);
  if (code == LOSSD_OK && round_trip_us != NULL) *round_trip_us = call->round_trip;
  call_free(call);
  return code;
}

/* ---- Memory ---- */

/* Memory of the connection that there is, or can be made within the time for that; NULL: there is none. */
static struct segment *ask_for_segment(lossd_client *client, size_t size) {
  struct core *core = &client->core;
  struct segment *segment = NULL;
  int is_interrupted = 0;
  if (!core->is_local) return NULL;
  client_turn(client);
  uint64_t until = core_after(core, core->connect_timeout_us);
  core->refusal.code = LOSSD_OK;
  while (!is_interrupted && now_us() < until) {
    if (segment == NULL && core->current != NULL && core->current->has_hello) {
      segment = segment_ask(core->current, size);
      if (segment == NULL) break;
    }
    if (segment != NULL && segment->state != SEGMENT_ASKED) break;
    core->wants_connection = segment == NULL;
    is_interrupted = client_step(client, until) != LOSSD_OK;
    core->wants_connection = 0;
    if (segment == NULL && core->refusal.code != LOSSD_OK) break;
  }
  if (is_interrupted) lossd_client_interrupt(client); /* it was for the next call */
  if (segment == NULL || segment->state == SEGMENT_THERE) return segment;
  segment_leave(core, segment);
  return NULL;
}

void *lossd_client_alloc(lossd_client *client, size_t bytes) {
  if (client == NULL || client->is_freed || bytes > SIZE_MAX / 2) return NULL;
  size_t size = segment_rounded(bytes == 0 ? 1 : bytes);
  struct segment *segment = ask_for_segment(client, size);
  if (segment == NULL) segment = segment_ordinary(&client->core, size);
  return segment == NULL ? NULL : segment->base;
}

void lossd_client_dealloc(lossd_client *client, void *memory) {
  struct segment *segment = client == NULL || memory == NULL ? NULL : segment_of_user(&client->core, memory);
  if (segment != NULL) segment_leave(&client->core, segment);
}
