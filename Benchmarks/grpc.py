"""Calls over gRPC beside nghttp2's own server, in one run: h2load against the daemon and against nghttpd, in turns.

    python3 Benchmarks/grpc.py [--rounds 3] [--calls 400000] [--big] [--torch]

Needs nghttp2-client (h2load) and nghttp2-server (nghttpd), and a release build; for --torch a Python with torch, grpcio and
grpcio-tools, which `make bench-grpc` has. That compares with a service around torch in Python, and measures gRPC's own client. Both servers get the same requests: POST
with the fields of a gRPC call and a body of an EvaluateRequest, cross_entropy of 1 x 10. nghttpd answers with a file of as
many bytes as the daemon's answer has. One loop, one thread of each; h2load has one, too.
"""

import argparse
import json
import os
import pathlib
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Tests" / "System"))

from daemon import Daemon, program  # noqa: E402
from wire import block, number, varint  # noqa: E402

METHOD = "/lossd.v1.Evaluator/Evaluate"
SERVICE = pathlib.Path(__file__).parent / "service" / "evaluate_service.py"
FIELDS = ["content-type: application/grpc", "te: trailers"]


def tensor(name, data, data_type, shape):
    sizes = b"".join(varint(size) for size in shape)
    return block(2, block(1, name) + number(2, data_type) + block(3, sizes) + block(4, data))


def body(rows, classes, *outputs):
    """A gRPC message: five bytes, and an EvaluateRequest of cross_entropy."""
    logits = struct.pack(f"<{classes}f", *(index % 7 / 7 for index in range(classes))) * rows
    target = struct.pack(f"<{rows}q", *(index % classes for index in range(rows)))
    made = block(1, "cross_entropy") + tensor("input", logits, 1, [rows, classes]) + tensor("target", target, 5, [rows])
    made += b"".join(block(4, block(1, name)) for name in outputs)
    return b"\0" + struct.pack(">I", len(made)) + made


def h2load(url, data, calls, connections, streams, *more):
    """Calls a second, and the report."""
    command = ["h2load", f"-n{calls}", f"-c{connections}", f"-m{streams}", "-t1", "-d", data]
    for field in FIELDS:
        command += ["-H", field]
    report = subprocess.run([*command, *more, url], capture_output=True, text=True, check=True).stdout
    if f"{calls} succeeded" not in report:
        raise RuntimeError(f"{url}: not all calls went well\n{report}")
    return float(re.search(r"([\d.]+) req/s", report).group(1)), report


