/* A call's request as bytes. */
#ifndef LOSSD_ENCODE_H
#define LOSSD_ENCODE_H

#include "call.h"
#include "wire.h"

/* Where an input lies in shared memory. */
struct place_in {
  uint64_t region;
  uint64_t offset;
};

/* Makes `message`, `payload_length` and `input_bytes` current. */
lossd_code call_encode(lossd_call *call, lossd_error *error);
/* Makes `shared_message`: `places` has one for each input, results go where they are asked to; 0 without memory. */
int call_encode_shared(lossd_call *call, const struct place_in *places);
/* Makes `before` current: the stream goes on from this Summary. 0 without memory. */
int call_encode_before(lossd_call *call, const Lossd__V1__Summary *summary);
/* Queues MESSAGE with the call's request, and its tensors where those are not shared. `head`: what a data set is of, in
 * the same message; it has no inputs; NULL: it was sent. `batch`: its id, else UINT64_MAX. 0 without memory, and nothing is
 * queued. */
int put_request(struct output *output, uint32_t stream, lossd_call *call, const lossd_call *head, uint64_t batch,
                int is_last);

#endif
