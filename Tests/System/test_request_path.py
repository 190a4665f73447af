"""What a small call costs a daemon: no allocation, and one read and one write for many calls."""

import mmap
import os
import pathlib
import struct
import subprocess
import tempfile
import unittest

from daemon import Daemon
from wire import END_STREAM, EVALUATE, MESSAGE, Tensor, frame, open_call, request

HERE = pathlib.Path(__file__).parent
CALLS = 1000


class Counted:
    """A daemon whose allocations and system calls on sockets are counted."""

    def __init__(self, folder):
        library = f"{folder}/count_calls.so"
        subprocess.run(
            ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library,
             HERE / "count_calls.c"], check=True)
        pathlib.Path(f"{folder}/count").write_bytes(bytes(24))
        self.file = open(f"{folder}/count", "r+b")
        self.memory = mmap.mmap(self.file.fileno(), 24)
        os.environ.update(LD_PRELOAD=library, CALL_COUNT=f"{folder}/count")
        try:
            # What it would do in place of sleeping is not what a call costs.
            self.daemon = Daemon(busy_poll="0")
        finally:
            del os.environ["LD_PRELOAD"], os.environ["CALL_COUNT"]

    def counts(self):
        return struct.unpack("<QQ", self.memory[:16])

    def trace(self, allocations):
        self.memory[16:] = struct.pack("<Q", allocations)

    def close(self):
        self.daemon.__exit__()
        self.memory.close()
        self.file.close()


def vector(count, kind="float32"):
    return Tensor([0.25] * count, kind)


def matrix(rows, columns):
    return Tensor([0.25] * (rows * columns), shape=[rows, columns])


CASES = {
    "cross_entropy": ("cross_entropy", {"input": matrix(1, 10), "target": Tensor([3], "int64")}, {}, ()),
    "cross_entropy, weighted, smoothed, with its gradient": (
        "cross_entropy",
        {"input": matrix(4, 10), "target": Tensor([3, 1, 2, 0], "int64"), "weight": vector(10)},
        {"label_smoothing": 0.1, "reduction": "sum"}, ("loss", "grad.input")),
    "cross_entropy of probabilities": (
        "cross_entropy", {"input": matrix(4, 10), "target": matrix(4, 10)}, {}, ("loss", "grad.input")),
    "nll_loss": ("nll_loss", {"input": matrix(4, 10), "target": Tensor([3, 1, 2, 0], "int64")}, {}, ()),
    "softmax": ("softmax", {"input": matrix(4, 10)}, {}, ("output", "grad.input")),
    "log_softmax of columns": ("log_softmax", {"input": matrix(4, 10)}, {"dim": 0}, ()),
    "sigmoid": ("sigmoid", {"input": vector(33)}, {}, ("output", "grad.input")),
    "gelu": ("gelu", {"input": vector(33)}, {"approximate": "tanh"}, ("output", "grad.input")),
    "normalize": ("normalize", {"input": vector(33), "grad.output": vector(33)}, {"dim": 0}, ("output", "grad.input")),
    "pairwise_distance": (
        "pairwise_distance", {"x1": vector(33), "x2": vector(33)}, {}, ("output", "grad.x1", "grad.x2")),
    "smooth_l1_loss": (
        "smooth_l1_loss", {"input": vector(33), "target": vector(33)}, {"beta": 0.5},
        ("loss", "grad.input", "grad.target")),
    "binary_cross_entropy": (
        "binary_cross_entropy", {"input": vector(33), "target": vector(33)}, {}, ("loss", "grad.input")),
    "binary_cross_entropy_with_logits": (
        "binary_cross_entropy_with_logits",
        {"input": vector(33), "target": vector(33), "pos_weight": vector(33)}, {}, ("loss", "grad.input")),
    "multilabel_soft_margin_loss": (
        "multilabel_soft_margin_loss", {"input": matrix(4, 10), "target": matrix(4, 10)}, {},
        ("loss", "grad.input")),
    "half precision": (
        "cross_entropy",
        {"input": Tensor(bytes(80), "float16", [4, 10]), "target": Tensor([3, 1, 2, 0], "int64")}, {},
        ("loss", "grad.input")),
}


class RequestPath(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="lossd-count-")
        cls.counted = Counted(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.counted.close()
        cls.folder.cleanup()

    def setUp(self):
        self.connection = self.counted.daemon.connect()
        self.addCleanup(self.connection.close)

    def pipelined(self, depth, case, changing=False):
        """Sends many calls at once and takes their answers."""
        data, streams = bytearray(), []
        for index in range(depth):
            stream = self.connection.next_stream
            self.connection.next_stream += 2
            message, payload = request(*case, id=index if changing else 7)
            data += open_call(stream, EVALUATE) + frame(MESSAGE, stream, message, payload, END_STREAM)
            streams.append(stream)
        self.connection.send(bytes(data))
        for stream in streams:
            self.connection.finish(stream)

    def test_a_small_call_allocates_nothing(self):
        for name, case in CASES.items():
            with self.subTest(name):
                for _ in range(20):
                    self.pipelined(32, case)
                before = self.counted.counts()[0]
                for _ in range(CALLS // 50):
                    self.pipelined(50, case)
                allocations = self.counted.counts()[0] - before
                if allocations >= CALLS // 100:
                    # Whose they are, for who has to find out.
                    self.counted.trace(4)
                    self.pipelined(2, case)
                self.assertLess(
                    allocations, CALLS // 100, f"{name}: allocations in {CALLS} calls, see "
                    + self.counted.daemon.log()[-4000:])

    def test_a_call_that_differs_from_the_one_before_allocates_nothing_either(self):
        for name in ("cross_entropy", "sigmoid"):
            for _ in range(20):
                self.pipelined(32, CASES[name], changing=True)
            before = self.counted.counts()[0]
            for _ in range(CALLS // 50):
                self.pipelined(50, CASES[name], changing=True)
            self.assertLess(self.counted.counts()[0] - before, CALLS // 100, name)

    def test_one_call_after_the_other_takes_a_wait_a_read_and_a_write(self):
        for _ in range(50):
            self.pipelined(1, CASES["cross_entropy"])
        before = self.counted.counts()[1]
        for _ in range(CALLS):
            self.pipelined(1, CASES["cross_entropy"])
        self.assertLessEqual(self.counted.counts()[1] - before, 3.1 * CALLS)

    def test_pipelined_calls_share_their_reads_and_writes(self):
        for _ in range(20):
            self.pipelined(50, CASES["cross_entropy"])
        before = self.counted.counts()[1]
        for _ in range(CALLS // 50):
            self.pipelined(50, CASES["cross_entropy"])
        self.assertLess(self.counted.counts()[1] - before, CALLS // 4)


if __name__ == "__main__":
    unittest.main()
