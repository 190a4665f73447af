/* Codes and texts. An error travels as a lossd_code, and its text in a lossd_error that may be NULL. */
#ifndef LOSSD_ERROR_H
#define LOSSD_ERROR_H

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lossd.h"

lossd_code fail(lossd_error *error, lossd_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
lossd_code succeed(lossd_error *error);
/* What does not fit is cut between two characters. */
void write_text(char *text, size_t size, const char *format, va_list arguments);

#endif
