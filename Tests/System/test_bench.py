"""lossctl bench: it counts what the daemon counts, and tells what goes wrong."""

import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from daemon import DATA, Daemon, lossctl, program
from isolation import PluginDaemon, until
from plugin_files import build
from wire import DAEMON_STATUS, parse


def counted(daemon, function="cross_entropy"):
    """Calls of a function that the daemon has answered, by code."""
    status = lossctl("status", "--json", server=daemon.unix)
    return {call["code"]: call["count"] for call in status["calls"] if call["function"] == function}


def is_connected(daemon):
    """Waits until the benchmark is: a program takes its time to start where others want the processors."""
    with daemon.connect() as connection:
        until(lambda: parse(connection.call(DAEMON_STATUS)[0])[4][0] > 1, "the benchmark has not connected")


def at_once(count, body, cases):
    """Each case with what `body` gives for it, so many at a time."""
    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        return list(zip(cases, threads.map(body, cases)))


# Of functions that take rows of classes alone, or sequences: what the test of every function calls them with.
SHAPES = {name: ("3x7", "10x4", "9") for name in (
    "arcface_loss", "asymmetric_loss_single_label", "cosface_loss", "cosine_embedding_loss", "multi_margin_loss",
    "multilabel_margin_loss")}
SHAPES.update({
    "cosine_similarity": ("3x7", "2x5x4", "3x3"), "ctc_loss": ("3x7", "6x5x4", "9x1"), "glu": ("3x8", "2x5x4", "10"),
    "normalize": ("3x7", "2x5x4", "3x3")})


