"""Times torch: reads cases from standard input, one a line, and answers each with seconds.

    FUNCTION TYPE SHAPE DIM GRADIENT(0|1) THREADS SECONDS

A call with gradient is torch's usual way: forward with recorded operations, then torch.autograd.grad.
"""
import gc
import sys
import time

import torch
import torch.nn.functional as F

ACTIVATIONS = ("sigmoid", "softmax", "log_softmax")


def random(shape, kind, low, high):
    return torch.rand(shape, dtype=torch.float32).mul_(high - low).add_(low).to(kind)


class PreparedCase:
    def __init__(self, function, kind, shape, dim, gradient):
        torch.manual_seed(1)
        kind = getattr(torch, kind)
        self.function, self.dim, self.gradient = function, dim, gradient
        is_probability = function == "binary_cross_entropy"
        self.input = random(shape, kind, *((0.01, 0.99) if is_probability else (-6, 6)))
        self.target = self.upstream = None
        if function in ("cross_entropy", "nll_loss"):
            positions = list(shape)
            classes = positions.pop(1 if len(shape) > 1 else 0)
            self.target = torch.randint(0, classes, positions)
        elif function not in ACTIVATIONS:
            self.target = random(shape, kind, 0, 1)
        elif gradient:
            self.upstream = random(shape, kind, -1, 1)
        self.input.requires_grad_(gradient)
        self.calls_per_time = 200 if self.input.numel() < 1000 else 1

    def forward(self):
        if self.function == "sigmoid":
            return torch.sigmoid(self.input)
        if self.function in ACTIVATIONS:
            return getattr(F, self.function)(self.input, self.dim)
        return getattr(F, self.function)(self.input, self.target)

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
        function, kind, shape, dim, gradient, threads, budget = line.split()
        torch.set_num_threads(int(threads))
        if key != (function, kind, shape, dim, gradient):
            key, case = (function, kind, shape, dim, gradient), None
            sizes = [int(size) for size in shape.split("x")]
            case = PreparedCase(function, kind, sizes, int(dim), gradient == "1")
        print(*case.seconds(float(budget)), flush=True)


if __name__ == "__main__":
    main()
