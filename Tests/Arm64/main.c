/* Writes what the kernels gave to standard output, for run.sh to compare. */
#include <stdio.h>

extern void check_kernels(void);

void emit(const void *bytes, long count) { fwrite(bytes, 1, (size_t)count, stdout); }

int main(void) {
  check_kernels();
  return fflush(stdout) ? 1 : 0;
}
