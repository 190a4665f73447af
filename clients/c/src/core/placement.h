/* Which tensors of a call lie in shared memory. */
#ifndef LOSSD_PLACEMENT_H
#define LOSSD_PLACEMENT_H

#include "connection.h"

#define SHARED_INPUTS_MAX 64u /* inputs of a call that may lie in shared memory */

enum placement { PLACED_IN_PAYLOAD, PLACED_SHARED, PLACED_LATER };

/* Copies the call's big inputs to shared memory and says what its request is to be; LATER: the daemon has not said
 * yet whether it takes the memory. */
enum placement place_call(struct connection *connection, lossd_call *call, int has_results);

#endif
