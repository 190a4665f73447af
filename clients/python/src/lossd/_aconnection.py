"""One connection of an event loop. Confined to it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple, Union

from . import _clock, _wire as wire
from ._clock import left_until
from ._connection import PINGS_MAX
from ._frames import (
    ACK, BadFrame, CANCEL, CREDIT, END_STREAM, Frame, FrameReader, GOAWAY, HELLO, MESSAGE, PING, REGION, RELEASE, STATUS)
from ._evaluation import Evaluation
from ._shm import Lease, Pool, Regions, Segment
from .errors import Closed, DeadlineExceeded, LossdError, NeverBegan, Unavailable, from_status

Event = Union[Tuple[bytes, memoryview, bool], LossdError]


class AsyncCall:
    """A call under way."""

    def __init__(self, stream: int, credit: int, deadline: Optional[float]):
        self.stream = stream
        self.deadline = deadline
        self.events: Deque[Event] = deque()
        self.credit = credit
        self.is_over = False
        #: Shared memory, until the daemon has ended the call.
        self.lease: Optional[Lease] = None
        self.is_abandoned = False
        #: Set when one of those changes.
        self.changed = asyncio.Event()


class AsyncConnection(asyncio.BufferedProtocol):
    """Frames are read straight to where their arrays will be."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.process = os.getpid()
        self._reader = FrameReader()
        self._transport: Any = None
        self._calls: Dict[int, AsyncCall] = {}
        self._next = 1
        self._hello: "asyncio.Future[Any]" = self.loop.create_future()
        self._pings: Deque["asyncio.Future[None]"] = deque()
        self._pings_unread = 0  # of the daemon, since it takes nothing
        self._waiting: Deque["asyncio.Future[None]"] = deque()  # for a place among the calls
        self._regions = Regions()
        self._region_answered = asyncio.Event()
        self._is_writable = asyncio.Event()
        self._is_writable.set()
        self.error: Optional[LossdError] = None
        self.is_draining = False
        self._closed: "asyncio.Future[None]" = self.loop.create_future()

    @classmethod
    async def connect(cls, address: str) -> "AsyncConnection":
        kind, target = wire.parse_address(address)
        loop = asyncio.get_running_loop()
        try:
            if kind == "unix":
                made = loop.create_unix_connection(cls, target)
            else:
                made = loop.create_connection(cls, *target)
            _, connection = await asyncio.wait_for(made, _clock.CONNECT_TIMEOUT)
        except asyncio.TimeoutError:
            raise Unavailable(f"{address}: not connected in time") from None
        except OSError as error:
            raise Unavailable(f"{address}: {error.strerror or error}") from error
        loop.call_later(_clock.CONNECT_TIMEOUT, connection._check_hello, address)
        return connection

    def _check_hello(self, address: str) -> None:
        if not self._hello.done():
            self._end(Unavailable(f"{address}: the daemon did not say HELLO in time"))

    @property
    def is_usable(self) -> bool:
        return self.error is None and not self.is_draining and self.process == os.getpid()

    # ---- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._write([wire.hello()])

    def get_buffer(self, sizehint: int) -> Any:
        return self._reader.space()

    def buffer_updated(self, count: int) -> None:
        try:
            for frame in self._reader.advance(count):
                self._take(frame)
            if self.is_draining and not self._calls:
                raise Unavailable("the daemon is shutting down")
        except LossdError as error:
            self._end(error)
        except Exception as error:  # BadFrame, and protobuf's, which differ by version
            self._end(Unavailable(f"the daemon broke the protocol: {error}"))

    def eof_received(self) -> None:
        self._end(Unavailable("the daemon closed the connection"))

    def connection_lost(self, error: Optional[Exception]) -> None:
        self._end(Unavailable(f"the connection broke: {error}" if error else "the daemon closed the connection"))
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._is_writable.clear()

    def resume_writing(self) -> None:
        self._is_writable.set()

    # ---- Writing

    def _write(self, parts: List[Any]) -> None:
        if self.error is None:
            for part in parts:
                if len(part):
                    self._transport.write(part)

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

    @property
    def _socket(self) -> Any:
        return self._transport.get_extra_info("socket")

    async def has_shared_memory(self, deadline: Optional[float]) -> bool:
        hello = await self.hello(deadline)
        return wire.SHARED_MEMORY in hello.features and self._socket.family == socket.AF_UNIX

    async def lease(self, evaluation: Evaluation, pool: Pool, has_results: bool,
                    deadline: Optional[float]) -> Tuple[wire.Request, Optional[Lease]]:
        """The request with its big tensors in shared memory, where that is worth it and can be."""
        leased = None
        if evaluation.is_big and await self.has_shared_memory(deadline):
            leased = evaluation.lease(pool, has_results)
        if leased is None:
            return evaluation.plain(), None
        request, lease = leased
        try:
            if await self.share(pool, lease.segments(), deadline):
                return request, lease
        except BaseException:
            lease.end(is_safe=True)
            raise
        lease.end(is_safe=True)
        return evaluation.plain(), None

    async def share(self, pool: Pool, segments: List[Segment], deadline: Optional[float]) -> bool:
        self._write([wire.region_frame(RELEASE, number) for number in self._regions.take_dropped(pool)])
        for segment in segments:
            if self._regions.begin(segment):
                await self._send_region(segment, deadline)
            while self._regions.is_pending(segment) and self.error is None:
                self._region_answered.clear()
                await within(self._region_answered.wait(), deadline, "the daemon did not take shared memory")
            if not self._regions.is_known(segment):
                return False
        return True

    async def _send_region(self, segment: Segment, deadline: Optional[float]) -> None:
        """asyncio's transports send no descriptors: when this one has nothing queued, the frame goes to the socket
        beside it."""
        frame = wire.region_frame(REGION, segment.number, segment.size)
        descriptor = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", segment.fd))]
        with socket.fromfd(self._socket.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as beside:
            while self.error is None:
                if self._transport.get_write_buffer_size() == 0:
                    try:
                        sent = beside.sendmsg([frame], descriptor, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                        return self._write([frame[sent:]])
                    except BlockingIOError:
                        pass
                    except OSError:
                        return  # the transport finds out too
                if deadline is not None and left_until(deadline) == 0:
                    self._regions.forget(segment)
                    raise DeadlineExceeded("the daemon did not take shared memory within the timeout")
                await asyncio.sleep(0.001)

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
            self._regions.answered(result.region, result.status.code == 0)
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
            self._hello.set_exception(error)
            self._hello.exception()  # Nobody may be waiting for it.
        for stream, call in list(self._calls.items()):
            if call.lease is not None:
                call.lease.end(is_safe=False)
            self._tell(stream, error, True)
        self._regions.fail()
        self._region_answered.set()
        for waiting in [*self._pings, *self._waiting]:
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()
        self._is_writable.set()
        self._transport.abort()

    async def close(self) -> None:
        if self.process != os.getpid() or self.loop is not asyncio.get_running_loop():
            return  # another process's, or of a loop that has ended: it goes with that
        self._end(Closed("the client was closed"))
        await asyncio.wait({self._closed})


async def within(awaitable: Any, deadline: Optional[float], what: str) -> None:
    """Waits until the deadline, which raises DeadlineExceeded."""
    try:
        await asyncio.wait_for(awaitable, left_until(deadline))
    except asyncio.TimeoutError as error:
        if isinstance(error, LossdError):
            raise
        raise DeadlineExceeded(f"{what} within the timeout") from None
