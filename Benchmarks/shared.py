"""cross_entropy of 256 x 50257 with gradient from Python: by the socket, in shared memory, and torch behind gRPC.

    python Benchmarks/shared.py [ROUNDS]

One round of each after another, so that a busy machine is busy for all; medians, and the range of the ratios of one
round. The service is Benchmarks/service/grpc_service.py, over a Unix socket, with as many torch threads as there are
processors. The client's own work counts: messages are made and arrays are ready on return.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "Tests" / "System"), str(ROOT / "Benchmarks" / "service")]

import grpc  # noqa: E402
import numpy as np  # noqa: E402

import lossd  # noqa: E402
import lossd._driver  # noqa: E402
from daemon import Daemon  # noqa: E402
from grpc_service import METHOD, OPTIONS, Reply, Request  # noqa: E402

ROWS, CLASSES = 256, 50257
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 9


def by_grpc(address, x, y):
    channel = grpc.insecure_channel(address, options=OPTIONS)
    call = channel.unary_unary(METHOD, request_serializer=Request.SerializeToString,
                               response_deserializer=Reply.FromString)

    def run():
        reply = call(Request(input=x.tobytes(), target=y.tobytes(), shape=x.shape, gradient=True))
        return reply.loss, np.frombuffer(reply.gradient, np.float32).reshape(x.shape)

    return run


def by_lossd(client, x, y):
    return lambda: client.cross_entropy(x, y, with_grad=True)


def connected(address, shared_min):
    """A client for which tensors of so many bytes lie in shared memory."""
    lossd._driver.SHARED_MIN = shared_min
    client = lossd.connect(address)
    client.ping()
    return client


def main():
    x = np.random.default_rng(0).normal(size=(ROWS, CLASSES)).astype(np.float32)
    y = (np.arange(ROWS) * 31) % CLASSES
    with tempfile.TemporaryDirectory(prefix="lossd-bench-") as folder, Daemon() as daemon:
        service = subprocess.Popen(
            [sys.executable, ROOT / "Benchmarks" / "service" / "grpc_service.py", "threads", f"unix:{folder}/grpc",
             str(os.cpu_count()), "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert service.stdout.readline() == "ready\n"
            with connected(daemon.unix, 1 << 60) as plain, connected(daemon.unix, 192 << 10) as client:
                placed = client.empty(x.shape)
                placed[...] = x
                ways = {
                    "gRPC + torch": by_grpc(f"unix:{folder}/grpc", x, y),
                    "socket": by_lossd(plain, x, y),
                    "shared, input copied": by_lossd(client, x, y),
                    "shared, input there": by_lossd(client, placed, y)}
                times = measure(ways)
        finally:
            service.stdin.close()
            service.wait()
    report(times)


def measure(ways):
    times = {name: [] for name in ways}
    truth = None
    for number in range(ROUNDS + 2):
        for name, run in ways.items():
            began = time.perf_counter()
            loss, gradient = run()
            took = time.perf_counter() - began
            if number >= 2:  # the first ones meet new memory
                times[name].append(took)
            truth = truth or (loss, gradient[0].copy())
            np.testing.assert_allclose(loss, truth[0], rtol=1e-5)
            np.testing.assert_allclose(gradient[0], truth[1], rtol=1e-4, atol=1e-9)
    return times


def report(times):
    print(f"cross_entropy {ROWS} x {CLASSES} with gradient, {ROUNDS} rounds, {os.cpu_count()} processors")
    for name, values in times.items():
        print(f"  {name:22} median {statistics.median(values) * 1e3:7.1f} ms, best {min(values) * 1e3:7.1f} ms")
    for other in ("socket", "gRPC + torch"):
        for name in ("shared, input copied", "shared, input there"):
            ratios = sorted(theirs / ours for ours, theirs in zip(times[name], times[other]))
            print(f"  {name} is {statistics.median(ratios):.1f} times as fast as {other} "
                  f"({ratios[0]:.1f} to {ratios[-1]:.1f})")


if __name__ == "__main__":
    main()
