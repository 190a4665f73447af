"""EvaluateStream on a real daemon: order, credits, the Summary, deadlines, cancellation, drain."""

import math
import random
import time
import unittest

from daemon import Daemon
from wire import (
    CANCEL, CREDIT, END_STREAM, EVALUATE, HELLO, MESSAGE, STATUS, STREAM, CallError, Response,
    Tensor, frame, number, parse, request)

HALF_CLOSE = (b"", b"", END_STREAM)


class Stream:
    """One EvaluateStream call."""

    def __init__(self, connection, **options):
        self.connection = connection
        self.id = connection.open(STREAM, **options)

    def send(self, function="", inputs=None, attributes=None, outputs=(), id=0, parts=()):
        self.connection.send(frame(
            MESSAGE, self.id, *request(function, inputs, attributes, outputs, id, parts)))

    def half_close(self):
        self.connection.send(frame(MESSAGE, self.id, *HALF_CLOSE))

    def receive(self):
        """The next response, its END_STREAM set or not; raises CallError for STATUS."""
        kind, _, flags, message, payload = self.connection.receive_of(self.id)
        if kind == STATUS:
            raise CallError(message)
        response = Response(message, payload)
        assert bool(flags & END_STREAM) == (response.summary is not None)
        return response

    def summary(self):
        while True:
            response = self.receive()
            if response.summary:
                return response.summary


def log_softmax(row):
    top = max(row)
    total = math.log(sum(math.exp(x - top) for x in row))
    return [x - top - total for x in row]


def cross_entropy_sums(rows, labels, weight, smoothing, ignored=-100):
    """The float64 sums behind torch's mean."""
    losses, weights = [], []
    for row, label in zip(rows, labels):
        if label == ignored:
            continue
        logs = log_softmax(row)
        losses.append((1 - smoothing) * -weight[label] * logs[label] + smoothing / len(row) * sum(
            -w * x for w, x in zip(weight, logs)))
        weights.append(weight[label])
    return math.fsum(losses), math.fsum(weights)


def float32(values):
    return Tensor(values).values()


