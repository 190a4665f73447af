#!/usr/bin/env python3
"""Runs every call of examples/data/torch_values.json and prints the results beside torch's.

    scripts/compare_to_torch.py LOSSCTL [OPTION...]

LOSSCTL and its options come before `eval`: `.build/release/lossctl --server unix:PATH`.

A result agrees when it lies within 4 ulps of the float64 value, or is no farther from it than
torch's own result in the same type: torch adds up in the inputs' type, so its last digits may be
wrong where lossd's, which adds up in float64, are not. Data type and shape have to be torch's.
"""

import json
import math
import pathlib
import subprocess
import sys

DATA = pathlib.Path(__file__).parent.parent / "examples" / "data"
TOLERANCE_ULPS = 4
TIMEOUT_S = 60
# Bits of precision and the smallest normal exponent.
TYPES = {
    "float32": (24, -126), "float64": (53, -1022), "float16": (11, -14), "bfloat16": (8, -126)}


def ulp(value, data_type):
    precision, smallest = TYPES[data_type]
    exponent = math.frexp(value)[1] - 1 if value else smallest
    return math.ldexp(1.0, max(exponent, smallest) - precision + 1)


def distance(value, other, data_type):
    """In ulps of `other`; 0 for two NaNs or equal infinities, infinity for other pairs of those."""
    if math.isnan(other) or math.isinf(other):
        return 0.0 if value == other or math.isnan(value) and math.isnan(other) else math.inf
    if not math.isfinite(value):
        return math.inf
    return (value - other) / ulp(other, data_type)


def worst(values, others, data_type):
    distances = [distance(a, b, data_type) for a, b in zip(values, others)]
    return max(distances, key=abs, default=0.0)


def command(program, row):
    arguments = [*program, "eval", row["function"]]
    for name, file in row["inputs"].items():
        arguments += ["--" + name.replace("_", "-"), str(DATA / file)]
    for name, value in row["attributes"].items():
        arguments += ["--attr", f"{name}={value}"]
    return arguments + ["--json"]


def evaluate(program, row):
    """What lossctl makes of the row: (values, None) or (None, what went wrong)."""
    try:
        done = subprocess.run(
            command(program, row), capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        # The next call would only hang as well.
        sys.exit(f"no answer within {TIMEOUT_S} s: {' '.join(command(program, row))}")
    except OSError as error:
        return None, str(error)
    if done.returncode != 0:
        return None, f"status {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
    try:
        result = json.loads(done.stdout)
        if result["function"] != row["function"]:
            return None, f"a result of {result['function']}"
        output = result["outputs"][row["output"]]
        values = [float(value) for value in output["values"]]
        found = output["data_type"], output["shape"]
    except (ValueError, KeyError, TypeError) as error:
        return None, f"unexpected JSON ({error!r}): {done.stdout.strip()[:200]}"
    expected = row["data_type"], row["shape"]
    if found != expected or len(values) != len(row["torch"]):
        return None, f"a result of {found} with {len(values)} values, expected {expected}"
    return values, None


def show(values):
    if len(values) == 1:
        return f"{values[0]:.9g}"
    more = " ...]" if len(values) > 4 else "]"
    return "[" + " ".join(f"{value:.4g}" for value in values[:4]) + more


def describe(row):
    """`cross_entropy(digits_logits, digits_labels, reduction=sum)`."""
    parts = []
    for name, file in row["inputs"].items():
        stem = file.removesuffix(".npy")
        parts.append(stem if name in ("input", "target") else f"{name}={stem}")
    parts += [f"{name}={value}" for name, value in row["attributes"].items()]
    return f"{row['function']}({', '.join(parts)})"


def main():
    program = sys.argv[1:]
    if not program:
        sys.exit(__doc__)
    golden = json.loads((DATA / "torch_values.json").read_text())
    failures = []
    title = None
    worst_ours = worst_torchs = 0.0
    header = f"{'type':<9}{'lossd':>30}{'torch':>30}{'ulps apart':>12}{'lossd':>9}{'torch':>9}"
    print(f"{'':69}{'':>12}{'ulps from float64':>18}")
    print(header)
    for row in golden["rows"]:
        if row["title"] != title:
            title = row["title"]
            print(f"\n{title}")
        torchs, truth = ([float(x) for x in row[key]] for key in ("torch", "torch_float64"))
        print(f"  {describe(row)}")
        values, error = evaluate(program, row)
        if error is not None:
            failures.append(describe(row))
            print(f"    FAILED: {error}")
            continue
        data_type = row["data_type"]
        apart = worst(values, torchs, data_type)
        ours = abs(worst(values, truth, data_type))
        other = abs(worst(torchs, truth, data_type))
        agrees = ours <= max(TOLERANCE_ULPS, other)
        # Of a float64 result nothing finer is at hand: which of both is nearer the truth is open.
        columns = f"{'-':>9}{'-':>9}"
        if data_type != "float64":
            columns = f"{ours:>9.2f}{other:>9.2f}"
            worst_ours, worst_torchs = max(worst_ours, ours), max(worst_torchs, other)
        print(f"{data_type:<9}{show(values):>30}{show(torchs):>30}{apart:>12.3g}{columns}"
              + ("" if agrees else "  DIFFERS"))
        if not agrees:
            failures.append(describe(row))
    count = len(golden["rows"])
    print(f"\n{count - len(failures)} of {count} calls agree with torch {golden['torch']}; "
          f"at most {worst_ours:.2f} ulps from float64, torch's own {worst_torchs:.2f}\n")
    if failures or not count:
        sys.exit(1)


if __name__ == "__main__":
    main()
