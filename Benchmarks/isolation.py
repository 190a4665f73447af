"""What a plugin's call costs more in a process of its own than in the daemon, in turn, in one run.

    python3 Benchmarks/isolation.py [--rounds N] [--small-limit US] [--big-limit PERCENT] [--build FOLDER]

Builds Plugins/Examples/hinge.c twice under two names, loads one into the daemon and one into a process, and calls them
alternately over a Unix socket, after a warm-up: a small call (10 rows) and big ones (a payload of 16 MB, with and
without the gradient, which is 8 MB back; 64 MB). Requests are made beforehand and answers are read into memory that is
there already, so that next to nothing of what is measured is the client's. Prints medians and quartiles of the round
trips and of the differences of neighbouring calls; with a limit, exits with 1 where it is exceeded.
"""

import argparse
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Tests" / "System"))
from wire import END_STREAM, EVALUATE, MESSAGE, Connection, Tensor, frame, open_call, request  # noqa: E402

PLACES = {"hinge_here": "daemon", "hinge_there": "process"}


def build(folder):
    source = (ROOT / "Plugins" / "Examples" / "hinge.c").read_text()
    for name in PLACES:
        text = source.replace('"hinge"', f'"{name}"')
        (folder / f"{name}.c").write_text(text)
        subprocess.run(
            ["cc", "-std=c99", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I",
             ROOT / "Sources" / "CLossdPlugin" / "include", "-o", folder / f"{name}.so", folder / f"{name}.c"],
            check=True)
        os.utime(folder / f"{name}.so", (1, 1))


class Caller:
    """One call, again and again."""

    def __init__(self, connection, function, elements, outputs):
        self.connection, self.socket = connection, connection.socket
        data = struct.pack("<4f", 0.5, 2.0, -1.0, 0.25) * (elements // 4 + 1)
        signs = struct.pack("<2f", 1, -1) * (elements // 2 + 1)
        message, payload = request(
            function, {"input": Tensor(data[:4 * elements]), "target": Tensor(signs[:4 * elements])}, {}, outputs)
        self.body = frame(MESSAGE, 0, message, payload, END_STREAM)[16:]
        self.header = bytearray(frame(MESSAGE, 0, message, payload, END_STREAM)[:16])
        self.answer = memoryview(bytearray(4 * elements + (1 << 16)))

    def time(self):
        """Seconds from the first byte to the last."""
        stream = self.connection.next_stream
        self.connection.next_stream += 2
        struct.pack_into("<I", self.header, 8, stream)
        first = open_call(stream, EVALUATE) + self.header
        begin = time.perf_counter()
        if len(self.body) < 65536:
            self.socket.sendall(first + self.body)
        else:
            self.socket.sendall(first)
            self.socket.sendall(self.body)
        have = self.socket.recv_into(self.answer)
        while True:
            # Credit and such come before an answer, not within.
            at, complete = 0, False
            while at + 16 <= have:
                payload, length, number, kind = struct.unpack_from("<IIIB", self.answer, at)
                if at + 16 + length + payload > have:
                    break
                at += 16 + length + payload
                if number == stream:
                    if kind != MESSAGE:
                        raise RuntimeError(bytes(self.answer[at - length - payload:at]))
                    complete = True
            if complete:
                return time.perf_counter() - begin
            have += self.socket.recv_into(self.answer[have:])


def measure(connection, elements, outputs, rounds):
    callers = [Caller(connection, function, elements, outputs) for function in PLACES]
    for _ in range(max(rounds // 10, 5)):
        for caller in callers:
            caller.time()
    times = [[], []]
    for index in range(rounds):
        # Who is first changes, since what is first may find caches colder.
        for place in (0, 1) if index % 2 == 0 else (1, 0):
            times[place].append(callers[place].time())
    return times


def quartiles(values, scale):
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle * scale:9.1f} ({low * scale:.1f} .. {high * scale:.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=4000, help="of the small call; big ones get a tenth")
    parser.add_argument("--small-limit", type=float, help="microseconds")
    parser.add_argument("--big-limit", type=float, help="percent")
    parser.add_argument("--build", default=ROOT / ".build" / "release", type=pathlib.Path)
    options = parser.parse_args()
    exceeded = False
    with tempfile.TemporaryDirectory(prefix="lossd-bench-") as name:
        folder = pathlib.Path(name)
        build(folder)
        with open(folder / "log", "wb") as log:
            daemon = subprocess.Popen(
                [options.build / "lossd", "--listen", f"unix:{folder}/lossd.sock", "--plugin-dir", folder, "--set",
                 "plugins.in_daemon=hinge_here.so", "--set", "plugins.in_process=hinge_there.so"], stderr=log)
            try:
                while "is ready" not in (folder / "log").read_text():
                    if daemon.poll() is not None:
                        raise RuntimeError((folder / "log").read_text())
                    time.sleep(0.01)
                with Connection(f"unix:{folder}/lossd.sock") as connection:
                    connection.socket.setblocking(True)
                    for title, elements, outputs, rounds in (
                            ("10 rows", 10, ["loss", "grad.input"], options.rounds),
                            ("16 MB", 2_000_000, ["loss"], options.rounds // 10),
                            ("16 MB with gradient", 2_000_000, ["loss", "grad.input"], options.rounds // 10),
                            ("64 MB", 8_000_000, ["loss"], options.rounds // 40)):
                        here, there = measure(connection, elements, outputs, rounds)
                        difference = statistics.median(b - a for a, b in zip(here, there))
                        percent = 100 * difference / statistics.median(here)
                        print(f"{title:20} in the daemon {quartiles(here, 1e6)} us, in a process "
                              f"{quartiles(there, 1e6)} us: {difference * 1e6:+.1f} us, {percent:+.1f} %", flush=True)
                        if elements == 10:
                            exceeded |= options.small_limit is not None and difference * 1e6 > options.small_limit
                        else:
                            exceeded |= options.big_limit is not None and percent > options.big_limit
            finally:
                daemon.terminate()
                daemon.wait()
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
