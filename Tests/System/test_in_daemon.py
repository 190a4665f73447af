"""Plugins that run in the daemon itself: what it survives, what ends it, and what it says and learns from that."""

import math
import os
import pathlib
import re
import shutil
import signal
import struct
import time
import unittest

from daemon import lossctl
from isolation import HINGE, Neighbours, PluginDaemon, built, check_neighbours, start_neighbours, until
from test_isolation import DEADLINE, FINE, INTERNAL, OUTCOMES, UNAVAILABLE, Wicked
from wire import END_STREAM, MESSAGE, STATUS, STREAM, CallError, Response, Tensor, frame, request

# What ends the daemon, and the word for it in its line and record.
ENDS = {
    "segv_null": "SIGSEGV", "segv_wild": "SIGSEGV", "segv_jump": "SIGSEGV", "segv_readonly": "SIGSEGV",
    "bus": "SIGBUS", "ill": "SIGILL", "fpe": "SIGFPE", "abrt": "SIGABRT", "trap": "SIGTRAP", "stack": "SIGSEGV",
    "heap": "SIG(ABRT|SEGV)", "exits": "exit", "exits_at_once": "exit",
}
# Not caught here, as deeds.def says, or caught elsewhere in this file.
NOT_HERE = {
    "raise", "hang", "sleeps", "pauses", "lock", "slow", "allocate", "leak", "map", "far_past_end", "past_sums",
    "past_state", "past_scratch", "past_workspace", "past_text", "closes", "exits_thread", "search", "reads_beyond",
    "descriptors", "copies",
    # By then the memory may be another call's.
    "late_write"}
HERE = {"executes": 0, "forks": 0, "fork_returns": 0, "writes_input": 10, "try": any, "forges": 10}


def denormals(connection):
    """The bytes of results that are denormal numbers, of functions of every kind."""
    tiny = Tensor(struct.pack("<4f", 1e-40, 3e-42, 1e-38, 2e-45))
    large = Tensor([-90.0, -95.0, -100.0, 0.0])
    rows = Tensor(struct.pack("<8f", *[-95.0, 0.0, -100.0, 1.0] * 2), shape=[2, 4])
    logs = Tensor(struct.pack("<8f", *[-1e-40, -2e-41, -3e-42, -1e-39] * 2), shape=[2, 4])
    labels = Tensor([1, 2], "int64")
    calls = [
        ("sigmoid", {"input": large}, {}, ["output"]),
        ("softmax", {"input": rows}, {}, ["output"]),
        ("log_softmax", {"input": logs}, {}, ["output"]),
        ("nll_loss", {"input": logs, "target": labels}, {}, ["loss"]),
        ("cross_entropy", {"input": rows, "target": labels, "weight": tiny}, {"reduction": "sum"},
         ["loss", "grad.input"]),
        ("binary_cross_entropy_with_logits", {"input": large, "target": Tensor([0.0] * 4), "weight": tiny},
         {"reduction": "none"}, ["loss", "grad.input"]),
        ("binary_cross_entropy", {"input": tiny, "target": Tensor([0.0] * 4)}, {"reduction": "none"},
         ["loss"]),
        ("multilabel_soft_margin_loss", {"input": rows, "target": Tensor([0.0] * 8, shape=[2, 4]), "weight": tiny},
         {"reduction": "none"}, ["loss", "grad.input"]),
    ]
    found, bits = 0, []
    for function, inputs, attributes, outputs in calls:
        response = connection.evaluate(function, inputs, attributes, outputs)
        for name in outputs:
            bits.append((function, name, response[name].data))
            found += any(0 < abs(value) < 1.1754944e-38 for value in response[name].values())
    assert found >= 6, f"{found} of the results are denormal"
    # On a worker's thread, as big calls are.
    big = Tensor(struct.pack("<f", -95.0) * 300_000)
    bits.append(("sigmoid", "big", connection.evaluate("sigmoid", {"input": big})["output"].data))
    return bits


