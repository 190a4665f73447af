/* A connection's socket. */
#ifndef LOSSD_SOCKET_H
#define LOSSD_SOCKET_H

#include "core/connection.h"

/* Writes what the connection has, as far as the socket takes it. */
void socket_flush(struct connection *connection);
/* Reads what has come, without waiting. */
void socket_read(struct connection *connection);

#endif
