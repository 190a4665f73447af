/* What the daemon's frames mean. */
#ifndef LOSSD_FRAMES_H
#define LOSSD_FRAMES_H

#include "connection.h"

#define CONTROL_MAX (1u << 20) /* bytes of answers to PING that a daemon may leave unread */

/* A whole message has come; it sets the places of a payload. Not OK: the connection's end. */
lossd_code connection_take(struct connection *connection, const struct frame *frame, const unsigned char *message,
                           lossd_error *error);
/* The payload of the frame, if it has one, has come. */
void connection_payload_ended(struct connection *connection, const struct frame *frame);

#endif
