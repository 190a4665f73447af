"""Small calls from Python beside lossctl bench on the same daemon, in one run.

    python Benchmarks/python_calls.py [ROUNDS]

cross_entropy of 1 x 10 float32 logits, which is lossctl bench's, on a daemon with one worker: one call after another
(p50), prepared, as a method and by name; then many at once from one thread, and in one event loop. One round of each
after another, so that a busy machine is busy for all: medians of the rounds, and the ratio of each to lossctl's of the
same round.
"""

import asyncio
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections import deque

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Tests" / "System"))

import numpy as np  # noqa: E402

import lossd  # noqa: E402
from daemon import Daemon, program  # noqa: E402

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 7
CALLS = 5000
#: Calls at once of one thread, and of one event loop.
WINDOW, TASKS = 256, 1000
LOGITS = np.random.default_rng(0).normal(size=(1, 10)).astype(np.float32)
LABELS = np.array([3])
INPUTS = {"input": LOGITS, "target": LABELS}


def lossctl(address, *options):
    """p50 in microseconds, and calls a second."""
    said = json.loads(subprocess.run(
        [program("lossctl"), "bench", "--server", address, "--duration", "0.6", "--warm-up", "0.2", "--json", *options],
        check=True, capture_output=True, text=True).stdout)
    return said["latency_us"]["p50"], said["rate"]


def p50(call):
    """Microseconds."""
    times = []
    for _ in range(CALLS + CALLS // 10):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times[CALLS // 10:]) * 1e6


def pipelined(client):
    """Calls a second of one thread with WINDOW under way."""
    waiting = deque()
    began = time.perf_counter()
    for _ in range(10 * CALLS):
        waiting.append(client.submit("cross_entropy", INPUTS, None, ("loss",)))
        if len(waiting) >= WINDOW:
            waiting.popleft().result()
    while waiting:
        waiting.popleft().result()
    return 10 * CALLS / (time.perf_counter() - began)


async def in_a_loop(address):
    """Calls a second of TASKS tasks, each of which makes one call after another."""
    async with lossd.connect_async(address) as client:
        async def work(count):
            for _ in range(count):
                await client.evaluate("cross_entropy", INPUTS, None, ("loss",))

        await asyncio.gather(*(work(1) for _ in range(TASKS)))
        began = time.perf_counter()
        await asyncio.gather(*(work(20) for _ in range(TASKS)))
        return 20 * TASKS / (time.perf_counter() - began)


def main():
    rows = {}
    with Daemon(workers="1") as daemon:
        address = daemon.unix
        with lossd.connect(address) as client:
            prepared = client.prepare("cross_entropy", LOGITS, LABELS)
            for _ in range(ROUNDS):
                rows.setdefault("lossctl bench, us", []).append(lossctl(address)[0])
                rows.setdefault("prepared, us", []).append(p50(prepared))
                rows.setdefault("client.cross_entropy, us", []).append(
                    p50(lambda: client.cross_entropy(LOGITS, LABELS)))
                rows.setdefault("client.evaluate, us", []).append(
                    p50(lambda: client.evaluate("cross_entropy", INPUTS, None, ("loss",))))
                rows.setdefault(f"lossctl bench --depth {WINDOW}, calls/s", []).append(
                    lossctl(address, "--depth", str(WINDOW))[1])
                rows.setdefault(f"client.submit, {WINDOW} at once, calls/s", []).append(pipelined(client))
                rows.setdefault(f"asyncio, {TASKS} tasks, calls/s", []).append(asyncio.run(in_a_loop(address)))
    base = None
    print(f"cross_entropy of 1 x 10, {ROUNDS} rounds, {os.cpu_count()} processors\n")
    for name, values in rows.items():
        base = values if name.startswith("lossctl") else base
        ratios = [value / one for value, one in zip(values, base)]
        more = [value - one for value, one in zip(values, base)]
        print(f"{name:40}{statistics.median(values):12.1f}  x{statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f})"
              + (f"  {statistics.median(more):+.1f}" if name.endswith("us") else ""))


if __name__ == "__main__":
    main()
