"""lossd.v1 by gRPC's own Python client: the own wire's bits, statuses, streams, deadlines, cancellation, compression."""

import math
import struct
import threading
import time
import unittest

from support import (Connection, Daemon, Golden, channel, ended, grpc, of_tcp, pb, request, rpc, tensor, to_inline,
                     to_payload)
from wire import EVALUATE, CallError

SECOND = 10


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


def sigmoid(count, id=0, value=0.5):
    return request("sigmoid", [tensor("input", floats(value) * count, [count])], id=id)


class Calls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(tcp=True, workers=2)
        cls.channel = channel(cls.daemon.unix)
        cls.evaluator = rpc.EvaluatorStub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        ended(cls.daemon)

    def refused(self, code, call, *arguments, **options):
        """What a call says that ends with this status."""
        with self.assertRaises(grpc.RpcError) as caught:
            call(*arguments, **{"timeout": SECOND, **options})
        self.assertEqual(caught.exception.code(), code, caught.exception.details())
        return caught.exception.details()

    def in_flight(self):
        """Calls other than the one that asks, and bytes."""
        status = rpc.DaemonStub(self.channel).GetStatus(pb.GetStatusRequest(), timeout=SECOND)
        return status.calls_in_flight - 1, status.bytes_in_flight

    def settles(self):
        end = time.time() + SECOND
        while self.in_flight() != (0, 0) and time.time() < end:
            time.sleep(0.02)
        self.assertEqual(self.in_flight(), (0, 0))

    # ---- The same bits ----

    def test_golden_calls_give_the_own_wires_bits(self):
        count = 0
        for name in ("values", "elementwise", "operands", "rows", "classes"):
            golden = Golden(name)
            with Connection(self.daemon.unix) as own:
                for message in golden.requests():
                    try:
                        ours = self.evaluator.Evaluate(message, timeout=SECOND).SerializeToString(deterministic=True)
                    except grpc.RpcError as error:
                        ours = error.code().value[0], error.details()
                    try:
                        theirs = to_inline(*own.call(EVALUATE, *to_payload(message))).SerializeToString(
                            deterministic=True)
                    except CallError as error:
                        theirs = error.code, error.text
                    self.assertEqual(ours, theirs, f"{name}: {message.function}")
                    count += 1
        self.assertGreater(count, 1000)

    def test_every_size_gives_the_own_wires_bits(self):
        """Up to 12 KiB a request is kept as it comes, beyond it goes to a buffer; answers are copied up to 4 KiB."""
        with Connection(self.daemon.unix) as own:
            for count in (0, 1, 2, 1000, 1023, 1024, 1025, 3040, 3050, 3060, 3070, 3080, 4096, 16_384, 70_000, 1_000_003):
                data = struct.pack("<1021f", *(math.sin(index) for index in range(1021)))
                data = (data * (count // 1021 + 1))[:4 * count]
                message = request("silu", [tensor("input", data, [count])], outputs=["output", "grad.input"], id=count)
                ours = self.evaluator.Evaluate(message, timeout=SECOND)
                self.assertEqual(ours, to_inline(*own.call(EVALUATE, *to_payload(message))), count)

    def test_both_kinds_of_sockets_and_what_clients_name_them(self):
        for address, options in [(of_tcp(self.daemon), ()), (self.daemon.unix, ()),
                                 (self.daemon.unix, [("grpc.default_authority", "/run/x/u2.sock")]),
                                 (self.daemon.unix, [("grpc.default_authority", "localhost")])]:
            with channel(address, *options) as other:
                response = rpc.EvaluatorStub(other).Evaluate(sigmoid(3, 7), timeout=SECOND)
                self.assertEqual((response.id, response.outputs[0].shape), (7, [3]))

    def test_256_by_50257_with_gradient(self):
        rows, classes = 256, 50257
        row = struct.pack(f"<{classes}f", *(math.cos(index) for index in range(classes)))
        message = request(
            "cross_entropy",
            [tensor("input", row * rows, [rows, classes]),
             tensor("target", struct.pack(f"<{rows}q", *range(rows)), [rows], 5)], outputs=["loss", "grad.input"])
        ours = self.evaluator.Evaluate(message, timeout=60)
        with Connection(self.daemon.unix, timeout=60) as own:
            theirs = to_inline(*own.call(EVALUATE, *to_payload(message)))
        self.assertTrue(ours == theirs)
        self.settles()

    # ---- Statuses ----

    def test_statuses_have_their_texts(self):
        call = self.evaluator.Evaluate
        self.assertEqual(self.refused(grpc.StatusCode.NOT_FOUND, call, request("sigmoidd", [])),
                         "no function named `sigmoidd`; did you mean `sigmoid`?")
        text = self.refused(grpc.StatusCode.NOT_FOUND, call, request("ä%☺", []))
        self.assertIn("`ä%☺`", text)
        text = self.refused(grpc.StatusCode.INVALID_ARGUMENT, call,
                            request("sigmoid", [tensor("input", b"1234", [3])]))
        self.assertIn("sigmoid: input: payload length is 4, expected 12", text)
        shared = pb.Tensor(name="input", data_type=1, shape=[3], shared=pb.SharedRange(region=1, length=12))
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, call, request("sigmoid", [shared]))
        ranged = pb.Tensor(name="input", data_type=1, shape=[3], payload=pb.Range(length=12))
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, call, request("sigmoid", [ranged]))
        message = request("sigmoid", [tensor("input", floats(1), [1])])
        message.outputs.add(name="output", into=pb.SharedRange(region=1, length=4))
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, call, message)
        self.settles()

    def test_methods_that_are_not_there(self):
        for path in ("/lossd.v1.Evaluator/Nothing", "/lossd.v1.Nothing/Evaluate", "/x", "/lossd.v1.Evaluator/Evaluate/"):
            text = self.refused(grpc.StatusCode.UNIMPLEMENTED, self.channel.unary_unary(path), b"")
            self.assertEqual(text, f"no method named `{path}`")

    def test_messages_that_do_not_decode(self):
        call = self.channel.unary_unary(EVALUATE)
        for data in (b"\xff", b"\x12\x05abc", b"\x12\x02\x22\x7f", b"\x0b", b"\x08\x01\x00", b"\x12\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
                     b"\x12\x0a\x0a\x05input\x22\x02", b"\x12\x08\x22\x01a\x22\x01b\x10\x01", b"\x0a\x02\xff\xfe"):
            text = self.refused(grpc.StatusCode.INVALID_ARGUMENT, call, data)
            self.assertIn("decode", text, data)
            text = self.refused(grpc.StatusCode.INVALID_ARGUMENT, call, b"\x7a\x81\x80\x01" + bytes(16_385) + data)
        self.settles()

    def test_a_request_with_more_than_a_function_has(self):
        many = request("sigmoid", [tensor(f"i{index}", b"x" * 4, [1]) for index in range(65)])
        text = self.refused(grpc.StatusCode.INVALID_ARGUMENT, self.evaluator.Evaluate, many)
        self.assertIn("more than 64 tensors", text)

    def test_limits_are_named(self):
        with Daemon(limits__payload_bytes="1MiB", limits__message_bytes="64KiB") as daemon, \
                channel(daemon.unix) as other:
            stub = rpc.EvaluatorStub(other)
            self.assertEqual(len(stub.Evaluate(sigmoid(200_000), timeout=SECOND).outputs[0].data), 800_000)
            text = self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, stub.Evaluate, sigmoid(300_000))
            self.assertRegex(text, r"the request has 12000\d\d bytes, over the limit of 1048576 \(limits.payload_bytes\)")
            zeros = request("sigmoid", [tensor("input", bytes(64 << 20), [16 << 20])])
            for how in (grpc.Compression.Gzip, grpc.Compression.Deflate):
                text = self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, stub.Evaluate, zeros, compression=how)
                self.assertIn("over 1048576 bytes when it is decompressed, the limit of limits.payload_bytes", text)
            message = sigmoid(100_000)
            message.attributes["x"].string_value = "x" * 100_000
            text = self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, stub.Evaluate, message)
            self.assertIn("over 65536 bytes beside its tensors (limits.message_bytes)", text)
            text = self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, stub.ListFunctions,
                                pb.ListFunctionsRequest(name="x" * 70_000))
            self.assertIn("over the limit of 65536 (limits.message_bytes)", text)
            # The connection goes on.
            self.assertEqual(len(stub.Evaluate(sigmoid(10), timeout=SECOND).outputs[0].data), 40)

    def test_plugins_are_for_administrators(self):
        call = rpc.PluginHostStub(self.channel).ListPlugins
        self.refused(grpc.StatusCode.PERMISSION_DENIED, call, pb.ListPluginsRequest())
        path = f"{self.daemon.folder.name}/admin.sock"
        with Daemon(admin_listen=f"unix:{path}") as daemon, channel(f"unix:{path}") as admin:
            listed = rpc.PluginHostStub(admin).ListPlugins(pb.ListPluginsRequest(), timeout=SECOND)
            self.assertIn("catalogue", [plugin.name for plugin in listed.plugins])
            daemon.stop()

    def test_a_listener_speaks_what_its_setting_says(self):
        with Daemon(protocols="grpc") as daemon, channel(daemon.unix) as other:
            self.assertEqual(len(rpc.EvaluatorStub(other).Evaluate(sigmoid(2), timeout=SECOND).outputs), 1)
            with self.assertRaises((ConnectionError, EOFError, OSError)), daemon.connect() as own:
                own.receive()
        with Daemon(protocols="lossd") as daemon, channel(daemon.unix) as other:
            self.refused(grpc.StatusCode.UNAVAILABLE, rpc.EvaluatorStub(other).Evaluate, sigmoid(2))
            self.assertTrue(daemon.status())

    # ---- Streams ----

    def test_a_stream_answers_in_order_and_sums_up(self):
        def batches():
            for index in range(100):
                yield request("mse_loss" if index == 0 else "", [
                    tensor("input", floats(*(index + item for item in range(6))), [6]),
                    tensor("target", floats(*range(6)), [6])], id=index + 1)
        responses = list(self.evaluator.EvaluateStream(batches(), timeout=SECOND))
        self.assertEqual([response.id for response in responses[:-1]], list(range(1, 101)))
        summary = responses[-1].summary
        self.assertEqual((summary.batches, summary.rows), (100, 600))
        self.assertAlmostEqual(summary.values["loss"], sum(index ** 2 for index in range(100)) / 100)
        self.settles()

    def test_a_stream_that_is_answered_as_it_goes(self):
        ask, asked = threading.Semaphore(0), iter(range(1, 6))

        def batches():
            for index in asked:
                yield request("sigmoid" if index == 1 else "", [tensor("input", floats(0), [1])], id=index)
                ask.acquire(timeout=SECOND)
        responses = self.evaluator.EvaluateStream(batches(), timeout=SECOND)
        for index in range(1, 6):
            self.assertEqual(next(responses).id, index)
            ask.release()
        self.assertEqual(next(responses).summary.batches, 5)
        with self.assertRaises(StopIteration):
            next(responses)

    def test_a_client_that_takes_nothing_holds_back_its_own_stream_alone(self):
        """Big batches go on coming in, and nobody reads their results: other calls of the connection are answered."""
        taken = []

        def batches():
            for index in range(200):
                taken.append(index)
                yield request("sigmoid" if index == 0 else "", [tensor("input", bytes(4 << 18), [1 << 18])])
        stalled = self.evaluator.EvaluateStream(batches(), timeout=60)
        next(stalled)
        time.sleep(1)
        begin = time.monotonic()
        for index in range(100):
            self.assertEqual(self.evaluator.Evaluate(sigmoid(1, index), timeout=SECOND).id, index)
        self.assertLess(time.monotonic() - begin, SECOND)
        self.assertLess(len(taken), 100, "the stream is held back")
        self.assertLess(self.in_flight()[1], 64 << 20)
        self.assertEqual(sum(1 for _ in stalled), 200, "and goes on")
        self.settles()

    def test_a_streams_error_names_its_batch(self):
        def batches():
            yield request("sigmoid", [tensor("input", floats(0), [1])], id=1)
            yield request("", [tensor("input", b"123", [1])], id=2)
        responses = self.evaluator.EvaluateStream(batches(), timeout=SECOND)
        self.assertEqual(next(responses).id, 1)
        with self.assertRaises(grpc.RpcError) as caught:
            next(responses)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("batch 2: ", caught.exception.details())
        self.assertIn(("lossd-batch-id", "2"), caught.exception.trailing_metadata())

    def test_an_empty_stream(self):
        responses = self.evaluator.EvaluateStream(iter([]), timeout=SECOND)
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, lambda timeout: next(responses))

    def test_unary_methods_take_one_request(self):
        call = self.channel.stream_unary(EVALUATE)
        data = sigmoid(1).SerializeToString()
        self.refused(grpc.StatusCode.UNIMPLEMENTED, call, iter([]))
        self.refused(grpc.StatusCode.UNIMPLEMENTED, call, iter([data, data]))
        self.assertEqual(pb.EvaluateResponse.FromString(call(iter([data]), timeout=SECOND)).outputs[0].shape, [1])

    # ---- Time ----

    def test_deadlines_of_0_to_5_ms_under_load(self):
        load = [self.evaluator.Evaluate.future(sigmoid(1 << 20), timeout=60) for _ in range(8)]
        codes = set()
        for index in range(300):
            try:
                self.evaluator.Evaluate(sigmoid(1 << (index % 18)), timeout=(index % 6) / 1000)
                codes.add(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                codes.add(error.code())
        self.assertLessEqual(codes, {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED})
        self.assertIn(grpc.StatusCode.DEADLINE_EXCEEDED, codes)
        for call in load:
            self.assertEqual(call.result().outputs[0].shape, [1 << 20])
        self.settles()

    def test_a_cancelled_call_leaves_nothing(self):
        for wait in (0, 0.001, 0.01, 0.05):
            calls = [self.evaluator.Evaluate.future(sigmoid(1 << 20)) for _ in range(4)]
            time.sleep(wait)
            for call in calls:
                call.cancel()
        self.settles()

        def endless():
            while True:
                yield request("sigmoid", [tensor("input", floats(0), [1])])
                time.sleep(0.01)
        stream = self.evaluator.EvaluateStream(endless())
        next(stream)
        stream.cancel()
        self.settles()

    # ---- Compression ----

    def test_compressed_requests(self):
        for how in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            for count in (0, 1, 1000, 5000, 100_000, 2_000_000, 6_000_000):
                message = sigmoid(count, id=count)
                plain = self.evaluator.Evaluate(message, timeout=SECOND)
                self.assertEqual(self.evaluator.Evaluate(message, timeout=SECOND, compression=how), plain, count)

            def batches():
                for index in range(10):
                    yield request("sigmoid" if index == 0 else "", [tensor("input", bytes(400_000), [100_000])])
            self.assertEqual(
                sum(1 for _ in self.evaluator.EvaluateStream(batches(), timeout=SECOND, compression=how)), 11)
        self.settles()


if __name__ == "__main__":
    unittest.main()
