"""What the daemon does at each of its limits, beside heavy neighbours, and under abuse.

Shortened by default; LOSSD_SOAK=1 (make soak) runs everything in full length.
"""

import math
import multiprocessing
import os
import random
import resource
import socket
import threading
import time
import unittest

from daemon import KEPT_WHEN_FREED, SANITIZER, Daemon, measured
from test_streams import Stream
from wire import (
    CREDIT, END_STREAM, EVALUATE, GOAWAY, HELLO, MESSAGE, OPEN, PREFACE, STATUS, STREAM, CallError,
    Connection, Response, Tensor, block, frame, hello, open_call, parse, request)

SOAK = os.environ.get("LOSSD_SOAK") == "1"
MIB = 1 << 20


def small_call(connection):
    return connection.evaluate("cross_entropy", {
        "input": Tensor(range(10), shape=[1, 10]), "target": Tensor([3], "int64")})


def percentile(values, share):
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


class Limits(unittest.TestCase):
    def test_what_is_over_a_limit_of_the_call_is_refused_on_that_call(self):
        with Daemon(limits__payload_bytes="1MiB", limits__message_bytes="64KiB",
                    limits__connection_bytes="4MiB") as daemon, daemon.connect() as connection:
            def refused(code, text, action):
                with self.assertRaises(CallError) as caught:
                    action()
                self.assertEqual(caught.exception.code, code, caught.exception.text)
                self.assertIn(text, caught.exception.text)
                small_call(connection)

            refused(8, "the payload has", lambda: connection.evaluate(
                "sigmoid", {"input": Tensor(bytes(2 * MIB))}))
            refused(8, "the message has", lambda: connection.call(EVALUATE, block(1, bytes(70_000))))
            stream = connection.next_stream
            connection.send(frame(OPEN, stream, block(1, bytes(70_000))))
            connection.next_stream += 2
            refused(8, "the message has", lambda: connection.finish(stream))
            # A result that can never fit: the gradient and the output of 1 MiB are float32 from uint8.
            refused(8, "payload, results and working memory take", lambda: connection.evaluate(
                "softmax", {"input": Tensor(bytes(MIB), "uint8")}, {"dtype": "float64"}))

    def test_every_limit_is_told_by_the_status(self):
        settings = {
            "message_bytes": "1MiB", "payload_bytes": "3MiB", "streams": 11, "stream_credit": 5,
            "connections": 77, "connection_bytes": "5MiB", "total_bytes": "6MiB",
            "hello_timeout": "7s", "frame_timeout": "8s", "idle_timeout": "9s",
            "write_timeout": "10s", "starve_timeout": "11s", "drain_timeout": "12s",
            "queued_bytes": "2MiB", "user_bytes": "4MiB", "user_connections": 33,
            "user_streams": 44, "region_bytes": "7MiB", "user_region_bytes": "3MiB",
            "regions": 55, "user_regions": 22, "region_grace": "13s", "call_cost": "14s",
            "wait_timeout": "15s"}
        with Daemon(**{f"limits__{name}": item for name, item in settings.items()}) as daemon:
            told = parse(daemon.status()[14][0])
            self.assertEqual([told[field][0] for field in range(1, 25)], [
                MIB, 3 * MIB, 11, 5, 77, 5 * MIB, 6 * MIB, 7_000_000, 8_000_000, 9_000_000,
                10_000_000, 11_000_000, 12_000_000, 2 * MIB, 4 * MIB, 33, 44, 7 * MIB, 3 * MIB, 55,
                22, 13_000_000, 14_000_000, 15_000_000])

    def test_the_clients_own_limits_are_kept(self):
        with Daemon() as daemon, daemon.connect(max_payload_bytes=MIB) as connection:
            with self.assertRaises(CallError) as caught:
                connection.evaluate("sigmoid", {"input": Tensor(bytes(2 * MIB))})
            self.assertEqual(caught.exception.code, 8)
            small_call(connection)

    def test_over_the_bytes_in_flight_reading_stops_and_resumes(self):
        with Daemon(limits__payload_bytes="4MiB", limits__connection_bytes="12MiB",
                    limits__total_bytes="24MiB") as daemon:
            connections = [daemon.connect() for _ in range(6)]
            tensor = Tensor(bytes(4 * MIB), shape=[1024, 1024])
            results = []

            def run(connection):
                for _ in range(5):
                    results.append(connection.evaluate("softmax", {"input": tensor}))

            threads = [threading.Thread(target=run, args=(item,)) for item in connections]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
            self.assertEqual(len(results), 30)
            for connection in connections:
                connection.close()
            self.assertLess(daemon.resident_bytes(), 150 * MIB)

    def test_a_reader_that_reads_nothing_costs_bounded_memory(self):
        with Daemon(limits__connection_bytes="64MiB", limits__write_timeout="2s") as daemon:
            connection = daemon.connect(timeout=1)
            resident = daemon.resident_bytes()
            tensor = Tensor(bytes(MIB), shape=[256, 1024])
            sent = 0
            try:
                for _ in range(1000):
                    connection.start("softmax", {"input": tensor})
                    sent += 1
            except TimeoutError:
                pass
            self.assertLess(sent, 300)
            self.assertLess(daemon.resident_bytes() - resident, 160 * MIB)
            with daemon.connect() as other:
                small_call(other)
            # The write timeout ends it.
            deadline = time.time() + 20
            while daemon.status().get(4, [0])[0] > 1:
                self.assertLess(time.time(), deadline)
                time.sleep(0.1)
            connection.close()

    def test_holding_credit_back_blocks_nobody_else(self):
        with Daemon(limits__connection_bytes="16MiB", limits__total_bytes="20MiB",
                    limits__starve_timeout="1s") as daemon:
            with daemon.connect() as greedy, daemon.connect() as other:
                stream = Stream(greedy, credit=1)
                batch = {"input": Tensor(bytes(2 * MIB), shape=[512, 1024])}
                for index in range(6):
                    stream.send("softmax" if index == 0 else "", batch, id=index)
                stream.receive()
                start = time.perf_counter()
                other.evaluate("softmax", {"input": Tensor(bytes(6 * MIB), shape=[1536, 1024])})
                self.assertLess(time.perf_counter() - start, 10)
                # The greedy connection itself still answers.
                greedy.ping()

    def test_timeouts_of_hello_and_of_a_stalled_frame(self):
        with Daemon(limits__hello_timeout="300ms", limits__frame_timeout="300ms",
                    limits__idle_timeout="600ms") as daemon:
            silent = Connection(daemon.unix, greet=False, timeout=5)
            start = time.perf_counter()
            with self.assertRaises(EOFError):
                silent.read(1)
            self.assertGreater(time.perf_counter() - start, 0.25)
            stalled = daemon.connect(timeout=5)
            stalled.send(open_call(1, EVALUATE) + frame(
                MESSAGE, 1, *request("sigmoid", {"input": Tensor(bytes(4000))}), END_STREAM)[:-50])
            kinds = []
            with self.assertRaises(EOFError):
                while True:
                    kinds.append(stalled.receive()[0])
            self.assertEqual(kinds, [HELLO, GOAWAY])
            idle = daemon.connect(timeout=5)
            small_call(idle)
            with self.assertRaises(EOFError):
                while True:
                    self.assertIn(idle.receive()[0], (GOAWAY,))
            for connection in (silent, stalled, idle):
                connection.close()

    def test_accepting_pauses_at_the_descriptor_limit_and_drops_nobody(self):
        with Daemon(descriptors=64) as daemon:
            waiting = [Connection(daemon.unix, timeout=20) for _ in range(150)]
            time.sleep(0.3)
            before = self.processor_time(daemon)
            time.sleep(1)
            self.assertLess(self.processor_time(daemon) - before, 0.3)
            self.assertIn("accepting on", daemon.log())
            answered = 0
            for connection in waiting:
                self.assertEqual(connection.receive()[0], HELLO)
                small_call(connection)
                connection.close()
                answered += 1
            self.assertEqual(answered, 150)

    def processor_time(self, daemon):
        with open(f"/proc/{daemon.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Crowds(unittest.TestCase):
    def test_ten_thousand_idle_connections(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # As many as the system lets this process have; the daemon raises its own limit.
        count = min(10_000, hard - 200)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 200), hard))
        try:
            with Daemon(limits__user_connections=20_000) as daemon:
                print(f"{count} idle connections")
                crowd = []
                for _ in range(count):
                    item = socket.socket(socket.AF_UNIX)
                    item.connect(daemon.path)
                    item.sendall(PREFACE + hello())
                    crowd.append(item)
                with daemon.connect() as connection:
                    def slow_call():
                        """What one in a hundred calls takes, seconds."""
                        times = []
                        for _ in range(200):
                            start = time.perf_counter()
                            small_call(connection)
                            times.append(time.perf_counter() - start)
                        return percentile(times, 0.99)

                    self.assertLess(measured(slow_call, lambda seconds: seconds < 0.05), 0.05)
                self.assertGreaterEqual(daemon.status()[4][0], count)
                for item in crowd:
                    item.close()
                deadline = time.time() + 20
                while daemon.status()[4][0] > 1:
                    self.assertLess(time.time(), deadline)
                    time.sleep(0.1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_clients_that_vanish_at_random_bytes_leave_nothing(self):
        seconds = 60 if SOAK else 6
        seed = int(os.environ.get("LOSSD_SEED", random.SystemRandom().randrange(2**32)))
        print(f"vanishing clients, seed {seed}")
        batch, payload = request("cross_entropy", {
            "input": Tensor(bytes(4 * 4000), shape=[400, 10]),
            "target": Tensor(bytes(8 * 400), "int64")}, None, ("loss", "grad.input"))
        data = PREFACE + hello() + open_call(1, EVALUATE) + frame(
            MESSAGE, 1, batch, payload, END_STREAM) + open_call(3, STREAM) + frame(
            MESSAGE, 3, batch, payload) * 3 + frame(MESSAGE, 3, flags=END_STREAM)
        with Daemon() as daemon:
            stop = time.time() + seconds
            done = [0]

            def vanish(number):
                source = random.Random(seed + number)
                while time.time() < stop:
                    item = socket.socket(socket.AF_UNIX)
                    try:
                        item.connect(daemon.path)
                        item.sendall(data[:source.randrange(len(data) + 1)])
                        if source.random() < 0.3:
                            item.recv(source.randrange(1, 5000))
                    except (BrokenPipeError, ConnectionResetError, BlockingIOError):
                        pass
                    item.close()
                    done[0] += 1

            def crowd():
                threads = [threading.Thread(target=vanish, args=(n,)) for n in range(200)]
                for thread in threads:
                    thread.start()
                return threads

            threads = crowd()
            time.sleep(seconds / 3)
            resident, descriptors = daemon.resident_bytes(), None
            for thread in threads:
                thread.join()
            deadline = time.time() + 20
            while daemon.status()[4][0] > 1:
                self.assertLess(time.time(), deadline)
                time.sleep(0.1)
            descriptors = daemon.descriptors()
            status = daemon.status()
            print(f"{done[0]} clients, {daemon.resident_bytes() >> 20} MiB, {descriptors} descriptors")
            self.assertEqual(status.get(7, [0])[0], 0)
            self.assertLess(daemon.resident_bytes() - resident, 32 * MIB + KEPT_WHEN_FREED)
            self.assertLess(descriptors, 40)

    def test_a_data_set_larger_than_the_daemon(self):
        total = (2 << 30) if SOAK else (384 << 20)
        rows, columns = 4096, 256
        batch = rows * columns * 4 + rows * 8
        count = total // batch
        inputs = {"input": Tensor(bytes(rows * columns * 4), shape=[rows, columns]),
                  "target": Tensor(bytes(rows * 8), "int64")}
        first = frame(MESSAGE, 1, *request("cross_entropy", inputs))
        later = frame(MESSAGE, 1, *request("", inputs))
        with Daemon() as daemon, daemon.connect() as connection:
            connection.send(open_call(1, STREAM))
            peak, sent, credit = 0, 0, 8
            while True:
                while credit > 0 and sent < count:
                    connection.send(first if sent == 0 else later)
                    sent, credit = sent + 1, credit - 1
                    if sent == count:
                        connection.send(frame(MESSAGE, 1, flags=END_STREAM))
                    peak = max(peak, daemon.resident_bytes())
                kind, stream, flags, message, payload = connection.receive()
                if stream != 1:
                    continue
                if kind == CREDIT:
                    credit += parse(message)[1][0]
                if flags & END_STREAM:
                    summary = Response(message, payload).summary
                    break
                self.assertNotEqual(kind, STATUS)
            self.assertEqual(summary["rows"], count * rows)
            print(f"{count * batch >> 20} MiB through a daemon of {peak >> 20} MiB at most")
            self.assertLess(peak, 200 * MIB)


class Loops(unittest.TestCase):
    def test_several_loops_share_connections_memory_and_drain(self):
        with Daemon(loops=3, workers=2, limits__total_bytes="64MiB") as daemon:
            connections = [daemon.connect() for _ in range(7)]
            tensor = Tensor(bytes(4 * MIB), shape=[1024, 1024])
            for _ in range(3):
                streams = [item.start("softmax", {"input": tensor}) for item in connections]
                for item, stream in zip(connections, streams):
                    self.assertEqual(len(item.finish(stream)[1]), 4 * MIB)
                    small_call(item)
            status = daemon.status()
            self.assertEqual((status[17][0], status[4][0]), (3, 8))
            for item in connections:
                item.close()
            self.assertEqual(daemon.stop(), 0)


class Neighbours(unittest.TestCase):
    """A small call's latency alone and beside heavy work, in one run."""

    def measure(self, daemon, seconds):
        with daemon.connect() as connection:
            times, stop = [], time.perf_counter() + seconds
            while time.perf_counter() < stop:
                start = time.perf_counter()
                small_call(connection)
                times.append(time.perf_counter() - start)
                time.sleep(0.0005)
            return times

    def test_latency_beside_heavy_calls(self):
        heavy = {
            "softmax of 100 MB": ("softmax", [26_214, 1000], {}),
            "softmax of 1 x 25,000,000": ("softmax", [1, 25_000_000], {}),
            "softmax along dim 0 of 1,000,000 x 4": ("softmax", [1_000_000, 4], {"dim": 0}),
        }
        # What is sanitized takes some times longer.
        bound = 0.02 if SANITIZER else 0.005
        with Daemon() as daemon:
            alone = self.measure(daemon, 1)
            print(f"alone: p50 {percentile(alone, .5) * 1e6:.0f} us, "
                  f"p99 {percentile(alone, .99) * 1e6:.0f} us")
            for name, (function, shape, attributes) in heavy.items():
                tensor = Tensor(bytes(4 * shape[0] * shape[1]), shape=shape)
                # The best of three: what else the machine does is not what is measured.
                best = math.inf
                for _ in range(3):
                    beside = self.beside(daemon, function, tensor, attributes)
                    worst = percentile(beside, 0.99)
                    print(f"beside {name}: p50 {percentile(beside, .5) * 1e6:.0f} us, "
                          f"p99 {worst * 1e6:.0f} us of {len(beside)}")
                    best = min(best, worst)
                    if best < bound:
                        break
                self.assertLess(best, bound, name)

    def beside(self, daemon, function, tensor, attributes):
        """Latencies while a neighbour has the same heavy call evaluated again and again."""
        stop, failed = multiprocessing.Event(), multiprocessing.Event()

        def neighbour():
            try:
                with daemon.connect(timeout=120) as connection:
                    while not stop.is_set():
                        connection.evaluate(function, {"input": tensor}, attributes)
            except Exception:
                failed.set()
                raise

        # A process of its own: a thread would hold Python's lock while it copies its answers.
        process = multiprocessing.Process(target=neighbour)
        process.start()
        time.sleep(0.3)
        times = self.measure(daemon, 2)
        stop.set()
        process.join()
        self.assertFalse(failed.is_set())
        return times


if __name__ == "__main__":
    unittest.main()
