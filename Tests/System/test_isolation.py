"""Plugins in processes of their own: whatever one does, it does to nobody else."""

import os
import pathlib
import re
import signal
import socket
import time
import unittest

from daemon import lossctl, measured
from isolation import (
    DEEDS, HINGE, Neighbours, PluginDaemon, check_neighbours, complements, is_alive, occurrences,
    start_neighbours, until)
from wire import (
    CANCEL, END_STREAM, GOAWAY, HELLO, MESSAGE, STATUS, STREAM, CallError, Response, Tensor, frame, parse, request)

UNAVAILABLE, INTERNAL, EXHAUSTED, DEADLINE, CANCELLED = 14, 13, 8, 4, 1
FINE = [1.0, 2.0, 3.0, 4.0]


def killed(name):
    return UNAVAILABLE, rf"wicked: the process of the plugin wicked was killed by SIG{name}$"


def lied(text):
    return INTERNAL, rf"wicked: the plugin wicked {text}"


# What a deed comes to, by its mode: the numbers of the loss, or a status and what its text looks like.
OUTCOMES = {
    "pid": any, "calls": any, "leak": 10, "map": any, "descriptors": 10, "copies": 10, "lie_cheap": 10,
    "segv_null": killed("SEGV"), "segv_wild": killed("SEGV"), "segv_jump": killed("SEGV"),
    "segv_readonly": killed("SEGV"), "bus": killed("BUS"), "ill": killed("ILL"), "fpe": killed("FPE"),
    "abrt": killed("ABRT"), "trap": killed("TRAP"), "stack": killed("SEGV"), "heap": killed("(ABRT|SEGV)"),
    "raise": killed("KILL"),
    **{hang: (DEADLINE, "the call's time is up") for hang in ("hang", "sleeps", "pauses", "lock", "slow")},
    "allocate": (EXHAUSTED, "wicked: no memory is left"),
    **{lie: lied("planned no type or rank for output") for lie in ("lie_type", "lie_absent", "lie_rank")},
    **{lie: lied("planned an impossible shape for output") for lie in ("lie_negative", "lie_huge")},
    "lie_big": (EXHAUSTED, "wicked: the results take more than"), "lie_rows": lied("planned impossible amounts"),
    "lie_passes": lied("planned 1000 passes"), "lie_units": lied("planned -1 units"),
    "lie_many": lied(r"planned .* ns of work"), "lie_cost": lied("planned 4 units of -?nan ns"),
    "lie_workspace": lied("planned impossible amounts"), "lie_scratch": lied("planned impossible amounts"),
    **{lie: lied("planned a wrong reduced output output") for lie in ("lie_reduced", "lie_value", "lie_integer")},
    "lie_present": lied("gave no value for loss"), "nan": "nan",
    "past_end": lied("wrote outside of its outputs"), "before_begin": lied("wrote outside of its outputs"),
    "reshapes": (INTERNAL, "wicked: "), "far_past_end": killed("SEGV"), "past_state": any,
    "past_sums": any, "past_text": ((INTERNAL, UNAVAILABLE), "wicked: "), "writes_input": killed("SEGV"),
    "reads_beyond": any, "exits": (UNAVAILABLE, "wicked: the process of the plugin wicked exited with status 3$"),
    "exits_at_once": (UNAVAILABLE, "wicked: the process of the plugin wicked exited with status 3$"),
    "exits_thread": (UNAVAILABLE, "wicked: the process of the plugin wicked was killed by SIG"),
    "executes": 0, "closes": (UNAVAILABLE, "wicked: the process of the plugin wicked (exited|was ended)"),
    "forks": 0, "fork_returns": 0,
    "code": (INTERNAL, "wicked: a code that I like"), "code_no_text": (INTERNAL, "wicked: failed"),
    "text_no_end": (INTERNAL, "wicked: x{496}$"), "text_bytes": (INTERNAL, r"wicked: .*\?\[31mred\?lossd: forged"),
    "try": any,
    "forges": (UNAVAILABLE, "wicked: the process of the plugin wicked was ended: it sent what nobody had asked for"),
}
# These take their time, or what they find out is looked at elsewhere.
ELSEWHERE = {"search"}


class Wicked:
    """Calls of a daemon's wicked plugin."""

    def wicked(self, connection, mode, data=FINE, outputs=("output", "loss"), timeout=5.0, **attributes):
        """Its outputs, each as a list."""
        response = connection.evaluate(
            "wicked", {"input": Tensor(data)}, {"mode": mode, **attributes}, list(outputs),
            timeout_us=int(timeout * 1e6))
        return [response[name].values() for name in outputs]

    def is_fine(self, connection):
        """That the plugin serves, when it is not being restarted any more."""
        self.assertEqual(self.wicked(connection, "none"), [FINE, [10.0]])


