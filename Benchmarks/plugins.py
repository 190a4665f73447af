"""What a loss on LossdPluginKit and on plugin.hpp costs, beside the built-in one of the same formula, in turn.

    python3 Benchmarks/plugins.py [--cpu avx2|avx512|any ...] [--limit RATIO]

Builds Benchmarks/Plugins for each kind of processor that is named (by default all that this machine has) and runs them in
the engine, one thread, against binary_cross_entropy_with_logits, which takes the best kernels there are. Prints
nanoseconds an element (the least of the rounds) and the ratio; with --limit, exits with 1 where a ratio is above it.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILTIN = "binary_cross_entropy_with_logits"
CASES = [(shape, dtype, gradient) for shape in (4096, 100_000, 1_000_000) for dtype in ("float32", "float64")
         for gradient in (0, 1)]
OPERANDS = (("input", "-6,6"), ("target", "0,1"))
ROUNDS = 9


def built(folder, cpu, output):
    subprocess.run(["make", "-s", "-B", "-C", ROOT / "Benchmarks" / "Plugins" / folder, f"CPU={cpu}"], check=True,
                   stdout=subprocess.DEVNULL)
    (library,) = (ROOT / "Benchmarks" / "Plugins" / folder).glob("*.so")
    shutil.copy(library, output)
    return output


class Engine:
    def __init__(self, *libraries):
        self.process = subprocess.Popen(
            [ROOT / ".build" / "release" / "FunctionBenchmark", *libraries], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)

    def seconds(self, function, shape, dtype, gradient):
        operands = " ".join(f"{name}:{dtype}:{shape}:{numbers}" for name, numbers in OPERANDS)
        self.process.stdin.write(f"case {function} {gradient} 0 0.005 {operands}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line or line.startswith("error"):
            raise RuntimeError(f"{function}: {line}")
        return [float(value) for value in line.split()]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def main():
    has = pathlib.Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split()
    kinds = [cpu for cpu, flag in (("avx512", "avx512vl"), ("avx2", "fma")) if flag in has] + ["any"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cpu", nargs="+", default=kinds, choices=["avx512", "avx2", "any"])
    parser.add_argument("--limit", type=float)
    arguments = parser.parse_args()
    worst = 0.0
    print(f"{'built for':9} {'type':8} {'elements':>9} {'':9} {'built-in':>9} {'kit':>9} {'':6} {'wrapper':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for cpu in arguments.cpu:
            kit = built("kit", cpu, f"{folder}/kit_{cpu}.so")
            wrapper = built("wrapper", cpu, f"{folder}/wrapper_{cpu}.so")
            with Engine(kit, wrapper) as engine:
                for shape, dtype, gradient in CASES:
                    times = {BUILTIN: [], "kit_binary_loss": [], "wrapper_binary_loss": []}
                    for _ in range(ROUNDS):
                        for function, seconds in times.items():
                            seconds += engine.seconds(function, shape, dtype, gradient)
                    builtin, ours, theirs = (min(seconds) / shape * 1e9 for seconds in times.values())
                    worst = max(worst, ours / builtin, theirs / builtin)
                    print(f"{cpu:9} {dtype:8} {shape:9} {'gradient' if gradient else 'loss':9} {builtin:6.2f} ns "
                          f"{ours:6.2f} ns {ours / builtin:5.2f}x {theirs:6.2f} ns {theirs / builtin:5.2f}x", flush=True)
    if arguments.limit and worst > arguments.limit:
        sys.exit(f"a ratio of {worst:.2f} is above {arguments.limit}")


if __name__ == "__main__":
    main()
