/* One connection: bytes in, bytes out, and its calls under way. Its driver has the socket. */
#ifndef LOSSD_CONNECTION_H
#define LOSSD_CONNECTION_H

#include "call.h"
#include "reader.h"

#define FLIGHTS_MAX 512u    /* calls under way; a power of two */
#define DESCRIPTORS_MAX 8u  /* that may come before the frames that they belong to */

enum flight_kind { FLIGHT_NONE, FLIGHT_CALL, FLIGHT_STREAM, FLIGHT_ABANDONED };

/* A stream of the protocol that is open; its place is the id modulo FLIGHTS_MAX. */
struct flight {
  uint32_t id;
  enum flight_kind kind;
  void *owner;      /* lossd_call or lossd_stream */
  struct uses uses; /* of who has left it */
};

struct connection {
  struct source source;
  struct connection *next; /* the core's */
  struct core *core;
  int descriptor;        /* the driver's own, as are the next: they are not looked at here */
  int has_waited;        /* for room to write */
  int has_ended;         /* the other side has, though that has not been read yet */
  int is_closed;
  lossd_error error;     /* why; OK: it has nothing left to do */
  int is_draining;       /* the server's GOAWAY with code 0 */
  int cannot_write;      /* it reads no more; what it said last is still to be read */
  int has_hello;
  uint64_t hello_deadline;
  uint32_t message_max;  /* the server's limits */
  uint64_t payload_max;
  uint32_t streams_max;
  uint32_t stream_credit;
  uint32_t next_id;
  uint32_t highest_id;
  struct flight flights[FLIGHTS_MAX];
  size_t flight_count;
  lossd_call *pings;     /* that have been sent and not answered, in order */
  uint64_t pings_sent;
  uint64_t pings_answered;
  int has_shared_memory;
  int descriptors[DESCRIPTORS_MAX]; /* that have come before their frames; -1: one was lost */
  size_t descriptor_count;
  size_t region_refused; /* bytes from which on the daemon wants none; 0: it has refused nothing */
  struct reader reader;
  struct output output;
};

/* ---- Its driver's ---- */

/* Where the next bytes may be read to, tensors to where they shall go: at most `max` vectors, two or more. 0: the
 * connection has ended. */
size_t connection_room(struct connection *connection, struct iovec *vectors, size_t max);
/* So many bytes have been read there, and these descriptors have come along, which are the connection's from here on;
 * -1: one was lost. */
void connection_received(struct connection *connection, size_t count, const int *descriptors, size_t descriptor_count);
/* The same for bytes that lie elsewhere and are copied. */
void connection_feed(struct connection *connection, const void *bytes, size_t count, const int *descriptors,
                     size_t descriptor_count);
/* What is to be written next, tensors where they lie; 0: nothing. */
size_t connection_vectors(const struct connection *connection, struct iovec *vectors, size_t max);
/* So many bytes of it have been written. */
void connection_sent(struct connection *connection, size_t count);
/* Nothing can be written any more. The daemon may have said why before it went: that is still to be read. */
void connection_cannot_write(struct connection *connection);
/* Ends every call on it with this: the socket has ended, or cannot be read. */
void connection_close(struct connection *connection, lossd_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* After CORE_CLOSED. */
void connection_free(struct connection *connection);

/* ---- The core's ---- */

/* NULL without memory. */
struct connection *connection_new(struct core *core, int descriptor);
/* The call of that id that is under way; NULL: there is none. */
struct flight *flight_of(struct connection *connection, uint32_t id);
void end_flight(struct connection *connection, struct flight *flight);
/* How a call ended without its results, `flight` being a copy of one that has been ended. */
void end_owner(struct flight *flight, lossd_code code, const char *text, int never_began);
int connection_takes_calls(const struct connection *connection);
/* An id and a place for a call; 0 when there is none now. */
uint32_t connection_open_flight(struct connection *connection, enum flight_kind kind, void *owner);
/* One that the daemon has not heard of: its id is left out. */
void connection_drop_flight(struct connection *connection, uint32_t id);
/* Whether the daemon takes such a request, behind `head`'s message where that is not NULL: 1, 0: not before its HELLO
 * has come, -1: never. */
int connection_fits(const struct connection *connection, const lossd_call *call, const lossd_call *head,
                    lossd_error *error);
/* The daemon is told to stop; `abandon`: and nobody waits for it any more. Shared memory that the call uses stays in
 * use until the daemon has ended it. */
void connection_cancel(struct connection *connection, uint32_t id, const void *owner, int abandon);
/* Whether the call's PING has been queued; if not, HELLO has not come, or there was no memory and the call has ended. */
int connection_ping(struct connection *connection, lossd_call *call);
/* The oldest PING has been answered. */
void connection_pong(struct connection *connection);
void connection_forget_ping(struct connection *connection, lossd_call *call);
/* The oldest descriptor, which is the caller's from here on; -1: none. */
int connection_next_descriptor(struct connection *connection);

#endif
