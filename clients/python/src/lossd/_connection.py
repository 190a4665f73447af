"""One connection: a thread that reads, and any threads that write."""

from __future__ import annotations

import os
import queue
import socket
import struct
import threading
import time
from typing import Any, Deque, Dict, List, Optional, Set, Tuple

import numpy as np

from . import _clock, _shm, _wire as wire
from ._clock import deadline_after, left_until
from ._frames import (
    ACK, BadFrame, CANCEL, CREDIT, END_STREAM, Frame, FrameReader, GOAWAY, HELLO, MESSAGE, PING, REGION, RELEASE, STATUS)
from ._evaluation import Evaluation
from ._shm import Lease, Pool, Segment
from ._sockets import connected_socket
from ._writer import Turn, Writer
from .errors import Closed, DeadlineExceeded, LossdError, NeverBegan, Unavailable, from_status

#: Of the daemon, that are not answered yet.
PINGS_MAX = 1000


class Call:
    """A call under way. What its connection's reader finds for it arrives in `events`."""

    def __init__(self, stream: int, credit: int, deadline: Optional[float]):
        self.stream = stream
        self.deadline = deadline
        #: (message, payload, is_last), or an exception that ends the call.
        self.events: "queue.SimpleQueue[Any]" = queue.SimpleQueue()
        #: Requests that may be sent.
        self.credit = threading.Semaphore(credit)
        #: Responses that may still come: one a request of a stream, and its Summary; else one.
        self.responses_due = 1
        self.is_over = False
        #: Shared memory, until the daemon has ended the call.
        self.lease: Optional[Lease] = None
        self.is_abandoned = False
        self.is_cancelled = False


