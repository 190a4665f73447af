"""lossctl beside a server or a file that is no good."""

import contextlib
import json
import pathlib
import socket
import tempfile
import threading
import time
import unittest

from daemon import lossctl
from wire import HELLO, block, frame, number


class Server:
    """Accepts connections and gives each to `answer`, in a thread of its own."""

    def __init__(self, answer):
        self.folder = tempfile.TemporaryDirectory(prefix="lossd-fake-")
        self.path = f"{self.folder.name}/s"
        self.answer = answer
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.clients = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.clients.append(client)
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with contextlib.suppress(OSError):
            self.answer(client)

    def close(self):
        for item in (self.listener, *self.clients):
            item.close()
        self.folder.cleanup()


class Servers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = f"{folder.name}/x.npy"
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
        header = header.ljust(53) + b"\n"
        pathlib.Path(self.file).write_bytes(
            b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8))

    def run_against(self, answer, *arguments):
        server = Server(answer)
        self.addCleanup(server.close)
        begin = time.monotonic()
        result = lossctl(*arguments, server=f"unix:{server.path}", check=False)
        self.assertNotEqual(result.returncode, 0)
        return result.stderr, time.monotonic() - begin

    def test_a_timeout_is_kept_where_the_server_is_silent(self):
        error, seconds = self.run_against(
            lambda client: time.sleep(50), "eval", "sigmoid", "--input", self.file, "--timeout", "0.5")
        self.assertIn("said nothing for 5.0 s after the timeout", error)
        self.assertLess(seconds, 15)

    def test_a_server_that_takes_no_calls_is_refused(self):
        def answer(client):
            client.sendall(frame(HELLO, 0, block(1, b"x") + number(2, 1 << 20) + number(3, 1 << 20)))
            time.sleep(50)

        error, seconds = self.run_against(answer, "eval", "sigmoid", "--input", self.file)
        self.assertIn("max_streams 0", error)
        self.assertLess(seconds, 15)

    def test_a_tensor_whose_name_is_endless_is_refused_at_once(self):
        """Marks that combine take the square of their number to be compared as text."""
        name = "a" + "\u0301\u0327" * 60_000
        for text, reason in ((name, "a name of"), ("a" + "\u0301\u0327" * 500, None)):
            header = json.dumps(
                {text: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, ensure_ascii=False).encode()
            file = pathlib.Path(self.file).with_name("x.safetensors")
            file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
            begin = time.monotonic()
            result = lossctl("eval", "sigmoid", "--embedded", "--input", file, check=False)
            self.assertLess(time.monotonic() - begin, 10)
            if reason:
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(reason, result.stderr)
                self.assertIn("the most are 4096", result.stderr)
            else:
                self.assertEqual(result.returncode, 0, result.stderr)


if __name__ == "__main__":
    unittest.main()
