/* Notes of the setters of a call that failed: one for each thing that was to be set, until that thing is set right.
 * `name` NULL: the caller gave none, so nothing that is set later puts it right. Such a note is told once. */
#include "notes.h"

static struct note *find(struct notes *notes, enum note_kind kind, const char *name) {
  for (size_t index = 0; name != NULL && index < notes->count; index++) {
    struct note *note = &notes->items[index];
    if (note->kind == kind && note->name != NULL && strcmp(note->name, name) == 0) return note;
  }
  return NULL;
}

static void drop(struct notes *notes, struct note *note) {
  free(note->name);
  size_t after = (size_t)(notes->items + notes->count - (note + 1));
  memmove(note, note + 1, after * sizeof *note);
  notes->count--;
}

void notes_add(struct notes *notes, enum note_kind kind, const char *name, lossd_code code, const char *what) {
  struct note *note = find(notes, kind, name);
  if (note == NULL) {
    struct note *larger = grown(notes->items, notes->count, &notes->capacity, sizeof *larger);
    if (larger != NULL) notes->items = larger;
    char *copy = name == NULL || larger == NULL ? NULL : strdup(name);
    if (larger == NULL || (name != NULL && copy == NULL)) {
      notes->is_short = 1;
      return;
    }
    note = &larger[notes->count++];
    note->kind = kind;
    note->name = copy;
  }
  note->code = code;
  note->what = what;
}

void notes_remove(struct notes *notes, enum note_kind kind, const char *name) {
  struct note *note = find(notes, kind, name);
  if (note != NULL) drop(notes, note);
}

lossd_code notes_check(struct notes *notes, lossd_error *error) {
  if (notes->is_short) {
    notes->is_short = 0;
    return fail(error, LOSSD_RESOURCE_EXHAUSTED, "a setter of the call failed: no memory");
  }
  if (notes->count == 0) return LOSSD_OK;
  struct note *first = &notes->items[0];
  lossd_code code = first->name == NULL ? fail(error, first->code, "%s", first->what)
                                        : fail(error, first->code, "%s: %s", first->name, first->what);
  if (first->name == NULL) drop(notes, first);
  return code;
}

void notes_free(struct notes *notes) {
  for (size_t index = 0; index < notes->count; index++) free(notes->items[index].name);
  free(notes->items);
  memset(notes, 0, sizeof *notes);
}
