/* Drives liblossd's core for several threads of one client. Knows nothing of Python.
 *
 * Whoever waits drives: the first of the waiting threads polls and reads for all, and hands that on when its own call
 * has ended. So no thread is started, and a call that is alone wakes nobody but itself. `lock` guards the core; it is
 * never held while a thread polls or runs anything of the interpreter's, so it may be taken with the interpreter's lock
 * held. An event loop has a driver of its own, which starts nothing by itself: `poller` says when it has a turn.
 * Connecting is the caller's: it may take long, and is done differently by threads and by an event loop. */
#ifndef LOSSD_PYTHON_DRIVER_H
#define LOSSD_PYTHON_DRIVER_H

#include <pthread.h>

#include "core.h"

/* A thread in driver_wait. On its stack. */
struct waiter {
  struct waiter *next;
  const lossd_call *call;
  pthread_cond_t changed;
};

struct driver {
  struct core core;
  pthread_mutex_t lock;
  struct waiter *waiters;
  int has_leader;   /* one of them polls */
  int wake;         /* eventfd: the leader is to look again; -1: no room for one, it looks when its time is over */
  int poller;       /* epoll of the sockets, for an event loop; -1: threads wait */
  int wants_socket; /* the core asks for a connection, and nobody makes it yet */
  int is_closed;
  unsigned forks; /* of `driver_forks` when it was made */
};

enum driver_outcome {
  DRIVER_ENDED,   /* the call has */
  DRIVER_WAITING, /* it has not, and the time is over or a signal came */
  DRIVER_CONNECT  /* the caller is to connect, and say by driver_connected or driver_refused how that went */
};

/* How often this process has come out of a fork. A driver of an earlier number is the parent's: its calls, lock and
 * sockets are to be left alone. */
extern unsigned driver_forks;
/* Once. 0: there is no memory. */
int driver_watch_forks(void);

/* `name` is the daemon's, for texts, and lives as long as the driver. NULL without memory. */
struct driver *driver_new(const char *name, uint64_t connect_timeout_us);
/* Makes it one for an event loop. 0: there is no room for its descriptor. */
int driver_make_poller(struct driver *driver);
/* Its calls have been freed. In a child it only closes descriptors. */
void driver_free(struct driver *driver);
int driver_has_forked(const struct driver *driver);

/* Queues the call. Where there is no poller, also writes it where none is under way or many wait: else it goes along
 * with the next one, or with whoever waits. */
lossd_code driver_start(struct driver *driver, lossd_call *call, lossd_error *error);
/* Until the call has ended, for `limit_us` at most. Not with the interpreter's lock. */
enum driver_outcome driver_wait(struct driver *driver, const lossd_call *call, uint64_t limit_us);
/* Reads and writes what there is, without waiting. */
void driver_turn(struct driver *driver);
/* With a poller: the next call that has ended, by its token; 0: there is none. */
uint64_t driver_next_ended(struct driver *driver);
/* With a poller: microseconds until it wants a turn though nothing happens; NEVER. */
uint64_t driver_pause(struct driver *driver);
int driver_is_done(struct driver *driver, const lossd_call *call);
/* Whether the caller is to connect, as with DRIVER_CONNECT. */
int driver_take_connect(struct driver *driver);
/* Takes the socket over. */
void driver_connected(struct driver *driver, int descriptor);
/* CANCELLED: another caller is asked. */
void driver_refused(struct driver *driver, lossd_code code, const char *text);
void driver_cancel(struct driver *driver, lossd_call *call);
/* Ends the call where it is under way: its memory is touched no more. */
void driver_abandon(struct driver *driver, lossd_call *call);
/* Forgets that it has ended, where that has not been told. */
void driver_retire(struct driver *driver, lossd_call *call);
void driver_drop(struct driver *driver, lossd_call *call);
/* Ends the connection, and calls under way with UNAVAILABLE. */
void driver_close(struct driver *driver);

#endif
