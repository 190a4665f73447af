"""gRPC's interoperability cases (grpc/doc/interop-test-descriptions.md) with lossd's services in place of TestService, by
clients of four languages; then calls that are given up under load."""

import pathlib
import random
import struct
import threading
import time
import unittest

from programs import Programs
from support import Daemon, channel, ended, grpc, of_tcp, pb, request, rpc, tensor

from grpc_health.v1 import health_pb2, health_pb2_grpc

SOURCES = pathlib.Path(__file__).parent / "interop"
SECOND = 20
SIZES = [27182, 8, 1828, 45904]
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
SHOWN = "no function named `??test with whitespace??and Unicode BMP ☺ and non-BMP 😈??`"
CASES = ["empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "cancel_after_begin",
         "cancel_after_first_response", "timeout_on_sleeping_server", "special_status_message", "status_code_and_message",
         "unimplemented_method", "unimplemented_service", "custom_metadata", "client_compressed_unary",
         "client_compressed_streaming"]
SEED = random.randrange(1 << 30)


def relu(function, count, id=None):
    data = struct.pack(f"<{count}f", *(index % 100 for index in range(count)))
    return request(function, [tensor("input", data, [count])], id=count if id is None else id)


class Queue:
    """Requests of a stream, as they are put in; None ends it."""

    def __init__(self):
        self.items, self.more = [], threading.Semaphore(0)

    def put(self, *items):
        for item in items:
            self.items.append(item)
            self.more.release()

    def __iter__(self):
        return self

    def __next__(self):
        self.more.acquire()
        item = self.items.pop(0)
        if item is None:
            raise StopIteration
        return item


