"""lossctl plugin new, check --gradients and install: from nothing to one's own loss, against an installation."""

import os
import pathlib
import platform
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
import unittest

import npy
from daemon import ROOT, Daemon, lossctl, program
from plugin_files import EXAMPLES, build
from wire import Tensor

LANGUAGES = ("c", "cpp", "swift")


def huber(x, y, delta=1.0):
    d = abs(x - y)
    return d * d / 2 if d < delta else delta * (d - delta / 2)


def margin(row, target):
    return sum(max(0, 1 - row[target] + v) for j, v in enumerate(row) if j != target) / len(row)


class Installed(unittest.TestCase):
    """What make install put under a prefix, and nothing of the checkout."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="lossd-new-"))
        cls.folder.chmod(0o755)
        build_folder = pathlib.Path(program("lossctl")).parent
        subprocess.run(
            ["make", "-s", "install", f"DESTDIR={cls.folder}/root", "PREFIX=/usr", f"BUILD={build_folder}"], cwd=ROOT,
            check=True, env={**os.environ, "STRIP": "no", "BUILD": str(build_folder)})
        cls.prefix = cls.folder / "root" / "usr"
        cls.lossctl = cls.prefix / "bin" / "lossctl"
        cls.environment = {key: value for key, value in os.environ.items() if key != "LOSSD_SDK"}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def run_installed(self, *arguments, cwd=None, check=True, **environment):
        return subprocess.run(
            [self.lossctl, *map(str, arguments)], cwd=cwd or self.folder, capture_output=True, text=True, check=check,
            env={**self.environment, **environment})

    def make(self, folder, *arguments, check=True):
        result = subprocess.run(
            ["make", *arguments], cwd=folder, capture_output=True, text=True, env=self.environment)
        if check:
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result

    def test_each_template_builds_with_one_command_and_answers_in_a_running_daemon(self):
        plugins = self.folder / "plugins"
        plugins.mkdir(0o755)
        with Daemon(plugin_folders=plugins) as daemon, daemon.connect() as connection:
            for kind in ("elementwise", "rowwise"):
                for language in LANGUAGES:
                    name = f"my_{language}_{kind}"
                    told = self.run_installed("plugin", "new", name, "--language", language, "--kind", kind).stdout
                    self.assertIn("make check", told)
                    folder = self.folder / name
                    self.make(folder)
                    text = self.make(folder, "check").stdout
                    self.assertRegex(text, rf"{name}: grad.input agrees with finite differences at \d+ points")
                    self.make(folder, "install", f"FOLDER={plugins}")
                    deadline = time.time() + 20
                    while f"loaded plugin {name} 1.0" not in daemon.log():
                        self.assertLess(time.time(), deadline, daemon.log())
                        time.sleep(0.05)
                    if kind == "elementwise":
                        x, y = [0.5, 2.0, -3.0, 1.25], [0.0, 0.5, 0.5, 1.0]
                        inputs = {"input": Tensor(x, "float64"), "target": Tensor(y, "float64")}
                        losses = [huber(a, b) for a, b in zip(x, y)]
                    else:
                        x = [0.5, 2.0, -1.0, 1.0, 1.5, 0.25]
                        inputs = {"input": Tensor(x, "float64", (2, 3)), "target": Tensor([1, 2], "int64")}
                        losses = [margin(x[:3], 1), margin(x[3:], 2)]
                    for reduction, expected in (
                            ("none", losses), ("sum", [sum(losses)]), ("mean", [sum(losses) / len(losses)])):
                        result = connection.evaluate(name, inputs, {"reduction": reduction}, ["loss", "grad.input"])
                        for got, want in zip(result["loss"].values(), expected, strict=True):
                            self.assertAlmostEqual(got, want, 12, f"{name} {reduction}")
                    for data_type, reduction in (("float32", "none"), ("float32", "mean"), ("float64", "sum")):
                        self.check_batches(daemon, name, kind, data_type, reduction)

    def check_batches(self, daemon, name, kind, data_type, reduction):
        """In batches of 1 and 2 rows come the loss and the gradient of one call."""
        rows = 5
        x = npy.write(self.folder / "x.npy", [(7 * i % 11 - 5) / 2 for i in range(3 * rows)], (rows, 3), data_type)
        y = npy.write(self.folder / "y.npy", *(
            ([(5 * i % 7 - 3) / 2 for i in range(3 * rows)], (rows, 3), data_type) if kind == "elementwise"
            else ([i % 3 for i in range(rows)], (rows,), "int64")))
        found = []
        for more in ((), ("--batch-size", 1), ("--batch-size", 2)):
            saved = [self.folder / "loss.npy", self.folder / "gradient.npy"]
            lossctl("eval", name, "--input", x, "--target", y, "--attr", f"reduction={reduction}", "--want",
                    "loss,grad.input", "--save", f"loss={saved[0]}", "--save", f"grad.input={saved[1]}", *more,
                    server=daemon.unix)
            found.append([npy.read(path) for path in saved])
        for got in found[1:]:
            for (*kind_of, values), (*kind_expected, expected) in zip(got, found[0], strict=True):
                self.assertEqual(kind_of, kind_expected)
                for value, wanted in zip(values, expected, strict=True):
                    self.assertAlmostEqual(value, wanted, 6 if data_type == "float32" else 14, f"{name} {reduction}")

    @unittest.skipUnless(platform.machine() == "x86_64", "reads this machine's code")
    def test_a_swift_plugin_is_closed_in_itself_and_its_loops_become_vectors(self):
        """Exports its entry alone, needs no library of Swift's; the kit's loops are specialised in its module."""
        self.run_installed("plugin", "new", "vectors", "--language", "swift")
        folder = self.folder / "vectors"
        self.make(folder, "CPU=avx2")

        def tool(*command):
            return subprocess.run([*command], capture_output=True, text=True, check=True, cwd=folder).stdout

        self.assertNotIn("libswift", tool("readelf", "-d", "vectors.so"))
        symbols = tool("nm", "-D", "--defined-only", "vectors.so").splitlines()
        self.assertEqual([line.split()[2] for line in symbols if " T " in line], ["lossd_plugin_entry"])
        code = tool("objdump", "-d", "--no-show-raw-insn", ".build/avx2/release/libVectorsLoss.so")
        for loop in ("lossLoop", "gradientLoop"):
            for kind in "Sf", "Sd":  # mangled Float and Double
                body = re.search(rf"^\w+ <\S*{loop}\S*Vectors\S*_{kind}T\S*>:\n(.*?)(?:\n\n|\Z)", code, re.M | re.S)
                self.assertIsNotNone(body, f"{loop} is not specialised for {kind}")
                self.assertGreater(len(re.findall(r"v\w+p[sd] .*%ymm", body[1])), 5, f"{loop} {kind}")

    def test_names_are_checked_and_nothing_is_overwritten(self):
        for name in ("", "Upper", "1st", "a-b", "a/b", "../a", "a b", "ä", "x" * 65, "-x", "sigmoid", "cross_entropy"):
            result = self.run_installed("plugin", "new", "--language", "c", "--", name, check=False)
            self.assertNotEqual(result.returncode, 0, name)
        self.assertEqual(self.run_installed("plugin", "new", "x" * 64, "--language", "c").returncode, 0)
        (self.folder / "mine").mkdir()
        (self.folder / "mine" / "mine.c").write_text("precious")
        result = self.run_installed("plugin", "new", "mine", "--language", "c", check=False)
        self.assertIn("mine: File exists", result.stderr)
        self.assertEqual([path.name for path in (self.folder / "mine").iterdir()], ["mine.c"])
        # Words of the languages are names like others.
        for name in ("class", "self", "int", "loss", "any", "type"):
            for language in ("c", "cpp"):
                into = self.folder / language
                into.mkdir(exist_ok=True)
                self.run_installed("plugin", "new", name, "--language", language, "--into", into)
                self.make(into / name, "check")

    def test_a_missing_sdk_is_said_in_words(self):
        empty = self.folder / "empty"
        empty.mkdir()
        for arguments, environment in ((("--sdk", empty), {}), ((), {"LOSSD_SDK": str(empty)})):
            result = self.run_installed(
                "plugin", "new", "lost", "--language", "swift", *arguments, check=False, **environment)
            self.assertEqual(result.returncode, 69)
            self.assertIn(f"under {empty}: install lossd-dev, or say --sdk or LOSSD_SDK", result.stderr)
        self.run_installed("plugin", "new", "found", "--language", "c")
        result = self.make(self.folder / "found", f"LOSSD_SDK={empty}", check=False)
        self.assertIn(f"no include/lossd/plugin.h under {empty}: install lossd-dev, or set LOSSD_SDK", result.stderr)

    def test_a_checkout_is_an_sdk_too(self):
        into = self.folder / "checkout"
        into.mkdir()
        for arguments in ((), ("--sdk", ROOT / "sdk")):
            name = f"near{len(arguments)}"
            lossctl("plugin", "new", name, "--language", "c", "--into", into, *arguments)
            self.assertIn(str((ROOT / "sdk").resolve()), (into / name / "Makefile").read_text())
            self.make(into / name)


class Gradients(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lossd-gradients-"))
        self.folder.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.folder)

    def check(self, file, *arguments):
        return lossctl("plugin", "check", self.folder / file, "--gradients", *arguments, check=False)

    def variant(self, source, *changes):
        """Builds an example with its source changed."""
        text = (EXAMPLES / source).read_text()
        for old, new in changes:
            self.assertEqual(text.count(old), 1, old)
            text = text.replace(old, new)
        path = self.folder / source
        path.write_text(text)
        build(path, self.folder / source.replace(".c", ".so"))
        return source.replace(".c", ".so")

    def test_right_gradients_are_confirmed_at_any_point(self):
        for source in ("hinge.c", "tversky.c"):
            file = self.variant(source)
            for seed in range(1, 6):
                result = self.check(file, "--seed", seed)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn("agrees with finite differences at", result.stdout)

    def test_wrong_gradients_are_found(self):
        for source, change in (
                ("hinge.c", ("x * y < 1 ? -y : 0", "x * y < 1 ? -1.05 * y : 0")),
                ("hinge.c", ("x * y < 1 ? -y : 0", "x * y < 1 ? y : 0")),
                ("hinge.c", ("slope(x[i], y[i]) * scale", "slope(x[i], y[i]) + 0 * scale")),
                ("hinge.c", ("slope(x[i], y[i]) * scale", "slope(x[i], y[i]) * 0 * scale")),
                ("tversky.c", ("-up * (y[i] * b", "-0.9 * up * (y[i] * b")),
                ("tversky.c", ("- beta * y[i];", "+ beta * y[i];"))):
            result = self.check(self.variant(source, change))
            self.assertEqual(result.returncode, 1, change)
            self.assertRegex(result.stderr, r"grad\.input\[\d+\] is .*, differences of loss give", change)

    def test_kinks_are_left_out_and_a_loss_of_kinks_alone_is_refused(self):
        # The kinks of the hinge are where input * target is 1: put every point there.
        result = self.check(self.variant("hinge.c"), "--range", "input=0.999..1.001", "--range", "target=1..1")
        self.assertEqual(result.returncode, 1)
        self.assertIn("points are kinks", result.stderr)

    def test_what_the_author_knows_better_is_taken(self):
        file = self.variant("tversky.c")
        result = self.check(file, "--shape", "input=2x3", "--shape", "target=2x3", "--attr", "alpha=0.3", "--range",
                            "input=0.4..0.6")
        self.assertIn("at 6 points", result.stdout)
        for arguments, text in (
                (("--range", "input=1"), "expected LOW..HIGH"), (("--range", "input=2..1"), "expected LOW..HIGH"),
                (("--shape", "input=ax2"), "expected sizes like 4x5"), (("--attr", "alpha=x"), "expected a number"),
                (("--range", "input=5..6"), "found no inputs that it takes (tversky: element 0 is"),
                (("--function", "other"), "the plugin has no function other")):
            self.assertIn(text, self.check(file, *arguments).stderr)


class Install(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lossd-install-"))
        self.folder.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.folder)
        self.source = self.folder / "hinge.so"
        build("hinge.c", self.source)
        self.to = self.folder / "plugins"
        self.to.mkdir(0o755)

    def test_the_mode_is_right_whatever_the_umask(self):
        for mask in (0o077, 0o000):
            before = os.umask(mask)
            try:
                lossctl("plugin", "install", self.source, "--folder", self.to)
            finally:
                os.umask(before)
            self.assertEqual(stat.S_IMODE((self.to / "hinge.so").stat().st_mode), 0o755)
        self.assertEqual([path.name for path in self.to.iterdir()], ["hinge.so"])

    def test_what_the_daemon_would_not_take_is_refused(self):
        other = self.folder / "hinge.bin"
        shutil.copy(self.source, other)
        self.assertIn("end in .so", lossctl("plugin", "install", other, "--folder", self.to, check=False).stderr)
        bad = self.folder / "bad.so"
        bad.write_bytes(self.source.read_bytes()[:5000])
        self.assertIn(f"{bad}: refused", lossctl("plugin", "install", bad, "--folder", self.to, check=False).stderr)
        missing = lossctl("plugin", "install", self.source, "--folder", self.folder / "none", check=False)
        self.assertIn("No such file", missing.stderr)
        self.assertEqual(list(self.to.iterdir()), [])

    def test_what_an_author_built_anywhere_can_be_checked_and_installed(self):
        """In a folder that a group may write, and, where this user is root, as another user."""
        work = self.folder / "work"
        work.mkdir()
        work.chmod(0o775)
        library = work / "hinge.so"
        shutil.copy(self.source, library)
        library.chmod(0o775)
        if os.getuid() == 0:
            os.chown(library, 65534, 65534)
        checked = lossctl("plugin", "check", library, "--gradients")
        self.assertIn("agrees with", checked)
        self.assertIn("the daemon would not take it from there", checked)
        refused = lossctl("plugin", "check", library, check=False)
        self.assertRegex(refused.stderr, "writable by its group or others|owned by user 65534")
        lossctl("plugin", "install", library, "--folder", self.to)
        installed = (self.to / "hinge.so").stat()
        self.assertEqual((stat.S_IMODE(installed.st_mode), installed.st_uid), (0o755, os.getuid()))
        lossctl("plugin", "check", self.to / "hinge.so")
        # But not into a folder from which the daemon would not take it.
        self.to.chmod(0o777)
        self.assertIn("writable by its group or others", lossctl(
            "plugin", "install", library, "--folder", self.to, check=False).stderr)

    def test_nobody_ever_sees_a_part_of_a_file(self):
        """Two versions put into place in turn, some installations killed: every look finds one of them, whole."""
        versions = []
        for version in ("1.0", "2.0"):
            path = self.folder / version / "hinge.so"
            path.parent.mkdir()
            build("hinge.c", path, f'-DVERSION="{version}"')
            versions.append(path)
        whole = {path.read_bytes() for path in versions}
        lossctl("plugin", "install", versions[0], "--folder", self.to)
        stop, seen = threading.Event(), []

        def look():
            while not stop.is_set():
                seen.append((self.to / "hinge.so").read_bytes() in whole)

        thread = threading.Thread(target=look)
        thread.start()
        for round in range(20):
            process = subprocess.Popen(
                [program("lossctl"), "plugin", "install", versions[round % 2], "--folder", self.to],
                stdout=subprocess.DEVNULL)
            if round % 4 == 3:
                time.sleep(0.002 * round)
                process.send_signal(signal.SIGKILL)
            process.wait()
        stop.set()
        thread.join()
        self.assertGreater(len(seen), 20)
        self.assertTrue(all(seen))
        names = {path.name for path in self.to.iterdir() if not path.name.startswith(".")}
        self.assertEqual(names, {"hinge.so"})

    def test_it_is_on_disk_before_it_has_its_name_and_its_name_is_on_disk_before_it_ends(self):
        if not shutil.which("strace"):
            self.skipTest("no strace")
        result = subprocess.run(
            ["strace", "-f", "-e", "trace=fsync,rename,renameat,renameat2", program("lossctl"), "plugin", "install",
             self.source, "--folder", self.to], capture_output=True, text=True)
        calls = re.findall(r"\b(fsync|rename\w*)\(", result.stderr)
        self.assertEqual([re.sub("rename.*", "rename", call) for call in calls], ["fsync", "rename", "fsync"])


if __name__ == "__main__":
    unittest.main()
