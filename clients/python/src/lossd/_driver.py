"""One client's part in C, lossd._core, and how it is waited for: by threads, or by an event loop."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import threading
import time
from typing import Any, Callable, Coroutine, Dict, List, Optional, TypeVar, Union

import numpy as np

from . import _clock, _schema, _values
from ._clock import left_until
from ._sockets import PRIVATE_ADDRESS, connected_socket, open_socket, parse_address, unavailable
from .errors import Closed, DeadlineExceeded, LossdError, ResourceExhausted, from_code

try:
    from . import _core
except ImportError as error:
    if "main interpreter" in str(error):
        raise
    raise ImportError(
        f"lossd was installed without its part in C, lossd._core, or that does not load ({error}): install a wheel of "
        "lossd, or build it where a C compiler and libprotobuf-c's headers (Debian: libprotobuf-c-dev) are") from error

T = TypeVar("T")
#: Inputs of a call, or a result, of so many bytes lie in memory that is shared with the daemon: from there on that is
#: quicker than the socket (make bench-python-sizes). Half of it where an input lies there already.
SHARED_MIN = 192 << 10
#: Bytes of shared memory that a client has at most, but for single big tensors.
SHARED_MAX = 1 << 30
#: gRPC's numbers.
CANCELLED, UNAVAILABLE = 1, 14


def _error(code: int, text: str, is_closed: int, status: Optional[bytes]) -> LossdError:
    if is_closed:
        return Closed(text)
    if status is not None:
        try:
            said = _schema.message("Status").FromString(status)
        except Exception:  # protobuf's own differ by version
            return from_code(code, text)
        if said.code == code:
            return from_code(code, said.message, {item.key: item.value for item in said.metadata})
    return from_code(code, text)


_core.setup(np.ndarray, tuple(None if number == 0 else _values.dtype_of(number) for number in range(11)),
            _values.bfloat16, _error, LossdError)
os.register_at_fork(before=_core.before_fork)


def _connect(address: str, seconds: float) -> int:
    # No deadline of its own: the core knows which calls have come to theirs.
    return connected_socket(address, max(0.001, seconds)).detach()


def driver(address: str, is_for_loop: bool = False) -> _core.Driver:
    return _core.Driver(
        address, int(_clock.CONNECT_TIMEOUT * 1e6), None if is_for_loop else functools.partial(_connect, address),
        address == PRIVATE_ADDRESS, parse_address(address)[0] != "tcp", SHARED_MIN, SHARED_MAX)


def microseconds(deadline: Optional[float]) -> int:
    """What is left until then; 0: there is no deadline."""
    left = left_until(deadline)
    return 0 if left is None else max(1, min(int(left * 1e6), 10**15))


def run(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives that waits by Threads alone, and so never suspends."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        work.close()  # where Ctrl-C came before it began
    raise AssertionError("it waits for a loop")


class Threads:
    """Waits in the thread that asks, whichever that is."""

    def __init__(self, address: str):
        self.core = driver(address)

    def token(self, is_left: bool = False) -> int:
        """For what begins now; `is_left`: nobody may wait for it soon."""
        return int(is_left)

    def begun(self) -> None:
        """Something has."""

    async def ended(self, call: _core.Call, token: int) -> Dict[str, Any]:
        return call.wait()

    async def until(self, stream: _core.Stream, what: int, token: int) -> None:
        stream.wait(what)

    async def settled(self, memory: _core.Memory, token: int) -> None:
        memory.wait()

    def changed(self, token: int) -> None:
        """A stream may have come further by what its caller has done."""

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def turns(self) -> "ThreadTurns":
        return ThreadTurns()

    def close(self) -> None:
        self.core.close()


class ThreadTurns:
    """A lock, and a way to wait for what others change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition()

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(self, *_: Any) -> None:
        self._lock.release()

    async def until(self, holds: Callable[[], Any], deadline: Optional[float]) -> None:
        """DeadlineExceeded when it is time."""
        with self._changed:
            while not holds():
                if not self._changed.wait(left_until(deadline)) and left_until(deadline) == 0:
                    raise DeadlineExceeded("the stream's timeout is over")

    def changed(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Loop:
    """Waits in an event loop, to which it is confined. What begins in one turn of the loop is written together, with
    the next."""

    def __init__(self, address: str) -> None:
        self.loop = asyncio.get_running_loop()
        self._address = address
        try:
            self.core = driver(address, is_for_loop=True)
        except OSError as error:
            raise ResourceExhausted(f"{address}: no descriptor for a client: {error.strerror or error}") from error
        self._waiting: Dict[int, List["asyncio.Future[None]"]] = {}
        self._tokens = itertools.count(1)
        self._is_due = False  # a turn
        self._timer: Optional[asyncio.TimerHandle] = None
        self._connecting: Optional["asyncio.Task[None]"] = None
        self._is_closed = False
        self.loop.add_reader(self.core.fileno(), self._turn)

    @property
    def is_usable(self) -> bool:
        return not self._is_closed and not self.core.has_forked() and self.loop is asyncio.get_running_loop()

    def token(self, is_left: bool = False) -> int:
        return next(self._tokens)

    def begun(self) -> None:
        if not self._is_due:
            self._is_due = True
            self.loop.call_soon(self._turn)

    async def evaluate(self, function: Any, inputs: Any, attributes: Any, outputs: Any,
                       deadline: Optional[float]) -> Optional[Dict[str, Any]]:
        """The results; None where the arguments are not plain. As short as can be, for small calls."""
        token = next(self._tokens)
        call = self.core.begin(
            function, inputs, attributes, outputs, 0 if deadline is None else microseconds(deadline), token)
        if call is None:
            return None
        future = self.loop.create_future()
        self._waiting[token] = [future]
        if not self._is_due:
            self._is_due = True
            self.loop.call_soon(self._turn)
        try:
            await future
        except asyncio.CancelledError:
            self._waiting.pop(token, None)
            call.abandon()
            raise
        return call.wait()

    async def ended(self, call: _core.Call, token: int) -> Dict[str, Any]:
        if not call.has_ended():
            try:
                await self._told(token)
            except asyncio.CancelledError:
                call.abandon()
                raise
        return call.wait()

    async def until(self, stream: _core.Stream, what: int, token: int) -> None:
        while not stream.holds(what):
            await self._told(token)

    async def settled(self, memory: _core.Memory, token: int) -> None:
        while not memory.is_settled():
            await self._told(token)

    async def _told(self, token: int) -> None:
        """Until the core says that what has this token has come further."""
        future = self.loop.create_future()
        self._waiting.setdefault(token, []).append(future)
        self.begun()
        try:
            await future
        finally:
            others = self._waiting.get(token, [])
            if future in others:
                others.remove(future)
                if not others:
                    del self._waiting[token]

    def changed(self, token: int) -> None:
        for future in self._waiting.pop(token, ()):
            if not future.done():
                future.set_result(None)
        self.begun()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def turns(self) -> "LoopTurns":
        return LoopTurns()

    def close(self) -> None:
        """What is under way raises Closed."""
        if self._is_closed or self.core.has_forked():
            return
        if not self.loop.is_closed():
            self.loop.remove_reader(self.core.fileno())
            if self._connecting is not None:
                self._connecting.cancel()
        self._is_closed = True
        self.core.close()
        if not self.loop.is_closed():
            self._turn()

    def _turn(self) -> None:
        self._is_due = False
        if self.core.has_forked():
            return
        tokens, is_to_connect, pause = self.core.turn()
        for token in tokens:
            for future in self._waiting.pop(token, ()):
                if not future.done():
                    future.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_closed:
            return
        if pause is not None:
            self._timer = self.loop.call_later(min(pause, _clock.WAIT_MAX) + 0.001, self._turn)
        if is_to_connect:
            self._connecting = self.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            connected = await asyncio.wait_for(open_socket(self._address), _clock.CONNECT_TIMEOUT)
            self.core.connected(connected.detach())
        except asyncio.TimeoutError:
            self.core.refused(UNAVAILABLE, f"{self._address}: not connected in time")
        except LossdError as error:
            self.core.refused(error.code, error.message)
        except OSError as error:
            self.core.refused(UNAVAILABLE, unavailable(self._address, error).message)
        except BaseException:
            self.core.refused(CANCELLED, "interrupted")
            raise
        finally:
            self._connecting = None
            if not self._is_closed:
                self._turn()


class LoopTurns:
    """ThreadTurns of an event loop's tasks."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting: List["asyncio.Future[None]"] = []

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, *_: Any) -> None:
        self._lock.release()

    async def until(self, holds: Callable[[], Any], deadline: Optional[float]) -> None:
        while not holds():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            done, _ = await asyncio.wait([future], timeout=left_until(deadline))
            if not done:
                raise DeadlineExceeded("the stream's timeout is over")

    def changed(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()


Waiting = Union[Threads, Loop]
