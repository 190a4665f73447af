/* A stream: a data set in batches. */
#ifndef LOSSD_STREAM_H
#define LOSSD_STREAM_H

#include "connection.h"

struct batch {
  lossd_call *call;
  uint64_t number;
  int is_sent;
};

struct lossd_stream {
  struct source source;
  struct core *core;
  lossd_stream *next;      /* in the core's list */
  lossd_call *head;        /* function, attributes, outputs, and inputs that stay */
  lossd_call *description; /* ListFunctions */
  int is_ready;            /* it has been answered */
  char **kept;             /* names of inputs that may stay */
  size_t kept_count;
  uint64_t deadline;
  /* The call of EvaluateStream under way; there are several, one after another, when daemons come and go. */
  struct connection *connection;
  uint32_t id;
  uint32_t credit;
  int is_credit_early; /* HELLO had not come when it was opened */
  int is_head_sent;
  int is_half_closed;
  enum { ARRIVES_NOTHING, ARRIVES_BATCH, ARRIVES_END } arriving; /* whose frame's payload is still to come */
  unsigned fruitless; /* such calls in a row that answered no batch */
  /* Batches that have not been given back: answered ones, then the others. */
  struct batch *batches;
  size_t batch_count;
  size_t batch_capacity;
  size_t answered;
  uint64_t next_number;
  int is_finishing;
  uint64_t answered_ever; /* batches, of all daemons */
  int has_summary;        /* this daemon has said one, of the whole stream so far */
  lossd_summary summary;
  struct bytes summary_message; /* the same as the daemon said it */
  int is_complete;
  lossd_error failure;
  struct bytes status; /* the Status that a call of it ended with last */
};

/* Begins a stream like lossd_stream_new: CORE_READY says when it takes batches. NULL with an error. */
lossd_stream *stream_new(const lossd_call *first, lossd_error *error);
/* At any time; batches that have not come back are the caller's again. */
void stream_free(lossd_stream *stream);
/* Its description has come, or could not be had. */
void stream_described(lossd_stream *stream, lossd_call *description);
/* Queues a batch, which is the stream's until it is given back. The daemon's texts name its number. */
lossd_code stream_add(lossd_stream *stream, lossd_call *batch, uint64_t number, lossd_error *error);
/* Whether a batch has not been sent. */
int stream_has_unsent(const lossd_stream *stream);
/* The oldest batch, answered and given back; NULL: there is none. */
lossd_call *stream_take_answered(lossd_stream *stream);
void stream_fail(lossd_stream *stream, lossd_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A batch is being freed: one that has no answer yet ends the stream. */
void stream_forget(lossd_stream *stream, lossd_call *call);
int stream_keeps(const lossd_stream *stream, const char *name);

/* Takes what a daemon says that the stream came to so far; the next daemon is told of it. 0 without memory. */
int stream_keep_summary(lossd_stream *stream, const Lossd__V1__Summary *summary);

#endif
