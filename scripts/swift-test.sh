#!/bin/bash
# swift-test.sh [ARGUMENT...]: `swift test`, and once more where Swift's runtime ended it by a fault of its own: an abort
# with this message in the memory of asynchronous tasks (github.com/swiftlang/swift/issues/75501, open), or no end at all.
# Who hangs for a quarter of an hour, five times what the tests take, is aborted and says where its threads are.
# Kernels for processors with AVX-512 are built only where they can be tested.
set -uo pipefail
cd "$(dirname "$0")/.."
grep -qsw avx512f /proc/cpuinfo || export LOSSD_WIDEST_KERNELS=${LOSSD_WIDEST_KERNELS:-avx2}
fault="freed pointer was not the last allocation"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
swift build --build-tests || exit
run() { timeout -s ABRT -k 60 900 swift test --skip-build "$@"; }
run "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
if [[ $status = 124 || $status = 137 ]]; then
  echo "The tests have not ended within 900 s. Once more:"
elif [[ $status != 0 ]] && grep -aq "$fault" "$log"; then
  echo "Swift's runtime has ended the tests: $fault. Once more:"
else
  exit "$status"
fi
run "$@"
