"""Every command of README.md's and docs/plugins.md's console blocks is run, and prints what stands there."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import pages
from daemon import ROOT, lossctl


class Readme(unittest.TestCase):
    def test_the_commands_print_what_readme_says(self):
        self.run_page(ROOT / "README.md", 15)

    def test_the_commands_print_what_the_page_on_plugins_says(self):
        shutil.rmtree("/tmp/lossd-doc", ignore_errors=True)
        self.run_page(ROOT / "docs" / "plugins.md", 20)

    def test_readme_names_the_packages_that_are_installed(self):
        packages = re.search(r"for package in (.*?) \"\$@\"", (ROOT / "scripts" / "setup.sh").read_text()).group(1)
        text = re.search(r"missing from Debian \((.*?), and what", (ROOT / "README.md").read_text(), re.S).group(1)
        self.assertEqual(re.split(r",\s+", text), packages.split())

    def test_the_page_on_plugins_shows_the_very_files(self):
        """The plugin in C, and what lossctl plugin new writes in Swift and C++."""
        page = (ROOT / "docs" / "plugins.md").read_text()
        shown = {
            language: re.findall(rf"```{language}\n(.*?)```", page, re.S) for language in ("c", "cpp", "swift")}
        self.assertEqual(shown["c"], [(ROOT / "Plugins" / "Examples" / "hinge.c").read_text()])
        with tempfile.TemporaryDirectory() as folder:
            for name, language, file in (
                    ("my_loss", "swift", "Sources/MyLoss/MyLoss.swift"), ("my_cpp_loss", "cpp", "my_cpp_loss.cpp")):
                lossctl("plugin", "new", name, "--language", language, "--into", folder)
                self.assertEqual(shown[language], [pathlib.Path(folder, name, file).read_text()])

    def run_page(self, page, count):
        steps = [(command, expected) for _, command, expected in pages.steps(page.read_text())]
        self.assertGreaterEqual(len(steps), count)
        # The targets that build and test are what runs this test; they are not run again from inside.
        steps = [step for step in steps if not re.match(r"make \w", step[0])]
        marker = "----------next"
        script = "set -m\n"
        for command, _ in steps:
            script += f"{command}\necho '{marker}'\n"
            if command.endswith("&") and not command.endswith("&&"):
                script += "sleep 1\n"
        build = ROOT / os.environ.get("LOSSD_BUILD", ".build/release")
        script = script.replace("$PWD/.build/release", str(build))
        result = subprocess.run(
            ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
        outputs = result.stdout.split(marker + "\n")
        self.assertEqual(len(outputs), len(steps) + 1, result.stderr)
        for (command, expected), printed in zip(steps, outputs):
            self.assertRegex(
                printed.rstrip("\n"), pages.pattern(expected), f"{command}\n{result.stderr}")


if __name__ == "__main__":
    unittest.main()