def percentiles(url, data, calls, *more):
    """Of calls one by one, microseconds: p50 and p99."""
    with tempfile.NamedTemporaryFile() as log:
        h2load(url, data, calls, 1, 1, f"--log-file={log.name}", *more)
        times = sorted(int(line.split()[2]) for line in pathlib.Path(log.name).read_text().splitlines())
    return times[len(times) // 2], times[len(times) * 99 // 100]


class TorchService:
    """Evaluate by torch, behind gRPC's Python server."""

    def __init__(self, folder):
        self.path = folder / "torch.sock"
        self.process = subprocess.Popen(
            [sys.executable, str(SERVICE), f"unix:{self.path}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("the service around torch does not start")

    def stop(self):
        self.process.communicate("")


def by_grpcio(path, data, calls):
    """Milliseconds of a call by gRPC's own Python client, its bytes prepared: the median."""
    report = subprocess.run(
        [sys.executable, str(SERVICE), f"unix:{path}", "call", str(data), str(calls)], capture_output=True, text=True,
        check=True).stdout
    return statistics.median(float(line) for line in report.split())


def own(daemon, *options):
    """Calls a second on lossd's own wire, by the Unix socket."""
    report = subprocess.run(
        [program("lossctl"), "bench", "--server", daemon.unix, "--duration", "2", "--json", *options],
        capture_output=True, text=True, check=True).stdout
    return json.loads(report)["rate"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Nghttpd:
    def __init__(self, folder, answer_bytes):
        (folder / "lossd.v1.Evaluator").mkdir()
        (folder / METHOD[1:]).write_bytes(bytes(answer_bytes))
        self.port = free_port()
        self.process = subprocess.Popen(
            ["nghttpd", "--no-tls", "-n1", "-d", str(folder), str(self.port)], stdout=subprocess.DEVNULL)
        end = time.time() + 10
        while time.time() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        self.url = f"http://127.0.0.1:{self.port}{METHOD}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=400_000)
    parser.add_argument("--big", action="store_true", help="256 x 50257 with gradient as well")
    parser.add_argument("--torch", action="store_true", help="the service around torch and gRPC's own client as well")
    parser.add_argument("--json", help="a file for the numbers")
    options = parser.parse_args()
    found = {}

    def note(name, value):
        found.setdefault(name, []).append(value)

    with tempfile.TemporaryDirectory() as name, Daemon(tcp=True, loops=1) as daemon:
        folder = pathlib.Path(name)
        small = folder / "small"
        small.write_bytes(body(1, 10))
        files = folder / "files"
        files.mkdir()
        # The answer's prefix, name, type, and four bytes of data.
        rival = Nghttpd(files, 5 + 2 + 6 + 2 + 6)
        url = "http://" + daemon.tcp.removeprefix("tcp:") + METHOD
        unix = ["-B", daemon.unix]
        service = TorchService(folder) if options.torch else None
        to_service = ["-B", f"unix:{service.path}"] if service else None
        print(f"load before: {os.getloadavg()[0]:.1f}", flush=True)
        try:
            for _ in range(options.rounds):
                note("nghttpd, c8 m32", h2load(rival.url, small, options.calls, 8, 32)[0])
                note("lossd TCP, c8 m32", h2load(url, small, options.calls, 8, 32)[0])
                note("lossd Unix, c8 m32", h2load(url, small, options.calls, 8, 32, *unix)[0])
                note("own wire, 100 at once", own(daemon, "--depth", "100"))
                if service:
                    note("torch behind gRPC in Python, Unix, c8 m32", h2load(url, small, options.calls // 100, 8, 32, *to_service)[0])
                for kind, target, more in (("nghttpd", rival.url, []), ("lossd TCP", url, []), ("lossd Unix", url, unix)):
                    p50, p99 = percentiles(target, small, 20_000, *more)
                    note(f"{kind}, one by one, p50 us", p50)
                    note(f"{kind}, one by one, p99 us", p99)
            if options.big:
                big = folder / "big"
                big.write_bytes(body(256, 50257, "loss", "grad.input"))
                for _ in range(options.rounds):
                    note("256 x 50257 with gradient, lossd Unix, ms",
                         1000 / h2load(url, big, 20, 1, 1, "-w30", "-W30", *unix)[0])
                    note("256 x 50257 with gradient, own wire, ms",
                         1000 / own(daemon, "--shape", "256x50257", "--gradient"))
                    if service:
                        note("256 x 50257 with gradient, lossd by grpcio, ms", by_grpcio(daemon.path, big, 10))
                        note("256 x 50257 with gradient, torch by grpcio, ms", by_grpcio(service.path, big, 5))
        finally:
            if service:
                service.stop()
            rival.process.terminate()
            rival.process.wait()
        if daemon.stop() != 0:
            raise RuntimeError(daemon.log())
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, median in medians.items():
        print(f"{name:45} {median:12,.1f}   {', '.join(f'{value:,.0f}' for value in found[name])}")
    for kind in ("TCP", "Unix"):
        print(f"lossd {kind} to nghttpd: {medians[f'lossd {kind}, c8 m32'] / medians['nghttpd, c8 m32']:.2f}")
    if options.torch:
        best = max(medians["lossd TCP, c8 m32"], medians["lossd Unix, c8 m32"])
        print(f"lossd to torch behind gRPC: {best / medians['torch behind gRPC in Python, Unix, c8 m32']:.1f}")
    print(f"load: {os.getloadavg()[0]:.1f}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
