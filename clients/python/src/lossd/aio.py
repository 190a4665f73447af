"""The client for asyncio: every method of Client as a coroutine."""

from __future__ import annotations

import asyncio
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import _wire as wire
from ._functions import Functions, unwrap
from .errors import LossdError, NeverBegan, Unavailable, from_status


class _AsyncConnection:
    """One connection. Confined to its event loop."""

    def __init__(self) -> None:
        self._futures: Dict[int, "asyncio.Future[Tuple[bytes, memoryview]]"] = {}
        self._next = 1
        self._hello: "asyncio.Future[Any]" = asyncio.get_running_loop().create_future()
        self._slots = asyncio.Condition()
        self.error: Optional[LossdError] = None
        self.is_draining = False

    async def connect(self, address: str) -> None:
        kind, target = wire.parse_address(address)
        try:
            if kind == "unix":
                self._reader, self._writer = await asyncio.open_unix_connection(target)
            else:
                self._reader, self._writer = await asyncio.open_connection(*target)
        except OSError as error:
            raise Unavailable(f"{address}: {error.strerror or error}") from error
        self._writer.write(wire.hello())
        self._task = asyncio.ensure_future(self._read_all())

    @property
    def is_usable(self) -> bool:
        return self.error is None and not self.is_draining

    async def unary(self, method: str, message: bytes, parts: List[Any], length: int,
                    timeout: Optional[float]) -> Tuple[bytes, memoryview]:
        hello = await asyncio.shield(self._hello)
        async with self._slots:
            await self._slots.wait_for(
                lambda: not self.is_usable or len(self._futures) < hello.max_streams)
        if not self.is_usable:
            raise NeverBegan("the connection is going away")
        stream = self._next
        self._next += 1
        future: "asyncio.Future[Tuple[bytes, memoryview]]" = (
            asyncio.get_running_loop().create_future())
        self._futures[stream] = future
        self._writer.write(wire.open_call(stream, method, timeout))
        self._writer.write(wire.frame(wire.MESSAGE, stream, message, length, wire.END_STREAM))
        for part in parts:
            self._writer.write(part)
        try:
            await self._writer.drain()
            return await future
        except asyncio.CancelledError:
            if stream in self._futures:
                self._writer.write(wire.frame(wire.CANCEL, stream))
            raise
        except OSError as error:
            raise Unavailable(f"writing failed: {error}") from error

    async def _read_all(self) -> None:
        try:
            while True:
                payload_length, length, stream, kind, flags, _ = wire.HEADER.unpack(
                    await self._reader.readexactly(16))
                message = await self._reader.readexactly(length)
                payload = await self._reader.readexactly(payload_length)
                await self._take(kind, stream, flags, message, payload)
        except (asyncio.IncompleteReadError, OSError):
            await self._close(Unavailable("the daemon closed the connection"))
        except LossdError as error:
            await self._close(error)
        except asyncio.CancelledError:
            await self._close(Unavailable("the client was closed"))
            raise

    async def _take(
            self, kind: int, stream: int, flags: int, message: bytes, payload: bytes) -> None:
        if kind == wire.MESSAGE:
            await self._end(stream, (message, memoryview(payload)))
        elif kind == wire.STATUS:
            await self._end(stream, from_status(wire.Status.FromString(message)))
        elif kind == wire.HELLO:
            self._hello.set_result(wire.Hello.FromString(message))
        elif kind == wire.PING and not flags & wire.ACK:
            self._writer.write(wire.frame(wire.PING, 0, message, 0, wire.ACK))
        elif kind == wire.GOAWAY:
            goaway = wire.GoAway.FromString(message)
            if goaway.status.code:
                raise Unavailable(f"the daemon ended the connection: {goaway.status.message}")
            self.is_draining = True
            for number in [n for n in self._futures if n > goaway.last_stream_id]:
                await self._end(number, NeverBegan("the daemon is shutting down"))

    async def _end(self, stream: int, outcome: Any) -> None:
        future = self._futures.pop(stream, None)
        if future is not None and not future.done():
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        async with self._slots:
            self._slots.notify_all()

    async def _close(self, error: LossdError) -> None:
        self.error = self.error or error
        if not self._hello.done():
            self._hello.set_exception(error)
            self._hello.exception()  # Nobody may be waiting for it.
        for stream in list(self._futures):
            await self._end(stream, error)
        self._writer.close()

    async def close(self) -> None:
        self._task.cancel()
        try:
            await self._task
        except (asyncio.CancelledError, LossdError):
            pass


class AsyncClient(Functions):
    """A client of one daemon for one event loop; thousands of calls at once. Cancelling a task cancels its
    call."""

    def __init__(self, address: str):
        wire.parse_address(address)
        self.address = address
        self._current: Optional[_AsyncConnection] = None
        self._lock: Optional[asyncio.Lock] = None

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def close(self) -> None:
        if self._current is not None:
            await self._current.close()
            self._current = None

    async def _connection(self) -> _AsyncConnection:
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            if self._current is None or not self._current.is_usable:
                connection = _AsyncConnection()
                await connection.connect(self.address)
                self._current = connection
            return self._current

    async def _unary(self, method: str, message: bytes, parts: List[Any], length: int,
                     timeout: Optional[float]) -> Tuple[bytes, memoryview]:
        for tries in range(100):
            try:
                connection = await self._connection()
            except Unavailable:
                if tries == 0:
                    raise
                await asyncio.sleep(0.1)
                continue
            try:
                return await connection.unary(method, message, parts, length, timeout)
            except NeverBegan:
                await asyncio.sleep(0.1 if tries else 0)
        raise Unavailable(f"{self.address}: the daemon keeps shutting down")

    async def evaluate(self, function: str, inputs: Dict[str, Any],
                       attributes: Optional[Dict[str, Any]] = None, outputs: Sequence[str] = (),
                       timeout: Optional[float] = None) -> Dict[str, Any]:
        """One evaluation of any function: results by name."""
        answer, payload = await self._unary(
            wire.EVALUATE, *wire.request(function, inputs, attributes, outputs, 1), timeout)
        return wire.response(answer, payload)[1]

    async def _call(self, function: str, inputs: Dict[str, Any], attributes: Dict[str, Any],
                    outputs: Sequence[str], timeout: Optional[float]) -> Any:
        return unwrap(
            await self.evaluate(function, inputs, attributes, outputs, timeout), outputs)

    async def functions(self, name: str = "") -> List[Any]:
        """Descriptions of all functions, or of one."""
        message = wire.ListFunctionsRequest(name=name).SerializeToString()
        answer, _ = await self._unary(wire.LIST_FUNCTIONS, message, [], 0, None)
        return list(wire.ListFunctionsResponse.FromString(answer).functions)

    async def status(self) -> Any:
        """proto/lossd.proto's GetStatusResponse."""
        answer, _ = await self._unary(wire.GET_STATUS, b"", [], 0, None)
        return wire.GetStatusResponse.FromString(answer)
