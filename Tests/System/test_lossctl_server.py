"""lossctl beside a server or a file that is no good."""

import contextlib
import json
import pathlib
import socket
import struct
import sys
import tempfile
import threading
import time
import unittest

from daemon import ROOT, Daemon, lossctl
from wire import CREDIT, END_STREAM, FUNCTIONS, HELLO, MESSAGE, OPEN, PING, block, frame, number

sys.path.insert(0, str(ROOT / "clients"))

from fakes import HI, SHM_HI, Fake, answer, echoed, goaway, listed_rows, status, tensor  # noqa: E402


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
        with contextlib.suppress(OSError, EOFError):
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
        self.write(self.file, "(2,)", 8)

    def write(self, path, shape, size):
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
        header = header.ljust(117) + b"\n"
        pathlib.Path(path).write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(size))

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

    def test_a_timeout_is_kept_where_the_server_falls_silent_in_the_middle(self):
        """In a stream, in a call a batch, in giving memory, while it goes: whatever else it says, and whether it reads."""
        big = pathlib.Path(self.file).with_name("big.npy")
        self.write(big, "(64, 32768)", 64 * 32768 * 4)
        silent = lambda fake: time.sleep(50)  # noqa: E731

        def chatters(fake):
            while True:
                fake.send(frame(PING, 0, b"12345678") + frame(CREDIT, 5, number(1, 1)))
                time.sleep(0.2)

        def reads(fake):
            while fake.frame():
                pass

        def goes(fake):
            # Says how far it came, and that it goes; the next connection is not answered.
            fake.send(frame(MESSAGE, 2, block(3, number(1, 1) + number(2, 1))) + status(14, stream=2) + goaway(2))
            reads(fake)

        def answering(batches, then, hi=HI):
            """Answers so many batches, or the others too and not the end."""
            def answer(client):
                fake = Fake(client)
                server.connections += 1
                if server.connections > 1:
                    return time.sleep(50)
                fake.send(hi)
                methods, left = {}, batches
                while True:
                    kind, stream, flags, message, payload = fake.frame()
                    if kind == OPEN:
                        methods[stream] = message
                    if kind == MESSAGE and b"ListFunctions" in methods[stream]:
                        fake.send(listed_rows("f", stream))
                    elif payload:
                        fake.send(echoed(payload, 32768, stream) + frame(CREDIT, stream, number(1, 1)))
                        left -= 1
                        if flags & END_STREAM and left:
                            fake.send(frame(MESSAGE, stream, block(3, number(1, 1) + number(2, 1)), b"", END_STREAM))
                    if left == 0 or kind == 9:
                        then(fake)

            server = Server(answer)
            server.connections = 0
            self.addCleanup(server.close)
            return server

        batch, retry = ("--batch-size", 1), ("--retry", 60)
        cases = [
            ("silent", answering(1, silent), batch), ("reads", answering(1, reads), batch),
            ("chatters", answering(1, chatters), batch), ("no Summary", answering(64, reads), batch),
            ("goes", answering(1, goes), batch), ("a call a batch", answering(2, reads), (*batch, *retry)),
            ("a call a batch, not read", answering(3, silent), ("--batch-size", 8, *retry)),
            ("a region", answering(-1, silent, SHM_HI), ("--batch-size", 8)),
            ("a region for a call", answering(-1, silent, SHM_HI), ()),
        ]
        results = {}

        def run(name, server, arguments):
            begin = time.monotonic()
            result = lossctl("eval", "f", "--input", big, "--timeout", 1, *arguments, server=f"unix:{server.path}",
                             check=False)
            results[name] = (result, time.monotonic() - begin)

        threads = [threading.Thread(target=run, args=case) for case in cases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        self.assertEqual(len(results), len(cases))
        for name, (result, seconds) in results.items():
            with self.subTest(name):
                self.assertEqual(result.returncode, 1, result.stderr)
                self.assertIn("said nothing for 5.0 s after the timeout", result.stderr)
                self.assertTrue(5.5 < seconds < 20, seconds)

    def test_a_server_that_takes_no_calls_is_refused(self):
        def answer(client):
            client.sendall(frame(HELLO, 0, block(1, b"x") + number(2, 1 << 20) + number(3, 1 << 20)))
            time.sleep(50)

        error, seconds = self.run_against(answer, "eval", "sigmoid", "--input", self.file)
        self.assertIn("max_streams 0", error)
        self.assertLess(seconds, 15)

    def test_a_server_that_sends_pings_and_reads_no_answers_is_left(self):
        def answer_with_pings(client):
            client.sendall(HI)
            while True:
                client.sendall(frame(PING, 0, bytes(64)) * 1000)

        error, seconds = self.run_against(answer_with_pings, "eval", "sigmoid", "--input", self.file)
        self.assertIn("sends PINGs and does not read the answers: 1024 wait", error)
        self.assertLess(seconds, 15)

    def run_batches(self, answers):
        """lossctl with two batches of one row, which are answered with `answers` of the stream's number."""
        with Daemon() as daemon, daemon.connect() as connection:
            listed, _ = connection.call(FUNCTIONS, block(1, "sigmoid"))

        def serve(client):
            fake = Fake(client)
            fake.send(HI)
            for _ in range(2):
                fake.send(answer(listed, b"", stream=fake.request()[1]))
            stream = fake.request(count=2)[1]
            with contextlib.suppress(OSError):
                for data in answers(stream):
                    fake.send(data)
            fake.until_closed()

        return self.run_against(serve, "eval", "sigmoid", "--input", self.file, "--batch-size", "1")

    def test_responses_that_nobody_asked_for_end_the_connection(self):
        row = struct.pack("<f", 0.5)

        def answers(stream):
            while True:
                yield answer(tensor(shape=(1,), length=4), row, stream, flags=0)

        error, seconds = self.run_batches(answers)
        self.assertIn("the server broke the protocol: a response on stream 3 to no request", error)
        self.assertLess(seconds, 15)

    def test_a_bad_answer_to_a_batch_ends_lossctl_with_what_is_wrong(self):
        row = struct.pack("<f", 0.5)
        for message, text in (
                (b"\x12\xff", "does not decode"),
                (tensor(shape=(1,), length=8), "output"),
                (tensor(shape=(1 << 61, 4), length=4), "output"),
                (tensor(data_type=77, shape=(1,), length=4), "output")):
            with self.subTest(message=message):
                error, seconds = self.run_batches(
                    lambda stream: [answer(message, row, stream, flags=0)])  # noqa: B023
                self.assertIn(text, error)
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
