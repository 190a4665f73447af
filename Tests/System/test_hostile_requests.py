"""Small requests that ask for much: what a tensor without elements, or one that broadcasts, costs the daemon and others."""

import time
import unittest

from daemon import Daemon, measured
from wire import CANCEL, EVALUATE, MESSAGE, STATUS, STREAM, CallError, Tensor, frame, parse, request

EXHAUSTED, INVALID = 8, 3


def empty(shape, data_type="float32"):
    return Tensor(b"", data_type, shape)


def gaps(message, payload):
    """The payload's bytes that belong to no output."""
    covered = bytearray(len(payload))
    for item in parse(message).get(2, []):
        place = parse(parse(item).get(5, [b""])[0])
        offset, length = place.get(1, [0])[0], place.get(2, [0])[0]
        covered[offset:offset + length] = b"\x01" * length
    return bytes(byte for byte, mine in zip(payload, covered) if not mine)


class HostileRequests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()

    @classmethod
    def tearDownClass(cls):
        assert cls.daemon.stop() == 0
        cls.daemon.__exit__()

    def setUp(self):
        self.connection = self.daemon.connect()

    def tearDown(self):
        self.connection.close()

    def test_no_gap_between_results_shows_what_was_there_before(self):
        pattern = b"POSITIVE; PATIENT-0042 "
        seen = 0
        with self.daemon.connect() as other:
            for elements in (1, 3, 17, 1025, 5003, 70_001):
                for count in (1, 3):
                    text = (pattern * (elements * 4 * count // len(pattern) + 1))[:elements * 4]
                    for _ in range(3):
                        other.evaluate("sigmoid", {"input": Tensor(text)}, outputs=("output", "grad.input"))
                values = Tensor([0.5] * elements)
                for function, inputs, attributes, outputs in (
                        ("nll_loss", {"input": Tensor([0.5] * elements, shape=[1, elements]),
                                      "target": Tensor([0], "int64")}, {}, ("loss", "grad.input")),
                        ("binary_cross_entropy_with_logits", {"input": values, "target": values},
                         {"reduction": "none"}, ("loss", "grad.input", "grad.target")),
                        ("binary_cross_entropy", {"input": values, "target": values}, {},
                         ("grad.target", "loss", "grad.input")),
                        ("sigmoid", {"input": values}, {}, ("output", "grad.input"))):
                    for _ in range(4):
                        message, payload = self.connection.call(
                            EVALUATE, *request(function, inputs, attributes, outputs))
                        between = gaps(message, payload)
                        seen += len(between)
                        self.assertEqual(between, bytes(len(between)), (function, elements))
        self.assertGreater(seen, 1000)

    def test_rows_of_nothing_never_overflow_a_count(self):
        for _ in range(8):
            self.connection.evaluate("sigmoid", {"input": empty([(1 << 62) - 1, 0], "float16")})
            stream = self.connection.open(STREAM, credit=8)
            self.connection.send(frame(MESSAGE, stream, *request(
                "sigmoid", {"input": empty([(1 << 62) - 1, 0], "float16")}), 1))
            while self.connection.receive_of(stream)[2] != 1:
                pass
        self.assertTrue(self.daemon.status())

    def test_a_tensor_without_elements_costs_nothing_whatever_its_shape(self):
        for shape in ([0, 1 << 60], [0, 1 << 58, 2], [0, 1 << 40], [0, 1 << 33], [10 ** 14, 0], [1 << 60, 0]):
            for function in ("cross_entropy", "multilabel_soft_margin_loss", "binary_cross_entropy"):
                start = time.monotonic()
                response = self.connection.evaluate(
                    function, {"input": empty(shape), "target": empty(shape)}, outputs=("loss", "grad.input"))
                loss = response["loss"].values()[0]
                self.assertNotEqual(loss, loss, (function, shape))
                self.assertLess(time.monotonic() - start, 1, (function, shape))

    def test_a_result_that_has_no_size_is_the_requests_fault(self):
        with self.assertRaises(CallError) as caught:
            self.connection.evaluate("sigmoid", {"input": empty([(1 << 63) - 1, 0], "uint8")})
        self.assertEqual(caught.exception.code, INVALID)

    def test_a_call_that_costs_too_much_is_refused_with_cost_limit_and_setting(self):
        size = 40_000
        with self.assertRaises(CallError) as caught:
            self.connection.evaluate("multilabel_soft_margin_loss", {
                "input": Tensor(bytes(4 * size), shape=[size, 1, 1]),
                "target": Tensor(bytes(4 * size), shape=[1, size, 1]),
                "weight": Tensor(bytes(4 * size), shape=[1, 1, size])})
        self.assertEqual(caught.exception.code, EXHAUSTED)
        self.assertIn("limits.call_cost", caught.exception.text)
        self.assertIn("3600000000000 ns", caught.exception.text)

    @staticmethod
    def long_call(connection, **options):
        """Some hundred seconds of one core."""
        size = 1_200
        return connection.start("multilabel_soft_margin_loss", {
            "input": Tensor(bytes(4 * size), shape=[size, 1, 1]),
            "target": Tensor(bytes(4 * size), shape=[1, size, 1]),
            "weight": Tensor(bytes(4 * size), shape=[1, 1, size])}, outputs=("loss", "grad.input"), **options)

    def test_a_long_call_ends_soon_after_its_cancel_and_its_deadline(self):
        def cancelled():
            stream = self.long_call(self.connection)
            time.sleep(0.3)
            start = time.monotonic()
            self.connection.send(frame(CANCEL, stream))
            kind = self.connection.receive_of(stream)[0]
            self.assertEqual(kind, STATUS)
            return time.monotonic() - start

        def late():
            start = time.monotonic()
            with self.assertRaises(CallError) as caught:
                self.connection.finish(self.long_call(self.connection, timeout_us=300_000))
            self.assertEqual(caught.exception.code, 4)
            return time.monotonic() - start

        self.assertLess(measured(cancelled, lambda seconds: seconds < 0.5), 0.5)
        self.assertLess(measured(late, lambda seconds: seconds < 0.9), 0.9)

    def test_a_drain_ends_a_long_call(self):
        with Daemon(limits__drain_timeout="1s") as daemon, daemon.connect() as connection:
            self.long_call(connection)
            time.sleep(0.3)
            start = time.monotonic()
            daemon.stop()
            self.assertLess(time.monotonic() - start, 4)


if __name__ == "__main__":
    unittest.main()
