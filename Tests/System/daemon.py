"""Private daemons for the system tests."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import tempfile
import time

from wire import DAEMON_STATUS, Connection, parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "examples" / "data"
# Other programs on the machine make everybody wait at times. A time is measured up to so often.
TRIES = 3
# The sanitizer that the daemon is built with (scripts/sanitize.sh), else None.
SANITIZER = os.environ.get("LOSSD_SANITIZED")
# Freed memory that the address sanitizer keeps, so that its use is seen (quarantine_size_mb there), bytes.
KEPT_WHEN_FREED = 256 << 20 if SANITIZER == "address" else 0


def program(name):
    """The built program: $LOSSD_BUILD's, the release build's or the debug build's."""
    for folder in (os.environ.get("LOSSD_BUILD"), ".build/release", ".build/debug"):
        if folder and (ROOT / folder / name).exists():
            return str(ROOT / folder / name)
    raise FileNotFoundError(f"{name} is not built: make build")


def measured(measure, is_good):
    """What the first measurement that is good gives, of up to TRIES; where none is good, what the last one gives."""
    for _ in range(TRIES):
        found = measure()
        if is_good(found):
            break
    return found


class Daemon:
    """A daemon on a Unix socket and a TCP port of its own; `settings` by key, as in the file. `user`: whose it is, without
    a privilege; `before`: called in its process before it begins; `path`: its socket, in place of one of its own; `file`: a
    settings file's text, which says where it listens, with FOLDER for its folder."""

    def __init__(
            self, tcp=False, descriptors=None, kernels=None, user=None, before=None, passes_descriptors=False,
            path=None, file=None, **settings):
        self.folder = tempfile.TemporaryDirectory(prefix="lossd-test-")
        self.path = path or os.path.join(self.folder.name, "lossd.sock")
        self.unix = f"unix:{self.path}"
        self.log_path = os.path.join(self.folder.name, "log")
        arguments = [program("lossd"), "--listen", self.unix]
        if tcp:
            arguments += ["--listen", "tcp:127.0.0.1:0"]
        if file:
            config = pathlib.Path(self.folder.name) / "lossd.yaml"
            config.write_text(file.replace("FOLDER", self.folder.name))
            arguments[1:] = ["--config", str(config)]
        for key, item in settings.items():
            arguments += ["--set", f"{key.replace('__', '.')}={item}"]
        self.log_file = open(self.log_path, "wb")

        def limit():
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
            if before:
                before()

        environment = dict(os.environ)
        if kernels:
            environment["LOSSD_KERNELS"] = kernels
        whose = {}
        if user is not None:
            os.chown(self.folder.name, user, user)
            whose = {"user": user, "group": user, "extra_groups": [], "cwd": "/"}
        if passes_descriptors:
            # As on a kernel before 6.16, which cannot keep clients from sending them.
            environment["LOSSD_TEST_PASSRIGHTS"] = "1"
        self.process = subprocess.Popen(
            arguments, stderr=self.log_file, preexec_fn=limit, env=environment, **whose)
        self.wait_until_ready()
        if tcp:
            lines = [line for line in self.log().splitlines() if "listening on tcp:" in line]
            self.tcp = lines[0].split("listening on ")[1].strip()

    def wait_until_ready(self):
        deadline = time.time() + 20
        while "is ready" not in self.log():
            if self.process.poll() is not None or time.time() > deadline:
                raise RuntimeError("the daemon did not start:\n" + self.log())
            time.sleep(0.01)

    def log(self):
        return pathlib.Path(self.log_path).read_text(errors="replace")

    def connect(self, **options):
        return Connection(self.unix, **options)

    def resident_bytes(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * resource.getpagesize()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def status(self):
        """GetStatus's fields by number."""
        with self.connect() as connection:
            return parse(connection.call(DAEMON_STATUS)[0])

    def stop(self, number=signal.SIGTERM, timeout=60):
        """Ends it and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(timeout)
        self.log_file.close()
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log_file.close()
        self.folder.cleanup()


def lossctl(*arguments, server=None, check=True):
    """Runs lossctl and returns its standard output; JSON where it was asked for."""
    environment = dict(os.environ)
    if server:
        environment["LOSSD_ADDRESS"] = server
    result = subprocess.run(
        [program("lossctl"), *map(str, arguments)], capture_output=True, text=True,
        env=environment, timeout=120)
    if not check:
        return result
    if result.returncode:
        raise AssertionError(f"lossctl {arguments}: {result.returncode}\n{result.stderr}")
    return json.loads(result.stdout) if "--json" in arguments else result.stdout
