"""Whole conversations made of a seed (conversations/chaos.py): whatever is said, in whatever order, the daemon stays, is
right, and keeps nothing. LOSSD_SEED repeats a run, LOSSD_SOAK=1 makes runs long.
"""

import os
import random
import time
import unittest

from conversations.chaos import SETTINGS, Chaos, drain, is_calm, regions_are_back
from conversations.peer import Violation
from daemon import SANITIZER, Daemon
from isolation import PluginDaemon, until
from wire import Tensor

SOAK = os.environ.get("LOSSD_SOAK") == "1"
# Under a sanitizer memory and time are not the daemon's own, and the processes cannot run in which plugins are tried.
SANITIZED = SANITIZER is not None
SECONDS = float(os.environ.get("LOSSD_SECONDS", 600 if SOAK else 3))
SEED = int(os.environ.get("LOSSD_SEED", random.SystemRandom().randrange(1 << 32)))
# What a run may leave behind: threads' stacks, arenas of the C library, pooled buffers.
GROWN_BYTES_MAX = 96 << 20


class Conversations(unittest.TestCase):
    def talk(self, make, functions=(), files=()):
        """Runs after one another on one daemon; after each it is as it was, and in the end it goes as it should."""
        print(f"LOSSD_SEED={SEED}", flush=True)
        with make() as holder:
            daemon = getattr(holder, "daemon", holder)
            admin = getattr(holder, "admin", None)
            rounds = max(2, int(SECONDS / 30))
            before = None
            for index in range(rounds):
                after = self.round(Chaos(daemon, SEED + index, functions, admin, files), SECONDS / rounds)
                if before and not SANITIZED:
                    self.assertLess(after[0] - before[0], GROWN_BYTES_MAX, "bytes kept")
                before = before or after
                # Plugins' processes come and go; regions stay for their grace.
                most = before[1] + (64 if functions else 8)
                until(lambda: daemon.descriptors() < most, lambda: f"{daemon.descriptors()} descriptors, {before[1]} before")
            status, seconds = drain(daemon, SEED)
            self.assertEqual(status, 0, daemon.log()[-3000:])
            self.assertLess(seconds, 3 + 5 * (SANITIZED + 1), "the drain's time is 3 s")
            self.assertNotRegex(daemon.log(), r"(?i)fatal error|sanitizer")

    def round(self, chaos, seconds):
        """One run; afterwards resident bytes and descriptors."""
        daemon, what = chaos.daemon, f"LOSSD_SEED={chaos.seed}"
        try:
            chaos.run(seconds)
            left = is_calm(daemon)
        except (Violation, OSError, EOFError) as error:
            # Soon enough for the daemon's own last words.
            time.sleep(0.5)
            self.fail(f"{what}, step {chaos.steps}: {error!r}; the daemon: {daemon.process.poll()}\n{daemon.log()[-3000:]}")
        finally:
            for peer in chaos.peers:
                peer.close()
        self.assertIsNone(left, what)
        self.assertTrue(regions_are_back(daemon), what)
        with daemon.connect() as connection:
            answer = connection.evaluate("sigmoid", {"input": Tensor([0.0])})
            self.assertEqual(answer["output"].values(), [0.5], what)
        print(f"{what}: {chaos.steps} steps, {chaos.made} connections", flush=True)
        return daemon.resident_bytes(), daemon.descriptors()

    def test_built_in_functions(self):
        # On every second seed descriptors reach the daemon, as on kernels before 6.16.
        self.talk(lambda: Daemon(passes_descriptors=bool(SEED & 1), **SETTINGS))

    @unittest.skipIf(SANITIZED, "no plugin's process runs under a sanitizer")
    def test_plugins_in_processes(self):
        self.talk(
            lambda: PluginDaemon("hinge.so", "wicked.so", plugins__isolation="process", **SETTINGS),
            ("hinge", "wicked"), ("hinge.so", "wicked.so"))

    @unittest.skipIf(SANITIZED, "no plugin's process runs under a sanitizer")
    def test_plugins_in_the_daemon(self):
        self.talk(lambda: PluginDaemon("hinge.so", plugins__isolation="none", **SETTINGS), ("hinge",), ("hinge.so",))


if __name__ == "__main__":
    unittest.main()
