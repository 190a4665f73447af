"""The settings' file: what is in it is taken or refused, never passed over, however it is written."""

import os
import pathlib
import signal
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
                ("listen: [{a: b}]\n", r"an item of listen has no a, expected address, protocols, services"),
                ("listen: [[a]]\n", r"listen is a list, expected addresses"),
                ("plugin_folders: [{a: b}]\n", r"plugin_folders is a list, expected absolute paths"),
                ("plugins:\n  pins: {a.so: b}\n", r"plugins\.pins is a mapping, expected FILE=")):
            with self.subTest(text):
                status, error, _ = self.check(text)
                self.assertEqual(status, 78, error)
                self.assertRegex(error, reason)
        status, error, _ = self.check("workers: 2\nlisten: [unix:/tmp/x]\nlimits: {payload_bytes: 1GiB}\n")
        self.assertEqual(status, 0, error)

    def test_an_address_may_have_protocols_and_services_of_its_own(self):
        good = """services: [lossd.v1.Evaluator, grpc.health.v1.Health]
listen:
  - unix:/tmp/a b
  - address: tcp:127.0.0.1:5677
    protocols: grpc
    services: [lossd.v1.Evaluator]
  - {address: "unix:/tmp/c d", services: all, protocols: [grpc, lossd]}
  - tcp:127.0.0.1:5678 services=lossd.v1.Evaluator+lossd.v1.Daemon protocols=lossd
admin_listen:
  - {address: unix:/tmp/admin, protocols: [lossd]}
admin_services: all
"""
        status, error, _ = self.check(good)
        self.assertEqual(status, 0, error)
        for text, line, reason in (
                ("- {protocols: [grpc]}", 3, "an item of listen has no address"),
                ("- address: unix:/a\n    protocol: grpc", 4, "an item of listen has no protocol, expected address, "),
                ("- address: unix:/a\n    protocols: [http]", 3, "listen: http is not lossd or grpc"),
                ("- {address: unix:/a, protocols: []}", 3, "listen: nothing would be spoken"),
                ("- {address: unix:/a, services: []}", 3, "listen: nothing could be called"),
                ("- {address: unix:/a, services: [lossd.v1.Evaluatr]}", 3, "did you mean `lossd.v1.Evaluator`?"),
                ("- {address: unix:/a, services: [all, x]}", 3, "listen: all is no service"),
                ("- {address: [unix:/a]}", 3, "address of an item of listen is not a text"),
                ("- {address: unix:/a, services: {a: b}}", 3, "services of an item of listen is not a text or a list"),
                ("- {address: unix:/a, services: [[a]]}", 3, "services of an item of listen is not a text or a list"),
                ("- {address: unix:/a, protocols: [grpc services=x]}", 3, "cannot be in protocols of an item of listen"),
                ("- {address: unix:/a, protocols: \"lossd+grpc\"}", 3, "cannot be in protocols of an item of listen"),
                ("- {address: host}", 3, "listen: "), ("- unix:/a protocol=grpc", 3, "listen: protocol= follows an address"),
                ("- unix:/a services=all services=all", 3, "listen: services= is there twice")):
            with self.subTest(text):
                status, error, _ = self.check(f"loops: 1\nlisten:\n  {text}\n")
                self.assertEqual(status, 78, error)
                self.assertIn(f"lossd.yaml: line {line}: ", error)
                self.assertIn(reason, error)
        status, error, _ = self.check("admin_listen: [{address: tcp:127.0.0.1:1, services: all}]\n")
        self.assertIn("is not unix:PATH", error)
        for key, text, reason in (("services", "x", "x is no service"), ("admin_services", "[a, x]", "a is no service")):
            self.assertIn(f"line 1: {key}: {reason}", self.check(f"{key}: {text}\n")[1])

    def test_a_mistake_is_told_with_file_and_line(self):
        for text, line, reason in (
                ("workers: 2\nlimits:\n  stream: 1\n", 3, "there is no setting limits.stream; did you mean `limits.streams`?"),
                ("# 1\n\nworker: 1\n", 3, "there is no setting worker"),
                ("loops: 1\nworkers: [1]\n", 2, "workers is a list"),
                ("workers: 1\nloops: 1\nworkers: 2\n", 3, "workers is there twice"),
                ("limits.streams: 1\nlimits:\n  streams: 2\n", 3, "limits.streams is there twice"),
                ("limits:\n  streams: 1\n\n  streams: 1\n", 4, "streams is there twice"),
                ("workers: 1\nlimits:\nloops: 1\n", 2, "limits has settings under it"),
                ("workers: 1\nlimits: [1]\n", 2, "limits has settings under it"),
                ("base: &b {streams: 1}\nlimits: {<<: *b}\n", 1, "there is no setting base"),
                ("limits: {<<: {streams: 1}}\n", 1, "there is no setting limits.<<"),
                ("workers: 1\n---\nloops: 1\n", 2, "a second document"),
                ("workers: 1\nloops: {\n", 3, "did not find expected"),
                ("workers: 1\n\tloops: 1\n", 2, "line 2: "),
                ("- a\n", 1, "expected settings"), ("just text\n", 1, "expected settings"),
                ("? [workers]\n: 1\n", 1, "a key that is a list or a mapping"),
                ("state_folder: \"/a\\0b\"\n", 1, "a NUL in a text")):
            with self.subTest(text):
                status, error, _ = self.check(text)
                self.assertEqual(status, 78, error)
                self.assertRegex(error, r"^lossd: settings: /\S+/lossd\.yaml: line ")
                self.assertIn(f"lossd.yaml: line {line}: ", error)
                self.assertIn(reason, error)

    def test_a_value_that_a_setting_refuses_is_told_with_setting_value_file_and_line(self):
        for text, line, name, value in (
                ("loops: 1\n\nworkers: many\n", 3, "workers", "many"), ("loops: 1\nworkers: 2000\n", 2, "workers", "2000"),
                ("loops: 1\nworkers:\n", 2, "workers", "an empty text"), ("workers: -1\n", 1, "workers", "-1"),
                ("limits:\n  streams: 50\n  payload_bytes: 4 parsec\n", 3, "limits.payload_bytes", "4 parsec"),
                ("limits.payload_bytes:\n  4 parsec\n", 1, "limits.payload_bytes", "4 parsec"),
                ("limits: {streams: 50,\n hello_timeout: 5y}\n", 2, "limits.hello_timeout", "5y"),
                ("# 1\naccess_log: maybe\n", 2, "access_log", "maybe"), ("\nlog_level: loud\n", 2, "log_level", "loud"),
                ("\nsocket_mode: 999\n", 2, "socket_mode", "999"), ("\nstate_folder: here\n", 2, "state_folder", "here"),
                ("plugins:\n  isolation: some\n", 2, "plugins.isolation", "some"),
                ("plugins:\n  confinement: |\n    little\n", 2, "plugins.confinement", "little"),
                ("listen:\n  - unix:/tmp/a\n  - http://b\n  - unix:/tmp/c\n", 3, "listen", "http://b"),
                ("listen:\n- unix:/tmp/a\n\n- 'unix:'\n", 4, "listen", "unix:"),
                ("listen: [unix:/tmp/a,\n http://b]\n", 2, "listen", "http://b"),
                ("listen: unix:/tmp/a,http://b\n", 1, "listen", "http://b"),
                ("plugin_folders:\n  - /tmp\n  - relative\n", 3, "plugin_folders", "relative"),
                ("admin_listen: [tcp:127.0.0.1:1]\n", 1, "admin_listen", "tcp:127.0.0.1:1"),
                ("plugins:\n  pins:\n    - a.so=" + "0" * 64 + "\n    - b.so=1\n", 4, "plugins.pins", "b.so=1"),
                ("plugins:\n  in_daemon: [a.so,\n    ../b.so]\n", 3, "plugins.in_daemon", "../b.so"),
                ("log_level: &a b.c\n\nworkers: *a\n", 3, "workers", "b.c"),
                ("state_folder: &a /tmp\n\nlisten:\n  - *a\n", 3, "listen", "/tmp")):
            with self.subTest(text):
                status, error, _ = self.check(text)
                self.assertEqual(status, 78, error)
                self.assertIn(f"lossd.yaml: line {line}: {name}: ", error)
                self.assertIn(value, error.partition(f"{name}: ")[2])

    def test_what_a_flag_or_a_variable_says_in_the_files_place_is_not_told_with_the_files_line(self):
        with tempfile.TemporaryDirectory(prefix="lossd-settings-") as folder:
            file = pathlib.Path(folder) / "lossd.yaml"
            file.write_text("workers: 2\nlisten: [unix:/tmp/a]\n")
            for flags, variables, name in ((["--set", "workers=x"], {}, "workers"), ([], {"LOSSD_WORKERS": "x"}, "workers"),
                                           (["--listen", "x"], {}, "listen")):
                done = subprocess.run(
                    [program("lossd"), "--config", file, "--check-config", *flags], capture_output=True, text=True,
                    timeout=60, env=dict(os.environ, **variables))
                self.assertEqual(done.returncode, 78, done.stderr)
                self.assertIn(f"settings: {name}: ", done.stderr)
                self.assertNotIn("line", done.stderr)

    def test_a_reload_tells_the_line_of_what_it_refuses_in_the_log_and_in_its_record(self):
        with tempfile.TemporaryDirectory(prefix="lossd-settings-") as folder:
            file, record = pathlib.Path(folder) / "lossd.yaml", pathlib.Path(folder) / "reload"
            file.write_text("workers: 1\n")
            log = open(f"{folder}/log", "wb")
            self.addCleanup(log.close)
            process = subprocess.Popen(
                [program("lossd"), "--config", file, "--listen", f"unix:{folder}/s"], stderr=log,
                env=dict(os.environ, RUNTIME_DIRECTORY=folder))
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            deadline = time.monotonic() + 20
            while "is ready" not in (text := pathlib.Path(f"{folder}/log").read_text()):
                self.assertLess(time.monotonic(), deadline, text)
                time.sleep(0.01)
            for count, (text, reason) in enumerate((
                    ("workers: 1\n\nlog_level: loud\n", f"{file}: line 3: log_level: loud is not"),
                    ("workers: 1\nlimits:\n  stream: 1\n", f"{file}: line 3: there is no setting limits.stream; did you"))):
                file.write_text(text)
                process.send_signal(signal.SIGHUP)
                while f"done={count + 1}\n" not in (text := record.read_text() if record.exists() else ""):
                    self.assertLess(time.monotonic(), deadline, text)
                    time.sleep(0.01)
                self.assertIn(f"failure={reason}", text)
                self.assertIn(reason, pathlib.Path(f"{folder}/log").read_text())

    def test_a_value_is_taken_as_it_is_written_however_that_is(self):
        for text in (
                "workers: '2'\n", "workers: \"2\"\n", "workers: |\n  2\n", "workers: !!int 2\n", "{workers: 2}\n",
                "workers: &n 2\nloops: *n\n", "%YAML 1.1\n---\nworkers: 2\n...\n", "\ufeffworkers: 2\r\nloops: 1\r\n",
                "? workers\n: 2\n", "limits.streams: 50\n", "listen: unix:/tmp/a,unix:/tmp/b\n", "listen: []\n", "", "# 1\n",
                "---\n", "~\n", "{}\n", "access_log: yes\n", "socket_mode: 0660\n", "socket_mode: '0660'\n"):
            with self.subTest(text):
                status, error, _ = self.check(text)
                self.assertEqual((status, error), (0, ""))
        for text in ("workers: 0x2\n", "workers: 2.0\n", "workers: 1_0\n", "workers:\n", "workers: ~\n"):
            with self.subTest(text):
                status, error, _ = self.check(text)
                self.assertEqual(status, 78)
                self.assertIn("workers: ", error)

    def test_a_file_and_a_variable_do_not_choose_how_long_an_error_is_nor_what_it_does_to_a_terminal(self):
        long, wild = "x" * 500_000, "\\e[2J\\u202e\\r\\n" * 20_000
        for value in (long, wild):
            for text in (
                    f'? "{value}"\n: 1\n', f'limits: {{? "{value}" : 1}}\n', f'? "{value}"\n: 1\n? "{value}"\n: 2\n',
                    f'workers: "{value}"\n', f'listen: ["{value}"]\n', f'admin_listen: ["{value}"]\n',
                    f'plugin_folders: ["{value}"]\n', f'plugins: {{pins: ["{value}"]}}\n', f'log_level: "{value}"\n',
                    f'limits: {{payload_bytes: "{value}", hello_timeout: 1s}}\n', f'limits: {{hello_timeout: "{value}"}}\n',
                    f'state_folder: "{value}"\n', f'access_log: "{value}"\n', f'socket_mode: "{value}"\n',
                    f'workers: *{"x" * 500_000}\n', f'workers: !{"x" * 500_000} x\n'):
                with self.subTest(text[:40]):
                    status, error, _ = self.check(text)
                    self.assertEqual(status, 78, error[:2000])
                    self.assertLess(len(error), 6000)
                    self.assertEqual(error.count("\n"), 1)
                    self.assertTrue(error.rstrip("\n").isprintable(), error)
        for flags, environment in ((["--set", f"workers={long[:100_000]}\x1b[2J"], {}), (["--set", long[:100_000]], {}),
                                   ([], {"LOSSD_WORKERS": long[:100_000] + "\x1b[2J"}),
                                   (["--config", "/" + "\x1b" * 300 + long[:100_000]], {})):
            with self.subTest(flags[:1]):
                done = subprocess.run(
                    [program("lossd"), "--check-config", *flags], capture_output=True, text=True, timeout=60,
                    env=dict(os.environ, **environment))
                self.assertEqual(done.returncode, 78, done.stderr[:2000])
                self.assertLess(len(done.stderr), 6000)
                self.assertTrue(done.stderr.rstrip("\n").isprintable(), done.stderr)

    def test_a_file_that_is_too_deep_too_full_or_too_long_is_refused_with_the_limit(self):
        for text, reason in (
                ("workers: " + "[" * 100_000, "over 8 lists and mappings within one another"),
                ("workers: " + "{a: " * 100_000, "over 8 lists and mappings within one another"),
                ("- " * 100_000, "over 8 lists and mappings within one another"),
                ("listen: [" + "a," * 100_000 + "]\n", "over 20000 keys and values"),
                ("".join(f"k{number}: 1\n" for number in range(20_000)), "over 20000 keys and values"),
                ("".join(f"%TAG !a{number}! !\n" for number in range(60_000)), "over 8 %TAG"),
                ("#" * (1 << 20) + "\n", "over 1 MiB")):
            with self.subTest(text[:20]):
                status, error, seconds = self.check(text)
                self.assertEqual(status, 78, error[:2000])
                self.assertIn(reason, error)
                self.assertLess(seconds, 20)

    def test_aliases_of_aliases_take_neither_time_nor_memory(self):
        for path in (("limits", "payload_bytes"), ("limits",), ("workers",), ()):
            with self.subTest(path):
                keys = "? *i\n: 1\n? [*i]\n: 2\n"
                for text in (bomb(9, *path), bomb(9, *path) + keys, "#\r" + (bomb(9, *path) + keys).replace("\n", "\r")):
                    status, error, seconds = self.check(text)
                    self.assertEqual(status, 78, error)
                    self.assertRegex(error, r"over 8 aliases \(\*NAME\)")
                    self.assertLess(seconds, 20)
        # Levels of two aliases each, as many as there may be.
        levels = "".join(f"{chr(98 + level)}: &{chr(98 + level)} {{p: *{chr(97 + level)}, q: *{chr(97 + level)}}}\n"
                         for level in range(4))
        status, error, seconds = self.check("# *a *b *c\na: &a {p: 1}\n" + levels)
        self.assertRegex(error, "there is no setting a")
        self.assertLess(seconds, 20)


if __name__ == "__main__":
    unittest.main()
