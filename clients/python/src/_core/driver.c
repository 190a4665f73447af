/* The core's driver for several threads: see driver.h. */
#include "driver.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "life.h"
#include "mapping.h"
#include "socket.h"

#define START_BATCH 64 /* calls that wait here before they are written, when others are under way */

unsigned driver_forks;

static void count_fork(void) { driver_forks++; }

int driver_watch_forks(void) { return pthread_atfork(NULL, NULL, count_fork) == 0; }

int driver_has_forked(const struct driver *driver) { return driver->forks != driver_forks; }

/* ---- Beginning and end ---- */

struct driver *driver_new(const char *name, uint64_t connect_timeout_us) {
  struct driver *driver = calloc(1, sizeof *driver);
  if (driver == NULL) return NULL;
  if (pthread_mutex_init(&driver->lock, NULL) != 0) {
    free(driver);
    return NULL;
  }
  driver->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  driver->poller = -1;
  driver->forks = driver_forks;
  core_init(&driver->core, name, 0, mapping_memory()); /* not local: big tensors do not come here */
  driver->core.connect_timeout_us = connect_timeout_us;
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
}

void driver_free(struct driver *driver) {
  if (driver == NULL) return;
  close_descriptors(driver);
  /* What another thread of the parent was changing when it forked is in no state to be freed. */
  if (driver_has_forked(driver)) return;
  core_free(&driver->core);
  pthread_mutex_destroy(&driver->lock);
  free(driver);
}

/* ---- What happens, the lock held ---- */

static void wake_leader(struct driver *driver) {
  uint64_t one = 1;
  if (driver->has_leader && driver->wake >= 0 && write(driver->wake, &one, sizeof one) < 0) {
    /* The counter is full: it is awake. */
  }
}

static void wake_waiters(struct driver *driver, int all) {
  for (struct waiter *waiter = driver->waiters; waiter != NULL; waiter = waiter->next) {
    if (all || !call_is_under_way(waiter->call)) pthread_cond_signal(&waiter->changed);
  }
}

/* The next call that has ended, everything before that being seen to; NULL: there is none. */
static lossd_call *next_ended(struct driver *driver) {
  struct core_event event;
  while (core_next_event(&driver->core, &event)) {
    struct connection *connection = event.subject;
    if (event.kind == CORE_RESPONSE) return event.subject;
    if (event.kind == CORE_CONNECT) driver->wants_socket = 1;
    if (event.kind == CORE_CLOSED) {
      if (connection->descriptor >= 0) close(connection->descriptor);
      connection_free(connection);
    }
  }
  return NULL;
}

static void take_events(struct driver *driver) {
  int has_ended = 0;
  if (driver->poller >= 0) return; /* driver_next_ended does */
  while (next_ended(driver) != NULL) has_ended = 1;
  if (driver->wants_socket) wake_leader(driver); /* it may be the only one that waits */
  if (has_ended) wake_waiters(driver, 0);
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
    if (item->output.pending > 0) wake_leader(driver); /* which waits for room, too */
    if (item->output.pending > 0 || item->has_waited) {
      item->has_waited = item->output.pending > 0;
      watch(driver, item, EPOLL_CTL_MOD);
    }
  }
  take_events(driver);
}

static void turn(struct driver *driver) {
  for (struct connection *item = driver->core.connections; item != NULL; item = item->next) socket_read(item);
  core_turn(&driver->core);
  flush(driver);
}

static void enter(struct driver *driver) {
  pthread_mutex_lock(&driver->lock);
  core_set_time(&driver->core, now_us());
}

static void leave(struct driver *driver) { pthread_mutex_unlock(&driver->lock); }

/* ---- Calls ---- */

lossd_code driver_start(struct driver *driver, lossd_call *call, lossd_error *error) {
  enter(driver);
  struct core *core = &driver->core;
  lossd_code code =
      driver->is_closed ? fail(error, LOSSD_UNAVAILABLE, "the client was closed") : call_start(call, error);
  if (driver->poller >= 0) {
    /* With the loop's next turn. */
  } else if (code == LOSSD_OK && (core->current == NULL || core->current->flight_count == 0)) {
    /* A daemon that has ended since is found out here, before anything is said to it. */
    if (core->current != NULL) socket_read(core->current);
    flush(driver);
  } else if (code == LOSSD_OK && core->pending_count % START_BATCH == 0) {
    turn(driver);
  }
  leave(driver);
  return code;
}

