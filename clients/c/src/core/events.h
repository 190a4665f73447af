/* What a driver is told: each subject stands in one list as long as something of it has not been told. */
#ifndef LOSSD_EVENTS_H
#define LOSSD_EVENTS_H

#include <stdint.h>

enum core_event_kind {
  CORE_CONNECT,  /* core: connect to the daemon, and say by core_connected or core_refused how that went */
  CORE_HELLO,    /* connection: the daemon's first word has come */
  CORE_GOAWAY,   /* connection: the daemon is being shut down; calls under way go on */
  CORE_CLOSED,   /* connection: it has ended, see `error`: close its descriptor and call connection_free */
  CORE_RESPONSE, /* lossd_call: it has ended, see `outcome`; `answer` has the message of a raw one */
  CORE_READY,    /* lossd_stream: it takes batches */
  CORE_CREDIT,   /* lossd_stream: every batch that it was given has been queued, another one may follow */
  CORE_BATCH,    /* lossd_stream: batches have been answered, see stream_take_answered */
  CORE_SUMMARY,  /* lossd_stream: it has come to its end, and the summary is there */
  CORE_FAILED,   /* lossd_stream: it has failed, see `failure` */
  CORE_MEMORY    /* segment: the daemon has made it, or not, see `state` */
};

struct core_event {
  enum core_event_kind kind;
  void *subject; /* as said above */
};

/* Begins each subject. */
struct source {
  struct source *next;
  struct source *previous;
  unsigned untold; /* a bit for each kind of event */
  uint64_t token;  /* its driver's own */
};

struct sources {
  struct source *first;
  struct source *last;
};

/* The same kind twice, while it has not been told, is one event. */
void source_raise(struct sources *sources, struct source *source, enum core_event_kind kind);
/* Nothing of it is told any more: it is being freed, or begins anew. */
void source_drop(struct sources *sources, struct source *source);
/* The next event; 0: there is none. */
int sources_next(struct sources *sources, struct core_event *event);

#endif
