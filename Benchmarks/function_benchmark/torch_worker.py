"""Times torch: reads cases from standard input, one a line as catalogue.line writes them, and answers each with seconds,
or with `refused` where torch takes no such type.

A call with gradient is torch's usual way: forward with recorded operations, then torch.autograd.grad.
"""
import gc
import pathlib
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from function_benchmark import catalogue  # noqa: E402


def value(text):
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def tensor(kind, shape, numbers):
    kind = getattr(torch, kind)
    if numbers == "signs":
        return (torch.randint(0, 2, shape) * 2 - 1).to(kind)
    low, high = map(float, numbers.split(","))
    if not kind.is_floating_point:
        return torch.randint(int(low), int(high), shape)
    return torch.rand(shape, dtype=torch.float32).mul_(high - low).add_(low).to(kind)


class PreparedCase:
    def __init__(self, function, gradient, parts):
        torch.manual_seed(1)
        self.call, self.gradient = catalogue.torchs(function), gradient
        self.operands, self.attributes, self.upstream = [], {}, None
        for part in parts:
            if "=" in part:
                key, text = part.split("=")
                self.attributes[key] = value(text)
                continue
            name, kind, shape, numbers = part.split(":")
            made = tensor(kind, [int(size) for size in shape.split("x")] if shape != "-" else [], numbers)
            if name == "grad.output":
                self.upstream = made
            else:
                self.operands.append(made)
        self.input = self.operands[0].requires_grad_(gradient)
        self.calls_per_time = 200 if self.input.numel() < 1000 else 1

    def forward(self):
        return self.call(*self.operands, **self.attributes)

    def run(self):
        if self.gradient:
            torch.autograd.grad(self.forward(), self.input, self.upstream)
        else:
            with torch.no_grad():
                self.forward()

    def seconds(self, budget):
        self.run()
        times = []
        while True:
            start = time.perf_counter()
            for _ in range(self.calls_per_time):
                self.run()
            elapsed = time.perf_counter() - start
            times.append(elapsed / self.calls_per_time)
            budget -= elapsed
            if budget <= 0:
                return times


def main():
    key, case = None, None
    gc.disable()
    for line in sys.stdin:
        function, gradient, threads, budget, *parts = line.split()
        torch.set_num_threads(int(threads))
        try:
            if key != (function, gradient, parts):
                key, case = None, None
                case = PreparedCase(function, gradient == "1", parts)
                key = (function, gradient, parts)
            print(*case.seconds(float(budget)), flush=True)
        except (NotImplementedError, RuntimeError) as error:
            if "not implemented" not in str(error):
                raise
            print("refused", flush=True)


if __name__ == "__main__":
    main()
