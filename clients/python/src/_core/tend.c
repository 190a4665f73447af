/* A thread that tends a driver's connections where nobody waits.
 *
 * When a connection ends, the daemon soon frees what lies in its memory: the thread sees the end at once, and makes
 * what the caller has there ordinary memory. It also leads where calls have been under way for a while and nobody waits
 * for them: a daemon ends a connection from which nothing is taken. It runs nothing of the interpreter's. */
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "driver.h"

#define TEND_MS 1000u /* for how long what is left alone is left alone */

static int has_work(const struct driver *driver) {
  if (driver->poller >= 0) return 0; /* the loop has its turns */
  if (driver->core.pending != NULL) return 1;
  for (const struct connection *item = driver->core.connections; item != NULL; item = item->next) {
    if (item->flight_count > 0 || item->output.pending > 0) return 1;
  }
  return 0;
}

static int has_ended(const struct connection *connection) {
  struct pollfd item = {connection->descriptor, POLLRDHUP, 0};
  return poll(&item, 1, 0) > 0;
}

static void *tend(void *argument) {
  struct driver *driver = argument;
  pthread_mutex_lock(&driver->lock);
  while (driver->is_tending) {
    struct pollfd items[1 + CONNECTIONS_MAX] = {{driver->tender_wake, POLLIN, 0}};
    nfds_t count = 1;
    for (struct connection *item = driver->core.connections; item != NULL && count <= CONNECTIONS_MAX;
         item = item->next) {
      if (item->has_ended) continue;
      items[count].fd = item->descriptor;
      items[count++].events = POLLRDHUP;
    }
    int is_busy = has_work(driver);
    driver->is_tender_idle = !is_busy;
    pthread_mutex_unlock(&driver->lock);
    int ready = poll(items, count, is_busy ? (int)TEND_MS : -1);
    uint64_t times;
    if (ready > 0 && items[0].revents != 0 && read(driver->tender_wake, &times, sizeof times) < 0) {
      /* It has been read already. */
    }
    driver_enter_alone(driver);
    for (struct connection *item = driver->core.connections; ready > 0 && item != NULL; item = item->next) {
      /* The descriptors that were polled may be others by now. */
      if (item->has_ended || !has_ended(item)) continue;
      item->has_ended = 1;
      segments_end(item);
    }
    while (ready == 0 && driver->is_tending && !driver->has_leader && driver->waiters == NULL && has_work(driver)) {
      driver_lead(driver, driver->core.now + TEND_MS * 1000);
    }
    driver_hand_on(driver);
  }
  driver->is_tending = 0;
  pthread_mutex_unlock(&driver->lock);
  return NULL;
}

void driver_tend(struct driver *driver, int is_left) {
  if (is_left && driver->is_tender_idle) {
    driver->is_tender_idle = 0;
    driver_wake_tender(driver);
  }
  if (driver->has_tender || driver->is_closed) return;
  if (driver->tender_wake < 0) driver->tender_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (driver->tender_wake < 0) return; /* no room: another time */
  sigset_t all, before;
  pthread_attr_t attributes;
  sigfillset(&all);
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256u << 10);
  driver->is_tending = 1;
  pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the interpreter's threads' */
  driver->has_tender = pthread_create(&driver->tender, &attributes, tend, driver) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
}

void driver_wake_tender(struct driver *driver) {
  uint64_t one = 1;
  if (driver->has_tender && write(driver->tender_wake, &one, sizeof one) < 0) {
    /* The counter is full: it is awake. */
  }
}

void driver_end_tender(struct driver *driver) {
  driver->is_tending = 0;
  driver_wake_tender(driver);
  driver_wake_leader(driver); /* it may be that one */
}
