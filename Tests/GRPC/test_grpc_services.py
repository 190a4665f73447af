"""Health checking, reflection, and the daemon's end, by gRPC's own Python client."""

import concurrent.futures
import signal
import struct
import tempfile
import threading
import time
import unittest

from frames import NO_ERROR, Peer, fields, message
from support import Connection, Daemon, channel, ended, grpc, pb, request, rpc, tensor, to_payload
from test_service import Manager
from wire import END_STREAM, EVALUATE, MESSAGE, OPEN, CallError, block, frame

from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from hyperframe import frame as frames

SECOND = 10
GET_STATUS, LIST_PLUGINS = "/lossd.v1.Daemon/GetStatus", "/lossd.v1.PluginHost/ListPlugins"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
SERVICES = {"lossd.v1.Evaluator", "lossd.v1.Daemon", "lossd.v1.PluginHost", "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
POLICY = ('{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.05s", '
          '"maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}')
SIGMOID = request("sigmoid", [tensor("input", struct.pack("<3f", 0, 1, 2), [3])], id=7)


class Services(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()
        cls.channel = channel(cls.daemon.unix)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        ended(cls.daemon)

    def test_every_service_is_healthy(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        for service in ["", *SERVICES]:
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECOND)
            self.assertEqual(answer.status, SERVING, service)
        with self.assertRaises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="lossd.v1.Nothing"), timeout=SECOND)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)
        for service, status in (("lossd.v1.Evaluator", SERVING), ("x", SERVICE_UNKNOWN)):
            watch = health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=SECOND)
            self.assertEqual(next(watch).status, status)
            watch.cancel()

    def test_reflection_has_the_daemons_descriptors(self):
        database = ProtoReflectionDescriptorDatabase(self.channel)
        self.assertEqual(set(database.get_services()), SERVICES)
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName("lossd.v1.Evaluator").FindMethodByName("EvaluateStream")
        self.assertEqual(method.input_type.full_name, "lossd.v1.EvaluateRequest")
        found = pool.FindMessageTypeByName("lossd.v1.EvaluateRequest").file.serialized_pb
        ours, theirs = (descriptor_pb2.FileDescriptorProto.FromString(data)
                        for data in (found, pb.DESCRIPTOR.serialized_pb))
        for item in ours.message_type:
            for part in (item, *item.nested_type):
                for field in part.field:
                    # Some generators write what follows from the name.
                    field.ClearField("json_name")
        self.assertEqual(ours, theirs)
        for service in SERVICES:
            self.assertTrue(pool.FindServiceByName(service).methods)

    def test_both_versions_of_reflection_and_what_they_do_not_have(self):
        asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in (
            "lossd.v1.Evaluator.Evaluate", "lossd.v1.EvaluateRequest.AttributesEntry", "lossd.v1.Nothing", "")]
        asked += [reflection_pb2.ServerReflectionRequest(file_by_filename=name) for name in ("lossd.proto", "x.proto")]
        asked += [reflection_pb2.ServerReflectionRequest(all_extension_numbers_of_type="lossd.v1.Tensor"),
                  reflection_pb2.ServerReflectionRequest(host="here", list_services=""),
                  reflection_pb2.ServerReflectionRequest()]
        expected = ["file_descriptor_response", "file_descriptor_response", 5, 5, "file_descriptor_response", 5, 5,
                    "list_services_response", 3]
        for version in ("v1", "v1alpha"):
            call = self.channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString)
            answers = list(call(iter(asked), timeout=SECOND))
            self.assertEqual([answer.original_request for answer in answers], asked)
            kinds = [answer.error_response.error_code or answer.WhichOneof("message_response") for answer in answers]
            self.assertEqual(kinds, expected)

    def test_reflection_that_is_not_read_is_held_back(self):
        """10 KB for each small question, and nobody takes them: the daemon does not keep them all."""
        question = message(reflection_pb2.ServerReflectionRequest(file_by_filename="lossd.proto").SerializeToString())
        before = self.daemon.resident_bytes()
        with Peer(self.daemon.unix, settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as peer:
            peer.send(peer.headers(1, fields("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")))
            peer.socket.settimeout(0.5)
            sent = 0
            # As many as the stream's window lets through.
            for _ in range((250 << 10) // len(question)):
                peer.send(peer.data(1, question))
                sent += 1
            self.assertGreater(sent, 10_000)
            peer.socket.settimeout(SECOND)
            self.assertIsNotNone(peer.ping())
            self.assertLess(self.daemon.resident_bytes() - before, 32 << 20)


class Listeners(unittest.TestCase):
    """What a listener offers: by the settings for all, and by its own."""
    FILE = """services: [lossd.v1.Evaluator, lossd.v1.Daemon]
listen:
  - unix:FOLDER/lossd.sock
  - address: unix:FOLDER/own.sock
    protocols: [lossd]
  - address: unix:FOLDER/grpc.sock
    protocols: [grpc]
    services: [lossd.v1.Evaluator, grpc.health.v1.Health, grpc.reflection.v1alpha.ServerReflection]
admin_listen:
  - address: unix:FOLDER/admin.sock
  - address: unix:FOLDER/plugins.sock
    services: [lossd.v1.PluginHost]
"""

    def refused(self, code, call, message, text):
        with self.assertRaises(grpc.RpcError) as caught:
            call(message, timeout=SECOND)
        self.assertEqual(caught.exception.code(), code)
        self.assertIn(text, caught.exception.details())

    def test_each_offers_what_it_is_to(self):
        none = grpc.StatusCode.UNIMPLEMENTED
        with Daemon(file=self.FILE) as daemon:
            there = {name: channel(f"unix:{daemon.folder.name}/{name}.sock")
                     for name in ("lossd", "own", "grpc", "admin", "plugins")}
            status, plugins = pb.GetStatusRequest(), pb.ListPluginsRequest()
            health = health_pb2.HealthCheckRequest()
            evaluate = {name: rpc.EvaluatorStub(item).Evaluate for name, item in there.items()}
            for name in ("lossd", "grpc", "admin"):
                self.assertEqual(evaluate[name](SIGMOID, timeout=SECOND).id, 7)
            self.refused(none, evaluate["plugins"], SIGMOID, "this listener does not offer lossd.v1.Evaluator (services)")
            self.refused(grpc.StatusCode.UNAVAILABLE, evaluate["own"], SIGMOID, "")
            for name in ("lossd", "admin"):
                rpc.DaemonStub(there[name]).GetStatus(status, timeout=SECOND)
            self.refused(none, rpc.DaemonStub(there["grpc"]).GetStatus, status, "does not offer lossd.v1.Daemon")
            # For administrators, and where it is not offered at all.
            for name in ("lossd", "grpc"):
                self.refused(none, rpc.PluginHostStub(there[name]).ListPlugins, plugins, "does not offer lossd.v1.PluginHost")
            for name in ("admin", "plugins"):
                self.assertTrue(rpc.PluginHostStub(there[name]).ListPlugins(plugins, timeout=SECOND).plugins)
            # Of what is offered here, and of nothing else, there is health to be asked and something to be listed.
            check = {name: health_pb2_grpc.HealthStub(item).Check for name, item in there.items()}
            self.refused(none, check["lossd"], health, "does not offer grpc.health.v1.Health")
            self.assertEqual(check["grpc"](health, timeout=SECOND).status, SERVING)
            for name, known in (("lossd.v1.Evaluator", True), ("lossd.v1.Daemon", False), ("lossd.v1.PluginHost", False)):
                asked = health_pb2.HealthCheckRequest(service=name)
                if known:
                    self.assertEqual(check["grpc"](asked, timeout=SECOND).status, SERVING)
                else:
                    self.refused(grpc.StatusCode.NOT_FOUND, check["grpc"], asked, "no service")
                self.assertEqual(check["admin"](asked, timeout=SECOND).status, SERVING)
            listed = ProtoReflectionDescriptorDatabase(there["grpc"]).get_services()
            self.assertEqual(set(listed), {"lossd.v1.Evaluator", "grpc.health.v1.Health",
                                           "grpc.reflection.v1alpha.ServerReflection"})
            self.assertEqual(set(ProtoReflectionDescriptorDatabase(there["admin"]).get_services()), SERVICES)
            for item in there.values():
                item.close()
            # The own wire has the same services.
            for name, method, code in (("own", GET_STATUS, None), ("own", LIST_PLUGINS, 12), ("plugins", LIST_PLUGINS, None),
                                       ("plugins", GET_STATUS, 12), ("admin", LIST_PLUGINS, None)):
                with Connection(f"unix:{daemon.folder.name}/{name}.sock") as own:
                    if code is None:
                        own.call(method, b"", b"")
                        continue
                    with self.assertRaises(CallError) as caught:
                        own.call(method, b"", b"")
                    self.assertEqual(caught.exception.code, code)
            with self.assertRaises((ConnectionError, EOFError, OSError)), \
                    Connection(f"unix:{daemon.folder.name}/grpc.sock") as own:
                own.receive()
            ended(daemon)


class End(unittest.TestCase):
    def test_a_drain_takes_two_steps(self):
        """What a client begins before it knows is still answered; what it begins afterwards is refused."""
        with Daemon(limits__drain_timeout="5s") as daemon, Peer(daemon.unix) as peer:
            health = fields("/grpc.health.v1.Health/Watch")
            peer.send(peer.headers(1, health), peer.data(1, message(b""), end=True))
            peer.until(lambda made: isinstance(made, frames.DataFrame))
            # An open call keeps the connection.
            peer.send(peer.headers(3, fields()))
            self.assertIsNotNone(peer.ping())
            daemon.process.send_signal(signal.SIGTERM)
            found = peer.until(lambda made: isinstance(made, frames.PingFrame))
            away = [made for made in found if isinstance(made, frames.GoAwayFrame)]
            self.assertEqual([(made.last_stream_id, made.error_code) for made in away], [(0x7FFFFFFF, NO_ERROR)])
            # The client does not know yet.
            peer.call(5, SIGMOID.SerializeToString())
            heads, body, _ = peer.answer(5)
            self.assertEqual(heads[-1]["grpc-status"], "0")
            peer.send(frames.PingFrame(0, found[-1].opaque_data, flags=["ACK"]))
            found = peer.until(lambda made: isinstance(made, frames.GoAwayFrame))
            self.assertEqual((found[-1].last_stream_id, found[-1].error_code), (5, NO_ERROR))
            peer.send(peer.data(3, message(SIGMOID.SerializeToString()), end=True))
            self.assertEqual(peer.status(3), 0)
            self.assertIsNone(peer.receive(), "closed after the last call")
            self.assertEqual(daemon.stop(), 0)
            daemon.folder.cleanup()

    def test_a_watch_says_not_serving_at_the_drains_first_moment(self):
        with Daemon(limits__drain_timeout="5s") as daemon, channel(daemon.unix) as there:
            health = health_pb2_grpc.HealthStub(there)
            watches = [health.Watch(health_pb2.HealthCheckRequest(service=name), timeout=SECOND)
                       for name in ("", "lossd.v1.Evaluator")]
            for watch in watches:
                self.assertEqual(next(watch).status, SERVING)
            daemon.process.send_signal(signal.SIGTERM)
            for watch in watches:
                self.assertEqual(next(watch).status, NOT_SERVING)
                with self.assertRaises(grpc.RpcError) as caught:
                    next(watch)
                self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
            begin = time.monotonic()
            self.assertEqual(daemon.stop(), 0)
            self.assertLess(time.monotonic() - begin, 4, "a watch does not keep the daemon")
            daemon.folder.cleanup()

    def test_no_call_fails_while_daemons_are_exchanged(self):
        """Under load of clients that retry UNAVAILABLE, as gRPC's own policy has it."""
        first = Daemon(limits__drain_timeout="5s")
        over = threading.Event()

        def work(index):
            count = 0
            options = [("grpc.service_config", POLICY), ("grpc.enable_retries", 1),
                       ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)]
            with channel(first.unix, *options) as there:
                stub = rpc.EvaluatorStub(there)
                while not over.is_set():
                    answer = stub.Evaluate(SIGMOID, timeout=SECOND, wait_for_ready=True)
                    assert answer.id == 7
                    count += 1
            return count
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            workers = [pool.submit(work, index) for index in range(4)]
            time.sleep(0.5)
            try:
                self.assertEqual(first.stop(), 0)
                second = Daemon(path=first.path)
                time.sleep(0.5)
            finally:
                over.set()
            counts = [worker.result(60) for worker in workers]
        self.assertGreater(min(counts), 10)
        ended(second)
        first.folder.cleanup()

    def test_no_call_fails_while_daemons_take_over_a_socket_that_stays(self):
        """As an upgrade goes behind the service manager's socket, under load: calls one by one and many at once, small and
        big, on connections that stay and on new ones."""
        # A call whose bytes gRPC does not keep it does not try again.
        options = [("grpc.service_config", POLICY), ("grpc.enable_retries", 1), ("grpc.per_rpc_retry_buffer_size", 8 << 20)]
        big = request("softmax", [tensor("input", struct.pack("<f", 1) * 250_000, [500, 500])],
                      attributes={"dim": 1}, id=9)
        over = threading.Event()
        with tempfile.TemporaryDirectory(prefix="lossd-upgrade-") as folder:
            path = f"{folder}/lossd.sock"
            manager = Manager(folder, sockets={"lossd": path}, settings="limits: {drain_timeout: 5s}\n")
            self.addCleanup(manager.close)
            manager.until("READY")

            def staying(message, at_once):
                count = 0
                with channel(f"unix:{path}", *options) as there:
                    call = rpc.EvaluatorStub(there).Evaluate
                    while not over.is_set():
                        for answer in [call.future(message, timeout=60) for _ in range(at_once)]:
                            assert answer.result().id == message.id
                            count += 1
                return count

            def connecting():
                count = 0
                while not over.is_set():
                    with channel(f"unix:{path}", *options) as there:
                        assert rpc.EvaluatorStub(there).Evaluate(SIGMOID, timeout=60).id == SIGMOID.id
                        count += 1
                return count

            with concurrent.futures.ThreadPoolExecutor(5) as pool:
                workers = [pool.submit(staying, SIGMOID, 1), pool.submit(staying, SIGMOID, 50), pool.submit(staying, big, 1),
                           pool.submit(staying, big, 4), pool.submit(connecting)]
                try:
                    for _ in range(5):
                        time.sleep(0.5)
                        manager.process.send_signal(signal.SIGTERM)
                        self.assertEqual(manager.process.wait(SECOND), 0, manager.text())
                        manager.start()
                        manager.until("READY")
                    time.sleep(0.5)
                finally:
                    over.set()
                    counts = [worker.result(90) for worker in workers]
            self.assertGreater(min(counts), 5, counts)

    def test_a_stream_gets_its_summary_when_the_daemon_goes(self):
        with Daemon(limits__drain_timeout="2s") as daemon, channel(daemon.unix) as there:
            sent = threading.Event()

            def batches():
                yield SIGMOID
                sent.wait(SECOND)
            responses = rpc.EvaluatorStub(there).EvaluateStream(batches(), timeout=SECOND)
            self.assertEqual(next(responses).id, 7)
            daemon.process.send_signal(signal.SIGTERM)
            self.assertEqual(next(responses).summary.batches, 1)
            with self.assertRaises(grpc.RpcError) as caught:
                next(responses)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
            sent.set()
            self.assertEqual(daemon.stop(), 0)
            daemon.folder.cleanup()


class Log(unittest.TestCase):
    def test_the_access_log_has_the_calls_of_both_wires_with_their_traces(self):
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333{}-01"
        with Daemon(access_log="true") as daemon:
            with channel(daemon.unix) as there:
                stub = rpc.EvaluatorStub(there)
                stub.Evaluate(SIGMOID, timeout=SECOND, metadata=[("traceparent", trace.format(1))])
                stub.Evaluate(SIGMOID, timeout=SECOND, metadata=[("traceparent", "no trace=x\"")])
                with self.assertRaises(grpc.RpcError):
                    there.unary_unary("/a b")(b"", timeout=SECOND)
            with daemon.connect() as own:
                metadatum = block(1, "traceparent") + block(2, trace.format(2).encode())
                own.send(frame(OPEN, 1, block(1, EVALUATE) + block(4, metadatum)))
                own.send(frame(MESSAGE, 1, *to_payload(SIGMOID), flags=END_STREAM))
                own.receive_of(1)
            daemon.stop()
            lines = [line for line in daemon.log().splitlines() if "info: call " in line]
            self.assertEqual(len(lines), 4, lines)
            size = 5 + len(SIGMOID.SerializeToString())
            self.assertRegex(lines[0], rf"stream=1 method=/lossd.v1.Evaluator/Evaluate function=sigmoid code=OK us=\d+ "
                                       rf"received={size} sent=\d\d trace={trace.format(1)}$")
            self.assertRegex(lines[1], r"stream=3 .* sent=\d\d$")
            self.assertRegex(lines[2], r"stream=5 method=/a\?b function=- code=UNIMPLEMENTED")
            self.assertRegex(lines[3], rf"function=sigmoid code=OK .* trace={trace.format(2)}$")
            daemon.folder.cleanup()


class Refused(unittest.TestCase):
    def test_one_connection_too_many_is_told_so_in_what_it_speaks(self):
        with Daemon(limits__user_connections=2) as daemon:
            with Peer(daemon.unix) as first, Peer(daemon.unix) as second:
                for peer in (first, second):
                    self.assertIsNotNone(peer.ping())
                with Peer(daemon.unix) as third:
                    self.assertIsInstance(third.settings, frames.SettingsFrame)
                    third.call(1, SIGMOID.SerializeToString())
                    self.assertEqual(third.status(1), 8)
                    code, text = third.end()
                    self.assertEqual(code, NO_ERROR)
                    self.assertIn("(limits.user_connections)", text)
                for _ in range(3):
                    with channel(daemon.unix) as there, self.assertRaises(grpc.RpcError) as caught:
                        rpc.EvaluatorStub(there).Evaluate(SIGMOID, timeout=SECOND)
                    self.assertEqual(caught.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
                    self.assertIn("the most there may be (limits.user_connections)", caught.exception.details())
                # Its own clients read what they always have, also those that only listen.
                with daemon.connect(greet=False) as own:
                    kinds = [own.receive()[0], own.receive()[0]]
                    self.assertEqual(kinds, [1, 8], "HELLO and GOAWAY")
            daemon.stop()
            daemon.folder.cleanup()


if __name__ == "__main__":
    unittest.main()