class EveryDeed(Wicked, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = PluginDaemon(
            "wicked.so", "hinge.so", "wicked_cpp.so", "wicked_cpp_static.so", tcp=True, plugins__isolation="process",
            plugins__memory="64MiB", plugins__in_daemon="hinge_here.so")

    @classmethod
    def tearDownClass(cls):
        cls.daemon.end()

    def outcome(self, deed, run):
        expected = OUTCOMES.get(deed, 10)
        try:
            output, loss = run()
        except CallError as error:
            # What the process has written over may have been what it needed.
            if expected is any and error.code == UNAVAILABLE:
                return
            self.assertIsInstance(expected, tuple, f"{deed}: {error}")
            codes = expected[0] if isinstance(expected[0], tuple) else (expected[0],)
            self.assertIn(error.code, codes, f"{deed}: {error}")
            self.assertRegex(error.text, expected[1], deed)
            self.assertTrue(error.text.isprintable() or "\ufffd" in error.text, deed)
            return
        self.assertNotIsInstance(expected, tuple, f"{deed} was answered: {output}, {loss}")
        if expected is not any:
            self.assertEqual(str(loss[0]), str(float(expected)), deed)
        if deed == "unwritten":
            self.assertEqual(output, [0] * 4)
        elif deed == "half_written":
            self.assertEqual(output, [1, 0, 3, 0])
        elif deed not in ("past_sums", "past_state"):
            self.assertEqual(output, FINE, deed)

    def test_every_deed_is_answered_as_it_deserves_and_no_neighbour_notices(self):
        """On the same connection and on others, of the daemon's functions and of another plugin's."""
        daemon = self.daemon
        with Neighbours(daemon) as neighbours, daemon.connect() as connection:
            for number, (deed, _) in enumerate(DEEDS):
                if deed in ELSEWHERE:
                    continue
                if deed == "logs_long":
                    time.sleep(1.1)  # What comes in the same second as a flood is left out with it.
                if number % 10 == 0:
                    daemon.plugin("reload", "wicked")  # Many crashes in a minute are another test's matter.
                with self.subTest(deed):
                    before = start_neighbours(connection)
                    stream = connection.start(
                        "wicked", {"input": Tensor(FINE)}, {"mode": deed}, ["output", "loss"], timeout_us=300_000)
                    after = start_neighbours(connection)
                    responses = {}
                    while len(responses) < 5:
                        kind, stream_id, _, message, payload = connection.receive()
                        if kind in (MESSAGE, STATUS):
                            responses[stream_id] = (kind, message, payload)

                    def result(number):
                        kind, message, payload = responses[number]
                        if kind == STATUS:
                            raise CallError(message)
                        return Response(message, payload)

                    def wicked():
                        response = result(stream)
                        return response["output"].values(), response["loss"].values()

                    for pair in (before, after):
                        check_neighbours(*map(result, pair))
                    self.outcome(deed, wicked)
                    # Its next call finds a process that works, or one that has been spoilt and says so.
                    for _ in range(3):
                        try:
                            self.is_fine(connection)
                            break
                        except CallError as error:
                            self.assertEqual(error.code, UNAVAILABLE, f"after {deed}: {error}")
        self.assertEqual(neighbours.failures, [])
        self.assertGreater(neighbours.calls, 500)
        self.assertLess(neighbours.slowest, 2)
        # One line for each that was forged, cut or left out; nothing that plays with a terminal.
        daemon.plugin("reload", "wicked")
        log = daemon.log()
        self.assertTrue("wicked: first?<2>lossd: a forged line??[2Jcleared" in log, log[-2000:])
        self.assertFalse("\nlossd: forged" in log or re.search("[\x00-\x09\x0b-\x1f\x7f]", log))
        self.assertLess(max(map(len, log.splitlines())), 700)
        self.assertLess(log.count("lines to go"), 1000)
        self.assertRegex(log, r"plugins wrote 99\d{3} lines more, which were left out")

    def test_deeds_in_every_step(self):
        with self.daemon.connect() as connection:
            self.daemon.plugin("reload", "wicked")
            for step in ("plan", "run", "finish", "merge"):
                for deed, expected in (
                        ("segv_null", killed("SEGV")), ("exits", OUTCOMES["exits"]), ("hang", OUTCOMES["hang"])):
                    with self.subTest(step=step, deed=deed):
                        with self.assertRaises(CallError) as caught:
                            self.wicked(connection, deed, where=step, timeout=0.3)
                        self.assertEqual(caught.exception.code, expected[0])
                        self.assertRegex(caught.exception.text, expected[1])
                        self.is_fine(connection)

    def test_exceptions_are_errors_with_their_text(self):
        """Of a library that shares libstdc++, and of one with its own."""
        with self.daemon.connect() as connection:
            for file in ("wicked_cpp", "wicked_cpp_static"):
                if file == "wicked_cpp_static":
                    # Both have the same function: one at a time.
                    self.daemon.plugin("unload", "wicked_cpp.so")
                    self.daemon.plugin("load", "wicked_cpp_static.so")
                for mode, text in (
                        ("throw_plan", "an exception left plan: thrown from plan"),
                        ("throw_run", "an exception left run: thrown from run"),
                        ("throw_finish", "an exception left finish: thrown from finish"),
                        ("throw_merge", "an exception left merge: thrown from merge"),
                        ("throw_int", "an exception left run: of a type of its own"),
                        ("throw_alloc", "an exception left run: std::bad_alloc")):
                    with self.assertRaises(CallError, msg=mode) as caught:
                        connection.evaluate("wicked_cpp", {}, {"mode": mode})
                    self.assertEqual((caught.exception.code, caught.exception.text),
                                     (INTERNAL, f"wicked_cpp: {text}"))
                for mode in ("none", "caught"):
                    self.assertEqual(connection.evaluate("wicked_cpp", {}, {"mode": mode})["loss"].values(), [4])
                with self.assertRaises(CallError) as caught:
                    connection.evaluate("wicked_cpp", {}, {"mode": "terminate"})
                self.assertIn("was killed by SIGABRT", caught.exception.text)

    def test_a_cancelled_call_ends_whether_or_not_the_plugin_asks(self):
        with self.daemon.connect() as connection:
            self.daemon.plugin("reload", "wicked")
            process = self.wicked(connection, "pid")[1][0]
            for deed in ("slow", "hang"):
                stream = connection.start("wicked", {}, {"mode": deed})
                time.sleep(0.05)
                connection.send(frame(CANCEL, stream))
                begin = time.time()
                with self.assertRaises(CallError) as caught:
                    connection.finish(stream)
                self.assertEqual(caught.exception.code, CANCELLED)
                self.assertLess(time.time() - begin, 1)
                same = self.wicked(connection, "pid")[1][0] == process
                self.assertEqual(same, deed == "slow", "who stops when it is asked to stays")
            # Big calls, whose chunks other threads compute, are asked in the same way.
            big = Tensor(bytes(4 << 20))
            stream = connection.start("wicked", {"input": big}, {"mode": "slow"})
            time.sleep(0.2)
            restarts = self.daemon.list()["wicked"]["restarts"]
            connection.send(frame(CANCEL, stream))
            with self.assertRaises(CallError):
                connection.finish(stream)
            self.assertEqual(self.daemon.list()["wicked"]["restarts"], restarts)

    def test_a_call_that_cannot_be_sent_does_not_hold_up_the_next(self):
        with self.daemon.connect() as connection:
            for _ in range(3):
                streams = [connection.start("wicked", {}, {"mode": "none", "text": "x" * 200_000}) for _ in range(3)]
                streams += [connection.start("wicked", {}, {"mode": "none"}) for _ in range(3)]
                # Two processes, and refusals besides: the answers come in any order.
                answers = {}
                while len(answers) < len(streams):
                    kind, stream, _, message, payload = connection.receive()
                    if stream in streams:
                        answers[stream] = kind, message, payload
                for stream in streams[:3]:
                    kind, message, _ = answers[stream]
                    self.assertEqual(kind, STATUS)
                    error = CallError(message)
                    self.assertEqual(error.code, EXHAUSTED)
                    self.assertIn("can be sent", error.text)
                for stream in streams[3:]:
                    kind, message, payload = answers[stream]
                    self.assertEqual(kind, MESSAGE)
                    self.assertEqual(Response(message, payload)["output"].values(), [0, 1, 2, 3])

    def test_queued_calls_are_not_taken_for_slow_ones(self):
        """Time that a call waits for its turn does not count as its callback's."""
        with PluginDaemon("wicked.so", plugins__isolation="process", plugins__processes=1,
                          limits__callback_timeout="1s") as daemon, daemon.connect() as connection:
            process = self.wicked(connection, "pid")[1][0]
            # 50 ms each: the last ones wait longer than any callback may take.
            streams = [connection.start("wicked", {}, {"mode": "lie_cheap"}) for _ in range(30)]
            for stream in streams:
                connection.finish(stream)
            self.assertEqual(self.wicked(connection, "pid")[1][0], process)
            begin = time.time()
            with self.assertRaises(CallError) as caught:
                self.wicked(connection, "hang")
            self.assertEqual(caught.exception.code, DEADLINE)
            self.assertIn("takes longer than limits.callback_timeout, 1000 ms", caught.exception.text)
            self.assertTrue(0.9 < time.time() - begin < 3)
            self.is_fine(connection)

    def test_streams_fail_with_the_batch_that_crashed_and_others_go_on(self):
        daemon = self.daemon
        with daemon.connect() as connection:
            daemon.plugin("reload", "wicked")

            def stream(deed, step="usual", batches=4):
                """The responses and how it ended."""
                number = connection.open(STREAM)
                for index in range(batches):
                    first = index == 0
                    connection.send(frame(MESSAGE, number, *request(
                        "wicked" if first else "", {"input": Tensor(FINE)},
                        {"mode": deed, "where": step} if first else None, ["loss"] if first else (), id=index + 1),
                        END_STREAM if index == batches - 1 else 0))
                responses = []
                while True:
                    kind, _, flags, message, payload = connection.receive_of(number)
                    if kind == STATUS:
                        return responses, CallError(message)
                    responses.append(Response(message, payload))
                    if flags == END_STREAM:
                        return responses, None

            responses, error = stream("none")
            self.assertIsNone(error)
            self.assertEqual([item["loss"].values() for item in responses[:-1]], [[10]] * 4)
            self.assertEqual(responses[-1].summary["values"], {"loss": 40})
            self.assertEqual(responses[-1].summary["state"]["loss_sum"], 40)
            responses, error = stream("segv_null")
            self.assertEqual(responses, [])
            self.assertEqual(error.code, UNAVAILABLE)
            self.assertIn("batch 1: wicked: the process of the plugin wicked was killed by SIGSEGV", error.text)
            # In finish: the batches' own, already.
            self.assertIn("killed by SIGSEGV", stream("segv_null", "finish")[1].text)
            check_neighbours(*(Response(*connection.finish(number)) for number in start_neighbours(connection)))
            self.is_fine(connection)


class Processes(Wicked, unittest.TestCase):
    """What becomes of the processes themselves."""

    def test_an_idle_process_that_is_killed_is_nobodys_failure(self):
        with PluginDaemon("wicked.so", "hinge.so", plugins__isolation="process") as daemon:
            with daemon.connect() as connection, Neighbours(daemon) as neighbours:
                for round in range(15):
                    process = int(self.wicked(connection, "pid")[1][0])
                    os.kill(process, signal.SIGSEGV)
                    if round % 3 == 1:
                        time.sleep(0.002)
                    self.is_fine(connection)
                    self.assertNotEqual(int(self.wicked(connection, "pid")[1][0]), process)
                    self.assertFalse(is_alive(process))
                self.assertEqual(neighbours.failures, [])
                info = daemon.list()["wicked"]
                self.assertEqual((info["state"], info["restarts"], info["last_reason"]),
                                 ("serving", 15, "was killed by SIGSEGV"))
                text = daemon.plugin("list")
                self.assertIn("serving, restarted 15 times, the last one was killed by SIGSEGV", text)
                self.assertIn(str(int(self.wicked(connection, "pid")[1][0])), text)
            self.assertEqual(set(daemon.children().values()) - {"S", "R", "D"}, set(), "zombies")

    def test_only_the_calls_in_a_process_that_is_killed_fail(self):
        with PluginDaemon("wicked.so", "hinge.so", plugins__isolation="process", plugins__processes=2) as daemon:
            with daemon.connect() as first, daemon.connect() as second, Neighbours(daemon) as neighbours:
                stream = first.start("wicked", {}, {"mode": "slow"})
                until(lambda: len(daemon.list()["wicked"]["processes"]) == 1, "started")
                free = int(self.wicked(second, "pid")[1][0])
                busy = set(daemon.list()["wicked"]["processes"]) - {free}
                self.assertEqual(len(busy), 1, "one computes, the other is free")
                pings = [second.start("wicked", {"input": Tensor(FINE)}, {"mode": "none"}, ["loss"]) for _ in range(20)]
                os.kill(busy.pop(), signal.SIGSEGV)
                with self.assertRaises(CallError) as caught:
                    first.finish(stream)
                self.assertEqual(caught.exception.code, UNAVAILABLE)
                self.assertEqual(caught.exception.text, "wicked: the process of the plugin wicked was killed by SIGSEGV")
                for ping in pings:
                    self.assertEqual(Response(*second.finish(ping))["loss"].values(), [10])
                self.assertEqual(int(self.wicked(second, "pid")[1][0]), free)
                # The connection whose call failed is as good as before.
                self.is_fine(first)
            self.assertEqual(neighbours.failures, [])
            self.assertIn("was killed by SIGSEGV in wicked", daemon.log())

    def test_crash_after_crash_it_is_set_aside_and_a_reload_ends_that(self):
        with PluginDaemon("wicked.so", "hinge.so", plugins__isolation="process", plugins__processes=1) as daemon:
            with daemon.connect() as connection, Neighbours(daemon) as neighbours:
                def crashes():
                    """Seconds of five calls whose processes crash."""
                    daemon.plugin("reload", "wicked")
                    self.is_fine(connection)
                    begins, ends = [], []
                    for _ in range(5):
                        begins.append(time.monotonic())
                        with self.assertRaises(CallError) as caught:
                            self.wicked(connection, "segv_null")
                        ends.append(time.monotonic())
                        self.assertIn("was killed by SIGSEGV", caught.exception.text)
                    # Before the third, fourth and fifth they had to wait: 50, 100 and 200 ms.
                    self.assertGreater(ends[4] - begins[1], 0.35)
                    return [end - begin for begin, end in zip(begins, ends)]

                def refusals():
                    begin = time.monotonic()
                    for _ in range(3):
                        with self.assertRaises(CallError) as caught:
                            self.wicked(connection, "none")
                        self.assertEqual(caught.exception.code, UNAVAILABLE)
                        self.assertRegex(caught.exception.text,
                                         r"the plugin wicked is set aside for another \d+ ms, since its processes keep "
                                         "dying: the last one was killed by SIGSEGV in wicked")
                    return time.monotonic() - begin

                times = measured(
                    crashes, lambda times: sum(times[:2]) < 0.2 and times[3] > 0.09 and times[4] > 0.19)
                self.assertLess(sum(times[:2]), 0.2, times)
                self.assertGreater(times[3], 0.09, times)
                self.assertGreater(times[4], 0.19, times)
                self.assertLess(measured(refusals, lambda seconds: seconds < 0.5), 0.5, "refused at once")
                info = daemon.list()["wicked"]
                self.assertEqual((info["state"], info["restarts"], info["processes"]), ("set aside", 5, []))
                self.assertEqual(info["last_reason"], "was killed by SIGSEGV in wicked")
                self.assertIn("set aside, restarted 5 times", daemon.plugin("list"))
                daemon.plugin("reload", "wicked")
                self.is_fine(connection)
                info = daemon.list()["wicked"]
                self.assertEqual((info["state"], info["restarts"], info["last_reason"]), ("serving", 0, ""))
            self.assertEqual(neighbours.failures, [])

    def test_confined(self):
        """Privileges, system calls, limits: as the kernel sees them, and as the plugin does."""
        with PluginDaemon("wicked.so", plugins__isolation="process", plugins__memory="64MiB") as daemon:
            with daemon.connect() as connection:
                process = int(self.wicked(connection, "pid")[1][0])
                status = dict(line.split(":\t", 1) for line in pathlib.Path(
                    f"/proc/{process}/status").read_text().splitlines() if ":\t" in line)
                self.assertEqual(status["NoNewPrivs"], "1")
                self.assertEqual(status["Seccomp"], "2")
                # 32 and 33 are libc's own.
                self.assertEqual(int(status["SigIgn"], 16) & ~(3 << 31), 0x1000, "SIGPIPE alone")
                for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
                    self.assertEqual(int(status[name], 16), 0, name)
                limits = {line[:25].strip(): line[26:].split() for line in pathlib.Path(
                    f"/proc/{process}/limits").read_text().splitlines()}
                self.assertEqual(limits["Max core file size"][:2], ["0", "0"])
                self.assertEqual(limits["Max file size"][:2], ["0", "0"])
                self.assertEqual(limits["Max open files"][:2], ["128", "128"])
                self.assertLess(int(limits["Max data size"][1]), 256 << 20)
                self.assertLess(int(limits["Max address space"][1]), 64 << 30)
                self.assertEqual(os.getpgid(process), process, "a terminal's interrupt is not for it")
                names = {number: os.readlink(f"/proc/{process}/fd/{number}")
                         for number in os.listdir(f"/proc/{process}/fd")}
                self.assertLessEqual(set(names), {"0", "1", "2", "3", "4", "5"})
                # Opened before files are out of its reach: its own threads.
                self.assertEqual(names.get("5", f"/proc/{process}/task"), f"/proc/{process}/task")
                self.assertIn("lossd-plugin", names["4"])
                environment = pathlib.Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
                self.assertEqual(sorted(environment), [b"", b"LC_ALL=C", b"MALLOC_ARENA_MAX=2"])
                pathlib.Path("/tmp/lossd-wicked").unlink(missing_ok=True)
                for attempt in range(20):
                    answer = self.wicked(connection, "try", argument=attempt)[1][0]
                    self.assertGreater(answer, 0, f"attempt {attempt} worked")
                    self.assertNotEqual(answer, 38, f"there is no attempt {attempt}")
                self.assertFalse(os.path.exists("/tmp/lossd-wicked"))
                self.assertEqual(int(self.wicked(connection, "pid")[1][0]), process)
                # Memory without bound: its own limit is its alone.
                for _ in range(3):
                    try:
                        for _ in range(8):
                            self.wicked(connection, "leak", argument=32 << 20)
                    except CallError as error:
                        self.assertIn(error.code, (UNAVAILABLE, EXHAUSTED))
                    self.assertLess(daemon.daemon.resident_bytes(), 256 << 20)
                resident = pathlib.Path(f"/proc/{process}/statm")
                if resident.exists():
                    self.assertLess(int(resident.read_text().split()[1]) * 4096, 256 << 20)

    def test_no_process_outlives_the_daemon(self):
        for number in (signal.SIGKILL, signal.SIGTERM):
            with PluginDaemon("wicked.so", "hinge.so", plugins__isolation="process") as daemon:
                with daemon.connect() as connection:
                    self.is_fine(connection)
                    # One of them is in the middle of something.
                    connection.start("wicked", {}, {"mode": "hang"})
                    time.sleep(0.05)
                    children = daemon.children()
                    self.assertGreaterEqual(len(children), 2)
                    daemon.daemon.process.send_signal(number)
                    if number == signal.SIGTERM:
                        connection.close()
                    daemon.daemon.process.wait(10)
                until(lambda: not any(map(is_alive, children)), lambda: f"{number}: {children}", 3)

    def test_an_interrupt_at_the_terminal_lets_calls_end(self):
        with PluginDaemon("wicked.so", plugins__isolation="process") as daemon, daemon.connect() as connection:
            self.is_fine(connection)
            stream = connection.start("wicked", {}, {"mode": "sleeps", "argument": 1}, ["loss"])
            time.sleep(0.1)
            # As a terminal does it: to everybody of the group.
            os.killpg(os.getpgid(daemon.pid), 0)
            for process in [daemon.pid, *(child for child in daemon.children()
                                          if os.getpgid(child) == os.getpgid(daemon.pid))]:
                os.kill(process, signal.SIGINT)
            kind = HELLO
            while kind in (HELLO, GOAWAY):
                kind, _, _, message, payload = connection.receive()
            self.assertEqual(kind, MESSAGE)
            self.assertEqual(Response(message, payload)["loss"].values(), [6])
            self.assertEqual(daemon.daemon.process.wait(10), 0)

    @unittest.skipUnless(os.environ.get("LOSSD_SOAK") == "1", "takes half a minute")
    def test_a_process_that_computes_without_a_call_is_ended(self):
        with PluginDaemon("load/constructor_spins.so", "hinge.so", plugins__isolation="process") as daemon:
            until(lambda: "has computed for" in daemon.log(), daemon.log, 40)
            self.assertIn("more than its calls took", daemon.list()["load_constructor_spins"]["last_reason"])
            self.assertEqual(daemon.list()["hinge"]["restarts"], 0)


class Memory(Wicked, unittest.TestCase):
    """What a process sees of calls that are over, and of other plugins' ones."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = PluginDaemon(
            "wicked.so", "hinge.so", "witness_there.so", plugins__isolation="process", plugins__processes=1,
            limits__callback_timeout="60s")

    @classmethod
    def tearDownClass(cls):
        cls.daemon.end()

    def setUp(self):
        self.connection = self.daemon.connect(timeout=60)
        self.addCleanup(self.connection.close)
        self.process = int(self.wicked(self.connection, "pid")[1][0])

    def tensor(self, count):
        """Floats that hold a pattern that is nowhere else, and the pattern."""
        pattern = bytes(byte | 1 for byte in os.urandom(12)) + os.urandom(4)
        return Tensor((pattern * (count // 4 + 1))[:4 * count]), pattern

    def assertForgotten(self, pattern, what):
        """Soon: the answer goes first; the next call waits for what comes after it."""
        if os.geteuid() == 0:
            until(lambda: occurrences(self.process, pattern) == 0, what, 1)

    @unittest.skipUnless(os.geteuid() == 0, "looks into another process")
    def test_the_look_from_outside_finds_what_is_there(self):
        data, pattern = self.tensor(100)
        stream = self.connection.start("wicked", {"input": data}, {"mode": "sleeps", "argument": 1})
        time.sleep(0.3)
        self.assertGreater(occurrences(self.process, pattern), 0)
        self.connection.finish(stream)
        self.assertForgotten(pattern, "once it is over")

    def test_nothing_of_a_call_stays_readable(self):
        connection = self.connection
        for count in (4, 1000, 4000, 5000, 100_000, 1_000_000):
            data, pattern = self.tensor(count)
            for attributes in ({"mode": "none"}, {"mode": "copies"}, {"mode": "none", "cost": 1e5},
                               {"mode": "code"}, {"mode": "past_end"}):
                if "cost" in attributes and count > 5000:
                    continue
                try:
                    response = connection.evaluate("wicked", {"input": data}, attributes, ["output", "loss"])
                    self.assertEqual(response["output"].data, data.data)
                except CallError:
                    self.assertIn(attributes["mode"], ("code", "past_end"))
                self.assertForgotten(pattern, f"{count} elements, {attributes}")
        data, pattern = self.tensor(4)
        text = "".join(chr(33 + byte % 90) for byte in pattern)
        connection.evaluate("wicked", {}, {"mode": "none", "text": text * 100})
        self.assertForgotten(text.encode(), "an attribute")
        self.assertEqual(int(self.wicked(connection, "pid")[1][0]), self.process, "the same process all the time")

    def test_nothing_of_a_stream_stays_readable(self):
        """Kept inputs, in the message and in memory of their own."""
        connection = self.connection
        for count in (100, 50_000):
            kept, of_kept = self.tensor(count)
            batch, of_batch = self.tensor(count)
            stream = connection.open(STREAM)
            for index in range(3):
                first = index == 0
                connection.send(frame(MESSAGE, stream, *request(
                    "wicked" if first else "", {"input": batch, **({"kept": kept} if first else {})},
                    {"mode": "none"} if first else None, ["output"] if first else ()), END_STREAM if index == 2 else 0))
            for index in range(4):
                kind, _, flags, message, payload = connection.receive_of(stream)
                self.assertEqual(kind, MESSAGE)
                if index < 3:
                    self.assertEqual(Response(message, payload)["output"].data, batch.data)
            self.assertForgotten(of_kept, f"kept, {count}")
            self.assertForgotten(of_batch, f"a batch, {count}")

    def test_a_plugin_that_searches_finds_its_own_call_and_no_other(self):
        connection = self.connection
        patterns = []
        for count in (4, 4000, 100_000):
            data, pattern = self.tensor(count)
            patterns.append(pattern)
            for function, attributes in (("wicked", {"mode": "copies"}), ("witness_there", {}), ("sigmoid", {})):
                connection.evaluate(function, {"input": data}, attributes)
        # Others' calls are under way meanwhile, in another plugin's process and in the daemon.
        data, pattern = self.tensor(100_000)
        patterns.append(pattern)
        with self.daemon.connect() as other:
            streams = [other.start("witness_there", {"input": data}, {}) for _ in range(4)]
            found = []
            for index in (0, len(patterns) - 1):
                found.append(self.wicked(connection, "search", timeout=60, **complements(patterns[index])))
            for stream in streams:
                other.finish(stream)
        for output, loss in found:
            self.assertEqual(loss, [0])
            self.assertEqual(output[2], 2, "it has to probe: the list of its memory is not for it")
            self.assertGreater(output[1], 20, "MiB")
        mine, pattern = self.tensor(4)
        self.assertGreaterEqual(
            self.wicked(connection, "search", mine.values(), timeout=60, **complements(pattern))[1][0], 1)

    def test_what_is_left_unwritten_is_zeros(self):
        connection = self.connection
        data, pattern = self.tensor(200_000)
        for _ in range(4):
            connection.evaluate("wicked", {"input": data}, {"mode": "none"})
            for count in (4, 900, 4000, 199_999):
                response = connection.evaluate(
                    "wicked", {"input": Tensor(data.data[:4 * count])}, {"mode": "unwritten"})
                self.assertEqual(response["output"].data, bytes(4 * count))
                half = connection.evaluate(
                    "wicked", {"input": Tensor(data.data[:4 * count])}, {"mode": "half_written"})["output"].data
                self.assertEqual(half[4:8], bytes(4))
                self.assertEqual(half[:4], data.data[:4])

    def test_inputs_are_read_only_wherever_they_are(self):
        self.daemon.plugin("reload", "wicked")
        with self.daemon.connect() as connection:
            for count in (4, 5000):
                with self.assertRaises(CallError) as caught:
                    connection.evaluate("wicked", {"input": Tensor([1.0] * count)}, {"mode": "writes_input"})
                self.assertIn("was killed by SIGSEGV", caught.exception.text, count)
                self.is_fine(connection)


class Administration(unittest.TestCase):
    """The PluginHost service answers on the admin socket, to whom it may."""

    def ask(self, address, user=None):
        """`lossctl plugin list`, as somebody else."""
        import subprocess
        from daemon import program
        return subprocess.run(
            [program("lossctl"), "plugin", "list", "--server", address], capture_output=True, text=True, user=user,
            timeout=20)

    def test_elsewhere_it_is_refused(self):
        with PluginDaemon("hinge.so", tcp=True) as daemon:
            for address in (daemon.daemon.unix, daemon.daemon.tcp):
                answer = self.ask(address)
                self.assertNotEqual(answer.returncode, 0)
                self.assertIn("PERMISSION_DENIED", answer.stderr)
                with daemon.connect() as connection:
                    for method in ("ListPlugins", "LoadPlugin", "ReloadPlugin", "UnloadPlugin", "Nonsense"):
                        with self.assertRaises(CallError) as caught:
                            connection.call(f"/lossd.v1.PluginHost/{method}")
                        self.assertEqual(caught.exception.code, 7, method)
            self.assertEqual(self.ask(daemon.admin).returncode, 0)
            self.assertEqual(os.stat(daemon.admin[5:]).st_mode & 0o777, 0o600)

    @unittest.skipUnless(os.geteuid() == 0, "becomes another user")
    def test_the_kernel_says_who_is_at_the_other_end(self):
        for peers, is_let_in in ((None, False), ("owner", False), ("socket", True)):
            settings = {"admin_peers": peers} if peers else {}
            with PluginDaemon("hinge.so", **settings) as daemon:
                self.assertEqual(self.ask(daemon.admin).returncode, 0, "root")
                # The file lets everybody connect.
                os.chmod(daemon.admin[5:], 0o666)
                answer = self.ask(daemon.admin, user=65533)
                self.assertEqual(answer.returncode == 0, is_let_in, answer.stderr)
                if not is_let_in:
                    self.assertIn("PERMISSION_DENIED", answer.stderr)
                    self.assertIn("user 65533 is neither root nor the daemon's own user", answer.stderr)
                    self.assertIn("no administration: user 65533", daemon.log())

    @unittest.skipUnless(os.geteuid() == 0, "becomes another user")
    def test_a_daemon_of_ones_own_is_ones_own_to_administer(self):
        import tempfile
        import subprocess
        from daemon import program
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            own = os.path.join(folder, "own")
            os.mkdir(own, 0o755)
            os.chown(own, 65533, 65533)
            log = open(os.path.join(folder, "log"), "wb")
            process = subprocess.Popen(
                [program("lossd"), "--listen", f"unix:{own}/lossd.sock", "--admin-listen", f"unix:{own}/admin.sock"],
                stderr=log, user=65533, cwd="/")
            try:
                until(lambda: os.path.exists(f"{own}/admin.sock"), "started")
                os.chmod(f"{own}/admin.sock", 0o666)
                self.assertEqual(self.ask(f"unix:{own}/admin.sock", user=65533).returncode, 0)
                self.assertEqual(self.ask(f"unix:{own}/admin.sock").returncode, 0, "root")
                self.assertNotEqual(self.ask(f"unix:{own}/admin.sock", user=65532).returncode, 0)
            finally:
                process.terminate()
                process.wait(10)
                log.close()


if __name__ == "__main__":
    unittest.main()
