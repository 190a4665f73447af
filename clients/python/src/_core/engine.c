/* The core's driver for several threads: see engine.h. */
#include "engine.h"

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

unsigned engine_forks;

static void count_fork(void) { engine_forks++; }

int engine_watch_forks(void) { return pthread_atfork(NULL, NULL, count_fork) == 0; }

int engine_has_forked(const struct engine *engine) { return engine->forks != engine_forks; }

/* ---- Beginning and end ---- */

struct engine *engine_new(const char *name, uint64_t connect_timeout_us) {
  struct engine *engine = calloc(1, sizeof *engine);
  if (engine == NULL) return NULL;
  if (pthread_mutex_init(&engine->lock, NULL) != 0) {
    free(engine);
    return NULL;
  }
  engine->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  engine->poller = -1;
  engine->forks = engine_forks;
  core_init(&engine->core, name, 0, mapping_memory()); /* not local: big tensors do not come here */
  engine->core.connect_timeout_us = connect_timeout_us;
  return engine;
}

int engine_make_poller(struct engine *engine) {
  engine->poller = epoll_create1(EPOLL_CLOEXEC);
  return engine->poller >= 0;
}

static void close_descriptors(struct engine *engine) {
  for (struct connection *item = engine->core.connections; item != NULL; item = item->next) {
    if (item->descriptor >= 0) close(item->descriptor);
    item->descriptor = -1;
  }
  if (engine->wake >= 0) close(engine->wake);
  if (engine->poller >= 0) close(engine->poller);
}

void engine_free(struct engine *engine) {
  if (engine == NULL) return;
  close_descriptors(engine);
  /* What another thread of the parent was changing when it forked is in no state to be freed. */
  if (engine_has_forked(engine)) return;
  core_free(&engine->core);
  pthread_mutex_destroy(&engine->lock);
  free(engine);
}

/* ---- What happens, the lock held ---- */

static void wake_leader(struct engine *engine) {
  uint64_t one = 1;
  if (engine->has_leader && engine->wake >= 0 && write(engine->wake, &one, sizeof one) < 0) {
    /* The counter is full: it is awake. */
  }
}

static void wake_waiters(struct engine *engine, int all) {
  for (struct waiter *waiter = engine->waiters; waiter != NULL; waiter = waiter->next) {
    if (all || !call_is_under_way(waiter->call)) pthread_cond_signal(&waiter->changed);
  }
}

/* The next call that has ended, everything before that being seen to; NULL: there is none. */
static lossd_call *next_ended(struct engine *engine) {
  struct core_event event;
  while (core_next_event(&engine->core, &event)) {
    struct connection *connection = event.subject;
    if (event.kind == CORE_RESPONSE) return event.subject;
    if (event.kind == CORE_CONNECT) engine->wants_socket = 1;
    if (event.kind == CORE_CLOSED) {
      if (connection->descriptor >= 0) close(connection->descriptor);
      connection_free(connection);
    }
  }
  return NULL;
}

static void take_events(struct engine *engine) {
  int has_ended = 0;
  if (engine->poller >= 0) return; /* engine_next_ended does */
  while (next_ended(engine) != NULL) has_ended = 1;
  if (engine->wants_socket) wake_leader(engine); /* it may be the only one that waits */
  if (has_ended) wake_waiters(engine, 0);
}

/* What the poller looks for: also room to write, while something waits for it. */
static void watch(struct engine *engine, const struct connection *connection, int operation) {
  struct epoll_event event = {EPOLLIN | (connection->output.pending > 0 ? EPOLLOUT : 0u), {NULL}};
  if (engine->poller >= 0) epoll_ctl(engine->poller, operation, connection->descriptor, &event);
}

/* Moves what waits to the connection and writes it. */
static void flush(struct engine *engine) {
  core_feed(&engine->core);
  for (struct connection *item = engine->core.connections; item != NULL; item = item->next) {
    if (item->output.pending == 0) continue;
    socket_flush(item);
    if (item->output.pending > 0) wake_leader(engine); /* which waits for room, too */
    if (item->output.pending > 0 || item->has_waited) {
      item->has_waited = item->output.pending > 0;
      watch(engine, item, EPOLL_CTL_MOD);
    }
  }
  take_events(engine);
}

