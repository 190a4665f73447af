"""Calls of a plugin's process that takes its time, answers what it likes, or cannot be shown its inputs where they lie."""

import os
import pathlib
import tempfile
import time
import unittest

from daemon import measured
from isolation import PLUGINS, PluginDaemon, until
from plugin_files import build
from wire import CANCEL, TYPES, CallError, Response, Shared, Tensor, block, frame, number, varint


class Time(unittest.TestCase):
    def test_a_process_that_hangs_ends_whatever_its_plan_claimed(self):
        """Ten times callback_timeout is allowed on top of it, not twenty times what the plugin says its work costs."""
        with PluginDaemon("wicked.so", plugins__isolation="process", plugins__processes=1,
                          limits__callback_timeout="200ms") as daemon, daemon.connect(timeout=30) as connection:
            # So big that its plan comes first, and says three quarters of an hour.
            big = Tensor(bytes(1 << 20))
            for step in ("run", "finish"):
                begin = time.time()
                with self.assertRaises(CallError) as caught:
                    connection.evaluate(
                        "wicked", {"input": big}, {"mode": "hang", "cost": 1e7, "where": step}, ["output", "loss"])
                self.assertEqual(caught.exception.code, 4)
                self.assertIn("limits.callback_timeout, 200 ms", caught.exception.text)
                self.assertTrue(2 <= time.time() - begin < 10, time.time() - begin)
                connection.evaluate("wicked", {}, {"mode": "none"})


