/* The blocking library's clock. */
#ifndef LOSSD_CLOCK_H
#define LOSSD_CLOCK_H

#include <stdint.h>

/* Monotonic microseconds. */
uint64_t now_us(void);

#endif
