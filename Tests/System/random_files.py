"""For the tests of lossctl eval on files: a folder for them, numbers that can be drawn again, daemons."""

import os
import pathlib
import random
import tempfile
import time
import unittest

from daemon import Daemon


class RandomFiles(unittest.TestCase):
    """`random` is what LOSSD_SEED says, or of a seed that it tells; `folder` and daemons end with the test."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lossd-files-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.seed = int(os.environ.get("LOSSD_SEED", time.time_ns() % 10**9))
        self.random = random.Random(self.seed)
        self.count = 0

    def daemon(self, **settings):
        daemon = Daemon(**settings)
        self.addCleanup(daemon.__exit__)
        return daemon

    def next_path(self):
        """Of a file that is not there yet."""
        self.count += 1
        return self.folder / f"in{self.count}.npy"
