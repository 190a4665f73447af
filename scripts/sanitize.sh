#!/bin/bash
# sanitize.sh thread|address: builds the daemon with that sanitizer of Swift's and runs the system tests against it; fails
# when it has reported anything. lossctl is the release build's: the thread sanitizer does not know Swift's Mutex,
# which the client uses. Plugins' processes cannot run under either: their limits leave no room for its memory.
set -uo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
  # Some ten times slower: latencies and memory are not measured.
  thread) configuration=debug tests="test_calls test_frames test_streams test_drain test_conversations" storm=300 ;;
  # Optimised, since what nobody keeps alive is let go as early as an optimising compiler lets it.
  address) configuration=release storm=2000
    tests="test_calls test_frames test_streams test_drain test_limits test_access_log test_busy_poll test_conversations" ;;
  *) echo "usage: sanitize.sh thread|address" >&2; exit 2 ;;
esac
folder=.build-sanitize-$1
swift build -c "$configuration" --sanitize="$1" --scratch-path "$folder" --product lossd || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ln -s "$PWD/$folder/$configuration/lossd" "$work/lossd"
ln -s "$PWD/.build/release/lossd" "$work/lossctl"
options="log_path=$work/report exitcode=0 detect_leaks=0"
LOSSD_BUILD=$work LOSSD_SANITIZED=$1 LOSSD_STORM=$storm TSAN_OPTIONS=$options ASAN_OPTIONS=$options \
  PYTHONPATH=Tests/System python3 -m unittest -v $tests
status=$?
if compgen -G "$work/report*" > /dev/null; then
  cat "$work"/report*
  echo "the $1 sanitizer has found something"
  exit 1
fi
exit $status