static void turn(struct engine *engine) {
  for (struct connection *item = engine->core.connections; item != NULL; item = item->next) socket_read(item);
  core_turn(&engine->core);
  flush(engine);
}

static void enter(struct engine *engine) {
  pthread_mutex_lock(&engine->lock);
  core_set_time(&engine->core, now_us());
}

static void leave(struct engine *engine) { pthread_mutex_unlock(&engine->lock); }

/* ---- Calls ---- */

lossd_code engine_start(struct engine *engine, lossd_call *call, lossd_error *error) {
  enter(engine);
  struct core *core = &engine->core;
  lossd_code code = engine->is_closed ? fail(error, LOSSD_UNAVAILABLE, "the client was closed") : call_start(call, error);
  if (engine->poller >= 0) {
    /* With the loop's next turn. */
  } else if (code == LOSSD_OK && (core->current == NULL || core->current->flight_count == 0)) {
    /* A daemon that has ended since is found out here, before anything is said to it. */
    if (core->current != NULL) socket_read(core->current);
    flush(engine);
  } else if (code == LOSSD_OK && core->pending_count % START_BATCH == 0) {
    turn(engine);
  }
  leave(engine);
  return code;
}

void engine_turn(struct engine *engine) {
  enter(engine);
  turn(engine);
  leave(engine);
}

uint64_t engine_next_ended(struct engine *engine) {
  enter(engine);
  const lossd_call *call = next_ended(engine);
  uint64_t token = call == NULL ? 0 : call->token;
  leave(engine);
  return token;
}

uint64_t engine_pause(struct engine *engine) {
  enter(engine);
  uint64_t deadline = core_deadline(&engine->core), now = engine->core.now;
  leave(engine);
  return deadline == NEVER ? NEVER : deadline <= now ? 0 : deadline - now;
}

int engine_is_done(struct engine *engine, const lossd_call *call) {
  enter(engine);
  int is_done = !call_is_under_way(call);
  leave(engine);
  return is_done;
}

void engine_cancel(struct engine *engine, lossd_call *call) {
  enter(engine);
  call_cancel(call);
  flush(engine);
  wake_waiters(engine, 0);
  leave(engine);
}

void engine_abandon(struct engine *engine, lossd_call *call) {
  enter(engine);
  if (call_is_under_way(call)) {
    call_abandon(call, LOSSD_CANCELLED, "the call was given up");
    flush(engine);
  }
  leave(engine);
}

void engine_retire(struct engine *engine, lossd_call *call) {
  enter(engine);
  source_drop(&engine->core.sources, &call->source);
  leave(engine);
}

void engine_drop(struct engine *engine, lossd_call *call) {
  enter(engine);
  int was_under_way = call_is_under_way(call);
  call_free(call);
  if (was_under_way) flush(engine);
  leave(engine);
}

void engine_close(struct engine *engine) {
  enter(engine);
  engine->is_closed = 1;
  core_abandon(&engine->core, LOSSD_UNAVAILABLE, "the client was closed");
  engine->wants_socket = 0;
  take_events(engine);
  engine->wants_socket = 0;
  wake_waiters(engine, 1);
  wake_leader(engine);
  leave(engine);
}

/* ---- Connecting ---- */

int engine_take_connect(struct engine *engine) {
  enter(engine);
  int is_wanted = engine->wants_socket;
  engine->wants_socket = 0;
  leave(engine);
  return is_wanted;
}

void engine_connected(struct engine *engine, int descriptor) {
  enter(engine);
  struct connection *connection = engine->is_closed ? NULL : core_connected(&engine->core, descriptor);
  if (connection == NULL) {
    engine->core.is_connecting = 0;
    close(descriptor);
  } else {
    watch(engine, connection, EPOLL_CTL_ADD);
  }
  flush(engine);
  wake_leader(engine); /* it has another socket to watch */
  leave(engine);
}

