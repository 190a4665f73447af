/* Segments: shared memory that the daemon makes and maps too, each a region of one connection. */
#ifndef LOSSD_SEGMENT_H
#define LOSSD_SEGMENT_H

#include "events.h"
#include "error.h"

struct connection;
struct core;
struct result;

#define SEGMENTS_MAX 200u                    /* a daemon makes 256 for a connection */
#define SEGMENT_BYTES_MAX ((size_t)1 << 30)  /* of all segments */
#define SEGMENT_ALONE ((size_t)256 << 20)    /* one of so many is asked for whatever there is: the daemon decides */
#define SEGMENT_IDLE_MAX ((size_t)512 << 20) /* of those that nobody uses */
#define SHARED_MIN ((size_t)192 << 10)       /* bytes of inputs from which on they lie in shared memory: it is quicker then */

/* What the core has done with descriptors and mappings, which takes system calls: its driver's, or a test's. */
struct core_memory {
  /* The first `bytes` of the file, readable and writable, at a multiple of a page. NULL where the file has not so many
   * bytes or is not sealed against shrinking: touching it could end the process. */
  void *(*map)(int descriptor, size_t bytes);
  /* Makes the mapping this process's own memory, in its place and with what lies there. 0: that was lost, since the
   * file does not begin with `mark` any more. */
  int (*keep)(void *base, size_t bytes, int descriptor, uint64_t mark);
  void (*unmap)(void *base, size_t bytes);
  void (*close)(int descriptor);
};

enum segment_state {
  SEGMENT_ASKED, /* the daemon has not answered yet */
  SEGMENT_THERE,
  SEGMENT_GONE   /* ordinary memory, or none: it was refused, or its connection has ended */
};

/* A region of one connection; where it is GONE and has memory, that is ordinary. */
struct segment {
  struct source source;
  struct segment *next;
  uint64_t number;               /* the region's */
  struct connection *connection; /* NULL: it has ended */
  enum segment_state state;
  int descriptor;  /* -1: none */
  int is_mapped;   /* else `base` is of malloc */
  unsigned char *base;
  size_t size;
  int has_result;  /* that the user may look at */
  int is_written;  /* the user's, that a call under way has a result in */
  int is_due;      /* it is to become ordinary memory when that has ended */
  int is_lost;     /* what lay there when its connection ended could not be kept */
  unsigned uses; /* by calls that the daemon has not ended */
  enum { SEGMENT_IDLE, SEGMENT_CALLS, SEGMENT_USERS, SEGMENT_LEFT } owner;
  int is_tainted; /* the daemon may be at it though nobody uses it: it is not used again */
};

/* What one request that is under way uses. */
struct uses {
  struct segment **list;
  size_t count;
  size_t capacity;
};

/* A segment for a call's own, there or asked for; NULL: none to be had. */
struct segment *segment_take(struct connection *connection, size_t size);
/* One for the user, asked for (CORE_MEMORY says when it is there or refused); NULL: this connection gives none. */
struct segment *segment_ask(struct connection *connection, size_t size);
/* Ordinary memory for the user, in place of one; NULL without memory. */
struct segment *segment_ordinary(struct core *core, size_t size);
/* The size that a segment for so many bytes has. */
size_t segment_rounded(size_t size);
/* Its owner has no more use for it: idle again once the daemon has not either. */
void segment_leave(struct core *core, struct segment *segment);
/* The user's segment that begins at the address; NULL: there is none. */
struct segment *segment_of_user(const struct core *core, const void *base);
/* The user's memory of a connection, of any where that is NULL, that the address lies in; NULL: it is other memory. */
struct segment *segment_find(const struct core *core, const struct connection *connection, const void *address,
                             size_t bytes);
/* Where an address in it is in its region. */
uint64_t segment_offset(const struct segment *segment, const void *address);
/* Whether what lay at the address was lost with its connection. */
int segment_is_lost(const struct core *core, const void *address);
extern const char segment_lost[];
/* For a child of a fork, which leaves all else of the core to its parent: gives the memory of a user's segment back. */
void segment_unmap(const struct core *core, const struct segment *segment);
void segments_free(struct core *core);
/* The daemon's answer to REGION. */
lossd_code region_answered(struct connection *connection, uint64_t number, int is_made, lossd_error *error);
/* How many answers to REGION are to come. */
size_t segments_asked(const struct connection *connection);
/* The connection has ended, or is about to: what the user has in its segments becomes ordinary memory. */
void segments_end(struct connection *connection);
/* The same of all of them that are the user's, before somebody else comes to have the memory too: a child of a fork. What
 * the daemon is writing to follows when it has ended. */
void segments_keep(struct core *core);
/* The result's segment becomes the user's; NULL: it lies elsewhere. */
struct segment *segment_give(struct result *result);

int uses_add(struct uses *uses, struct segment *segment);
/* They are `to`'s from here on. Without memory they are never used again. */
void uses_move(struct uses *to, struct uses *from);
void uses_free(struct uses *uses);
/* `is_safe`: the daemon has said that it touches them no more. */
void uses_end(struct core *core, struct uses *uses, int is_safe);

#endif
