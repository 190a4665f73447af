"""The settings' file: what is in it is taken or refused, never passed over, however it is written."""

import pathlib
import subprocess
import tempfile
import time
import unittest

from daemon import program


def bomb(depth, *path):
    """Aliases of aliases below the keys of `path`: 9 to the power of `depth` values in a few hundred bytes."""
    keys, indent = "pqrstuvwx", "  " * len(path)
    lines = ["  " * level + key + ":" for level, key in enumerate(path)]
    for level in range(depth):
        value = f"*{chr(96 + level)}" if level else "1"
        inside = ", ".join(f"{key}: {value}" for key in keys)
        lines.append(f"{indent}{chr(97 + level)}: &{chr(97 + level)} {{{inside}}}")
    return "\n".join(lines) + "\n"


class SettingsFile(unittest.TestCase):
    def check(self, text):
        """(exit status, standard error, seconds) of `lossd --check-config`."""
        with tempfile.TemporaryDirectory(prefix="lossd-settings-") as folder:
            file = pathlib.Path(folder) / "lossd.yaml"
            file.write_text(text)
            begin = time.monotonic()
            done = subprocess.run(
                [program("lossd"), "--config", file, "--check-config"], capture_output=True, text=True, timeout=60)
            return done.returncode, done.stderr, time.monotonic() - begin

    def test_a_value_of_the_wrong_kind_is_refused_and_not_passed_over(self):
        for text, reason in (
                ("workers: [1, 2]\n", r"workers is a list, expected number from 0 to 1024"),
                ("limits: {payload_bytes: {a: 1}}\n", r"limits\.payload_bytes is a mapping, expected size"),
                ("limits:\n  hello_timeout: [5s]\n", r"limits\.hello_timeout is a list, expected time"),
                ("listen: [{a: b}]\n", r"listen is a list, expected addresses"),
                ("plugins:\n  pins: {a.so: b}\n", r"plugins\.pins is a mapping, expected FILE=")):
            with self.subTest(text):
                status, error, _ = self.check(text)
                self.assertEqual(status, 78, error)
                self.assertRegex(error, reason)
        status, error, _ = self.check("workers: 2\nlisten: [unix:/tmp/x]\nlimits: {payload_bytes: 1GiB}\n")
        self.assertEqual(status, 0, error)

    def test_aliases_of_aliases_take_neither_time_nor_memory(self):
        for path in (("limits", "payload_bytes"), ("limits",), ("workers",), ()):
            with self.subTest(path):
                status, error, seconds = self.check(bomb(9, *path))
                self.assertEqual(status, 78, error)
                self.assertLess(seconds, 20)


if __name__ == "__main__":
    unittest.main()
