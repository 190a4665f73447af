"""Every function against torch, forward and forward with gradient, in one run and in turn.

    python Benchmarks/functions.py [--quick] [--json FILE] [--threads N]

Needs torch 2.13 (make bench sets it up). Prints medians and ratios: above 1 lossd is the faster one.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHAPES = ["1x10", "100000x10", "4096x1000", "256x50257", "1000000"]
MATRIX = {"softmax", "log_softmax", "cross_entropy", "nll_loss", "multilabel_soft_margin_loss"}


def tensors(function, dtype, shape):
    torch.manual_seed(1)
    if function == "binary_cross_entropy":
        x = torch.rand(shape, dtype=torch.float32).mul(0.98).add(0.01).to(dtype)
    else:
        x = torch.rand(shape, dtype=torch.float32).mul(12).sub(6).to(dtype)
    if function in ("cross_entropy", "nll_loss"):
        positions = list(shape)
        classes = positions.pop(1 if len(shape) > 1 else 0)
        return x, torch.randint(0, classes, positions)
    if function.endswith("loss") or function.startswith("binary"):
        return x, torch.rand(shape, dtype=torch.float32).to(dtype)
    return x, None


def call(function, x, target, dim):
    if function == "sigmoid":
        return torch.sigmoid(x)
    if function in ("softmax", "log_softmax"):
        return getattr(F, function)(x, dim)
    return getattr(F, function)(x, target)


def torch_time(function, dtype, shape, dim, gradient, repetitions):
    x, target = tensors(function, dtype, shape)
    inner = 200 if x.numel() < 1000 else 1
    times = []
    if gradient:
        x.requires_grad_(True)
    ones = None
    for _ in range(repetitions):
        start = time.perf_counter()
        for _ in range(inner):
            if gradient:
                result = call(function, x, target, dim)
                if result.dim() and ones is None:
                    ones = torch.ones_like(result)
                torch.autograd.grad(result, x, ones if result.dim() else None)
            else:
                with torch.no_grad():
                    call(function, x, target, dim)
        times.append((time.perf_counter() - start) / inner)
    return times


def cases(quick):
    for function in ("sigmoid", "softmax", "log_softmax", "binary_cross_entropy",
                     "binary_cross_entropy_with_logits", "cross_entropy", "nll_loss",
                     "multilabel_soft_margin_loss"):
        for shape in SHAPES:
            if function in MATRIX and "x" not in shape:
                continue
            for dtype in ("float32", "float64", "float16", "bfloat16"):
                if dtype != "float32" and (quick or shape not in ("100000x10", "4096x1000")):
                    continue
                yield function, dtype, shape, -1
        if function == "cross_entropy":
            yield function, "float32", "32x21x256x256", -1
        if function == "softmax":
            yield function, "float32", "4096x1000", 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    workers = 0 if options.threads == 1 else options.threads
    engine = subprocess.Popen(
        [str(ROOT / ".build/release/FunctionBenchmark")], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True)
    rows = []
    print(f"{'function':34}{'dtype':10}{'shape':15}{'':9}{'lossd ms':>11}{'torch ms':>11}{'ratio':>8}")
    for function, dtype, shape, dim in cases(options.quick):
        if options.only and options.only not in f"{function} {dtype} {shape}":
            continue
        sizes = [int(size) for size in shape.split("x")]
        big = torch.Size(sizes).numel() > 5_000_000
        rounds, repetitions = (3, 2) if big else (5, 7)
        for gradient in (False, True):
            ours, theirs = [], []
            for _ in range(rounds):
                engine.stdin.write(
                    f"{function} {dtype} {shape} {dim} {int(gradient)} {workers} {repetitions}\n")
                engine.stdin.flush()
                answer = engine.stdout.readline().split()
                if answer[0] == "error":
                    raise RuntimeError(" ".join(answer))
                ours += [float(item) for item in answer]
                theirs += torch_time(
                    function, getattr(torch, dtype), sizes, dim, gradient, repetitions)
            a, b = statistics.median(ours), statistics.median(theirs)
            kind = "gradient" if gradient else "forward"
            name = shape + (f" dim {dim}" if dim >= 0 else "")
            print(f"{function:34}{dtype:10}{name:15}{kind:9}{a * 1e3:11.4f}{b * 1e3:11.4f}"
                  f"{b / a:8.2f}", flush=True)
            rows.append({"function": function, "dtype": dtype, "shape": name, "kind": kind,
                         "lossd_s": a, "torch_s": b, "ratio": b / a})
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(
            {"torch": torch.__version__, "threads": options.threads, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
