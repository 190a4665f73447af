"""`private:`, the daemon of this user and this version of lossd: started by whoever comes first, shared by all of the
user's processes, ended by itself some time after the last has gone.

A folder that is this user's alone has its socket, its log and a lock. The lock is taken here and goes on to the daemon,
which has it until it ends: whoever has the lock may start one, and while somebody else has it one is there, or comes,
or goes, and is waited for.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import socket
import stat
import subprocess
import tempfile
import time
from typing import Dict, Iterator, NamedTuple, Optional

from ._program import program
from ._version import __version__
from .errors import Unavailable

#: How long the daemon stays without a client, as it reads times.
IDLE_EXIT = "60s"
#: Seconds between two looks at a daemon that comes or goes.
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.05
#: How often one client starts it: one that ends at once will do so again.
STARTS_MAX = 3
#: Of the log, that an error shows.
TAIL = 2000
#: Bytes of a Unix socket's path, less the zero.
PATH_MAX = 107


class Paths(NamedTuple):
    socket: str
    lock: str
    log: str


def folder() -> str:
    """The user's, made where it is not there: in $XDG_RUNTIME_DIR, else with the system's temporary files. Unavailable
    where it is somebody else's or open to others: whoever could write there could play the daemon."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    try:
        path = os.path.join(runtime, "lossd")
        is_short = len(os.fsencode(_paths(path).socket)) <= PATH_MAX
        if not (os.path.isabs(runtime) and _is_ours(os.lstat(runtime)) and is_short):
            path = os.path.join(tempfile.gettempdir(), f"lossd-{os.getuid()}")
    except OSError:
        path = os.path.join(tempfile.gettempdir(), f"lossd-{os.getuid()}")
    try:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        found = os.lstat(path)
    except OSError as error:
        raise Unavailable(f"private: {path}: {error.strerror or error}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise Unavailable(f"private: {path} is no folder: remove it, or set XDG_RUNTIME_DIR")
    if not _is_ours(found) or found.st_mode & 0o077:
        raise Unavailable(f"private: {path} is another user's, or others may enter it (mode "
                          f"{stat.S_IMODE(found.st_mode):04o}, expected 0700): remove it, or set XDG_RUNTIME_DIR")
    return path


def _is_ours(found: os.stat_result) -> bool:
    """Nobody else can put something there."""
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _paths(path: str) -> Paths:
    return Paths(*(os.path.join(path, f"lossd-{__version__}.{end}") for end in ("sock", "lock", "log")))


def workers() -> int:
    """Processors that this process may use: by its affinity and by the quotas of its control groups."""
    count = float(len(os.sched_getaffinity(0)))
    for quota in _quotas():
        count = min(count, quota)
    return max(1, math.ceil(count))


def _quotas() -> Iterator[float]:
    """Of the control group and those that it is in, in processors."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        while True:
            if not names:
                yield from _numbers(f"/sys/fs/cgroup{path}/cpu.max")
            elif "cpu" in names.split(","):
                top = f"/sys/fs/cgroup/{names}{path}"
                yield from _numbers(f"{top}/cpu.cfs_quota_us", f"{top}/cpu.cfs_period_us")
            if path in ("/", ""):
                break
            path = os.path.dirname(path)


def _numbers(*files: str) -> Iterator[float]:
    """Quota by period, where there is a quota."""
    try:
        words = []
        for name in files:
            with open(name) as file:
                words += file.read().split()
        if len(words) == 2 and float(words[0]) > 0 and float(words[1]) > 0:
            yield float(words[0]) / float(words[1])
    except (OSError, ValueError):
        pass  # "max", or no such file


def connected_socket(timeout: float) -> socket.socket:
    """A connection to the daemon, which is started where there is none. Unavailable where it does not start within
    `timeout` seconds; the text has the end of its log."""
    deadline = time.monotonic() + timeout
    paths = _paths(folder())
    pause, starts = FIRST_PAUSE, 0
    while True:
        connected = _connect(paths, deadline)
        if connected is not None:
            return connected
        lock = _lock(paths)
        if lock is not None:
            try:
                # Somebody else's may have come meanwhile, and gone as well.
                connected = _connect(paths, deadline)
                if connected is not None:
                    return connected
                if starts == STARTS_MAX:
                    raise Unavailable(f"private: the daemon has ended at once; {_tail(paths)}")
                _start(paths, lock)
                starts, pause = starts + 1, FIRST_PAUSE
            finally:
                os.close(lock)
        if time.monotonic() >= deadline:
            raise Unavailable(f"private: no daemon answers within {timeout:.1f} s; {_tail(paths)}")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _connect(paths: Paths, deadline: float) -> Optional[socket.socket]:
    """None: nobody is there, or not yet."""
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(max(0.001, deadline - time.monotonic()))
        connected.connect(paths.socket)
        connected.settimeout(None)
        return connected
    except OSError as error:
        connected.close()
        if error.errno not in (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN, None):
            raise Unavailable(f"private: {paths.socket}: {error.strerror or error}") from error
        return None
    except BaseException:
        connected.close()
        raise


def _lock(paths: Paths) -> Optional[int]:
    """A descriptor with the lock; None: another has it."""
    try:
        lock = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            os.close(lock)
            return None
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise Unavailable(f"private: {paths.lock}: {error.strerror or error}") from error


def _environment() -> Dict[str, str]:
    """Without what sets daemons of other kinds up, or says where they are."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("LOSSD_", "NOTIFY_", "LISTEN_"))}


def _start(paths: Paths, lock: int) -> None:
    try:
        path = program()
    except FileNotFoundError as error:
        raise Unavailable(f"private: {error}") from error
    # No folder of plugins: there is none where none is named.
    arguments = [path, "--listen", f"unix:{paths.socket}", "--workers", str(workers()),
                 "--set", f"idle_exit={IDLE_EXIT}", "--set", "socket_mode=0600"]
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        log = os.open(paths.log, flags, 0o600)
        try:
            # By a shell that ends at once: the daemon is nobody's child then, and leaves no zombie.
            subprocess.run(["/bin/sh", "-c", '"$@" &', "sh", *arguments], stdin=subprocess.DEVNULL, stdout=log,
                           stderr=log, pass_fds=[lock], start_new_session=True, cwd="/", env=_environment(), check=True)
        finally:
            os.close(log)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"private: {path} does not start: {error}") from error


def _tail(paths: Paths) -> str:
    try:
        with open(paths.log, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL))
            text = file.read().decode(errors="replace").strip()
    except OSError as error:
        text = str(error)
    return f"{paths.log}: {text or 'empty'}"
