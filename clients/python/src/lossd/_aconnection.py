"""One connection of an event loop. Confined to it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from itertools import islice
from typing import Any, Deque, Dict, List, Optional, Tuple, Union

import numpy as np

from . import _clock, _shm, _wire as wire
from ._clock import left_until
from ._connection import PINGS_MAX
from ._frames import (
    ACK, BadFrame, CANCEL, CREDIT, END_STREAM, Frame, FrameReader, GOAWAY, HELLO, MESSAGE, PING, REGION, RELEASE, STATUS)
from ._evaluation import Evaluation
from ._sockets import connected_socket, unavailable
from ._shm import Lease, Pool, Segment
from .errors import Closed, DeadlineExceeded, LossdError, NeverBegan, Unavailable, from_status

Event = Union[Tuple[bytes, memoryview, bool], LossdError]


class AsyncCall:
    """A call under way."""

    def __init__(self, stream: int, credit: int, deadline: Optional[float]):
        self.stream = stream
        self.deadline = deadline
        self.events: Deque[Event] = deque()
        self.credit = credit
        #: Responses that may still come: one a request of a stream, and its Summary; else one.
        self.responses_due = 1
        self.is_over = False
        #: Shared memory, until the daemon has ended the call.
        self.lease: Optional[Lease] = None
        self.is_abandoned = False
        #: Set when one of those changes.
        self.changed = asyncio.Event()


#: Bytes that wait to be written beyond which nobody writes more, and up to which again.
WRITE_HIGH, WRITE_LOW = 64 << 10, 16 << 10


class AsyncConnection:
    """Frames are read straight to where their arrays will be. The socket is the loop's to watch and ours to read and
    write: asyncio's transports take no descriptors."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._is_unix = connected.family == socket.AF_UNIX
        self._is_private = False
        self.loop = asyncio.get_running_loop()
        self.process = os.getpid()
        self._reader = FrameReader()
        self._queue: Deque[memoryview] = deque()  # to be written
        self._queued = 0
        self._cannot_write = False  # the daemon reads no more
        self._calls: Dict[int, AsyncCall] = {}
        self._next = 1
        self._hello: "asyncio.Future[Any]" = self.loop.create_future()
        self._pings: Deque["asyncio.Future[None]"] = deque()
        self._pings_unread = 0  # of the daemon, since it takes nothing
        self._waiting: Deque["asyncio.Future[None]"] = deque()  # for a place among the calls
        #: Memory that its daemon shares with us.
        self.pool = Pool()
        self._is_watched = False
        self._region_answered = asyncio.Event()
        self._is_writable = asyncio.Event()
        self._is_writable.set()
        self.error: Optional[LossdError] = None
        self.is_draining = False
        self.loop.add_reader(connected, self._readable)
        self._write([wire.hello()])

    @classmethod
    async def connect(cls, address: str) -> "AsyncConnection":
        try:
            connected = await asyncio.wait_for(open_socket(address), _clock.CONNECT_TIMEOUT)
        except asyncio.TimeoutError:
            raise Unavailable(f"{address}: not connected in time") from None
        except LossdError:
            raise
        except OSError as error:
            raise unavailable(address, error) from error
        connection = cls(connected)
        connection._is_private = address == wire.PRIVATE_ADDRESS
        connection.loop.call_later(_clock.CONNECT_TIMEOUT, connection._check_hello, address)
        return connection

    def __del__(self) -> None:
        # Left without a close, in a loop that has ended: what lies in its memory stays.
        if self.process == os.getpid():
            self.pool.close()
            self._shut()

    def _check_hello(self, address: str) -> None:
        if not self._hello.done():
            self._end(Unavailable(f"{address}: the daemon did not say HELLO in time"))

    @property
    def is_usable(self) -> bool:
        return self.error is None and not self.is_draining and self.process == os.getpid()

    # ---- The loop's callbacks

    def _readable(self) -> None:
        try:
            if self._is_unix:
                count, ancillary, flags, _ = self._socket.recvmsg_into(
                    [self._reader.space()], _shm.ANCILLARY, _shm.RECEIVE_FLAGS)
                if ancillary or flags & socket.MSG_CTRUNC:
                    self.pool.came(ancillary, bool(flags & socket.MSG_CTRUNC))
            else:
                count = self._socket.recv_into(self._reader.space())
            if count == 0:
                raise Unavailable("the daemon closed the connection")
            for frame in self._reader.advance(count):
                self._take(frame)
            if self.is_draining and not self._calls:
                raise Unavailable("the daemon is shutting down")
        except (BlockingIOError, InterruptedError):
            pass
        except LossdError as error:
            self._end(error)
        except OSError as error:
            self._end(Unavailable(f"the connection broke: {error.strerror or error}"))
        except Exception as error:  # BadFrame, and protobuf's, which differ by version
            self._end(Unavailable(f"the daemon broke the protocol: {error}"))

    # ---- Writing

    def _write(self, parts: List[Any]) -> None:
        if self.error is not None or self._cannot_write:
            return
        parts = [memoryview(part) for part in parts if len(part)]
        self._queued += sum(map(len, parts))
        if self._queue:
            self._queue.extend(memoryview(bytes(part)) for part in parts)
        else:
            self._queue.extend(parts)
            self._flush()
            if self._queue:
                # What is left is copied: the arrays are their owner's again.
                self._queue = deque([memoryview(b"".join(self._queue))])
        if self._queued > WRITE_HIGH:
            self._is_writable.clear()

    def _flush(self) -> None:
        try:
            while self._queue:
                sent = self._socket.sendmsg(list(islice(self._queue, 64)))
                self._queued -= sent
                while sent:
                    part = self._queue.popleft()
                    if sent < len(part):
                        self._queue.appendleft(part[sent:])
                    sent -= min(sent, len(part))
            self.loop.remove_writer(self._socket)
        except (BlockingIOError, InterruptedError):
            self.loop.add_writer(self._socket, self._flush)
        except OSError:
            # It may have said why before it went: that is still to be read.
            self.loop.remove_writer(self._socket)
            self._cannot_write = self.is_draining = True
            self._region_answered.set()
            self._queue.clear()
            self._queued = 0
        if self._queued <= WRITE_LOW:
            self._is_writable.set()

    async def _writable(self, deadline: Optional[float]) -> None:
        if not self._is_writable.is_set():
            await within(self._is_writable.wait(), deadline, "the daemon takes nothing")

    async def hello(self, deadline: Optional[float] = None) -> Any:
        """What the daemon said of itself and its limits; waits for it."""
        if not self._hello.done():
            await within(asyncio.shield(self._hello), deadline, "the daemon did not say HELLO")
        return self._hello.result()

    async def open(self, method: str, deadline: Optional[float], request: Optional[wire.Request] = None,
                   lease: Optional[Lease] = None) -> AsyncCall:
        """Begins a call, with its only request where there is one, once the daemon's limits have room for it."""
        hello = await self.hello(deadline)
        if request is not None:
            request.check(hello)
        await self._writable(deadline)
        while self.is_usable and len(self._calls) >= hello.max_streams:
            place: "asyncio.Future[None]" = self.loop.create_future()
            self._waiting.append(place)
            try:
                await within(place, deadline, "the daemon takes no more calls")
            except BaseException:
                if place.done() and not place.cancelled():
                    self._wake_one()  # It had been given a place that it does not take.
                raise
        if not self.is_usable or self._next >= 2**32 - 1:
            raise NeverBegan("the connection is going away")
        call = AsyncCall(self._next, hello.stream_credit, deadline)
        call.lease = lease
        parts: List[Any] = [wire.open_call(call.stream, method, left_until(deadline))]
        if request is not None:
            parts[0] += wire.frame(MESSAGE, call.stream, request.message, request.length, END_STREAM)
            parts += request.parts
            if method == wire.EVALUATE_STREAM:
                call.responses_due += 1
        # The call has a place from here on, and nothing that could fail lies between.
        self._next += 1
        self._calls[call.stream] = call
        self._write(parts)
        return call

    async def send(self, call: AsyncCall, request: wire.Request) -> None:
        """Another request of a streaming call, for which there is credit."""
        request.check(await self.hello())
        await self._writable(call.deadline)
        call.credit -= 1
        call.responses_due += 1
        self._write([wire.frame(MESSAGE, call.stream, request.message, request.length), *request.parts])

    def half_close(self, call: AsyncCall) -> None:
        self._write([wire.frame(MESSAGE, call.stream, b"", 0, END_STREAM)])

    def cancel(self, call: AsyncCall) -> None:
        if not call.is_over:
            self._write([wire.frame(CANCEL, call.stream)])

    def abandon(self, call: AsyncCall) -> None:
        self.cancel(call)
        call.is_over = call.is_abandoned = True
        if call.stream not in self._calls and call.lease is not None:
            call.lease.end(is_safe=True)

    # ---- Shared memory: as in _connection.py

    async def has_shared_memory(self, deadline: Optional[float]) -> bool:
        return self._is_unix and wire.SHARED_MEMORY in (await self.hello(deadline)).features

    async def lease(self, evaluation: Evaluation, has_results: bool,
                    deadline: Optional[float]) -> Tuple[wire.Request, Optional[Lease]]:
        """The request with its big tensors in shared memory, where that is worth it and can be."""
        plan = None
        if evaluation.is_big and await self.has_shared_memory(deadline):
            plan = evaluation.plan(self.pool, has_results)
        if plan is None:
            return evaluation.plain(), None
        lease = Lease(self.pool)
        try:
            own = await self.segment(plan.size, deadline, lease) if plan.size else None
            if own is not None:
                lease.own.append(own)
            if own is not None or not plan.size:
                for name, length in plan.expected.items():
                    result = await self.segment(length, deadline, lease)
                    if result is not None:
                        result.is_result = True
                        lease.results[name] = result
                request = evaluation.shared(plan, lease)
                if request is not None:
                    return request, lease
        except BaseException:
            lease.end(is_safe=True)
            raise
        lease.end(is_safe=True)
        return evaluation.plain(), None

    async def segment(self, size: int, deadline: Optional[float], lease: Lease) -> Optional[Segment]:
        """Shared memory of at least so many bytes for the lease's own; None where the daemon gives none."""
        found = self.pool.take(size, lease)
        if found is not None or self.is_draining:
            self._send_released()
            return found
        number = self.pool.number()
        was_sent = False
        try:
            length = self.pool.ask(number, size, lease) if self._watch() else None
            self._send_released()
            if length is None:
                return None
            was_sent = True
            self._write([wire.region_frame(REGION, number, length)])
            # A daemon that is going away, or cannot be written to, may never answer.
            while self.pool.is_asked(number) and self.error is None and not self.is_draining:
                self._region_answered.clear()
                await within(self._region_answered.wait(), deadline, "the daemon did not share memory")
            found = self.pool.collect(number)
        finally:
            self.pool.leave(number, was_sent)
        if found is None:
            self._send_released()  # it came, and was nothing
        return found

    def _send_released(self) -> None:
        released = self.pool.released()
        if released:
            self._write([wire.region_frame(RELEASE, number) for number in released])
            self.pool.told(released)

    def _watch(self) -> bool:
        """Whether somebody sees the connection's end also while the loop is busy or has stopped."""
        if not self._is_watched:
            try:
                _shm.watch(self._socket, self.pool)
            except (OSError, RuntimeError):  # no descriptors or no threads are left
                return False
            self._is_watched = True
        return True

    async def empty(self, shape: Any, dtype: Any) -> np.ndarray:
        """An array in shared memory, or an ordinary one where there is none to be had."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        lease = Lease(self.pool)
        segment = await self.segment(size, None, lease) if size and await self.has_shared_memory(None) else None
        if segment is None:
            return np.empty(shape, dtype)
        array: np.ndarray = self.pool.visible(segment, size).view(dtype).reshape(shape)
        return array

    async def ping(self, deadline: Optional[float]) -> None:
        await self.hello(deadline)
        answered: "asyncio.Future[None]" = self.loop.create_future()
        self._pings.append(answered)
        self._write([wire.frame(PING, 0, struct.pack("<Q", len(self._pings)))])
        await within(answered, deadline, "the daemon did not answer")

    async def receive(self, call: AsyncCall) -> Tuple[bytes, memoryview, bool]:
        """The next response; raises what ended the call."""
        try:
            while not call.events:
                call.changed.clear()
                deadline = None if call.deadline is None else call.deadline + _clock.GRACE
                await within(call.changed.wait(), deadline, "the daemon did not answer")
        except (DeadlineExceeded, asyncio.CancelledError):
            self.abandon(call)
            raise
        event = call.events.popleft()
        if isinstance(event, LossdError):
            raise event
        return event

    # ---- Reading

    def _take(self, frame: Frame) -> None:
        if frame.kind == MESSAGE:
            is_last = bool(frame.flags & END_STREAM)
            call = self._calls.get(frame.stream)
            if call is not None:
                if call.responses_due == 0:
                    raise BadFrame(f"a response on stream {frame.stream} to no request")
                call.responses_due -= 1
            self._tell(frame.stream, (frame.message, frame.payload, is_last), is_last)
        elif frame.kind == STATUS:
            self._tell(frame.stream, from_status(wire.Status.FromString(frame.message)), True)
        elif frame.kind == CREDIT:
            messages = wire.Credit.FromString(frame.message).messages
            if not messages:
                raise BadFrame("a CREDIT for 0 messages")
            call = self._calls.get(frame.stream)
            if call is not None:
                call.credit += messages
                call.changed.set()
        elif frame.kind == HELLO:
            hello = wire.Hello.FromString(frame.message)
            if not hello.max_streams or not hello.stream_credit:
                raise BadFrame("a HELLO that allows no calls")
            if not self._hello.done():
                self._hello.set_result(hello)
        elif frame.kind == PING and frame.flags & ACK:
            if not self._pings:
                raise BadFrame("an answer to a PING that was not sent")
            answered = self._pings.popleft()
            if not answered.done():
                answered.set_result(None)
        elif frame.kind == PING:
            self._pings_unread = 0 if self._is_writable.is_set() else self._pings_unread + 1
            if self._pings_unread > PINGS_MAX:
                raise BadFrame("PINGs whose answers are not read")
            self._write([wire.frame(PING, 0, frame.message, 0, ACK)])
        elif frame.kind == GOAWAY:
            self._drain(wire.GoAway.FromString(frame.message))
        elif frame.kind == REGION:
            result = wire.RegionResult.FromString(frame.message)
            self.pool.answered(result.region, result.status.code == 0)
            self._region_answered.set()
        # RELEASE's answer: the daemon has let go of a segment that is not used again anyway.

    def _tell(self, stream: int, event: Event, is_over: bool) -> None:
        if stream >= self._next:
            raise BadFrame(f"a frame of stream {stream}, which was never opened")
        call = self._calls.get(stream)
        if call is None:
            return
        if is_over:
            call.is_over = True
            del self._calls[stream]
            self._wake_one()
            if call.is_abandoned and call.lease is not None:
                call.lease.end(is_safe=True)
        call.events.append(event)
        call.changed.set()

    def _wake_one(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return

    def _drain(self, message: Any) -> None:
        if message.status.code:
            raise Unavailable(f"the daemon ended the connection: {message.status.message}")
        self.is_draining = True
        self._region_answered.set()
        for stream in [stream for stream in self._calls if stream > message.last_stream_id]:
            self._tell(stream, NeverBegan("the daemon is shutting down"), True)
        while self._waiting:
            self._wake_one()

    # ---- The end

    def _end(self, error: LossdError) -> None:
        if self.error is not None:
            return
        self.error = error
        if not self._hello.done():
            # A private daemon was going when we came.
            is_gone = self._is_private and not isinstance(error, Closed)
            self._hello.set_exception(NeverBegan(error.message) if is_gone else error)
            self._hello.exception()  # Nobody may be waiting for it.
        for stream, call in list(self._calls.items()):
            if call.lease is not None:
                call.lease.end(is_safe=False)
            self._tell(stream, error, True)
        # Before the daemon knows of the end: it then frees what lies in its memory.
        self.pool.close()
        self._region_answered.set()
        for waiting in [*self._pings, *self._waiting]:
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()
        self._is_writable.set()
        self.loop.remove_reader(self._socket)
        self.loop.remove_writer(self._socket)
        self._queue.clear()
        self._shut()

    def _shut(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # who watches it has a descriptor of it too
        except OSError:
            pass
        self._socket.close()

    async def close(self) -> None:
        if self.process != os.getpid() or self.loop is not asyncio.get_running_loop():
            return  # another process's, or of a loop that has ended: it goes with that
        if self.error is None and not self._queue:
            self.pool.close()
            self._send_released()
        self._end(Closed("the client was closed"))


async def open_socket(address: str) -> socket.socket:
    """A connected socket that never waits."""
    loop = asyncio.get_running_loop()
    kind, target = wire.parse_address(address)
    if kind == "unix":
        return await _connect(loop, socket.AF_UNIX, target)
    if kind == "private":
        # It may have to start the daemon, and waits for it.
        connected = await loop.run_in_executor(None, connected_socket, address, _clock.CONNECT_TIMEOUT)
        connected.setblocking(False)
        return connected
    problem: Optional[OSError] = None
    for family, _, _, _, place in await loop.getaddrinfo(*target, type=socket.SOCK_STREAM):
        try:
            connected = await _connect(loop, family, place)
        except OSError as error:
            problem = problem or error
            continue
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connected
    raise problem or OSError(f"{target[0]} has no address")


async def _connect(loop: asyncio.AbstractEventLoop, family: int, place: Any) -> socket.socket:
    connected = socket.socket(family, socket.SOCK_STREAM)
    try:
        connected.setblocking(False)
        await loop.sock_connect(connected, place)
    except BaseException:
        connected.close()
        raise
    return connected


async def within(awaitable: Any, deadline: Optional[float], what: str) -> None:
    """Waits until the deadline, which raises DeadlineExceeded."""
    try:
        await asyncio.wait_for(awaitable, left_until(deadline))
    except asyncio.TimeoutError as error:
        if isinstance(error, LossdError):
            raise
        raise DeadlineExceeded(f"{what} within the timeout") from None