class Survived(Wicked, unittest.TestCase):
    def test_lies_errors_and_exceptions(self):
        with PluginDaemon("wicked.so", "hinge.so", "wicked_cpp.so", plugins__isolation="none", workers=2) as daemon:
            with Neighbours(daemon) as neighbours, daemon.connect() as connection:
                from isolation import DEEDS
                folder = os.readlink(f"/proc/{daemon.pid}/cwd")
                before = denormals(connection)
                for deed, _ in DEEDS:
                    if deed in ENDS or deed in NOT_HERE:
                        continue
                    if deed == "logs_long":
                        time.sleep(1.1)  # What comes in the same second as a flood is left out with it.
                    with self.subTest(deed):
                        pairs = [start_neighbours(connection)]
                        stream = connection.start(
                            "wicked", {"input": Tensor(FINE)}, {"mode": deed}, ["output", "loss"], timeout_us=2_000_000)
                        pairs.append(start_neighbours(connection))
                        responses = {}
                        while len(responses) < 5:
                            kind, number, _, message, payload = connection.receive()
                            if kind in (MESSAGE, STATUS):
                                responses[number] = kind, message, payload
                        for pair in pairs:
                            check_neighbours(*(Response(*responses[number][1:]) for number in pair))
                        kind, message, payload = responses[stream]
                        expected = HERE.get(deed, OUTCOMES.get(deed, 10))
                        if kind == STATUS:
                            error = CallError(message)
                            self.assertIsInstance(expected, tuple, f"{deed}: {error}")
                            self.assertEqual(error.code, expected[0], f"{deed}: {error}")
                            self.assertRegex(error.text, expected[1])
                        else:
                            response = Response(message, payload)
                            self.assertNotIsInstance(expected, tuple, f"{deed} was answered")
                            if expected is not any:
                                self.assertEqual(str(response["loss"].values()[0]), str(float(expected)), deed)
                        self.is_fine(connection)
                for mode in ("throw_plan", "throw_run", "throw_finish", "throw_merge", "throw_int", "throw_alloc"):
                    with self.assertRaises(CallError) as caught:
                        connection.evaluate("wicked_cpp", {}, {"mode": mode})
                    self.assertEqual(caught.exception.code, INTERNAL)
                    self.assertIn("an exception left", caught.exception.text)
                for mode in ("none", "caught"):
                    self.assertEqual(connection.evaluate("wicked_cpp", {}, {"mode": mode})["loss"].values(), [4])
                # What a callback may have changed of the process is as it was.
                self.assertEqual(denormals(connection), before)
                self.assertEqual(os.readlink(f"/proc/{daemon.pid}/cwd"), folder)
                for task in os.listdir(f"/proc/{daemon.pid}/task"):
                    status = pathlib.Path(f"/proc/{daemon.pid}/task/{task}/status").read_text()
                    blocked = int(re.search(r"SigBlk:\t(\w+)", status)[1], 16)
                    self.assertFalse(blocked & (1 << signal.SIGSEGV - 1), "a crash would not be named")
                self.assertEqual(set(daemon.children().values()) - set("SRD"), set(), "zombies")
            self.assertEqual(neighbours.failures, [])
            self.assertLess(neighbours.slowest, 2)
            # Handlers too: it stops when it is told to, past what plugins have left for the end.
            daemon.plugin("unload", "wicked")
            daemon.daemon.process.send_signal(signal.SIGHUP)
            time.sleep(0.2)
            self.assertEqual(daemon.daemon.stop(), 0)
            self.assertIn("wicked: first?<2>lossd: a forged line??[2Jcleared", daemon.log())

    def test_a_plugin_with_fast_math_changes_no_bit_of_anybodys(self):
        """Loaded in the daemon, and in a process; called; with threads that are older and younger than it."""
        with PluginDaemon("hinge.so", "wicked.so", plugins__isolation="none", workers=2) as daemon:
            with daemon.connect() as connection:
                before = denormals(connection)
                hinge = {"input": Tensor([0.5]), "target": Tensor([1.0]),
                         "grad.loss": Tensor(struct.pack("<f", 1e-40))}
                for isolation in ("none", "process"):
                    daemon.put("fast_math.so")
                    daemon.plugin("load", "fast_math.so", "--isolation", isolation)
                    self.assertEqual(daemon.list()["fast_math"]["isolation"], isolation, daemon.log())
                    for _ in range(3):
                        self.assertEqual(denormals(connection), before)
                        result = connection.evaluate(
                            "fast_math", {"input": Tensor([1.0, 2.0] * 50_000)}, {}, ["output"])
                        self.assertEqual(result["output"].values()[:2], [2, 4])
                    # Threads that have been started since.
                    with self.assertRaises(CallError):
                        self.wicked(connection, "hang", timeout=0.1)
                    daemon.plugin("reload", "fast_math")
                    self.assertEqual(denormals(connection), before)
                    with daemon.connect() as other:
                        self.assertEqual(denormals(other), before)
                    daemon.plugin("unload", "fast_math")
                    self.assertEqual(denormals(connection), before)


