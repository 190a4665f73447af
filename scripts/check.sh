#!/bin/bash
# What can be known of a change in less than a minute: `make check`, for before a commit. Nothing is built; what is not
# there is skipped with a word. .ci/run is the whole.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
failed=0
begin=$SECONDS
log=$(mktemp)
trap 'rm -f "$log"' EXIT

step() { # NAME COMMAND...
  local name=$1 from=$SECONDS
  shift
  if timeout 120 "$@" > "$log" 2>&1; then
    printf '%-34s ok, %d s\n' "$name" $((SECONDS - from))
  else
    failed=$((failed + 1))
    printf '%-34s FAILED: %s\n' "$name" "$*"
    tail -n 40 "$log"
  fi
}
skip() { printf '%-34s skipped: %s\n' "$1" "$2"; }

if command -v protoc-c > /dev/null; then
  step "generated code is current" make -s check-proto
else
  skip "generated code is current" "no protoc-c, make setup installs it"
fi
if command -v swift > /dev/null; then
  step "formatting and columns" make -s lint
else
  step "columns" "$python" scripts/columns.py
fi
step "one version" "$python" scripts/version.py
step "rules of the repository" "$python" -m unittest discover -s Tests/Checks

# The Python client against servers that a test plays.
pytest=.venv-python/bin/pytest
if [[ -x $pytest ]]; then
  step "the Python client's part in C" env -C clients/python "$PWD/.venv-python/bin/python" setup.py -q build_ext --inplace
  step "the Python client, no daemon" env PYTHONPATH=clients/python/src "$pytest" -q -p no:cacheprovider --without-daemon \
    clients/python/tests/test_package.py clients/python/tests/test_hostile.py clients/python/tests/test_restarts.py \
    --deselect clients/python/tests/test_package.py::test_the_types_are_right
else
  skip "the Python client, no daemon" "make $pytest makes its environment"
fi

# The quick ones of the parts' tests, as they were last built.
tests=.build/debug/lossdPackageTests.xctest
if [[ -e $tests ]] && command -v swift > /dev/null; then
  newer=$(find Sources Tests -name '*.swift' -newer "$tests" | wc -l)
  [[ $newer = 0 ]] || echo "(the tests of the parts are built without the last change of $newer files)"
  step "the parts" swift test --skip-build --filter \
    'LossdClientTests|LossdFilesTests|LossdLoopTests|LossdServerTests|LossdSocketTests|LossdSystemdTests|LossdTensorTests|LossdWireTests|lossctlTests'
else
  skip "the parts" "swift build --build-tests builds their tests"
fi

echo "$((SECONDS - begin)) s"
[[ $failed = 0 ]]
