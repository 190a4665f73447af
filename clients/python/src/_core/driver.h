/* Drives liblossd's core for several threads of one client. Knows nothing of Python.
 *
 * Whoever waits drives: the first of the waiting threads polls and reads for all, and hands that on when what it
 * waits for has come. So no thread is started for a call, and one that is alone wakes nobody but itself. `lock`
 * guards the core; it is never held while a thread polls or runs anything of the interpreter's. An event loop has a
 * driver of its own, which starts nothing by itself: `poller` says when it has a turn. Connecting is the caller's:
 * it may take long, and is done differently by threads and by an event loop. Where something is left alone, be it
 * calls that nobody waits for yet or arrays in shared memory, a thread tends the connection: see tend.c. */
#ifndef LOSSD_PYTHON_DRIVER_H
#define LOSSD_PYTHON_DRIVER_H

#include <pthread.h>

#include "core.h"

/* Whether what somebody waits for has come. */
typedef int (*driver_condition)(const void *subject);

/* A thread in driver_wait. On its stack. */
struct waiter {
  struct waiter *next;
  driver_condition is_over;
  const void *subject;
  pthread_cond_t changed;
};

struct driver {
  struct core core;
  struct driver *next; /* of the process */
  pthread_mutex_t lock;
  struct waiter *waiters;
  int has_leader;   /* one of them polls */
  int wake;         /* eventfd: the leader is to look again; -1: no room for one, it looks when its time is over */
  int poller;       /* epoll of the sockets, for an event loop; -1: threads wait */
  int wants_socket; /* the core asks for a connection, and nobody makes it yet */
  int has_big;      /* the next turn copies much */
  int is_closed;
  unsigned forks; /* of `driver_forks` when it was made */
  /* tend.c's */
  pthread_t tender;
  int has_tender;
  int tender_wake;    /* eventfd */
  int is_tender_idle; /* it sleeps until it is woken */
  int is_tending;     /* 0: it is to end */
};

enum driver_outcome {
  DRIVER_ENDED,   /* what was waited for has come */
  DRIVER_WAITING, /* it has not, and the time is over or a signal came */
  DRIVER_CONNECT  /* the caller is to connect, and say by driver_connected or driver_refused how that went */
};

#define DRIVER_BIG (64u << 10) /* bytes of inputs from which on copying them is worth letting other threads in */

/* How often this process has come out of a fork. A driver of an earlier number is the parent's: its calls, lock and
 * sockets are to be left alone. */
extern unsigned driver_forks;
/* What a thread does that finds the lock taken: it may have to let others go on first. */
extern void (*driver_lock_slowly)(pthread_mutex_t *lock);
/* Once. 0: there is no memory. */
int driver_watch_forks(void);
/* Before a fork: arrays in shared memory become ordinary ones, since the child has them too. */
void driver_before_fork(void);

/* `name` is the daemon's, for texts, and lives as long as the driver. `shared_min`, `shared_max`: see struct core. NULL
 * without memory. */
struct driver *driver_new(const char *name, uint64_t connect_timeout_us, int is_local, size_t shared_min,
                          size_t shared_max);
/* Makes it one for an event loop. 0: there is no room for its descriptor. */
int driver_make_poller(struct driver *driver);
/* Its calls, streams and memory have been freed. In a child it only closes descriptors. */
void driver_free(struct driver *driver);
int driver_has_forked(const struct driver *driver);

/* Queues the call. Where there is no poller, also writes it where none is under way or many wait: else it goes along
 * with the next one, or with whoever waits. `is_left`: nobody may wait for it soon. */
lossd_code driver_start(struct driver *driver, lossd_call *call, int is_left, lossd_error *error);
/* Until that holds, for `limit_us` at most. Not with the interpreter's lock. */
enum driver_outcome driver_wait(struct driver *driver, driver_condition is_over, const void *subject,
                                uint64_t limit_us);
int driver_holds(struct driver *driver, driver_condition is_over, const void *subject);
int driver_call_has_ended(const void *call);
/* Reads and writes what there is, without waiting. */
void driver_turn(struct driver *driver);
/* With a poller: the token of the next call, stream or memory that has come further; 0: there is none. */
uint64_t driver_next_token(struct driver *driver);
/* With a poller: microseconds until it wants a turn though nothing happens; NEVER. */
uint64_t driver_pause(struct driver *driver);
/* Whether the caller is to connect, as with DRIVER_CONNECT. */
int driver_take_connect(struct driver *driver);
/* Takes the socket over. */
void driver_connected(struct driver *driver, int descriptor);
/* CANCELLED: another caller is asked. */
void driver_refused(struct driver *driver, lossd_code code, const char *text);
void driver_cancel(struct driver *driver, lossd_call *call);
/* Ends the call where it is under way: its memory is touched no more. */
void driver_abandon(struct driver *driver, lossd_call *call);
/* It has ended, and is to be used again: what it has of shared memory goes to whoever needs it. */
void driver_retire(struct driver *driver, lossd_call *call);
void driver_drop(struct driver *driver, lossd_call *call);
/* Ends the connection, and what is under way with UNAVAILABLE. */
void driver_close(struct driver *driver);

/* ---- Streams ---- */

/* NULL with an error. */
lossd_stream *driver_stream_new(struct driver *driver, const lossd_call *first, uint64_t token, lossd_error *error);
lossd_code driver_stream_add(struct driver *driver, lossd_stream *stream, lossd_call *batch, uint64_t number,
                             lossd_error *error);
/* The oldest batch that has been answered; NULL: there is none. */
lossd_call *driver_stream_take(struct driver *driver, lossd_stream *stream);
void driver_stream_finish(struct driver *driver, lossd_stream *stream);
void driver_stream_fail(struct driver *driver, lossd_stream *stream, lossd_code code, const char *text);
void driver_stream_free(struct driver *driver, lossd_stream *stream);

/* ---- Shared memory ---- */

/* Memory of the connection for so many bytes, there or asked for; NULL: there is none to be had. */
struct segment *driver_share(struct driver *driver, size_t bytes, uint64_t token);
/* Makes the result's memory the caller's; NULL: it is not shared. */
struct segment *driver_give(struct driver *driver, struct result *result);
void driver_leave(struct driver *driver, struct segment *segment);
int driver_segment_is_settled(const void *segment);

/* ---- For its parts ---- */

void driver_enter(struct driver *driver);
/* Where the interpreter's lock is not held. */
void driver_enter_alone(struct driver *driver);
void driver_exit(struct driver *driver);
/* The lock held, as with the next ones. Polls until something happens or `until`, without it, and takes in what came. 0:
 * a signal came. */
int driver_lead(struct driver *driver, uint64_t until);
/* Another one that waits leads from here on. */
void driver_hand_on(struct driver *driver);
void driver_wake_leader(struct driver *driver);
/* Has the connections tended from here on; `is_left`: something is under way, and nobody may wait for it. The lock
 * held. */
void driver_tend(struct driver *driver, int is_left);
/* It has a connection more or less, or something to see to. */
void driver_wake_tender(struct driver *driver);
void driver_end_tender(struct driver *driver);

#endif
