"""plugin.h keeps its promises: clean in every C and C++, a layout that nobody changes by accident, and plugins
compiled against an older minor version that go on working."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from daemon import ROOT, Daemon
from plugin_files import EXAMPLES, INCLUDE, build
from wire import Tensor

HEADER = INCLUDE / "lossd" / "plugin.h"
LAYOUT = ROOT / "Sources" / "CLossdPlugin" / "plugin.c"
OLDER = sorted((ROOT / "Tests" / "System" / "abi").glob("plugin-*.h"))
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow"]


def compilers(*names):
    found = [name for name in names if shutil.which(name)]
    assert found, f"none of {names} is installed"
    return found


def version(text):
    return tuple(int(re.search(rf"#define LOSSD_ABI_{part} (\d+)", text)[1]) for part in ("MAJOR", "MINOR"))


class ABI(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lossd-abi-"))
        self.folder.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.folder)

    def compile(self, compiler, *flags, source, include=INCLUDE):
        return subprocess.run(
            [compiler, "-fsyntax-only", "-I", include, *flags, source], capture_output=True, text=True)

    def test_the_header_is_clean_in_every_c_and_cpp(self):
        text = '#include <lossd/plugin.h>\nconst lossd_plugin *(*entry)(const lossd_host *) = lossd_plugin_entry;\n'
        for languages, names, standards in (
                ("c", ("gcc", "clang"), ("c99", "c11", "c17", "gnu17")),
                ("cpp", ("g++", "clang++"), ("c++11", "c++14", "c++17", "c++20"))):
            source = self.folder / f"clean.{languages}"
            source.write_text(text)
            for compiler in compilers(*names):
                for standard in standards:
                    result = self.compile(compiler, f"-std={standard}", *STRICT, source=source)
                    self.assertEqual(result.returncode, 0, f"{compiler} {standard}\n{result.stderr}")

    def test_the_examples_in_c_are_clean(self):
        for compiler in compilers("gcc", "clang"):
            for source in EXAMPLES.glob("*.c"):
                result = self.compile(
                    compiler, "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", source=source)
                self.assertEqual(result.returncode, 0, result.stderr)

    def test_a_changed_layout_does_not_compile(self):
        """What the build of Sources/CLossdPlugin does, tried against headers that somebody changed."""
        good = HEADER.read_text()
        changes = {
            "a field in between": ("  uint64_t wanted; ", "  uint64_t early;\n  uint64_t wanted; "),
            "a field at the end": ("  const double *totals; ", "  uint64_t late;\n  const double *totals; "),
            "a narrower field": ("  int64_t rows; ", "  int32_t rows; "),
            "a narrower field that moves others": ("  uint32_t rank;          /* at most", "  uint16_t rank;          /* at most"),
            "a longer text": ("char text[496]", "char text[504]"),
            "a number used otherwise": ("#define LOSSD_FLOAT16 3", "#define LOSSD_FLOAT16 4"),
            "a version that is written down nowhere": ("#define LOSSD_ABI_MINOR 3", "#define LOSSD_ABI_MINOR 4"),
        }
        include = self.folder / "lossd"
        include.mkdir()
        (include / "plugin.h").write_text(good)
        source = self.folder / "plugin.c"
        shutil.copy(LAYOUT, source)
        for layout in LAYOUT.parent.glob("layout_*.h"):
            shutil.copy(layout, self.folder)
        for compiler in compilers("gcc", "clang"):
            result = self.compile(compiler, source=source, include=self.folder)
            self.assertEqual(result.returncode, 0, result.stderr)
        for what, (old, new) in changes.items():
            old = re.sub(r" +", " +", re.escape(old).replace(r"\ ", " "))
            changed, count = re.subn(old, new, good)
            self.assertEqual(count, 1, what)
            (include / "plugin.h").write_text(changed)
            result = self.compile("cc", source=source, include=self.folder)
            self.assertNotEqual(result.returncode, 0, what)
            self.assertRegex(result.stderr, "static assertion failed|written down nowhere", what)

    def declarations(self, header):
        """The header as the compiler sees it: without comments, its macros named."""
        text = subprocess.run(
            ["cc", "-E", "-P", "-dD", "-x", "c", header], capture_output=True, text=True, check=True).stdout
        text = text[text.index("#define LOSSD_PLUGIN_H"):]
        return re.sub(r"\s+", " ", text[text.index("LOSSD_ABI_MAJOR"):])

    def test_a_version_that_was_published_does_not_change(self):
        now = version(HEADER.read_text())
        self.assertIn(f"plugin-{now[0]}.{now[1]}.h", [path.name for path in OLDER])
        for path in OLDER:
            self.assertEqual(path.name, "plugin-{}.{}.h".format(*version(path.read_text())))
            if version(path.read_text()) == now:
                self.assertEqual(self.declarations(path), self.declarations(HEADER))

    def test_plugins_compiled_against_every_older_minor_version_work(self):
        major = version(HEADER.read_text())[0]
        headers = [path for path in OLDER if version(path.read_text())[0] == major]
        self.assertTrue(headers)
        for path in headers:
            include = self.folder / path.stem
            (include / "lossd").mkdir(parents=True)
            shutil.copy(path, include / "lossd" / "plugin.h")
            plugins = self.folder / f"{path.stem}-plugins"
            plugins.mkdir()
            # What its author could not know then.
            flags = [f"-D{name}=0" for name in ("LOSSD_INPUT_ROWS", "LOSSD_OUTPUT_ROWS", "LOSSD_ATTRIBUTE_REDUCTION")
                     if name not in path.read_text()]
            self.assertEqual(bool(flags), version(path.read_text()) < (1, 2))
            build("hinge.c", plugins / "hinge.so", *flags, include=include)
            with Daemon(plugin_folders=plugins) as daemon, daemon.connect() as connection:
                deadline = time.time() + 10
                while "loaded plugin hinge" not in daemon.log():
                    self.assertLess(time.time(), deadline, daemon.log())
                    time.sleep(0.05)
                result = connection.evaluate(
                    "hinge", {"input": Tensor([0.5, 2.0, -1.0]), "target": Tensor([1.0, 1.0, 1.0])},
                    {"reduction": "sum"})
                self.assertEqual(result["loss"].values(), [2.5])


if __name__ == "__main__":
    unittest.main()
