/* babbler: an activation whose process writes more to its log than the daemon reads in a second, and ends. */
#include <string.h>
#include <unistd.h>

#define PLUGIN "babbler"
#define FUNCTION "babble"
#define SUMMARY "writes and ends"
#include "one_activation.h"

static int32_t run(const lossd_call *call, const lossd_chunk *chunk, lossd_error *error) {
  /* Short lines, as many as a pipe holds. */
  static char lines[60000];
  (void)call, (void)chunk, (void)error;
  memset(lines, 'x', sizeof lines);
  for (size_t at = 15; at < sizeof lines; at += 16) lines[at] = '\n';
  if (write(2, lines, sizeof lines) < 0) return LOSSD_INTERNAL;
  _exit(3);
}