class Interop(Programs):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(tcp=True)
        cls.channel = channel(cls.daemon.unix)
        cls.stub = rpc.EvaluatorStub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        ended(cls.daemon)

    def holds(self, *command, unix="unix:"):
        for address in (of_tcp(self.daemon), unix + self.daemon.path):
            self.assertEqual(self.run_in_folder(*command, address).split(), CASES, address)

    def test_go(self):
        self.holds(self.build_go(SOURCES / "interop.go"), unix="unix://")

    def test_cpp(self):
        self.holds(self.build_cpp(SOURCES / "interop.cc", "grpc/health/v1/health.proto"))

    def test_node(self):
        self.needs("node")
        self.holds("node", SOURCES / "interop.mjs")

    # ---- gRPC's own Python client

    def test_python(self):
        self.assertEqual([name for name in CASES if hasattr(self, name)], CASES)
        for name in CASES:
            with self.subTest(name):
                getattr(self, name)()

    def ends(self, call, code, text=None):
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        self.assertEqual(caught.exception.code(), code, caught.exception.details())
        if text is not None:
            self.assertEqual(caught.exception.details(), text)
        return caught.exception

    def answers(self, count, **options):
        message = relu("relu", count)
        answer = self.stub.Evaluate(message, timeout=SECOND, **options)
        self.assertEqual(answer.outputs[0].data, message.inputs[0].data)

    def all_at_once(self, **options):
        batches = [relu("relu" if index == 0 else "", count) for index, count in enumerate(SIZES)]
        responses = list(self.stub.EvaluateStream(iter(batches), timeout=SECOND, **options))
        self.assertEqual([response.id for response in responses], [*SIZES, 0])
        self.assertEqual(responses[-1].summary.rows, sum(SIZES))

    def open_stream(self, timeout=SECOND):
        batches = Queue()
        self.addCleanup(batches.put, None)
        responses = self.stub.EvaluateStream(batches, timeout=timeout)
        return batches, responses

    def empty_unary(self):
        self.assertTrue(rpc.DaemonStub(self.channel).GetStatus(pb.GetStatusRequest(), timeout=SECOND).version)

    def large_unary(self):
        self.answers(271828)

    def client_streaming(self):
        self.all_at_once()

    def server_streaming(self):
        watch = health_pb2_grpc.HealthStub(self.channel).Watch(health_pb2.HealthCheckRequest(), timeout=SECOND)
        self.assertEqual(next(watch).status, 1)
        watch.cancel()
        self.ends(lambda: next(watch), grpc.StatusCode.CANCELLED)

    def ping_pong(self):
        batches, responses = self.open_stream()
        for index, count in enumerate(SIZES):
            batches.put(relu("relu" if index == 0 else "", count))
            self.assertEqual(next(responses).id, count)
        batches.put(None)
        self.assertEqual(next(responses).summary.batches, len(SIZES))
        self.assertRaises(StopIteration, lambda: next(responses))

    def empty_stream(self):
        responses = self.stub.EvaluateStream(iter([]), timeout=SECOND)
        self.ends(lambda: next(responses), grpc.StatusCode.INVALID_ARGUMENT,
                  "the stream ended before a request named a function")

    def cancel_after_begin(self):
        _, responses = self.open_stream()
        responses.cancel()
        self.ends(lambda: next(responses), grpc.StatusCode.CANCELLED)

    def cancel_after_first_response(self):
        batches, responses = self.open_stream()
        batches.put(relu("relu", SIZES[0]))
        next(responses)
        responses.cancel()
        self.ends(lambda: next(responses), grpc.StatusCode.CANCELLED)

    def timeout_on_sleeping_server(self):
        batches, responses = self.open_stream(timeout=0.1)
        batches.put(relu("relu", SIZES[0]))
        next(responses)
        self.ends(lambda: next(responses), grpc.StatusCode.DEADLINE_EXCEEDED)

    def special_status_message(self):
        self.ends(lambda: self.stub.Evaluate(relu(SPECIAL, 1), timeout=SECOND), grpc.StatusCode.NOT_FOUND, SHOWN)

    def status_code_and_message(self):
        self.ends(lambda: self.stub.Evaluate(relu("nothing", 1), timeout=SECOND), grpc.StatusCode.NOT_FOUND,
                  "no function named `nothing`")
        responses = self.stub.EvaluateStream(iter([relu("nothing", 1)]), timeout=SECOND)
        self.ends(lambda: next(responses), grpc.StatusCode.NOT_FOUND, "batch 1: no function named `nothing`")

    def unimplemented(self, path):
        self.ends(lambda: self.channel.unary_unary(path)(b"", timeout=SECOND), grpc.StatusCode.UNIMPLEMENTED,
                  f"no method named `{path}`")

    def unimplemented_method(self):
        self.unimplemented("/lossd.v1.Evaluator/Nothing")

    def unimplemented_service(self):
        self.unimplemented("/lossd.v1.Nothing/Evaluate")

    def custom_metadata(self):
        self.answers(10, metadata=[("x-lossd-test", "value"), ("x-lossd-test-bin", b"\0\n\xff")])
        wrong = request("", [tensor("input", b"123", [1])], id=7)
        responses = self.stub.EvaluateStream(iter([relu("relu", 1), wrong]), timeout=SECOND,
                                             metadata=[("x-lossd-test-bin", b"\0\n\xff")])
        next(responses)
        error = self.ends(lambda: next(responses), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn(("lossd-batch-id", "7"), error.trailing_metadata())

    def client_compressed_unary(self):
        for how in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            for count in (0, 1, 1000, 271828):
                self.answers(count, compression=how)

    def client_compressed_streaming(self):
        self.all_at_once(compression=grpc.Compression.Gzip)


class GivenUp(unittest.TestCase):
    """Deadlines of 0 to 5 ms and cancellations at any moment, from several connections, while others compute."""

    def test_calls_that_are_given_up_leave_nothing_and_disturb_nobody(self):
        messages = {count: relu("relu", count) for count in (1, 1000, 3000, 20_000, 300_000)}
        over = threading.Event()
        found = {}
        wrong = []

        def note(code):
            found[code] = found.get(code, 0) + 1

        def check(message, answer):
            if (answer.id, answer.outputs[0].data) != (message.id, message.inputs[0].data):
                wrong.append(message.id)

        def work(stub, source):
            while not over.is_set():
                message = messages[source.choice(list(messages))]
                kind = source.randrange(4)
                try:
                    if kind == 0:
                        check(message, stub.Evaluate(message, timeout=SECOND))
                    elif kind == 1:
                        check(message, stub.Evaluate(message, timeout=source.randrange(6) / 1000))
                    elif kind == 2:
                        call = stub.Evaluate.future(message, timeout=SECOND)
                        time.sleep(source.randrange(4) / 1000)
                        call.cancel()
                        if call.cancelled():
                            note(grpc.StatusCode.CANCELLED)
                            continue
                        check(message, call.result())
                    else:
                        left = [pb.EvaluateRequest(inputs=message.inputs, id=message.id)] * source.randrange(4)
                        stream = stub.EvaluateStream(iter([message, *left]), timeout=source.choice([SECOND, 0.003]))
                        for _ in range(source.randrange(4)):
                            answer = next(stream, None)
                            if answer is None:
                                break
                            if answer.outputs:
                                check(message, answer)
                        stream.cancel()
                    note(grpc.StatusCode.OK)
                except grpc.RpcError as error:
                    note(error.code())

        with Daemon(workers=2) as daemon:
            channels = [channel(daemon.unix) for _ in range(3)]
            threads = [threading.Thread(target=work, args=(rpc.EvaluatorStub(channels[index % 3]),
                                                           random.Random(SEED + index))) for index in range(6)]
            for thread in threads:
                thread.start()
            time.sleep(4)
            over.set()
            for thread in threads:
                thread.join(60)
                self.assertFalse(thread.is_alive())
            allowed = {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
            self.assertEqual(set(found), allowed, f"seed {SEED}")
            self.assertEqual(wrong, [], f"seed {SEED}")
            status = rpc.DaemonStub(channels[0])
            end = time.time() + SECOND
            while time.time() < end:
                now = status.GetStatus(pb.GetStatusRequest(), timeout=SECOND)
                if (now.calls_in_flight, now.bytes_in_flight, now.queue_depth) == (1, 0, 0):
                    break
                time.sleep(0.05)
            self.assertEqual((now.calls_in_flight, now.bytes_in_flight, now.queue_depth), (1, 0, 0), f"seed {SEED}")
            # Every call that has ended has been counted once, under one of these.
            codes = {count.code for count in now.calls if count.function == "relu"}
            self.assertLessEqual(codes, {0, 1, 4})
            self.assertEqual(now.connections, len(channels))
            for item in channels:
                item.close()
            ended(daemon)


if __name__ == "__main__":
    unittest.main()
