#!/bin/bash
# Builds lossd_VERSION_ARCH.deb and lossd-dev_VERSION_ARCH.deb from a release build: deb.sh [OUTPUT-FOLDER]
# VERSION, BUILD and COMPRESSION (xz) may be set in the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-.build/deb} build=${BUILD:-.build/release}
version=${VERSION:-$("$build/lossd" --version | sed 's/.* //')}
architecture=$(dpkg --print-architecture)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
umask 022
main=$stage/lossd dev=$stage/lossd-dev
mkdir -p "$out" "$main" "$dev"
DESTDIR=$main PREFIX=/usr BUILD=$build packaging/install.sh

# lossd-dev takes what only authors of plugins need.
mkdir -p "$dev"/usr/share/doc "$dev"/usr/share/lossd
mv "$main/usr/include" "$dev/usr/"
mv "$main/usr/share/pkgconfig" "$dev/usr/share/"
mv "$main/usr/share/doc/lossd-dev" "$dev/usr/share/doc/"
mv "$main/usr/share/lossd/swift" "$dev/usr/share/lossd/"
rmdir --ignore-fail-on-non-empty "$main/usr/share/lossd"

# What the program is linked with, as Debian names it.
mkdir "$stage/debian"
: > "$stage/debian/control"
depends=$(cd "$stage" && dpkg-shlibdeps -O lossd/usr/sbin/lossd 2>/dev/null \
  | sed -n 's/^shlibs:Depends=//p')

# The same package from the same source: every time in it is that of the last change.
changed=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH=$changed
finish() { # FOLDER NAME DESCRIPTION...
  local folder=$1 name=$2
  local doc=$folder/usr/share/doc/$name
  install -m 644 packaging/debian/copyright "$doc/copyright"
  printf 'lossd (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md in the source.\n\n -- %s  %s\n' \
    "$version" "$maintainer" "$(date -Rud "@$changed")" | gzip -9n > "$doc/changelog.gz"
  find "$folder/usr/share/man" -type f -exec gzip -9n {} + 2>/dev/null || true
  find "$folder" -type d -exec chmod 755 {} +
  (cd "$folder" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) \
    > "$folder/DEBIAN/md5sums"
  find "$folder" -exec touch -h -d "@$changed" {} +
  dpkg-deb --root-owner-group "-Z${COMPRESSION:-xz}" --build "$folder" "$out/${name}_${version}_$architecture.deb"
}
control() { # NAME SECTION DEPENDS SIZE-OF, then the description on standard input
  printf 'Package: %s\nSource: lossd\nVersion: %s\nArchitecture: %s\nMaintainer: %s\n' \
    "$1" "$version" "$architecture" "$maintainer"
  printf 'Section: %s\nPriority: optional\nDepends: %s\nInstalled-Size: %s\nDescription: ' \
    "$2" "$3" "$(du -sk --apparent-size "$4" | cut -f1)"
  cat
}
maintainer="${DEBFULLNAME:-lossd maintainers} <${DEBEMAIL:-maintainers@lossd.invalid}>"

mkdir "$main/DEBIAN" "$dev/DEBIAN"
control lossd science "$depends, systemd | systemd-standalone-sysusers | systemd-sysusers" "$main" \
  > "$main/DEBIAN/control" <<'END'
daemon that evaluates loss functions as PyTorch does
 lossd evaluates activation and loss functions, and their gradients, with
 PyTorch's exact semantics for clients in any language, over a Unix socket or
 TCP. Loss functions of one's own are loaded while it runs.
 .
 This package has the daemon, its units, and the command line client lossctl.
END
control lossd-dev libdevel "lossd (= $version)" "$dev" > "$dev/DEBIAN/control" <<'END'
headers, Swift kit and examples for plugins of lossd
 A plugin adds activation or loss functions to the daemon lossd while it runs.
 .
 This package has what plugins are made with: the C header, a C++ header and
 a Swift package with which a loss is its formula and its derivative, and
 examples. "lossctl plugin new" writes the folder of a new one.
END
install -m 755 packaging/debian/{postinst,prerm,postrm} "$main/DEBIAN/"
echo /etc/lossd/lossd.yaml > "$main/DEBIAN/conffiles"
finish "$main" lossd
finish "$dev" lossd-dev
