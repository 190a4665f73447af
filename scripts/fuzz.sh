#!/bin/bash
# fuzz.sh build [TARGET...]   builds the programs of Fuzz/Targets, under libFuzzer and the address sanitizer
#         run SECONDS [SEED]  runs all of them and the C client's, SECONDS in all; fails when one finds something;
#                             SEED makes the inputs those of the last run with it, 0 makes others each time
#         one TARGET [ARGUMENT...]  runs one, by libFuzzer's arguments: a file to repeat, -max_total_time=3600
#         merge [FOLDER...]   makes the committed corpora anew from what was found so far, and from FOLDER/TARGET
# What is found is kept in .build-fuzz: corpora/TARGET, and findings/TARGET-*, the inputs that end a program.
set -euo pipefail
cd "$(dirname "$0")/.."
work=.build-fuzz
mapfile -t targets < <(cd Fuzz/Targets && printf '%s\n' *)
corpus_bytes_max=36864 corpus_files_max=60

build() {
  local tools machine coverage target
  tools=$(dirname "$(readlink -f "$(command -v swift)")")
  machine=$(uname -m)
  coverage=edge,indirect-calls,trace-cmp,inline-8bit-counters,pc-table
  LOSSD_FUZZ=$("$tools/clang" --print-resource-dir)/lib/linux/libclang_rt.fuzzer_no_main-$machine.a
  export LOSSD_FUZZ
  [[ -e $LOSSD_FUZZ ]] || { echo "this Swift has no libFuzzer: $LOSSD_FUZZ" >&2; exit 1; }
  for target in "$@"; do
    swift build -c release --scratch-path "$work" --sanitize address --product "Fuzz$target" \
      -Xswiftc -enable-testing -Xswiftc "-sanitize-coverage=$coverage" -Xcc "-fsanitize-coverage=$coverage"
  done
}

# A finding is also: 10 s for one input, 2 GiB in all, 512 MiB at once, memory that is lost.
start() {
  local target=$1 dictionary=Fuzz/Dictionaries/$1.dict
  shift
  mkdir -p "$work/corpora/$target" "$work/findings"
  local arguments=(-timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=4096
    "-artifact_prefix=$work/findings/$target-")
  [[ -e $dictionary ]] && arguments+=("-dict=$dictionary")
  # Swift's own allocations fail as the system's do: by the program's end.
  ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:detect_stack_use_after_return=0 SWIFT_BACKTRACE=enable=no \
    "$work/release/Fuzz$target" "${arguments[@]}" "$@"
}

run() {
  local share=$(($1 / (${#targets[@]} + 1))) seed=${2:-0} target log failed=()
  ((share > 0)) || share=1
  for target in "${targets[@]}"; do
    log=$work/$target.log
    if start "$target" "-max_total_time=$share" "-seed=$seed" -print_final_stats=1 -verbosity=1 \
      "$work/corpora/$target" "Fuzz/Corpora/$target" > "$log" 2>&1; then
      echo "$target: $(figures "$log")"
    else
      failed+=("$target")
      tail -40 "$log"
      echo "FOUND by $target, see $log; repeat: scripts/fuzz.sh one $target $(
        sed -n 's/.*Test unit written to //p' "$log" | tail -1)"
    fi
  done
  if make -s -C clients/c fuzz "SECONDS=$share" "SEED=$seed" BUILD="$PWD/$work/c-client" > "$work/c-client.log" 2>&1; then
    echo "the C client: $(figures "$work/c-client.log")"
  else
    failed+=("the C client")
    tail -40 "$work/c-client.log"
  fi
  if ((${#failed[@]})); then
    echo "something was found by: ${failed[*]}"
    return 1
  fi
}

figures() {
  awk '/^stat::number_of_executed_units/ { runs = $2 }
    match($0, /cov: [0-9]+ ft: [0-9]+/) { reached = substr($0, RSTART, RLENGTH) }
    END { print runs " inputs, " reached }' "$1"
}

# The inputs that reach the most, those that add the most first, as many as a folder may have.
merge() {
  local target folder taken total size file
  for target in "${targets[@]}"; do
    rm -rf "$work/merged" "$work/sources"
    mkdir -p "$work/merged" "$work/sources" "Fuzz/Corpora/$target"
    # A copy, since somebody may be fuzzing, who exchanges inputs for smaller ones.
    for folder in "$work/corpora" Fuzz/Corpora "$@"; do
      find "$folder/$target" -type f -exec cp -t "$work/sources" {} + 2> /dev/null || true
    done
    start "$target" -set_cover_merge=1 -use_counters=0 "$work/merged" "$work/sources" > "$work/$target-merge.log" 2>&1
    rm -f "Fuzz/Corpora/$target"/*
    taken=0 total=0
    while read -r _ size file; do
      ((size <= 4096 && total + size <= corpus_bytes_max && taken < corpus_files_max)) || continue
      total=$((total + size)) taken=$((taken + 1))
      cp "$work/merged/$file" "Fuzz/Corpora/$target/"
    done < <(cd "$work/merged" && find . -type f -printf '%T@ %s %f\n' | sort -n)
    echo "$target: $taken of $(find "$work/merged" -type f | wc -l) inputs, $total bytes"
  done
}

command=${1:-}
[[ -n $command ]] && shift
case $command in
  build) if (($#)); then build "$@"; else build "${targets[@]}"; fi ;;
  run) build "${targets[@]}" && run "${1:?seconds}" "${2:-0}" ;;
  one) start "$@" ;;
  merge) merge "$@" ;;
  *) sed -n '2,7s/^# //p' "$0" >&2; exit 2 ;;
esac
