"""Whether a loop looks for events before it sleeps, and only where they come close upon one another."""

import pathlib
import shutil
import subprocess
import time
import unittest

from daemon import Daemon
from wire import Tensor

CALLS = 300


class BusyPoll(unittest.TestCase):
    def start(self, **settings):
        self.daemon = Daemon(**settings)
        self.addCleanup(self.daemon.__exit__)
        self.connection = self.daemon.connect()
        self.addCleanup(self.connection.close)
        self.call()
        self.loop = next(
            task for task in pathlib.Path(f"/proc/{self.daemon.process.pid}/task").iterdir()
            if (task / "comm").read_text() == "lossd-loop\n")

    def call(self):
        result = self.connection.evaluate("sigmoid", {"input": Tensor([0.0])})
        self.assertEqual(result["output"].values(), [0.5])

    def sleeps(self):
        """How often the loop has gone to sleep."""
        lines = (self.loop / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("voluntary"))

    def processor_seconds(self):
        fields = (self.loop / "schedstat").read_text().split()
        return int(fields[0]) / 1e9

    def test_it_sleeps_after_each_call_where_it_is_told_to(self):
        self.start(busy_poll="0")
        before = self.sleeps()
        for _ in range(CALLS):
            self.call()
        self.assertGreaterEqual(self.sleeps() - before, CALLS * 9 // 10)

    def test_between_two_looks_others_may_have_the_processor(self):
        """Its client, too, where the kernel has woken it there: else it waits until the loop has looked for long enough."""
        if not shutil.which("strace"):
            self.skipTest("no strace")
        self.start(busy_poll="50ms")
        file = pathlib.Path(self.daemon.folder.name) / "trace"
        tracer = subprocess.Popen(["strace", "-e", "trace=sched_yield", "-o", file, "-p", self.loop.name],
                                  stderr=subprocess.PIPE, text=True)
        try:
            self.assertIn("attached", tracer.stderr.readline())
            # It does not look at all for a while where others want the processor.
            end = time.monotonic() + 60
            while "sched_yield()" not in file.read_text():
                self.assertLess(time.monotonic(), end)
                for _ in range(CALLS):
                    self.call()
        finally:
            tracer.terminate()
            tracer.communicate()

    def test_it_is_awake_for_calls_that_come_close_upon_one_another(self):
        # Far longer than a call of this client takes.
        self.start(busy_poll="200ms")
        # It leaves the processor to others for a while where they want it, as they may during any of these.
        rounds = []
        for _ in range(30):
            before = self.sleeps()
            for _ in range(CALLS):
                self.call()
            rounds.append(self.sleeps() - before)
            if rounds[-1] < CALLS // 10:
                return
        taken = self.gaps()
        if taken > 20:
            self.skipTest(f"others take a processor of this machine {taken} times a second: it is right to sleep")
        self.fail(f"of {CALLS} calls it slept after {rounds}")

    def gaps(self):
        """How often in a second this thread, which does nothing but look at the clock, is kept from it for over 50 us."""
        count, last, end = 0, time.perf_counter(), time.perf_counter() + 1
        while last < end:
            now = time.perf_counter()
            count += now - last > 50e-6
            last = now
        return count

    def test_it_looks_no_longer_than_it_may_and_rests_when_nothing_comes(self):
        self.start(busy_poll="20ms")
        for _ in range(50):
            self.call()
        time.sleep(0.2)
        before = self.processor_seconds()
        time.sleep(1)
        self.assertLess(self.processor_seconds() - before, 0.02)

    def test_it_does_not_look_where_calls_are_rare(self):
        self.start(busy_poll="5ms")
        self.call()
        # The first of these comes late: from then on none is waited for.
        time.sleep(0.05)
        before = self.processor_seconds()
        for _ in range(20):
            self.call()
            time.sleep(0.03)
        # Looking would take 20 times 5 ms.
        self.assertLess(self.processor_seconds() - before, 0.05)


if __name__ == "__main__":
    unittest.main()
