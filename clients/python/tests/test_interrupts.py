"""Ctrl-C, or any other exception, at every line of the client: no place among the calls is lost, nothing hangs."""

import gc
import linecache
import os
import sys
import threading
import time

import numpy as np
import pytest

import lossd
import lossd._connection
import lossd._shm
import lossd.testing

FOLDER = os.path.dirname(lossd.__file__) + os.sep
BIG = np.zeros(70_000, np.float32)  # enough not to be a small call, which is C's, where no signal is looked for midway
HUGE = np.zeros(2_000_000, np.float32)


def run_until(step, action):
    """Runs the action, with KeyboardInterrupt before its line of that number; whether it came to that."""
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        # A with statement's line is traced again before it is left, and try's before it protects: no signal is looked
        # for there.
        if event == "line" and not linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith(
                ("with ", "try:", "return self  # __enter__")):
            lines += 1
            if lines == step:
                raise KeyboardInterrupt(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return trace

    # What a finalizer raises Python drops; pytest would keep it, and with it the frames below and all that lies there.
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    sys.settrace(trace)
    try:
        action()
        return lines >= step
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
        sys.unraisablehook = hook


@pytest.fixture(scope="module")
def narrow():
    """A daemon that takes 8 calls at once."""
    with lossd.testing.serve(["--set", "limits.streams=8"]) as address:
        yield address


def stream(client):
    with client.stream("sigmoid", window=2, timeout=30) as stream:
        stream.send({"input": BIG})
        next(stream)
        stream.send({"input": BIG})
        stream.finish()
        list(stream)


def refused(client):
    with pytest.raises(lossd.InvalidArgument):
        client.evaluate("sigmoid", {"input": BIG}, {"dim": 1})


ACTIONS = {
    "a small call": lambda client: client.sigmoid(np.float32(0)),
    "a call with a timeout": lambda client: client.sigmoid(BIG, timeout=30),
    "a call that the socket has no room for": lambda client: client.sigmoid(HUGE, timeout=30),
    "a call that is refused": refused,
    "a call in steps": lambda client: client.submit("sigmoid", {"input": BIG}).result(),
    "a ping": lambda client: client.ping(30),
    "what there is": lambda client: client.functions("sigmoid"),
    "a stream": stream,
}


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("retry", [None, 20])
def test_an_interrupt_at_any_line_loses_no_place(narrow, name, retry, monkeypatch):
    monkeypatch.setattr(lossd._shm, "IS_THERE", False)
    with lossd.connect(narrow, retry) as client:
        client.sigmoid(BIG)
        step = 1
        while run_until(step, lambda: ACTIONS[name](client)):
            # Somebody else goes on, from this thread and from another one.
            assert client.sigmoid(np.float32(0), timeout=20) == 0.5, step
            step += 1
        assert step > 20
        results = []
        threads = [threading.Thread(target=lambda: results.append(client.sigmoid(BIG, timeout=20))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 8 and client.ping(20) > 0
        deadline = time.monotonic() + 20
        connection = client._current
        while connection._calls and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not connection._calls and not connection._reserved and connection._writer.owner is None


STEPS = [
    (lossd._connection.wire, "open_call"), (lossd._connection.wire, "frame"), (lossd._connection.Connection, "_register"),
    (lossd._connection.Connection, "_reserve"), (lossd._connection.Connection, "receive"),
    (lossd._connection.Turn, "take"), (lossd._connection.Turn, "write"), (lossd._connection.Turn, "_write"),
    (lossd._connection.wire, "response")]


@pytest.mark.parametrize("place, name", STEPS, ids=lambda item: item if isinstance(item, str) else "")
@pytest.mark.parametrize("error", [ValueError, MemoryError, OverflowError, KeyboardInterrupt, lossd.Internal])
def test_whatever_a_step_raises_no_place_is_lost(narrow, place, name, error, monkeypatch):
    monkeypatch.setattr(lossd._shm, "IS_THERE", False)
    real = getattr(place, name)

    def wrong(*arguments, **options):
        if threading.current_thread() is threading.main_thread():
            raise error("on purpose")
        return real(*arguments, **options)

    with lossd.connect(narrow) as client:
        assert client.sigmoid(BIG, timeout=3)[0] == 0.5
        for _ in range(20):
            with monkeypatch.context() as patch:
                patch.setattr(place, name, wrong)
                with pytest.raises((error, lossd.LossdError)):
                    client.sigmoid(BIG, timeout=3)
        for _ in range(20):
            assert client.sigmoid(BIG, timeout=3)[0] == 0.5


def empty(client):
    array = client.empty(BIG_SHARED.shape)
    array[...] = 0
    client.sigmoid(array, timeout=30)


def shared_stream(client):
    with client.stream("sigmoid", window=2, timeout=30) as stream:
        stream.send({"input": BIG_SHARED})
        next(stream)
        stream.finish()
        list(stream)


BIG_SHARED = np.zeros(100_000, np.float32)
SHARED_ACTIONS = {
    "a call": lambda client: client.sigmoid(BIG_SHARED, timeout=30),
    "an array of empty": empty,
    "a stream": shared_stream,
}


@pytest.mark.parametrize("has_segments", [True, False])
@pytest.mark.parametrize("name", SHARED_ACTIONS)
def test_an_interrupt_at_any_line_leaves_no_shared_memory_waiting(narrow, name, has_segments):
    """Neither a region that was asked for, nor one that is used no more, nor a descriptor."""
    with lossd.connect(narrow) as client:
        client.sigmoid(BIG_SHARED, timeout=20)
        connection = client._current
        pool = connection.pool
        step = 1
        while True:
            if not has_segments:
                with pool._lock:
                    for segment in pool._trim():
                        pool._drop(segment)
            if not run_until(step, lambda: SHARED_ACTIONS[name](client)):
                break
            assert client._current is connection or not connection.is_usable, step
            connection, pool = client._connection(), client._connection().pool
            assert client.sigmoid(BIG_SHARED, timeout=20)[0] == 0.5, step
            step += 1
        assert step > 100
        gc.collect()

        def is_idle():
            # The reader gives a call's memory back under the lock that it takes the call out under.
            with connection._lock:
                return not (connection._calls or pool._asked)

        deadline = time.monotonic() + 20
        while not is_idle() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not connection._calls and not connection._reserved and connection._writer.owner is None
        connection._send_released(None)
        assert not (pool._asked or pool._descriptors or pool._to_release)
        assert len(pool._trim()) == len(pool._all)
        assert connection.segment(1 << 20, time.monotonic() + 20, lossd._shm.Lease(pool)) is not None
