"""The programs of docs/clients.md run against a daemon and print what they should."""

import os
import re
import subprocess
import sys
import unittest

from daemon import ROOT, Daemon

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "clients.md").read_text(), re.S)


class ClientsPage(unittest.TestCase):
    def run_block(self, code, python=sys.executable):
        with Daemon() as daemon:
            result = subprocess.run(
                [python, "-c", code], capture_output=True, text=True, timeout=60,
                env={**os.environ, "LOSSD_ADDRESS": daemon.unix,
                     "PYTHONPATH": str(ROOT / "clients" / "python" / "src")})
            self.assertEqual(result.returncode, 0, result.stderr)
            return result.stdout

    def test_a_client_of_ones_own_in_plain_python(self):
        lines = self.run_block(BLOCKS[1]).splitlines()
        self.assertIn("'loss': (0.907", lines[0])
        self.assertIn("target[0] is 7, outside [0, 2)", lines[1])

    def test_the_python_client(self):
        python = next((str(path) for path in (
            ROOT / ".venv-python" / "bin" / "python", ROOT / ".venv-torch" / "bin" / "python")
            if path.exists()), sys.executable)
        try:
            subprocess.run([python, "-c", "import numpy, google.protobuf"], check=True,
                           capture_output=True)
        except subprocess.CalledProcessError:
            self.skipTest("no numpy or protobuf: make test-python sets them up")
        lines = self.run_block(BLOCKS[0], python).splitlines()
        self.assertEqual(lines[0], "float32 (64, 10)")
        self.assertEqual(lines[5], "64")
        self.assertIn("outside [0, 10)", lines[6])


if __name__ == "__main__":
    unittest.main()
