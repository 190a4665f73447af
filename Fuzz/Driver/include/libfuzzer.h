// libFuzzer, used as a library: the program has a main of its own.
#ifndef LOSSD_LIBFUZZER_H
#define LOSSD_LIBFUZZER_H

#include <stddef.h>
#include <stdint.h>

// Runs `test` on inputs without end, or on those that the arguments name. Returns the exit status.
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*test)(const uint8_t *data, size_t size));

#endif
