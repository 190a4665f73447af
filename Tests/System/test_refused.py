"""Plugins that were refused: listed with reason and time, tried again when their reason has gone, in an order that stays."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from daemon import program
from isolation import HINGE, PluginDaemon, built, until
from plugin_files import EXAMPLES, build


def names(file, plugin, function):
    """Builds the hinge as another plugin's function; moved into place as an installation does."""
    text = (EXAMPLES / "hinge.c").read_text()
    for old, new in (('LOSSD_ABI_MINOR, "hinge"', f'LOSSD_ABI_MINOR, "{plugin}"'),
                     ('LOSSD_KIND_LOSS, "hinge"', f'LOSSD_KIND_LOSS, "{function}"')):
        assert text.count(old) == 1
        text = text.replace(old, new)
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "hinge.c"
        source.write_text(text)
        build(source, file)


class Refused(unittest.TestCase):
    def test_every_refused_file_is_listed_with_its_reason_and_since_when(self):
        with PluginDaemon("hinge.so") as daemon:
            begin = time.time() * 1000
            cut = (built() / "hinge.so").read_bytes()[:5000]
            (daemon.folder / "cut.so").write_bytes(cut)
            daemon.put("load/abi_major.so")
            daemon.put("load/clash.so")
            daemon.put("hinge.so", "twin.so")
            daemon.put("load/good.so", "open.so")
            os.chmod(daemon.folder / "open.so", 0o666)
            reasons = {"cut.so": "truncated", "abi_major.so": "built for plugin.h 2.",
                       "clash.so": "the function sigmoid exists already, in the plugin catalogue",
                       "twin.so": f"the plugin hinge is loaded already, from {daemon.folder}/hinge.so",
                       "open.so": "writable by its group or others"}
            until(lambda: daemon.refused().keys() == reasons.keys(), lambda: f"{daemon.refused()} {daemon.log()}")
            found = daemon.refused()
            for name, reason in reasons.items():
                item = found[name]
                self.assertIn(reason, item["last_reason"])
                self.assertEqual((item["name"], item["file"], item["functions"], item["version"]),
                                 (name[:-3], f"{daemon.folder}/{name}", [], ""))
                self.assertTrue(begin - 1000 <= item["since_unix_ms"] <= time.time() * 1000 + 1000)
            text = daemon.plugin("list")
            self.assertRegex(
                text, rf"(?m)^cut \({daemon.folder}/cut.so\): refused since \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ: .*truncated")
            # Still since then after another look, and the log has not said it again.
            lines = daemon.log().count("truncated")
            daemon.put("load/good.so")
            until(lambda: "load_good" in daemon.list(), daemon.log)
            self.assertEqual(daemon.refused()["cut.so"]["since_unix_ms"], found["cut.so"]["since_unix_ms"])
            self.assertEqual(daemon.log().count("truncated"), lines)
            # What has gone, or is loaded, is refused no more.
            os.remove(daemon.folder / "cut.so")
            os.chmod(daemon.folder / "open.so", 0o644)
            os.remove(daemon.folder / "good.so")
            until(lambda: daemon.refused().keys() == {"abi_major.so", "clash.so", "twin.so"}, daemon.log)
            self.assertGreaterEqual(daemon.list()["load_good"]["since_unix_ms"], begin - 1000)

    def test_a_refused_version_is_listed_beside_the_one_that_serves(self):
        with PluginDaemon("hinge.so") as daemon:
            daemon.put("load/abi_major.so", "hinge.so")
            until(lambda: "hinge.so" in daemon.refused(), daemon.log)
            self.assertIn("the version before goes on serving", daemon.refused()["hinge.so"]["last_reason"])
            self.assertEqual(daemon.list()["hinge"]["state"], "serving")

    def test_a_version_that_is_back_is_refused_no_more(self):
        with PluginDaemon("hinge.so") as daemon:
            path, kept = daemon.folder / "hinge.so", daemon.folder / "kept"
            os.link(path, kept)
            daemon.put("load/clash.so", "hinge.so")
            until(lambda: "hinge.so" in daemon.refused(), daemon.log)
            os.rename(kept, path)
            until(lambda: not daemon.refused(), daemon.log)
            self.assertEqual(daemon.list()["hinge"]["state"], "serving")

    def test_a_conflict_is_tried_again_when_what_it_clashed_with_has_gone_however_that_goes(self):
        with PluginDaemon("hinge.so") as daemon:
            for how in ("remove", "unload", "replace"):
                names(daemon.folder / "other.so", "other", "hinge")
                daemon.put("hinge.so", "second.so")
                until(lambda: {"other.so", "second.so"} <= daemon.refused().keys(),
                      lambda: f"{how}: {daemon.plugin('list')} {daemon.log()}")
                if how == "remove":
                    os.remove(daemon.folder / "hinge.so")
                elif how == "unload":
                    daemon.plugin("unload", "hinge")
                else:
                    # A version with other names.
                    names(daemon.folder / "hinge.so", "elsewhere", "elsewhere")
                # The older one is second.so, which has the plugin's name; other.so goes on being refused.
                until(lambda: daemon.list().get("hinge", {}).get("file", "").endswith("second.so"),
                      lambda: f"{how}: {daemon.plugin('list')} {daemon.log()}")
                until(lambda: "in the plugin hinge" in daemon.refused().get("other.so", {}).get("last_reason", ""),
                      daemon.log)
                with daemon.connect() as connection:
                    connection.evaluate("hinge", HINGE)
                os.remove(daemon.folder / "second.so")
                until(lambda: "other" in daemon.list(), lambda: f"{how}: {daemon.plugin('list')} {daemon.log()}")
                with daemon.connect() as connection:
                    connection.evaluate("hinge", HINGE)
                for name in ("other.so", "hinge.so"):
                    (daemon.folder / name).unlink(missing_ok=True)
                until(lambda: not daemon.list().keys() & {"other", "hinge", "elsewhere"}, daemon.log)
                daemon.put("hinge.so")
                until(lambda: "hinge" in daemon.list(), daemon.log)

    def test_of_duplicates_the_first_serves_and_after_a_restart_again(self):
        def serving(daemon):
            return os.path.basename(daemon.list()["hinge"]["file"])

        for older, newer in (("a.so", "z.so"), ("z.so", "a.so")):
            with PluginDaemon() as daemon:
                for seconds, name in ((1000, older), (2000, newer)):
                    daemon.put("hinge.so", name)
                    os.utime(daemon.folder / name, (seconds, seconds))
                    until(lambda: "hinge" in daemon.list() and (name == older or name in daemon.refused()), daemon.log)
                for _ in range(3):
                    self.assertEqual(serving(daemon), older)
                    self.assertIn("is loaded already, from", daemon.refused()[newer]["last_reason"])
                    daemon.restart()
                # Of the same time, the first by name.
                os.utime(daemon.folder / older, (2000, 2000))
                daemon.restart()
                self.assertEqual(serving(daemon), "a.so")


