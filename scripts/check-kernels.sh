#!/bin/bash
# The AVX builds of the kernels must not offer the linker code that baseline callers could be given: a
# generic of the standard library, specialised there, is a weak symbol that any object may have, and
# would crash an older processor. Every weak code symbol of their objects must be the module's own.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(swift build -c release --show-bin-path)
status=0
for module in LossdKernelsAVX2 LossdKernelsAVX2Double LossdKernelsAVX512 LossdKernelsAVX512Double; do
  objects=("$build/$module.build/"*.o)
  count=$(nm "${objects[@]}" | grep -c ' T ' || true)
  if [[ $count = 0 ]]; then
    echo "$module: no code to look at" >&2
    status=1
  fi
  if nm "${objects[@]}" | grep -E ' [WV] ' | grep -vE "$module|__swift_reflection_version"; then
    echo "$module: the symbols above are weak and not its own" >&2
    status=1
  fi
done
exit $status
