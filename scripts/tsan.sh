#!/bin/bash
# Runs the system tests against the daemon in .build-tsan; fails when the thread sanitizer saw a race.
set -uo pipefail
cd "$(dirname "$0")/.."
reports=$(mktemp -d)
trap 'rm -rf "$reports"' EXIT
# lossctl is the release build's: the sanitizer does not know Swift's Mutex, which the client uses.
# It makes everything some ten times slower: latencies and memory are not measured here.
LOSSD_BUILD=.build-tsan/debug LOSSD_STORM=300 TSAN_OPTIONS="log_path=$reports/race exitcode=0" \
  PYTHONPATH=Tests/System python3 -m unittest -v test_calls test_frames test_streams test_drain
status=$?
if compgen -G "$reports/race*" >/dev/null; then
  cat "$reports"/race*
  echo "the thread sanitizer reports races"
  exit 1
fi
exit $status
