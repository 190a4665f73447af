"""For the tests of plugins that misbehave: a daemon with a folder for plugins, everything built once, neighbours that
must not notice."""

import atexit
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import time

from daemon import ROOT, Daemon, lossctl
from plugin_files import WICKED, build, make_wicked
from wire import CallError, Tensor

PLUGINS = ROOT / "Tests" / "System" / "plugins"
DEEDS = re.findall(r"^DEED\((\w+), (\w+)\)", (WICKED / "deeds.def").read_text(), re.M)
_built = None


def built():
    """A folder with all that Plugins/Wicked makes, hinge.so and two witnesses, built once."""
    global _built
    if _built is None:
        _built = pathlib.Path(tempfile.mkdtemp(prefix="lossd-built-"))
        atexit.register(shutil.rmtree, _built)
        os.chmod(_built, 0o755)
        make_wicked(_built)
        build("hinge.c", _built / "hinge.so")
        for name in ("witness_here", "witness_there"):
            build(PLUGINS / "witness.c", _built / f"{name}.so", f'-DNAME="{name}"')
    return _built


class PluginDaemon:
    """A daemon whose plugins are in a folder of its own, put there before it starts or later."""

    def __init__(self, *files, folder=None, **settings):
        self.owns = folder is None
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="lossd-folder-"))
        os.chmod(self.folder, 0o755)
        self.admin = f"unix:{self.folder}/admin.sock"
        if settings.get("user") is not None:
            os.chown(self.folder, settings["user"], settings["user"])
        for file in files:
            self.put(file)
        settings = {"state_folder": self.folder, **settings}
        self.settings = dict(
            plugin_folders=self.folder, admin_listen=self.admin,
            **{key: value for key, value in settings.items() if value is not None})
        self.start()

    def start(self):
        self.daemon = Daemon(**self.settings)
        self.pid = self.daemon.process.pid
        self.connect, self.log = self.daemon.connect, self.daemon.log

    def restart(self):
        """After a crash."""
        self.daemon.__exit__()
        (self.folder / "admin.sock").unlink(missing_ok=True)
        self.start()

    def put(self, file, name=None):
        """Moves a copy of a built file into the folder, old enough to be taken at once."""
        source = built() / file
        name = name or source.name
        temporary = self.folder / f".{name}"
        shutil.copy(source, temporary)
        os.utime(temporary, (1, 1))
        os.rename(temporary, self.folder / name)

    def plugin(self, *arguments, check=True):
        return lossctl("plugin", *arguments, "--server", self.admin, check=check)

    def list(self):
        """What is loaded, by name."""
        return {item["name"]: item for item in self.plugin("list", "--json")
                if not item["state"].startswith(("pinned", "refused"))}

    def refused(self):
        """What was refused, by its file's name."""
        return {os.path.basename(item["file"]): item for item in self.plugin("list", "--json")
                if item["state"] == "refused"}

    def pinned(self):
        """States and reasons of what is unloaded and stays in memory, by name."""
        return {item["name"]: (item["state"], item["last_reason"]) for item in self.plugin("list", "--json")
                if item["state"].startswith("pinned")}

    def children(self):
        """Processes that the daemon has started and that are not gone, by their ids."""
        found = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                if int(fields[1]) == self.pid:
                    found[int(entry)] = fields[0]
        return found

    def end(self):
        self.daemon.__exit__()
        if self.owns:
            shutil.rmtree(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def until(condition, what, seconds=10):
    end = time.time() + seconds
    while not condition():
        if time.time() > end:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.01)


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# ---- What others get while somebody is wicked ----

SIGMOID = [-2.0, 0.0, 0.5, 100.0]
SIGMOID_BITS = None
HINGE = {"input": Tensor([0.5, 2.0, -1.0]), "target": Tensor([1.0, 1.0, 1.0])}
HINGE_GRADIENT = [Tensor([-1 / 3]).values()[0], 0.0, Tensor([-1 / 3]).values()[0]]


class Wrong(AssertionError):
    """A neighbour's numbers."""


def start_neighbours(connection):
    """Calls of a function of the daemon's and of another plugin's; their streams, for `check_neighbours`."""
    return (connection.start("sigmoid", {"input": Tensor(SIGMOID)}),
            connection.start("hinge", HINGE, {}, ["loss", "grad.input"]))


def check_neighbours(sigmoid, hinge):
    """Responses of the two."""
    global SIGMOID_BITS
    if SIGMOID_BITS is None:
        SIGMOID_BITS = sigmoid["output"].data
    if sigmoid["output"].data != SIGMOID_BITS or abs(sigmoid["output"].values()[1] - 0.5) > 0:
        raise Wrong(f"sigmoid: {sigmoid['output'].values()}")
    if hinge["grad.input"].values() != HINGE_GRADIENT or abs(hinge["loss"].values()[0] - 2.5 / 3) > 1e-6:
        raise Wrong(f"hinge: {hinge['loss'].values()}, {hinge['grad.input'].values()}")


class Neighbours:
    """Connections of their own that call all the time and see that the numbers are right."""

    def __init__(self, daemon, count=2):
        self.daemon, self.stop, self.failures, self.calls, self.slowest = daemon, False, [], 0, 0.0
        self.threads = [threading.Thread(target=self.work) for _ in range(count)]

    def work(self):
        try:
            with self.daemon.connect() as connection:
                while not self.stop:
                    begin = time.perf_counter()
                    check_neighbours(
                        connection.evaluate("sigmoid", {"input": Tensor(SIGMOID)}),
                        connection.evaluate("hinge", HINGE, {}, ["loss", "grad.input"]))
                    self.slowest = max(self.slowest, time.perf_counter() - begin)
                    self.calls += 2
                    time.sleep(0.001)
        except Exception as failure:
            self.failures.append(failure)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        for thread in self.threads:
            thread.join()


# ---- Looking into a process from outside ----

def occurrences(pid, pattern):
    """How often bytes lie in the memory that a process can read now. For root."""
    found = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, access = line.split()[:2]
            if access[0] != "r" or "[v" in line:
                continue
            begin, end = (int(part, 16) for part in span.split("-"))
            carried = b""
            while begin < end:
                try:
                    memory.seek(begin)
                    part = memory.read(min(end - begin, 1 << 24))
                except OSError:
                    part = b""
                if not part:
                    break
                found += (carried + part).count(pattern)
                carried = part[-len(pattern) + 1:]
                begin += len(part)
    return found


def complements(pattern):
    """The attributes that wicked's search takes, without the pattern in them."""
    low, high = (~int.from_bytes(pattern[at:at + 8], "little", signed=True) for at in (0, 8))
    return {"low": low, "high": high}


def seconds_until(call):
    begin = time.perf_counter()
    try:
        call()
    except CallError:
        pass
    return time.perf_counter() - begin
