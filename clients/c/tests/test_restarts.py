"""liblossd while daemons come and go: what never began is tried again, streams go on with the next daemon and count
each batch once, and nothing waits forever."""

import os
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

from harness import FakeServerCase, run, start
from fakes import HI, answer, goaway, listed, status, summary, tensor
from wire import CREDIT, END_STREAM, frame, number, parse
from daemon import Daemon, program

OK_LINE = "OK rank 1 bytes 12 first 0.5"


def names(message):
    """The inputs of a request."""
    return [parse(item)[1][0].decode() for item in parse(message).get(2, [])]


class Drains(FakeServerCase):
    def test_calls_that_never_began_go_to_the_next_daemon(self):
        def first(fake):
            for _ in range(3):
                fake.request()
            fake.send(HI + answer(stream=1) + goaway(2))
            fake.send(answer(stream=2))
            fake.until_closed()

        def second(fake):
            fake.request()
            fake.send(HI + answer(stream=1))
            fake.until_closed()
        self.assertEqual(self.drive([first, second], "calls_into", 3), [OK_LINE] * 3)

    def test_calls_that_never_began_keep_their_order(self):
        def first(fake):
            for _ in range(5):
                fake.request()
            fake.send(HI + goaway(0))

        def second(fake):
            fake.send(HI)
            for index in range(5):
                fake.request()
                fake.send(answer(payload=struct.pack("<3f", index, 0, 0), stream=index + 1))
            fake.until_closed()
        lines = self.drive([first, second], "calls", 5)
        self.assertEqual([line.split()[-1] for line in lines], ["0", "1", "2", "3", "4"])

    def test_a_daemon_that_keeps_shutting_down_is_not_waited_for_forever(self):
        def refuse(fake):
            fake.frame()
            fake.send(HI + goaway(0))
            fake.until_closed()
        began = time.time()
        self.assertRegex(self.drive([refuse] * 50, "calls")[0], "^UNAVAILABLE .*keeps shutting down")
        self.assertLess(time.time() - began, 20)

    def test_a_daemon_that_does_not_come_back_is_not_waited_for_forever(self):
        def serve(fake):
            fake.request()
            fake.send(HI + goaway(0))
        self.assertRegex(self.drive(serve, "calls")[0], "^UNAVAILABLE ")

    def test_what_the_daemon_was_at_when_it_vanished_is_unavailable(self):
        def serve(fake):
            fake.request()
            fake.send(HI + goaway(1))
        self.assertEqual(self.drive(serve, "calls")[0], "UNAVAILABLE the daemon closed the connection")

    def test_a_full_queue_of_connections_is_waited_for(self):
        with tempfile.TemporaryDirectory(prefix="lossd-fake-") as folder:
            path = os.path.join(folder, "socket")
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
                listener.listen(0)
                with socket.socket(socket.AF_UNIX) as waiting:
                    waiting.connect(path)
                    process = start("driver", f"unix:{path}", "ping", env={**os.environ, "PATIENT": "1"})
                    time.sleep(0.3)
                    self.assertIsNone(process.poll())
                    with listener.accept()[0], listener.accept()[0] as connection:
                        connection.sendall(HI)
                        while b"\x07\x00\x00\x00" not in connection.recv(4096):
                            pass
                        connection.sendall(frame(7, 0, bytes(8), flags=2))
                        self.assertEqual(process.communicate(timeout=20)[0].split()[0], "OK")


