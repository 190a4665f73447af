"""Tensors in memory that a client shares, and everything that a client can do to that memory."""

import array
import fcntl
import os
import random
import select
import struct
import tempfile
import threading
import time
import unittest

from daemon import SANITIZER, Daemon
from plugin_files import build
from wire import (
    END_STREAM, EVALUATE, GOAWAY, MESSAGE, PING, REGION, RELEASE, STREAM, CallError, Connection, Response, Shared, Tensor,
    block, frame, number, parse, request)

F_ADD_SEALS, F_GET_SEALS, SHRINK, GROW, SEAL = 1033, 1034, 2, 4, 1


class SharedMemory(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="lossd-shm-")
        os.chmod(cls.folder.name, 0o755)
        build("hinge.c", f"{cls.folder.name}/hinge.so")
        cls.daemon = Daemon(
            tcp=True, plugin_folders=cls.folder.name, limits__connection_bytes="64MiB", workers=2)
        deadline = time.time() + 10
        while "loaded plugin hinge" not in cls.daemon.log() and time.time() < deadline:
            time.sleep(0.05)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()
        cls.folder.cleanup()

    def connect(self, features=("shm",)):
        connection = self.daemon.connect(features=features)
        self.addCleanup(connection.close)
        return connection

    def region(self, connection, id, length):
        memory = connection.region(id, length)
        self.addCleanup(memory.close)
        return memory

    def refusal(self, connection, id, length):
        """Code and text of why there is no such region."""
        with self.assertRaises(CallError) as caught:
            connection.region(id, length).close()
        return caught.exception.code, caught.exception.text

    # ---- what it is for

    def test_logits_targets_and_gradient_cross_no_socket(self):
        rows, classes = 64, 1000
        logits = struct.pack(f"<{rows * classes}f", *(random.uniform(-4, 4) for _ in range(rows * classes)))
        targets = struct.pack(f"<{rows}q", *(random.randrange(classes) for _ in range(rows)))
        connection = self.connect()
        plain = connection.evaluate(
            "cross_entropy",
            {"input": Tensor(logits, shape=[rows, classes]), "target": Tensor(targets, "int64")}, {},
            ["loss", "grad.input"])
        memory = self.region(connection, 7, 1 << 20)
        memory.map[:len(logits)] = logits
        memory.map[len(logits):len(logits) + len(targets)] = targets
        place = 512 << 10
        inputs = {
            "input": Shared(7, 0, len(logits), shape=[rows, classes]),
            "target": Shared(7, len(logits), len(targets), "int64", [rows])}
        for _ in range(3):
            memory.map[place:place + len(logits)] = bytes(len(logits))
            message, payload = connection.finish(connection.start(
                "cross_entropy", inputs, {}, {"loss": None, "grad.input": Shared(7, place, len(logits))}))
            self.assertEqual(len(payload), 4)
            shared = Response(message, payload)
            self.assertEqual(shared["loss"].data, plain["loss"].data)
            self.assertEqual((shared["grad.input"].region, shared["grad.input"].offset), (7, place))
            self.assertEqual(shared["grad.input"].shape, [rows, classes])
            self.assertEqual(memory.map[place:place + len(logits)], plain["grad.input"].data)
        self.assertEqual(memory.map[:len(logits)], logits)

    def test_a_thousand_calls_leave_the_inputs_as_they_were(self):
        """Results are written over inputs that came with their call, never over what a client shares."""
        rng = random.Random(3)
        values = array.array("f", (rng.uniform(-9, 9) for _ in range(20_000))).tobytes()
        with self.connect() as connection:
            memory = self.region(connection, 1, 1 << 18)
            memory.map[:len(values)] = values
            shared, own = Shared(1, 0, len(values), shape=[20, 1000]), Tensor(values, shape=[20, 1000])
            for function, attributes in (("sigmoid", {}), ("softmax", {"dim": 1}), ("log_softmax", {"dim": 0})):
                expected = connection.evaluate(function, {"input": own}, attributes)["output"].data
                for _ in range(1000):
                    result = connection.evaluate(function, {"input": shared}, attributes)["output"].data
                    self.assertEqual(result, expected, function)
                    self.assertEqual(memory.map[:len(values)], values, function)

    def test_every_kind_of_function_reads_and_writes_there(self):
        connection = self.connect()
        memory = self.region(connection, 1, 1 << 20)
        count = 5000
        values = struct.pack(f"<{count}f", *(random.uniform(0, 1) for _ in range(count)))
        memory.map[:len(values)] = values
        memory.map[65536:65536 + len(values)] = values
        mine, other = Shared(1, 0, len(values), shape=[50, 100]), Shared(1, 65536, len(values), shape=[50, 100])
        plain = Tensor(values, shape=[50, 100])
        into = Shared(1, 131072, len(values))
        for function, inputs, gradient in (
                ("softmax", ("input",), "output"), ("log_softmax", ("input",), "grad.input"),
                ("sigmoid", ("input",), "output"), ("binary_cross_entropy", ("input", "target"), "grad.target"),
                ("binary_cross_entropy_with_logits", ("input", "target"), "grad.input"),
                ("cross_entropy", ("input", "target"), "grad.target"),
                ("multilabel_soft_margin_loss", ("input", "target"), "grad.input"),
                ("nll_loss", ("input", "classes"), "grad.input")):
            with self.subTest(function):
                tensors, shared = {}, {}
                for name in inputs:
                    if name == "classes":
                        tensors["target"] = shared["target"] = Tensor([3] * 50, "int64")
                    else:
                        tensors[name], shared[name] = plain, mine if name == "input" else other
                expected = connection.evaluate(function, tensors, {}, [gradient])[gradient].data
                memory.map[131072:131072 + len(values)] = os.urandom(len(values))
                connection.evaluate(function, shared, {}, {gradient: into})
                self.assertEqual(memory.map[131072:131072 + len(values)], expected)

    @unittest.skipIf(SANITIZER, "no plugin's process runs under a sanitizer")
    def test_a_plugin_in_a_process_gets_copies_and_its_results_are_brought_there(self):
        connection = self.connect()
        memory = self.region(connection, 1, 8 << 20)
        for count in (10, 500_000):
            with self.subTest(count):
                values = struct.pack(f"<{count}f", *(random.uniform(-2, 2) for _ in range(count)))
                signs = struct.pack(f"<{count}f", *(random.choice((-1, 1)) for _ in range(count)))
                memory.map[:len(values)] = values
                memory.map[2 << 20:(2 << 20) + len(values)] = signs
                plain = connection.evaluate(
                    "hinge", {"input": Tensor(values), "target": Tensor(signs)}, {}, ["loss", "grad.input"])
                message, payload = connection.finish(connection.start(
                    "hinge",
                    {"input": Shared(1, 0, len(values), shape=[count]),
                     "target": Shared(1, 2 << 20, len(values), shape=[count])}, {},
                    {"loss": None, "grad.input": Shared(1, 4 << 20, len(values))}))
                self.assertLess(len(payload), 4 << 10)
                self.assertEqual(Response(message, payload)["loss"].data, plain["loss"].data)
                self.assertEqual(memory.map[4 << 20:(4 << 20) + len(values)], plain["grad.input"].data)

    def test_a_stream_reads_batches_and_what_stays_from_there(self):
        connection = self.connect()
        memory = self.region(connection, 1, 1 << 16)
        logits = [[0.5, -1.0, 2.0], [1.0, 0.0, -2.0]]
        memory.map[:24] = struct.pack("<6f", *sum(logits, []))
        memory.map[64:80] = struct.pack("<2q", 2, 0)
        memory.map[128:140] = struct.pack("<3f", 1, 2, 3)
        tensors = {"input": Tensor(sum(logits, []), shape=[2, 3]), "target": Tensor([2, 0], "int64"),
                   "weight": Tensor([1.0, 2.0, 3.0])}
        expected = connection.evaluate("cross_entropy", tensors)["loss"].values()[0]
        shared = {"input": Shared(1, 0, 24, shape=[2, 3]), "target": Shared(1, 64, 16, "int64", [2])}
        stream = connection.open(STREAM)
        connection.send(frame(MESSAGE, stream, *request(
            "cross_entropy", {**shared, "weight": Shared(1, 128, 12, shape=[3])}, {}, ["loss"], 1)))
        _, _, _, message, payload = connection.receive_of(stream)
        self.assertAlmostEqual(Response(message, payload)["loss"].values()[0], expected, 6)
        # What stays was copied: the client may do with its memory what it likes.
        memory.map[128:140] = bytes(12)
        connection.send(frame(MESSAGE, stream, *request("", shared, {}, (), 2), END_STREAM))
        _, _, _, message, payload = connection.receive_of(stream)
        self.assertAlmostEqual(Response(message, payload)["loss"].values()[0], expected, 6)
        _, _, flags, message, payload = connection.receive_of(stream)
        self.assertEqual(flags, END_STREAM)
        self.assertEqual(Response(message, payload).summary["rows"], 4)
        stream = connection.open(STREAM)
        connection.send(frame(MESSAGE, stream, *request(
            "cross_entropy", shared, {}, {"loss": Shared(1, 256, 4)}), END_STREAM))
        with self.assertRaises(CallError) as caught:
            connection.finish(stream)
        self.assertEqual(caught.exception.code, 3)
        self.assertIn("for Evaluate alone", caught.exception.text)

    # ---- what is refused

    def test_what_cannot_be_a_region_is_refused_by_its_reason(self):
        connection = self.connect()
        for length, code, text in ((0, 3, "length is 0"), (1 << 63, 8, "the most there can be"),
                                   ((1 << 64) - 1, 8, "the most there can be"),
                                   (1 << 27, 8, r"the limit is 67108864 \(limits.connection_bytes\)")):
            with self.subTest(text):
                got, reason = self.refusal(connection, 1, length)
                self.assertEqual(got, code, reason)
                self.assertRegex(reason, text)
        self.region(connection, 1, 1 << 16)
        self.assertEqual(self.refusal(connection, 1, 1 << 16)[0], 6)
        connection.release(2)
        self.assertEqual(connection.answer_of(RELEASE, 2)[0], 5)

    def test_a_regions_memory_has_its_size_for_ever(self):
        connection = self.connect()
        for id, (length, size) in enumerate(((1, 65536), (65536, 65536), (65537, 69632), (1 << 20, 1 << 20)), 1):
            memory = self.region(connection, id, length)
            self.assertEqual(memory.size, size)
            self.assertEqual(fcntl.fcntl(memory.fd, F_GET_SEALS) & 7, SHRINK | GROW | SEAL)
            for change in (lambda: os.ftruncate(memory.fd, 0), lambda: os.ftruncate(memory.fd, 1 << 22),
                           lambda: fcntl.fcntl(memory.fd, F_ADD_SEALS, 8)):
                self.assertRaises(PermissionError, change)
            self.assertEqual(memory.map[:], bytes(length))
        for begin, length in ((0, 4), (60, 4), (65536, 4), (64, 1)):
            with self.assertRaises(CallError):
                connection.evaluate("sigmoid", {"input": Shared(1, begin, length, shape=[length // 4])})

    def test_a_region_frame_may_come_in_pieces_and_many_at_once(self):
        connection = self.connect()
        data = frame(REGION, 0, number(1, 9) + number(2, 4096))
        for cut in (1, 8, 15, 16, 17, len(data) - 1):
            connection.send(data[:cut])
            time.sleep(0.01)
            connection.send(data[cut:])
            self.assertEqual(connection.answer_of(REGION, 9)[0], 0)
            os.close(connection.descriptors.pop(0))
            connection.release(9)
            self.assertEqual(connection.answer_of(RELEASE, 9)[0], 0)
        for id in range(1, 101):
            connection.ask_region(id, 4096 * id)
        for id in range(1, 101):
            self.assertEqual(connection.answer_of(REGION, id)[0], 0)
            self.assertEqual(len(connection.descriptors), 1)
            self.assertEqual(os.fstat(connection.descriptors[0]).st_size, max(65536, 4096 * id))
            os.close(connection.descriptors.pop())

    def test_a_region_that_is_released_before_it_is_made_is_neither(self):
        """The client reads nothing meanwhile, so that answers wait: no descriptor is held for it."""
        connection = self.connect()
        big = frame(MESSAGE, 1, *request("sigmoid", {"input": Tensor(bytes(2 << 20))}), END_STREAM)
        connection.receive()
        before = self.daemon.descriptors()
        connection.open(EVALUATE)
        connection.send(big)
        # Its answer, of which only the beginning can be sent now.
        self.assertTrue(select.select([connection.socket], [], [], 20)[0])
        time.sleep(0.2)
        for id in range(1, 101):
            connection.ask_region(id, 4096)
        for id in range(1, 51):
            connection.release(id)
        time.sleep(0.2)
        self.assertEqual(self.daemon.descriptors(), before)
        codes = {}
        while len(codes) < 100:
            kind, _, _, message, _ = connection.receive()
            fields = parse(message)
            if kind == REGION:
                codes[fields[1][0]] = parse(fields[2][0]).get(1, [0])[0] if 2 in fields else 0
        self.assertEqual([codes[id] for id in range(1, 101)], [1] * 50 + [0] * 50)
        self.assertEqual(len(connection.descriptors), 50)
        while connection.descriptors:
            os.close(connection.descriptors.pop())

    def test_ranges_that_lie_are_refused_by_name(self):
        connection = self.connect()
        self.region(connection, 1, 1 << 16)
        good = Shared(1, 0, 40, shape=[10])
        cases = [
            ({"input": Shared(9, 0, 40, shape=[10])}, (), "region 9 is not registered"),
            ({"input": Shared(1, 4, 40, shape=[10])}, (), "multiple of 64"),
            ({"input": Shared(1, 65536, 40, shape=[10])}, (), "outside the region"),
            ({"input": Shared(1, 65472, 80, shape=[20])}, (), "outside the region"),
            ({"input": Shared(1, (1 << 64) - 64, 80, shape=[20])}, (), "outside the region"),
            ({"input": Shared(1, 0, 44, shape=[10])}, (), "region length is 44, expected 40"),
            ({"input": good}, {"output": Shared(9, 0, 40)}, "region 9 is not registered"),
            ({"input": good}, {"output": Shared(1, 32, 40)}, "multiple of 64"),
            ({"input": good}, {"output": Shared(1, 65536, 40)}, "not a range"),
            ({"input": good}, {"output": Shared(1, 64, (1 << 64) - 1)}, "not a range"),
            ({"input": good}, {"output": Shared(1, 64, 44)}, "has 44 bytes, the result has 40"),
            ({"input": good}, {"output": Shared(1, 0, 40)}, "overlaps the input input"),
            ({"input": good}, {"output": Shared(2, 0, 40)}, "region 2 is not registered"),
            ({"input": good}, {"output": Shared(1, 64, 40), "grad.input": Shared(1, 64, 40)}, "another output"),
            ({"input": Shared(1, 64, 80, shape=[20])}, {"output": Shared(1, 128, 80)}, "overlaps"),
        ]
        for inputs, outputs, text in cases:
            with self.subTest(text), self.assertRaises(CallError) as caught:
                connection.evaluate("sigmoid", inputs, {}, outputs)
            self.assertEqual(caught.exception.code, 3, caught.exception.text)
            self.assertIn(text, caught.exception.text)
        self.assertEqual(
            connection.evaluate("sigmoid", {"input": good})["output"].values(), [0.5] * 10)

    @unittest.skipIf(SANITIZER, "no plugin's process runs under a sanitizer")
    def test_a_range_that_lies_is_refused_for_a_plugins_result_too(self):
        connection = self.connect()
        self.region(connection, 1, 1 << 16)
        good = Shared(1, 0, 40, shape=[10])
        with self.assertRaises(CallError) as caught:
            connection.evaluate("hinge", {"input": good, "target": good}, {}, {"grad.input": Shared(1, 64, 44)})
        self.assertEqual(caught.exception.code, 3)

    def test_over_tcp_there_is_none(self):
        with Connection(self.daemon.tcp, features=["shm"]) as connection:
            kind, _, _, message, _ = connection.receive()
            self.assertNotIn(6, parse(message))
            for outputs, inputs in (((), {"input": Shared(1, 0, 40, shape=[10])}),
                                    ({"output": Shared(1, 0, 4)}, {"input": Tensor([1.0])})):
                with self.assertRaises(CallError) as caught:
                    connection.evaluate("sigmoid", inputs, {}, outputs)
                self.assertEqual(caught.exception.code, 9)
            connection.send(frame(REGION, 0, number(1, 1) + number(2, 4096)))
            with self.assertRaises(CallError):
                connection.answer_of(REGION, 1)
        with self.daemon.connect() as connection:
            kind, _, _, message, _ = connection.receive()
            self.assertEqual(parse(message)[6], [b"shm"])

    # ---- life and limits

    def test_a_release_is_answered_when_no_call_uses_the_region(self):
        connection = self.connect()
        memory = self.region(connection, 1, 32 << 20)
        self.assertEqual(self.refusal(connection, 2, 40 << 20)[0], 8)
        count = 4 << 20
        stream = connection.start("softmax", {"input": Shared(1, 0, 4 * count, shape=[4, count // 4])}, {},
                                  {"output": Shared(1, 16 << 20, 4 * count)})
        kinds = []
        connection.release(1)
        while len(kinds) < 2:
            kind, got, _, message, _ = connection.receive()
            if (kind, got) in ((MESSAGE, stream), (RELEASE, 0)):
                kinds.append(kind)
        self.assertEqual(kinds, [MESSAGE, RELEASE])
        self.assertEqual(memory.map[16 << 20:(16 << 20) + 64], bytes(64))  # freed
        with self.assertRaises(CallError):
            connection.evaluate("sigmoid", {"input": Shared(1, 0, 4, shape=[1])})
        # Its bytes count no longer.
        self.region(connection, 3, 40 << 20)

    def test_regions_end_with_their_connection(self):
        before = self.daemon.descriptors()
        for _ in range(20):
            connection = self.connect()
            self.region(connection, 1, 32 << 20)
            connection.start("sigmoid", {"input": Shared(1, 0, 32 << 20, shape=[8 << 20])}, {}, ())
            self.doCleanups()
        with self.daemon.connect() as connection:
            for _ in range(200):
                if self.daemon.status().get(7, [0])[0] == 0:
                    break
            self.assertEqual(self.daemon.status().get(7, [0])[0], 0)
        self.assertLess(self.daemon.descriptors(), before + 4)

    def test_257_regions_are_one_too_many(self):
        connection = self.connect()
        for id in range(256):
            connection.region(id + 1, 4096).close()
        code, text = self.refusal(connection, 999, 4096)
        self.assertEqual(code, 8)
        self.assertIn("has 256 regions", text)
        connection.release(1)
        self.assertEqual(connection.answer_of(RELEASE, 1)[0], 0)
        self.region(connection, 999, 4096)

    # ---- a client that writes at any time

    def test_memory_without_pages_and_pages_taken_away_crash_nobody(self):
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        connection = self.connect()
        memory = self.region(connection, 1, 32 << 20)
        tensor = Shared(1, 0, 8 << 20, shape=[2 << 20])
        into = Shared(1, 16 << 20, 8 << 20)
        stop = threading.Event()

        def punch():
            while not stop.is_set():
                # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
                libc.fallocate(memory.fd, 3, ctypes.c_long(0), ctypes.c_long(32 << 20))

        thread = threading.Thread(target=punch)
        thread.start()
        for _ in range(8):
            connection.evaluate("sigmoid", {"input": tensor}, {}, {"output": into})
        stop.set()
        thread.join()
        with self.assertRaises(OSError):
            os.ftruncate(memory.fd, 4096)
        self.assertEqual(connection.evaluate("sigmoid", {"input": Tensor([0.0])})["output"].values(), [0.5])

    def test_targets_rewritten_all_the_time_are_each_right_or_refused(self):
        calls = 100_000 if os.environ.get("LOSSD_SOAK") == "1" else 3000
        connection = self.connect()
        memory = self.region(connection, 1, 1 << 20)
        big = 16_384
        stop = threading.Event()

        def rewrite():
            values = [struct.pack("<q", value) for value in (0, 3, 1 << 40, -(1 << 40), 2, -1)]
            wide = [value * big for value in values[:4]]
            while not stop.is_set():
                for value in values:
                    memory.map[4096:4104] = value
                memory.map[131072:131072 + 8 * big] = random.choice(wide)

        thread = threading.Thread(target=rewrite)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(stop.set)
        memory.map[:16] = struct.pack("<4f", 1, 2, 3, 4)
        small = {"input": Shared(1, 0, 16, shape=[1, 4]), "target": Shared(1, 4096, 8, "int64", [1])}
        wide = {"input": Tensor([0.0] * (4 * big), shape=[big, 4]),
                "target": Shared(1, 131072, 8 * big, "int64", [big])}
        good = [connection.evaluate(
            "cross_entropy", {"input": Tensor([1.0, 2.0, 3.0, 4.0], shape=[1, 4]), "target": Tensor([c], "int64")}
        )["loss"].data for c in range(4)]
        outcomes = {"ok": 0, "refused": 0}
        for index in range(calls):
            inputs = wide if index % 50 == 0 else small
            try:
                loss = connection.evaluate("cross_entropy", inputs)["loss"].data
                outcomes["ok"] += 1
                if inputs is small:
                    self.assertIn(loss, good)
            except CallError as error:
                self.assertEqual(error.code, 3, error.text)
                self.assertRegex(error.text, r"target\[\d+\] is -?\d+, outside|target is")
                outcomes["refused"] += 1
        self.assertGreater(min(outcomes.values()), 0, outcomes)


if __name__ == "__main__":
    unittest.main()