class Installing(unittest.TestCase):
    def install(self, daemon, source, *arguments):
        return subprocess.run(
            [program("lossctl"), "plugin", "install", source, "--folder", daemon.folder, "--server", daemon.admin,
             *map(str, arguments)], capture_output=True, text=True, timeout=60)

    def test_it_says_what_the_daemon_makes_of_it(self):
        with PluginDaemon() as daemon, tempfile.TemporaryDirectory() as folder:
            result = self.install(daemon, built() / "hinge.so")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn(f"loaded hinge 1.0 ({daemon.folder}/hinge.so)", result.stdout)
            # The same again is loaded again.
            self.assertIn("loaded hinge", self.install(daemon, built() / "hinge.so").stdout)
            twin = pathlib.Path(folder) / "twin.so"
            shutil.copy(built() / "hinge.so", twin)
            result = self.install(daemon, twin)
            self.assertEqual(result.returncode, 1)
            self.assertIn("installed, but the daemon refuses it: twin", result.stderr)
            self.assertIn("the plugin hinge is loaded already, from", result.stderr)
            elsewhere = pathlib.Path(folder) / "plugins"
            elsewhere.mkdir(0o755)
            result = subprocess.run(
                [program("lossctl"), "plugin", "install", twin, "--folder", elsewhere, "--server", daemon.admin],
                capture_output=True, text=True, timeout=60)
            self.assertEqual(result.returncode, 0)
            self.assertIn("the daemon does not load plugins from", result.stderr)

    def test_a_daemon_that_stands_still_is_not_waited_for(self):
        source = built() / "hinge.so"
        with PluginDaemon() as daemon:
            os.kill(daemon.pid, signal.SIGSTOP)
            try:
                begin = time.monotonic()
                result = self.install(daemon, source)
                self.assertLess(time.monotonic() - begin, 30)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn("the daemon does not answer", result.stderr)
            finally:
                os.kill(daemon.pid, signal.SIGCONT)


if __name__ == "__main__":
    unittest.main()
