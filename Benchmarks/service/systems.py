"""The servers that are compared: lossd, an echo of as many bytes on libuv, torch behind gRPC in Python."""

import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "Tests" / "System"))
from wire import END_STREAM, EVALUATE, MESSAGE, PREFACE, Connection, Tensor, frame, hello, open_call, request  # noqa: E402

BUILD = ROOT / os.environ.get("LOSSD_BUILD", ".build/release")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Call:
    """cross_entropy of rows x classes in float32, with or without gradient: as lossd's bytes and as gRPC's.

    `variants`: as many requests that differ in their id, made in turn, so that none equals the one before it."""

    def __init__(self, rows, classes, gradient, variants=1):
        # Without numpy, which only the service needs: a pattern is as good as noise to the arithmetic.
        row = struct.pack(f"<{classes}f", *(((n * 7919) % 1000) / 1000 for n in range(classes)))
        self.rows, self.classes, self.gradient, self.variants = rows, classes, gradient, variants
        self.logits = row * rows
        self.target = struct.pack(f"<{rows}q", *((n * 31) % classes for n in range(rows)))
        outputs = ["loss", "grad.input"] if gradient else []
        opening = open_call(1, EVALUATE)
        inputs = {"input": Tensor(self.logits, shape=[rows, classes]), "target": Tensor(self.target, "int64")}
        self.all = b"".join(
            opening + frame(MESSAGE, 1, *request("cross_entropy", inputs, None, outputs, id), END_STREAM)
            for id in range(1, variants + 1))
        self.bytes = self.all[:len(self.all) // variants]
        self.offsets = (8, len(opening) + 8)

    def __str__(self):
        return f"{self.rows} x {self.classes}" + (" with gradient" if self.gradient else "") + (
            ", requests that differ" if self.variants > 1 else "")


GREETING = PREFACE + hello()


class Process:
    """A server in a process of its own and a folder for its socket. `unix` and `tcp` are where it listens."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="lossd-bench-")
        self.unix = f"unix:{self.folder.name}/socket"
        self.tcp = f"tcp:127.0.0.1:{free_port()}"
        self.process = None

    def address(self, transport):
        return getattr(self, transport)

    def start(self, command, **options):
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)

    def wait_until_ready(self):
        line = self.process.stdout.readline()
        if line != "ready\n":
            raise RuntimeError(f"{self.process.args}: {line!r} and not ready")

    def resident_mebibytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return None

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.stdin.close()
            self.process.terminate()
            self.process.wait()
            self.process.stdout.close()
        self.folder.cleanup()


class Lossd(Process):
    """`processors`: those that it may use, as taskset has them; None: all."""

    name = "lossd"

    def __init__(self, *arguments, processors=None):
        super().__init__()
        command = [BUILD / "lossd", "--listen", self.unix, "--listen", self.tcp, *arguments]
        if processors:
            command = ["taskset", "-c", processors, *command]
        self.start(command, stderr=subprocess.PIPE)
        for line in self.process.stderr:
            if "is ready" in line:
                break
        else:
            raise RuntimeError("lossd did not start")

    def answer(self, call):
        """The frame that it answers a call with."""
        with Connection(self.unix) as connection:
            connection.socket.sendall(call.bytes)
            kind, stream, flags, message, payload = connection.receive_of(1)
        if (kind, flags) != (MESSAGE, END_STREAM):
            raise RuntimeError(f"lossd answers {kind}: {message!r}")
        return frame(kind, stream, message, payload, flags)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.stderr.read()
        self.process.stderr.close()
        super().__exit__()


class Echo(Process):
    """`answer`: the bytes of one."""

    name = "echo"

    def __init__(self, helpers, call, answer, transport):
        super().__init__()
        path = pathlib.Path(self.folder.name) / "answer"
        path.write_bytes(answer)
        self.start([
            helpers / "echo", self.address(transport), len(GREETING), len(call.bytes), path, call.offsets[1]])
        self.wait_until_ready()


class Grpc(Process):
    """`kind`: threads or asyncio."""

    name = "gRPC"

    def __init__(self, transport, kind, torch_threads, server_threads=1):
        super().__init__()
        self.transport = transport
        self.target = self.unix if transport == "unix" else self.tcp.removeprefix("tcp:")
        self.configuration = f"{kind}" + (f", {server_threads}" if kind == "threads" else "") + (
            f", torch on {torch_threads}")
        self.start([
            sys.executable, HERE / "grpc_service.py", kind, self.target, torch_threads, server_threads])
        self.wait_until_ready()


def build_helpers(folder):
    """Compiles drive.c and echo.c; libuv as pkg-config has it."""
    folder = pathlib.Path(folder)
    libuv = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libuv"], check=True, capture_output=True, text=True).stdout.split()
    for name, flags in (("drive", []), ("echo", libuv)):
        subprocess.run(
            ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", folder / name, HERE / f"{name}.c", *flags], check=True)
    return folder


def settle():
    """Lets what was started before come to rest."""
    time.sleep(0.2)