void driver_turn(struct driver *driver) {
  enter(driver);
  turn(driver);
  leave(driver);
}

uint64_t driver_next_ended(struct driver *driver) {
  enter(driver);
  const lossd_call *call = next_ended(driver);
  uint64_t token = call == NULL ? 0 : call->token;
  leave(driver);
  return token;
}

uint64_t driver_pause(struct driver *driver) {
  enter(driver);
  uint64_t deadline = core_deadline(&driver->core), now = driver->core.now;
  leave(driver);
  return deadline == NEVER ? NEVER : deadline <= now ? 0 : deadline - now;
}

int driver_is_done(struct driver *driver, const lossd_call *call) {
  enter(driver);
  int is_done = !call_is_under_way(call);
  leave(driver);
  return is_done;
}

void driver_cancel(struct driver *driver, lossd_call *call) {
  enter(driver);
  call_cancel(call);
  flush(driver);
  wake_waiters(driver, 0);
  leave(driver);
}

void driver_abandon(struct driver *driver, lossd_call *call) {
  enter(driver);
  if (call_is_under_way(call)) {
    call_abandon(call, LOSSD_CANCELLED, "the call was given up");
    flush(driver);
  }
  leave(driver);
}

void driver_retire(struct driver *driver, lossd_call *call) {
  enter(driver);
  source_drop(&driver->core.sources, &call->source);
  leave(driver);
}

void driver_drop(struct driver *driver, lossd_call *call) {
  enter(driver);
  int was_under_way = call_is_under_way(call);
  call_free(call);
  if (was_under_way) flush(driver);
  leave(driver);
}

void driver_close(struct driver *driver) {
  enter(driver);
  driver->is_closed = 1;
  core_abandon(&driver->core, LOSSD_UNAVAILABLE, "the client was closed");
  driver->wants_socket = 0;
  take_events(driver);
  driver->wants_socket = 0;
  wake_waiters(driver, 1);
  wake_leader(driver);
  leave(driver);
}

/* ---- Connecting ---- */

int driver_take_connect(struct driver *driver) {
  enter(driver);
  int is_wanted = driver->wants_socket;
  driver->wants_socket = 0;
  leave(driver);
  return is_wanted;
}

void driver_connected(struct driver *driver, int descriptor) {
  enter(driver);
  struct connection *connection = driver->is_closed ? NULL : core_connected(&driver->core, descriptor);
  if (connection == NULL) {
    driver->core.is_connecting = 0;
    close(descriptor);
  } else {
    watch(driver, connection, EPOLL_CTL_ADD);
  }
  flush(driver);
  wake_leader(driver); /* it has another socket to watch */
  leave(driver);
}

void driver_refused(struct driver *driver, lossd_code code, const char *text) {
  lossd_error error;
  fail(&error, code, "%s", text);
  enter(driver);
  core_refused(&driver->core, &error);
  if (!driver->is_closed) core_feed(&driver->core);
  take_events(driver);
  wake_waiters(driver, driver->wants_socket);
  wake_leader(driver);
  leave(driver);
}

/* ---- Waiting ---- */

static struct timespec timespec_of(uint64_t us) {
  struct timespec result;
  result.tv_sec = (time_t)(us / 1000000u);
  result.tv_nsec = (long)(us % 1000000u) * 1000;
  return result;
}

/* Polls until something happens or `until`, without the lock, and takes in what came. 0: a signal came. */
static int lead(struct driver *driver, uint64_t until) {
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
  while (call_is_under_way(waiter->call)) {
    if (driver->wants_socket) {
      driver->wants_socket = 0;
      return DRIVER_CONNECT;
    }
    if (driver->core.now >= until) return DRIVER_WAITING;
    if (driver->has_leader) {
      follow(driver, waiter, until);
    } else if (!lead(driver, until) && call_is_under_way(waiter->call)) {
      return DRIVER_WAITING;
    }
  }
  return DRIVER_ENDED;
}

enum driver_outcome driver_wait(struct driver *driver, const lossd_call *call, uint64_t limit_us) {
  struct waiter waiter = {NULL, call, PTHREAD_COND_INITIALIZER};
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&waiter.changed, &monotonic);
  pthread_condattr_destroy(&monotonic);
  enter(driver);
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
  /* Another one leads from here on. */
  if (!driver->has_leader && driver->waiters != NULL) pthread_cond_signal(&driver->waiters->changed);
  leave(driver);
  pthread_cond_destroy(&waiter.changed);
  return outcome;
}