class Connection:
    """A socket with its reader. Any thread."""

    def __init__(self, address: str, deadline: Optional[float] = None):
        timeout = _clock.CONNECT_TIMEOUT if deadline is None else max(0.001, min(_clock.CONNECT_TIMEOUT, deadline - time.monotonic()))
        try:
            self._socket = connected_socket(address, timeout)
        except Unavailable as error:
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlineExceeded(f"{address}: not connected within the timeout") from error
            raise
        self._address = address
        self.process = os.getpid()
        self._hello_deadline = time.monotonic() + _clock.CONNECT_TIMEOUT
        self._lock = threading.RLock()
        self._writer = Writer(self._socket, self._stop_writing)
        self._calls: Dict[int, Call] = {}
        self._next = 1
        self._changed = threading.Condition(self._lock)
        self._hello: Any = None
        self._error: Optional[LossdError] = None
        self._is_draining = False
        #: Calls that have a place and no number yet.
        self._reserved: Set[Call] = set()
        self._is_unix = self._socket.family == socket.AF_UNIX
        #: Memory that its daemon shares with us.
        self.pool = Pool()
        self._pings_sent = self._pings_answered = 0
        self._pings_to_answer: "queue.SimpleQueue[Optional[bytes]]" = queue.SimpleQueue()
        self._ponger: Optional[threading.Thread] = None
        self._thread = threading.Thread(target=self._read_all, name="lossd-reader", daemon=True)
        self._writer.send([wire.hello()], self._hello_deadline)
        self._thread.start()

    @property
    def is_usable(self) -> bool:
        return self._error is None and not self._is_draining and self.process == os.getpid()

    def _failed(self) -> LossdError:
        return self._error or Unavailable("the connection was closed")

    def _stop_writing(self) -> None:
        with self._lock:
            self._is_draining = True
            self._changed.notify_all()

    def hello(self, deadline: Optional[float] = None) -> Any:
        """What the daemon said of itself and its limits; waits for it."""
        with self._lock:
            while self._hello is None and self._error is None:
                until = self._hello_deadline if deadline is None else min(self._hello_deadline, deadline)
                if self._changed.wait(left_until(until)):
                    continue
                if time.monotonic() < self._hello_deadline:
                    raise DeadlineExceeded(f"{self._address}: the daemon did not say HELLO within the timeout")
                self.close(Unavailable(f"{self._address}: the daemon did not say HELLO in time"))
            if self._hello is None:
                error = self._failed()
                if self._address == wire.PRIVATE_ADDRESS and not isinstance(error, Closed):
                    raise NeverBegan(error.message) from error  # it was going when we came
                raise error
            return self._hello

    def _reserve(self, call: Call, hello: Any, deadline: Optional[float]) -> None:
        """A place among the calls that the daemon takes at once."""
        with self._lock:
            while True:
                if self._is_draining or self._error is not None or self._next >= 2**32 - 1:
                    raise NeverBegan("the connection is going away")
                if len(self._calls) + len(self._reserved) < hello.max_streams:
                    break
                if not self._changed.wait(left_until(deadline)) and left_until(deadline) == 0:
                    raise DeadlineExceeded("the timeout was over before the call could be sent")
            self._reserved.add(call)

    def open(self, method: str, deadline: Optional[float], request: Optional[wire.Request] = None,
             lease: Optional[Lease] = None, opened: Optional[Deque[Any]] = None) -> Call:
        """Begins a call, with its only request where there is one, once the daemon's limits have room for it.
        Raises NeverBegan where another connection has to be taken. `opened` gets this connection and the call before
        anything is sent: a stream that nobody knows of would never end."""
        hello = self.hello(deadline)
        if request is not None:
            request.check(hello)
        call = Call(0, hello.stream_credit, deadline)
        call.lease = lease
        if opened is not None:
            opened.append((self, call))
        turn = Turn(self._writer)
        try:
            self._reserve(call, hello, deadline)
            # OPENs go out in the order of their numbers.
            turn.take(deadline)
            self._register(call)
            parts: List[Any] = [wire.open_call(call.stream, method, left_until(deadline))]
            if request is not None:
                parts[0] += wire.frame(MESSAGE, call.stream, request.message, request.length, END_STREAM)
                parts += request.parts
                if method == wire.EVALUATE_STREAM:
                    call.responses_due += 1
            turn.write(parts, deadline)
            return call
        except BaseException:
            self._end_opening(call, turn)
            if turn.has_begun:
                self.abandon(call)
            raise
        finally:
            # Ctrl-C may come anywhere: what is not done the first time is done the second.
            try:
                self._end_opening(call, turn)
            finally:
                self._end_opening(call, turn)

    def _register(self, call: Call) -> None:
        with self._lock:
            if self._is_draining or self._error is not None:
                raise NeverBegan("the connection is going away")
            call.stream = self._next
            self._next += 1
            self._calls[call.stream] = call
            self._reserved.discard(call)

    def _end_opening(self, call: Call, turn: Turn) -> None:
        if call in self._reserved or not turn.has_begun:
            with self._lock:
                self._reserved.discard(call)
                if not turn.has_begun:  # The daemon has never heard of it.
                    call.is_over = True
                    if self._calls.get(call.stream) is call:
                        del self._calls[call.stream]
                self._changed.notify_all()
        turn.end()

    def send(self, call: Call, request: wire.Request) -> None:
        """Another request of a streaming call."""
        request.check(self._hello)
        with self._lock:
            call.responses_due += 1
        self._writer.send(
            [wire.frame(MESSAGE, call.stream, request.message, request.length), *request.parts], call.deadline)

    def half_close(self, call: Call) -> None:
        self._writer.send([wire.frame(MESSAGE, call.stream, b"", 0, END_STREAM)], call.deadline)

    def cancel(self, call: Call) -> None:
        """The daemon is asked to stop; how the call ended is still to come."""
        if call.stream and not call.is_over and not call.is_cancelled:
            try:
                self._writer.send([wire.frame(CANCEL, call.stream)], deadline_after(_clock.GRACE))
                call.is_cancelled = True
            except LossdError:
                pass

    def abandon(self, call: Call) -> None:
        """The same, and nobody waits for it."""
        self.cancel(call)
        with self._lock:
            call.is_over = call.is_abandoned = True
            has_ended = call.stream not in self._calls
        if has_ended and call.lease is not None:
            call.lease.end(is_safe=True)

    # ---- shared memory

    def has_shared_memory(self, deadline: Optional[float]) -> bool:
        """Known once HELLO has come."""
        return self._is_unix and wire.SHARED_MEMORY in self.hello(deadline).features

    def segment(self, size: int, deadline: Optional[float], lease: Lease) -> Optional[Segment]:
        """Shared memory of at least so many bytes for the lease's own; None where the daemon gives none."""
        found = self.pool.take(size, lease)
        if found is not None or self._is_draining:
            self._send_released(deadline)
            return found
        number = self.pool.number()
        turn = Turn(self._writer)
        try:
            length = self.pool.ask(number, size, lease)
            self._send_regions(turn, number, length, deadline)
            if length is None:
                return None
            with self._lock:
                # A daemon that is going away, or cannot be written to, may never answer.
                while self.pool.is_asked(number) and self._error is None and not self._is_draining:
                    if not self._changed.wait(left_until(deadline)) and left_until(deadline) == 0:
                        raise DeadlineExceeded("the daemon did not share memory within the timeout")
            found = self.pool.collect(number)
        finally:
            # Ctrl-C may come anywhere: what is not done the first time is done the second.
            try:
                self.pool.leave(number, turn.has_begun)
            finally:
                self.pool.leave(number, turn.has_begun)
        if found is None:
            self._send_released(deadline)  # it came, and was nothing
        return found

    def _send_released(self, deadline: Optional[float]) -> None:
        if self.pool.released():
            self._send_regions(Turn(self._writer), 0, None, deadline)

    def _send_regions(self, turn: Turn, number: int, length: Optional[int], deadline: Optional[float]) -> None:
        """Gives back what is used no more, and asks for a region of that number where there is a length."""
        released: List[int] = []
        try:
            turn.take(deadline)
            released = self.pool.released()
            parts: List[Any] = [wire.region_frame(RELEASE, gone) for gone in released]
            if length is not None:
                parts.append(wire.region_frame(REGION, number, length))
            if parts:
                turn.write(parts, deadline)
        finally:
            try:
                self._end_regions(turn, released)
            finally:
                self._end_regions(turn, released)

    def _end_regions(self, turn: Turn, released: List[int]) -> None:
        if turn.has_begun:
            self.pool.told(released)
        turn.end()

    def lease(self, evaluation: Evaluation, has_results: bool,
              deadline: Optional[float]) -> Tuple[wire.Request, Optional[Lease]]:
        """The request with its big tensors in shared memory, where that is worth it and can be."""
        plan = None
        if evaluation.is_big and self.has_shared_memory(deadline):
            plan = evaluation.plan(self.pool, has_results)
        if plan is None:
            return evaluation.plain(), None
        lease = Lease(self.pool)
        try:
            own = self.segment(plan.size, deadline, lease) if plan.size else None
            if own is not None:
                lease.own.append(own)
            if own is not None or not plan.size:
                for name, length in plan.expected.items():
                    result = self.segment(length, deadline, lease)
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

    def empty(self, shape: Any, dtype: Any) -> np.ndarray:
        """An array in shared memory, or an ordinary one where there is none to be had."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        lease = Lease(self.pool)
        segment = self.segment(size, None, lease) if size and self.has_shared_memory(None) else None
        if segment is None:
            return np.empty(shape, dtype)
        array: np.ndarray = self.pool.visible(segment, size).view(dtype).reshape(shape)
        return array

    def ping(self, deadline: Optional[float]) -> None:
        self.hello(deadline)
        turn = Turn(self._writer)
        before = number = 0
        try:
            turn.take(deadline)
            before = self._pings_sent
            number = self._pings_sent = before + 1
            turn.write([wire.frame(PING, 0, struct.pack("<Q", number))], deadline)
        finally:
            try:
                self._end_pinging(turn, before, number)
            finally:
                self._end_pinging(turn, before, number)
        with self._lock:
            while self._pings_answered < number:
                if self._error is not None:
                    raise self._failed()
                if not self._changed.wait(left_until(deadline)) and left_until(deadline) == 0:
                    raise DeadlineExceeded("the daemon did not answer in time")

    def _end_pinging(self, turn: Turn, before: int, number: int) -> None:
        if number and not turn.has_begun and self._pings_sent == number:
            self._pings_sent = before
        turn.end()

    def receive(self, call: Call) -> Tuple[bytes, memoryview, bool]:
        """The next response; raises what ended the call."""
        left = left_until(call.deadline)
        try:
            event = call.events.get(timeout=None if left is None else left + _clock.GRACE)
        except queue.Empty:
            self.abandon(call)
            raise DeadlineExceeded("the daemon did not answer within the timeout") from None
        if isinstance(event, Exception):
            raise event
        message, payload, is_last = event
        return message, payload, is_last

    # ---- reading

    def _read_all(self) -> None:
        reader = FrameReader()
        try:
            while True:
                count = self._receive_into(reader.space())
                if count == 0:
                    raise Unavailable("the daemon closed the connection")
                for frame in reader.advance(count):
                    self._take(frame)
                if self._is_draining and not self._calls:
                    raise Unavailable("the daemon is shutting down")
        except LossdError as error:
            self.close(error)
        except OSError as error:
            self.close(Unavailable(f"reading failed: {error.strerror or error}"))
        except BadFrame as error:
            self.close(Unavailable(f"the daemon broke the protocol: {error}"))
        except Exception as error:  # protobuf's errors are of many types, and memory may be short
            self.close(Unavailable(f"the daemon broke the protocol: {type(error).__name__}: {error}"))

    def _receive_into(self, space: memoryview) -> int:
        if not self._is_unix:
            return self._socket.recv_into(space)
        count, ancillary, flags, _ = self._socket.recvmsg_into([space], _shm.ANCILLARY, _shm.RECEIVE_FLAGS)
        if ancillary or flags & socket.MSG_CTRUNC:
            self.pool.came(ancillary, bool(flags & socket.MSG_CTRUNC))
        return count

    def _take(self, frame: Frame) -> None:
        if frame.kind == MESSAGE:
            is_last = bool(frame.flags & END_STREAM)
            call = self._call(frame.stream, is_over=is_last, is_response=True)
            if call:
                call.events.put((frame.message, frame.payload, is_last))
        elif frame.kind == STATUS:
            error = from_status(wire.Status.FromString(frame.message))
            call = self._call(frame.stream, is_over=True)
            if call:
                call.events.put(error)
                call.credit.release()
        elif frame.kind == CREDIT:
            messages = wire.Credit.FromString(frame.message).messages
            if not messages:
                raise BadFrame("a CREDIT for 0 messages")
            call = self._call(frame.stream, is_over=False)
            if call:
                call.credit.release(min(messages, 1 << 16))
        elif frame.kind == HELLO:
            hello = wire.Hello.FromString(frame.message)
            if not hello.max_streams or not hello.stream_credit:
                raise BadFrame("a HELLO that allows no calls")
            with self._lock:
                self._hello = hello
                self._changed.notify_all()
        elif frame.kind == PING and frame.flags & ACK:
            with self._lock:
                if self._pings_answered == self._pings_sent:
                    raise BadFrame("an answer to a PING that was not sent")
                self._pings_answered += 1
                self._changed.notify_all()
        elif frame.kind == PING:
            self._answer_ping(frame.message)
        elif frame.kind == GOAWAY:
            self._drain(wire.GoAway.FromString(frame.message))
        elif frame.kind == REGION:
            result = wire.RegionResult.FromString(frame.message)
            self.pool.answered(result.region, result.status.code == 0)
            with self._lock:
                self._changed.notify_all()
        # RELEASE's answer: the daemon has let go of a segment that is not used again anyway.

    def _answer_ping(self, message: bytes) -> None:
        """By a thread of its own: the reader must not wait for a daemon that waits for it."""
        if self._ponger is None:
            self._ponger = threading.Thread(target=self._answer_pings, name="lossd-ponger", daemon=True)
            self._ponger.start()
        if self._pings_to_answer.qsize() > PINGS_MAX:
            raise BadFrame("PINGs whose answers are not read")
        self._pings_to_answer.put(message)

    def _answer_pings(self) -> None:
        while True:
            message = self._pings_to_answer.get()
            if message is None:
                return
            self._writer.send([wire.frame(PING, 0, message, 0, ACK)], None)

    def _call(self, stream: int, is_over: bool, is_response: bool = False) -> Optional[Call]:
        with self._lock:
            if stream >= self._next:
                raise BadFrame(f"a frame of stream {stream}, which was never opened")
            call = self._calls.get(stream)
            if call and is_response:
                if call.responses_due == 0:
                    raise BadFrame(f"a response on stream {stream} to no request")
                call.responses_due -= 1
            if call and is_over:
                call.is_over = True
                del self._calls[stream]
                self._changed.notify_all()
                if call.is_abandoned and call.lease is not None:
                    call.lease.end(is_safe=True)
            return call

    def _drain(self, message: Any) -> None:
        if message.status.code:
            raise Unavailable(f"the daemon ended the connection: {message.status.message}")
        with self._lock:
            self._is_draining = True
            for stream, call in list(self._calls.items()):
                if stream > message.last_stream_id:
                    call.is_over = True
                    call.events.put(NeverBegan("the daemon is shutting down"))
                    call.credit.release()
                    del self._calls[stream]
            self._changed.notify_all()

    # ---- the end

    def close(self, error: Optional[LossdError] = None) -> None:
        if self.process != os.getpid():
            # After a fork the socket is the parent's too: only this copy of it goes.
            self._socket.close()
            return
        with self._lock:
            if self._error is None:
                self._error = error or Closed("the client was closed")
            for call in self._calls.values():
                if call.lease is not None:
                    call.lease.end(is_safe=False)
                call.is_over = True
                call.events.put(self._error)
                call.credit.release()
            self._calls.clear()
            self._changed.notify_all()
        # Before the daemon knows of the end: it then frees what lies in its memory.
        self.pool.close()
        if error is None:
            self._release()
        with self._lock:
            self._changed.notify_all()
        self._pings_to_answer.put(None)
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if threading.current_thread() is self._thread:
            self._socket.close()

    def _release(self) -> None:
        """Gives all memory back, so that it need not be waited for, where that can be said at once."""
        try:
            self._send_released(time.monotonic() + 0.1)
        except LossdError:
            pass
