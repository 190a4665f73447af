/* Drives liblossd's core for several threads of one client. Knows nothing of Python.
 *
 * Whoever waits drives: the first of the waiting threads polls and reads for all, and hands that on when its own call
 * has ended. So no thread is started, and a call that is alone wakes nobody but itself. `lock` guards the core; it is
 * never held while a thread polls or runs anything of the interpreter's, so it may be taken with the interpreter's lock
 * held. An event loop has an engine of its own, which starts nothing by itself: `poller` says when it has a turn.
 * Connecting is the caller's: it may take long, and is done differently by threads and by an event loop. */
#ifndef LOSSD_PYTHON_ENGINE_H
#define LOSSD_PYTHON_ENGINE_H

#include <pthread.h>

#include "core.h"

/* A thread in engine_wait. On its stack. */
struct waiter {
  struct waiter *next;
  const lossd_call *call;
  pthread_cond_t changed;
};

struct engine {
  struct core core;
  pthread_mutex_t lock;
  struct waiter *waiters;
  int has_leader;   /* one of them polls */
  int wake;         /* eventfd: the leader is to look again; -1: no room for one, it looks when its time is over */
  int poller;       /* epoll of the sockets, for an event loop; -1: threads wait */
  int wants_socket; /* the core asks for a connection, and nobody makes it yet */
  int is_closed;
  unsigned forks; /* of `engine_forks` when it was made */
};

enum engine_outcome {
  ENGINE_ENDED,   /* the call has */
  ENGINE_WAITING, /* it has not, and the time is over or a signal came */
  ENGINE_CONNECT  /* the caller is to connect, and say by engine_connected or engine_refused how that went */
};

/* How often this process has come out of a fork. An engine of an earlier number is the parent's: its calls, lock and
 * sockets are to be left alone. */
extern unsigned engine_forks;
/* Once. 0: there is no memory. */
int engine_watch_forks(void);

/* `name` is the daemon's, for texts, and lives as long as the engine. NULL without memory. */
struct engine *engine_new(const char *name, uint64_t connect_timeout_us);
/* Makes it one for an event loop. 0: there is no room for its descriptor. */
int engine_make_poller(struct engine *engine);
/* Its calls have been freed. In a child it only closes descriptors. */
void engine_free(struct engine *engine);
int engine_has_forked(const struct engine *engine);

/* Queues the call; where there is no poller, also writes it where none is under way or many wait: else it goes along with the next one, or with
 * whoever waits. */
lossd_code engine_start(struct engine *engine, lossd_call *call, lossd_error *error);
/* Until the call has ended, for `limit_us` at most. Not with the interpreter's lock. */
enum engine_outcome engine_wait(struct engine *engine, const lossd_call *call, uint64_t limit_us);
/* Reads and writes what there is, without waiting. */
void engine_turn(struct engine *engine);
/* With a poller: the next call that has ended, by its token; 0: there is none. */
uint64_t engine_next_ended(struct engine *engine);
/* With a poller: microseconds until it wants a turn though nothing happens; NEVER. */
uint64_t engine_pause(struct engine *engine);
int engine_is_done(struct engine *engine, const lossd_call *call);
/* Whether the caller is to connect, as with ENGINE_CONNECT. */
int engine_take_connect(struct engine *engine);
/* Takes the socket over. */
void engine_connected(struct engine *engine, int descriptor);
/* CANCELLED: another caller is asked. */
void engine_refused(struct engine *engine, lossd_code code, const char *text);
void engine_cancel(struct engine *engine, lossd_call *call);
/* Ends the call where it is under way: its memory is touched no more. */
void engine_abandon(struct engine *engine, lossd_call *call);
/* Forgets that it has ended, where that has not been told. */
void engine_retire(struct engine *engine, lossd_call *call);
void engine_drop(struct engine *engine, lossd_call *call);
/* Ends the connection, and calls under way with UNAVAILABLE. */
void engine_close(struct engine *engine);

#endif
