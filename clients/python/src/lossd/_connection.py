"""One connection: a thread that reads, and any threads that write."""

from __future__ import annotations

import os
import queue
import socket
import struct
import threading
from typing import Any, Dict, List, Optional, Tuple

from . import _wire as wire
from .errors import LossdError, NeverBegan, Unavailable, from_status


class Call:
    """A call under way. What its connection's reader finds for it arrives in `events`."""

    def __init__(self, stream: int, credit: int):
        self.stream = stream
        #: (message, payload, is_last), or an exception that ends the call.
        self.events: "queue.SimpleQueue[Any]" = queue.SimpleQueue()
        self.credit = threading.Semaphore(credit)
        self.is_over = False


class Connection:
    """A socket with its reader. Any thread."""

    def __init__(self, address: str, timeout: Optional[float] = 10):
        kind, target = wire.parse_address(address)
        try:
            if kind == "unix":
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(timeout)
                self._socket.connect(target)
            else:
                self._socket = socket.create_connection(target, timeout)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise Unavailable(f"{address}: {error.strerror or error}") from error
        self._socket.settimeout(None)
        self.process = os.getpid()
        self._lock = threading.RLock()
        self._write_lock = threading.Lock()
        self._calls: Dict[int, Call] = {}
        self._next = 1
        self._slots = threading.Condition(self._lock)
        self._hello: Any = None
        self._error: Optional[LossdError] = None
        self._is_draining = False
        self._pings: "queue.SimpleQueue[Optional[bytes]]" = queue.SimpleQueue()
        self._send([wire.hello()])
        self._thread = threading.Thread(target=self._read_all, name="lossd-reader", daemon=True)
        self._thread.start()

    @property
    def is_usable(self) -> bool:
        return self._error is None and not self._is_draining and self.process == os.getpid()

    # ---- writing

    def _send(self, parts: List[Any]) -> None:
        with self._write_lock:
            rest = [memoryview(part) for part in parts if len(part)]
            try:
                while rest:
                    sent = self._socket.sendmsg(rest[:64])
                    while sent:
                        if sent >= len(rest[0]):
                            sent -= len(rest[0])
                            rest.pop(0)
                        else:
                            rest[0] = rest[0][sent:]
                            sent = 0
            except OSError as error:
                self.close(Unavailable(f"writing failed: {error.strerror or error}"))
                raise self._error or Unavailable("the connection was closed") from error

    def hello(self) -> Any:
        with self._lock:
            while self._hello is None and self._error is None:
                self._slots.wait()
            if self._hello is None:
                raise self._error or Unavailable("the connection was closed")
            return self._hello

    def open(self, method: str, timeout: Optional[float], credit: int = 0) -> Call:
        hello = self.hello()
        with self._lock:
            while True:
                if self._is_draining or self._error is not None or self._next >= 2**32 - 1:
                    raise NeverBegan("the connection is going away")
                if len(self._calls) < hello.max_streams:
                    break
                self._slots.wait()
            call = Call(self._next, hello.stream_credit)
            self._next += 1
            self._calls[call.stream] = call
            # Under the lock: OPENs go out in the order of their numbers.
            self._send([wire.open_call(call.stream, method, timeout, credit)])
        return call

    def send(self, call: Call, message: bytes, parts: List[Any], length: int, last: bool) -> None:
        limit = self._hello.max_payload_bytes or wire.PAYLOAD_MAX
        if length > limit:
            self.cancel(call)
            from .errors import ResourceExhausted
            raise ResourceExhausted(
                f"the tensors take {length} bytes, the daemon takes payloads up to {limit}")
        flags = wire.END_STREAM if last else 0
        self._send([wire.frame(wire.MESSAGE, call.stream, message, length, flags), *parts])

    def grant(self, call: Call, count: int) -> None:
        self._send([wire.frame(
            wire.CREDIT, call.stream, wire.Credit(messages=count).SerializeToString())])

    def cancel(self, call: Call) -> None:
        if not call.is_over:
            try:
                self._send([wire.frame(wire.CANCEL, call.stream)])
            except Unavailable:
                pass

    def ping(self) -> None:
        self.hello()
        self._send([wire.frame(wire.PING, 0, struct.pack("<Q", self._next))])
        if self._pings.get() is None:
            raise self._error or Unavailable("the connection was closed")

    def receive(self, call: Call) -> Tuple[bytes, memoryview, bool]:
        """The next response; raises what ended the call."""
        event = call.events.get()
        if isinstance(event, Exception):
            raise event
        return event

    # ---- reading

    def _read_all(self) -> None:
        buffer = bytearray(1 << 16)
        view = memoryview(buffer)
        begin = end = 0

        def fill(target: memoryview) -> None:
            """The next len(target) bytes: what is buffered, then straight from the socket."""
            nonlocal begin, end
            have = min(len(target), end - begin)
            target[:have] = view[begin:begin + have]
            begin += have
            while have < len(target):
                rest = target[have:]
                if len(rest) >= len(buffer):
                    count = self._socket.recv_into(rest)
                    have += count
                else:
                    begin, end = 0, self._socket.recv_into(view)
                    count = end
                    part = min(len(rest), end)
                    rest[:part] = view[:part]
                    begin = part
                    have += part
                if count == 0:
                    raise Unavailable("the daemon closed the connection")

        header = memoryview(bytearray(16))
        try:
            while True:
                fill(header)
                payload_length, length, stream, kind, flags, _ = wire.HEADER.unpack(header)
                message = memoryview(bytearray(length))
                fill(message)
                payload = memoryview(bytearray(payload_length))
                fill(payload)
                self._take(kind, stream, flags, bytes(message), payload)
        except LossdError as error:
            self.close(error)
        except OSError as error:
            self.close(Unavailable(f"reading failed: {error.strerror or error}"))
        except Exception as error:  # A frame that does not decode: the daemon's mistake.
            self.close(Unavailable(f"the daemon broke the protocol: {error}"))

    def _take(self, kind: int, stream: int, flags: int, message: bytes, payload: memoryview) -> None:
        if kind == wire.MESSAGE:
            is_last = bool(flags & wire.END_STREAM)
            call = self._call(stream, is_over=is_last)
            if call:
                call.events.put((message, payload, is_last))
        elif kind == wire.STATUS:
            call = self._call(stream, is_over=True)
            if call:
                call.events.put(from_status(wire.Status.FromString(message)))
                call.credit.release()
        elif kind == wire.CREDIT:
            call = self._call(stream, is_over=False)
            if call:
                for _ in range(min(wire.Credit.FromString(message).messages, 1 << 16)):
                    call.credit.release()
        elif kind == wire.HELLO:
            with self._lock:
                self._hello = wire.Hello.FromString(message)
                self._slots.notify_all()
        elif kind == wire.PING:
            if flags & wire.ACK:
                self._pings.put(message)
            else:
                self._send([wire.frame(wire.PING, 0, message, 0, wire.ACK)])
        elif kind == wire.GOAWAY:
            self._drain(wire.GoAway.FromString(message))

    def _call(self, stream: int, is_over: bool) -> Optional[Call]:
        with self._lock:
            call = self._calls.get(stream)
            if call and is_over:
                call.is_over = True
                del self._calls[stream]
                self._slots.notify_all()
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
            self._slots.notify_all()

    # ---- the end

    def close(self, error: Optional[LossdError] = None) -> None:
        if self.process != os.getpid():
            # After a fork the socket is the parent's too: only this copy of it goes.
            self._socket.close()
            return
        with self._lock:
            if self._error is None:
                self._error = error or Unavailable("the client was closed")
            for call in self._calls.values():
                call.is_over = True
                call.events.put(self._error)
                call.credit.release()
            self._calls.clear()
            self._slots.notify_all()
        self._pings.put(None)
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if threading.current_thread() is self._thread:
            self._socket.close()
