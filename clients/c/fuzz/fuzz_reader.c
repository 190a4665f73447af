/* libFuzzer: whatever a daemon may send to a client that has calls and a stream under way. The first byte says in
 * what pieces it comes. */
#include "../tests/offline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct offline offline;
  if (size == 0) return 0;
  if (!offline_begin(&offline)) abort();
  offline_feed(&offline, data + 1, size - 1, data[0] == 0 ? SIZE_MAX : data[0]);
  /* Results can be read to their last byte. */
  lossd_call *calls[] = {offline.into, offline.owned, offline.big};
  for (int index = 0; index < 3; index++) {
    lossd_tensor tensor;
    if (lossd_call_result(calls[index], NULL, &tensor, NULL) != LOSSD_OK) continue;
    volatile unsigned char sum = 0;
    for (size_t at = 0; at < tensor.bytes; at++) sum += ((const unsigned char *)tensor.data)[at];
  }
  offline_end(&offline);
  return 0;
}
