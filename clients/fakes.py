"""Servers that tests play, right or wrong, for clients in any language."""

import array
import contextlib
import fcntl
import mmap
import os
import pathlib
import socket
import struct
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Tests" / "System"))

from wire import (  # noqa: E402
    END_STREAM, GOAWAY, HELLO, MESSAGE, REGION, STATUS, block, double, frame, number, parse, varint)

#: What a daemon says first.
HI = frame(HELLO, 0, block(1, "fake") + number(4, 256) + number(5, 8))
#: The same from one that shares memory.
SHM_HI = frame(HELLO, 0, block(1, "fake") + number(4, 256) + number(5, 8) + block(6, "shm"))
#: fcntl's.
ADD_SEALS, SEALS = 1033, 1 | 2 | 4  # against other seals, shrinking and growing
OK3 = struct.pack("<3f", 0.5, 0.731, 0.269)


def tensor(name="output", data_type=1, shape=(3,), offset=0, length=12, storage=None):
    """A field `outputs` of an EvaluateResponse."""
    if storage is None:
        storage = block(5, number(1, offset) + number(2, length))
    return block(2, block(1, name) + number(2, data_type)
                 + block(3, b"".join(varint(size) for size in shape)) + storage)


def answer(message=None, payload=OK3, stream=1, flags=END_STREAM):
    return frame(MESSAGE, stream, tensor() if message is None else message, payload, flags)


def goaway(last, code=0, text=""):
    return frame(GOAWAY, 0, number(1, last) + block(2, number(1, code) + block(2, text)))


def status(code, text="no", stream=1):
    return frame(STATUS, stream, number(1, code) + block(2, text))


def summary(batches, loss_sum, weight_sum, stream, last):
    """A Summary of batches of 3 rows each: so far, or the last response."""
    state = b"".join(block(4, block(1, name) + double(2, value))
                     for name, value in (("loss_sum", loss_sum), ("weight_sum", weight_sum)))
    values = block(3, block(1, "loss") + double(2, loss_sum / weight_sum))
    return frame(MESSAGE, stream, block(3, number(1, batches) + number(2, 3 * batches) + values + state), b"",
                 END_STREAM if last else 0)


def listed(function, *kept, stream=1, reduction="mean"):
    """The answer to ListFunctions of one function, with the inputs `input` and `kept`, which stay. It reduces by
    default as `reduction` says; None: it declares no reduction."""
    inputs = block(4, block(1, "input") + number(4, 1)) + b"".join(
        block(4, block(1, name) + number(5, 1)) for name in kept)
    attributes = b"" if reduction is None else block(
        6, block(1, "reduction") + block(3, "string") + block(5, block(4, reduction)) + block(9, "reduction"))
    return frame(MESSAGE, stream, block(1, block(1, function) + inputs + attributes), b"", END_STREAM)


def listed_rows(function, stream=1):
    """The answer to ListFunctions of one of another plugin, without sums, that a data set is cut for: both its input
    `input` and its output `output` have rows."""
    description = (block(1, function) + block(2, "activation") + block(7, "other")
                   + block(4, block(1, "input") + number(4, 1) + block(6, "rows"))
                   + block(5, block(1, "output") + number(3, 1) + number(4, 1)))
    return frame(MESSAGE, stream, block(1, description), b"", END_STREAM)


def echoed(payload, columns, stream, flags=0):
    """The answer to a batch of rows of float32: the same as `output`."""
    rows = len(payload) // (4 * columns)
    return answer(tensor(shape=(rows, columns), length=len(payload)), payload, stream, flags)


class Fake:
    """One connection of a fake server: what came is read frame by frame, what is sent is said exactly."""

    def __init__(self, connection):
        self.socket = connection
        self.socket.settimeout(20)
        self.sent = 0
        self.has_preface = False
        #: Regions that the client has been given, by number: mapped.
        self.regions = {}
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

    def region(self):
        """Reads up to the next REGION: its number and length."""
        while True:
            item = self.frame()
            if item[0] == REGION:
                fields = parse(item[3])
                return fields[1][0], fields[2][0]

    def give_region(self, number_, length, seals=SEALS, size=None, descriptors=1, message=None):
        """The answer to a REGION, with a memfd, which may be wrong."""
        fd = os.memfd_create("fake", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, length if size is None else size)
            if seals:
                fcntl.fcntl(fd, ADD_SEALS, seals)
            if size is None:
                self.regions[number_] = mmap.mmap(fd, length)
            self.send_with_descriptors(
                frame(REGION, 0, number(1, number_)) if message is None else message, [fd] * descriptors)
        finally:
            os.close(fd)

    def send_with_descriptors(self, data, descriptors):
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        assert self.socket.sendmsg([data], ancillary) == len(data)

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


@contextlib.contextmanager
def serving(*serves):
    """Runs `serve(fake)` for each connection that comes, one after another, and gives the address. What goes wrong
    in one of them is raised at the end, except that a client may close."""
    problems = []
    is_over = threading.Event()
    with tempfile.TemporaryDirectory(prefix="lossd-fake-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = os.path.join(folder, "socket")
        listener.bind(path)
        listener.listen(8)
        listener.settimeout(0.1)

        def accept():
            for serve in serves:
                connection = None
                while connection is None and not is_over.is_set():
                    with contextlib.suppress(socket.timeout):
                        connection, _ = listener.accept()
                if connection is None:
                    return
                with connection:
                    try:
                        serve(Fake(connection))
                    except (EOFError, ConnectionError, socket.timeout):
                        pass
                    except Exception as problem:
                        problems.append(problem)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"unix:{path}"
        finally:
            is_over.set()
            thread.join(30)
    if problems:
        raise problems[0]
