"""The access log: a line a call when it is asked for, none else, and no call waits for who reads it."""

import os
import re
import signal
import subprocess
import tempfile
import time
import unittest

from daemon import Daemon, lossctl, program
from wire import DAEMON_STATUS, END_STREAM, EVALUATE, MESSAGE, STREAM, Connection, Tensor, frame, request

LINE = re.compile(
    r"info: call (?P<peer>uid=\d+ pid=\d+|peer=\S+) connection=(?P<connection>\d+) stream=(?P<stream>\d+) "
    r"method=(?P<method>\S+) function=(?P<function>\S+) code=(?P<code>[A-Z_]+) us=(?P<us>\d+) "
    r"received=(?P<received>\d+) sent=(?P<sent>\d+)$")
SIGMOID = {"input": Tensor([0.0] * 1000)}


def lines(daemon):
    return [LINE.search(line).groupdict() for line in daemon.log().splitlines() if ": call " in line]


class AccessLog(unittest.TestCase):
    def daemon(self, **settings):
        daemon = Daemon(tcp=True, **settings)
        self.addCleanup(daemon.__exit__)
        return daemon

    def until(self, daemon, count):
        deadline = time.monotonic() + 10
        while len(lines(daemon)) < count:
            self.assertLess(time.monotonic(), deadline, daemon.log())
            time.sleep(0.01)
        return lines(daemon)

    def test_without_it_no_call_leaves_a_line(self):
        daemon = self.daemon()
        before = daemon.log()
        with daemon.connect() as connection:
            for _ in range(100):
                connection.evaluate("sigmoid", SIGMOID)
        self.assertEqual(daemon.log(), before)

    def test_a_call_leaves_one_line_with_all_that_is_known_of_it(self):
        daemon = self.daemon(access_log="true")
        with daemon.connect() as connection:
            stream = connection.open(EVALUATE)
            connection.send(frame(MESSAGE, stream, *request("sigmoid", SIGMOID, None, ()), END_STREAM))
            answer = connection.receive_of(stream)
        line, = self.until(daemon, 1)
        self.assertEqual(line["peer"], f"uid={os.getuid()} pid={os.getpid()}")
        self.assertEqual(
            (line["method"], line["function"], line["code"], line["stream"]),
            (EVALUATE, "sigmoid", "OK", str(stream)))
        self.assertEqual(int(line["sent"]), 16 + len(answer[3]) + len(answer[4]))
        message, payload = request("sigmoid", SIGMOID, None, ())
        self.assertTrue(0 < int(line["received"]) - 16 - len(message) - len(payload) < 100)  # its OPEN
        self.assertLess(int(line["us"]), 5_000_000)

    def test_what_fails_and_what_never_began_is_told_too(self):
        daemon = self.daemon(access_log="true")
        with Connection(daemon.tcp) as connection:
            for function in ("sigmoid", "no such function=code=OK"):
                stream = connection.open(EVALUATE)
                connection.send(frame(MESSAGE, stream, *request(function, {}, None, ()), END_STREAM))
                connection.receive_of(stream)
            for method in ("/lossd.v1.PluginHost/ListPlugins", "/no/such code=OK"):
                connection.receive_of(connection.open(method))
            connection.call(DAEMON_STATUS)
        found = self.until(daemon, 5)
        self.assertEqual([line["code"] for line in found], [
            "INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "UNIMPLEMENTED", "OK"])
        self.assertEqual([line["method"] for line in found[2:]], [
            "/lossd.v1.PluginHost/ListPlugins", "/no/such?code=OK", DAEMON_STATUS])
        self.assertEqual({line["peer"].rsplit(":", 1)[0] for line in found}, {"peer=tcp:127.0.0.1"})

    def test_a_stream_is_one_line_and_a_call_that_is_given_up_is_one(self):
        daemon = self.daemon(access_log="true")
        with daemon.connect() as connection:
            stream = connection.open(STREAM)
            for _ in range(3):
                connection.send(frame(MESSAGE, stream, *request("sigmoid", SIGMOID, None, ()), 0))
                connection.receive_of(stream)
            connection.send(frame(MESSAGE, stream, b"", b"", END_STREAM))
            connection.receive_of(stream)
            connection.open(EVALUATE)
        found = self.until(daemon, 2)
        self.assertEqual([line["code"] for line in found], ["OK", "CANCELLED"])
        self.assertGreater(int(found[0]["received"]), 3 * 4000)
        self.assertGreater(int(found[0]["sent"]), 3 * 4000)

    def test_a_reload_turns_it_on_and_off(self):
        with tempfile.TemporaryDirectory() as folder:
            config, path = f"{folder}/lossd.yaml", f"{folder}/l.sock"

            def write(value):
                with open(config, "w") as file:
                    file.write(f"listen: [\"unix:{path}\"]\naccess_log: {value}\n")

            write("false")
            with open(f"{folder}/log", "w+") as log:
                process = subprocess.Popen([program("lossd"), "--config", config], stderr=log)

                def until(text):
                    deadline = time.monotonic() + 10
                    while True:
                        with open(log.name) as file:
                            said = file.read()
                        if text in said:
                            return said
                        self.assertLess(time.monotonic(), deadline, said)
                        time.sleep(0.01)

                try:
                    until("is ready")
                    lossctl("status", server=f"unix:{path}")
                    write("true")
                    process.send_signal(signal.SIGHUP)
                    until("access_log true")
                    lossctl("status", server=f"unix:{path}")
                    until("GetStatus")
                    write("false")
                    process.send_signal(signal.SIGHUP)
                    until("access_log false")
                    lossctl("status", server=f"unix:{path}")
                finally:
                    process.terminate()
                    process.wait(40)
                self.assertEqual(until("stopped").count("GetStatus"), 1)

    def test_a_log_that_nobody_reads_delays_no_call_and_what_is_left_out_is_counted(self):
        reading, writing = os.pipe()
        with tempfile.TemporaryDirectory() as folder:
            process = subprocess.Popen(
                [program("lossd"), "--listen", f"unix:{folder}/l.sock", "--set", "access_log=true"],
                stderr=writing)
            os.close(writing)
            with os.fdopen(reading, "rb") as log:
                try:
                    while b"is ready" not in log.readline():
                        pass
                    count = 40_000  # A pipe takes 64 KiB, some 400 lines; 16 Ki more wait; the rest finds no room.
                    message, payload = request("sigmoid", {"input": Tensor([0.0])}, None, ())
                    with Connection(f"unix:{folder}/l.sock") as connection:
                        for _ in range(count // 100):
                            for _ in range(100):
                                stream = connection.open(EVALUATE)
                                connection.send(frame(MESSAGE, stream, message, payload, END_STREAM))
                            connection.receive_of(stream)
                    process.send_signal(signal.SIGTERM)
                    text = log.read().decode()
                finally:
                    process.wait(40)
        left = sum(int(number) for number in re.findall(r"access log: (\d+) calls left out", text))
        self.assertGreater(left, 1000)
        self.assertEqual(left + len(re.findall(r": call uid=", text)), count)


if __name__ == "__main__":
    unittest.main()
