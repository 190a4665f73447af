"""Private daemons for tests."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from typing import Iterator, Sequence

from .client import Client


def binary() -> str:
    """The daemon's program: $LOSSD_BINARY, `lossd` on the PATH, or a source tree's build."""
    given = os.environ.get("LOSSD_BINARY") or shutil.which("lossd")
    if given:
        return given
    for folder in pathlib.Path(__file__).resolve().parents:
        for build in ("release", "debug"):
            candidate = folder / ".build" / build / "lossd"
            if candidate.exists():
                return str(candidate)
    raise FileNotFoundError("no lossd: set LOSSD_BINARY or put it on the PATH")


@contextlib.contextmanager
def serve(arguments: Sequence[str] = ()) -> Iterator[str]:
    """Runs a daemon on a socket of its own and gives its address; it is stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="lossd-") as folder:
        address = f"unix:{folder}/lossd.sock"
        with open(os.path.join(folder, "log"), "w+") as log:
            process = subprocess.Popen(
                [binary(), "--listen", address, *arguments], stderr=log)
            try:
                deadline = time.monotonic() + 20
                while True:
                    with contextlib.suppress(ConnectionError), Client(address) as client:
                        client.ping()
                        break
                    if process.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        raise RuntimeError("the daemon did not start:\n" + log.read())
                    time.sleep(0.01)
                yield address
            finally:
                process.terminate()
                try:
                    process.wait(40)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