class Users(unittest.TestCase):
    @unittest.skipUnless(os.geteuid() == 0, "only root can be two users")
    def test_users_have_a_plugins_processes_in_turn(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            build(PLUGINS / "sleeper.c", pathlib.Path(folder) / "sleeper.so")
            os.utime(pathlib.Path(folder) / "sleeper.so", (1, 1))  # Old enough to be taken at once.
            with PluginDaemon(folder=folder, plugins__isolation="process", plugins__processes=1,
                              socket_mode="0666") as daemon:
                os.chmod(daemon.daemon.folder.name, 0o755)
                data = {"input": Tensor([1.0])}
                with daemon.connect(timeout=60) as crowd:
                    os.seteuid(61_234)
                    try:
                        other = daemon.connect(timeout=60)
                    finally:
                        os.seteuid(0)
                    other.evaluate("sleep_a_while", data)

                    def beside_a_line():
                        """Seconds that five calls take beside it."""
                        calls = [crowd.start("sleep_a_while", data) for _ in range(250)]
                        # Some of them end before their turn.
                        for call in calls[100:200]:
                            crowd.send(frame(CANCEL, call, b""))
                        time.sleep(0.1)
                        begin = time.time()
                        for _ in range(5):
                            self.assertEqual(other.evaluate("sleep_a_while", data)["output"].values(), [1])
                        seconds = time.time() - begin
                        for call in calls[:100] + calls[200:]:
                            self.assertEqual(Response(*crowd.finish(call))["output"].values(), [1])
                        self.assertGreater(time.time() - begin, 1)  # there was a line to wait in
                        return seconds

                    self.assertLess(measured(beside_a_line, lambda seconds: seconds < 0.75), 0.75)
                    other.close()


class Answers(unittest.TestCase):
    """What a process answers that says what it likes."""

    def forge(self, connection, **attributes):
        stream = connection.start("wicked", {}, {"mode": "forges", **attributes}, ["output", "loss"])
        return connection.finish(stream)

    def test_what_lies_between_results_is_zeros_whatever_a_process_has_put_there(self):
        with PluginDaemon("wicked.so", plugins__isolation="process", plugins__processes=1) as daemon:
            with daemon.connect() as connection:
                # The first order is number 1.
                message, payload = self.forge(connection, low=1)
                response = Response(message, payload)
                self.assertEqual(response["output"].data, b"\xaa" * 16)
                self.assertEqual(response["loss"].data, b"\xaa" * 8)
                self.assertEqual(payload.count(0xAA), 24, payload.hex())
                self.assertEqual(payload.count(0), len(payload) - 24)
                # Its own answer came as well.
                until(lambda: "sent what nobody had asked for" in daemon.log(), daemon.log)

    def test_results_of_another_size_than_planned_are_refused(self):
        with PluginDaemon("wicked.so", plugins__isolation="process", plugins__processes=1) as daemon:
            with daemon.connect() as connection:
                def refusal(**forged):
                    """What the forged answer's call gets. The process's own answer comes as well, and ends the process;
                    the call after that has the next one."""
                    daemon.plugin("reload", "wicked")
                    process, = daemon.list()["wicked"]["processes"]
                    with self.assertRaises(CallError, msg=forged) as caught:
                        self.forge(connection, low=1, **forged)
                    ended = f"the process {process} of the plugin wicked was ended: it sent what nobody had asked for"
                    until(lambda: ended in daemon.log(), daemon.log)
                    answer = connection.evaluate("wicked", {"input": Tensor([1.0, 2.0])}, {"mode": "none"})
                    self.assertEqual(answer["output"].values(), [1, 2])
                    return caught.exception

                for bytes in (0, 1, 263, 265, 4096, 60_000):
                    error = refusal(argument=bytes)
                    self.assertEqual(error.code, 13)
                    self.assertIn(f"sent {bytes} bytes of results, expected 264", error.text)
                refusal(high=63)
            self.assertEqual(daemon.daemon.stop(), 0)


class Inline(Tensor):
    """A tensor in the request's message."""

    def __init__(self, values):
        super().__init__(values)
        self.inline, self.data = self.data, b""

    def message(self, name, _):
        return (block(1, name) + number(2, TYPES[self.data_type][0])
                + block(3, b"".join(varint(size) for size in self.shape)) + block(4, self.inline))


class Copies(unittest.TestCase):
    """Inputs that a process cannot be shown where they lie are copied on somebody's account."""

    def test_big_tensors_in_a_message_are_computed_and_charged(self):
        data = Inline([float(i % 7) for i in range(200_000)])
        attributes = {"mode": "none"}
        with PluginDaemon("wicked.so", plugins__isolation="process") as daemon, daemon.connect() as connection:
            response = connection.evaluate("wicked", {"input": data}, attributes, ["output"])
            self.assertEqual(response["output"].data, data.inline)
        # Twice its size for the message, and once for the copy.
        with PluginDaemon("wicked.so", plugins__isolation="process", limits__connection_bytes="2MiB") as daemon:
            with daemon.connect() as connection:
                with self.assertRaises(CallError) as caught:
                    connection.evaluate("wicked", {"input": data}, attributes, ["loss"])
                self.assertEqual(caught.exception.code, 8)
                self.assertIn("limits.connection_bytes", caught.exception.text)
                small = Inline([1.0, 2.0])
                self.assertEqual(connection.evaluate("wicked", {"input": small}, attributes)["output"].values(), [1, 2])

    def test_kept_inputs_in_a_region_are_computed_and_charged(self):
        # Regions have an account of their own; what is charged here are the copies.
        count, more = 24 << 20, 2 << 20
        with PluginDaemon("wicked.so", plugins__isolation="process", limits__connection_bytes=count + (1 << 20)) as daemon:
            with daemon.connect(features=("shm",)) as connection:
                connection.region(1, count).close()
                kept = Shared(1, 0, count, shape=[count // 4])
                attributes = {"mode": "none"}
                response = connection.evaluate("wicked", {"input": Tensor([1.0, 2.0]), "kept": kept}, attributes)
                self.assertEqual(response["output"].values(), [1, 2])
                data = Shared(1, 0, more, shape=[more // 4])
                with self.assertRaises(CallError) as caught:
                    connection.evaluate("wicked", {"input": data, "kept": kept}, attributes)
                self.assertEqual(caught.exception.code, 8)
                self.assertIn(f"{count + more} bytes of inputs", caught.exception.text)
                self.assertIn("limits.connection_bytes", caught.exception.text)


if __name__ == "__main__":
    unittest.main()