class Hangs(Wicked, unittest.TestCase):
    def test_every_thread_hangs_and_fresh_ones_take_their_places(self):
        with PluginDaemon("wicked.so", "hinge.so", plugins__isolation="none", workers=2) as daemon:
            with Neighbours(daemon) as neighbours, daemon.connect() as connection:
                for deed, step in (("hang", "run"), ("pauses", "plan"), ("hang", "finish"), ("pauses", "merge")):
                    threads = self.threads(daemon)
                    streams = [connection.start(
                        "wicked", {"input": Tensor(FINE)}, {"mode": deed, "where": step}, ["output", "loss"],
                        timeout_us=200_000) for _ in range(2)]
                    begin = time.time()
                    for stream in streams:
                        with self.assertRaises(CallError) as caught:
                            connection.finish(stream)
                        self.assertEqual(caught.exception.code, DEADLINE)
                    self.assertLess(time.time() - begin, 1)
                    if step != "merge":
                        self.is_fine(connection)
                    until(lambda: self.threads(daemon) == threads + 2, "two are lost, two are fresh")
                self.assertIn("a callback of the plugin wicked 1.0, function wicked, has not returned: its thread and its "
                              "call's memory are given up", daemon.log())
                # Eight are enough.
                info = daemon.list()["wicked"]
                self.assertEqual((info["state"], info["last_reason"]), ("set aside", "8 callbacks have not returned"))
                with self.assertRaises(CallError) as caught:
                    self.wicked(connection, "none")
                self.assertEqual(caught.exception.code, UNAVAILABLE)
                self.assertIn("is set aside: 8 of its callbacks have not returned", caught.exception.text)
                daemon.plugin("reload", "wicked")
                self.is_fine(connection)
                self.assertEqual(daemon.list()["wicked"]["state"], "serving")
                # The old one cannot be unmapped, with threads in it; another neither, as its code may be in them.
                daemon.plugin("reload", "hinge")
                until(lambda: "plugin hinge 1.0 is unloaded, but stays in memory: a callback of some plugin has not "
                      "returned" in daemon.log(), daemon.log)
                daemon.plugin("unload", "wicked")
            self.assertEqual(neighbours.failures, [])
            # Nor do they keep the daemon from its end.
            begin = time.time()
            self.assertEqual(daemon.daemon.stop(), 0)
            self.assertLess(time.time() - begin, 5)

    def threads(self, daemon):
        names = [pathlib.Path(f"/proc/{daemon.pid}/task/{task}/comm").read_text().strip()
                 for task in os.listdir(f"/proc/{daemon.pid}/task")]
        return names.count("lossd-worker")

    def test_a_thread_that_comes_back_gives_its_memory_back(self):
        with PluginDaemon("wicked.so", "hinge.so", plugins__isolation="none", workers=1) as daemon:
            with daemon.connect() as connection:
                def in_flight():
                    return lossctl("status", "--json", server=daemon.daemon.unix)["bytes_in_flight"]

                data = [1.0] * 100_000
                stream = connection.start(
                    "wicked", {"input": Tensor(data)}, {"mode": "sleeps", "argument": 1, "text": "x" * 20_000},
                    ["output"], timeout_us=200_000)
                with self.assertRaises(CallError) as caught:
                    connection.finish(stream)
                self.assertEqual(caught.exception.code, DEADLINE)
                self.assertGreaterEqual(in_flight(), 800_000, "payload and results are the thread's")
                self.assertEqual(daemon.list()["wicked"]["last_reason"], "1 callbacks have not returned")
                until(lambda: in_flight() == 0, lambda: f"{in_flight()} bytes in flight", 5)
                self.assertEqual(daemon.list()["wicked"]["last_reason"], "")
                self.assertEqual(self.threads(daemon), 1)
                # Whose thread is gone rather than hanging does not come back.
                with self.assertRaises(CallError) as caught:
                    self.wicked(connection, "exits_thread", timeout=0.2)
                self.assertEqual(caught.exception.code, DEADLINE)
                self.is_fine(connection)

    def test_a_callback_without_a_deadline_has_its_limit(self):
        with PluginDaemon("wicked.so", plugins__isolation="none", workers=1, limits__callback_timeout="500ms") as daemon:
            with daemon.connect() as connection:
                begin = time.time()
                stream = connection.start("wicked", {}, {"mode": "hang"})
                queued = [connection.start("wicked", {}, {"mode": "none"}) for _ in range(3)]
                with self.assertRaises(CallError) as caught:
                    connection.finish(stream)
                self.assertEqual(caught.exception.code, DEADLINE)
                self.assertIn("a callback of the plugin wicked takes longer than limits.callback_timeout, 500 ms",
                              caught.exception.text)
                self.assertTrue(0.4 < time.time() - begin < 2)
                for number in queued:
                    self.assertEqual(Response(*connection.finish(number))["output"].values(), [0, 1, 2, 3])

    def test_in_a_stream(self):
        with PluginDaemon("wicked.so", "hinge.so", plugins__isolation="none", workers=2) as daemon:
            for step in ("run", "merge", "finish", "plan"):
                with self.subTest(step), daemon.connect() as connection, daemon.connect() as other:
                    number = connection.open(STREAM, timeout_us=300_000)
                    for index in range(3):
                        first = index == 0
                        connection.send(frame(MESSAGE, number, *request(
                            "wicked" if first else "", {"input": Tensor(FINE)},
                            {"mode": "hang", "where": step} if first else None, ["output"] if first else ()),
                            END_STREAM if index == 2 else 0))
                    check_neighbours(*(Response(*other.finish(call)) for call in start_neighbours(other)))
                    while True:
                        kind, _, _, message, _ = connection.receive_of(number)
                        if kind == STATUS:
                            break
                    self.assertEqual(CallError(message).code, DEADLINE)
                    check_neighbours(*(Response(*connection.finish(call)) for call in start_neighbours(connection)))
                    daemon.plugin("reload", "wicked")
                    self.is_fine(connection)


