"""The wicked plugins themselves: that they build, and that they do what Plugins/Wicked/deeds.def says."""

import os
import pathlib
import shutil
import tempfile
import time
import unittest

from daemon import Daemon, lossctl
from isolation import built
from plugin_files import WICKED, make_wicked
from wire import Tensor


class Wicked(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lossd-wicked-")
        os.chmod(self.folder, 0o755)
        self.addCleanup(shutil.rmtree, self.folder)

    def test_all_of_them_build_without_a_warning(self):
        text = (WICKED / "load.c").read_text()
        made = {path.stem for path in (built() / "load").glob("*.so")}
        for name in made:
            self.assertRegex(text.split("*/")[0], rf"\b{name}\b", "load.c's list")
        for name in ("good", "nodelete", "unknown_fields", "constructor_mode"):
            lossctl("plugin", "check", built() / "load" / f"{name}.so")

    @unittest.skipUnless(shutil.which("clang"), "no clang")
    def test_they_build_with_clang_too(self):
        make_wicked(self.folder, "wicked.so", "wicked_cpp.so", CC="clang", CXX="clang++")

    def test_the_good_deeds_are_good_and_the_search_finds_what_is_there(self):
        make_wicked(self.folder, "wicked.so")
        with Daemon(plugin_folders=self.folder, limits__callback_timeout="60s") as daemon, daemon.connect() as connection:
            deadline = time.time() + 10
            while "loaded plugin wicked" not in daemon.log():
                self.assertLess(time.time(), deadline, daemon.log())
                time.sleep(0.05)

            def wicked(mode, data=(1.0, 2.0, 3.0, 4.0), **attributes):
                result = connection.evaluate(
                    "wicked", {"input": Tensor(list(data))}, {"mode": mode, **attributes},
                    ["output", "loss"])
                return result["output"].values(), result["loss"].values()[0]

            self.assertEqual(wicked("none"), ([1, 2, 3, 4], 10))
            self.assertEqual(wicked("none", cost=1e6), ([1, 2, 3, 4], 10))
            self.assertEqual(wicked("none", where="merge"), ([1, 2, 3, 4], 10))
            self.assertEqual([wicked("calls")[1] for _ in range(3)], [1, 2, 3])
            self.assertEqual(wicked("half_written")[0][::2], [1, 3])
            pattern = os.urandom(16)
            low, high = (~int.from_bytes(pattern[at:at + 8], "little", signed=True) for at in (0, 8))
            _, found = wicked("search", low=low, high=high)
            self.assertEqual(found, 0)
            mine = Tensor([0.0] * 4)
            mine.data = pattern
            result = connection.evaluate(
                "wicked", {"input": mine}, {"mode": "search", "low": low, "high": high}, ["loss"])
            self.assertGreaterEqual(result["loss"].values()[0], 1)


if __name__ == "__main__":
    unittest.main()
