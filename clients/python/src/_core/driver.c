/* The core's driver for several threads: see driver.h. */
#include "driver.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "life.h"
#include "mapping.h"
#include "socket.h"

#define START_BATCH 64 /* calls that wait here before they are written, when others are under way */

unsigned driver_forks;
static struct driver *drivers; /* of this process and its parents */
static pthread_mutex_t drivers_lock = PTHREAD_MUTEX_INITIALIZER;

static void lock_at_once(pthread_mutex_t *lock) { pthread_mutex_lock(lock); }
void (*driver_lock_slowly)(pthread_mutex_t *lock) = lock_at_once;

static void lock_politely(pthread_mutex_t *lock) {
  if (pthread_mutex_trylock(lock) != 0) driver_lock_slowly(lock);
}

static void count_fork(void) {
  driver_forks++;
  pthread_mutex_init(&drivers_lock, NULL); /* another thread of the parent's may have held it */
}

int driver_watch_forks(void) { return pthread_atfork(NULL, NULL, count_fork) == 0; }

int driver_has_forked(const struct driver *driver) { return driver->forks != driver_forks; }

/* ---- Beginning and end ---- */

void driver_before_fork(void) {
  lock_politely(&drivers_lock);
  for (struct driver *driver = drivers; driver != NULL; driver = driver->next) {
    if (driver_has_forked(driver)) continue;
    driver_enter(driver);
    segments_keep(&driver->core);
    driver_exit(driver);
  }
  pthread_mutex_unlock(&drivers_lock);
}

struct driver *driver_new(const char *name, uint64_t connect_timeout_us, int is_local, size_t shared_min,
                          size_t shared_max) {
  struct driver *driver = calloc(1, sizeof *driver);
  if (driver == NULL) return NULL;
  if (pthread_mutex_init(&driver->lock, NULL) != 0) {
    free(driver);
    return NULL;
  }
  driver->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  driver->poller = driver->tender_wake = -1;
  driver->forks = driver_forks;
  core_init(&driver->core, name, is_local, mapping_memory());
  driver->core.connect_timeout_us = connect_timeout_us;
  driver->core.shared_min = shared_min;
  driver->core.shared_max = shared_max;
  lock_politely(&drivers_lock);
  driver->next = drivers;
  drivers = driver;
  pthread_mutex_unlock(&drivers_lock);
  return driver;
}

int driver_make_poller(struct driver *driver) {
  driver->poller = epoll_create1(EPOLL_CLOEXEC);
  return driver->poller >= 0;
}

static void close_descriptors(struct driver *driver) {
  for (struct connection *item = driver->core.connections; item != NULL; item = item->next) {
    if (item->descriptor >= 0) close(item->descriptor);
    item->descriptor = -1;
  }
  if (driver->wake >= 0) close(driver->wake);
  if (driver->poller >= 0) close(driver->poller);
  if (driver->tender_wake >= 0) close(driver->tender_wake);
}

void driver_free(struct driver *driver) {
  if (driver == NULL) return;
  lock_politely(&drivers_lock);
  struct driver **link = &drivers;
  while (*link != driver) link = &(*link)->next;
  *link = driver->next;
  pthread_mutex_unlock(&drivers_lock);
  if (!driver_has_forked(driver) && driver->has_tender) {
    driver_enter(driver);
    driver_end_tender(driver);
    driver_exit(driver);
    pthread_join(driver->tender, NULL);
  }
  close_descriptors(driver);
  /* What another thread of the parent was changing when it forked is in no state to be freed. */
  if (driver_has_forked(driver)) return;
  core_free(&driver->core);
  pthread_mutex_destroy(&driver->lock);
  free(driver);
}

/* ---- What happens, the lock held ---- */

void driver_wake_leader(struct driver *driver) {
  uint64_t one = 1;
  if (driver->has_leader && driver->wake >= 0 && write(driver->wake, &one, sizeof one) < 0) {
    /* The counter is full: it is awake. */
  }
}

static void wake_waiters(struct driver *driver, int all) {
  for (struct waiter *waiter = driver->waiters; waiter != NULL; waiter = waiter->next) {
    if (all || waiter->is_over(waiter->subject)) pthread_cond_signal(&waiter->changed);
  }
}

static void end_connection(struct driver *driver, struct connection *connection) {
  if (connection->descriptor >= 0) {
    shutdown(connection->descriptor, SHUT_RDWR); /* another thread that polls it keeps it open otherwise */
    close(connection->descriptor);
  }
  connection_free(connection);
  driver_wake_tender(driver);
}