class Streams(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()

    @classmethod
    def tearDownClass(cls):
        assert cls.daemon.stop() == 0
        cls.daemon.__exit__()

    def run_batches(self, function, batches, attributes=None, kept=None, outputs=("loss",)):
        """Sends all within credit; returns the responses and the summary."""
        with self.daemon.connect() as connection:
            stream = Stream(connection)
            credit, sent, responses = 8, 0, []
            first = {"function": function, "attributes": attributes, "outputs": outputs}
            if kept:
                stream.send(inputs=kept, **first)
                first, credit = {}, credit - 1
            while sent < len(batches) and credit > 0:
                stream.send(inputs=batches[sent], id=sent + 1, **first)
                first, sent, credit = {}, sent + 1, credit - 1
            if sent == len(batches):
                stream.half_close()
            while True:
                kind, _, flags, message, payload = connection.receive_of(
                    stream.id, skip=(HELLO,))
                if kind == STATUS:
                    raise CallError(message)
                if kind == CREDIT:
                    for _ in range(parse(message)[1][0]):
                        if sent < len(batches):
                            stream.send(inputs=batches[sent], id=sent + 1)
                            sent += 1
                            if sent == len(batches):
                                stream.half_close()
                    continue
                response = Response(message, payload)
                if response.summary:
                    self.assertEqual(flags, END_STREAM)
                    self.assertFalse(response.outputs)
                    return responses, response.summary
                responses.append(response)

    def test_summary_of_unequal_batches_with_an_empty_and_an_ignored_one(self):
        source = random.Random(4)
        classes = 7
        weight = float32([source.uniform(0.1, 2) for _ in range(classes)])
        for smoothing in (0.0, 0.2):
            for reduction in ("mean", "sum"):
                rows, labels, batches = [], [], []
                for size in (5, 0, 1, 33, 12, 200, 3, 1, 1, 64, 9):
                    batch = [float32([source.gauss(0, 5) for _ in range(classes)])
                             for _ in range(size)]
                    # The batch of 12 is all ignored; elsewhere some are.
                    marks = [-100 if size == 12 or source.random() < 0.2
                             else source.randrange(classes) for _ in range(size)]
                    rows += batch
                    labels += marks
                    batches.append({
                        "input": Tensor([x for row in batch for x in row], shape=[size, classes]),
                        "target": Tensor(marks, "int64")})
                responses, summary = self.run_batches(
                    "cross_entropy", batches,
                    {"reduction": reduction, "label_smoothing": smoothing},
                    {"weight": Tensor(weight)}, ("loss", "grad.input"))
                self.assertEqual([response.id for response in responses],
                                 list(range(1, len(batches) + 1)))
                if reduction == "mean":
                    for index in (1, 4):  # the empty batch's and the ignored one's own mean
                        self.assertTrue(math.isnan(responses[index]["loss"].values()[0]))
                total, count = cross_entropy_sums(rows, labels, weight, smoothing)
                truth = total / count if reduction == "mean" else total
                self.assertEqual(summary["batches"], len(batches))
                self.assertEqual(summary["rows"], len(rows))
                self.assertAlmostEqual(summary["values"]["loss"] / truth, 1, delta=1e-7)
                self.assertAlmostEqual(summary["state"]["loss_sum"] / total, 1, delta=1e-7)
                self.assertAlmostEqual(summary["state"]["weight_sum"] / count, 1, delta=1e-7)

    def test_summary_of_every_other_kind_of_denominator(self):
        source = random.Random(5)

        def floats(count, low, high):
            return [source.uniform(low, high) for _ in range(count)]

        sizes = (3, 0, 17, 1, 40)
        cases = {}
        probabilities = [float32(floats(size * 4, 0.01, 0.99)) for size in sizes]
        targets = [float32([source.random() for _ in range(size * 4)]) for size in sizes]
        bce = [-(y * math.log(x) + (1 - y) * math.log1p(-x))
               for xs, ys in zip(probabilities, targets) for x, y in zip(xs, ys)]
        cases["binary_cross_entropy"] = (probabilities, targets, math.fsum(bce), len(bce))
        logits = [float32(floats(size * 4, -8, 8)) for size in sizes]
        pairs = [(x, y) for xs, ys in zip(logits, targets) for x, y in zip(xs, ys)]
        with_logits = [max(x, 0) - x * y + math.log1p(math.exp(-abs(x))) for x, y in pairs]
        cases["binary_cross_entropy_with_logits"] = (
            logits, targets, math.fsum(with_logits), len(with_logits))
        cases["multilabel_soft_margin_loss"] = (
            logits, targets, math.fsum(with_logits) / 4, len(with_logits) / 4)
        entropy = [-y * x for xs, ys in zip(logits, targets)
                   for at in range(0, len(xs), 4)
                   for x, y in zip(log_softmax(xs[at:at + 4]), ys[at:at + 4])]
        cases["cross_entropy"] = (logits, targets, math.fsum(entropy), len(entropy) / 4)
        for function, (inputs, labels, total, count) in cases.items():
            for reduction in ("mean", "sum"):
                with self.subTest(function=function, reduction=reduction):
                    batches = [{"input": Tensor(xs, shape=[size, 4]),
                                "target": Tensor(ys, shape=[size, 4])}
                               for xs, ys, size in zip(inputs, labels, sizes)]
                    _, summary = self.run_batches(function, batches, {"reduction": reduction})
                    truth = total / count if reduction == "mean" else total
                    self.assertAlmostEqual(summary["values"]["loss"] / truth, 1, delta=1e-7)

    def test_nll_loss_and_no_batch_at_all(self):
        batches = [{"input": Tensor([-1.0, -2.0], shape=[1, 2]), "target": Tensor([1], "int64")}]
        _, summary = self.run_batches("nll_loss", batches)
        self.assertEqual(summary["values"]["loss"], 2.0)
        for reduction, check in (("mean", math.isnan), ("sum", lambda x: x == 0)):
            with self.daemon.connect() as connection:
                stream = Stream(connection)
                stream.send("nll_loss", {}, {"reduction": reduction})
                stream.half_close()
                summary = stream.summary()
                self.assertEqual((summary["batches"], summary["rows"]), (0, 0))
                self.assertTrue(check(summary["values"]["loss"]))

    def test_reduction_none_and_activations_have_no_loss_in_their_summary(self):
        batch = {"input": Tensor([1, 2], shape=[1, 2]), "target": Tensor([1], "int64")}
        responses, summary = self.run_batches("cross_entropy", [batch], {"reduction": "none"})
        self.assertEqual(responses[0]["loss"].shape, [1])
        self.assertNotIn("loss", summary["values"])
        _, summary = self.run_batches("sigmoid", [{"input": Tensor([0.0])}], None, None, ())
        self.assertEqual((summary["values"], summary["rows"]), ({}, 1))

    def fails(self, code, text, *requests, batch=None):
        with self.daemon.connect() as connection:
            stream = Stream(connection)
            for item in requests:
                stream.send(**item)
            stream.half_close()
            answered = 0
            with self.assertRaises(CallError) as caught:
                while True:
                    stream.receive()
                    answered += 1
            error = caught.exception
            self.assertEqual(error.code, code, error.text)
            self.assertIn(text, error.text)
            if batch is not None:
                self.assertEqual(error.metadata["lossd-batch-id"], str(batch).encode())
                self.assertIn(f"batch {batch}", error.text)
            connection.ping()
            return answered

    def test_bad_streams_and_bad_batches(self):
        good = {"input": Tensor([1.0, 2.0], shape=[1, 2]), "target": Tensor([1], "int64")}
        bad = {"input": Tensor([1.0, 2.0], shape=[1, 2]), "target": Tensor([2], "int64")}
        name = "cross_entropy"
        self.fails(3, "before a request named a function")
        self.fails(3, "names no function", {"inputs": good, "id": 5}, batch=5)
        self.fails(3, "attributes or outputs", {"function": name, "inputs": good, "id": 1},
                   {"inputs": good, "attributes": {"reduction": "sum"}, "id": 2}, batch=2)
        self.fails(3, "attributes or outputs", {"function": name, "inputs": good, "id": 1},
                   {"inputs": good, "outputs": ["loss"], "id": 2}, batch=2)
        self.fails(3, "names the function", {"function": name, "inputs": good, "id": 1},
                   {"function": "nll_loss", "inputs": good, "id": 2}, batch=2)
        # The batches before the bad one are answered first.
        answered = self.fails(
            3, "target[0] is 2, outside [0, 2)", {"function": name, "inputs": good, "id": 11},
            {"inputs": good, "id": 12}, {"inputs": bad, "id": 13}, {"inputs": good, "id": 14},
            batch=13)
        self.assertEqual(answered, 2)

    def test_kept_inputs_stay_until_replaced_and_others_do_not(self):
        with self.daemon.connect() as connection:
            stream = Stream(connection)
            rows = {"input": Tensor([0.0, 0.0], shape=[1, 2]), "target": Tensor([0], "int64")}
            stream.send("cross_entropy", {"weight": Tensor([3.0, 1.0]), **rows},
                        {"reduction": "sum"}, id=1)
            stream.send(inputs=rows, id=2)
            stream.send(inputs={"weight": Tensor([5.0, 1.0])})
            stream.send(inputs=rows, id=3)
            losses = [stream.receive()["loss"].values()[0] / math.log(2) for _ in range(3)]
            for ours, truth in zip(losses, (3, 3, 5)):
                self.assertAlmostEqual(ours, truth, 5)
            stream.send(inputs={"input": rows["input"]}, id=4)
            with self.assertRaises(CallError) as caught:
                stream.receive()
            self.assertIn("`target` is missing", caught.exception.text)

    def test_a_thousand_batches_against_inputs_that_stay(self):
        """Results are written over inputs where those are a batch's own: what stays is as it was."""
        count, classes = 1000, 2500
        weight = Tensor([0.5 + index % 7 for index in range(classes)])
        logits = Tensor([math.sin(index) for index in range(2 * classes)], shape=[2, classes])
        rows = {"input": logits, "target": Tensor([1, 2], "int64")}
        with self.daemon.connect() as connection:
            for function, attributes, kept, own, outputs in (
                    ("cross_entropy", {}, {"weight": weight}, rows, ["loss", "grad.input"]),
                    ("binary_cross_entropy_with_logits", {}, {"weight": weight, "pos_weight": weight},
                     {"input": logits, "target": Tensor([0.25] * 2 * classes, shape=[2, classes])},
                     ["loss", "grad.input"]),
                    ("softmax", {"dim": 1}, {}, {"input": logits}, ["output"])):
                alone = connection.evaluate(function, {**kept, **own}, attributes, outputs)
                stream = Stream(connection)
                stream.send(function, {**kept, **own}, attributes, outputs, id=1)
                for index in range(count):
                    response = stream.receive()
                    for name in outputs:
                        self.assertEqual(response[name].data, alone[name].data, (function, index, name))
                    if index + 1 < count:
                        stream.send(inputs=own, id=index + 2)
                stream.half_close()
                stream.summary()

    def test_a_stream_goes_on_from_what_parts_came_to(self):
        """Merged by the daemon, with batches after them or without, in one request or in several."""
        generator = random.Random(11)
        batches = [{"input": Tensor([generator.gauss(0, 3) for _ in range(4 * rows)], shape=[rows, 4]),
                    "target": Tensor([generator.randrange(4) for _ in range(rows)], "int64")}
                   for rows in (1, 7, 30, 2, 2)]
        weight = {"weight": Tensor([0.5, 1, 2, 0.25])}
        for attributes in ({}, {"reduction": "sum"}, {"reduction": "none"}):
            _, whole = self.run_batches("cross_entropy", batches, attributes, weight)
            parts = [self.run_batches("cross_entropy", [batch], attributes, weight)[1] for batch in batches[:3]]
            nothing = {"batches": 0, "rows": 0, "state": {}}
            for given, rest in ((parts, batches[3:]), ([nothing, *parts], batches[3:]),
                                ([self.merged("cross_entropy", parts[:2], attributes), parts[2]], batches[3:])):
                with self.daemon.connect() as connection:
                    stream = Stream(connection)
                    stream.send("cross_entropy", weight, attributes, parts=given)
                    for batch in rest:
                        stream.send("", batch)
                    stream.half_close()
                    total = stream.summary()
                self.assertEqual((total["batches"], total["rows"]), (5, 42))
                self.assertEqual(total["state"].keys(), whole["state"].keys())
                self.assertEqual(total["values"].keys(), whole["values"].keys())
                for kind in ("state", "values"):
                    for name, value in whole[kind].items():
                        self.assertAlmostEqual(total[kind][name] / value, 1, delta=1e-15)
        # One part alone is said again as it is.
        self.assertEqual(self.merged("cross_entropy", parts[:1], attributes), parts[0])
        # An activation has counts.
        self.assertEqual(self.merged("sigmoid", [{"batches": 2, "rows": 2**64 - 1, "state": {}}] * 2),
                         {"batches": 4, "rows": 2**64 - 1, "values": {}, "state": {}})

    def merged(self, function, parts, attributes=None):
        with self.daemon.connect() as connection:
            stream = Stream(connection)
            stream.send(function, {}, attributes, parts=parts)
            stream.half_close()
            return stream.summary()

    def test_what_no_stream_can_go_on_from(self):
        good = {"batches": 1, "rows": 1, "state": {"loss_sum": 1.0, "weight_sum": math.nan}}
        self.assertTrue(math.isnan(self.merged("mse_loss", [good] * 256)["values"]["loss"]))
        for parts, text in (
                ([good] * 257, "goes on from up to 256 Summaries, the request brings 257"),
                ([{**good, "state": {"loss_sum": 1.0}}], "lacks the function's sum `weight_sum`"),
                ([good, {**good, "state": {**good["state"], "loss\n": 1.0}}], "has the sum `loss?`, which is not")):
            with self.assertRaises(CallError) as caught:
                self.merged("mse_loss", parts)
            self.assertEqual(caught.exception.code, 3)
            self.assertIn(text, caught.exception.text)
        batch = {"input": Tensor([1.0]), "target": Tensor([0.0])}
        with self.daemon.connect() as connection:
            stream = Stream(connection)
            stream.send("mse_loss", batch)
            stream.send("", batch, parts=[good])
            stream.receive()
            with self.assertRaises(CallError) as caught:
                stream.receive()
            self.assertIn("a later request brings attributes or outputs, or Summaries to go on from", caught.exception.text)
            call = connection.open(EVALUATE)
            connection.send(frame(MESSAGE, call, *request("mse_loss", batch, parts=[good]), END_STREAM))
            kind, _, _, message, _ = connection.receive_of(call)
            self.assertEqual(kind, STATUS)
            self.assertEqual(CallError(message).code, 3)
            self.assertIn("Summaries to go on from are for EvaluateStream", CallError(message).text)

    def test_credit_is_taken_and_given_back(self):
        with self.daemon.connect() as connection:
            kind, _, _, message, _ = connection.receive()
            self.assertEqual(kind, HELLO)
            credit = parse(message)[5][0]
            stream = Stream(connection, credit=1)
            batch = {"input": Tensor([0.0])}
            for index in range(credit):
                stream.send("sigmoid" if index == 0 else "", batch, id=index)
            # One response is taken, and with it goes one credit; the others wait.
            self.assertEqual(stream.receive().id, 0)
            connection.ping()
            connection.send(frame(CREDIT, stream.id, number(1, 2)))
            self.assertEqual([stream.receive().id for _ in range(2)], [1, 2])
            connection.socket.settimeout(0.2)
            with self.assertRaises(TimeoutError):
                while True:
                    self.assertEqual(connection.receive()[0], CREDIT)
            connection.socket.settimeout(30)
            connection.send(frame(CREDIT, stream.id, number(1, 2**32 - 1)))
            for index in range(3, credit):
                self.assertEqual(stream.receive().id, index)
            stream.half_close()
            self.assertEqual(stream.summary()["batches"], credit)

    def test_a_request_without_credit_ends_the_stream(self):
        with self.daemon.connect() as connection:
            stream = Stream(connection, credit=1)
            for index in range(12):
                stream.send("sigmoid" if index == 0 else "", {"input": Tensor([0.0])})
            with self.assertRaises(CallError) as caught:
                for _ in range(12):
                    stream.receive()
            self.assertEqual(caught.exception.code, 8)
            connection.ping()

    def test_too_many_streams(self):
        with self.daemon.connect() as connection:
            limit = parse(connection.receive()[3])[4][0]
            for _ in range(limit):
                connection.open(STREAM)
            over = connection.open(EVALUATE)
            with self.assertRaises(CallError) as caught:
                connection.finish(over)
            self.assertEqual(caught.exception.code, 8)
            connection.send(frame(CANCEL, 1))
            with self.assertRaises(CallError) as caught:
                connection.finish(1)
            self.assertEqual(caught.exception.code, 1)
            connection.evaluate("sigmoid", {"input": Tensor([0.0])})

    def test_deadlines(self):
        with self.daemon.connect() as connection:
            # Nothing is sent: the time covers receiving.
            idle = connection.open(EVALUATE, timeout_us=30_000)
            start = time.perf_counter()
            with self.assertRaises(CallError) as caught:
                connection.finish(idle)
            self.assertEqual(caught.exception.code, 4)
            self.assertLess(time.perf_counter() - start, 2)
            # What still comes is dropped; the next call is not disturbed.
            connection.send(frame(
                MESSAGE, idle, *request("sigmoid", {"input": Tensor([0.0])}), END_STREAM))
            big = Tensor(bytes(8 * 32_000_000), "float64", shape=[320, 100_000])
            with self.assertRaises(CallError) as caught:
                connection.evaluate("softmax", {"input": big}, timeout_us=40_000)
            self.assertEqual(caught.exception.code, 4)
            connection.evaluate("sigmoid", {"input": Tensor([0.0])}, timeout_us=2**63)

    def test_cancelling_work_that_runs(self):
        with self.daemon.connect() as connection:
            big = Tensor(bytes(8 * 32_000_000), "float64", shape=[320, 100_000])
            stream = connection.start("softmax", {"input": big}, {"dim": 0})
            time.sleep(0.005)
            start = time.perf_counter()
            connection.send(frame(CANCEL, stream))
            with self.assertRaises(CallError) as caught:
                connection.finish(stream)
            self.assertEqual(caught.exception.code, 1)
            self.assertLess(time.perf_counter() - start, 1)

    def test_a_vanished_client_stops_the_work(self):
        connection = self.daemon.connect()
        connection.start("softmax", {
            "input": Tensor(bytes(8 * 16_000_000), "float64", shape=[160, 100_000])})
        connection.close()
        deadline = time.time() + 10
        while self.daemon.status().get(7, [0])[0] > 0:
            self.assertLess(time.time(), deadline, "bytes of a vanished client's call are held")
            time.sleep(0.05)


if __name__ == "__main__":
    unittest.main()
