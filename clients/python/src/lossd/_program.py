"""The daemon's program: the wheel's, or one that is installed otherwise; and its names as commands."""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import time
from typing import Iterator, List, NoReturn, Optional, Sequence

#: Where a wheel has it.
BUNDLED = pathlib.Path(__file__).resolve().parent / "bin" / "lossd"


def _is_program(path: str) -> bool:
    """Not a script: the command `lossd` of this package is one, and runs what is found here."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF" and os.access(path, os.X_OK)
    except OSError:
        return False


def _candidates() -> Iterator[str]:
    yield str(BUNDLED)
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if os.path.isabs(folder):
            yield os.path.join(folder, "lossd")
    for parent in pathlib.Path(__file__).resolve().parents:
        for build in ("release", "debug"):
            yield str(parent / ".build" / build / "lossd")


def program() -> str:
    """The path of the daemon's program: $LOSSD_BINARY, the wheel's, `lossd` on the PATH, or a source tree's build.
    FileNotFoundError, which says what to do, where there is none."""
    given = os.environ.get("LOSSD_BINARY")
    if given:
        return os.path.abspath(given)  # whoever starts it may be in another folder
    for candidate in _candidates():
        if _is_program(candidate):
            return candidate
    raise FileNotFoundError(
        "this installation of lossd has no daemon: install a wheel of lossd for this machine, which brings it, or "
        "lossd itself (docs/operations.md), or set LOSSD_BINARY")


@contextlib.contextmanager
def serve(arguments: Sequence[str] = ()) -> Iterator[str]:
    """Runs a daemon of one's own on a socket in a new folder, gives its address, and stops it at the end.

    `arguments`: more of the program's, such as ["--workers", "2"]. Raises FileNotFoundError where there is no program,
    RuntimeError with the daemon's log where it does not start.

        with lossd.serve() as address, lossd.connect(address) as client:
            client.sigmoid(x)
    """
    from .client import Client

    path = program()
    with tempfile.TemporaryDirectory(prefix="lossd-") as folder:
        address = f"unix:{folder}/lossd.sock"
        with open(os.path.join(folder, "log"), "w+") as log:
            process = subprocess.Popen([path, "--listen", address, *arguments], stderr=log)
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


def _run(name: str, arguments: Optional[List[str]] = None) -> NoReturn:
    try:
        path = program()
    except FileNotFoundError as error:
        sys.exit(f"{name}: {error}")
    if not os.stat(path).st_mode & stat.S_IXUSR:
        sys.exit(f"{name}: {path} is not executable")
    # The program tells by its name what it is to be.
    os.execv(path, [name, *(sys.argv[1:] if arguments is None else arguments)])


def lossd() -> NoReturn:
    """The command `lossd`: becomes the daemon."""
    _run("lossd")


def lossctl() -> NoReturn:
    """The command `lossctl`."""
    _run("lossctl")


def main(arguments: Sequence[str]) -> NoReturn:
    """`python -m lossd serve [option ...]`: becomes a daemon of one's own, at --listen, else at an address that it
    prints, in the folder of private daemons."""
    if not arguments or arguments[0] != "serve":
        sys.exit("usage: python -m lossd serve [--listen ADDRESS] [another option of lossd ...]")
    rest = list(arguments[1:])
    if not any(item.startswith(("--listen", "--config", "--help", "-h", "--version")) for item in rest):
        from ._private import folder
        from .errors import Unavailable

        try:
            address = f"unix:{folder()}/serve-{os.getpid()}.sock"
        except Unavailable as error:
            sys.exit(f"lossd: {error.message}")
        print(f"LOSSD_ADDRESS={address}", flush=True)
        rest[:0] = ["--listen", address]
    _run("lossd", rest)
