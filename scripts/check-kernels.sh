#!/bin/bash
# The AVX builds of the kernels must not offer the linker code that baseline callers could be given: a
# generic of the standard library, specialised there, is a weak symbol that any object may have, and
# would crash an older processor. Every weak code symbol of their objects must be the module's own. Two are data and the
# same bytes in all modules: the reflection's version, and "symbolic x", the name of a protocol's own type.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(swift build -c release --show-bin-path)
status=0
modules=("$build"/LossdKernelsAVX*.build)
if [[ ! -d ${modules[0]} ]]; then
  echo "no AVX builds of the kernels in $build" >&2
  exit 1
fi
for folder in "${modules[@]}"; do
  module=$(basename "$folder" .build)
  objects=("$folder"/*.o)
  count=$(nm "${objects[@]}" | grep -c ' T ' || true)
  if [[ $count = 0 ]]; then
    echo "$module: no code to look at" >&2
    status=1
  fi
  if nm "${objects[@]}" | grep -E ' [WV] ' | grep -vE "$module|__swift_reflection_version|symbolic x$"; then
    echo "$module: the symbols above are weak and not its own" >&2
    status=1
  fi
done
exit $status