class StreamDrains(FakeServerCase):
    def list_functions(self, fake, stream=1):
        fake.request()
        fake.send(HI + listed("binary_cross_entropy", "weight", stream=stream))

    def reply(self, fake, stream, batch):
        fake.send(answer(number(1, batch) + tensor("loss"), stream=stream, flags=0)
                  + frame(CREDIT, stream, number(1, 1)))

    def test_a_drained_stream_goes_on_from_the_batch_after_with_the_inputs_that_stay(self):
        seen, before = [], []

        def first(fake):
            self.list_functions(fake)
            fake.request(streams=(2,))
            fake.request(streams=(2,))
            self.reply(fake, 2, 0)
            fake.request(streams=(2,))  # batch 1, which brings another weight
            self.reply(fake, 2, 1)
            fake.request(streams=(2,))
            fake.send(goaway(2) + summary(2, 10, 4, 2, False) + status(14, "draining", 2))
            fake.until_closed()

        def second(fake):
            fake.send(HI)
            head = fake.request()
            seen.append((names(head[3]), struct.unpack("<3f", head[4])))
            before.extend(parse(part) for part in parse(head[3])[6])
            fake.send(frame(CREDIT, 1, number(1, 1)))
            for batch in range(2, 5):
                item = fake.request()
                seen.append((parse(item[3])[5][0], item[2]))
                self.reply(fake, 1, batch)
            self.assertEqual(fake.request()[2:], (END_STREAM, b"", b""))
            fake.send(summary(5, 15, 6, 1, True))
            fake.until_closed()
        lines = self.drive([first, second], "weighted_stream", 5)
        self.assertEqual(lines, ["OK batches 5 rows 15 loss 2.5 loss_sum 15"])
        self.assertEqual(seen, [(["weight"], (4, 5, 6)), (2, 0), (3, 0), (4, 0)])
        self.assertEqual([(part[1], part[2]) for part in before], [([2], [6])])  # what the first daemon said
        sums = [parse(entry)[2][0] for entry in before[0][4]]
        self.assertEqual(sums, [10, 4])

    def test_a_weight_that_an_unanswered_batch_brought_does_not_count_for_the_one_before(self):
        seen = []

        def first(fake):
            self.list_functions(fake)
            fake.request(streams=(2,), count=3)  # batches 0 and 1 are under way, 1 has another weight
            fake.send(goaway(1))
            fake.until_closed()

        def second(fake):
            fake.send(HI)
            head = fake.request()
            seen.append(struct.unpack("<3f", head[4]))
            fake.send(frame(CREDIT, 1, number(1, 1)))
            for batch in range(2):
                seen.append(names(fake.request()[3]))
                self.reply(fake, 1, batch)
            fake.send(summary(2, 5, 2, 1, True))
            fake.until_closed()
        lines = self.drive([first, second], "weighted_stream", 2)
        self.assertEqual(lines[0].split()[:3], ["OK", "batches", "2"])
        self.assertEqual(seen, [(1, 2, 3), ["input"], ["input", "weight"]])

    def test_the_last_daemon_says_what_all_came_to_and_one_that_says_less_is_refused(self):
        # 1: as a daemon that does not know of Summaries to go on from.
        for said, line in ((2, "OK batches 2 rows 6 loss 2.5 loss_sum 15"),
                           (1, "INTERNAL the daemon's summary is of 1 batches, 2 have been answered")):
            def first(fake):
                fake.request()
                fake.send(HI + listed("binary_cross_entropy", "weight"))
                fake.request(streams=(2,))
                fake.request(streams=(2,))
                self.reply(fake, 2, 0)
                fake.request(streams=(2,))
                fake.send(goaway(2) + summary(1, 10, 4, 2, False) + status(14, "draining", 2))
                fake.until_closed()

            def second(fake):
                fake.send(HI)
                fake.request()
                fake.send(frame(CREDIT, 1, number(1, 1)))
                fake.request()
                self.reply(fake, 1, 1)
                fake.request()
                fake.send(summary(said, 15, 6, 1, True))
                fake.until_closed()
            with self.subTest(said):
                self.assertEqual(self.drive([first, second], "weighted_stream", 2)[-1], line)

    def test_a_stream_is_not_begun_anew_forever(self):
        def serve(fake):
            self.list_functions(fake)
            for stream in range(2, 300):
                fake.request(streams=(stream,))
                fake.send(summary(0, 0, 1, stream, False) + status(14, "draining", stream))
        self.assertEqual(self.drive(serve, "weighted_stream", 2)[0],
                         "UNAVAILABLE the daemon keeps ending the stream")


