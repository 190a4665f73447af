/* The blocking client: a core, and the sockets, clock and waiting that drive it. */
#ifndef LOSSD_CLIENT_H
#define LOSSD_CLIENT_H

#include <sys/types.h>

#include "address.h"
#include "core/core.h"

struct lossd_client {
  struct core core; /* first, so that a core's client is found */
  size_t references; /* calls and streams have one each */
  int is_freed;
  int interrupt; /* eventfd */
  pid_t process;
  volatile int *mark; /* a page that a child finds empty; NULL: there is none, and `process` is compared */
  struct address address;
};

lossd_client *client_of(const struct core *core);
void client_retain(lossd_client *client);
void client_release(lossd_client *client);
/* Before the client is used: sets its time; in a child, what was under way is left to the parent. */
void client_enter(lossd_client *client);
/* Writes, waits until something happens or `until`, reads. CANCELLED: interrupted. */
lossd_code client_step(lossd_client *client, uint64_t until);
/* Reads what has come and writes what is queued, without waiting. */
void client_turn(lossd_client *client);
/* Moves what waits to the connection, makes one where that is necessary, and writes. Whether something has happened. */
int client_flush(lossd_client *client);
/* Writes what is queued for the connections. */
void client_write(lossd_client *client);

#endif
