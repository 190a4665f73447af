"""The same call in the daemon, in a process, in pieces: the same bits, with any number of workers; and reloads."""

import math
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from isolation import PluginDaemon, until
from plugin_files import make_plugins
from wire import END_STREAM, MESSAGE, STREAM, CallError, Response, Tensor, frame, request

SOAK = os.environ.get("LOSSD_SOAK") == "1"
PLACES = ("witness_here", "witness_there")


def floats(count, seed=0):
    """Numbers whose sum depends on the order of its terms."""
    source = random.Random(seed)
    pattern = struct.pack("<1021f", *(source.uniform(-1, 1) * 10 ** source.randint(-6, 6) for _ in range(1021)))
    return (pattern * (4 * count // len(pattern) + 1))[:4 * count]


class SameBits(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemons = [
            PluginDaemon("witness_here.so", "witness_there.so", plugins__isolation="process",
                         plugins__in_daemon="witness_here.so", plugins__memory="4GiB", workers=workers)
            for workers in (1, 4)]
        for daemon in cls.daemons:
            listed = daemon.list()
            assert [listed[name]["isolation"] for name in PLACES] == ["none", "process"], daemon.log()

    @classmethod
    def tearDownClass(cls):
        for daemon in cls.daemons:
            daemon.end()

    def everywhere(self, inputs, attributes=None, outputs=("output", "loss")):
        """The outputs, the same bits at every place; a refusal with its text where it is one."""
        found = {}
        for workers, daemon in enumerate(self.daemons):
            with daemon.connect(timeout=120) as connection:
                for function in PLACES:
                    try:
                        response = connection.evaluate(function, inputs, attributes or {}, list(outputs))
                        found[workers, function] = [
                            (response[name].data_type, response[name].shape, response[name].data) for name in outputs]
                    except CallError as error:
                        found[workers, function] = error.code, error.text.replace(function, "witness")
        first = found[0, PLACES[0]]
        for place, other in found.items():
            self.assertTrue(other == first, f"{place}: not the same as in the daemon with one worker")
        return first

    def test_of_every_size(self):
        """Empty, small ones in messages, big ones in memory that is shared, past any boundary by one."""
        for count in (0, 1, 2, 1000, 1023, 1024, 1025, 4095, 4096, 4097, 5000, 100_000, 1_000_003, 4 << 20):
            with self.subTest(count):
                output, loss = self.everywhere({"input": Tensor(floats(count))}, {"scale": 3.0})
                self.assertEqual(len(output[2]), 4 * count)
                if count:
                    largest = max(map(abs, struct.unpack(f"<{min(count, 1021)}f", floats(min(count, 1021)))))
                    value = struct.unpack_from("<f", floats(1))[0]
                    expected = struct.unpack("<f", struct.pack("<f", value * 3))[0] + largest
                    self.assertAlmostEqual(struct.unpack_from("<f", output[2])[0] / expected, 1, 5)
                    self.assertTrue(math.isfinite(struct.unpack("<d", loss[2])[0]))

    def test_of_100_MB(self):
        self.everywhere({"input": Tensor(floats(25_000_000), shape=[1000, 25_000])}, outputs=["output", "loss"])

    def test_of_64_dimensions_and_of_none(self):
        self.everywhere({"input": Tensor([2.5], shape=[])})
        self.everywhere({"input": Tensor(floats(4), shape=[1] * 31 + [2] + [1] * 31 + [2])})
        for shape in ([0], [3, 0, 4], [0] * 64):
            output, _ = self.everywhere({"input": Tensor(b"", shape=shape)})
            self.assertEqual((output[1], output[2]), (shape, b""))
        # One dimension too many is refused in the same words.
        with self.daemons[0].connect() as connection, self.assertRaises(CallError):
            connection.evaluate(PLACES[1], {"input": Tensor([1.0], shape=[1] * 65)})

    def test_with_long_texts(self):
        for text in ("", "x", "grüße " * 100, "y" * 20_000, "z" * 100_000):
            (_, _, data), = self.everywhere({"input": Tensor([1.0])}, {"text": text}, ["text"])
            self.assertEqual(struct.unpack("<2d", data), (sum(text.encode()), len(text.encode())))
        # More than a message takes is refused where there is one, and served where there is none.
        with self.daemons[0].connect() as connection:
            attributes = {"text": "w" * 200_000}
            connection.evaluate(PLACES[0], {"input": Tensor([1.0])}, attributes)
            with self.assertRaises(CallError) as caught:
                connection.evaluate(PLACES[1], {"input": Tensor([1.0])}, attributes)
            self.assertEqual(caught.exception.code, 8)
            self.assertIn("take more than the 131072 bytes", caught.exception.text)

    def test_with_many_inputs(self):
        for size in (1, 100, 2000, 50_000):
            inputs = {"input": Tensor(floats(1000)), "weight": Tensor(floats(7, 1))}
            for index in range(30):
                inputs[f"other{index}"] = Tensor([float(index)] * size)
            *_, (_, _, many) = self.everywhere(inputs, outputs=["output", "loss", "many"])
            self.assertEqual(struct.unpack("<d", many)[0], sum((index + 1) * index for index in range(30)))

    def test_errors_have_the_same_words(self):
        for inputs, attributes, code in (
                ({}, {}, 3), ({"input": Tensor([1], "int64")}, {}, 3), ({"input": Tensor([1.0])}, {"scale": "x"}, 3),
                ({"input": Tensor([1.0]), "nope": Tensor([1.0])}, {}, 3), ({"input": Tensor([1.0])}, {"nope": 1}, 3)):
            self.assertEqual(self.everywhere(inputs, attributes)[0], code)

    def test_of_streams_merged_by_the_plugin(self):
        """Batches of many sizes, an input that stays and changes, a merge that is no addition."""
        batches = [floats(count, count) for count in (1, 900, 4500, 100_000, 3, 20_000, 1)]
        found = {}
        for workers, daemon in enumerate(self.daemons):
            with daemon.connect(timeout=60) as connection:
                for function in PLACES:
                    for weights in (7, 2000):
                        stream = connection.open(STREAM)
                        for index, data in enumerate(batches):
                            inputs = {"input": Tensor(data)}
                            if index in (0, 4):
                                inputs["weight"] = Tensor(floats(weights, index))
                            connection.send(frame(MESSAGE, stream, *request(
                                function if index == 0 else "", inputs, {"scale": 0.5} if index == 0 else None,
                                ["output", "loss"] if index == 0 else (), id=index), END_STREAM
                                if index == len(batches) - 1 else 0))
                        answers = []
                        for _ in range(len(batches) + 1):
                            kind, _, _, message, payload = connection.receive_of(stream)
                            self.assertEqual(kind, MESSAGE, message)
                            response = Response(message, payload)
                            answers.append((response.id, [response[name].data for name in response.outputs],
                                            response.summary))
                        found[workers, function, weights] = answers
        for weights in (7, 2000):
            first = found[0, PLACES[0], weights]
            self.assertEqual(first[-1][2]["batches"], len(batches))
            for place, other in found.items():
                if place[2] == weights:
                    self.assertTrue(other == first, f"{place}: not the same as in the daemon with one worker")
            # In one call: the largest is that of all, and the sum is one of every batch's own outputs.
            state = first[-1][2]["state"]
            self.assertEqual(state["largest"], max(abs(value) for data in batches
                                                   for value in struct.unpack(f"<{len(data) // 4}f", data)))

    def test_of_parts_merged_by_the_plugin(self):
        """What streams came to apart, given to another one: a merge that is no addition, in the daemon or apart."""
        batches = [floats(count, count) for count in (1, 900, 30, 7)]
        for daemon in self.daemons:
            with daemon.connect(timeout=60) as connection:
                for function in PLACES:
                    def summary(batches, parts):
                        stream = connection.open(STREAM)
                        connection.send(frame(MESSAGE, stream, *request(
                            function, {"weight": Tensor(floats(7))}, {"scale": 0.5}, ["loss"], parts=parts)))
                        for data in batches:
                            connection.send(frame(MESSAGE, stream, *request("", {"input": Tensor(data)})))
                        connection.send(frame(MESSAGE, stream, b"", b"", END_STREAM))
                        while True:
                            kind, _, _, message, payload = connection.receive_of(stream)
                            self.assertEqual(kind, MESSAGE, message)
                            response = Response(message, payload)
                            if response.summary:
                                return response.summary

                    whole = summary(batches, [])
                    apart = [summary([data], []) for data in batches]
                    self.assertTrue(summary([], apart) == whole, function)
                    self.assertTrue(summary(batches[3:], [summary([], apart[:2]), apart[2]]) == whole, function)

    def test_what_a_big_call_costs_its_neighbours(self):
        """Memory for it is not allocated on the loop: a small call waits for a moment, not for 100 MB."""
        daemon = self.daemons[1]
        # In a process of its own, for this one copies 100 MB a call.
        neighbour = subprocess.Popen(
            [sys.executable, "-c", NEIGHBOUR, daemon.daemon.unix], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=pathlib.Path(__file__).parent)
        with daemon.connect(timeout=60) as connection:
            data = Tensor(bytes(100 << 20))
            neighbour.stdout.readline()
            for _ in range(3):
                connection.evaluate("witness_there", {"input": data}, {}, ["loss"])
        slowest = sorted(float(line) for line in neighbour.communicate("\n")[0].split())
        self.assertGreater(len(slowest), 100)
        self.assertLess(slowest[len(slowest) * 99 // 100], 0.02)


NEIGHBOUR = """
import select, sys, time
from wire import Connection, Tensor
times = []
with Connection(sys.argv[1]) as connection:
    print(flush=True)
    while not select.select([sys.stdin], [], [], 0.001)[0]:
        begin = time.perf_counter()
        connection.evaluate("sigmoid", {"input": Tensor([0.0])})
        times.append(time.perf_counter() - begin)
print(*times, sep="\\n")
"""


class Reloads(unittest.TestCase):
    """A plugin in C, one in C++ and one in Swift, reloaded again and again under load: not one call fails or is wrong,
    memory and descriptors stay as they are."""

    ROUNDS = 1000 if SOAK else 12

    @classmethod
    def setUpClass(cls):
        cls.built = pathlib.Path(tempfile.mkdtemp(prefix="lossd-reloads-"))
        make_plugins(cls.built)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.built)

    def reload(self, isolation):
        names = {"hinge.so": "hinge", "tweedie.so": "tweedie", "soak.so": "swift_soak"}
        inputs = {"input": Tensor([0.5, 2.0, -1.0, 0.25]), "target": Tensor([1.0, 1.0, 0.0, 2.0])}
        calls = (("hinge", inputs), ("tweedie_loss", inputs), ("swift_soak", {"input": inputs["input"]}))
        with PluginDaemon(plugins__isolation=isolation, workers=2) as daemon:
            for file in names:
                shutil.copy(self.built / file, daemon.folder / f".{file}")
                os.rename(daemon.folder / f".{file}", daemon.folder / file)
                daemon.plugin("load", file)
            plugins = {item["file"].split("/")[-1]: name for name, item in daemon.list().items() if item["file"]}
            self.assertEqual(set(plugins), set(names))
            expected, failures, count, stop = {}, [], [0], threading.Event()

            def ask(connection):
                for function, tensors in calls:
                    response = connection.evaluate(function, tensors, {}, ["loss", "grad.input"])
                    bits = response["loss"].data + response["grad.input"].data
                    if expected.setdefault(function, bits) != bits:
                        failures.append(f"{function}: other bits")
                    count[0] += 1

            def load():
                try:
                    with daemon.connect() as connection:
                        while not stop.is_set():
                            ask(connection)
                except Exception as failure:
                    failures.append(failure)

            with daemon.connect() as connection:
                ask(connection)
            threads = [threading.Thread(target=load) for _ in range(3)]
            for thread in threads:
                thread.start()
            try:
                marks = []
                for round in range(self.ROUNDS):
                    for name in plugins.values():
                        daemon.plugin("reload", name)
                    if failures:
                        break
                    if round >= min(self.ROUNDS // 2, 100) and round % max(self.ROUNDS // 10, 1) == 0:
                        marks.append((daemon.daemon.resident_bytes(), daemon.daemon.descriptors()))
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            self.assertEqual(failures, [])
            self.assertGreater(count[0], 10 * self.ROUNDS)
            self.assertEqual(daemon.pinned(), {})
            until(lambda: self.mapped(daemon) == (3 if isolation == "none" else 0), lambda: f"{self.mapped(daemon)} mapped")
            resident, descriptors = zip(*marks)
            # From a warm daemon on: by pages of the allocator's, and by what is being closed just now.
            self.assertLess(max(resident) - resident[0], 24 << 20, resident)
            self.assertLess(max(descriptors) - min(descriptors), 24, descriptors)
            until(lambda: len(daemon.children()) <= (0 if isolation == "none" else 6), daemon.children, 5)
            print(f"{isolation}: {3 * self.ROUNDS} reloads, {count[0]} calls, resident {resident[0] >> 20} to "
                  f"{resident[-1] >> 20} MiB, {descriptors[0]} to {descriptors[-1]} descriptors")
            self.assertEqual(daemon.daemon.stop(), 0)

    def mapped(self, daemon):
        """Plugins' libraries in the daemon's memory."""
        return len({line.split()[4] for line in pathlib.Path(f"/proc/{daemon.pid}/maps").read_text().splitlines()
                    if "lossd-plugin" in line})

    def test_in_the_daemon(self):
        self.reload("none")

    def test_in_processes(self):
        self.reload("process")


if __name__ == "__main__":
    unittest.main()
