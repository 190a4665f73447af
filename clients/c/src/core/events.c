/* Events: a list of subjects, linked through them, so that telling takes no memory. */
#include "events.h"

#include <stddef.h>

void source_raise(struct sources *sources, struct source *source, enum core_event_kind kind) {
  if (source->untold == 0) {
    source->next = NULL;
    source->previous = sources->last;
    *(sources->last == NULL ? &sources->first : &sources->last->next) = source;
    sources->last = source;
  }
  source->untold |= 1u << kind;
}

void source_drop(struct sources *sources, struct source *source) {
  if (source->untold == 0) return;
  *(source->previous == NULL ? &sources->first : &source->previous->next) = source->next;
  *(source->next == NULL ? &sources->last : &source->next->previous) = source->previous;
  source->untold = 0;
}

int sources_next(struct sources *sources, struct core_event *event) {
  struct source *source = sources->first;
  if (source == NULL) return 0;
  int kind = __builtin_ctz(source->untold);
  event->kind = (enum core_event_kind)kind;
  event->subject = source;
  if (source->untold == 1u << kind) {
    source_drop(sources, source);
  } else {
    source->untold &= ~(1u << kind);
  }
  return 1;
}
