/* wicked: a plugin for tests alone that does whatever its attribute `mode` names. deeds.def is the list. */
#ifndef WICKED_H
#define WICKED_H

#define _GNU_SOURCE
#include <lossd/plugin.h>
#include <string.h>

enum { PLAN, RUN, FINISH, MERGE, BOTH }; /* BOTH: plan and run */
enum { MODE, ARGUMENT, WHERE, LOW, HIGH, COST, TEXT };
enum { SUM, MERGED_MODE }; /* the accumulator's fields */

/* What a deed is given. Only what its step has is there, the rest is NULL. */
typedef struct moment {
  int step;
  const lossd_value *attributes;
  const lossd_call *call;
  lossd_plan *plan;
  const lossd_chunk *chunk;
  lossd_error *error;
  uint64_t *present;
  double *value;  /* what finish answers */
  double result;  /* run: added to the loss */
  int has_result; /* run: instead of the outputs' sum */
  int32_t code;   /* what the callback returns */
} moment;

/* `argument`, or the deed's own number where it is -1 or there are no attributes (merge). */
static inline int64_t argument(const moment *at, int64_t usual) {
  int64_t given = at->attributes ? at->attributes[ARGUMENT].as.integer : -1;
  return given == -1 ? usual : given;
}

static inline lossd_tensor *output(const moment *at) {
  return at->chunk && at->call->wanted & 1 ? &at->call->outputs[0] : 0;
}

static inline void answer(moment *at, double result) {
  at->result = result;
  at->has_result = 1;
}

/* What the optimiser may not see through. */
extern void *volatile wicked_nowhere;

#define DEED(mode, step) void deed_##mode(moment *at);
#include "deeds.def"
#undef DEED
#endif
