/* An EvaluateResponse and its payload. */
#ifndef LOSSD_RESPONSE_H
#define LOSSD_RESPONSE_H

#include "call.h"
#include "reader.h"

/* Says where the payload of a decoded response goes and fills in the call's results; not OK when the answer
 * cannot be taken: `reader` then discards the payload. */
lossd_code response_place(lossd_call *call, const Lossd__V1__EvaluateResponse *response, struct reader *reader,
                          lossd_error *error);
/* Whether every result that `asked` (the call itself, or its stream's head) asks for has come. */
lossd_code response_check(const lossd_call *call, const lossd_call *asked, lossd_error *error);

#endif
