"""Every program and command of docs/clients.md is run against a daemon, and prints what it should."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from daemon import ROOT, Daemon

PAGE = (ROOT / "docs" / "clients.md").read_text()
BLOCKS = re.findall(r"```([a-z ]+)\n(.*?)```", PAGE, re.S)


def blocks(kind):
    return [text for name, text in BLOCKS if name == kind]


def python_with(*modules):
    """An interpreter that has these, of the environments that make test-python and make test-torch set up."""
    for path in (ROOT / ".venv-python" / "bin" / "python", ROOT / ".venv-torch" / "bin" / "python",
                 pathlib.Path(sys.executable)):
        if path.exists() and subprocess.run(
                [path, "-c", f"import {', '.join(modules)}"], capture_output=True).returncode == 0:
            return str(path)
    raise unittest.SkipTest(f"no Python with {', '.join(modules)}: make test-python or test-torch sets one up")


class ClientsPage(unittest.TestCase):
    def run_block(self, code, python=sys.executable):
        if python != sys.executable:
            # The package's part in C, of this tree.
            subprocess.run([python, "setup.py", "-q", "build_ext", "--inplace"], cwd=ROOT / "clients" / "python", check=True,
                           capture_output=True)
        with Daemon() as daemon:
            result = subprocess.run(
                [python, "-c", code], capture_output=True, text=True, timeout=60,
                env={**os.environ, "LOSSD_ADDRESS": daemon.unix,
                     "PYTHONPATH": str(ROOT / "clients" / "python" / "src")})
            self.assertEqual(result.returncode, 0, result.stderr)
            return result.stdout

    def test_every_block_is_run_here(self):
        self.assertEqual([name for name, _ in BLOCKS], ["python", "python torch", "c", "console", "python"])

    def test_a_client_of_ones_own_in_80_lines_of_plain_python(self):
        code = blocks("python")[1]
        self.assertLessEqual(len(code.splitlines()), 80)
        imported = set(re.findall(r"^import (.*)$", code, re.M)[0].split(", "))
        self.assertLessEqual(imported, sys.stdlib_module_names)
        lines = self.run_block(code).splitlines()
        self.assertIn("'loss': (0.907", lines[0])
        self.assertIn("target[0] is 7, outside [0, 2)", lines[1])

    def test_the_python_client(self):
        lines = self.run_block(blocks("python")[0], python_with("numpy", "google.protobuf")).splitlines()
        self.assertEqual(lines[0], "float32 (64, 10)")
        self.assertEqual(lines[1], "0.375 True")
        self.assertRegex(lines[6], r"^64 \d+\.\d+$")
        self.assertEqual(lines[7], "64")
        self.assertIn("outside [0, 10)", lines[8])
        self.assertEqual(lines[9], "64 [(64, 10)]")

    def test_in_place_of_torch(self):
        code = blocks("python torch")[0]
        self.assertEqual(self.run_block(code, python_with("numpy", "torch")), "torch.float32 0 True\n")

    def test_the_c_client(self):
        if shutil.which("cc") is None:
            self.skipTest("no C compiler: make test-c installs one")
        steps = []
        for line in blocks("console")[0].splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], []))
            else:
                steps[-1][1].append(line)
        with tempfile.TemporaryDirectory(prefix="lossd-c-page-") as folder, Daemon() as daemon:
            for name in ("clients", "examples", "Sources", "proto"):
                os.symlink(ROOT / name, os.path.join(folder, name))
            pathlib.Path(folder, "program.c").write_text(blocks("c")[0])
            script = "set -e\n" + "".join(f"{command}\necho ----------next\n" for command, _ in steps)
            script = script.replace("/tmp/lossd-c", f"{folder}/installed").replace(
                "install PREFIX", f"install BUILD={folder}/build PREFIX").replace("cc -std", "cc -Wall -Werror -std")
            result = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=300,
                                    env={**os.environ, "LOSSD_ADDRESS": daemon.unix})
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            for (command, expected), printed in zip(steps, result.stdout.split("----------next\n")):
                pattern = "\n".join(".*" if line == "..." else re.escape(line) for line in expected)
                self.assertRegex(printed.rstrip("\n"), re.compile(f"^{pattern}$", re.S), command)


if __name__ == "__main__":
    unittest.main()
