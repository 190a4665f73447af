#!/bin/bash
# Boots a machine with a systemd of its own and runs checks.py in it: machine.sh OUT DEBS. To be run as root in a
# mount namespace of its own (`unshare -m --propagation private`), so that nothing of it stays. Its exit status is that
# of the checks; their output goes to OUT/log.
set -euo pipefail
out=$(realpath "$1") debs=$(realpath "$2")
source=$(realpath "$(dirname "$0")/../../..")
me=lossd-test-$$

mount -n -t tmpfs -o mode=755 tmpfs /run
# systemd-nspawn wants the one hierarchy, which a host may have beside others.
awk '$5 ~ "^/sys/fs/cgroup" {print $5}' /proc/self/mountinfo | sort -r | while read -r mounted; do
  umount -n "$mounted"
done
mount -n -t cgroup2 cgroup2 /sys/fs/cgroup
group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/$me
mkdir -p "$group"
end() {
  echo "$$" > "$group/../cgroup.procs"
  echo 1 > "$group/cgroup.kill" 2>/dev/null || true
  for _ in $(seq 50); do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.1
  done
}
trap end EXIT
echo "$$" > "$group/cgroup.procs"

# The host's files, with everything that is written kept in memory: a package can be installed.
mkdir -p /run/lossd-test/{upper,work,root}
root=/run/lossd-test/root
mount -n -t overlay -o lowerdir=/,upperdir=/run/lossd-test/upper,workdir=/run/lossd-test/work overlay "$root"
# Containers' images often forbid packages to start services.
rm -f "$root/usr/sbin/policy-rc.d"
# For speed: the index of all manual pages is not made anew at every installation.
rm -f "$root/var/lib/man-db/auto-update"
mkdir -p "$root"/{src,debs,out}
cat > "$root/etc/systemd/system/lossd-test.service" <<END
[Unit]
SuccessAction=exit
FailureAction=exit
Requires=sysinit.target dbus.socket
After=sysinit.target dbus.socket
[Service]
Type=exec
ExecStart=/usr/bin/python3 -B -W error::ResourceWarning /src/Tests/System/systemd/checks.py ${LOSSD_CHECKS:-}
StandardOutput=append:/out/log
StandardError=append:/out/log
END
status=0
# The system calls are those that the daemon's own filter and address rules are made with, which systemd-nspawn's
# filter would else refuse.
timeout -k 5 "${LOSSD_MACHINE_SECONDS:-240}" systemd-nspawn --quiet --boot --directory="$root" --machine="$me" \
  --register=no --keep-unit --settings=no --private-network --link-journal=no --console=pipe --timezone=off \
  --resolv-conf=off --bind-ro="$source:/src" --bind-ro="$debs:/debs" --bind="$out:/out" \
  --capability=CAP_BPF,CAP_PERFMON \
  --system-call-filter="bpf landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
  systemd.mask=systemd-firstboot.service systemd.unit=lossd-test.service < /dev/null > "$out/console" 2>&1 || status=$?
exit "$status"