class Ends(Wicked, unittest.TestCase):
    """Each ends the daemon, which names it, and runs it in a process of its own from then on."""

    def test_what_ends_the_daemon_is_named_and_isolated_until_its_file_changes(self):
        daemon = PluginDaemon("wicked.so", "hinge.so", plugins__isolation="none")
        try:
            for deed, word in ENDS.items():
                with self.subTest(deed):
                    self.assertEqual(daemon.list()["wicked"]["isolation"], "none")
                    with daemon.connect() as connection, self.assertRaises((EOFError, OSError)):
                        self.wicked(connection, deed)
                    status = daemon.daemon.process.wait(10)
                    self.assertEqual(status, 3 if word == "exit" else status, "exit's own status")
                    if word != "exit":
                        self.assertRegex(signal.Signals(-status).name, word)
                    self.assertRegex(daemon.log(), rf"(?m)^lossd: {word} in plugin wicked 1\.0, function wicked$")
                    daemon.restart()
                    self.assertRegex(
                        daemon.log(), rf"wicked.so: the daemon has ended by {word} in plugin wicked 1\.0, function "
                        "wicked: it runs in a process of its own until its file changes")
                    listed = daemon.list()
                    self.assertEqual((listed["wicked"]["isolation"], listed["hinge"]["isolation"]), ("process", "none"))
                    with daemon.connect() as connection:
                        with self.assertRaises(CallError) as caught:
                            self.wicked(connection, deed)
                        self.assertEqual(caught.exception.code, UNAVAILABLE)
                        self.is_fine(connection)
                    # A reload changes nothing, and neither does who wants it in the daemon.
                    daemon.plugin("load", "wicked.so", "--isolation", "none")
                    self.assertEqual(daemon.list()["wicked"]["isolation"], "process")
                    # A new file, though its time is an old one, is another plugin.
                    time.sleep(0.01)
                    daemon.put("wicked.so")
                    daemon.plugin("load", "wicked.so")
                    self.assertEqual(daemon.list()["wicked"]["isolation"], "none")
        finally:
            daemon.end()

    def test_in_every_step(self):
        daemon = PluginDaemon("wicked.so", plugins__isolation="none", state_folder=None)
        try:
            for step in ("plan", "finish", "merge"):
                for deed, word in (("segv_null", "SIGSEGV"), ("exits_at_once", "exit")):
                    with daemon.connect() as connection, self.assertRaises((EOFError, OSError)):
                        self.wicked(connection, deed, where=step)
                    daemon.daemon.process.wait(10)
                    self.assertIn(f"lossd: {word} in plugin wicked 1.0, function wicked", daemon.log())
                    # Without a folder for it nothing is recorded.
                    daemon.restart()
                    self.assertEqual(daemon.list()["wicked"]["isolation"], "none")
        finally:
            daemon.end()

    def test_what_another_process_sends_is_not_put_down_to_a_plugin(self):
        """A service manager's watchdog sends SIGABRT to whatever thread there is."""
        for number in (signal.SIGABRT, signal.SIGSEGV):
            with PluginDaemon("wicked.so", plugins__isolation="none", workers=1) as daemon, daemon.connect() as connection:
                connection.start("wicked", {}, {"mode": "pauses"})
                until(lambda: self.worker(daemon), "busy")
                time.sleep(0.05)
                # To the thread that is inside of the plugin.
                import ctypes
                ctypes.CDLL(None, use_errno=True).syscall(234, daemon.pid, self.worker(daemon), int(number))
                self.assertEqual(daemon.daemon.process.wait(10), -number)
                self.assertNotIn("in plugin wicked", daemon.log())
                daemon.restart()
                self.assertEqual(daemon.list()["wicked"]["isolation"], "none")

    def worker(self, daemon):
        for task in os.listdir(f"/proc/{daemon.pid}/task"):
            if pathlib.Path(f"/proc/{daemon.pid}/task/{task}/comm").read_text().strip() == "lossd-worker":
                return int(task)

    def test_a_crash_that_nobody_can_be_named_for_names_whom_to_suspect(self):
        with PluginDaemon("wicked.so", "hinge.so", plugins__isolation="none", workers=1) as daemon:
            with daemon.connect() as connection:
                try:
                    for _ in range(20):
                        self.wicked(connection, "past_state")
                except (EOFError, OSError):
                    pass
            daemon.daemon.process.wait(10)
            self.assertRegex(
                daemon.log(), r"lossd: SIG\w+ (outside of any plugin's callback; in the daemon are the plugins "
                r"hinge 1\.0, wicked 1\.0|in plugin wicked 1\.0, function wicked)\n")

    def test_a_folder_for_the_records_that_is_not_there_is_said(self):
        with PluginDaemon("hinge.so", state_folder="/nowhere/at/all") as daemon:
            self.assertIn("crashes in plugins cannot be recorded in /nowhere/at/all/plugin-crashes", daemon.log())


if __name__ == "__main__":
    unittest.main()