class Bench(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(tcp=True)
        cls.addClassCleanup(cls.daemon.__exit__)

    def bench(self, *arguments, server=None):
        return lossctl(
            "bench", *arguments, "--json", "--duration", 0.5, "--warm-up", 0, server=server or self.daemon.unix)

    def refused(self, *arguments, server=None):
        result = lossctl("bench", *arguments, server=server or self.daemon.unix, check=False)
        self.assertEqual(result.stdout, "")
        return result.returncode, result.stderr

    def test_it_makes_as_many_calls_as_it_says(self):
        for arguments in (
                (), ("--depth", 100), ("--connections", 5, "--depth", 7), ("--threads", 2, "--connections", 3),
                ("--rate", 2000), ("--rate", 3000, "--threads", 2, "--connections", 2)):
            before = counted(self.daemon).get(0, 0)
            result = self.bench(*arguments)
            self.assertGreater(result["calls"], 100, arguments)
            self.assertEqual((result["failed"], result["unanswered"]), (0, 0), arguments)
            made = counted(self.daemon)[0] - before
            # One is made to try; the last ones may begin after the measured time.
            most = 1 + (result["connections"] * result["depth"] if result["intended_rate"] == 0 else 0)
            self.assertTrue(
                result["calls"] <= made <= result["calls"] + most, (arguments, made, result["calls"], most))
            latency = result["latency_us"]
            self.assertTrue(0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"] <= latency["max"])
            self.assertEqual(sum(count for _, count in result["histogram_us"]), result["calls"])
            # /proc counts in hundredths of a second: less is nothing.
            self.assertGreaterEqual(result["daemon_processors"], 0 if result["intended_rate"] else 0.02)

    def test_calls_that_begin_at_a_rate_are_as_many_as_were_due(self):
        result = self.bench("--rate", 2000)
        self.assertEqual(result["calls"], 1000)

    def test_every_function_and_type_can_be_called_small_and_big_with_gradient_and_by_tcp(self):
        for function in lossctl("functions", "--json", server=self.daemon.unix):
            required = [text for item in function["attributes"] if item["required"]
                        for text in ("--attr", f"{item['name']}={0 if item['type'] == 'int' else 0.5}")]
            usual, deep, flat = SHAPES.get(function["name"], ("3x7", "2x5x4", "9"))
            for type, shape in (("float32", usual), ("float64", deep), ("bfloat16", "300x200"), ("float16", flat)):
                result = lossctl(
                    "bench", function["name"], "--shape", shape, "--dtype", type, "--gradient", "--json",
                    "--duration", 0.1, "--warm-up", 0, *required, server=self.daemon.tcp)
                self.assertEqual(result["failed"], 0, (function["name"], result["first_failure"]))
                self.assertGreater(result["calls"], 0)

    def test_a_big_call_is_sent_whole_and_answered_whole(self):
        result = self.bench("--shape", "64x50257", "--gradient", "--depth", 3)
        self.assertGreater(result["calls"], 3)
        self.assertEqual(result["failed"], 0)
        self.assertGreater(result["call_bytes"], 64 * 50257 * 4)

    def test_inputs_come_from_files_and_attributes_reach_the_function(self):
        result = self.bench(
            "--tensor", f"input={DATA / 'digits_logits.npy'}", "--tensor", f"target={DATA / 'digits_labels.npy'}",
            "--tensor", f"weight={DATA / 'digits_class_weight.npy'}", "--attr", "label_smoothing=0.1")
        self.assertEqual(result["failed"], 0)

    def test_the_processors_of_plugins_processes_are_the_daemons(self):
        with PluginDaemon("hinge.so") as daemon:
            def times(pid):
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

            child, = daemon.children()
            begin, alone = time.monotonic(), times(daemon.pid)
            before = alone + times(child)
            result = json.loads(subprocess.run(
                [program("lossctl"), "bench", "hinge", "--server", daemon.daemon.unix, "--json", "--duration", "2",
                 "--warm-up", "0", "--shape", "1000x1000"], capture_output=True, text=True, check=True, timeout=60).stdout)
            seconds = time.monotonic() - begin
            whole = (times(daemon.pid) + sum(map(times, daemon.children())) - before) / seconds
            alone = (times(daemon.pid) - alone) / seconds
            self.assertGreater(result["daemon_processors"], (alone + whole) / 2)

    def test_calls_that_fail_are_counted_as_failed_and_named(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            build("hinge.c", f"{folder}/hinge.so")
            admin = f"unix:{folder}/admin.sock"
            with Daemon(plugin_folders=folder, admin_listen=admin) as daemon:
                while "hinge 1.0" not in lossctl("plugin", "list", "--server", admin):
                    time.sleep(0.05)
                process = subprocess.Popen(
                    [program("lossctl"), "bench", "hinge", "--server", daemon.unix, "--json", "--duration", "1.5",
                     "--warm-up", "0"], stdout=subprocess.PIPE, text=True)
                while counted(daemon, "hinge").get(0, 0) < 100:
                    time.sleep(0.01)
                lossctl("plugin", "unload", "hinge", "--server", admin)
                result = json.loads(process.communicate(timeout=20)[0])
        self.assertGreater(result["calls"], 50)
        self.assertGreater(result["failed"], 50)
        self.assertIn("NOT_FOUND: no function named `hinge`", result["first_failure"])

    def test_what_it_cannot_do_it_says(self):
        for arguments, code, text in (
                (("nonsense",), 1, "no function"), (("--depth", 1000), 64, "the daemon allows 256"),
                (("--shape", "axb"), 64, "--shape axb"), (("--dtype", "int8"), 64, "--dtype int8"),
                (("--threads", 3), 64, "--threads 3"), (("--duration", 0), 64, "--duration"),
                (("--rate", 0), 64, "--rate"), (("--tensor", f"inptu={DATA / 'digits_logits.npy'}"), 64, "no such input"),
                (("--tensor", "input=/nowhere.npy"), 1, "/nowhere.npy"),
                (("--attr", "label_smoothing=3"), 1, "label_smoothing")):
            found = self.refused(*arguments)
            self.assertEqual(found[0], code, found)
            self.assertIn(text, found[1])
        self.assertEqual(self.refused(server="unix:/nowhere")[0], 69)

    def test_a_daemon_that_goes_away_ends_it(self):
        with Daemon() as daemon:
            process = subprocess.Popen(
                [program("lossctl"), "bench", "--server", daemon.unix, "--duration", "30"], stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL, text=True)
            self.addCleanup(process.stderr.close)
            while counted(daemon).get(0, 0) < 100:
                time.sleep(0.01)
            daemon.process.kill()
            self.assertEqual(process.wait(10), 69)
            self.assertIn("the daemon", process.stderr.read())

    # ---- Restarts ----

    def restarted(self, number, *arguments, comes_back=True, pause=0.4, duration=3):
        """Exit status, result and errors of a benchmark whose daemon ends in the middle, and mostly comes back."""
        with Daemon(limits__drain_timeout="1s") as daemon:
            process = subprocess.Popen(
                [program("lossctl"), "bench", "--server", daemon.unix, "--json", "--duration", str(duration), "--warm-up",
                 "0", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.addCleanup(process.kill)
            while counted(daemon).get(0, 0) < 100:
                time.sleep(0.01)
            daemon.process.send_signal(number)
            daemon.process.wait(20)
            time.sleep(pause)
            if comes_back:
                if os.path.exists(daemon.path):
                    os.unlink(daemon.path)
                next_one = subprocess.Popen(
                    [program("lossd"), "--listen", daemon.unix], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                self.addCleanup(next_one.wait)
                self.addCleanup(next_one.kill)
            begin = time.monotonic()
            out, errors = process.communicate(timeout=duration + 20)
            self.assertLess(time.monotonic() - begin, duration + 12)
        return process.returncode, json.loads(out), errors

    WAYS = ((), ("--depth", 100), ("--connections", 3, "--depth", 20), ("--threads", 2, "--connections", 4),
            ("--rate", 500), ("--rate", 2000, "--connections", 2, "--threads", 2))

    def test_a_benchmark_goes_on_with_the_next_daemon_and_counts_what_was_lost(self):
        cases = [(number, arguments) for number in (signal.SIGKILL, signal.SIGTERM) for arguments in self.WAYS]
        duration = 2
        for (number, arguments), (code, result, errors) in at_once(
                3, lambda case: self.restarted(case[0], *case[1], duration=duration), cases):
            what = (number, arguments, result["calls"], result["failed"], result["unanswered"], errors)
            self.assertEqual((code, errors), (0, ""), what)
            connections = result["connections"]
            self.assertEqual(result["connections_lost"], connections, what)
            self.assertTrue(0.3 < result["seconds_away"] < 3, (what, result["seconds_away"]))
            self.assertEqual(result["unanswered"], 0, what)
            # Those under way when it was killed, and no others; none that was shut down.
            most = 0 if number == signal.SIGTERM else connections * result["depth"]
            self.assertLessEqual(result["failed"], most, what)
            if result["failed"]:
                self.assertIn("UNAVAILABLE: the daemon", result["first_failure"])
            if result["intended_rate"]:
                self.assertEqual(result["calls"] + result["failed"], result["intended_rate"] * duration, what)
                # Calls that were due in between waited for the next daemon.
                self.assertGreater(result["latency_us"]["max"], 300_000, what)
            else:
                self.assertGreater(result["calls"], 100, what)

    def test_without_a_next_daemon_it_ends_with_what_it_has_and_says_so(self):
        cases = [(arguments, duration) for arguments in self.WAYS for duration in (2, 30)]
        # Most of the time nothing happens: they wait for a daemon.
        for (arguments, duration), (code, result, errors) in at_once(
                len(cases), lambda case: self.restarted(
                    signal.SIGKILL, *case[0], comes_back=False, pause=0, duration=case[1]), cases):
            what = (arguments, duration, errors)
            self.assertEqual(code, 69, what)
            self.assertRegex(errors, "^lossctl: unix:.*: the daemon .*, and the daemon has not come back\\n$")
            self.assertGreater(result["calls"], 0, what)
            self.assertGreater(result["connections_lost"], 0, what)
            self.assertLess(result["seconds"], 10, what)
            if arguments[:1] == ("--rate",):
                self.assertGreater(result["unanswered"], 0, what)

    def test_a_daemon_that_comes_back_and_says_nothing_is_not_waited_for(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/socket"
            first = Daemon(path=path)
            self.addCleanup(first.__exit__)
            process = subprocess.Popen(
                [program("lossctl"), "bench", "--server", f"unix:{path}", "--json", "--duration", "60"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.addCleanup(process.kill)
            is_connected(first)
            time.sleep(0.7)
            first.process.kill()
            first.process.wait(10)
            os.unlink(path)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
                listener.listen(1)
                out, errors = process.communicate(timeout=20)
            self.assertEqual(process.returncode, 69, errors)
            self.assertIn("has not come back", errors)
            self.assertEqual(json.loads(out)["connections_lost"], 1)

    def test_a_daemon_that_says_nothing_from_the_beginning_is_not_waited_for(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/socket")
            listener.listen(8)
            found = self.refused("--timeout", 0.5, server=f"unix:{folder}/socket")
        self.assertEqual(found[0], 69)
        self.assertIn("no answer within 0.5 s (--timeout)", found[1])

    def stalled(self, *arguments):
        """The result while the daemon stands still for half a second in the middle."""
        with Daemon() as daemon:
            def stall():
                is_connected(daemon)
                time.sleep(0.7)
                daemon.process.send_signal(signal.SIGSTOP)
                time.sleep(0.5)
                daemon.process.send_signal(signal.SIGCONT)

            thread = threading.Thread(target=stall)
            thread.start()
            result = lossctl(
                "bench", "--json", "--duration", 2, "--warm-up", 0.2, *arguments, server=daemon.unix)
            thread.join()
        self.assertEqual((result["failed"], result["unanswered"]), (0, 0))
        return result

    def test_a_stall_shows_in_the_percentiles_where_calls_begin_at_a_rate(self):
        # A quarter of the calls were due in it; their waiting is not hidden by their not being made.
        result = self.stalled("--rate", 1000)
        self.assertEqual(result["calls"], 2000)
        self.assertGreater(result["latency_us"]["p90"], 100_000)
        self.assertGreater(result["latency_us"]["max"], 400_000)
        # One call after the other, it is one call among thousands.
        result = self.stalled()
        self.assertLess(result["latency_us"]["p90"], 50_000)
        self.assertGreater(result["latency_us"]["max"], 400_000)

    def test_the_result_for_people_has_a_histogram(self):
        text = lossctl("bench", "--duration", 0.3, "--warm-up", 0, server=self.daemon.unix)
        self.assertRegex(text, r"(?m)^calls +[0-9,]+ a second: [0-9]+, failed 0$")
        self.assertRegex(text, r"(?m)^processors +lossctl [0-9.]+, daemon [0-9.]+")
        self.assertRegex(text, r"(?m)^latency, us +p50 [0-9.]+ +p90 [0-9.]+ +p99 [0-9.]+ +p99.9 [0-9.]+ +max [0-9.]+$")
        shares = [float(line.split("%")[0].split()[-1]) for line in text.splitlines() if " % #" in line]
        self.assertAlmostEqual(sum(shares), 100, delta=0.5)


if __name__ == "__main__":
    unittest.main()
