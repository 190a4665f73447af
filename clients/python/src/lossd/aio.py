"""The client for asyncio: every method of Client as a coroutine."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Awaitable, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar

import numpy as np

from . import _wire as wire
from ._aconnection import AsyncConnection
from ._clock import deadline_after
from ._functions import Functions, unwrap
from ._evaluation import Evaluation
from .astream import AsyncStream, Batches
from .client import PAUSE, TRIES
from .errors import InvalidArgument, NeverBegan, Unavailable

T = TypeVar("T")


class AsyncClient(Functions):
    """A client of one daemon for one event loop at a time; thousands of calls at once. Cancelling a task cancels
    its call. It connects when it is first used, again when the connection is gone and after a fork, and tries
    again what the daemon says it never began."""

    def __init__(self, address: str):
        wire.parse_address(address)
        self.address = address
        self._current: Optional[AsyncConnection] = None
        self._connecting: Optional["asyncio.Future[AsyncConnection]"] = None

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection; calls under way raise Unavailable."""
        if self._current is not None:
            await self._current.close()
            self._current = None

    async def _connection(self) -> AsyncConnection:
        loop = asyncio.get_running_loop()
        current = self._current
        if current is not None and current.is_usable and current.loop is loop:
            return current
        if current is not None and current.process != os.getpid():
            self._current = None
        if self._connecting is None or self._connecting.get_loop() is not loop:
            self._connecting = asyncio.ensure_future(AsyncConnection.connect(self.address))
        connecting = self._connecting
        try:
            # Shared by all calls that wait for it: one that is cancelled leaves it to the others.
            self._current = await asyncio.shield(connecting)
        finally:
            if connecting.done() and self._connecting is connecting:
                self._connecting = None
        return self._current

    async def _retry(self, attempt: Callable[[AsyncConnection], Awaitable[T]], is_restarting: bool = False) -> T:
        for tries in range(TRIES):
            try:
                connection = await self._connection()
            except Unavailable:
                # A daemon that is being restarted comes back; one that never was there is an error.
                if tries == 0 and not is_restarting:
                    raise
                await asyncio.sleep(PAUSE)
                continue
            try:
                return await attempt(connection)
            except NeverBegan:
                await asyncio.sleep(PAUSE if tries else 0)
        raise Unavailable(f"{self.address}: the daemon keeps shutting down")

    async def _unary(self, method: str, request: wire.Request,
                     timeout: Optional[float]) -> Tuple[bytes, memoryview]:
        deadline = deadline_after(timeout)

        async def attempt(connection: AsyncConnection) -> Tuple[bytes, memoryview]:
            call = await connection.open(method, deadline, request)
            message, payload, _ = await connection.receive(call)
            return message, payload

        return await self._retry(attempt)

    async def evaluate(self, function: str, inputs: Dict[str, Any],
                       attributes: Optional[Dict[str, Any]] = None, outputs: Sequence[str] = (),
                       timeout: Optional[float] = None) -> Dict[str, Any]:
        """One evaluation of any function: results by name."""
        deadline = deadline_after(timeout)
        evaluation = Evaluation(function, inputs, attributes, outputs, 1)
        if evaluation.is_big:
            try:
                return await self._retry(lambda connection: self._attempt(connection, evaluation, True, deadline))
            except InvalidArgument:
                if not evaluation.expected():
                    raise
                # Perhaps a result has another size than was thought.
        return await self._retry(lambda connection: self._attempt(connection, evaluation, False, deadline))

    async def _attempt(self, connection: AsyncConnection, evaluation: Evaluation, has_results: bool,
                       deadline: Optional[float]) -> Dict[str, Any]:
        request, lease = await connection.lease(evaluation, has_results, deadline)
        try:
            call = await connection.open(wire.EVALUATE, deadline, request, lease)
        except BaseException:
            if lease is not None:
                lease.end(is_safe=True)  # nothing has been sent
            raise
        try:
            message, payload, _ = await connection.receive(call)
            return wire.response(message, payload, lease)[1]
        finally:
            if lease is not None and not call.is_abandoned:
                lease.end(is_safe=True)

    async def empty(self, shape: Any, dtype: Any = np.float32) -> np.ndarray:
        """An array whose elements the daemon reads where they lie: see Client.empty."""
        return await (await self._connection()).empty(shape, dtype)

    async def _call(self, function: str, inputs: Dict[str, Any], attributes: Dict[str, Any],
                    outputs: Sequence[str], timeout: Optional[float]) -> Any:
        return unwrap(
            await self.evaluate(function, inputs, attributes, outputs, timeout), outputs)

    def stream(self, function: str, batches: Optional[Batches] = None,
               attributes: Optional[Dict[str, Any]] = None, outputs: Sequence[str] = (),
               timeout: Optional[float] = None, window: int = 16) -> AsyncStream:
        """A data set in batches: `async for result in client.stream(name, batches): ...`, then `.summary`.
        `batches` may be iterable or asynchronously so; without it they are sent by `send`, and `finish` ends
        them. `window`: how many batches may be under way, that is sent and their results not taken."""
        return AsyncStream(self, function, batches, attributes, outputs, timeout, window)

    async def functions(self, name: str = "") -> List[Any]:
        """Descriptions of all functions, or of one."""
        message = wire.ListFunctionsRequest(name=name).SerializeToString()
        answer, _ = await self._unary(wire.LIST_FUNCTIONS, wire.Request(message, [], 0), None)
        return list(wire.decoded(wire.ListFunctionsResponse, answer).functions)

    async def status(self) -> Any:
        """proto/lossd.proto's GetStatusResponse."""
        answer, _ = await self._unary(wire.GET_STATUS, wire.Request(b"", [], 0), None)
        return wire.decoded(wire.GetStatusResponse, answer)

    async def ping(self, timeout: Optional[float] = None) -> float:
        """Seconds to the daemon and back."""
        deadline = deadline_after(timeout)
        connection = await self._connection()
        await connection.hello(deadline)
        start = time.perf_counter()
        await connection.ping(deadline)
        return time.perf_counter() - start
