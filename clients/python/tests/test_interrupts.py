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
import lossd._calls
import lossd._driver
import lossd._streams
import lossd.testing
from conftest import segments

FOLDER = os.path.dirname(lossd.__file__) + os.sep
BIG = np.zeros(70_000, np.float32)
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


def assert_idle(client):
    """The daemon has none of the client's calls."""
    gc.collect()
    deadline = time.monotonic() + 20
    while client.status().calls_in_flight > 1:  # the status itself
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("retry", [None, 20])
def test_an_interrupt_at_any_line_loses_no_place(narrow, name, retry, monkeypatch):
    monkeypatch.setattr(lossd._driver, "SHARED_MIN", 1 << 60)
    with lossd.connect(narrow, retry) as client:
        client.sigmoid(BIG)
        step = 1
        while run_until(step, lambda: ACTIONS[name](client)):
            # Somebody else goes on, from this thread and from another one.
            assert client.sigmoid(np.float32(0), timeout=20) == 0.5, step
            step += 1
        assert step > 10
        results = []
        threads = [threading.Thread(target=lambda: results.append(client.sigmoid(BIG, timeout=20))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 8 and client.ping(20) > 0
        assert_idle(client)


STEPS = [
    (lossd._calls._values, "arrays"), (lossd._calls._values, "attributes"), (lossd._calls, "microseconds"),
    (lossd._calls, "plain"), (lossd._driver.Threads, "token"), (lossd._driver.Threads, "begun"),
    (lossd._driver.Threads, "ended"), (lossd._driver, "connected_socket")]


@pytest.mark.parametrize("place, name", STEPS, ids=lambda item: item if isinstance(item, str) else "")
@pytest.mark.parametrize("error", [ValueError, MemoryError, OverflowError, KeyboardInterrupt, lossd.Internal])
def test_whatever_a_step_raises_no_place_is_lost(narrow, place, name, error, monkeypatch):
    monkeypatch.setattr(lossd._driver, "SHARED_MIN", 1 << 60)
    real = getattr(place, name)

    def wrong(*arguments, **options):
        if threading.current_thread() is threading.main_thread():
            raise error("on purpose")
        return real(*arguments, **options)

    def evaluate(timeout=3):
        # A list is no plain array, and the results are not named: each step is taken.
        return client.evaluate("sigmoid", {"input": BIG.tolist()[:20_000]}, {}, timeout=timeout)["output"][0]

    with lossd.connect(narrow) as client:
        assert evaluate() == 0.5
        for _ in range(20):
            if name == "connected_socket":
                client.close()
            with monkeypatch.context() as patch:
                patch.setattr(place, name, wrong)
                with pytest.raises((error, lossd.LossdError)):
                    evaluate()
        for _ in range(20):
            assert evaluate() == 0.5
        assert_idle(client)


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
    gc.collect()
    before = segments()
    with lossd.connect(narrow) as client:
        client.sigmoid(BIG_SHARED, timeout=20)
        step = 1
        while True:
            if not has_segments:
                client.close()  # the next connection has none
            if not run_until(step, lambda: SHARED_ACTIONS[name](client)):
                break
            assert client.sigmoid(BIG_SHARED, timeout=20)[0] == 0.5, step
            step += 1
        assert step > (1 if name == "a call" else 20)
        assert_idle(client)
        used = segments()
        assert used <= before + 8, "segments were not used again"
        for _ in range(10):
            assert client.sigmoid(BIG_SHARED, timeout=20)[0] == 0.5
        assert segments() <= used + 2
        array = client.empty(BIG_SHARED.shape)
        array[...] = 0
        assert segments() > before and client.sigmoid(array)[0] == 0.5
    del array
    gc.collect()
    assert segments() == before