/* The next event that matters to somebody who waits; 0: there is none. */
static int next_event(struct driver *driver, struct core_event *event) {
  while (core_next_event(&driver->core, event)) {
    if (event->kind == CORE_CONNECT) {
      driver->wants_socket = 1;
    } else if (event->kind == CORE_CLOSED) {
      end_connection(driver, event->subject);
    } else if (event->kind != CORE_HELLO && event->kind != CORE_GOAWAY) {
      return 1;
    }
  }
  return 0;
}

static void take_events(struct driver *driver) {
  struct core_event event;
  int has_come = 0;
  if (driver->poller >= 0) return; /* driver_next_token does */
  while (next_event(driver, &event)) has_come = 1;
  if (driver->wants_socket) driver_wake_leader(driver); /* it may be the only one that waits */
  if (has_come) wake_waiters(driver, 0);
}

/* What the poller looks for: also room to write, while something waits for it. */
static void watch(struct driver *driver, const struct connection *connection, int operation) {
  struct epoll_event event = {EPOLLIN | (connection->output.pending > 0 ? EPOLLOUT : 0u), {NULL}};
  if (driver->poller >= 0) epoll_ctl(driver->poller, operation, connection->descriptor, &event);
}

/* Moves what waits to the connection and writes it. */
static void flush(struct driver *driver) {
  core_feed(&driver->core);
  for (struct connection *item = driver->core.connections; item != NULL; item = item->next) {
    if (item->output.pending == 0) continue;
    socket_flush(item);
    if (item->output.pending > 0) driver_wake_leader(driver); /* which waits for room, too */
    if (item->output.pending > 0 || item->has_waited) {
      item->has_waited = item->output.pending > 0;
      watch(driver, item, EPOLL_CTL_MOD);
    }
  }
  take_events(driver);
}

static void turn(struct driver *driver) {
  driver->has_big = 0;
  for (struct connection *item = driver->core.connections; item != NULL; item = item->next) socket_read(item);
  core_turn(&driver->core);
  flush(driver);
}

void driver_enter(struct driver *driver) {
  lock_politely(&driver->lock);
  core_set_time(&driver->core, now_us());
}

void driver_enter_alone(struct driver *driver) {
  pthread_mutex_lock(&driver->lock);
  core_set_time(&driver->core, now_us());
}

void driver_exit(struct driver *driver) { pthread_mutex_unlock(&driver->lock); }

/* ---- Calls ---- */

/* A daemon that has ended since is found out here, before anything is said to it. */
static void begin_writing(struct driver *driver) {
  if (driver->core.current != NULL) socket_read(driver->core.current);
  flush(driver);
}

lossd_code driver_start(struct driver *driver, lossd_call *call, int is_left, lossd_error *error) {
  driver_enter(driver);
  struct core *core = &driver->core;
  lossd_code code =
      driver->is_closed ? fail(error, LOSSD_UNAVAILABLE, "the client was closed") : call_start(call, error);
  if (code == LOSSD_OK && is_left && driver->poller < 0) driver_tend(driver, 1);
  if (driver->poller >= 0) {
    driver->has_big |= call->input_bytes >= DRIVER_BIG; /* with the loop's next turn */
  } else if (code == LOSSD_OK && (core->current == NULL || core->current->flight_count == 0)) {
    begin_writing(driver);
  } else if (code == LOSSD_OK && core->pending_count % START_BATCH == 0) {
    turn(driver);
  }
  driver_exit(driver);
  return code;
}

void driver_turn(struct driver *driver) {
  driver_enter(driver);
  turn(driver);
  driver_exit(driver);
}

uint64_t driver_next_token(struct driver *driver) {
  struct core_event event;
  uint64_t token = 0;
  driver_enter(driver);
  while (token == 0 && next_event(driver, &event)) token = ((const struct source *)event.subject)->token;
  driver_exit(driver);
  return token;
}

uint64_t driver_pause(struct driver *driver) {
  driver_enter(driver);
  uint64_t deadline = core_deadline(&driver->core), now = driver->core.now;
  driver_exit(driver);
  return deadline == NEVER ? NEVER : deadline <= now ? 0 : deadline - now;
}

int driver_holds(struct driver *driver, driver_condition is_over, const void *subject) {
  driver_enter(driver);
  int holds = is_over(subject);
  driver_exit(driver);
  return holds;
}

int driver_call_has_ended(const void *call) { return !call_is_under_way(call); }

void driver_cancel(struct driver *driver, lossd_call *call) {
  driver_enter(driver);
  call_cancel(call);
  flush(driver);
  wake_waiters(driver, 0);
  driver_exit(driver);
}

void driver_abandon(struct driver *driver, lossd_call *call) {
  driver_enter(driver);
  if (call_is_under_way(call)) {
    call_abandon(call, LOSSD_CANCELLED, "the call was given up");
    flush(driver);
  }
  driver_exit(driver);
}

