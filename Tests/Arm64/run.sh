#!/bin/bash
# The kernels on arm64: their one source is built for it, and for AVX2 in the same way, both in Embedded Swift, which
# needs no standard library of the other system; the first runs under qemu-user. Vectors are as long in both builds
# and both have fused multiply-adds, so every result is to have the same bits. The daemon's C is compiled alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
cannot() {
  echo "SKIPPED: the kernels are not tested on arm64: $1"
  exit 0
}
[[ $(uname -m) = x86_64 ]] || cannot "this is not an x86-64 machine"
grep -qw avx2 /proc/cpuinfo || cannot "this machine has no AVX2 to compare with"
modules=$(dirname "$(readlink -f "$(command -v swiftc)")")/../lib/swift/embedded/Swift.swiftmodule
[[ -e $modules/aarch64-none-none-elf.swiftmodule ]] || cannot "the toolchain has no Embedded Swift for it"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
kernels=Sources/LossdKernels

# build FOLDER TARGET COMPILER FLAGS...
build() {
  local folder=$work/$1 target=$2 compiler=$3 name flags
  shift 3
  mkdir "$folder"
  local swift=(swiftc -target "$target" -enable-experimental-feature Embedded -enable-experimental-feature Extern
    -wmo -Ounchecked -parse-as-library -I "$folder" -I Tests/Arm64/libm -Xcc -ffreestanding "$@")
  "${swift[@]}" -module-name LossdKernelTable -emit-module -emit-module-path "$folder/LossdKernelTable.swiftmodule" -c \
    -o "$folder/table.o" $kernels/Table/*.swift
  for element in Float Double Half BFloat; do
    name=LossdKernels$element
    flags=()
    case $element in
      Double) flags=(-D LOSSD_DOUBLE -Xcc -DLOSSD_DOUBLE) ;;
      Half) flags=(-D LOSSD_HALF -D LOSSD_NARROW -Xcc -DLOSSD_HALF -Xcc -DLOSSD_NARROW) ;;
      BFloat) flags=(-D LOSSD_BFLOAT -D LOSSD_NARROW -Xcc -DLOSSD_BFLOAT -Xcc -DLOSSD_NARROW) ;;
    esac
    "${swift[@]}" "${flags[@]}" -I $kernels/Lanes/include -module-name "$name" -c \
      -o "$folder/$name.o" $kernels/Core/*.swift $kernels/Core/*/*.swift Tests/Arm64/table.swift
  done
  "${swift[@]}" -module-name Check -c -o "$folder/check.o" Tests/Arm64/check.swift
  $compiler -static-pie -o "$folder/check" Tests/Arm64/main.c "$folder"/*.o -lm
}

for file in Sources/CLinux/*.c Sources/CLossdPlugin/*.c; do
  aarch64-linux-gnu-gcc -std=gnu11 -Wall -Wextra -Werror -fsyntax-only \
    -ISources/CLinux/include -ISources/CLossdPlugin/include "$file"
done
build arm64 aarch64-none-none-elf aarch64-linux-gnu-gcc
build avx2 x86_64-unknown-linux-gnu gcc -Xcc -mavx2 -Xcc -mfma -Xcc -mf16c
"$work/avx2/check" > "$work/avx2/results"
qemu-aarch64-static "$work/arm64/check" > "$work/arm64/results"
size=$(stat -c %s "$work/arm64/results")
cmp "$work/arm64/results" "$work/avx2/results"
echo "arm64: $size bytes of results, the same as AVX2's"