class Absence(unittest.TestCase):
    """The library has no thread of its own: where the daemon ends an idle connection, it may be called too late."""

    def test_memory_that_was_freed_meanwhile_is_an_error_and_never_zeros(self):
        for grace, lines in (("100ms", ["OK", "DATA_LOSS", "DATA_LOSS", "OK"]), ("10s", ["OK"] * 4)):
            with self.subTest(grace), Daemon(limits__idle_timeout="100ms", limits__region_grace=grace) as daemon:
                result = run("driver", daemon.unix, "absent", timeout=60)
                self.assertEqual([line.split()[0] for line in result.stdout.splitlines()], lines, result.stdout)


class Restarts(unittest.TestCase):
    """With the real daemon."""

    def restart(self, daemon, old):
        old.send_signal(signal.SIGTERM)
        while os.path.exists(daemon.path):
            time.sleep(0.01)
        process = subprocess.Popen(
            [program("lossd"), "--listen", daemon.unix, "--set", "limits.drain_timeout=1s"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "LOSSD_KERNELS": "reference"})
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_a_data_set_under_two_restarts_has_the_sums_of_one_without(self):
        count = int(os.environ.get("LOSSD_C_BATCHES", 300_000))
        with Daemon(limits__drain_timeout="1s", kernels="reference") as daemon:
            environment = {**os.environ, "PATIENT": "1"}
            whole = run("driver", daemon.unix, "data_set", count, env=environment, timeout=300).stdout.split()
            self.assertEqual(whole[:3], ["OK", str(count), str(3 * count)])
            process = start("driver", daemon.unix, "data_set", count, env=environment)
            old = daemon.process
            for _ in range(2):
                time.sleep(0.3)
                self.assertIsNone(process.poll(), "the stream was over before the restart")
                new = self.restart(daemon, old)
                self.assertEqual(old.wait(20), 0)
                old = new
            output, errors = process.communicate(timeout=300)
            self.assertEqual(errors, "")
            parts = output.split()
            self.assertEqual(parts[:3], whole[:3], output)
            for ours, theirs in zip(parts[3:], whole[3:]):
                self.assertAlmostEqual(float(ours) / float(theirs), 1, delta=1e-12)

    def test_a_restart_between_two_calls_is_not_noticed(self):
        with Daemon() as daemon:
            process = start("driver", daemon.unix, "on_demand", env={**os.environ, "PATIENT": "1"})

            def call():
                process.stdin.write("\n")
                process.stdin.flush()
                return process.stdout.readline().split()[0]
            self.assertEqual(call(), "OK")
            for signum in (signal.SIGTERM, signal.SIGKILL):
                old = daemon.process
                old.send_signal(signum)
                old.wait(20)
                if os.path.exists(daemon.path) and signum == signal.SIGKILL:
                    os.unlink(daemon.path)
                daemon.process = subprocess.Popen(
                    [program("lossd"), "--listen", daemon.unix], stderr=subprocess.DEVNULL)
                while not os.path.exists(daemon.path):
                    time.sleep(0.01)
                time.sleep(0.2)
                self.assertEqual(call(), "OK")
            output, errors = process.communicate(timeout=20)
            self.assertEqual((output, errors, process.returncode), ("", "", 0))

    def test_a_daemon_that_hangs_is_left_at_the_deadline(self):
        with Daemon() as daemon:
            daemon.process.send_signal(signal.SIGSTOP)
            os.waitpid(daemon.process.pid, os.WUNTRACED)
            try:
                began = time.time()
                result = run("driver", daemon.unix, "calls_300ms")
                self.assertRegex(result.stdout, "^DEADLINE_EXCEEDED ")
                self.assertLess(time.time() - began, 10)
            finally:
                daemon.process.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    unittest.main()
