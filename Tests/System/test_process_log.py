"""What a plugin's process writes to its log, and when."""

import os
import pathlib
import tempfile
import time
import unittest

from daemon import Daemon
from isolation import PLUGINS
from plugin_files import build
from wire import CallError, Tensor


class ProcessLog(unittest.TestCase):
    def test_a_process_that_floods_its_log_and_ends_takes_nobody_with_it(self):
        # The log's reading pauses for a second; the process that it was of is gone by then.
        with tempfile.TemporaryDirectory(prefix="lossd-babbler-") as folder:
            pathlib.Path(folder).chmod(0o755)
            library = pathlib.Path(folder) / "babbler.so"
            build(PLUGINS / "babbler.c", library)
            os.utime(library, (1, 1))  # Old enough to be taken at once.
            with Daemon(plugin_folders=folder, plugins__isolation="process") as daemon, daemon.connect() as connection:
                for _ in range(3):
                    with self.assertRaises(CallError) as caught:
                        connection.evaluate("babble", {"input": Tensor([1.0])})
                    self.assertEqual(caught.exception.code, 14, caught.exception.text)
                    self.assertRegex(caught.exception.text, "exited with status 3|is set aside")
                time.sleep(1.5)
                self.assertIsNone(daemon.process.poll(), daemon.log()[-2000:])
                self.assertEqual(connection.evaluate("sigmoid", {"input": Tensor([0.0])})["output"].values(), [0.5])
                self.assertGreater(daemon.log().count("xxxxxxxxxxxxxxx"), 200)
                self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
