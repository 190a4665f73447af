/* Codes, texts and lines of the log. */
#include "wicked.h"
#include <stdio.h>
#include <stdlib.h>

static void says(moment *at, const char *text) {
  if (at->error) strcpy(at->error->text, text);
  at->code = LOSSD_INTERNAL;
}

void deed_code(moment *at) {
  says(at, "a code that I like");
  at->code = (int32_t)argument(at, 77);
}

void deed_code_no_text(moment *at) { says(at, ""); }

void deed_text_no_end(moment *at) {
  says(at, "");
  if (at->error) memset(at->error->text, 'x', sizeof at->error->text);
}

void deed_text_bytes(moment *at) { says(at, "\xff\xfe\x1b[31mred\nlossd: forged\r\x07\x80 end"); }

static void log_line(moment *at, const char *text) {
  if (at->call) at->call->host->log(at->call->host, LOSSD_LOG_WARNING, text);
}

void deed_floods_log(moment *at) {
  char text[64];
  for (int64_t i = argument(at, 100000); i > 0; i--) {
    snprintf(text, sizeof text, "wicked: %lld lines to go", (long long)i);
    log_line(at, text);
  }
}

void deed_logs_long(moment *at) {
  size_t bytes = 1 << 20;
  char *text = malloc(bytes);
  if (!text) return;
  memset(text, 'l', bytes);
  text[bytes - 1] = 0;
  log_line(at, text);
  free(text);
}

void deed_logs_lies(moment *at) {
  log_line(at, "first\n<2>lossd: a forged line\n\x1b[2Jcleared\xff");
}
