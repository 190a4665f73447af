"""What the daemon tells a service manager and takes from it, without one: NOTIFY_SOCKET, LISTEN_FDS, SIGHUP."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from daemon import measured, program
from plugin_files import make_wicked
from wire import CallError, Connection, Tensor, parse


def streams(connection):
    """The number of streams that the daemon's HELLO allows; of a new connection."""
    return parse(connection.receive()[3])[4][0]


class Manager:
    """As much of a service manager as a daemon sees. `sockets` are paths by name."""

    def __init__(self, folder, sockets=None, watchdog=None, settings="", names=None, arguments=(),
                 environment=None):
        self.folder = pathlib.Path(folder)
        self.notify_socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify_socket.bind(str(self.folder / "notify"))
        self.config = self.folder / "lossd.yaml"
        self.config.write_text(settings)
        self.messages, self.listeners = [], []
        for path in (sockets or {}).values():
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen(100)
            self.listeners.append(listener)
        self.environment = dict(
            os.environ, NOTIFY_SOCKET=str(self.folder / "notify"), RUNTIME_DIRECTORY=str(folder),
            **(environment or {}))
        if watchdog:
            self.environment["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
        script = ""
        if sockets:
            # $$ stays the daemon's number through exec.
            script = f"export LISTEN_PID=$$ LISTEN_FDS={len(sockets)} LISTEN_FDNAMES={names or ':'.join(sockets)}; "
        self.command = [program("lossd"), "--config", str(self.config), *arguments]
        self.command = ["/bin/sh", "-c", script + 'exec "$0" "$@"', *self.command]
        self.log = open(self.folder / "log", "wb")
        self.start()

    def start(self):
        """A daemon that gets the sockets; the one before has ended."""
        self.process = subprocess.Popen(
            self.command, env=self.environment, stderr=self.log, pass_fds=self.pass_fds(),
            preexec_fn=self.move_sockets)

    def pass_fds(self):
        return tuple(range(3, 3 + len(self.listeners)))

    def move_sockets(self):
        high = [os.dup2(listener.fileno(), 100 + index) for index, listener in enumerate(self.listeners)]
        for index, copy in enumerate(high):
            os.dup2(copy, 3 + index)

    def next(self, seconds=10):
        """The next datagram's lines by key."""
        self.notify_socket.settimeout(seconds)
        text = self.notify_socket.recv(4096).decode()
        return dict(line.split("=", 1) for line in text.split("\n"))

    def until(self, key, seconds=10):
        deadline = time.monotonic() + seconds
        while True:
            message = self.next(deadline - time.monotonic())
            if key in message:
                return message

    def reload(self):
        environment = dict(self.environment, MAINPID=str(self.process.pid))
        return subprocess.run(
            [program("lossd"), "--reload"], env=environment, capture_output=True, text=True, timeout=30)

    def text(self):
        return (self.folder / "log").read_text()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()
        self.notify_socket.close()
        for listener in self.listeners:
            listener.close()


class Service(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lossd-service-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = f"{self.folder}/l.sock"
        self.admin = f"{self.folder}/a.sock"

    def manager(self, **options):
        manager = Manager(self.folder, **options)
        self.addCleanup(manager.close)
        return manager

    def sigmoid(self, path=None):
        with Connection(f"unix:{path or self.path}") as connection:
            return connection.evaluate("sigmoid", {"input": Tensor([0.0])})["output"].values()

    def test_sockets_are_taken_over_by_name_and_their_files_stay(self):
        manager = self.manager(sockets={"lossd": self.path, "lossd-admin": self.admin})
        self.assertEqual(manager.next(), {"READY": "1", "STATUS": "serving"})
        self.assertEqual(self.sigmoid(), [0.5])
        self.assertEqual(self.sigmoid(self.admin), [0.5])
        environment = pathlib.Path(f"/proc/{manager.process.pid}/environ").read_bytes()
        self.assertIn(b"LISTEN_PID", environment)  # As it began; what children would get is tested in Swift.
        self.assertIn("for administrators", manager.text())
        # The system's own socket is not opened besides.
        self.assertNotIn("/run/lossd", manager.text())
        manager.process.send_signal(signal.SIGTERM)
        message = manager.next()
        self.assertEqual(message["STOPPING"], "1")
        self.assertEqual(message["EXTEND_TIMEOUT_USEC"], "35000000")
        self.assertEqual(manager.process.wait(10), 0)
        self.assertTrue(os.path.exists(self.path) and os.path.exists(self.admin))

    def test_a_connection_made_before_the_start_and_after_the_end_is_not_refused(self):
        early = socket.socket(socket.AF_UNIX)
        self.addCleanup(early.close)
        manager = self.manager(sockets={"lossd": self.path})
        early.connect(self.path)
        manager.until("READY")
        manager.process.send_signal(signal.SIGTERM)
        manager.process.wait(40)
        late = socket.socket(socket.AF_UNIX)
        self.addCleanup(late.close)
        late.connect(self.path)

    def test_a_socket_of_an_unknown_name_is_refused(self):
        manager = self.manager(sockets={"lossd": self.path}, names="other")
        self.assertIn("FileDescriptorName=", manager.until("STATUS")["STATUS"])
        self.assertEqual(manager.process.wait(10), 78)

    def test_lines_have_priorities_where_standard_error_is_the_journal_and_nowhere_else(self):
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        status = os.fstat(theirs.fileno())
        for stream, begins in ((f"{status.st_dev}:{status.st_ino}", b"<3>lossd: "), ("1:2", b"lossd: ")):
            subprocess.run(
                [program("lossd"), "--set", "workers=none"], stderr=theirs,
                env=dict(os.environ, JOURNAL_STREAM=stream))
            self.assertTrue(ours.recv(4096).startswith(begins))
        theirs.close()

    def test_addresses_of_the_settings_are_served_besides_and_once(self):
        manager = self.manager(
            sockets={"lossd": self.path},
            settings=f"listen: [\"unix:{self.path}\", \"unix:{self.folder}/second.sock\"]\n")
        manager.until("READY")
        self.assertEqual(self.sigmoid(), [0.5])
        self.assertEqual(self.sigmoid(f"{self.folder}/second.sock"), [0.5])

    def test_what_the_settings_offer_at_an_address_is_offered_at_the_managers_socket_of_it(self):
        settings = "listen: [{{address: 'unix:{}', services: [lossd.v1.Daemon]{}}}]\n".format
        manager = self.manager(sockets={"lossd": self.path}, settings=settings(self.path, ""))
        manager.until("READY")
        with Connection(f"unix:{self.path}") as connection:
            connection.call("/lossd.v1.Daemon/GetStatus")
            with self.assertRaises(CallError) as caught:
                connection.evaluate("sigmoid", {"input": Tensor([0.0])})
            self.assertIn("this listener does not offer lossd.v1.Evaluator (services)", caught.exception.text)
            # As what else an address has, it stays until a restart.
            manager.config.write_text(settings(self.path, ", protocols: [grpc]"))
            self.assertEqual(manager.reload().returncode, 0)
            self.assertRegex(manager.text(), "listen goes from .* with the next restart only")
            connection.call("/lossd.v1.Daemon/GetStatus")
        manager.process.send_signal(signal.SIGTERM)
        manager.process.wait(40)
        manager.start()
        with self.assertRaises((ConnectionError, EOFError, OSError)), Connection(f"unix:{self.path}") as connection:
            connection.call("/lossd.v1.Daemon/GetStatus")

    def test_reload_takes_good_settings_and_keeps_the_old_ones_for_bad_ones(self):
        manager = self.manager(sockets={"lossd": self.path}, settings="limits: {streams: 100}\n")
        manager.until("READY")
        with Connection(f"unix:{self.path}") as before:
            self.assertEqual(streams(before), 100)
            manager.config.write_text("limits: {streams: 50}\nworkers: 7\nlog_level: debug\n")
            self.assertEqual(manager.reload().returncode, 0)
            message = manager.next()
            self.assertEqual(message["RELOADING"], "1")
            self.assertLess(
                abs(int(message["MONOTONIC_USEC"]) / 1e6 - time.clock_gettime(time.CLOCK_MONOTONIC)), 10)
            message = manager.next()
            self.assertEqual(message["READY"], "1")
            self.assertIn("limits.streams 50", message["STATUS"])
            self.assertIn("workers goes from 0 to 7 with the next restart only", manager.text())
            # Nothing in flight is disturbed; who comes now gets the new ones.
            self.assertEqual(before.evaluate("sigmoid", {"input": Tensor([0.0])})["output"].values(), [0.5])
            with Connection(f"unix:{self.path}") as after:
                self.assertEqual(streams(after), 50)
            for text, reason in (
                    ("limits: {streams: many}\n", "limits.streams: many is not a number"),
                    ("limits: {stream: 1}\n", "there is no setting limits.stream"), ("{", "lossd.yaml")):
                manager.config.write_text(text)
                result = manager.reload()
                self.assertEqual(result.returncode, 1)
                self.assertIn(reason, result.stderr)
                self.assertIn("with the settings before", manager.until("READY")["STATUS"])
            with Connection(f"unix:{self.path}") as after:
                self.assertEqual(streams(after), 50)
            manager.config.unlink()
            self.assertEqual(manager.reload().returncode, 1)
            manager.config.write_text("")
            self.assertEqual(manager.reload().returncode, 0)
            with Connection(f"unix:{self.path}") as after:
                self.assertEqual(streams(after), 256)
        manager.process.send_signal(signal.SIGTERM)
        manager.process.wait(40)
        self.assertFalse(os.path.exists(f"{self.folder}/reload"))
        self.assertIn("no running daemon", manager.reload().stderr)

    def test_signals_in_a_crowd_end_with_the_last_settings(self):
        manager = self.manager(sockets={"lossd": self.path})
        manager.until("READY")
        for number in range(20):
            manager.config.write_text(f"limits: {{streams: {20 + number}}}\n")
            manager.process.send_signal(signal.SIGHUP)
        self.assertEqual(manager.reload().returncode, 0)
        with Connection(f"unix:{self.path}") as after:
            self.assertEqual(streams(after), 39)

    def test_the_watchdog_hears_of_an_idle_and_of_a_busy_daemon(self):
        manager = self.manager(sockets={"lossd": self.path}, watchdog=1, arguments=["--loops", "2"])
        manager.until("READY")
        ended = threading.Event()

        def load():
            with Connection(f"unix:{self.path}") as connection:
                while not ended.is_set():
                    connection.evaluate("softmax", {"input": Tensor([0.5] * 100_000)})

        def longest_wait():
            """For one of four WATCHDOGs, seconds."""
            waits, last = [], time.monotonic()
            for _ in range(4):
                manager.until("WATCHDOG", 2)
                waits.append(time.monotonic() - last)
                last = time.monotonic()
            return max(waits)

        thread = threading.Thread(target=load)
        for round in range(2):
            self.assertLess(measured(longest_wait, lambda seconds: seconds < 0.9), 0.9)
            if round == 0:
                thread.start()
        ended.set()
        thread.join()

    def stuck(self, isolation):
        """Seconds between two WATCHDOGs while a plugin hangs for 3 s, in the daemon or in a process."""
        plugins = f"{self.folder}/plugins"
        os.mkdir(plugins, 0o755)
        make_wicked(plugins, "wicked.so")
        manager = self.manager(
            sockets={"lossd": self.path}, watchdog=1,
            arguments=["--plugin-dir", plugins, "--workers", "1", "--set",
                       f"plugins.isolation={isolation}"])
        deadline = time.monotonic() + 10
        while "loaded plugin wicked" not in manager.text():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        with Connection(f"unix:{self.path}") as connection:
            thread = threading.Thread(
                target=lambda: connection.evaluate(
                    "wicked", {"input": Tensor([1.0])}, {"mode": "sleeps"}))
            manager.until("WATCHDOG", 2)
            thread.start()
            longest, last = 0, time.monotonic()
            while thread.is_alive():
                manager.until("WATCHDOG", 30)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
            thread.join()
        return longest

    def test_the_watchdog_hears_nothing_while_the_workers_are_stuck(self):
        self.assertGreater(self.stuck("none"), 2)

    def test_a_plugin_that_hangs_in_its_process_does_not_silence_the_watchdog(self):
        self.assertLess(self.stuck("process"), 0.9)


if __name__ == "__main__":
    unittest.main()
