#!/bin/bash
# sanitize.sh thread|address [TEST...]: builds the daemon with that sanitizer of Swift's and runs the system tests against
# it, all that are listed below or the named ones; fails when it has reported anything. lossctl is the release build's.
# Plugins' processes cannot run under either: their limits leave no room for its memory.
set -uo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
  # Some ten times slower: latencies and memory are not measured.
  thread) configuration=debug storm=300
    tests="test_calls test_frames test_streams test_drain test_batches test_hostile_requests test_shared_memory
      test_conversations" ;;
  # Optimised, since what nobody keeps alive is let go as early as an optimising compiler lets it.
  address) configuration=release storm=2000
    tests="test_calls test_frames test_streams test_drain test_limits test_access_log test_busy_poll test_batches
      test_single_target test_resume test_hostile_requests test_shared_memory test_attacks test_region_attacks
      test_conversations" ;;
  *) echo "usage: sanitize.sh thread|address [TEST...]" >&2; exit 2 ;;
esac
folder=.build-sanitize-$1
linked=()
if [[ $1 = thread ]]; then
  # The thread sanitizer has to be told of Swift's Mutex (mutex.c). It is asked first whether it understood: it finds
  # nothing where threads wait for one, and what is behind none.
  mkdir -p "$folder"
  "$(dirname "$(readlink -f "$(command -v swiftc)")")/clang" -O2 -Wall -c -o "$folder/mutex.o" Tests/Sanitizers/mutex.c \
    && swiftc -swift-version 5 -sanitize=thread Tests/Sanitizers/mutex.swift -Xlinker "$folder/mutex.o" \
      -o "$folder/mutex" || exit 1
  TSAN_OPTIONS=exitcode=66 "$folder/mutex" || { echo "the thread sanitizer does not know Mutex" >&2; exit 1; }
  TSAN_OPTIONS=exitcode=66 "$folder/mutex" wrong 2> /dev/null
  [[ $? = 66 ]] || { echo "the thread sanitizer does not see a race" >&2; exit 1; }
  linked=(-Xlinker "$PWD/$folder/mutex.o")
fi
swift build -c "$configuration" --sanitize="$1" --scratch-path "$folder" --product lossd "${linked[@]}" || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ln -s "$PWD/$folder/$configuration/lossd" "$work/lossd"
ln -s "$PWD/.build/release/lossd" "$work/lossctl"
options="log_path=$work/report exitcode=0 detect_leaks=0"
sanitizer=$1
shift
[[ $# = 0 ]] || tests=$*
# shellcheck disable=SC2086
LOSSD_BUILD=$work LOSSD_SANITIZED=$sanitizer LOSSD_STORM=$storm TSAN_OPTIONS=$options \
  ASAN_OPTIONS="$options quarantine_size_mb=256" PYTHONPATH=Tests/System python3 -m unittest -v $tests
status=$?
if compgen -G "$work/report*" > /dev/null; then
  cat "$work"/report*
  echo "the $sanitizer sanitizer has found something"
  exit 1
fi
exit $status
