/* Lies of plan and of finish. */
#include "wicked.h"
#include <stdint.h>
#include <time.h>

static void planned(moment *at, uint32_t data_type, uint32_t rank, int64_t size) {
  if (!at->plan) return;
  at->plan->outputs[0].data_type = data_type;
  at->plan->outputs[0].rank = rank;
  at->plan->outputs[0].shape[0] = size;
}

void deed_lie_type(moment *at) { planned(at, 99, 1, 4); }
void deed_lie_absent(moment *at) { planned(at, LOSSD_ABSENT, 0, 0); }
void deed_lie_rank(moment *at) { planned(at, LOSSD_FLOAT32, 1000, 4); }
void deed_lie_negative(moment *at) { planned(at, LOSSD_FLOAT32, 1, -5); }

void deed_lie_huge(moment *at) {
  planned(at, LOSSD_FLOAT32, 3, (int64_t)1 << 31);
  if (!at->plan) return;
  at->plan->outputs[0].shape[1] = at->plan->outputs[0].shape[2] = (int64_t)1 << 31;
}

void deed_lie_big(moment *at) { planned(at, LOSSD_FLOAT32, 1, (int64_t)1 << 40); }

void deed_lie_rows(moment *at) {
  if (at->plan) at->plan->rows = -1;
}

void deed_lie_passes(moment *at) {
  if (at->plan) at->plan->pass_count = 1000;
}

void deed_lie_units(moment *at) {
  if (at->plan) at->plan->passes[0].units = -1;
}

void deed_lie_many(moment *at) {
  if (at->plan) at->plan->passes[0].units = (int64_t)1 << 62;
}

void deed_lie_cost(moment *at) {
  volatile double zero = 0;
  if (at->plan) at->plan->passes[0].unit_cost_ns = zero / zero;
}

void deed_lie_cheap(moment *at) {
  struct timespec begin, now;
  if (at->plan) at->plan->passes[0].unit_cost_ns = 0;
  if (!at->chunk) return;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  do {
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 <
           argument(at, 50));
}

void deed_lie_workspace(moment *at) {
  if (at->plan) at->plan->workspace_bytes = (size_t)1 << 60;
}

void deed_lie_scratch(moment *at) {
  if (at->plan) at->plan->scratch_bytes = (size_t)1 << 60;
}

static void reduced(moment *at, uint32_t data_type, uint32_t rank, uint32_t value) {
  if (!at->plan) return;
  at->plan->outputs[0].data_type = data_type;
  at->plan->outputs[0].rank = rank;
  at->plan->outputs[0].flags = LOSSD_PLANNED_REDUCED;
  at->plan->outputs[0].value_index = value;
}

void deed_lie_reduced(moment *at) { reduced(at, LOSSD_FLOAT32, 1, 0); }
void deed_lie_value(moment *at) { reduced(at, LOSSD_FLOAT32, 0, 1000); }
void deed_lie_integer(moment *at) { reduced(at, LOSSD_INT64, 0, 0); }

void deed_lie_pointer(moment *at) {
  static lossd_planned_output own[2];
  own[0].data_type = LOSSD_FLOAT64;
  own[0].rank = 1;
  own[0].shape[0] = 1;
  if (at->plan) at->plan->outputs = own;
}

void deed_lie_sizes(moment *at) {
  if (at->plan) at->plan->struct_size = 0xffffffff;
  if (at->call) ((lossd_call *)(uintptr_t)at->call)->struct_size = 0xffffffff;
}

void deed_lie_present(moment *at) {
  if (at->present) *at->present = 0;
}

void deed_lie_bits(moment *at) {
  if (at->present) *at->present = ~(uint64_t)0;
}

void deed_nan(moment *at) {
  volatile double zero = 0;
  if (at->value) *at->value = zero / zero;
}
