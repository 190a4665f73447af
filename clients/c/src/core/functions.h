/* ListFunctions, as far as streams need it. */
#ifndef LOSSD_FUNCTIONS_H
#define LOSSD_FUNCTIONS_H

#include "stream.h"

/* A call that asks what the function of the stream's head is like; NULL without memory. */
lossd_call *functions_ask(lossd_stream *stream);
/* It has been answered: which inputs stay, and how the sums make the loss. */
lossd_code functions_read(lossd_stream *stream, const struct bytes *answer, lossd_error *error);

#endif
