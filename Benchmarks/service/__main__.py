"""lossd's calls over sockets, against an echo of as many bytes on libuv and against torch behind gRPC in Python.

    python Benchmarks/service [--quick] [--rounds N] [--seconds S] [--parts small,big,batch,connections,cores,idle]
                              [--without-grpc] [--json FILE] [--docs FOLDER]

Every part measures its servers in turn, round by round, in one run; what is told are medians, and ratios within a
round. Needs a release build, cc, libuv, and for gRPC: torch, grpcio, h2load. `make bench-calls` has all of them.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile

from machine import describe, load
from measure import drive, engine, h2load, lossctl
from systems import Call, Echo, Grpc, Lossd, build_helpers, settle

KEYS = ("rate", "p50", "p90", "p99", "p999", "max", "server_us", "client_processors", "server_processors")
PIPELINED = 100


def median(rounds):
    """Of each figure, over the rounds."""
    return {key: statistics.median([one[key] for one in rounds if one.get(key) is not None])
            for key in KEYS if any(one.get(key) is not None for one in rounds)}


def ratio(rounds, others):
    """Of the rates in each round."""
    return statistics.median([one["rate"] / other["rate"] for one, other in zip(rounds, others)])


class Benchmark:
    def __init__(self, options, helpers):
        self.options, self.helpers = options, helpers
        self.seconds, self.warm_up = options.seconds, min(0.5, options.seconds)

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def best_service(self, transport, call, depth):
        """The configuration of the gRPC service that answers this call most often, and what all of them did."""
        big = len(call.bytes) > 1 << 20
        tried = {}
        for kind, torch_threads, server_threads in (
                [("threads", 2, 2), ("threads", 1, 2), ("asyncio", 2, 1)] if big
                else [("threads", 1, 1), ("threads", 1, 8), ("asyncio", 1, 1)]):
            with Grpc(transport, kind, torch_threads, server_threads) as service:
                result = h2load(service, call, depth, 5 if big else 2, 1)
                tried[(kind, torch_threads, server_threads)] = (service.configuration, result["rate"])
        best = max(tried, key=lambda key: tried[key][1])
        return best, dict(tried.values())

    def compare(self, call, transport, depth, seconds=None, with_grpc=True):
        """One row: lossd, echo and service in turn."""
        seconds = seconds or self.seconds
        rounds = {"lossd": [], "echo": []}
        row = {"call": str(call), "transport": transport, "depth": depth}
        service = None
        if with_grpc and not self.options.without_grpc:
            best, row["grpc_configurations"] = self.best_service(transport, call, depth)
            service = Grpc(transport, *best)
            row["grpc_configuration"] = service.configuration
            rounds["gRPC"] = []
        try:
            with Lossd() as lossd, Echo(self.helpers, call, lossd.answer(call), transport) as echo:
                settle()
                for number in range(self.options.rounds):
                    # Back and forth: nobody is always the first after the others.
                    for server in (lossd, echo) if number % 2 == 0 else (echo, lossd):
                        rounds[server.name].append(drive(
                            self.helpers, server, transport, call, depth, seconds, self.warm_up))
                    if service:
                        rounds["gRPC"].append(h2load(service, call, depth, seconds, self.warm_up))
        finally:
            if service:
                service.__exit__()
        row |= {name: median(each) for name, each in rounds.items()}
        row["to_echo"] = ratio(rounds["lossd"], rounds["echo"])
        if service:
            row["to_grpc"] = ratio(rounds["lossd"], rounds["gRPC"])
        self.say(f"  {call}, {transport}, {depth} at once: " + ", ".join(
            f"{name} {row[name]['rate']:,.1f}/s p50 {row[name]['p50']:,.1f} us" for name in rounds))
        return row

    # MARK: - The parts

    def small(self):
        rows = [self.compare(Call(1, 10, False), transport, depth)
                for transport in ("unix", "tcp") for depth in (1, PIPELINED)]
        # lossd knows a request that equals the one before it but for its tensors' elements.
        return rows + [self.compare(Call(1, 10, False, 2), "unix", depth, with_grpc=False) for depth in (1, PIPELINED)]

    def big(self):
        call = Call(256, 50257, True)
        seconds = max(self.seconds, 4) if not self.options.quick else self.seconds
        return [self.compare(call, "unix", depth, seconds) for depth in (1, 2)]

    def batch(self):
        sizes = (1, 100, 10_000) if self.options.quick else (1, 10, 100, 1000, 10_000, 100_000)
        return [self.compare(Call(rows, 10, True), "unix", 1) for rows in sizes]

    def connections(self):
        rows = []
        counts = (1, 16) if self.options.quick else (1, 2, 4, 16, 64, 256)
        with Lossd() as lossd:
            rounds = {count: [] for count in counts}
            for _ in range(self.options.rounds):
                for count in counts:
                    rounds[count].append(lossctl(
                        lossd, "unix", "--connections", count, seconds=self.seconds, warm_up=self.warm_up))
            for count in counts:
                rows.append({"connections": count} | median(rounds[count]))
                self.say(f"  {count} connections: {rows[-1]['rate']:,.0f}/s, p99 {rows[-1]['p99']:,.0f} us")
        return rows

    def cores(self):
        """Daemon and client together on one processor and on two, and the engine alone with one worker and with two."""
        rows = []
        for name, loops, arguments in (
                ("1 x 10, 8 connections, 32 at once", 2, ["--connections", 8, "--depth", 32]),
                ("256 x 50257 with gradient, 3 at once", 1, ["--shape", "256x50257", "--gradient", "--depth", 3]),
                ("256 x 50257, 3 at once", 1, ["--shape", "256x50257", "--depth", 3])):
            rounds = {1: [], 2: []}
            with Lossd("--workers", 1, processors="0") as one, Lossd(
                    "--workers", 2, "--loops", loops, processors="0,1") as two:
                for _ in range(self.options.rounds):
                    for count, server, processors in ((1, one, "0"), (2, two, "0,1")):
                        rounds[count].append(lossctl(
                            server, "unix", *arguments, seconds=self.seconds, warm_up=self.warm_up,
                            processors=processors))
            rows.append(self.scaling(name, rounds))
        for shape, gradient in (("256x50257", True), ("256x50257", False), ("100000x10", True)):
            rounds = {1: [], 2: []}
            for _ in range(self.options.rounds):
                for count in (1, 2):
                    rounds[count].append(engine(shape, gradient, count, 0.2 if self.options.quick else 1))
            name = shape.replace("x", " x ") + (" with gradient" if gradient else "")
            rows.append(self.scaling(f"the engine alone, {name}", rounds))
        return rows

    def scaling(self, name, rounds):
        row = {"call": name, "one": median(rounds[1]), "two": median(rounds[2]), "ratio": ratio(rounds[2], rounds[1])}
        self.say(f"  {name}: {row['one']['rate']:,.1f}/s on one, {row['two']['rate']:,.1f}/s on two, {row['ratio']:.2f}x")
        return row

    def idle(self):
        with Lossd() as lossd:
            settle()
            fresh = lossd.resident_mebibytes()
            lossctl(lossd, "unix", "--depth", PIPELINED, seconds=0.5, warm_up=0)
            result = {"fresh_mebibytes": fresh, "after_small_calls_mebibytes": lossd.resident_mebibytes()}
        self.say(f"  resident {fresh:.1f} MiB")
        return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--parts", default="small,big,batch,connections,cores,idle")
    parser.add_argument("--without-grpc", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, help="where the figures go")
    parser.add_argument("--docs", type=pathlib.Path, help="folder whose benchmarks.md and benchmarks/ get the result")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 9)
    options.seconds = options.seconds or (1.0 if options.quick else 2.0)
    result = {"machine": describe(not options.without_grpc), "rounds": options.rounds, "seconds": options.seconds,
              "load_before": load()}
    with tempfile.TemporaryDirectory(prefix="lossd-helpers-") as folder:
        benchmark = Benchmark(options, build_helpers(folder))
        for part in options.parts.split(","):
            benchmark.say(part)
            result[part] = getattr(benchmark, part)()
            result["load_after"] = load()
            # After each part: what has been measured is not lost with what follows.
            if options.json:
                options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.docs:
        import report
        report.write(result, options.docs)
    if not options.json and not options.docs:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
