/* Codes and texts. */
#include "error.h"

#include <stdio.h>

const char *lossd_version(void) { return LOSSD_VERSION; }

const char *lossd_code_name(lossd_code code) {
  static const char *const names[] = {
      "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
      "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
      "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"};
  unsigned number = (unsigned)code;
  return number < sizeof names / sizeof *names ? names[number] : "UNKNOWN";
}

/* Takes away a character at the end of which a cut has left the beginning alone. */
static void trim_utf8(char *text, size_t length) {
  size_t start = length;
  while (start > 0 && length - start < 3 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) start--;
  if (start == 0) return;
  unsigned char lead = (unsigned char)text[start - 1];
  size_t needs = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
  if (length - (start - 1) < needs) text[start - 1] = 0;
}

void write_text(char *text, size_t size, const char *format, va_list arguments) {
  int length = vsnprintf(text, size, format, arguments);
  if (length >= (int)size) trim_utf8(text, size - 1);
}

lossd_code fail(lossd_error *error, lossd_code code, const char *format, ...) {
  if (error == NULL) return code;
  char text[sizeof error->text]; /* the arguments may lie in `error` itself */
  va_list arguments;
  va_start(arguments, format);
  write_text(text, sizeof text, format, arguments);
  va_end(arguments);
  error->code = code;
  memcpy(error->text, text, sizeof text);
  return code;
}

lossd_code succeed(lossd_error *error) {
  if (error != NULL) {
    error->code = LOSSD_OK;
    error->text[0] = 0;
  }
  return LOSSD_OK;
}
