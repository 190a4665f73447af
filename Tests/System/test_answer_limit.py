"""lossctl against a daemon that accepts connections and says nothing."""

import os
import signal
import socket
import tempfile
import time
import unittest

from daemon import Daemon, lossctl


class AnswerLimit(unittest.TestCase):
    def gives_up(self, server, *arguments, seconds):
        start = time.monotonic()
        result = lossctl(*arguments, server=server, check=False)
        took = time.monotonic() - start
        self.assertEqual(result.returncode, 69, result.stdout + result.stderr)
        self.assertIn("no answer within", result.stderr)
        self.assertIn("--timeout", result.stderr)
        self.assertGreaterEqual(took, seconds)
        self.assertLess(took, seconds + 4)

    def test_ping_status_and_functions_end_with_69_where_the_daemon_is_stopped(self):
        with Daemon() as daemon:
            daemon.process.send_signal(signal.SIGSTOP)
            try:
                for command in ("ping", "status", "functions"):
                    self.gives_up(daemon.unix, command, "--timeout", "0.5", seconds=0.5)
                self.gives_up(daemon.unix, "ping", seconds=5)
            finally:
                daemon.process.send_signal(signal.SIGCONT)
            lossctl("ping", "--timeout", "20", server=daemon.unix)

    def test_they_end_where_nobody_accepts_and_the_backlog_is_full(self):
        with tempfile.TemporaryDirectory(prefix="lossd-silent-") as folder:
            path = os.path.join(folder, "silent.sock")
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
                listener.listen(0)
                waiting = []
                for _ in range(3):
                    client = socket.socket(socket.AF_UNIX)
                    self.addCleanup(client.close)
                    client.setblocking(False)
                    waiting.append(client.connect_ex(path))
                self.assertTrue(any(waiting), "the backlog is not full")
                self.gives_up(f"unix:{path}", "status", "--timeout", "0.5", seconds=0.5)

    def test_a_limit_that_is_none_is_refused(self):
        for text in ("0", "-1", "nan"):
            result = lossctl("ping", f"--timeout={text}", server="unix:/nowhere", check=False)
            self.assertEqual(result.returncode, 64, result.stderr)


if __name__ == "__main__":
    unittest.main()
