"""Clients that live through a daemon's restart."""

import os
import signal
import struct
import subprocess
import threading
import time
import unittest

from daemon import Daemon, lossctl, program
from wire import DAEMON_STATUS, parse


def write_npy(path, code, shape, data):
    header = f"{{'descr': '{code}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)


class Resume(unittest.TestCase):
    def setUp(self):
        # Rows whose losses differ from batch to batch, float64, so that the sums are exact enough to
        # see a batch that is counted twice or not at all.
        self.daemon = Daemon(limits__drain_timeout="100ms", kernels="reference")
        self.rows = 100_000
        folder = self.daemon.folder.name
        row = struct.Struct("<4d")
        write_npy(os.path.join(folder, "x.npy"), "<f8", (self.rows, 4), b"".join(
            row.pack(i % 7, i % 11, i % 5, 1) for i in range(self.rows)))
        write_npy(os.path.join(folder, "y.npy"), "<i8", (self.rows,), b"".join(
            struct.pack("<q", i % 4) for i in range(self.rows)))
        write_npy(os.path.join(folder, "w.npy"), "<f8", (4,), row.pack(1, 2, 0.5, 3))

    def arguments(self):
        folder = self.daemon.folder.name
        return ["eval", "cross_entropy", "--input", os.path.join(folder, "x.npy"), "--target",
                os.path.join(folder, "y.npy"), "--weight", os.path.join(folder, "w.npy"), "--json",
                "--batch-size", "3"]

    def until_rows(self, daemon, rows):
        """Waits until the daemon has evaluated so many rows."""
        deadline = time.time() + 20
        with daemon.connect() as connection:
            while parse(connection.call(DAEMON_STATUS)[0]).get(10, [0])[0] < rows:
                self.assertLess(time.time(), deadline)

    def test_a_stream_goes_on_with_the_next_daemon_and_counts_each_batch_once(self):
        with self.daemon as daemon:
            whole = lossctl(*self.arguments(), server=daemon.unix)
            self.assertEqual(whole["rows"], self.rows)
            result = {}
            thread = threading.Thread(
                target=lambda: result.update(lossctl(*self.arguments(), server=daemon.unix)))
            thread.start()
            begin, last = self.rows, daemon
            for _ in range(2):
                self.until_rows(last, begin + 5000)
                self.assertTrue(thread.is_alive(), "the stream was over before the restart")
                last.process.send_signal(signal.SIGTERM)
                # The next one may start as soon as the old one has stopped listening.
                while os.path.exists(daemon.path):
                    time.sleep(0.01)
                begin, old = 0, last
                last = Daemon(path=daemon.path, limits__drain_timeout="100ms", kernels="reference")
                self.addCleanup(last.__exit__)
                self.assertEqual(old.process.wait(20), 0)
            thread.join(60)
            self.assertEqual(result.get("rows"), self.rows)
            self.assertEqual(result["batches"], whole["batches"])
            for group in ("values", "state"):
                for name, value in whole[group].items():
                    self.assertAlmostEqual(result[group][name] / value, 1, delta=1e-12)

    def test_ctrl_c_cancels_a_stream_cleanly(self):
        with self.daemon as daemon:
            process = subprocess.Popen(
                [program("lossctl"), "--server", daemon.unix, *self.arguments()],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.until_rows(daemon, 3000)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
            self.assertEqual(process.returncode, 130, errors)
            self.assertIn("interrupted", errors)
            deadline = time.time() + 5
            while daemon.status().get(6, [0])[0] > 1 or daemon.status().get(7, [0])[0]:
                self.assertLess(time.time(), deadline)
                time.sleep(0.05)


if __name__ == "__main__":
    unittest.main()
