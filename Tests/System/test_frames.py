"""Frames that break the rules: each is answered with GOAWAY or a close, and the daemon goes on."""

import os
import random
import struct
import time
import unittest

from daemon import Daemon
from wire import (
    ACK, CANCEL, CREDIT, END_STREAM, EVALUATE, GOAWAY, HELLO, MESSAGE, OPEN, PING, PREFACE, STATUS,
    STREAM, CallError, Connection, Tensor, block, frame, hello, number, open_call, parse, request)


def sigmoid_call(stream=1):
    return open_call(stream, EVALUATE) + frame(
        MESSAGE, stream, *request("sigmoid", {"input": Tensor([2, -1, 0.5])}), END_STREAM)


class Frames(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()

    @classmethod
    def tearDownClass(cls):
        assert cls.daemon.stop() == 0
        cls.daemon.__exit__()

    def tearDown(self):
        with self.daemon.connect() as connection:
            connection.ping()

    def test_nothing_is_said_before_the_preface(self):
        connection = Connection(self.daemon.unix, greet=False, timeout=0.2)
        with self.assertRaises(TimeoutError):
            connection.read(1)
        connection.send(PREFACE[:4])
        with self.assertRaises(TimeoutError):
            connection.read(1)
        connection.send(PREFACE[4:])
        # Now the server greets, though no HELLO has come.
        self.assertEqual(connection.receive()[0], HELLO)
        connection.close()

    def test_another_protocol_is_closed_without_a_word(self):
        for first in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/1.1\r\n\r\n", b"LOSSD/2\n"):
            connection = Connection(self.daemon.unix, greet=False)
            connection.send(first)
            with self.assertRaises((EOFError, ConnectionResetError)):
                connection.read(1)
            connection.close()

    def test_every_bad_frame_is_answered_with_goaway(self):
        start = PREFACE + hello()
        call = open_call(1, STREAM)
        bad = {
            "type 0": frame(0), "type 9": frame(9), "type 255": frame(255),
            "unknown flag": frame(PING, 0, b"", flags=4),
            "END_STREAM on OPEN": frame(OPEN, 1, block(1, EVALUATE), flags=END_STREAM),
            "ACK on MESSAGE": call + frame(MESSAGE, 1, flags=ACK),
            "reserved": frame(PING, reserved=1), "STATUS from a client": frame(STATUS, 1),
            "HELLO twice": hello(), "HELLO on a stream": frame(HELLO, 1),
            "PING on a stream": frame(PING, 1), "GOAWAY on a stream": frame(GOAWAY, 1),
            "OPEN on stream 0": frame(OPEN, 0, block(1, EVALUATE)),
            "MESSAGE on stream 0": frame(MESSAGE, 0), "CANCEL on stream 0": frame(CANCEL, 0),
            "CREDIT on stream 0": frame(CREDIT, 0, number(1, 1)),
            "CREDIT for 0": call + frame(CREDIT, 1, number(1, 0)),
            "CREDIT that does not decode": call + frame(CREDIT, 1, b"\xff"),
            "CANCEL with a message": call + frame(CANCEL, 1, b"x"),
            "payload on OPEN": frame(OPEN, 1, block(1, EVALUATE), b"x"),
            "payload on PING": frame(PING, 0, b"", b"x"), "long PING": frame(PING, 0, bytes(65)),
            "MESSAGE never opened": frame(MESSAGE, 1), "CANCEL never opened": frame(CANCEL, 3),
            "OPEN below": open_call(5, STREAM) + open_call(3, STREAM),
            "OPEN again": call + call, "GOAWAY that does not decode": frame(GOAWAY, 0, b"\xff\xff"),
        }
        for name, data in bad.items():
            with self.subTest(name):
                connection = Connection(self.daemon.unix, greet=False)
                connection.send(start + data)
                self.assertEqual(connection.receive()[0], HELLO)
                while True:
                    kind, _, _, message, _ = connection.receive()
                    if kind == GOAWAY:
                        break
                status = parse(parse(message)[2][0])
                self.assertNotEqual(status[1][0], 0)
                self.assertTrue(status[2][0])
                with self.assertRaises(EOFError):
                    connection.read(1)
                connection.close()

    def test_the_first_frame_must_be_hello(self):
        for data in (frame(PING), open_call(1, EVALUATE)):
            connection = Connection(self.daemon.unix, greet=False)
            connection.send(PREFACE + data)
            kinds = []
            try:
                while True:
                    kinds.append(connection.receive()[0])
            except EOFError:
                pass
            self.assertEqual(kinds, [HELLO, GOAWAY])
            connection.close()

    def test_a_hello_that_does_not_decode(self):
        connection = Connection(self.daemon.unix, greet=False)
        connection.send(PREFACE + frame(HELLO, 0, b"\xff\xff\xff"))
        self.assertEqual(connection.receive()[0], HELLO)
        self.assertEqual(connection.receive()[0], GOAWAY)
        connection.close()

    def test_a_call_cut_at_every_byte(self):
        data = PREFACE + hello() + sigmoid_call()
        with self.daemon.connect() as whole:
            expected = whole.evaluate("sigmoid", {"input": Tensor([2, -1, 0.5])})["output"].values()
        for cut in range(len(data)):
            connection = Connection(self.daemon.unix, greet=False)
            connection.send(data[:cut])
            if cut % 3 == 0:
                connection.send(data[cut:])
                message, payload = connection.finish(1)
                self.assertEqual(Tensor(payload).values(), expected)
            connection.close()

    def test_a_call_byte_by_byte(self):
        connection = Connection(self.daemon.unix, greet=False)
        for byte in PREFACE + hello() + sigmoid_call():
            connection.send(bytes([byte]))
        self.assertEqual(len(connection.finish(1)[1]), 12)
        connection.close()

    def test_a_descriptor_is_a_bad_frame_and_closed(self):
        with Daemon(passes_descriptors=True) as daemon:
            before = daemon.descriptors()
            connection = daemon.connect()
            self.assertEqual(connection.receive()[0], HELLO)
            with open("/dev/null") as file:
                connection.send_with_descriptors(frame(PING, 0, b"x"), [file.fileno()])
            self.assertEqual(connection.receive()[0], GOAWAY)
            connection.close()
            with daemon.connect() as other:
                other.ping()
            # Both are closed on a thread of their own.
            deadline = time.time() + 5
            while daemon.descriptors() > before + 1 and time.time() < deadline:
                time.sleep(0.02)
            self.assertLessEqual(daemon.descriptors(), before + 1)

    def test_a_storm_of_malformed_frames(self):
        seed = int(os.environ.get("LOSSD_SEED", random.SystemRandom().randrange(2**32)))
        print(f"storm seed {seed}")
        rounds = int(os.environ.get("LOSSD_STORM", 3000))
        source = random.Random(seed)
        good = PREFACE + hello() + open_call(1, STREAM, credit=4) + frame(
            MESSAGE, 1, *request("cross_entropy", {
                "input": Tensor([1, 2, 3, 4], shape=[2, 2]), "target": Tensor([0, 1], "int64")},
                {"reduction": "sum"})) + frame(CREDIT, 1, number(1, 3)) + sigmoid_call(3) + frame(
            PING, 0, b"x") + frame(MESSAGE, 1, flags=END_STREAM)
        resident = self.daemon.resident_bytes()
        for _ in range(rounds):
            data = bytearray(good)
            for _ in range(source.randrange(1, 8)):
                choice = source.randrange(5)
                # Most of them behind the preface, so that the frames are reached.
                at = source.randrange(8 if source.random() < 0.95 else 0, len(data))
                if choice == 0:
                    data[at] = source.randrange(256)
                elif choice == 1:
                    del data[at:at + source.randrange(1, 20)]
                elif choice == 2:
                    data[at:at] = source.randbytes(source.randrange(1, 20))
                elif choice == 3:
                    data[at:at + 4] = struct.pack("<I", source.choice(
                        [0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20, 1 << 30]))
                else:
                    data = data[:at + 1]
                if len(data) < 10:
                    break
            try:
                connection = Connection(self.daemon.unix, greet=False, timeout=5)
            except BlockingIOError:
                # The queue of those who wait to be accepted is full: this side is the faster one.
                time.sleep(0.05)
                continue
            try:
                connection.send(bytes(data))
            except (BrokenPipeError, ConnectionResetError):
                pass
            connection.close()
        with self.daemon.connect() as connection:
            connection.ping()
        self.assertIsNone(self.daemon.process.poll())
        self.assertLess(self.daemon.resident_bytes() - resident, 64 << 20)


if __name__ == "__main__":
    unittest.main()
