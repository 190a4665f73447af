"""SIGTERM: calls under way end, new ones never begin, streams end between two batches."""

import signal
import time
import unittest

from daemon import Daemon
from test_streams import Stream
from wire import (
    CANCEL, GOAWAY, HELLO, MESSAGE, PREFACE, STATUS, STREAM, CallError, Response, Tensor, frame, hello, parse)


class Drain(unittest.TestCase):
    def test_calls_in_flight_finish_and_new_ones_never_begin(self):
        # The reference takes long enough to be under way when the signal comes.
        with Daemon(kernels="reference") as daemon, daemon.connect() as connection:
            big = Tensor(bytes(4 * 16_000_000), shape=[160, 100_000])
            running = connection.start("softmax", {"input": big})
            idle = connection.open(STREAM)
            while daemon.status()[6][0] < 3:  # both calls and the status itself
                pass
            daemon.process.send_signal(signal.SIGTERM)
            while True:
                kind, stream, _, message, _ = connection.receive()
                self.assertNotEqual(stream, running, "it was over before the signal")
                if kind == GOAWAY:
                    break
            fields = parse(message)
            self.assertEqual(fields[1][0], idle)
            self.assertEqual(parse(fields[2][0]).get(1, [0])[0], 0)
            late = connection.start("sigmoid", {"input": Tensor([0.0])})
            self.assertGreater(late, idle)
            message, payload = connection.finish(running)
            self.assertEqual(len(payload), len(big.data))
            connection.send(frame(CANCEL, idle))
            with self.assertRaises(CallError):
                connection.finish(idle)
            with self.assertRaises(EOFError):
                while True:
                    self.assertNotEqual(connection.receive()[1], late)
            self.assertEqual(daemon.process.wait(10), 0)

    def test_a_stream_that_outlives_the_drain_ends_at_a_batch_boundary(self):
        with Daemon(limits__drain_timeout="1s") as daemon, daemon.connect() as connection:
            stream = Stream(connection)
            batch = {"input": Tensor([0.0, 1.0], shape=[1, 2]), "target": Tensor([0], "int64")}
            stream.send("cross_entropy", batch, id=1)
            stream.send(inputs=batch, id=2)
            stream.receive()
            stream.receive()
            daemon.process.send_signal(signal.SIGTERM)
            while connection.receive()[0] != GOAWAY:
                pass
            stream.send(inputs=batch, id=3)
            stream.receive()
            kind, _, flags, message, payload = connection.receive_of(stream.id)
            self.assertEqual((kind, flags), (MESSAGE, 0))
            summary = Response(message, payload).summary
            self.assertEqual(summary["batches"], 3)
            kind, _, _, message, _ = connection.receive_of(stream.id)
            self.assertEqual((kind, CallError(message).code), (STATUS, 14))
            self.assertEqual(daemon.process.wait(10), 0)

    def test_a_client_that_connects_just_before_the_drain_is_told_that_nothing_began(self):
        with Daemon() as daemon, daemon.connect(greet=False) as connection:
            while daemon.status()[4][0] < 2:  # it and the status's own
                pass
            daemon.process.send_signal(signal.SIGTERM)
            while "shutting down" not in daemon.log():
                time.sleep(0.01)
            connection.send(PREFACE + hello())
            connection.start("sigmoid", {"input": Tensor([0.0])})
            self.assertEqual(connection.receive()[0], HELLO)
            kind, _, _, message, _ = connection.receive()
            self.assertEqual((kind, parse(message).get(1, [0])[0]), (GOAWAY, 0))
            with self.assertRaises(EOFError):
                connection.receive()
            self.assertEqual(daemon.process.wait(10), 0)

    def test_a_connection_that_says_nothing_does_not_hold_the_drain_up(self):
        with Daemon() as daemon, daemon.connect(greet=False):
            while daemon.status()[4][0] < 2:
                pass
            begin = time.monotonic()
            daemon.process.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.process.wait(10), 0)
            self.assertLess(time.monotonic() - begin, 3)


if __name__ == "__main__":
    unittest.main()
