"""What others wrote (a daemon, its plugins, files, settings) reaches a terminal or a log without control characters, in the
lines that it is meant for, and not without end."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import unittest

from daemon import ROOT, Daemon, lossctl, program

sys.path.insert(0, str(ROOT / "clients"))

from fakes import serving  # noqa: E402
from wire import ACK, END_STREAM, HELLO, MESSAGE, PING, STATUS, block, frame, number  # noqa: E402

# A title, a cleared screen, a forged line, C1's CSI, a turn of direction, a letter for private use, a tag, which is not seen.
EVIL = "a\x1b]0;b\x07\x1b[2Jc\nforged\r\x9b31m\u202ed\x7f\u2028e\ue000\U000e0041"
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ue000-\uf8ff\U000e0000-\U000e007f]")


def answering(message=None, software="fake", code=None):
    """A daemon that answers one call with this message, or ends it so, and PINGs."""
    def serve(fake):
        fake.send(frame(HELLO, 0, block(1, software) + number(4, 256) + number(5, 8)))
        while True:
            kind, stream, flags, what, _ = fake.frame()
            if kind == PING and not flags & ACK:
                fake.send(frame(PING, 0, what, flags=ACK))
            if kind == MESSAGE:
                fake.send(frame(STATUS, stream, number(1, code) + block(2, message)) if code
                          else frame(MESSAGE, stream, message, b"", END_STREAM))
    return serve


class ShownTexts(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lossd-shown-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_against(self, serve, *arguments):
        with serving(serve) as address:
            return lossctl(*arguments, server=address, check=False)

    def check(self, text, lines=None):
        self.assertIsNone(CONTROL.search(text), ascii(text))
        self.assertNotRegex(text, r"(?m)^\s*forged")
        if lines is not None:
            self.assertEqual(text.count("\n"), lines, ascii(text))

    def test_a_daemons_name(self):
        result = self.run_against(answering(software=EVIL), "ping")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.check(result.stdout, 1)
        self.assertIn("forged", result.stdout)

    def test_functions_as_a_list_in_full_and_as_json(self):
        input_ = block(4, block(1, EVIL) + block(2, EVIL) + number(4, 1))
        attribute = block(6, block(1, EVIL) + block(2, EVIL) + block(3, "string") + block(8, EVIL))
        message = block(1, block(1, EVIL) + block(2, EVIL) + block(3, EVIL) + input_ + block(5, block(1, EVIL)) + attribute
                        + block(7, EVIL) + block(8, EVIL))
        for arguments, lines in ((("functions",), 1), (("functions", "x"), None), (("functions", "--json"), 1)):
            result = self.run_against(answering(message), *arguments)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.check(result.stdout, lines)
            if "--json" in arguments:
                self.assertEqual(json.loads(result.stdout)[0]["name"], EVIL)

    def test_plugins(self):
        plugin = b"".join(block(field, EVIL) for field in (1, 2, 3, 4, 5, 8))
        for state in ("refused", "serving", EVIL):
            with serving(answering(block(1, plugin + block(6, state)))) as address:
                result = lossctl("plugin", "list", "--server", address, check=False)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.check(result.stdout)

    def test_a_daemons_status(self):
        message = block(1, EVIL) + block(11, block(1, EVIL) + block(2, EVIL) + number(4, 1))
        result = self.run_against(answering(message), "status")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.check(result.stdout)

    def test_an_error_is_one_line_of_a_length_that_somebody_reads(self):
        for text in (EVIL, EVIL * 3000):
            result = self.run_against(answering(text, code=3), "functions")
            self.assertNotEqual(result.returncode, 0)
            self.check(result.stderr, 1)
            self.assertLess(len(result.stderr), 9000)

    def test_names_of_files_and_of_tensors_in_them(self):
        marks = "e" + "\u0301" * 20_000  # one character to the eye
        for name in (EVIL, marks):
            header = json.dumps({key: {"dtype": "F32", "shape": [1], "data_offsets": [4 * at, 4 * at + 4]}
                                 for at, key in enumerate((name, name + "2"))}, ensure_ascii=True).encode()
            path = self.folder / "a\x1b[2J\nb.safetensors"
            path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
            for file in (path, f"{path}:none", self.folder / "not\x1b[2J\nthere.npy"):
                result = lossctl("eval", "sigmoid", "--input", file, "--embedded", check=False)
                self.assertNotEqual(result.returncode, 0)
                self.check(result.stderr, 1)
                self.assertLess(len(result.stderr), 3000)

    def test_settings_in_complaints_and_in_what_is_said_to_be_good(self):
        socket = f"unix:{self.folder}/\x1b[2J\nforged"
        for arguments in (("--check-config", "--listen", socket), ("--check-config", "--set", f"log_level={EVIL}"),
                          ("--check-config", "--set", f"{EVIL}=1"), ("--check-config", "--config", f"{self.folder}/{EVIL}")):
            result = subprocess.run([program("lossd"), *arguments], capture_output=True, text=True, timeout=60)
            self.check(result.stdout + result.stderr, 1)

    def test_the_daemons_log_of_files_and_calls(self):
        folder = self.folder / "plugins"
        folder.mkdir(mode=0o755)
        (folder / "a\x1b[2Jc\nforged\x9b.so").write_bytes(b"no library")
        with Daemon(plugin_folders=folder, access_log="true") as daemon, daemon.connect() as connection:
            for method in (EVIL, EVIL * 20):
                with self.assertRaises(Exception):
                    connection.call(method)
            deadline = time.time() + 20
            while not re.search(r"forged.*\.so", daemon.log()) or daemon.log().count("UNIMPLEMENTED") < 2:
                self.assertLess(time.time(), deadline, daemon.log())
                time.sleep(0.05)
            self.check(daemon.log())


if __name__ == "__main__":
    unittest.main()
