"""private:, the daemon that whoever comes first starts, and daemons of one's own."""

import asyncio
import fcntl
import os
import pathlib
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

import lossd
import lossd.testing
from lossd import _private, _program

X = np.zeros(2, np.float32)


def paths():
    return _private._paths(_private.folder())


def has_ended(lock):
    """Whether nobody has the lock: the daemon has it until its end."""
    with open(lock, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False


def wait_for_end(lock, seconds=20):
    deadline = time.monotonic() + seconds
    while not has_ended(lock):
        assert time.monotonic() < deadline, "the daemon stays"
        time.sleep(0.01)


@pytest.fixture
def runtime(monkeypatch):
    """A user's folder for what runs, where a private daemon ends soon after its last client."""
    lossd.testing.binary()
    folder = tempfile.mkdtemp(prefix="lossd-run-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    monkeypatch.setenv("LOSSD_BINARY", lossd.testing.binary())
    monkeypatch.setattr(_private, "IDLE_EXIT", "300ms")
    yield pathlib.Path(folder)
    lock = pathlib.Path(folder, "lossd", f"lossd-{lossd.__version__}.lock")
    if lock.is_file() and not lock.is_symlink():
        wait_for_end(lock)
    shutil.rmtree(folder, ignore_errors=True)


def test_whoever_comes_first_starts_it_and_all_share_it(runtime, monkeypatch):
    monkeypatch.setenv("LOSSD_ADDRESS", "private:")
    monkeypatch.setenv("LOSSD_PLUGIN_FOLDERS", "/nowhere")  # settings of other daemons are not its own
    with lossd.connect() as client, lossd.connect("private:") as other:
        assert client.sigmoid(X).tolist() == [0.5, 0.5]
        status = other.status()
        assert status.pid == client.status().pid != os.getpid()
        assert os.getsid(status.pid) != os.getsid(0)
        # It is nobody's child: who started it can end.
        assert f"PPid:\t{os.getpid()}" not in pathlib.Path(f"/proc/{status.pid}/status").read_text()
        assert status.workers == _private.workers() and os.path.realpath(f"/proc/{status.pid}/cwd") == "/"
        found = paths()
        for file in (found.socket, found.lock, found.log):
            assert stat.S_IMODE(os.stat(file).st_mode) == 0o600, file
        assert not has_ended(found.lock) and stat.S_IMODE(os.stat(_private.folder()).st_mode) == 0o700
    wait_for_end(found.lock)
    assert not os.path.exists(found.socket) and not os.path.exists(f"/proc/{status.pid}/exe")


def test_asyncio_starts_it_too(runtime):
    async def main():
        async with lossd.connect_async("private:") as client:
            results = await asyncio.gather(*(client.sigmoid(X) for _ in range(10)))
            assert all(result.tolist() == [0.5, 0.5] for result in results)
            assert (await client.status()).pid > 0

    asyncio.run(main())


def in_children(count, work):
    """What so many processes that run at once write, each at most 500 bytes."""
    reader, writer = os.pipe()
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            try:
                text = work(number)
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
            os.write(writer, (text.replace("\n", " ")[-500:] + "\n").encode())
            os._exit(0)
        children.append(child)
    os.close(writer)
    with open(reader) as file:
        texts = file.read().splitlines()
    for child in children:
        os.waitpid(child, 0)
    return texts


def test_fifty_processes_that_begin_at_once_share_one(runtime, monkeypatch):
    monkeypatch.setattr(_private, "IDLE_EXIT", "2s")

    def work(number):
        with lossd.connect("private:") as client:
            assert client.sigmoid(X).tolist() == [0.5, 0.5]
            return str(client.status().pid)

    texts = in_children(50, work)
    assert len(texts) == 50 and len(set(texts)) == 1 and texts[0].isdigit(), set(texts)


def test_fifty_processes_while_daemons_end_and_are_killed_all_get_their_results(runtime, monkeypatch):
    monkeypatch.setattr(_private, "IDLE_EXIT", "20ms")

    def work(number):
        chance = random.Random(number)
        done = 0
        for _ in range(10):
            time.sleep(chance.random() * 0.1)
            # Who is there when it is killed is to be told: that is what `retry` is for.
            with lossd.connect("private:", retry=10) as client:
                assert client.sigmoid(X).tolist() == [0.5, 0.5]
                done += 1
                if number == 0:
                    os.kill(client.status().pid, signal.SIGKILL)
        return str(done)

    texts = in_children(50, work)
    assert texts == ["10"] * 50, set(texts)


def test_a_daemon_that_ends_of_itself_is_followed_by_another_without_an_error(runtime, monkeypatch):
    monkeypatch.setattr(_private, "IDLE_EXIT", "30ms")
    lossd.connect("private:").sigmoid(X)
    for pause in np.linspace(0, 0.06, 40):
        with lossd.connect("private:") as client:
            assert client.sigmoid(X).tolist() == [0.5, 0.5]
        time.sleep(pause)


def test_after_a_kill_the_next_call_starts_another(runtime):
    with lossd.connect("private:") as client:
        client.sigmoid(X)
        first = client.status().pid
        os.kill(first, signal.SIGKILL)
        wait_for_end(paths().lock)
        assert client.sigmoid(X).tolist() == [0.5, 0.5]
        with lossd.connect("private:") as other:
            assert other.status().pid != first


@pytest.mark.parametrize("make, text", [
    (lambda folder: folder.write_text(""), "no folder"),
    (lambda folder: folder.symlink_to("/tmp"), "no folder"),
    (lambda folder: (folder.mkdir(), folder.chmod(0o755)), "others may enter it"),
])
def test_a_folder_that_others_could_write_to_is_not_used(runtime, make, text):
    make(runtime / "lossd")
    with pytest.raises(lossd.Unavailable, match=text), lossd.connect("private:") as client:
        client.sigmoid(X)


@pytest.mark.parametrize("which, make", [
    ("lock", lambda path: os.symlink("/dev/null", path)), ("lock", os.mkdir),
    ("log", lambda path: os.symlink("/dev/null", path)), ("log", os.mkdir),
    ("socket", os.mkdir), ("socket", lambda path: pathlib.Path(path).write_text("mine")),
])
def test_a_foreign_file_in_its_place_is_left_and_said(runtime, which, make):
    path = getattr(paths(), which)
    make(path)
    before = os.lstat(path)
    with pytest.raises(lossd.Unavailable, match="private:") as caught, lossd.connect("private:") as client:
        client.sigmoid(X, timeout=10)
    assert path in str(caught.value) and os.lstat(path).st_ino == before.st_ino


def test_a_stale_socket_of_a_dead_daemon_is_replaced(runtime):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(paths().socket)
    with lossd.connect("private:") as client:
        assert client.sigmoid(X).tolist() == [0.5, 0.5]


def test_a_program_that_does_not_start_is_said_with_its_log(runtime, monkeypatch):
    script = runtime / "broken"
    script.write_text("#!/bin/sh\necho this machine is too small >&2\nexit 3\n")
    script.chmod(0o700)
    monkeypatch.setenv("LOSSD_BINARY", str(script))
    began = time.monotonic()
    with pytest.raises(lossd.Unavailable, match="this machine is too small"), lossd.connect("private:") as client:
        client.sigmoid(X)
    assert time.monotonic() - began < 5


def test_a_full_disk_is_an_error_or_no_matter(runtime):
    full = runtime / "full"
    full.mkdir(0o700)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=20,mode=0700", "none", full],
                      capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    os.environ["XDG_RUNTIME_DIR"] = str(full)
    try:
        with open(full / "filler", "wb", buffering=0) as file:
            with pytest.raises(OSError):
                while True:
                    file.write(bytes(4096))
        with lossd.connect("private:") as client:
            assert client.sigmoid(X).tolist() == [0.5, 0.5]  # its log is lost, no more
        wait_for_end(paths().lock)
        shutil.rmtree(full / "lossd")
        with pytest.raises(OSError):
            for number in range(100):
                (full / f"file{number}").touch()
        with pytest.raises(lossd.Unavailable, match="No space left"), lossd.connect("private:") as client:
            client.sigmoid(X)
    finally:
        subprocess.run(["umount", "-l", full], check=True)


def test_without_an_address_and_without_a_daemon_the_error_says_how_to_get_one(monkeypatch):
    monkeypatch.delenv("LOSSD_ADDRESS", raising=False)
    if os.path.exists("/run/lossd/lossd.sock"):
        pytest.skip("the system has a daemon")
    with pytest.raises(lossd.Unavailable, match=r'lossd\.connect\("private:"\)'), lossd.connect() as client:
        client.sigmoid(X)


def test_without_a_program_the_error_says_what_to_install(runtime, monkeypatch):
    monkeypatch.delenv("LOSSD_BINARY")
    monkeypatch.setattr(_program, "_candidates", lambda: iter(["/nowhere/lossd", __file__]))
    with pytest.raises(lossd.Unavailable, match="no daemon: install a wheel"), lossd.connect("private:") as client:
        client.sigmoid(X)


def test_workers_follow_affinity_and_control_groups(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)))
    for quotas, expected in (([], 12), ([2.5, 8.0], 3), ([0.1], 1), ([64.0], 12)):
        monkeypatch.setattr(_private, "_quotas", lambda quotas=quotas: iter(quotas))
        assert _private.workers() == expected


