/* What a call's setters could not set. */
#ifndef LOSSD_NOTES_H
#define LOSSD_NOTES_H

#include "memory.h"

enum note_kind { NOTE_INPUT, NOTE_ATTRIBUTE, NOTE_OUTPUT, NOTE_TIMEOUT };

struct note {
  enum note_kind kind;
  char *name; /* of the thing that was to be set; NULL: the caller gave none */
  lossd_code code;
  const char *what; /* a constant */
};

struct notes {
  struct note *items; /* in the order in which they came */
  size_t count;
  size_t capacity;
  int is_short; /* there was no memory for one */
};

/* In the place of the note on the same thing, if there is one. `what` is a constant. */
void notes_add(struct notes *notes, enum note_kind kind, const char *name, lossd_code code, const char *what);
/* The thing has been set right. */
void notes_remove(struct notes *notes, enum note_kind kind, const char *name);
/* OK, or the first note. One that nothing can put right is dropped, since it has been told now. */
lossd_code notes_check(struct notes *notes, lossd_error *error);
void notes_free(struct notes *notes);

#endif
