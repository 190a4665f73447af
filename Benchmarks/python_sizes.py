"""Middle-sized calls from Python, by the socket and in shared memory: where the bound between the two lies.

    python Benchmarks/python_sizes.py [ROUNDS]

cross_entropy of float32 logits of 250 classes with gradient, from 16 KiB to 4 MiB: the input copied, and lying in an
array of `empty`; the latter prepared, too. One round of each after another, so that a busy machine is busy for all:
medians of the calls, in microseconds, and the ratio of the socket's to the others'.
"""

import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Tests" / "System"))

import numpy as np  # noqa: E402

import lossd  # noqa: E402
import lossd._driver  # noqa: E402
from daemon import Daemon  # noqa: E402

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 7
CALLS, CLASSES = 50, 250


def connected(address, shared_min):
    """A client for which tensors of so many bytes lie in shared memory."""
    lossd._driver.SHARED_MIN = shared_min
    client = lossd.connect(address)
    client.ping()
    return client


def took(run):
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def main():
    names = " ".join(f"{name:>9}" for name in ("socket", "shared", "there", "prepared"))
    print(f"{'KiB':>6} {names}   microseconds, and times as fast as the socket")
    with Daemon() as daemon, connected(daemon.unix, 1 << 60) as plain, connected(daemon.unix, 1) as client:
        for kibibytes in (16, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096):
            rows = kibibytes * 1024 // (4 * CLASSES)
            x = np.random.default_rng(0).normal(size=(rows, CLASSES)).astype(np.float32)
            y = np.arange(rows) % CLASSES
            there = client.empty(x.shape)
            there[...] = x
            ways = [lambda: plain.cross_entropy(x, y, with_grad=True),
                    lambda: client.cross_entropy(x, y, with_grad=True),
                    lambda: client.cross_entropy(there, y, with_grad=True),
                    client.prepare("cross_entropy", there, y, with_grad=True)]
            rounds = [[took(run) for run in ways] for _ in range(ROUNDS + 1)][1:]  # the first meets new memory
            medians = [statistics.median(times) for times in zip(*rounds)]
            ratios = [statistics.median(times[0] / times[way] for times in rounds) for way in range(1, len(ways))]
            print(f"{kibibytes:6} " + " ".join(f"{time:9.1f}" for time in medians) + "   "
                  + " ".join(f"{ratio:5.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