def test_quotas_are_read_as_the_kernel_writes_them(tmp_path):
    (tmp_path / "max").write_text("max 100000\n")
    (tmp_path / "quota").write_text("250000 100000\n")
    (tmp_path / "old").write_text("-1\n")
    (tmp_path / "period").write_text("100000\n")
    assert list(_private._numbers(str(tmp_path / "quota"))) == [2.5]
    for files in (["max"], ["old", "period"], ["nowhere"]):
        assert list(_private._numbers(*(str(tmp_path / name) for name in files))) == []


def test_serve_runs_one_of_ones_own():
    with lossd.serve(["--workers", "1"]) as address, lossd.connect(address) as client:
        assert client.status().workers == 1
    with pytest.raises(lossd.Unavailable), lossd.connect(address) as client:
        client.sigmoid(X)


def test_the_module_serves_too(runtime):
    process = subprocess.Popen([sys.executable, "-m", "lossd", "serve"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    try:
        name, _, address = process.stdout.readline().strip().partition("=")
        assert name == "LOSSD_ADDRESS" and address.startswith(f"unix:{runtime}/lossd/serve-")
        with lossd.connect(address, retry=10) as client:
            assert client.sigmoid(X).tolist() == [0.5, 0.5] and client.status().pid == process.pid
    finally:
        process.terminate()
        process.stdout.close()
        assert process.wait(30) == 0
    wrong = subprocess.run([sys.executable, "-m", "lossd", "stop"], capture_output=True, text=True)
    assert wrong.returncode != 0 and "usage" in wrong.stderr
