#!/bin/bash
# Starts a private daemon on a private socket, evaluates examples/data through lossctl, compares with
# torch's values, and stops the daemon cleanly. Status 0 when everything agrees.
#
#   scripts/demo.sh [FOLDER WITH lossd AND lossctl, .build/release unless given]
set -euo pipefail
cd "$(dirname "$0")/.."
programs=${1:-.build/release}
for program in lossd lossctl; do
  if [[ ! -x $programs/$program ]]; then
    echo "$programs/$program is missing; build it first: make build" >&2
    exit 1
  fi
done
# The daemon is private: nobody's settings reach it, and its socket is nobody else's.
for variable in "${!LOSSD_@}"; do unset "$variable"; done
folder=$(mktemp -d "${TMPDIR:-/tmp}/lossd-demo.XXXXXX")
socket=$folder/lossd.sock
log=$folder/lossd.log
daemon=

clean_up() {
  if [[ -n $daemon ]]; then kill -KILL "$daemon" 2>/dev/null || true; fi
  rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

fail() {
  echo "FAILED: $1" >&2
  if [[ -s $log ]]; then
    echo "the daemon's log ends:" >&2
    tail -n 20 "$log" >&2
  fi
  exit 1
}

is_running() {
  # A zombie is not running: its state is the third field of /proc/PID/stat (no spaces in `lossd`). It may go away
  # while this looks: then there is no state.
  local state
  state=$(cut -d ' ' -f 3 "/proc/$daemon/stat" 2>/dev/null) || return 1
  [[ -n $state && $state != Z ]]
}

"$programs/lossd" --listen "unix:$socket" >"$log" 2>&1 &
daemon=$!
ready=
for ((attempt = 0; attempt < 100; attempt++)); do
  if timeout 10 "$programs/lossctl" --server "unix:$socket" ping >/dev/null 2>&1; then
    ready=1
    break
  fi
  is_running || break
  sleep 0.1
done
[[ -n $ready ]] || fail "the daemon does not answer on unix:$socket"
echo "lossd answers on unix:$socket"
echo

agrees=1
python3 scripts/compare_to_torch.py "$programs/lossctl" --server "unix:$socket" || agrees=
is_running || fail "the daemon ended by itself"

kill -TERM "$daemon"
for ((attempt = 0; attempt < 100; attempt++)); do
  is_running || break
  sleep 0.1
done
if is_running; then fail "the daemon still runs 10 s after SIGTERM"; fi
status=0
wait "$daemon" || status=$?
daemon=
[[ $status = 0 ]] || fail "the daemon ended with status $status after SIGTERM, expected 0"
[[ ! -e $socket ]] || fail "the daemon left its socket file behind"
echo "lossd stopped cleanly: status 0, socket file removed"
[[ -n $agrees ]] || fail "lossd and torch differ"