void engine_refused(struct engine *engine, lossd_code code, const char *text) {
  lossd_error error;
  fail(&error, code, "%s", text);
  enter(engine);
  core_refused(&engine->core, &error);
  if (!engine->is_closed) core_feed(&engine->core);
  take_events(engine);
  wake_waiters(engine, engine->wants_socket);
  wake_leader(engine);
  leave(engine);
}

/* ---- Waiting ---- */

static struct timespec timespec_of(uint64_t us) {
  struct timespec result;
  result.tv_sec = (time_t)(us / 1000000u);
  result.tv_nsec = (long)(us % 1000000u) * 1000;
  return result;
}

/* Polls until something happens or `until`, without the lock, and takes in what came. 0: a signal came. */
static int lead(struct engine *engine, uint64_t until) {
  struct core *core = &engine->core;
  struct pollfd items[1 + CONNECTIONS_MAX];
  nfds_t count = 1;
  items[0].fd = engine->wake;
  items[0].events = POLLIN;
  for (struct connection *item = core->connections; item != NULL && count <= CONNECTIONS_MAX; item = item->next) {
    items[count].fd = item->descriptor;
    items[count++].events = (short)(POLLIN | (item->output.pending > 0 ? POLLOUT : 0));
  }
  uint64_t deadline = core_deadline(core);
  if (deadline < until) until = deadline;
  struct timespec wait = timespec_of(until <= core->now ? 0 : until - core->now);
  engine->has_leader = 1;
  pthread_mutex_unlock(&engine->lock);
  int ready = ppoll(items, count, &wait, NULL);
  int is_interrupted = ready < 0 && errno == EINTR;
  pthread_mutex_lock(&engine->lock);
  engine->has_leader = 0;
  core_set_time(core, now_us());
  if (ready > 0 && items[0].revents != 0) {
    uint64_t times;
    if (read(engine->wake, &times, sizeof times) < 0) {
      /* It has been read already. */
    }
  }
  turn(engine);
  return !is_interrupted;
}

static void follow(struct engine *engine, struct waiter *waiter, uint64_t until) {
  struct timespec at = timespec_of(until); /* now_us is CLOCK_MONOTONIC's */
  pthread_cond_timedwait(&waiter->changed, &engine->lock, &at);
  core_set_time(&engine->core, now_us());
}

static enum engine_outcome wait_as(struct engine *engine, struct waiter *waiter, uint64_t limit_us) {
  uint64_t until = engine->core.now + limit_us;
  while (call_is_under_way(waiter->call)) {
    if (engine->wants_socket) {
      engine->wants_socket = 0;
      return ENGINE_CONNECT;
    }
    if (engine->core.now >= until) return ENGINE_WAITING;
    if (engine->has_leader) {
      follow(engine, waiter, until);
    } else if (!lead(engine, until) && call_is_under_way(waiter->call)) {
      return ENGINE_WAITING;
    }
  }
  return ENGINE_ENDED;
}

enum engine_outcome engine_wait(struct engine *engine, const lossd_call *call, uint64_t limit_us) {
  struct waiter waiter = {NULL, call, PTHREAD_COND_INITIALIZER};
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&waiter.changed, &monotonic);
  pthread_condattr_destroy(&monotonic);
  enter(engine);
  struct waiter **last = &engine->waiters;
  while (*last != NULL) last = &(*last)->next;
  *last = &waiter;
  flush(engine);
  enum engine_outcome outcome = wait_as(engine, &waiter, limit_us);
  for (struct waiter **link = &engine->waiters; *link != NULL; link = &(*link)->next) {
    if (*link != &waiter) continue;
    *link = waiter.next;
    break;
  }
  /* Another one leads from here on. */
  if (!engine->has_leader && engine->waiters != NULL) pthread_cond_signal(&engine->waiters->changed);
  leave(engine);
  pthread_cond_destroy(&waiter.changed);
  return outcome;
}
