/* A call: what is asked, and what came. */
#ifndef LOSSD_CALL_H
#define LOSSD_CALL_H

#include "lossd.pb-c.h"
#include "memory.h"
#include "notes.h"
#include "segment.h"

struct input {
  char *name;
  lossd_type type;
  size_t rank;
  int64_t *shape;
  const void *data;
  size_t bytes;
};

struct attribute {
  char *name;
  Lossd__V1__Value value; /* its string is ours */
};

struct result {
  char *name;
  int is_asked;   /* by lossd_call_output; else it came by itself */
  int is_present; /* with the last answer */
  void *given;
  size_t given_bytes;
  void *owned;
  size_t owned_bytes;
  struct segment *segment; /* where the daemon is asked to write it, or has */
  struct segment *place;   /* where this answer goes: that one, or the user's, which has `given` */
  size_t into;             /* the offset there */
  size_t into_bytes;       /* 0: it comes in the payload */
  int64_t shape[LOSSD_RANK_MAX];
  lossd_tensor tensor;
};

enum call_kind {
  CALL_EVALUATE,
  CALL_PART, /* a stream of one request, which has results where it brings inputs, and then a Summary, its `answer` */
  CALL_RAW,  /* `message` is the caller's, of whatever type, and its answer is not looked into */
  CALL_PING  /* no call of the protocol's: its `round_trip` says how long the daemon took */
};

enum call_state { CALL_IDLE, CALL_PENDING, CALL_SENT, CALL_IN_STREAM, CALL_DONE };

struct lossd_call {
  struct source source;
  struct core *core;
  lossd_call *next; /* in the core's list of pending ones */
  lossd_call *previous;
  const char *method; /* a constant */
  char *function;     /* NULL: a batch, or of another kind */
  enum call_kind kind;
  struct input *inputs;
  size_t input_count;
  size_t input_capacity;
  struct attribute *attributes;
  size_t attribute_count;
  size_t attribute_capacity;
  struct result *results;
  size_t result_count;
  size_t result_capacity;
  uint64_t timeout_us;
  struct notes notes; /* of setters that failed */

  /* encode.c's: the message of the request, kept while nothing in it changes. */
  struct bytes message;
  int is_encoded;
  uint64_t payload_length;
  uint64_t input_bytes;
  struct bytes before; /* field `summaries` of a stream's first request, behind the message that is kept */
  uint64_t number;     /* a part's id, which the daemon's texts name */

  /* placement.c's: the same request with its tensors in shared memory. */
  struct bytes shared_message;
  int is_shared;            /* the request that is under way is that one */
  int has_no_into;          /* a result had another size than was thought */
  int has_results;          /* of a part have come */
  struct segment *segment;  /* copies of inputs */
  struct uses uses;

  /* core.c's and stream.c's */
  enum call_state state;
  int is_cancelled;      /* the daemon has been asked to stop */
  lossd_stream *stream;  /* whose batch, or description, it is */
  struct connection *connection;
  uint32_t id;
  uint64_t queued_until; /* the mark of its output's end, see output_abandon */
  uint64_t deadline;     /* the core's clock */
  lossd_error outcome;
  struct bytes answer; /* a raw call's, a part's Summary, or the Status that the call ended with */
  uint64_t round_trip; /* microseconds; before its answer: when it was sent */
};

/* `function` NULL: a batch. NULL without memory. */
lossd_call *call_new(struct core *core, const char *function);
/* A call of any method with one request and one response. `method` is a constant, `message` is copied. */
lossd_call *call_new_raw(struct core *core, const char *method, const void *message, size_t length);
/* A batch as a data set of its own, which goes on from `summaries`: the field of EvaluateRequest, encoded, is copied. */
lossd_call *call_new_part(struct core *core, const char *function, uint64_t number, const void *summaries,
                          size_t length);
lossd_call *call_new_ping(struct core *core);
/* At any time; one under way is cancelled and not waited for. */
void call_free(lossd_call *call);
struct input *call_find_input(const lossd_call *call, const char *name);
struct result *call_find_result(const lossd_call *call, const char *name);
/* The result of that name, made where it is not there; NULL without memory. */
struct result *call_make_result(lossd_call *call, const char *name);
void call_forget_results(lossd_call *call);

#endif
