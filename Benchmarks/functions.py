"""Every function of the catalogue against torch, forward and forward with gradient, in one run and in turn.

    python Benchmarks/functions.py [--only TEXT | --again TEXT] [--quick] [--one-core] [--rounds N] [--output FOLDER]

Needs torch 2.13, numpy and matplotlib (`make bench` sets them up) and a release build. Three processes take
turns, case by case and round by round: the engine, and torch twice, once as its memory comes and once with
memory that it keeps (function_benchmark/torch_worker.py says how). Medians of all rounds; a ratio is torch's
time divided by ours. Writes functions.json, functions.md and functions-*.png into the folder; with --only it
writes nothing but what it prints, and with --again it puts what it measures into the results that are there.
"""
import argparse
import json
import math
import pathlib
import sys

from function_benchmark import cases, machine, report, sides

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIZES = (4_000_000, 16_384_000, 51_463_168)


def measure(case, workers, rounds):
    """The seconds of each side's calls over all rounds: {side: [seconds]}; None where torch refuses the type.

    A side's turn begins with a time that is not counted: what the side before had in the caches has to leave them, and a
    processor that slept takes some of it to be as fast as it can be."""
    budget_s = 0.1 if math.prod(case.shape) > 100_000 else 0.03
    times = {side.name: [] for side in workers}
    rounds = max(rounds, 5) if cases.is_goal(case) else rounds
    for number in range(rounds):
        for side in workers:
            if side.seconds(case, budget_s) is None:
                return None
            times[side.name] += side.seconds(case, budget_s)
        # What takes seconds is measured no oftener than needed for a median.
        if number >= 2 and sum(map(sum, times.values())) > 3:
            break
    return times


def key(row):
    return tuple(row[name] for name in ("function", "type", "shape", "gradient", "threads"))


def short(row):
    """Four digits of each number."""
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in row.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="cases that contain this text")
    parser.add_argument("--again", default="", help="cases that begin with this text; the results of others stay")
    parser.add_argument("--quick", action="store_true", help="float32 and one core alone")
    parser.add_argument("--one-core", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs" / "benchmarks")
    options = parser.parse_args()
    engine = sides.Engine(ROOT / ".build" / "release" / "FunctionBenchmark")
    workers = (engine, sides.Torch("torch", keeps_memory=False),
               sides.Torch("torch_kept", keeps_memory=True))
    chosen = [case for case in cases.every(options.quick, options.one_core)
              if options.only in str(case) and str(case).startswith(options.again)]
    rows = []
    bounds = {size: engine.bounds(size) for size in SIZES}
    for number, case in enumerate(chosen):
        times = measure(case, workers, options.rounds)
        if times is None:
            print(f"{number + 1:4}/{len(chosen)} {str(case):70} torch refuses the type", flush=True)
            continue
        row = report.row(case, times)
        rows.append(row)
        print(f"{number + 1:4}/{len(chosen)} {str(case):70} {row['lossd_s'] * 1e3:10.4f} ms  "
              f"{row['ratio']:6.2f} {row['ratio_kept']:6.2f}", flush=True)
    # Once more, in case something else was going on before.
    for size in SIZES:
        later = engine.bounds(size)
        bounds[size] = {key: min(value, later[key]) for key, value in bounds[size].items()}
    results = {
        "machine": machine.describe(), "torch": sides.torch_version(), "kernels": engine.name_of_kernels(),
        "bounds": bounds, "rows": rows}
    for side in workers:
        side.stop()
    if options.only:
        return
    if options.again:
        before = json.loads((options.output / "functions.json").read_text())
        if before["machine"]["processor"] != results["machine"]["processor"]:
            sys.exit("the results that are there are another machine's")
        measured = {key(row): row for row in rows}
        results = {**before, "rows": [measured.get(key(row), row) for row in before["rows"]]}
    options.output.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(json.dumps(short(row), separators=(",", ":")) for row in results["rows"])
    head = json.dumps({**results, "rows": []}, indent=1)
    (options.output / "functions.json").write_text(head.replace('"rows": []', f'"rows": [\n{rows}]') + "\n")
    report.write(results, options.output)


if __name__ == "__main__":
    sys.exit(main())
