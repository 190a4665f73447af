"""What the tests of liblossd share: built programs, in the flavour that LOSSD_C_BUILD names."""

import os
import pathlib
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / "clients"), str(ROOT / "Tests" / "System")]

from fakes import serving  # noqa: E402

#: The folder of the test programs, and what stands before their command lines.
BUILD = pathlib.Path(os.environ.get("LOSSD_C_BUILD", HERE.parent / "build"))
WRAPPER = os.environ.get("LOSSD_C_WRAPPER", "").split()


def run(program, *arguments, timeout=120, **options):
    """Runs a test program; what a sanitizer or valgrind finds is a failure."""
    environment = {**os.environ, **options.pop("env", {}), "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
    return subprocess.run([*WRAPPER, str(BUILD / program), *map(str, arguments)], capture_output=True, text=True,
                          timeout=timeout, env=environment, **options)


def start(program, *arguments, **options):
    """The same, left running."""
    return subprocess.Popen([*WRAPPER, str(BUILD / program), *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, **options)


class FakeServerCase(unittest.TestCase):
    def drive(self, serve, action, *arguments, **environment):
        """Runs the driver against `serve(fake)`, or a list of such, one for each connection; its lines."""
        with serving(*(serve if isinstance(serve, list) else [serve])) as address:
            result = run("driver", address, action, *arguments, env=environment)
        self.assertEqual(result.returncode, 0, result.stderr[-3000:])
        self.assertEqual(result.stderr, "")
        return result.stdout.splitlines()
