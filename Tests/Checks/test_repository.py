"""Rules that every change keeps, which need nothing built: the version, columns, generated and binary files, make."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import columns  # noqa: E402
import version  # noqa: E402


def sh(*arguments, **options):
    return subprocess.run(
        list(map(str, arguments)), cwd=ROOT, capture_output=True, text=True, timeout=60, **options)


class Version(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="lossd-version-")
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        for name in ["VERSION", "Package.swift", *(name for name, _ in version.COPIES)]:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)

    def run_script(self, *arguments):
        result = sh(sys.executable, ROOT / "scripts" / "version.py", *arguments,
                    env={**os.environ, "LOSSD_ROOT": str(self.root)})
        return result.returncode, result.stdout

    def test_all_copies_say_what_the_file_version_says(self):
        result = sh(sys.executable, "scripts/version.py")
        self.assertEqual((result.returncode, result.stdout), (0, ""), result.stderr)

    def test_a_new_version_is_missed_at_every_copy_until_it_is_written_there(self):
        (self.root / "VERSION").write_text("9.8.7\n")
        code, text = self.run_script()
        self.assertEqual(code, 1)
        for name, _ in version.COPIES:
            self.assertIn(f"{name}: says", text)
        self.assertEqual(self.run_script("--write"), (0, ""))
        for name, _ in version.COPIES:
            self.assertIn("9.8.7", (self.root / name).read_text(), name)

    def test_a_copy_that_nobody_knows_is_named_with_its_line(self):
        wanted = (self.root / "VERSION").read_text().strip()
        stranger = self.root / "Sources" / "lossd" / "Stranger.swift"
        stranger.parent.mkdir(parents=True)
        stranger.write_text(f'// One.\nlet software = "lossd/{wanted}"\nlet other = "1{wanted}"\n')
        code, text = self.run_script()
        self.assertEqual((code, text.count("\n")), (1, 1), text)
        self.assertTrue(text.startswith(f"Sources/lossd/Stranger.swift:2: says {wanted}"), text)

    def test_a_copy_that_is_gone_is_named(self):
        path = self.root / "clients/c/include/lossd.h"
        path.write_text(path.read_text().replace("LOSSD_VERSION", "LOSSD_OTHER"))
        code, text = self.run_script()
        self.assertEqual(code, 1)
        self.assertIn("clients/c/include/lossd.h: the version is not where", text)

    def test_what_is_no_version_is_refused(self):
        (self.root / "VERSION").write_text("soon\n")
        code, text = self.run_script("--write")
        self.assertEqual(code, 1)
        self.assertIn("`soon` is not a version", text)


class Columns(unittest.TestCase):
    def test_no_line_is_longer_than_the_formatters_limit(self):
        result = sh(sys.executable, "scripts/columns.py")
        self.assertEqual((result.returncode, result.stdout), (0, ""), result.stderr)

    def test_a_long_comment_is_found_and_filled_anew(self):
        lines = ["/// " + "word " * 30 + "end.", "/// Next.", "let a = 1"]
        self.assertEqual(columns.too_long(lines), [0])
        better = columns.filled(lines)
        self.assertEqual(columns.too_long(better), [])
        self.assertEqual(
            " ".join(line.removeprefix("/// ") for line in better[:-1]), "word " * 30 + "end. Next.")
        self.assertEqual(better[-1], "let a = 1")
        self.assertEqual(columns.filled(better), better)

    def test_paragraphs_lists_and_laid_out_text_stay_apart(self):
        lines = [
            "  /// " + "one " * 30, "  ///", "  /// Two.", "  /// - " + "three " * 20, "  ///   four", "  /// - Five.",
            "  ///     let laid = out"]
        better = columns.filled(lines)
        self.assertEqual(columns.too_long(better), [])
        self.assertEqual([line for line in better if "one" not in line], [
            "  ///", "  /// Two.", "  /// - " + "three " * 14 + "three", "  ///   three three three three three four",
            "  /// - Five.", "  ///     let laid = out"])

    def test_a_short_paragraph_is_left_as_it_is(self):
        lines = ["/// Short,", "/// and on a line of its own.", "", "// " + "long " * 30]
        self.assertEqual(columns.filled(lines)[:3], lines[:3])

    def test_long_code_is_found_and_a_text_of_another_language_is_not(self):
        lines = ['let a = """', "  " + "x" * 200, '  """', "let b = " + "1 + " * 30 + "1"]
        self.assertEqual(columns.too_long(lines), [3])
        self.assertEqual(columns.filled(lines), lines)


class Files(unittest.TestCase):
    def setUp(self):
        if not shutil.which("git") or sh("git", "rev-parse", "--git-dir").returncode:
            self.skipTest("this is no checkout of git's")

    def attributes(self, *names):
        """Of each file, its attributes diff, linguist-generated and text."""
        text = sh("git", "check-attr", "-z", "diff", "linguist-generated", "text", "--", *names).stdout
        fields = text.split("\0")[:-1]
        found = {}
        for name, attribute, value in zip(fields[::3], fields[1::3], fields[2::3]):
            found.setdefault(name, {})[attribute] = value
        return found

    def test_generated_files_are_left_out_of_diffs(self):
        names = ["Sources/CLossdProto/lossd.pb-c.c", "Sources/CLossdProto/include/lossd.pb-c.h",
                 "clients/python/src/lossd/_schema.py", "Tests/Golden/values.json"]
        for name, found in self.attributes(*names).items():
            self.assertTrue((ROOT / name).exists(), name)
            self.assertEqual((found["diff"], found["linguist-generated"]), ("unset", "set"), name)

    def test_no_byte_of_a_binary_file_is_changed_by_a_checkout(self):
        names = [name for name in sh("git", "ls-files", "-z").stdout.split("\0") if name and (ROOT / name).is_file()]
        # As many at a time as a command line takes.
        for begin in range(0, len(names), 500):
            for name, found in self.attributes(*names[begin:begin + 500]).items():
                content = (ROOT / name).read_bytes()
                if b"\0" in content[:8000] or b"\r\n" in content:
                    self.assertEqual(found["text"], "unset", name)

    def test_every_script_that_a_page_names_is_there(self):
        for page in ["Makefile", ".ci/run", "CONTRIBUTING.md"]:
            for name in re.findall(r"\bscripts/[\w.-]+\.(?:sh|py)\b", (ROOT / page).read_text()):
                self.assertTrue((ROOT / name).exists(), f"{page}: {name}")


class Glossary(unittest.TestCase):
    def test_the_places_that_the_glossary_names_exist(self):
        sources = "\n".join(
            path.read_text() for folder in ("Sources", "Plugins") for path in sorted((ROOT / folder).rglob("*.swift")))
        text = (ROOT / "docs" / "glossary.md").read_text()
        places = re.findall(r"`([A-Z]\w+)(?:\.(\w+))?`", text)
        self.assertGreater(len(places), 20)
        for name, member in places:
            if (name, member) in {("Lease", ""), ("Prepared", "")}:
                continue  # the Python client's
            kind = rf"(?:class|struct|enum|protocol|extension|case) {name}\b"
            self.assertTrue(re.search(kind, sources), name)
            self.assertTrue(not member or re.search(rf"func {member}\b", sources), f"{name}.{member}")

    def test_a_word_has_one_line(self):
        words = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
        single = [word.strip() for words in words if words != "word" for word in words.split(",")]
        self.assertEqual(sorted(set(single)), sorted(single))


class Make(unittest.TestCase):
    def test_every_target_with_a_line_of_help_is_phony_and_listed(self):
        text = (ROOT / "Makefile").read_text()
        targets = set(re.findall(r"^([a-z][a-z0-9-]*):.*## ", text, re.MULTILINE))
        self.assertIn("test-arm64", targets)
        self.assertEqual(len(re.findall(r"^\.PHONY:", text, re.MULTILINE)), 1)
        # As if no other make had called this one.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        (phony,) = re.findall(r"^\.PHONY: (.*)", sh("make", "-pnq", "help", env=clean).stdout, re.MULTILINE)
        self.assertEqual(set(phony.split()), targets)
        listed = [line.split()[0] for line in sh("make", "help", env=clean).stdout.splitlines()]
        self.assertEqual(set(listed), targets)


if __name__ == "__main__":
    unittest.main()