void driver_retire(struct driver *driver, lossd_call *call) {
  driver_enter(driver);
  source_drop(&driver->core.sources, &call->source);
  if (call->segment != NULL) segment_leave(&driver->core, call->segment);
  call->segment = NULL;
  for (size_t index = 0; index < call->result_count; index++) {
    struct result *result = &call->results[index];
    if (result->segment != NULL) segment_leave(&driver->core, result->segment);
    result->segment = NULL;
    free(result->owned); /* where nobody took it */
    result->owned = NULL;
    result->owned_bytes = 0;
  }
  driver_exit(driver);
}

void driver_drop(struct driver *driver, lossd_call *call) {
  driver_enter(driver);
  int was_under_way = call_is_under_way(call);
  call_free(call);
  if (was_under_way) flush(driver);
  driver_exit(driver);
}

void driver_close(struct driver *driver) {
  driver_enter(driver);
  driver->is_closed = 1;
  /* Before the daemon knows: it then frees what lies in its memory, and need not wait for anything. */
  for (struct connection *item = driver->core.connections; item != NULL; item = item->next) {
    segments_end(item);
    socket_flush(item);
  }
  core_abandon(&driver->core, LOSSD_UNAVAILABLE, "the client was closed");
  driver->wants_socket = 0;
  take_events(driver);
  driver->wants_socket = 0;
  wake_waiters(driver, 1);
  driver_wake_leader(driver);
  driver_end_tender(driver);
  driver_exit(driver);
}

/* ---- Streams ---- */

lossd_stream *driver_stream_new(struct driver *driver, const lossd_call *first, uint64_t token, lossd_error *error) {
  driver_enter(driver);
  lossd_stream *stream = NULL;
  if (driver->is_closed) {
    fail(error, LOSSD_UNAVAILABLE, "the client was closed");
  } else {
    stream = stream_new(first, error);
  }
  if (stream != NULL) {
    stream->source.token = stream->description->source.token = token;
    if (driver->poller < 0) driver_tend(driver, 1);
    if (driver->poller < 0) begin_writing(driver);
  }
  driver_exit(driver);
  return stream;
}

lossd_code driver_stream_add(struct driver *driver, lossd_stream *stream, lossd_call *batch, uint64_t number,
                             lossd_error *error) {
  driver_enter(driver);
  lossd_code code = stream_add(stream, batch, number, error);
  if (code == LOSSD_OK && driver->poller < 0) begin_writing(driver);
  if (code == LOSSD_OK) driver->has_big |= batch->input_bytes >= DRIVER_BIG;
  driver_exit(driver);
  return code;
}

lossd_call *driver_stream_take(struct driver *driver, lossd_stream *stream) {
  driver_enter(driver);
  lossd_call *batch = stream_take_answered(stream);
  if (batch != NULL) wake_waiters(driver, 0); /* there is room for another one */
  driver_exit(driver);
  return batch;
}

void driver_stream_finish(struct driver *driver, lossd_stream *stream) {
  driver_enter(driver);
  stream->is_finishing = 1;
  if (driver->poller < 0) begin_writing(driver);
  driver_exit(driver);
}

void driver_stream_fail(struct driver *driver, lossd_stream *stream, lossd_code code, const char *text) {
  driver_enter(driver);
  stream_fail(stream, code, "%s", text);
  flush(driver);
  wake_waiters(driver, 0);
  driver_exit(driver);
}

void driver_stream_free(struct driver *driver, lossd_stream *stream) {
  driver_enter(driver);
  stream_free(stream);
  flush(driver);
  driver_exit(driver);
}

/* ---- Shared memory ---- */

struct segment *driver_share(struct driver *driver, size_t bytes, uint64_t token) {
  driver_enter(driver);
  struct connection *current = driver->core.current;
  int is_possible = current != NULL && current->has_shared_memory && bytes <= SIZE_MAX / 2;
  struct segment *segment = is_possible ? segment_take(current, bytes) : NULL;
  if (segment != NULL) {
    segment->owner = SEGMENT_USERS;
    segment->source.token = token;
    driver_tend(driver, 0);
    flush(driver);
  }
  driver_exit(driver);
  return segment;
}

struct segment *driver_give(struct driver *driver, struct result *result) {
  driver_enter(driver);
  struct segment *segment = segment_give(result);
  if (segment != NULL) driver_tend(driver, 0);
  driver_exit(driver);
  return segment;
}

void driver_leave(struct driver *driver, struct segment *segment) {
  driver_enter(driver);
  segment_leave(&driver->core, segment);
  driver_exit(driver);
}

int driver_segment_is_settled(const void *segment) { return ((const struct segment *)segment)->state != SEGMENT_ASKED; }

