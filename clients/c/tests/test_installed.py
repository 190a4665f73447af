"""liblossd as `make install` leaves it: built by gcc and by clang, without a warning, found by pkg-config, used by
the examples from C and by a program in C++, as a shared and as a static library."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

from harness import HERE, ROOT
from daemon import DATA, Daemon

SOURCE = HERE.parent
VERSION = (ROOT / "VERSION").read_text().strip()
PROGRAM = r"""
#include <lossd.h>
#include <cstdio>
int main() {
  lossd_error error;
  lossd_client *client = lossd_client_new(nullptr, &error);
  lossd_call *call = lossd_call_new(client, "sigmoid");
  const double input[] = {0};
  double output = 0;
  const int64_t shape[] = {1};
  lossd_call_input(call, "input", LOSSD_FLOAT64, 1, shape, input);
  lossd_call_output(call, "output", &output, sizeof output);
  if (lossd_call_run(call, &error) != LOSSD_OK) std::puts(error.text);
  std::printf("%g %s\n", output, lossd_version());
  lossd_call_free(call);
  lossd_client_free(client);
}
"""


def sh(*arguments, **options):
    result = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, timeout=300, **options)
    if result.returncode or result.stderr:
        raise AssertionError(f"{arguments}: {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="lossd-install-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.prefixes = {}
        for compiler in ("gcc", "clang"):
            prefix = cls.prefixes[compiler] = f"{cls.folder}/{compiler}"
            sh("make", "-s", "-C", SOURCE, "install", f"CC={compiler}", f"PREFIX={prefix}",
               f"BUILD={cls.folder}/build-{compiler}", "MAKEFLAGS=")

    def flags(self, compiler, *options):
        environment = {**os.environ, "PKG_CONFIG_PATH": f"{self.prefixes[compiler]}/lib/pkgconfig"}
        return sh("pkg-config", "--cflags", "--libs", *options, "lossd", env=environment).split()

    def run_with(self, compiler, program, *arguments):
        with Daemon() as daemon:
            return sh(program, *arguments, env={
                **os.environ, "LOSSD_ADDRESS": daemon.unix,
                "LD_LIBRARY_PATH": f"{self.prefixes[compiler]}/lib"})

    def test_what_is_installed(self):
        for prefix in self.prefixes.values():
            files = sorted(os.path.relpath(os.path.join(folder, name), prefix)
                           for folder, _, names in os.walk(prefix) for name in names)
            self.assertEqual(files, [
                "include/lossd.h", "lib/liblossd.a", "lib/liblossd.so", "lib/liblossd.so.0",
                f"lib/liblossd.so.{VERSION}", "lib/pkgconfig/lossd.pc"])
            self.assertIn("[liblossd.so.0]", sh("readelf", "-d", f"{prefix}/lib/liblossd.so"))

    def test_only_the_headers_functions_are_exported_and_all_of_them(self):
        header = (SOURCE / "include" / "lossd.h").read_text()
        declared = set(re.findall(r"^LOSSD_API [^;]*?\b(lossd_\w+)\(", header, re.M))
        self.assertGreater(len(declared), 25)
        for prefix in self.prefixes.values():
            symbols = sh("nm", "-D", "--defined-only", f"{prefix}/lib/liblossd.so").splitlines()
            self.assertEqual({line.split()[-1] for line in symbols if " A " not in line},
                             {name + "@@LOSSD_0" for name in declared})

    def test_no_global_state(self):
        """Neither data nor bss but what the linker and the generated code have: nothing that can be written to."""
        objects = [f"{self.folder}/build-gcc/{path.stem}.o" for path in (SOURCE / "src").glob("*.c")]
        for line in sh("nm", *objects).splitlines():
            self.assertNotRegex(line, r" [BbDCc] ", line)

    def test_an_example_in_c_trains_as_torch_does(self):
        for compiler, other in (("gcc", "clang"), ("clang", "gcc")):
            program = f"{self.folder}/train-{compiler}"
            sh(other, "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2", "-o", program,
               ROOT / "examples" / "train_digits.c", *self.flags(compiler), "-lm")
            torch = re.search(r'"loss": ([\d.]+), "right": (\d+)',
                              (ROOT / "examples" / "train_digits.py").read_text())
            self.assertEqual(self.run_with(compiler, program, DATA), f"loss {torch[1]}, {torch[2]} of 540 right\n")

    def test_a_program_in_cpp_and_the_static_library(self):
        source = f"{self.folder}/program.cc"
        with open(source, "w") as file:
            file.write(PROGRAM)
        shared, static = f"{self.folder}/shared", f"{self.folder}/static"
        sh("g++", "-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror", source, "-o", shared, *self.flags("gcc"))
        self.assertEqual(self.run_with("gcc", shared), f"0.5 {VERSION}\n")
        library = f"{self.prefixes['gcc']}/lib/liblossd.a"
        rest = [flag for flag in self.flags("gcc", "--static") if flag != "-llossd"]
        sh("g++", source, "-o", static, library, *rest)
        self.assertNotIn("liblossd", sh("readelf", "-d", static))
        self.assertEqual(self.run_with("gcc", static), f"0.5 {VERSION}\n")


if __name__ == "__main__":
    unittest.main()
