/* A call on its way. */
#ifndef LOSSD_LIFE_H
#define LOSSD_LIFE_H

#include "call.h"

#define DEADLINE_GRACE_US 20000u /* how much longer than its timeout a call waits for the daemon's own word */

/* Begins it; CORE_RESPONSE says when it has ended. */
lossd_code call_start(lossd_call *call, lossd_error *error);
/* Asks the daemon to stop. */
void call_cancel(lossd_call *call);
/* The daemon is told to stop, and nobody waits for it: the call ends with this. */
void call_abandon(lossd_call *call, lossd_code code, const char *text);
/* Its memory, queued for its connection or being read to, is touched no more. */
void call_detach(lossd_call *call);
/* Ends it, wherever it is; its memory is the caller's again. */
void call_finish(lossd_call *call, lossd_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Whether it is somewhere between its start and its end. */
int call_is_under_way(const lossd_call *call);
/* OK, or why it cannot be sent: under way already, or a setter that failed. */
lossd_code call_check(lossd_call *call, lossd_error *error);

#endif
