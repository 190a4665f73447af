"""docs/grpc.md: its program runs as it stands there, and what it says of limits is so."""

import base64
import os
import re
import struct
import subprocess
import sys
import unittest

from support import ROOT, Daemon, _stubs, ended

PAGE = (ROOT / "docs" / "grpc.md").read_text()


class Page(unittest.TestCase):
    def test_its_python_program_runs(self):
        programs = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        self.assertEqual(len(programs), 1)
        daemon = Daemon()
        program = programs[0].replace("unix:/run/lossd/lossd.sock", daemon.unix)
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
                                env={**os.environ, "PYTHONPATH": _stubs.name})
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stdout.splitlines()
        self.assertEqual([line.split()[0] for line in lines if line[0].isalpha()], ["loss", "grad.input"])
        self.assertGreater(float(lines[0].split()[1]), 0.4)
        ended(daemon)

    def test_its_grpcurl_data_is_a_request(self):
        data = re.search(r'"data": "([A-Za-z0-9+/=]+)"', PAGE).group(1)
        self.assertEqual(struct.unpack("<2f", base64.b64decode(data)), (0.0, 1.0))


if __name__ == "__main__":
    unittest.main()