/* ---- Connecting ---- */

int driver_take_connect(struct driver *driver) {
  driver_enter(driver);
  int is_wanted = driver->wants_socket;
  driver->wants_socket = 0;
  driver_exit(driver);
  return is_wanted;
}

void driver_connected(struct driver *driver, int descriptor) {
  driver_enter(driver);
  struct connection *connection = driver->is_closed ? NULL : core_connected(&driver->core, descriptor);
  if (connection == NULL) {
    driver->core.is_connecting = 0;
    close(descriptor);
  } else {
    watch(driver, connection, EPOLL_CTL_ADD);
    driver_wake_tender(driver);
  }
  flush(driver);
  driver_wake_leader(driver); /* it has another socket to watch */
  driver_exit(driver);
}

void driver_refused(struct driver *driver, lossd_code code, const char *text) {
  lossd_error error;
  fail(&error, code, "%s", text);
  driver_enter(driver);
  core_refused(&driver->core, &error);
  if (!driver->is_closed) core_feed(&driver->core);
  take_events(driver);
  wake_waiters(driver, driver->wants_socket);
  driver_wake_leader(driver);
  driver_exit(driver);
}

/* ---- Waiting ---- */

static struct timespec timespec_of(uint64_t us) {
  struct timespec result;
  result.tv_sec = (time_t)(us / 1000000u);
  result.tv_nsec = (long)(us % 1000000u) * 1000;
  return result;
}

int driver_lead(struct driver *driver, uint64_t until) {
  struct core *core = &driver->core;
  struct pollfd items[1 + CONNECTIONS_MAX];
  nfds_t count = 1;
  items[0].fd = driver->wake;
  items[0].events = POLLIN;
  for (struct connection *item = core->connections; item != NULL && count <= CONNECTIONS_MAX; item = item->next) {
    items[count].fd = item->descriptor;
    items[count++].events = (short)(POLLIN | (item->output.pending > 0 ? POLLOUT : 0));
  }
  uint64_t deadline = core_deadline(core);
  if (deadline < until) until = deadline;
  struct timespec wait = timespec_of(until <= core->now ? 0 : until - core->now);
  driver->has_leader = 1;
  pthread_mutex_unlock(&driver->lock);
  int ready = ppoll(items, count, &wait, NULL);
  int is_interrupted = ready < 0 && errno == EINTR;
  pthread_mutex_lock(&driver->lock);
  driver->has_leader = 0;
  core_set_time(core, now_us());
  if (ready > 0 && items[0].revents != 0) {
    uint64_t times;
    if (read(driver->wake, &times, sizeof times) < 0) {
      /* It has been read already. */
    }
  }
  turn(driver);
  return !is_interrupted;
}

static void follow(struct driver *driver, struct waiter *waiter, uint64_t until) {
  struct timespec at = timespec_of(until); /* now_us is CLOCK_MONOTONIC's */
  pthread_cond_timedwait(&waiter->changed, &driver->lock, &at);
  core_set_time(&driver->core, now_us());
}

static enum driver_outcome wait_as(struct driver *driver, struct waiter *waiter, uint64_t limit_us) {
  uint64_t until = driver->core.now + limit_us;
  while (!waiter->is_over(waiter->subject)) {
    if (driver->wants_socket) {
      driver->wants_socket = 0;
      return DRIVER_CONNECT;
    }
    if (driver->core.now >= until) return DRIVER_WAITING;
    if (driver->has_leader) {
      follow(driver, waiter, until);
    } else if (!driver_lead(driver, until) && !waiter->is_over(waiter->subject)) {
      return DRIVER_WAITING;
    }
  }
  return DRIVER_ENDED;
}

void driver_hand_on(struct driver *driver) {
  if (!driver->has_leader && driver->waiters != NULL) pthread_cond_signal(&driver->waiters->changed);
}

enum driver_outcome driver_wait(struct driver *driver, driver_condition is_over, const void *subject,
                                uint64_t limit_us) {
  struct waiter waiter = {NULL, is_over, subject, PTHREAD_COND_INITIALIZER};
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&waiter.changed, &monotonic);
  pthread_condattr_destroy(&monotonic);
  driver_enter_alone(driver);
  struct waiter **last = &driver->waiters;
  while (*last != NULL) last = &(*last)->next;
  *last = &waiter;
  flush(driver);
  enum driver_outcome outcome = wait_as(driver, &waiter, limit_us);
  for (struct waiter **link = &driver->waiters; *link != NULL; link = &(*link)->next) {
    if (*link != &waiter) continue;
    *link = waiter.next;
    break;
  }
  driver_hand_on(driver);
  driver_exit(driver);
  pthread_cond_destroy(&waiter.changed);
  return outcome;
}
