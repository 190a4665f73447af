#!/bin/bash
# Installs what lossd is built with, and the packages that are named: Debian's, when missing. The Swift toolchain is
# the user's.
set -euo pipefail
missing=()
for package in libprotobuf-c-dev protobuf-c-compiler libuv1-dev libseccomp-dev libmd-dev libyaml-dev libnghttp2-dev zlib1g-dev g++ pkg-config "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
  as_root=()
  [[ $(id -u) = 0 ]] || as_root=(sudo)
  echo "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq "${missing[@]}"
fi
if ! command -v swift >/dev/null; then
  echo "lossd needs the Swift toolchain, 6.2 or newer, on the PATH: https://www.swift.org/install/linux/" >&2
  exit 1
fi
version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -1)
if [[ $(printf '%s\n6.2\n' "$version" | sort -V | head -1) != 6.2 ]]; then
  echo "lossd needs Swift 6.2 or newer, this is $version" >&2
  exit 1
fi
