"""What the tests of liblossd share: built programs, in the flavour that LOSSD_C_BUILD names, and fake servers."""

import contextlib
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "Tests" / "System"))

#: The folder of the test programs, and what stands before their command lines.
BUILD = pathlib.Path(os.environ.get("LOSSD_C_BUILD", HERE.parent / "build"))
WRAPPER = os.environ.get("LOSSD_C_WRAPPER", "").split()


def run(program, *arguments, timeout=120, **options):
    """Runs a test program; what a sanitizer or valgrind finds is a failure."""
    environment = {**os.environ, **options.pop("env", {}), "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
    return subprocess.run([*WRAPPER, str(BUILD / program), *map(str, arguments)], capture_output=True, text=True,
                          timeout=timeout, env=environment, **options)


def start(program, *arguments, **options):
    """The same, left running."""
    return subprocess.Popen([*WRAPPER, str(BUILD / program), *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, **options)


class Fake:
    """One connection of a fake server."""

    def __init__(self, connection):
        self.socket = connection
        self.socket.settimeout(20)
        self.sent = 0
        self.has_preface = False
        #: Frames that came: (type, stream, flags, message, payload).
        self.frames = []

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def frame(self):
        if not self.has_preface:
            assert self.read(8) == b"LOSSD/1\n"
            self.has_preface = True
        payload, message, stream, kind, flags, _ = struct.unpack("<IIIBBH", self.read(16))
        item = (kind, stream, flags, self.read(message), self.read(payload))
        self.frames.append(item)
        return item

    def request(self, streams=None, count=1):
        """Reads until so many request messages have come, of these streams or any; returns the last."""
        while True:
            item = self.frame()
            if item[0] == 3 and (streams is None or item[1] in streams):
                count -= 1
                if count == 0:
                    return item

    def send(self, data, piece=None):
        if piece is None:
            self.socket.sendall(data)
        else:
            for begin in range(0, len(data), piece):
                self.socket.sendall(data[begin:begin + piece])
        self.sent += len(data)

    def until_closed(self):
        try:
            while self.socket.recv(1 << 16):
                pass
        except OSError:
            pass


class FakeServerCase(unittest.TestCase):
    def drive(self, serve, action, *arguments, **environment):
        """Runs the driver against `serve(fake)`, or a list of such, one for each connection; its lines."""
        serves = serve if isinstance(serve, list) else [serve]
        problems = []
        with tempfile.TemporaryDirectory(prefix="lossd-fake-") as folder:
            path = os.path.join(folder, "socket")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen(8)
            listener.settimeout(0.1)
            is_over = threading.Event()

            def accept():
                for one in serves:
                    connection = None
                    while connection is None and not is_over.is_set():
                        with contextlib.suppress(socket.timeout):
                            connection, _ = listener.accept()
                    if connection is None:
                        return
                    with connection:
                        try:
                            one(Fake(connection))
                        except (EOFError, ConnectionError, socket.timeout):
                            pass
                        except Exception as problem:
                            problems.append(problem)

            thread = threading.Thread(target=accept)
            thread.start()
            try:
                result = run("driver", f"unix:{path}", action, *arguments, env=environment)
            finally:
                is_over.set()
                thread.join(30)
                listener.close()
        if problems:
            raise problems[0]
        self.assertEqual(result.returncode, 0, result.stderr[-3000:])
        self.assertEqual(result.stderr, "")
        return result.stdout.splitlines()
