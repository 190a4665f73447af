"""lossd/math.h is as accurate as it says, by every compiler and instruction set that is there."""

import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from daemon import ROOT
from plugin_files import INCLUDE

# `make test-math` takes every 11th float32; here fewer.
STRIDE = "997"


class Math(unittest.TestCase):
    def test_every_function_is_within_its_limit_and_special_values_are_the_c_librarys(self):
        processor = pathlib.Path("/proc/cpuinfo").read_text()
        with tempfile.TemporaryDirectory() as folder:
            for compiler in filter(shutil.which, ("gcc", "clang")):
                for flags in ([], ["-mavx2", "-mfma"]):
                    if flags and " avx2 " not in processor:
                        continue
                    program = f"{folder}/accuracy"
                    subprocess.run(
                        [compiler, "-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra",
                         "-Werror", "-I", INCLUDE, *flags, "-o", program, ROOT / "Tests/Math/accuracy.c", "-lm"],
                        check=True)
                    result = subprocess.run([program, STRIDE], capture_output=True, text=True)
                    self.assertEqual(result.returncode, 0, f"{compiler} {flags}\n{result.stdout}")

    def test_the_header_is_clean_and_refuses_fast_math(self):
        for compiler, kind, standards in (
                ("gcc", "c", ("c99", "c17")), ("clang", "c", ("c99", "c17")), ("g++", "c++", ("c++11", "c++20")),
                ("clang++", "c++", ("c++11", "c++20"))):
            if not shutil.which(compiler):
                continue
            for standard in standards:
                command = [compiler, "-x", kind, f"-std={standard}", "-fsyntax-only", "-pedantic", "-Wall", "-Wextra",
                           "-Wconversion", "-Wshadow", "-Werror", "-I", INCLUDE, "-"]
                source = "#include <lossd/math.h>\n"
                good = subprocess.run(command, input=source, capture_output=True, text=True)
                self.assertEqual(good.returncode, 0, good.stderr)
                fast = subprocess.run([*command, "-ffast-math"], input=source, capture_output=True, text=True)
                self.assertIn("build without -ffast-math", fast.stderr)

    def test_the_limits_in_its_comment_are_those_that_are_tested(self):
        comment = (INCLUDE / "lossd" / "math.h").read_text().split("*/")[0]
        source = (ROOT / "Tests/Math/accuracy.c").read_text()
        for name, limit in re.findall(r'\{"(\w+)", ([\d.]+), single', source):
            self.assertRegex(comment, rf"\b{name} {re.escape(limit)}")


if __name__ == "__main__":
    unittest.main()
