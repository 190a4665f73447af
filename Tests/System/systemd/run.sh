#!/bin/bash
# The units and the package under a real systemd: builds two versions of the package from the release build, boots a
# machine, and runs checks.py in it. Needs root, systemd-container and a kernel that lets itself be asked for cgroup2
# and overlay mounts. Where it cannot run: a failure in CI (CI is set), a skip elsewhere. LOSSD_CHECKS="-k page" runs some
# of the checks alone.
set -euo pipefail
cd "$(dirname "$0")/../../.."
cannot() {
  if [[ -n ${CI:-} ]]; then
    echo "the units cannot be tested here: $1" >&2
    exit 1
  fi
  echo "SKIPPED: the units are not tested under systemd: $1"
  exit 0
}
[[ $(id -u) = 0 ]] || cannot "not root"
for program in systemd-nspawn dpkg-deb dpkg-shlibdeps dbus-daemon; do
  command -v "$program" > /dev/null || cannot "$program is missing (packages systemd-container, dbus, dpkg-dev)"
done
unshare -m --propagation private bash -c 'mount -n -t tmpfs t /mnt && mkdir /mnt/{u,w,r,c} \
  && mount -n -t overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w o /mnt/r \
  && mount -n -t cgroup2 c /mnt/c' 2> /dev/null || cannot "mounting overlay and cgroup2 is not permitted"

build=${LOSSD_BUILD:-.build/release}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/debs" "$work/out"
for version in 0.0.1 0.0.2; do
  VERSION=$version COMPRESSION=none BUILD=$build packaging/deb.sh "$work/debs" > /dev/null
done
status=0
unshare -m --propagation private Tests/System/systemd/machine.sh "$work/out" "$work/debs" || status=$?
cat "$work/out/log" 2> /dev/null || true
if [[ $status != 0 ]]; then
  tail -n 20 "$work/out/console" 2> /dev/null || true
  echo "the machine's exit status is $status" >&2
fi
exit "$status"
