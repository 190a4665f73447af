"""Plugins added, exchanged and removed while a daemon runs, and bad ones."""

import os
import pathlib
import shutil
import subprocess
import time
import unittest

from daemon import Daemon, lossctl
from plugin_files import build, make_wicked
from wire import CallError, Tensor


class Plugins(unittest.TestCase):
    def setUp(self):
        self.folder = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"lossd-plugins-{os.getpid()}")
        os.makedirs(self.folder, 0o755)
        self.admin = f"unix:{self.folder}/admin.sock"
        self.addCleanup(shutil.rmtree, self.folder)

    def daemon(self, **settings):
        return Daemon(plugin_folders=self.folder, admin_listen=self.admin, **settings)

    def plugins(self):
        return {item["name"]: item
                for item in lossctl("plugin", "list", "--json", server=None, *["--server", self.admin])
                if item["state"] != "refused"}

    def until(self, condition, what):
        deadline = time.time() + 10
        while not condition():
            self.assertLess(time.time(), deadline, what)
            time.sleep(0.05)

    def hinge(self, connection, reduction="mean"):
        return connection.evaluate(
            "hinge", {"input": Tensor([0.5, 2.0, -1.0]), "target": Tensor([1.0, 1.0, 1.0])},
            {"reduction": reduction}, ["loss", "grad.input"])

    def test_a_plugin_is_loaded_exchanged_and_removed_while_the_daemon_runs(self):
        build("hinge.c", f"{self.folder}/hinge.so")
        with self.daemon() as daemon, daemon.connect() as connection:
            self.until(lambda: "hinge" in self.plugins(), "loaded at the start")
            result = self.hinge(connection)
            self.assertAlmostEqual(result["loss"].values()[0], 2.5 / 3, 6)
            third = Tensor([1 / 3]).values()[0]
            self.assertEqual(result["grad.input"].values(), [-third, 0, -third])
            self.assertEqual(self.hinge(connection, "sum")["loss"].values(), [2.5])
            build("hinge.c", f"{self.folder}/hinge.so", '-DVERSION="2.0"')
            self.until(lambda: self.plugins()["hinge"]["version"] == "2.0", "exchanged")
            self.hinge(connection)
            os.remove(f"{self.folder}/hinge.so")
            self.until(lambda: "hinge" not in self.plugins(), "removed")
            with self.assertRaises(CallError) as caught:
                self.hinge(connection)
            self.assertEqual(caught.exception.code, 5)

    def test_load_reload_and_unload_by_command(self):
        with self.daemon() as daemon:
            def plugin(*arguments):
                return lossctl("plugin", *arguments, "--server", self.admin)

            build("tversky.c", f"{self.folder}/tversky.so")
            self.assertIn("tversky 1.0", plugin("load", "tversky.so"))
            self.assertIn("tversky", plugin("reload", "tversky"))
            plugin("unload", "tversky.so")
            self.assertNotIn("tversky", self.plugins())
            time.sleep(1)
            self.assertNotIn("tversky", self.plugins())
            for arguments, text in (
                    (("load", "../x.so"), "not the name of a file"),
                    (("load", "nope.so"), "no file nope.so"), (("unload", "nope"), "no plugin named"),
                    (("unload", "catalogue"), "a part of the daemon")):
                result = lossctl("plugin", *arguments, "--server", self.admin, check=False)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(text, result.stderr)
            refused = lossctl("plugin", "list", "--server", daemon.unix, check=False)
            self.assertIn("PERMISSION_DENIED", refused.stderr)

    def test_the_gradient_of_tversky_against_differences(self):
        build("tversky.c", f"{self.folder}/tversky.so")
        with self.daemon() as daemon, daemon.connect() as connection:
            self.until(lambda: "tversky" in self.plugins(), "loaded")
            x = [0.9, 0.2, 0.6, 0.05, 0.5]
            y = Tensor([1.0, 0.0, 1.0, 0.0, 1.0])

            def loss(values):
                tp = sum(a * b for a, b in zip(values, y.values()))
                fp = sum(a * (1 - b) for a, b in zip(values, y.values()))
                fn = sum((1 - a) * b for a, b in zip(values, y.values()))
                return 1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1)

            result = connection.evaluate(
                "tversky", {"input": Tensor(x), "target": y}, {"alpha": 0.3, "beta": 0.7},
                ["loss", "grad.input"])
            self.assertAlmostEqual(result["loss"].values()[0], loss(x), 6)
            for index, slope in enumerate(result["grad.input"].values()):
                up, down = list(x), list(x)
                up[index] += 1e-5
                down[index] -= 1e-5
                self.assertAlmostEqual(slope, (loss(up) - loss(down)) / 2e-5, 5)
            with self.assertRaises(CallError) as caught:
                connection.evaluate("tversky", {"input": Tensor([1.5]), "target": Tensor([1.0])})
            self.assertIn("outside [0, 1]", caught.exception.text)

    def test_small_inputs_may_have_big_results(self):
        """2,000 elements fit into a message, their gradient's 8,000 bytes need memory of their own."""
        build("hinge.c", f"{self.folder}/hinge.so")
        with self.daemon() as daemon, daemon.connect() as connection:
            self.until(lambda: "hinge" in self.plugins(), "loaded")
            for count in (1000, 1700, 2000):
                result = connection.evaluate(
                    "hinge", {"input": Tensor([0.5] * count), "target": Tensor([1.0] * count)}, {}, ["grad.input"])
                self.assertEqual(result["grad.input"].values(), Tensor([-1 / count] * count).values())

    def test_what_is_refused_and_why(self):
        good = f"{self.folder}/hinge.so"
        build("hinge.c", good)
        data = pathlib.Path(good).read_bytes()

        def check(path):
            result = lossctl("plugin", "check", path, check=False)
            return result.returncode, result.stderr

        self.assertEqual(check(good)[0], 0)
        cases = {
            "text.so": (b"not a library", "not an ELF file"), "empty.so": (b"", "0 bytes long"),
            "cut.so": (data[:len(data) // 2], "truncated"),
            "head.so": (data[:64], "truncated"),
            "arm.so": (data[:18] + b"\xb7\x00" + data[20:], "another architecture"),
            "narrow.so": (data[:4] + b"\x01" + data[5:], "64-bit"),
        }
        for name, (content, reason) in cases.items():
            path = f"{self.folder}/{name}"
            pathlib.Path(path).write_bytes(content)
            code, text = check(path)
            self.assertNotEqual(code, 0, name)
            self.assertIn(reason, text, name)
            os.remove(path)
        source = f"{self.folder}/none.c"
        pathlib.Path(source).write_text("int nothing;\nextern int missing(void);\n"
                                        "int call(void) { return missing(); }\n")
        for flags, reason in ((["-DX"], "undefined symbol"),):
            subprocess.run(["cc", "-shared", "-fPIC", "-o", f"{self.folder}/none.so", source, *flags],
                           check=True)
            self.assertIn(reason, check(f"{self.folder}/none.so")[1])
        pathlib.Path(source).write_text("int nothing;\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", f"{self.folder}/none.so", source], check=True)
        self.assertIn("does not export lossd_plugin_entry", check(f"{self.folder}/none.so")[1])
        os.remove(f"{self.folder}/none.so")
        os.chmod(good, 0o666)
        self.assertIn("writable by its group or others", check(good)[1])
        os.chmod(good, 0o755)
        with self.daemon() as daemon, daemon.connect() as connection:
            self.until(lambda: "hinge" in self.plugins(), "loaded")
            # A bad version leaves the good one serving, and the log says why.
            pathlib.Path(f"{self.folder}/.t").write_bytes(data[:1000])
            os.rename(f"{self.folder}/.t", good)
            self.until(lambda: "truncated" in daemon.log(), "refused in the log")
            self.assertIn("the version before goes on serving", daemon.log())
            self.hinge(connection)
            # A name that is taken.
            build("hinge.c", f"{self.folder}/second.so")
            self.until(lambda: "the plugin hinge is loaded already, from" in daemon.log(), "a clash in the log")

    def test_a_plugin_that_lies_is_answered_and_one_that_crashes_is_named(self):
        make_wicked(self.folder, "wicked.so")
        with self.daemon() as daemon, daemon.connect() as connection:
            self.until(lambda: "wicked" in self.plugins(), "loaded")

            def wicked(what, **options):
                return connection.evaluate("wicked", {}, {"mode": what}, **options)

            self.assertEqual(wicked("none")["output"].values(), [0, 1, 2, 3])
            for lie in ("lie_type", "lie_rank", "lie_negative", "lie_huge", "lie_big", "lie_rows",
                        "lie_passes", "lie_units", "lie_cost", "lie_workspace", "code", "text_no_end"):
                with self.assertRaises(CallError, msg=lie) as caught:
                    wicked(lie)
                self.assertIn(caught.exception.code, (8, 13), lie)
                wicked("none")
        for crash, name in (
                ("segv_null", "SIGSEGV"), ("abrt", "SIGABRT"), ("exits", "exit")):
            with self.daemon(plugins__isolation="none") as daemon, daemon.connect() as connection:
                self.until(lambda: "wicked" in self.plugins(), "loaded")
                with self.assertRaises((EOFError, ConnectionResetError)):
                    connection.evaluate("wicked", {}, {"mode": crash})
                self.assertNotEqual(daemon.process.wait(10), 0)
                self.assertIn(f"{name} in plugin wicked 1.0, function wicked", daemon.log())
            os.path.exists(f"{self.folder}/admin.sock") and os.remove(f"{self.folder}/admin.sock")


if __name__ == "__main__":
    unittest.main()
